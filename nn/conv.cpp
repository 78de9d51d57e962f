#include "whence/nn/conv.h"

#include <fmt/format.h>

#include "whence/nn/layer_checks.h"

namespace whence::nn {

namespace {

// [first, second, k..]; one kernel extent holds for all axes.
Shape weight_shape(const Module& layer, const std::string& kind, Where where, int64_t first, int64_t second,
                   Ints kernel, const ConvOptions& o, int space, int64_t divided) {
  const std::string at = made_at(layer, kind, where);
  if (kernel.size() == 1) kernel.resize(size_t(space), kernel[0]);
  if (int(kernel.size()) != space)
    throw ValueError(fmt::format("{}: a kernel has {} extents, got {}", at, space, kernel.size()));
  if (first < 1 || second < 1 || o.groups < 1 || divided % o.groups)
    throw ShapeError(fmt::format("{}: {} and {} channels in {} groups are not to be had", at, first, second, o.groups));
  Shape s{first, second / o.groups};
  for (int64_t k : kernel) {
    if (k < 1) throw ShapeError(fmt::format("{}: the kernel's extents must be at least 1, got {}", at, k));
    s.push_back(k);
  }
  return s;
}

// What one result is summed from.
int64_t fan_in(const Shape& weight) { return weight.numel() / weight[0]; }

// A sample without a batch axis is a common slip; the op would blame the weight.
void need_batch(const Module& layer, const std::string& kind, Arg x, int space, int64_t channels) {
  if (x.rank() == space + 2 && x.shape()[1] == channels) return;
  const bool sample = x.rank() == space + 1 && x.shape()[0] == channels;
  throw ShapeError(fmt::format("{} '{}' takes [batch, {}{}], got {}{}{}", kind, layer.name(), channels,
                               space == 1   ? ", length"
                               : space == 2 ? ", height, width"
                                            : ", depth, height, width",
                               x.shape().str(), at_line(x.where),
                               sample ? "\n  hint: one sample has no batch axis; unsqueeze(x, 0) gives it one" : ""));
}

template <int Space> std::string kind_of(const char* name) { return fmt::format("{}{}d", name, Space); }

}  // namespace

template <int Space> Conv<Space>::Conv(Module& parent, const std::string& name, int64_t in, int64_t out, Ints kernel,
                                       ConvOptions o, bool with_bias, Where where)
    : Module(parent, name),
      options(std::move(o)),
      weight([&]() -> Parameter& {
        Shape s = weight_shape(*this, kind_of<Space>("Conv"), where, out, in, std::move(kernel), options, Space, in);
        return parameter("weight", s, weight_init(fan_in(s)));
      }()),
      bias(with_bias ? &parameter("bias", {out}, bias_init(fan_in(weight.shape()))) : nullptr) {}

template <int Space> Var Conv<Space>::operator()(Arg x) const {
  ModuleScope here(*this, x);
  need_batch(*this, kind_of<Space>("Conv"), x, Space, weight.shape()[1] * options.groups);
  return bias ? conv(x, weight, *bias, options) : conv(x, weight, {}, options);
}

template <int Space>
ConvTranspose<Space>::ConvTranspose(Module& parent, const std::string& name, int64_t in, int64_t out, Ints kernel,
                                    ConvOptions o, bool with_bias, Where where)
    : Module(parent, name),
      options(std::move(o)),
      weight([&]() -> Parameter& {
        Shape s = weight_shape(*this, kind_of<Space>("ConvTranspose"), where, in, out, std::move(kernel), options,
                               Space, out);
        return parameter("weight", s, weight_init(fan_in(s)));
      }()),
      bias(with_bias ? &parameter("bias", {out}, bias_init(fan_in(weight.shape()))) : nullptr) {}

template <int Space> Var ConvTranspose<Space>::operator()(Arg x) const {
  ModuleScope here(*this, x);
  need_batch(*this, kind_of<Space>("ConvTranspose"), x, Space, weight.shape()[0]);
  return bias ? conv_transpose(x, weight, *bias, options) : conv_transpose(x, weight, {}, options);
}

template struct Conv<1>;
template struct Conv<2>;
template struct Conv<3>;
template struct ConvTranspose<1>;
template struct ConvTranspose<2>;
template struct ConvTranspose<3>;

CausalConv1d::CausalConv1d(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias,
                           Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "CausalConv1d", where, {{"channels", channels}, {"width", width}}),
                       weight_init(width))),
      bias(with_bias ? &parameter("bias", {channels}, bias_init(width)) : nullptr) {}

Var CausalConv1d::operator()(Arg x, std::optional<Var> state) const {
  ModuleScope here(*this, x);
  OptionalArg b, s;
  if (bias) b = OptionalArg(*bias);
  if (state) s = OptionalArg(*state);
  return causal_conv1d(x, weight.in(x.graph()), b, s);
}

PatchEmbedding::PatchEmbedding(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t size,
                               bool bias, Where where)
    : Module(parent, name), projection(*this, "projection", in, out, Ints{size}, {.stride = {size}}, bias, where) {}

Var PatchEmbedding::operator()(Arg x) const {
  ModuleScope here(*this, x);
  Var y = projection(x);  // (B, C, rows, columns)
  return transpose(reshape(y, {y.size(0), y.size(1), y.size(2) * y.size(3)}), 1, 2);
}

std::function<Var(Arg)> max_pool_layer(PoolOptions options) {
  return [o = std::move(options)](Arg x) { return max_pool(x, o); };
}
std::function<Var(Arg)> avg_pool_layer(PoolOptions options) {
  return [o = std::move(options)](Arg x) { return avg_pool(x, o); };
}

Var global_avg_pool(Arg x) {
  LocationGuard at(x);
  Ints space;
  for (int axis = 2; axis < x.rank(); ++axis) space.push_back(axis);
  if (space.empty())
    throw ShapeError("global_avg_pool: " + x.shape().str() + " is not [B, C, space..]" + at_line(x.where));
  return mean(x, space);
}

Var flatten(Arg x) {
  LocationGuard at(x);
  const Shape& s = x.shape();
  if (s.rank() < 1) throw ShapeError("flatten: a scalar has no batch axis" + at_line(x.where));
  int64_t n = 1;
  for (int axis = 1; axis < s.rank(); ++axis) n *= s[axis];
  return reshape(x, {s[0], n});
}

}  // namespace whence::nn
