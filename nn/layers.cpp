#include "nn/layers.h"

#include <cmath>

namespace whence::nn {

Linear::Linear(Module& parent, const std::string& name, int64_t in, int64_t out, bool with_bias, std::optional<Init> init)
    : Module(parent, name),
      weight(parameter("weight", {out, in}, init.value_or(Init::kaiming_uniform(in, std::sqrt(5.0))))),
      bias(with_bias ? &parameter("bias", {out}, init ? Init::zeros() : Init::uniform(-1 / std::sqrt(double(in)), 1 / std::sqrt(double(in)))) : nullptr) {}

Var Linear::operator()(Var x) const {
  Graph& g = x.graph();
  return bias ? linear(x, weight.in(g), bias->in(g)) : linear(x, weight.in(g));
}

Embedding::Embedding(Module& parent, const std::string& name, int64_t rows, int64_t features, Init init, int64_t padding)
    : Module(parent, name), weight(parameter("weight", {rows, features}, init)), padding_idx(padding) {}
Var Embedding::operator()(Var ids) const { return embedding(ids, weight.in(ids.graph()), padding_idx); }

LayerNorm::LayerNorm(Module& parent, const std::string& name, int64_t features, double e)
    : Module(parent, name), weight(parameter("weight", {features}, Init::ones())), bias(parameter("bias", {features}, Init::zeros())), eps(e) {}
Var LayerNorm::operator()(Var x) const { return layer_norm(x, weight.in(x.graph()), bias.in(x.graph()), eps); }

RMSNorm::RMSNorm(Module& parent, const std::string& name, int64_t features, double e)
    : Module(parent, name), weight(parameter("weight", {features}, Init::ones())), eps(e) {}
Var RMSNorm::operator()(Var x) const { return rms_norm(x, weight.in(x.graph()), eps); }

Var split_heads(Var x, int64_t heads) {
  const Shape& s = x.shape();
  if (s.rank() != 3 || heads < 1 || s[2] % heads) throw ShapeError("split_heads: " + s.str() + " does not divide into " + std::to_string(heads) + " heads");
  return permute(reshape(x, {s[0], s[1], heads, s[2] / heads}), {0, 2, 1, 3});
}
Var merge_heads(Var x) {
  const Shape& s = x.shape();  // (B, H, T, D)
  return reshape(permute(x, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
}

MultiHeadAttention::MultiHeadAttention(Module& parent, const std::string& name, int64_t features, int64_t h, int64_t kv, bool bias)
    : Module(parent, name), heads(h), kv_heads(kv ? kv : h),
      q(*this, "q", features, features, bias), k(*this, "k", features, features / h * kv_heads, bias),
      v(*this, "v", features, features / h * kv_heads, bias), out(*this, "out", features, features, bias) {
  if (features % h || h % kv_heads) throw ShapeError("attention '" + this->name() + "': " + std::to_string(features) + " features, " + std::to_string(h) + " heads, " + std::to_string(kv_heads) + " key heads do not divide");
}

Var MultiHeadAttention::operator()(Var x, AttentionOptions options, std::optional<Var> memory) const {
  Var m = memory.value_or(x);
  return out(merge_heads(attention(split_heads(q(x), heads), split_heads(k(m), kv_heads), split_heads(v(m), kv_heads), std::move(options))));
}

FeedForward::FeedForward(Module& parent, const std::string& name, int64_t features, int64_t hidden, Activation a, bool bias)
    : Module(parent, name), up(*this, "up", features, hidden, bias), down(*this, "down", hidden, features, bias), act(a) {}

Conv1d::Conv1d(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias)
    : Module(parent, name), weight(parameter("weight", {channels, width}, Init::kaiming_uniform(width, std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {channels}, Init::uniform(-1 / std::sqrt(double(width)), 1 / std::sqrt(double(width)))) : nullptr) {}
Var Conv1d::operator()(Var x, std::optional<Var> state) const {
  std::optional<Arg> b, s;
  if (bias) b = bias->in(x.graph());
  if (state) s = *state;
  return causal_conv1d(x, weight.in(x.graph()), b, s);
}

}  // namespace whence::nn
