#include "whence/models/xlstm.h"

#include <cmath>

#include "whence/models/xlstm_cells.h"

namespace whence::models {

using nn::Init;

namespace {

constexpr double kNormEps = 1e-5;

// Layers into a block, and out of it (Nguyen and Salazar 2019; Wang and Komatsuzaki 2021).
Init into(const XlstmConfig& c) { return Init::normal(std::sqrt(2.0 / (5.0 * double(c.hidden_size)))); }
Init out_of(const XlstmConfig& c) { return Init::normal(2.0 / double(c.blocks()) / std::sqrt(double(c.hidden_size))); }
Shape blocks_of(const XlstmConfig& c) {
  return {c.inner_size / c.projection_block, c.projection_block, c.projection_block};
}
int64_t head_size(const XlstmConfig& c) { return c.hidden_size / c.slstm_heads; }  // of an sLSTM
ScaleNorm::Options norm() { return {.centred = true, .eps = kNormEps, .plus_one = true}; }

// low .. high in n equal steps.
Init spread(double low, double high, int64_t n) {
  Tensor t = Tensor::empty({n}, f64);
  for (int64_t i = 0; i < n; ++i)
    t.data<double>()[i] = n > 1 ? low + (high - low) * double(i) / double(n - 1) : (low + high) / 2;
  return Init::values(t);
}

// The forget gates of an sLSTM start wide apart, later blocks' wider: [H, gate, D].
Init slstm_bias(int64_t block, int64_t D, const XlstmConfig& c) {
  Tensor t = Tensor::zeros({4, D}, f64);
  const double depth = c.blocks() > 1 ? double(block) / double(c.blocks() - 1) : 0;
  for (int64_t j = 0; j < D; ++j) {
    const double place = D > 1 ? double(j) / double(D - 1) : 0;
    t.data<double>()[D + j] = 5 - 12 * std::pow(place, 0.3 + 1.3 * depth);
  }
  return Init::values(t);
}

// x [B, T, H, D], normalised per head; weight [H D].
Var head_norm(Var x, Var weight) {
  return reshape(layer_norm(x, {}, {}, kNormEps), {x.size(0), x.size(1), x.size(2) * x.size(3)}) * weight;
}

}  // namespace

MlstmLayer::MlstmLayer(Module& parent, const std::string& name, const XlstmConfig& c)
    : Module(parent, name),
      heads(c.mlstm_heads),
      eps(c.eps),
      proj_up(*this, "proj_up", c.hidden_size, 2 * c.inner_size, false, into(c)),
      conv(*this, "conv1d.conv", c.inner_size, c.conv_width),
      q_proj(parameter("q_proj.weight", blocks_of(c), into(c))),
      k_proj(parameter("k_proj.weight", blocks_of(c), into(c))),
      v_proj(parameter("v_proj.weight", blocks_of(c), into(c))),
      igate_weight(parameter("mlstm_cell.igate.weight", {heads, 3 * c.inner_size}, Init::zeros())),
      igate_bias(parameter("mlstm_cell.igate.bias", {heads}, Init::normal(0.1))),
      fgate_weight(parameter("mlstm_cell.fgate.weight", {heads, 3 * c.inner_size}, Init::zeros())),
      fgate_bias(parameter("mlstm_cell.fgate.bias", {heads}, spread(3, 6, heads))),
      outnorm(parameter("mlstm_cell.outnorm.weight", {c.inner_size}, Init::zeros())),
      learnable_skip(parameter("learnable_skip", {c.inner_size}, Init::ones())),
      proj_down(*this, "proj_down", c.inner_size, c.hidden_size, false, out_of(c)) {}

Var MlstmLayer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  auto up = chunk(proj_up(x), 2);
  Var c = silu(conv(up[0]));
  Var q = headwise(c, q_proj.in(g)), k = headwise(c, k_proj.in(g)), v = headwise(up[0], v_proj.in(g));
  Var qkv = concat({q, k, v}, -1);
  Var ig = transpose(linear(qkv, igate_weight.in(g), igate_bias.in(g))),  // (B, H, T)
      fg = transpose(linear(qkv, fgate_weight.in(g), fgate_bias.in(g)));
  Var h =
      mlstm_parallel(nn::split_heads(q, heads), nn::split_heads(k, heads), nn::split_heads(v, heads), ig, fg, eps).h;
  Var normed = head_norm(permute(h, {0, 2, 1, 3}), outnorm.in(g) + 1.0);
  return proj_down((normed + learnable_skip.in(g)*c) * silu(up[1]));
}

SlstmLayer::SlstmLayer(Module& parent, const std::string& name, int64_t block, const XlstmConfig& c)
    : Module(parent, name),
      conv(*this, "conv1d.conv", c.hidden_size, c.conv_width),
      fgate(parameter("fgate.weight", {c.slstm_heads, head_size(c), head_size(c)}, into(c))),
      igate(parameter("igate.weight", {c.slstm_heads, head_size(c), head_size(c)}, into(c))),
      zgate(parameter("zgate.weight", {c.slstm_heads, head_size(c), head_size(c)}, into(c))),
      ogate(parameter("ogate.weight", {c.slstm_heads, head_size(c), head_size(c)}, into(c))),
      recurrent_kernel(
          parameter("slstm_cell.recurrent_kernel", {c.slstm_heads, head_size(c), 4, head_size(c)}, Init::zeros())),
      bias(parameter("slstm_cell.bias", {c.slstm_heads, 4, head_size(c)}, slstm_bias(block, head_size(c), c))),
      group_norm(parameter("group_norm.weight", {c.hidden_size}, Init::zeros())) {}

Var SlstmLayer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  const int64_t B = x.size(0), T = x.size(1), H = bias.shape()[0], D = bias.shape()[2];
  Var c = silu(conv(x));
  auto gate = [&](Var from, const nn::Parameter& w) { return reshape(headwise(from, w.in(g)), {B, T, H, D}); };
  Var wx = stack({gate(c, fgate), gate(c, igate), gate(x, zgate), gate(x, ogate)}, 2);
  SlstmState state;
  return head_norm(slstm(wx, recurrent_kernel.in(g), bias.in(g), state), group_norm.in(g) + 1.0);
}

XlstmBlock::XlstmBlock(Module& parent, const std::string& name, int64_t i, const XlstmConfig& c)
    : Module(parent, name), xlstm_norm(*this, "xlstm_norm", c.hidden_size, norm()) {
  if (!c.slstm[size_t(i)]) {
    mlstm.emplace(*this, "xlstm", c);
    return;
  }
  slstm.emplace(*this, "xlstm", i, c);
  ffn_norm.emplace(*this, "ffn_norm", c.hidden_size, norm());
  ffn_up.emplace(*this, "ffn.proj_up", c.hidden_size, 2 * c.feed_forward_size, false, into(c));
  ffn_down.emplace(*this, "ffn.proj_down", c.feed_forward_size, c.hidden_size, false, out_of(c));
}

Var XlstmBlock::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Var h = xlstm_norm(x);
  x = x + (mlstm ? (*mlstm)(h) : (*slstm)(h));
  if (!ffn_norm) return x;
  auto up = chunk((*ffn_up)((*ffn_norm)(x)), 2);
  return x + (*ffn_down)(gelu(up[0]) * up[1]);
}

Xlstm::Xlstm(const XlstmConfig& c)
    : token_embedding(*this, "token_embedding", c.vocab_size, c.hidden_size, into(c)),
      blocks(*this, "xlstm_block_stack.blocks"),
      post_blocks_norm(*this, "xlstm_block_stack.post_blocks_norm", c.hidden_size, norm()),
      lm_head(*this, "lm_head", c.hidden_size, c.vocab_size, false, into(c)) {
  for (int64_t i = 0; i < c.blocks(); ++i) blocks.emplace_back(i, c);
}

std::vector<Var> Xlstm::encode(Var words) const {
  std::vector<Var> states{words};
  for (const XlstmBlock& block : blocks) {
    states.push_back(block(states.back()));
  }
  return states;
}

}  // namespace whence::models
