// Running one op on tensors of the host: what immediate graphs and diagnosis use. Same kernels as planned execution.
#pragma once
#include <span>
#include <vector>

#include "whence/autograd/op.h"
#include "whence/tensor/tensor.h"

namespace whence {

/// Runs op's view, kernel, or (fused ops without a kernel) its body. Operands and results of dtypes that the kernel
/// does not take are cast, as the planner does. \throws MissingKernel naming the op and dtypes, ValueError for data
/// that the kernel refuses
std::vector<Tensor> run_op(const OpDef& op, std::span<const Tensor> in, std::span<const TensorType> out,
                           const Attrs& attrs);

}  // namespace whence
