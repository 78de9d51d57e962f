// Kernels that compute in f32 and f64 only, and what inference says of their operands and statistics.
#pragma once
#include "whence/autograd/op.h"

namespace whence {

/// Operand j has operand i's dtype, or f32 beside a half.
inline void need_dtype_beside(const InferCtx& infer, int i, int j) {
  if (infer.dtype(j) != accumulate_dtype(infer.dtype(i))) infer.need_same_dtype(i, j);
}

/// Operand j is a statistic of operand i: f32 beside a half.
inline void need_statistic(const InferCtx& infer, int i, int j) {
  DType want = accumulate_dtype(infer.dtype(i));
  if (infer.dtype(j) != want)
    infer.dtype_error(infer.op.operand_name(j) + " must be " + std::string(name_of(want)) + ", got " +
                      std::string(name_of(infer.dtype(j))));
}

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
