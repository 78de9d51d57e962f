// Layers that several models share: norms without a bias, depthwise convolutions as HuggingFace stores them.
#pragma once
#include "whence/nn/module.h"

namespace whence::models {

/// layer_norm or rms_norm over the last axis, times weight [features], or times 1 + weight (which starts at 0 then).
struct ScaleNorm : nn::Module {
  struct Options {
    bool centred = false;  ///< layer_norm, else rms_norm
    double eps = 1e-6;
    bool plus_one = false;
  };
  ScaleNorm(Module& parent, const std::string& name, int64_t features, const Options& options);
  Var operator()(Var x) const;
  nn::Parameter& weight;
  Options options;
};

/// Causal and depthwise over time: x [B, T, C]; weight [C, 1, K], bias [C].
struct DepthwiseConv : nn::Module {
  DepthwiseConv(Module& parent, const std::string& name, int64_t channels, int64_t width, bool bias = true);
  Var operator()(Var x) const;
  nn::Parameter& weight;
  nn::Parameter* bias;  ///< null: none
};

}  // namespace whence::models
