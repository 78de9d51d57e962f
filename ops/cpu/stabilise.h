// share R / stab(z), the division of every relevance rule.
#pragma once

#include <cstdint>

#include "whence/ops/cpu/unary_binary.h"

namespace whence::cpu {

enum class StabForm : uint8_t {
  sign,   ///< z + sigma(z) e, sigma(0) = +1
  plain,  ///< z + e
  clip,   ///< sigma(z) max(|z|, e)
};

/// out = share r / stab(z) over n elements; 0 where stab(z) is 0. out may be r.
template <class T> void divide_stabilised(const T* r, const T* z, T* out, int64_t n, StabForm form, T e, T share);

/// Root mean square of n contiguous elements, 0 when n is 0. A square that overflows T counts in double.
template <class T> double root_mean_square(const T* z, int64_t n);

/// Whole rows, each with z + sigma(z) eps max(1, rms of its z), as a loop of fused groups: params are share, eps and
/// the length of a row, n is a multiple of that length. nullptr for other names and types.
BinaryLoop find_row_loop(std::string_view name, DType dtype);

}  // namespace whence::cpu
