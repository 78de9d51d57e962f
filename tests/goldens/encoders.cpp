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

// dense, activation, norm, then the vocabulary with a bias of its own.
Var masked_lm_head(const Net& head, Var x, double eps) {
  Var h = head.layer_norm(gelu(head.linear(x, "dense")), "layer_norm", eps);
  return linear(h, head("decoder.weight"), Arg(head("bias")));
}

}  // namespace

ModelOutputs roberta(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("roberta"), embeddings = net.at("embeddings");
  double eps = config.at("layer_norm_eps").get<double>(), pad = real(config, "pad_token_id", 1);
  int64_t heads = config.at("num_attention_heads").get<int64_t>();
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  // Positions count from pad + 1 over what is no padding; padding stands at pad.
  Var real_token = cast(not_equal(in.ids, pad), f32), positions = cast(cumsum(real_token, 1) * real_token + pad, i64);
  ModelOutputs out;
  out.embeds = embeddings.embedding(in.ids, "word_embeddings");
  Var x = out.embeds + select(embeddings("token_type_embeddings.weight"), 0, 0) +
          embeddings.embedding(positions, "position_embeddings");
  x = embeddings.layer_norm(x, "LayerNorm", eps);
  for (int64_t i = 0, n = net.count("encoder.layer"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("encoder.layer", i);
    Heads h = heads_of(layer.at("attention.self"), x, heads, "query", "key", "value");
    x = layer.layer_norm(x + layer.linear(attend(h, visible(in.mask, false)), "attention.output.dense"),
                         "attention.output.LayerNorm", eps);
    x = layer.layer_norm(x + layer.linear(act(layer.linear(x, "intermediate.dense")), "output.dense"),
                         "output.LayerNorm", eps);
  }
  out.hidden.push_back(out.last = x);
  out.logits = masked_lm_head(model.at("lm_head"), x, eps);
  return out;
}

ModelOutputs distilbert(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("distilbert"), embeddings = net.at("embeddings");
  const double eps = 1e-12;
  int64_t heads = config.at("n_heads").get<int64_t>();
  auto act = models::activation_named(config.at("activation").get<std::string>());
  ModelOutputs out;
  out.embeds = embeddings.embedding(in.ids, "word_embeddings");
  Var x = embeddings.layer_norm(out.embeds + slice(embeddings("position_embeddings.weight"), 0, 0, in.ids.size(1)),
                                "LayerNorm", eps);
  for (int64_t i = 0, n = net.count("transformer.layer"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("transformer.layer", i);
    Heads h = heads_of(layer.at("attention"), x, heads, "q_lin", "k_lin", "v_lin");
    x = layer.layer_norm(x + layer.linear(attend(h, visible(in.mask, false)), "attention.out_lin"), "sa_layer_norm",
                         eps);
    x = layer.layer_norm(x + layer.linear(act(layer.linear(x, "ffn.lin1")), "ffn.lin2"), "output_layer_norm", eps);
  }
  out.hidden.push_back(out.last = x);
  out.logits = model.linear(model.layer_norm(act(model.linear(x, "vocab_transform")), "vocab_layer_norm", eps),
                            "vocab_projector");
  return out;
}

ModelOutputs esm(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("esm");
  if (config.value("token_dropout", false) || config.value("emb_layer_norm_before", false) ||
      config.value("position_embedding_type", "rotary") != "rotary")
    throw OpsMissing("ESM with token dropout, a first norm or absolute positions");
  double eps = config.at("layer_norm_eps").get<double>();
  int64_t heads = config.at("num_attention_heads").get<int64_t>();
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embeddings.word_embeddings");
  Var x = out.embeds, angle = rotary_angles(net.g, Json::object(), x.size(1), x.size(2) / heads, x.dtype());
  if (in.mask.defined()) x = x * unsqueeze(cast(in.mask, x.dtype()), -1);
  for (int64_t i = 0, n = net.count("encoder.layer"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("encoder.layer", i);
    Heads h = heads_of(layer.at("attention.self"), layer.layer_norm(x, "attention.LayerNorm", eps), heads, "query",
                       "key", "value");
    h = {rotate(h.q, angle), rotate(h.k, angle), h.v};
    x = x + layer.linear(attend(h, visible(in.mask, false)), "attention.output.dense");
    x = x +
        layer.linear(gelu(layer.linear(layer.layer_norm(x, "LayerNorm", eps), "intermediate.dense")), "output.dense");
  }
  out.hidden.push_back(out.last = net.layer_norm(x, "encoder.emb_layer_norm_after", eps));
  out.logits = masked_lm_head(model.at("lm_head"), out.last, eps);
  return out;
}

ModelOutputs modernbert(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("model");
  double eps = config.at("norm_eps").get<double>(), window = real(config, "local_attention", 0);
  int64_t heads = config.at("num_attention_heads").get<int64_t>(), T = in.ids.size(1);
  auto act = models::activation_named(config.at("hidden_activation").get<std::string>());
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embeddings.tok_embeddings");
  Var x = net.layer_norm(out.embeds, "embeddings.norm", eps);
  for (int64_t i = 0, n = net.count("layers"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("layers", i);
    std::string type = config.at("layer_types").at(size_t(i)).get<std::string>();
    auto parts =
        chunk(layer.linear(layer.has("attn_norm.weight") ? layer.layer_norm(x, "attn_norm", eps) : x, "attn.Wqkv"), 3);
    Heads h{nn::split_heads(parts[0], heads), nn::split_heads(parts[1], heads), nn::split_heads(parts[2], heads)};
    Var angle = rotary_angles(net.g, config.at("rope_parameters").at(type), T, h.q.size(-1), x.dtype());
    AttentionOptions options = visible(in.mask, false);
    if (type == "sliding_attention") {  // half the window to each side
      double side = std::floor(window / 2) + 1;
      options.bias = window_bias(net.g, T, side, side, x.dtype());
    }
    x = x + layer.linear(attend({rotate(h.q, angle), rotate(h.k, angle), h.v}, options), "attn.Wo");
    auto wide = chunk(layer.linear(layer.layer_norm(x, "mlp_norm", eps), "mlp.Wi"), 2);
    x = x + layer.linear(act(wide[0]) * wide[1], "mlp.Wo");
  }
  out.hidden.push_back(out.last = net.layer_norm(x, "final_norm", eps));
  Var pooled = out.last;
  if (model.has("classifier.weight")) {
    bool mean_pooled = config.value("classifier_pooling", "cls") == "mean";
    if (mean_pooled) pooled = in.mask.defined() ? models::masked_mean(out.last, in.mask) : mean(out.last, {1});
    else pooled = select(out.last, 1, 0);
  }
  auto head_act = models::activation_named(config.value("classifier_activation", "gelu"));
  Var h = model.layer_norm(head_act(model.linear(pooled, "head.dense")), "head.norm", eps);
  out.logits = model.linear(h, model.has("classifier.weight") ? "classifier" : "decoder");
  return out;
}

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
