// bf16 and f16 are for storage: kernels compute in f32 or f64.
#pragma once
#include "autograd/op.h"

namespace whence::cpu {

/// Runs `wide` on f64 operands and `narrow` on f32 ones. With bf16 or f16 operands `narrow` runs on f32 copies and its
/// results are rounded once, at the end. The first floating-point result (or, without one, operand) decides.
void in_f32_or_f64(const KernelCall& call, KernelFn narrow, KernelFn wide);

}  // namespace whence::cpu
