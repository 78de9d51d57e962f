// bf16 and f16 are for storage: kernels compute in f32 or f64.
#pragma once
#include <functional>

#include "autograd/op.h"

namespace whence::cpu {

/// Runs `kernel` with f32 in the place of bf16 and f16: operands are converted, results are rounded once, at the end.
/// Without such operands and results, on the call as it is.
void widened(const KernelCall& call, const std::function<void(const KernelCall&)>& kernel);

/// `wide` on f64 operands, `narrow` on all others, widened. The first floating-point result (or, without one, operand)
/// decides.
void in_f32_or_f64(const KernelCall& call, KernelFn narrow, KernelFn wide);

/// For a kernel that tells f32 from f64 itself: `.cpu = cpu::for_halves<kernel>`.
template <KernelFn kernel> void for_halves(const KernelCall& call) { widened(call, kernel); }

}  // namespace whence::cpu
