#include "nn/layers.h"

#include <cmath>

namespace whence::nn {

Linear::Linear(Module& parent, const std::string& name, int64_t in, int64_t out, bool with_bias,
               std::optional<Init> init)
    : Module(parent, name),
      weight(parameter("weight", {out, in}, init.value_or(Init::kaiming_uniform(in, std::sqrt(5.0))))),
      bias(with_bias
               ? &parameter("bias", {out},
                            init ? Init::zeros() : Init::uniform(-1 / std::sqrt(double(in)), 1 / std::sqrt(double(in))))
               : nullptr) {}

Var Linear::operator()(Var x) const {
  Graph& g = x.graph();
  return bias ? linear(x, weight.in(g), bias->in(g)) : linear(x, weight.in(g));
}

Embedding::Embedding(Module& parent, const std::string& name, int64_t rows, int64_t features, Init init,
                     int64_t padding)
    : Module(parent, name), weight(parameter("weight", {rows, features}, init)), padding_idx(padding) {}
Var Embedding::operator()(Var ids) const { return embedding(ids, weight.in(ids.graph()), padding_idx); }

LayerNorm::LayerNorm(Module& parent, const std::string& name, int64_t features, double e)
    : Module(parent, name),
      weight(parameter("weight", {features}, Init::ones())),
      bias(parameter("bias", {features}, Init::zeros())),
      eps(e) {}
Var LayerNorm::operator()(Var x) const { return layer_norm(x, weight.in(x.graph()), bias.in(x.graph()), eps); }

RMSNorm::RMSNorm(Module& parent, const std::string& name, int64_t features, double e)
    : Module(parent, name), weight(parameter("weight", {features}, Init::ones())), eps(e) {}
Var RMSNorm::operator()(Var x) const { return rms_norm(x, weight.in(x.graph()), eps); }

BatchNorm::BatchNorm(Module& parent, const std::string& name, int64_t channels, double e, double m)
    : Module(parent, name),
      weight(parameter("weight", {channels}, Init::ones())),
      bias(parameter("bias", {channels}, Init::zeros())),
      running_mean(parameter("running_mean", {channels}, Init::zeros())),
      running_var(parameter("running_var", {channels}, Init::ones())),
      eps(e),
      momentum(m) {
  running_mean.set_trainable(false);
  running_var.set_trainable(false);
}

Var BatchNorm::operator()(Var x, bool training) const {
  Graph& g = x.graph();
  int64_t channels = weight.shape()[0];
  if (x.rank() < 2 || x.size(1) != channels)
    throw ShapeError("'" + name() + "' normalises " + std::to_string(channels) + " channels on axis 1, got " +
                     x.shape().str());
  Shape along{channels};  // [C, 1, ..], beside x [B, C, ..]
  for (int axis = 2; axis < x.rank(); ++axis) along.push_back(1);
  auto per_channel = [&](Var v) { return reshape(v, along); };
  if (!training) {
    Var scale = weight.in(g)*rsqrt(running_var.in(g) + eps);
    return x * per_channel(scale) + per_channel(bias.in(g)-running_mean.in(g)*scale);
  }
  Ints axes{0};
  for (int axis = 2; axis < x.rank(); ++axis) axes.push_back(axis);
  double n = double(x.numel() / channels);
  if (n < 2)
    throw ShapeError("'" + name() + "' needs more than one value per channel to train, got " + x.shape().str());
  Var mean = whence::mean(x, axes), centred = widened(x) - per_channel(mean), var = whence::mean(square(centred), axes);
  g.assign(running_mean, running_mean.in(g) * (1 - momentum) + mean * momentum);
  g.assign(running_var, running_var.in(g) * (1 - momentum) + var * (momentum * n / (n - 1)));
  return centred * per_channel(stop_relevance(rsqrt(var + eps)) * weight.in(g)) + per_channel(bias.in(g));
}

Var split_heads(Var x, int64_t heads) {
  const Shape& s = x.shape();
  if (s.rank() != 3 || heads < 1 || s[2] % heads)
    throw ShapeError("split_heads: " + s.str() + " does not divide into " + std::to_string(heads) + " heads");
  return permute(reshape(x, {s[0], s[1], heads, s[2] / heads}), {0, 2, 1, 3});
}
Var merge_heads(Var x) {
  const Shape& s = x.shape();  // (B, H, T, D)
  return reshape(permute(x, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
}

MultiHeadAttention::MultiHeadAttention(Module& parent, const std::string& name, int64_t features, int64_t h, int64_t kv,
                                       bool bias)
    : Module(parent, name),
      heads(h),
      kv_heads(kv ? kv : h),
      q(*this, "q", features, features, bias),
      k(*this, "k", features, features / h * kv_heads, bias),
      v(*this, "v", features, features / h * kv_heads, bias),
      out(*this, "out", features, features, bias) {
  if (features % h || h % kv_heads)
    throw ShapeError("attention '" + this->name() + "': " + std::to_string(features) + " features, " +
                     std::to_string(h) + " heads, " + std::to_string(kv_heads) + " key heads do not divide");
}

Var MultiHeadAttention::operator()(Var x, AttentionOptions options, std::optional<Var> memory) const {
  Var m = memory.value_or(x);
  return out(merge_heads(attention(split_heads(q(x), heads), split_heads(k(m), kv_heads), split_heads(v(m), kv_heads),
                                   std::move(options))));
}

FeedForward::FeedForward(Module& parent, const std::string& name, int64_t features, int64_t hidden, Activation a,
                         bool bias)
    : Module(parent, name),
      up(*this, "up", features, hidden, bias),
      down(*this, "down", hidden, features, bias),
      act(a) {}

Conv1d::Conv1d(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias)
    : Module(parent, name),
      weight(parameter("weight", {channels, width}, Init::kaiming_uniform(width, std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {channels},
                                  Init::uniform(-1 / std::sqrt(double(width)), 1 / std::sqrt(double(width))))
                     : nullptr) {}
Var Conv1d::operator()(Var x, std::optional<Var> state) const {
  std::optional<Arg> b, s;
  if (bias) b = bias->in(x.graph());
  if (state) s = *state;
  return causal_conv1d(x, weight.in(x.graph()), b, s);
}

}  // namespace whence::nn
