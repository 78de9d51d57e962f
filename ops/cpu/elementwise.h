// Elementwise kernels over broadcast, strided views: the scalar loops of unary_binary.h applied row by row.
#pragma once
#include "autograd/op.h"
#include "ops/cpu/unary_binary.h"

namespace whence::cpu {

/// The kernel of every elementwise op: picks the loop named by the op for the operand's dtype.
void elementwise(const KernelCall& call);

}  // namespace whence::cpu
