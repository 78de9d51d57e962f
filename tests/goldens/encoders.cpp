// Encoders by their formulas: RoBERTa, DistilBERT, ESM, ModernBERT, ViT, DeiT and ViT-MAE.
#include <cmath>

#include "whence/models/bert.h"
#include "whence/nn/layers.h"
#include "whence/ops/conv.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

struct Heads {
  Var q, k, v;  // [B, H, T, D]
};
Heads heads_of(const Net& net, Var x, int64_t heads, const char* q, const char* k, const char* v) {
  auto one = [&](const char* name) { return nn::split_heads(net.linear(x, name), heads); };
  return {one(q), one(k), one(v)};
}
Var attend(const Heads& h, const AttentionOptions& options) {
  return nn::merge_heads(attention(h.q, h.k, h.v, options));
}

}  // namespace

namespace {

// Pre-norm layers below `list`; x goes in and comes out, and what goes into each is noted.
Var vit_layers(const Net& net, const std::string& list, Var x, const Json& config, int64_t heads,
               std::vector<Var>* hidden) {
  double eps = config.at("layer_norm_eps").get<double>();
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  for (int64_t i = 0, n = net.count(list); i < n; ++i) {
    if (hidden) hidden->push_back(x);
    Net layer = net.at(list, i);
    Heads h = heads_of(layer.at("attention"), layer.layer_norm(x, "layernorm_before", eps), heads, "q_proj", "k_proj",
                       "v_proj");
    x = x + layer.linear(attend(h, {}), "attention.o_proj");
    x = x + layer.linear(act(layer.linear(layer.layer_norm(x, "layernorm_after", eps), "mlp.fc1")), "mlp.fc2");
  }
  return x;
}

// Rows of x [B, N, C] at ids [B, M] of each sample.
Var rows_at(Var x, Var ids) {
  return take_along_axis(x, broadcast_to(unsqueeze(ids, -1), {ids.size(0), ids.size(1), x.size(2)}), 1);
}

// The decoder of a masked autoencoder: x [B, 1 + kept, C], restore [B, N] -> pixels of every patch [B, N, p p
// channels].
Var mae_decoder(const Net& net, Var x, Var restore, const Json& config) {
  x = net.linear(x, "decoder_embed");
  int64_t B = x.size(0), N = restore.size(1), kept = x.size(1) - 1, C = x.size(2);
  Var cls = slice(x, 1, 0, 1), patches = concat({slice(x, 1, 1), broadcast_to(net("mask_token"), {B, N - kept, C})}, 1);
  x = concat({cls, rows_at(patches, restore)}, 1) + net("decoder_pos_embed");
  x = vit_layers(net, "decoder_layers", x, config, config.at("decoder_num_attention_heads").get<int64_t>(), nullptr);
  return slice(net.linear(net.layer_norm(x, "decoder_norm", config.at("layer_norm_eps").get<double>()), "decoder_pred"),
               1, 1);
}

// [B, C, H, W] -> [B, patches, p p C], channels last; normalised per patch (unbiased variance) when asked to.
Var patch_targets(Var pixels, int64_t p, bool normalise) {
  int64_t B = pixels.size(0), C = pixels.size(1), h = pixels.size(2) / p, w = pixels.size(3) / p;
  Var t = reshape(permute(reshape(pixels, {B, C, h, p, w, p}), {0, 2, 4, 3, 5, 1}), {B, h * w, p * p * C});
  return normalise ? (t - mean(t, {-1}, true)) * rsqrt(variance(t, {-1}, true, 1) + 1e-6) : t;
}

}  // namespace

ModelOutputs vit(const Net& model, const Json& config, const ModelInputs& in) {
  bool distilled = model.has("deit.embeddings.cls_token"), masked = model.has("decoder.mask_token");
  Net net = model.at(distilled ? "deit" : "vit"), embeddings = net.at("embeddings");
  int64_t heads = config.at("num_attention_heads").get<int64_t>(), patch = config.at("patch_size").get<int64_t>(),
          B = in.pixels.size(0);
  ModelOutputs out;
  Var patches = conv(in.pixels, embeddings("patch_embeddings.projection.weight"),
                     Arg(embeddings("patch_embeddings.projection.bias")), {.stride = {patch, patch}});
  out.embeds = transpose(reshape(patches, {B, patches.size(1), patches.size(2) * patches.size(3)}));  // [B, N, C]
  int64_t N = out.embeds.size(1), C = out.embeds.size(2);
  std::vector<Var> tokens{embeddings("cls_token")};
  if (distilled) tokens.push_back(embeddings("distillation_token"));
  int64_t before = int64_t(tokens.size());
  Var positions = embeddings("position_embeddings"), shown = out.embeds + slice(positions, 1, before), restore, removed;
  if (masked) {
    Var order = argsort(in.noise, -1);
    restore = argsort(order, -1);
    int64_t keep = int64_t(double(N) * (1 - config.at("mask_ratio").get<double>()));
    shown = rows_at(shown, slice(order, 1, 0, keep));
    removed = cast(greater_equal(restore, double(keep)), in.pixels.dtype());  // [B, N]
  }
  Var special = concat(tokens, 1) + slice(positions, 1, 0, before);
  Var x =
      vit_layers(net, "layers", concat({broadcast_to(special, {B, before, C}), shown}, 1), config, heads, &out.hidden);
  out.hidden.push_back(x);
  out.last = net.layer_norm(x, "layernorm", config.at("layer_norm_eps").get<double>());
  if (masked) {
    out.logits = mae_decoder(model.at("decoder"), out.last, restore, config);
    Var error = mean(square(out.logits - patch_targets(in.pixels, patch, config.value("norm_pix_loss", false))), {-1});
    out.loss = sum(error * removed) / sum(removed);
    out.others = {{"mask", removed}, {"ids_restore", restore}};
  } else if (model.has("classifier.weight")) {
    out.logits = model.linear(select(out.last, 1, 0), "classifier");
  } else {
    Var a = out.others["cls_logits"] = model.linear(select(out.last, 1, 0), "cls_classifier");
    Var b = out.others["distillation_logits"] = model.linear(select(out.last, 1, 1), "distillation_classifier");
    out.logits = (a + b) * 0.5;
  }
  return out;
}

}  // namespace whence::goldens
