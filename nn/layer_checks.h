// What the constructors of layers have in common: extents, eps, first values.
#pragma once
#include <source_location>

#include "whence/nn/module.h"

namespace whence::nn {

using Where = std::source_location;

/// "Linear 'encoder.up' made at model.cpp:42"
std::string made_at(const Module& layer, const std::string& kind, Where where);

struct Extent {
  const char* name;
  int64_t size;
  int64_t least = 1;
};
/// The extents as a shape. \throws ShapeError for one that is too small
Shape shape_of(const Module& layer, const std::string& kind, Where where, std::initializer_list<Extent> extents);

/// eps. \throws ValueError for a negative or infinite one
double eps_of(const Module& layer, const std::string& kind, Where where, double eps);

/// uniform(+-1/sqrt(in)), as PyTorch's biases.
Init bias_init(int64_t in);
/// PyTorch's weights of linear maps and convolutions.
Init weight_init(int64_t in);

}  // namespace whence::nn
