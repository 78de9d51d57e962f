// Kernels that compute in f32 and f64 only.
#pragma once
#include <string>

#include "autograd/op.h"

namespace whence {

/// Calls f with a float or a double, by dtype. \throws MissingKernel for storage types.
template <class F> void over_floats(const char* op, DType t, F&& f) {
  if (t == f64) f(double{});
  else if (t == f32) f(float{});
  else
    throw MissingKernel(std::string("[") + op + "] has no cpu kernel for " + std::string(name_of(t)) + "; cast to f32");
}

}  // namespace whence
