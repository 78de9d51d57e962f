// Normalisation layers. Errors as in nn/layers.h.
#pragma once
#include <source_location>

#include "whence/nn/module.h"

namespace whence::nn {

/// Over the last axis; weight and bias [features].
struct LayerNorm : Module {
  LayerNorm(Module& parent, const std::string& name, int64_t features, double eps = 1e-5,
            std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Parameter &weight, &bias;
  double eps;
};

struct RMSNorm : Module {
  RMSNorm(Module& parent, const std::string& name, int64_t features, double eps = 1e-6,
          std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Parameter& weight;
  double eps;
};

/// Per channel (axis 1) over all other axes; weight, bias, running_mean, running_var [C]. A training graph
/// (Graph::training) normalises with the batch's own statistics (biased variance) and moves the running ones, running =
/// (1 - momentum) running + momentum batch (unbiased variance); elsewhere the running ones normalise. Applied several
/// times in one recording, every batch moves them, in the order of recording. eps positive, momentum in [0, 1].
/// (arXiv 1502.03167)
struct BatchNorm : Module {
  BatchNorm(Module& parent, const std::string& name, int64_t channels, double eps = 1e-5, double momentum = 0.1,
            std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Parameter &weight, &bias, &running_mean, &running_var;
  double eps, momentum;
};

/// Over the channels of each of `groups` groups and all axes of space: x [B, C, ..]; weight and bias [C]. ShapeError:
/// groups do not divide the channels. (arXiv 1803.08494)
struct GroupNorm : Module {
  GroupNorm(Module& parent, const std::string& name, int64_t groups, int64_t channels, double eps = 1e-5,
            std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  int64_t groups;
  Parameter &weight, &bias;
  double eps;
};

/// Over the axes of space, each channel of each sample by itself: x [B, C, ..]; weight and bias [C] when affine.
/// (arXiv 1607.08022)
struct InstanceNorm : Module {
  InstanceNorm(Module& parent, const std::string& name, int64_t channels, double eps = 1e-5, bool affine = false,
               std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Parameter *weight = nullptr, *bias = nullptr;
  int64_t channels;
  double eps;
};

}  // namespace whence::nn
