// Kernels that compute in f32 and f64 only.
#pragma once
#include "autograd/op.h"

namespace whence {

/// Calls f with a double for f64, else with a float.
template <class F> void over_floats(DType t, F&& f) {
  if (t == f64) f(double{});
  else f(float{});
}

/// `wide` on f64, `narrow` on f32: the first floating-point result (or, without one, operand) decides. Halves never
/// arrive (KernelFacts::floats).
inline void by_float(const KernelCall& call, KernelFn narrow, KernelFn wide) {
  for (std::span<const View> views : {call.out, call.in})
    for (const View& v : views)
      if (is_float(v.dtype)) return v.dtype == f64 ? wide(call) : narrow(call);
  narrow(call);
}

}  // namespace whence
