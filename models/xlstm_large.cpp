#include "whence/models/xlstm_large.h"

#include <cmath>

#include "whence/models/config.h"
#include "whence/models/xlstm_cells.h"
#include "whence/ops/composite.h"

namespace whence::models {

using nn::Init;

XlstmLargeConfig XlstmLargeConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  XlstmLargeConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_heads", c.heads);
  json.read("qk_dim_factor", c.qk_factor);
  json.read("v_dim_factor", c.v_factor);
  json.read("chunk_size", c.chunk_size);
  json.read("add_out_norm", c.out_norm);
  json.read("use_bias", c.bias);
  json.read("tie_word_embeddings", c.tied);
  json.read("norm_eps", c.norm_eps);
  json.read("eps", c.eps);
  json.read("gate_soft_cap", c.gate_cap);
  json.read("output_logit_soft_cap", c.logit_cap);
  c.fused = json.value("weight_mode", std::string("single")) == "fused";
  const int64_t multiple = json.value("ffn_round_up_to_multiple_of", int64_t(64));
  const auto wide = int64_t(double(c.hidden_size) * json.value("ffn_proj_factor", 2.667));
  c.feed_forward_size = (wide + multiple - 1) / multiple * multiple;
  return c;
}

namespace {

Init into(const XlstmLargeConfig& c) { return Init::normal(std::sqrt(2.0 / (5.0 * double(c.hidden_size)))); }
Init out_of(const XlstmLargeConfig& c) {
  return Init::normal(2.0 / double(c.layers) / std::sqrt(double(c.hidden_size)));
}
ScaleNorm::Options norm(const XlstmLargeConfig& c) { return {.eps = c.norm_eps}; }

}  // namespace

XlstmLargeMixer::XlstmLargeMixer(Module& parent, const std::string& name, const XlstmLargeConfig& c)
    : Module(parent, name),
      config(c),
      multihead_norm(parameter("multihead_norm.weight", {c.v_size()}, Init::ones())),
      out_proj(*this, "out_proj", c.v_size(), c.hidden_size, c.bias, out_of(c)) {
  auto add = [&](std::optional<nn::Linear>& layer, const char* at, int64_t out, bool bias) {
    layer.emplace(*this, at, c.hidden_size, out, bias, into(c));
  };
  if (c.fused) {
    add(qkv_opreact, "qkv_opreact", 2 * c.qk_size() + 2 * c.v_size(), c.bias);
    add(ifgate_preact, "ifgate_preact", 2 * c.heads, true);
    return;
  }
  add(q, "q", c.qk_size(), c.bias);
  add(k, "k", c.qk_size(), c.bias);
  add(v, "v", c.v_size(), c.bias);
  add(ogate_preact, "ogate_preact", c.v_size(), c.bias);
  add(igate_preact, "igate_preact", c.heads, true);
  add(fgate_preact, "fgate_preact", c.heads, true);
}

Var XlstmLargeMixer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  const int64_t H = config.heads, T = x.size(1), inner = config.v_size();
  std::vector<Var> qkvo, gates;
  if (config.fused) {
    qkvo = split((*qkv_opreact)(x), {config.qk_size(), config.qk_size(), inner, inner});
    gates = chunk((*ifgate_preact)(x), 2);
  } else {
    qkvo = {(*q)(x), (*k)(x), (*v)(x), (*ogate_preact)(x)};
    gates = {(*igate_preact)(x), (*fgate_preact)(x)};
  }
  Var ig = transpose(softcap(gates[0], config.gate_cap)), fg = transpose(softcap(gates[1], config.gate_cap));
  Var qh = nn::split_heads(qkvo[0], H), kh = nn::split_heads(qkvo[1], H), vh = nn::split_heads(qkvo[2], H);
  // Whole chunks, then step by step.
  const int64_t L = config.chunk_size > 0 ? config.chunk_size : T + 1, whole = T / L * L;
  MlstmState state = mlstm_zeros(qh, vh);
  std::vector<Var> parts;
  auto until = [&](Var a) { return slice(a, 2, 0, whole); };
  auto from = [&](Var a) { return slice(a, 2, whole, T); };
  if (whole > 0) {
    Mlstm out = mlstm_chunkwise(until(qh), until(kh), until(vh), until(ig), until(fg), config.eps, L, state);
    const double root = 1 / std::sqrt(double(kh.size(-1)));  // chunks keep k as it is, steps k / sqrt(D)
    state = {out.state.C * root, out.state.n * root, out.state.m};
    parts.push_back(out.h);
  }
  if (whole < T)
    parts.push_back(mlstm_recurrent(from(qh), from(kh), from(vh), from(ig), from(fg), config.eps, state).h);
  Var h = permute(concat(parts, 2), {0, 2, 1, 3});  // (B, T, H, D)
  Var normed = reshape(layer_norm(h, {}, {}, config.norm_eps), {x.size(0), T, inner}) * multihead_norm.in(x.graph());
  return out_proj(sigmoid(qkvo[3]) * normed);
}

XlstmLargeBlock::XlstmLargeBlock(Module& parent, const std::string& name, const XlstmLargeConfig& c)
    : Module(parent, name),
      norm_mlstm(*this, "norm_mlstm", c.hidden_size, norm(c)),
      mlstm_layer(*this, "mlstm_layer", c),
      norm_ffn(*this, "norm_ffn", c.hidden_size, norm(c)),
      proj_down(*this, "ffn.proj_down", c.feed_forward_size, c.hidden_size, c.bias, out_of(c)) {
  if (c.fused) {
    proj_up_gate_z.emplace(*this, "ffn.proj_up_gate_z", c.hidden_size, 2 * c.feed_forward_size, c.bias, into(c));
  } else {
    proj_up_gate.emplace(*this, "ffn.proj_up_gate", c.hidden_size, c.feed_forward_size, c.bias, into(c));
    proj_up.emplace(*this, "ffn.proj_up", c.hidden_size, c.feed_forward_size, c.bias, into(c));
  }
}

Var XlstmLargeBlock::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  x = x + mlstm_layer(norm_mlstm(x));
  Var h = norm_ffn(x);
  std::vector<Var> up = proj_up ? std::vector<Var>{(*proj_up_gate)(h), (*proj_up)(h)} : chunk((*proj_up_gate_z)(h), 2);
  return x + proj_down(silu(up[0]) * up[1]);
}

XlstmLarge::XlstmLarge(const XlstmLargeConfig& c)
    : config(c),
      embeddings(*this, "backbone.embeddings", c.vocab_size, c.hidden_size, into(c)),
      blocks(*this, "backbone.blocks", c.layers, c),
      lm_head(c.tied ? nullptr : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, into(c))) {
  if (c.out_norm) out_norm.emplace(*this, "backbone.out_norm", c.hidden_size, norm(c));
}

std::vector<Var> XlstmLarge::encode(Var words) const {
  std::vector<Var> states{words};
  for (const XlstmLargeBlock& block : blocks) {
    states.push_back(block(states.back()));
  }
  if (out_norm) states.back() = (*out_norm)(states.back());
  return states;
}

Var XlstmLarge::logits(Var hidden) const {
  return softcap(linear(hidden, (lm_head ? *lm_head : embeddings.weight).in(hidden.graph())), config.logit_cap);
}

}  // namespace whence::models
