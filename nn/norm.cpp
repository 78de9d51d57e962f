#include "whence/nn/norm.h"

#include <fmt/format.h>

#include "whence/nn/layer_checks.h"
#include "whence/ops/ops.h"

namespace whence::nn {

LayerNorm::LayerNorm(Module& parent, const std::string& name, int64_t features, double e, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "LayerNorm", where, {{"features", features}}), Init::ones())),
      bias(parameter("bias", {features}, Init::zeros())),
      eps(eps_of(*this, "LayerNorm", where, e)) {}
Var LayerNorm::operator()(Arg x) const {
  ModuleScope here(*this, x);
  return layer_norm(x, weight, bias, eps);
}

RMSNorm::RMSNorm(Module& parent, const std::string& name, int64_t features, double e, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "RMSNorm", where, {{"features", features}}), Init::ones())),
      eps(eps_of(*this, "RMSNorm", where, e)) {}
Var RMSNorm::operator()(Arg x) const {
  ModuleScope here(*this, x);
  return rms_norm(x, weight, eps);
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

Var BatchNorm::operator()(Arg input) const {
  ModuleScope here(*this, input);
  Var x = input;
  Graph& g = x.graph();
  int64_t channels = weight.shape()[0];
  if (x.rank() < 2 || x.size(1) != channels)
    throw ShapeError(fmt::format("'{}' normalises {} channels on axis 1, got {}{}", name(), channels, x.shape().str(),
                                 at_line(input.where)));
  Shape along{channels};  // [C, 1, ..], beside x [B, C, ..]
  for (int axis = 2; axis < x.rank(); ++axis) along.push_back(1);
  auto per_channel = [&](Var v) { return reshape(v, along); };
  if (!g.training()) {
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

GroupNorm::GroupNorm(Module& parent, const std::string& name, int64_t n, int64_t channels, double e, Where where)
    : Module(parent, name),
      groups(shape_of(*this, "GroupNorm", where, {{"groups", n}})[0]),
      weight(parameter("weight", shape_of(*this, "GroupNorm", where, {{"channels", channels}}), Init::ones())),
      bias(parameter("bias", {channels}, Init::zeros())),
      eps(eps_of(*this, "GroupNorm", where, e)) {
  if (channels % n)
    throw ShapeError(
        fmt::format("{}: {} channels do not divide into {} groups", made_at(*this, "GroupNorm", where), channels, n));
}

// Per channel beside x [B, C, ..].
static Var per_channel(Var v, int rank) {
  Shape along{v.numel()};
  for (int axis = 2; axis < rank; ++axis) along.push_back(1);
  return reshape(v, along);
}

static void need_channels(const Module& layer, Arg x, int64_t channels) {
  if (x.rank() < 3 || x.shape()[1] != channels)
    throw ShapeError(fmt::format("'{}' normalises {} channels on axis 1 over the axes behind it, got {}{}",
                                 layer.name(), channels, x.shape().str(), at_line(x.where)));
}

Var GroupNorm::operator()(Arg x) const {
  ModuleScope here(*this, x);
  Graph& g = x.graph();
  need_channels(*this, x, weight.shape()[0]);
  const Shape& s = x.shape();
  Var y = reshape(layer_norm(reshape(x, {s[0], groups, s[0] > 0 ? s.numel() / (s[0] * groups) : 0}), {}, {}, eps), s);
  return y * per_channel(weight.in(g), x.rank()) + per_channel(bias.in(g), x.rank());
}

InstanceNorm::InstanceNorm(Module& parent, const std::string& name, int64_t c, double e, bool affine, Where where)
    : Module(parent, name),
      weight(affine ? &parameter("weight", shape_of(*this, "InstanceNorm", where, {{"channels", c}}), Init::ones())
                    : nullptr),
      bias(affine ? &parameter("bias", {c}, Init::zeros()) : nullptr),
      channels(shape_of(*this, "InstanceNorm", where, {{"channels", c}})[0]),
      eps(eps_of(*this, "InstanceNorm", where, e)) {}

Var InstanceNorm::operator()(Arg x) const {
  ModuleScope here(*this, x);
  need_channels(*this, x, channels);
  const Shape& s = x.shape();
  Var y = reshape(layer_norm(reshape(x, {s[0], s[1], s[0] ? s.numel() / (s[0] * s[1]) : 0}), {}, {}, eps), s);
  if (!weight) return y;
  return y * per_channel(weight->in(x.graph()), x.rank()) + per_channel(bias->in(x.graph()), x.rank());
}

}  // namespace whence::nn
