// Running one op on tensors: what immediate graphs and diagnosis use. Same kernels as planned execution.
#pragma once
#include <span>
#include <vector>

#include "autograd/op.h"

namespace whence {

/// Runs op's view, kernel, or (fused ops without a kernel) its body. Random ops draw from `seed`.
/// \throws MissingKernel naming the op and dtypes.
std::vector<Tensor> run_kernel(const OpDef& op, std::span<const Tensor> in, std::span<const TensorType> out,
                               const Attrs& attrs, uint64_t seed);

}  // namespace whence
