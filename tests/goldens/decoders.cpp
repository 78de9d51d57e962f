// Causal transformers by their formulas: GPT-2, GPT-NeoX, and Llama with its relatives.
#include <cmath>

#include "whence/models/bert.h"
#include "whence/nn/layers.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

// GPT-2's Conv1D: weight [in, out].
Var affine(const Net& net, Var x, const std::string& name) {
  return matmul(x, net(name + ".weight")) + net(name + ".bias");
}

// Scores through cap tanh(s / cap), which attention() has not.
Var capped_attention(Var q, Var k, Var v, const AttentionOptions& options, double cap) {
  int64_t T = q.size(2), groups = q.size(1) / k.size(1);
  Var s = softcap(matmul(q, transpose(repeat_interleave(k, groups, 1))) * options.scale, cap);
  if (options.bias) s = s + *options.bias;
  if (options.mask) s = where(reshape(*options.mask, {q.size(0), 1, 1, T}), s, -INFINITY);
  Graph& g = q.graph();
  Var seen = greater_equal(unsqueeze(arange(g, T, i64), 1), unsqueeze(arange(g, T, i64), 0));
  return matmul(softmax(where(seen, s, -INFINITY)), repeat_interleave(v, groups, 1));
}

}  // namespace

ModelOutputs gpt2(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("transformer");
  auto act = models::activation_named(config.value("activation_function", "gelu_new"));
  double eps = config.value("layer_norm_epsilon", 1e-5);
  int64_t heads = config.at("n_head").get<int64_t>(), T = in.ids.size(1);
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "wte");
  Var x = out.embeds + slice(net("wpe.weight"), 0, 0, T);
  for (int64_t i = 0, n = net.count("h"); i < n; ++i) {
    out.hidden.push_back(x);
    Net block = net.at("h", i);
    auto qkv = chunk(affine(block, block.layer_norm(x, "ln_1", eps), "attn.c_attn"), 3);
    double scale = 1 / std::sqrt(double(qkv[0].size(-1) / heads));
    if (config.value("scale_attn_by_inverse_layer_idx", false)) scale /= double(i + 1);
    Var seen = attention(nn::split_heads(qkv[0], heads), nn::split_heads(qkv[1], heads), nn::split_heads(qkv[2], heads),
                         visible(in.mask, true, scale));
    x = x + affine(block, nn::merge_heads(seen), "attn.c_proj");
    x = x + affine(block, act(affine(block, block.layer_norm(x, "ln_2", eps), "mlp.c_fc")), "mlp.c_proj");
  }
  out.last = net.layer_norm(x, "ln_f", eps);
  out.hidden.push_back(out.last);
  out.logits = linear(out.last, model.has("lm_head.weight") ? model("lm_head.weight") : net("wte.weight"));
  return out;
}

ModelOutputs llama(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("model");
  std::string type = config.value("model_type", "");
  bool gemma = type.starts_with("gemma"), norms_after = net.has("layers.0.pre_feedforward_layernorm.weight");
  double eps = config.at("rms_norm_eps").get<double>();
  auto norm = [&](const Net& at, Var x, const std::string& name) {  // Gemma's scales are 1 + weight
    return gemma ? rms_norm(x, Arg(at(name + ".weight") + 1.0), eps) : at.rms_norm(x, name, eps);
  };
  auto act =
      models::activation_named(config.contains("hidden_activation") ? config.at("hidden_activation").get<std::string>()
                                                                    : config.value("hidden_act", "silu"));
  int64_t heads = config.at("num_attention_heads").get<int64_t>(), groups = config.value("num_key_value_heads", heads),
          T = in.ids.size(1);
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embed_tokens");
  if (gemma) out.embeds = out.embeds * std::sqrt(double(out.embeds.size(-1)));
  Var x = out.embeds, angle;
  for (int64_t i = 0, n = net.count("layers"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("layers", i), self = layer.at("self_attn");
    Var h = norm(layer, x, "input_layernorm");
    Var q = nn::split_heads(self.linear(h, "q_proj"), heads), k = nn::split_heads(self.linear(h, "k_proj"), groups),
        v = nn::split_heads(self.linear(h, "v_proj"), groups);
    if (self.has("q_norm.weight")) {
      q = norm(self, q, "q_norm");
      k = norm(self, k, "k_norm");
    }
    if (!angle.defined())
      angle = rotary_angles(net.g, config.contains("rope_parameters") ? config.at("rope_parameters") : config, T,
                            q.size(-1), x.dtype());
    q = rotate(q, angle);
    k = rotate(k, angle);
    AttentionOptions options =
        visible(in.mask, true, 1 / std::sqrt(real(config, "query_pre_attn_scalar", double(q.size(-1)))));
    bool sliding = config.contains("layer_types") ? config.at("layer_types").at(size_t(i)) == "sliding_attention"
                                                  : config.value("use_sliding_window", true);
    if (double window = real(config, "sliding_window", 0); sliding && window > 0)
      options.bias = window_bias(net.g, T, window, INFINITY, x.dtype());
    double cap = real(config, "attn_logit_softcapping", 0);
    h = self.linear(nn::merge_heads(cap > 0 ? capped_attention(q, k, v, options, cap) : attention(q, k, v, options)),
                    "o_proj");
    x = x + (norms_after ? norm(layer, h, "post_attention_layernorm") : h);
    h = norm(layer, x, norms_after ? "pre_feedforward_layernorm" : "post_attention_layernorm");
    h = layer.linear(act(layer.linear(h, "mlp.gate_proj")) * layer.linear(h, "mlp.up_proj"), "mlp.down_proj");
    x = x + (norms_after ? norm(layer, h, "post_feedforward_layernorm") : h);
  }
  out.last = norm(net, x, "norm");
  out.hidden.push_back(out.last);
  out.logits =
      model.has("lm_head.weight") ? model.linear(out.last, "lm_head") : linear(out.last, net("embed_tokens.weight"));
  if (double cap = real(config, "final_logit_softcapping", 0); cap > 0) out.logits = softcap(out.logits, cap);
  return out;
}

ModelOutputs gpt_neox(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("gpt_neox");
  auto act = models::activation_named(config.value("hidden_act", "gelu"));
  double eps = config.value("layer_norm_eps", 1e-5);
  int64_t heads = config.at("num_attention_heads").get<int64_t>(), T = in.ids.size(1);
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embed_in");
  Var x = out.embeds;
  int64_t D = x.size(-1) / heads,
          turned = int64_t(double(D) * real(config.at("rope_parameters"), "partial_rotary_factor", 1));
  Var angle = rotary_angles(net.g, config.at("rope_parameters"), T, turned, x.dtype());
  for (int64_t i = 0, n = net.count("layers"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("layers", i);
    // Packed by head: [B, T, H, 3 D].
    Var qkv =
        nn::split_heads(layer.linear(layer.layer_norm(x, "input_layernorm", eps), "attention.query_key_value"), heads);
    auto parts = chunk(qkv, 3);
    Var seen = attention(rotate(parts[0], angle), rotate(parts[1], angle), parts[2],
                         visible(in.mask, true, 1 / std::sqrt(double(D))));
    Var attended = layer.linear(nn::merge_heads(seen), "attention.dense");
    Var from = config.value("use_parallel_residual", true) ? x : x + attended;
    Var h = layer.layer_norm(from, "post_attention_layernorm", eps);
    x = x + attended + layer.linear(act(layer.linear(h, "mlp.dense_h_to_4h")), "mlp.dense_4h_to_h");
  }
  out.last = net.layer_norm(x, "final_layer_norm", eps);
  out.hidden.push_back(out.last);
  out.logits = model.linear(out.last, model.has("lm_head.weight") ? "lm_head" : "embed_out");
  return out;
}

}  // namespace whence::goldens
