// Which values there are, and where they are: for preparing data, on tensors outside of any recording.
#pragma once
#include "whence/tensor/tensor.h"

namespace whence {

struct Unique {
  Tensor values;   ///< [n], ascending, of the tensor's dtype; NaN is one value, the last
  Tensor inverse;  ///< i64, shape of the tensor: where in `values` each element is
  Tensor counts;   ///< i64 [n]: how often each value is there
};
/// The distinct values of a tensor of any shape and dtype, as np.unique. 0 and -0 are one value.
Unique unique(const Tensor& tensor);

/// Indices of the elements that are not 0, i64 [n, rank], in row-major order, as torch.nonzero. NaN is not 0.
Tensor nonzero(const Tensor& tensor);

}  // namespace whence
