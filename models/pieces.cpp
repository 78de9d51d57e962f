#include "whence/models/pieces.h"

#include <cmath>

#include "whence/ops/ops.h"

namespace whence::models {

ScaleNorm::ScaleNorm(Module& parent, const std::string& name, int64_t features, const Options& o)
    : Module(parent, name),
      weight(parameter("weight", {features}, o.plus_one ? nn::Init::zeros() : nn::Init::ones())),
      options(o) {}

Var ScaleNorm::operator()(Var x) const {
  Var w = weight.in(x.graph());
  if (options.plus_one) w = w + 1.0;
  return options.centred ? layer_norm(x, w, {}, options.eps) : rms_norm(x, w, options.eps);
}

DepthwiseConv::DepthwiseConv(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias)
    : Module(parent, name),
      weight(parameter("weight", {channels, 1, width}, nn::Init::kaiming_uniform(width, std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {channels}, nn::Init::kaiming_uniform(width, std::sqrt(5.0))) : nullptr) {}

Var DepthwiseConv::operator()(Var x) const {
  Graph& g = x.graph();
  Var w = squeeze(weight.in(g), 1);
  return bias ? causal_conv1d(x, w, bias->in(g)) : causal_conv1d(x, w);
}

namespace {

Shape weight_shape(int64_t in, int64_t out, const Shape& kernel, int64_t groups) {
  Shape shape{out, in / groups};
  for (int64_t k : kernel) shape.push_back(k);
  return shape;
}

}  // namespace

Convolution::Convolution(Module& parent, const std::string& name, int64_t in, int64_t out, const Shape& kernel,
                         ConvOptions o, bool with_bias)
    : Module(parent, name),
      weight(parameter("weight", weight_shape(in, out, kernel, o.groups),
                       nn::Init::kaiming_uniform(in / o.groups * kernel.numel(), std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {out}, nn::Init::zeros()) : nullptr),
      options(std::move(o)) {}

Var Convolution::operator()(Var x) const {
  Graph& g = x.graph();
  return bias ? conv(x, weight.in(g), bias->in(g), options) : conv(x, weight.in(g), {}, options);
}

}  // namespace whence::models
