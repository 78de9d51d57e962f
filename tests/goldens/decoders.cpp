// Causal transformers by their formulas: GPT-2.
#include <cmath>

#include "models/bert.h"
#include "nn/layers.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

// GPT-2's Conv1D: weight [in, out].
Var affine(const Net& net, Var x, const std::string& name) { return matmul(x, net(name + ".weight")) + net(name + ".bias"); }

AttentionOptions causal(Var mask, double scale) {
  AttentionOptions a{.causal = true, .scale = scale};
  if (mask.defined()) a.mask = mask;
  return a;
}

}  // namespace

Decoded gpt2(const Net& model, const Json& config, Var ids, Var mask) {
  Net net = model.at("transformer");
  auto act = models::activation_named(config.value("activation_function", "gelu_new"));
  double eps = config.value("layer_norm_epsilon", 1e-5);
  int64_t heads = config.at("n_head").get<int64_t>(), T = ids.size(1);
  Decoded out;
  out.embeds = net.embedding(ids, "wte");
  Var x = out.embeds + slice(net("wpe.weight"), 0, 0, T);
  for (int64_t i = 0, n = net.count("h"); i < n; ++i) {
    out.hidden.push_back(x);
    Net block = net.at("h", i);
    auto qkv = chunk(affine(block, block.layer_norm(x, "ln_1", eps), "attn.c_attn"), 3);
    double scale = 1 / std::sqrt(double(qkv[0].size(-1) / heads));
    if (config.value("scale_attn_by_inverse_layer_idx", false)) scale /= double(i + 1);
    Var seen = attention(nn::split_heads(qkv[0], heads), nn::split_heads(qkv[1], heads), nn::split_heads(qkv[2], heads), causal(mask, scale));
    x = x + affine(block, nn::merge_heads(seen), "attn.c_proj");
    x = x + affine(block, act(affine(block, block.layer_norm(x, "ln_2", eps), "mlp.c_fc")), "mlp.c_proj");
  }
  out.last = net.layer_norm(x, "ln_f", eps);
  out.hidden.push_back(out.last);
  out.logits = linear(out.last, model.has("lm_head.weight") ? model("lm_head.weight") : net("wte.weight"));
  return out;
}

}  // namespace whence::goldens
