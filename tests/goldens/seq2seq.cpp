// Encoder-decoder models by their formulas: BART, Whisper and T5.
#include <cmath>

#include "whence/models/bert.h"
#include "whence/nn/layers.h"
#include "whence/ops/conv.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

struct Names {
  const char *q, *k, *v, *out;
};
// Queries from x [B, T, C], keys and values from memory [B, S, C].
Var attend(const Net& net, Var x, Var memory, int64_t heads, const Names& names, const AttentionOptions& options) {
  auto part = [&](Var from, const char* name) { return nn::split_heads(net.linear(from, name), heads); };
  return net.linear(nn::merge_heads(attention(part(x, names.q), part(memory, names.k), part(memory, names.v), options)),
                    names.out);
}

void note(ModelOutputs& out, const char* stack, const std::vector<Var>& hidden) {
  for (size_t i = 0; i < hidden.size(); ++i)
    out.others[std::string(stack) + "_hidden_states." + std::to_string(i)] = hidden[i];
}

// Buckets of T5: exact distances up to half of them, then logarithmic up to `furthest`.
Tensor relative_buckets(int64_t T, bool both_ways, int64_t buckets, int64_t furthest) {
  Tensor t = Tensor::zeros({T, T}, i64);
  if (both_ways) buckets /= 2;
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < T; ++j) {
      int64_t from = j - i, bucket = both_ways && from > 0 ? buckets : 0,
              d = both_ways ? std::abs(from) : std::max<int64_t>(-from, 0), exact = buckets / 2;
      if (d >= exact) {
        double far =
            std::log(double(d) / double(exact)) / std::log(double(furthest) / double(exact)) * double(buckets - exact);
        d = std::min(exact + int64_t(far), buckets - 1);
      }
      t.data<int64_t>()[i * T + j] = bucket + d;
    }
  return t;
}

}  // namespace

namespace {

// Layers of BART (norms after) and Whisper (norms before, one more at the end); a decoder has a memory.
Var bart_layers(ModelOutputs& out, const char* which, const Net& side, const Json& config, Var x, Var memory, Var mask,
                bool norm_first) {
  auto act = models::activation_named(config.at("activation_function").get<std::string>());
  const double eps = 1e-5;
  const Names names{"q_proj", "k_proj", "v_proj", "out_proj"};
  bool decoder = memory.defined();
  int64_t heads = config.at(std::string(which) + "_attention_heads").get<int64_t>();
  std::vector<Var> hidden;
  for (int64_t i = 0, n = side.count("layers"); i < n; ++i) {
    hidden.push_back(x);
    Net layer = side.at("layers", i);
    auto step = [&](const char* norm, auto&& f) {
      x = norm_first ? x + f(layer.layer_norm(x, norm, eps)) : layer.layer_norm(x + f(x), norm, eps);
    };
    step("self_attn_layer_norm", [&](Var h) {
      return attend(layer.at("self_attn"), h, h, heads, names, visible(decoder ? Var() : mask, decoder));
    });
    if (decoder)
      step("encoder_attn_layer_norm",
           [&](Var h) { return attend(layer.at("encoder_attn"), h, memory, heads, names, visible(mask, false)); });
    step("final_layer_norm", [&](Var h) { return layer.linear(act(layer.linear(h, "fc1")), "fc2"); });
  }
  if (norm_first) x = side.layer_norm(x, "layer_norm", eps);
  hidden.push_back(x);
  note(out, which, hidden);
  return x;
}

}  // namespace

ModelOutputs bart(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("model");
  ModelOutputs out;
  double scale = config.value("scale_embedding", false) ? std::sqrt(config.at("d_model").get<double>()) : 1;
  auto stack = [&](const char* which, Var ids, Var memory) {
    Net side = net.at(which);  // positions begin at row 2
    Var x = net.embedding(ids, "shared") * scale + slice(side("embed_positions.weight"), 0, 2, ids.size(1) + 2);
    return bart_layers(out, which, side, config, side.layer_norm(x, "layernorm_embedding", 1e-5), memory, in.mask,
                       false);
  };
  Var memory = out.others["encoder_last_hidden_state"] = stack("encoder", in.ids, {});
  out.last = stack("decoder", in.decoder_ids, memory);
  out.logits = linear(out.last, net("shared.weight")) + model("final_logits_bias");
  return out;
}

ModelOutputs whisper(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("model"), encoder = net.at("encoder"), decoder = net.at("decoder");
  if (config.value("scale_embedding", false)) throw OpsMissing("Whisper with scaled embeddings");
  ModelOutputs out;
  auto convolution = [&](Var x, const char* name, int64_t stride) {
    return gelu(conv(x, encoder(std::string(name) + ".weight"), Arg(encoder(std::string(name) + ".bias")),
                     {.stride = {stride}, .padding = {1}}));
  };
  Var x = transpose(convolution(convolution(in.features, "conv1", 1), "conv2", 2)) +
          encoder("embed_positions.weight");  // [B, T, C]
  Var memory = out.others["encoder_last_hidden_state"] = bart_layers(out, "encoder", encoder, config, x, {}, {}, true);
  out.embeds = decoder.embedding(in.decoder_ids, "embed_tokens");
  Var y = out.embeds + slice(decoder("embed_positions.weight"), 0, 0, in.decoder_ids.size(1));
  out.last = bart_layers(out, "decoder", decoder, config, y, memory, {}, true);
  out.logits = model.linear(out.last, "proj_out");
  return out;
}

ModelOutputs t5(const Net& model, const Json& config, const ModelInputs& in) {
  auto act = models::activation_named(config.at("dense_act_fn").get<std::string>());
  double eps = config.at("layer_norm_epsilon").get<double>();
  int64_t heads = config.at("num_heads").get<int64_t>();
  const Names names{"q", "k", "v", "o"};
  ModelOutputs out;
  auto stack = [&](const char* which, Var ids, Var memory) {
    Net side = model.at(which);
    std::vector<Var> hidden;
    bool decoder = memory.defined();
    int64_t T = ids.size(1);
    Var x = model.embedding(ids, "shared");
    // One table for the stack, in its first layer: [1, H, T, T]. Scores are not scaled.
    Var table = side("block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    Tensor buckets =
        relative_buckets(T, !decoder, table.size(0), config.at("relative_attention_max_distance").get<int64_t>());
    AttentionOptions self = visible(decoder ? Var() : in.mask, decoder, 1);
    self.bias = unsqueeze(permute(gather(table, model.g.constant(buckets), 0), {2, 0, 1}), 0);
    for (int64_t i = 0, n = side.count("block"); i < n; ++i) {
      hidden.push_back(x);
      Net block = side.at("block", i);
      auto normed = [&](int64_t k) { return block.at("layer", k).rms_norm(x, "layer_norm", eps); };
      Var h = normed(0);
      x = x + attend(block.at("layer.0.SelfAttention"), h, h, heads, names, self);
      if (decoder)
        x = x +
            attend(block.at("layer.1.EncDecAttention"), normed(1), memory, heads, names, visible(in.mask, false, 1));
      int64_t last = decoder ? 2 : 1;
      Net dense = block.at("layer", last).at("DenseReluDense");
      h = normed(last);
      x = x + dense.linear(dense.has("wi_0.weight") ? act(dense.linear(h, "wi_0")) * dense.linear(h, "wi_1")
                                                    : act(dense.linear(h, "wi")),
                           "wo");
    }
    x = side.rms_norm(x, "final_layer_norm", eps);
    hidden.push_back(x);
    note(out, which, hidden);
    return x;
  };
  Var memory = out.others["encoder_last_hidden_state"] = stack("encoder", in.ids, {});
  out.last = stack("decoder", in.decoder_ids, memory);
  Var x =
      config.value("scale_decoder_outputs", false) ? out.last * (1 / std::sqrt(double(out.last.size(-1)))) : out.last;
  out.logits = model.linear(x, "lm_head");
  return out;
}

}  // namespace whence::goldens
