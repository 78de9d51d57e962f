#include "whence/nn/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace whence::nn {

namespace {

using Where = std::source_location;

std::string made_at(const Module& layer, const char* kind, Where where) {
  return fmt::format("{} '{}' made{}", kind, layer.name(), at_line(where));
}

struct Extent {
  const char* name;
  int64_t size;
  int64_t least = 1;
};

// The extents as a shape.
Shape shape_of(const Module& layer, const char* kind, Where where, std::initializer_list<Extent> extents) {
  Shape shape;
  for (const Extent& e : extents) {
    if (e.size < e.least)
      throw ShapeError(
          fmt::format("{}: {} must be at least {}, got {}", made_at(layer, kind, where), e.name, e.least, e.size));
    shape.push_back(e.size);
  }
  return shape;
}

double eps_of(const Module& layer, const char* kind, Where where, double eps) {
  if (!(eps >= 0) || std::isinf(eps))
    throw ValueError(fmt::format("{}: eps must be finite and not negative, got {}", made_at(layer, kind, where), eps));
  return eps;
}

// uniform(+-1/sqrt(in)), as PyTorch's biases.
Init bias_init(int64_t in) {
  const double bound = in > 0 ? 1 / std::sqrt(double(in)) : 0;
  return Init::uniform(-bound, bound);
}

}  // namespace

Linear::Linear(Module& parent, const std::string& name, int64_t in, int64_t out, bool with_bias,
               std::optional<Init> init, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "Linear", where, {{"outputs", out}, {"inputs", in, 0}}),
                       init.value_or(Init::kaiming_uniform(std::max<int64_t>(in, 0), std::sqrt(5.0))))),
      bias(with_bias ? &parameter("bias", {out}, init ? Init::zeros() : bias_init(in)) : nullptr) {}

Var Linear::operator()(Arg x) const {
  LocationGuard at(x);
  Graph& g = x.graph();
  return bias ? linear(x, weight.in(g), bias->in(g)) : linear(x, weight.in(g));
}

Embedding::Embedding(Module& parent, const std::string& name, int64_t rows, int64_t features, Init init,
                     int64_t padding, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "Embedding", where, {{"rows", rows}, {"features", features}}), init)),
      padding_idx(padding) {
  if (padding >= rows)
    throw ValueError(
        fmt::format("{}: padding_idx {} lies beyond its {} rows", made_at(*this, "Embedding", where), padding, rows));
}
Var Embedding::operator()(Arg ids) const {
  LocationGuard at(ids);
  return embedding(ids, weight.in(ids.graph()), padding_idx);
}

LayerNorm::LayerNorm(Module& parent, const std::string& name, int64_t features, double e, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "LayerNorm", where, {{"features", features}}), Init::ones())),
      bias(parameter("bias", {features}, Init::zeros())),
      eps(eps_of(*this, "LayerNorm", where, e)) {}
Var LayerNorm::operator()(Arg x) const {
  LocationGuard at(x);
  return layer_norm(x, weight.in(x.graph()), bias.in(x.graph()), eps);
}

RMSNorm::RMSNorm(Module& parent, const std::string& name, int64_t features, double e, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "RMSNorm", where, {{"features", features}}), Init::ones())),
      eps(eps_of(*this, "RMSNorm", where, e)) {}
Var RMSNorm::operator()(Arg x) const {
  LocationGuard at(x);
  return rms_norm(x, weight.in(x.graph()), eps);
}

BatchNorm::BatchNorm(Module& parent, const std::string& name, int64_t channels, double e, double m, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "BatchNorm", where, {{"channels", channels}}), Init::ones())),
      bias(parameter("bias", {channels}, Init::zeros())),
      running_mean(buffer("running_mean", {channels}, Init::zeros())),
      running_var(buffer("running_var", {channels}, Init::ones())),
      eps(eps_of(*this, "BatchNorm", where, e)),
      momentum(m) {
  if (!(m >= 0 && m <= 1))
    throw ValueError(fmt::format("{}: momentum must be in [0, 1], got {}", made_at(*this, "BatchNorm", where), m));
}

Var BatchNorm::operator()(Arg input, bool training) const {
  LocationGuard at(input);
  Var x = input;
  Graph& g = x.graph();
  int64_t channels = weight.shape()[0];
  if (x.rank() < 2 || x.size(1) != channels)
    throw ShapeError(fmt::format("'{}' normalises {} channels on axis 1, got {}{}", name(), channels, x.shape().str(),
                                 at_line(input.where)));
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
    throw ShapeError(fmt::format("'{}' needs more than one value per channel to train, got {}{}", name(),
                                 x.shape().str(), at_line(input.where)));
  Var mean = whence::mean(x, axes), centred = widened(x) - per_channel(mean), var = whence::mean(square(centred), axes);
  // From what the layer may have made of them elsewhere in this recording.
  g.assign(running_mean, g.next(running_mean) * (1 - momentum) + mean * momentum);
  g.assign(running_var, g.next(running_var) * (1 - momentum) + var * (momentum * n / (n - 1)));
  return centred * per_channel(stop_relevance(rsqrt(var + eps)) * weight.in(g)) + per_channel(bias.in(g));
}

Var Dropout::operator()(Arg x, bool training) const {
  if (!(p >= 0 && p < 1)) throw ValueError(fmt::format("dropout: p must be in [0, 1), got {}{}", p, at_line(x.where)));
  return training ? dropout(x, p, key) : Var(x);
}

Var split_heads(Arg x, int64_t heads) {
  LocationGuard at(x);
  const Shape& s = x.shape();
  if (s.rank() != 3 || heads < 1 || s[2] % heads)
    throw ShapeError(fmt::format("split_heads: {} does not divide into {} heads{}", s.str(), heads, at_line(x.where)));
  return permute(reshape(x, {s[0], s[1], heads, s[2] / heads}), {0, 2, 1, 3});
}
Var merge_heads(Arg x) {
  LocationGuard at(x);
  const Shape& s = x.shape();  // (B, H, T, D)
  if (s.rank() != 4) throw ShapeError("merge_heads: " + s.str() + " is not [B, H, T, D]" + at_line(x.where));
  return reshape(permute(x, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
}

// Checked before anything is divided by it; returns h.
static int64_t heads_of(const Module& layer, Where where, int64_t features, int64_t h, int64_t kv) {
  const std::string at = made_at(layer, "MultiHeadAttention", where);
  if (features < 1 || h < 1 || kv < 0)
    throw ShapeError(fmt::format("{}: {} features, {} heads and {} key heads (0: as many as heads) are not to be had",
                                 at, features, h, kv));
  if (features % h || h % (kv ? kv : h))
    throw ShapeError(
        fmt::format("{}: {} features, {} heads, {} key heads do not divide", at, features, h, kv ? kv : h));
  return h;
}

MultiHeadAttention::MultiHeadAttention(Module& parent, const std::string& name, int64_t features, int64_t h, int64_t kv,
                                       bool bias, Where where)
    : Module(parent, name),
      heads(heads_of(*this, where, features, h, kv)),
      kv_heads(kv ? kv : h),
      q(*this, "q", features, features, bias, {}, where),
      k(*this, "k", features, features / h * kv_heads, bias, {}, where),
      v(*this, "v", features, features / h * kv_heads, bias, {}, where),
      out(*this, "out", features, features, bias, {}, where) {}

Var MultiHeadAttention::operator()(Arg x, AttentionOptions options, std::optional<Var> memory) const {
  LocationGuard at(x);
  Arg m(memory.value_or(x), x.where);
  return out(merge_heads(attention(split_heads(q(x), heads), split_heads(k(m), kv_heads), split_heads(v(m), kv_heads),
                                   std::move(options))));
}

FeedForward::FeedForward(Module& parent, const std::string& name, int64_t features, int64_t hidden, Activation a,
                         bool bias, Where where)
    : Module(parent, name),
      up(*this, "up", features, hidden, bias, {}, where),
      down(*this, "down", hidden, features, bias, {}, where),
      act(a) {
  if (!a) throw ValueError(made_at(*this, "FeedForward", where) + ": no activation");
}
Var FeedForward::operator()(Arg x) const {
  LocationGuard at(x);
  return down(act(up(x)));
}

Conv1d::Conv1d(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "Conv1d", where, {{"channels", channels}, {"width", width}}),
                       Init::kaiming_uniform(std::max<int64_t>(width, 0), std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {channels}, bias_init(width)) : nullptr) {}
Var Conv1d::operator()(Arg x, std::optional<Var> state) const {
  LocationGuard at(x);
  std::optional<Arg> b, s;
  if (bias) b = bias->in(x.graph());
  if (state) s = *state;
  return causal_conv1d(x, weight.in(x.graph()), b, s);
}

}  // namespace whence::nn
