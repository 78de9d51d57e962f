#include "whence/models/pieces.h"

#include <cmath>

#include "whence/ops/ops.h"

namespace whence::models {

ScaleNorm::ScaleNorm(Module& parent, const std::string& name, int64_t features, const Options& o)
    : Module(parent, name),
      weight(parameter("weight", {features}, o.plus_one ? nn::Init::zeros() : nn::Init::ones())),
      options(o) {}

Var ScaleNorm::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Var w = weight.in(x.graph());
  if (options.plus_one) w = w + 1.0;
  return options.centred ? layer_norm(x, w, {}, options.eps) : rms_norm(x, w, options.eps);
}

DepthwiseConv::DepthwiseConv(Module& parent, const std::string& name, int64_t channels, int64_t width, bool with_bias)
    : Module(parent, name),
      weight(parameter("weight", {channels, 1, width}, nn::Init::kaiming_uniform(width, std::sqrt(5.0)))),
      bias(with_bias ? &parameter("bias", {channels}, nn::Init::kaiming_uniform(width, std::sqrt(5.0))) : nullptr) {}

Var DepthwiseConv::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  Var w = squeeze(weight.in(g), 1);
  return bias ? causal_conv1d(x, w, bias->in(g)) : causal_conv1d(x, w);
}

}  // namespace whence::models
