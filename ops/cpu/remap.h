// Separable data movement: out[i, j, ..] = x[from_0[i], from_1[j], ..], one table per axis.
#pragma once
#include <cstdint>
#include <vector>

#include "tensor/view.h"

namespace whence::cpu {

/// Per axis of the result: which position of x it shows. kFill shows the fill value; an empty table is the identity.
using AxisMaps = std::vector<std::vector<int64_t>>;
inline constexpr int64_t kFill = -1;

/// Any dtype, any strides of x; `out` is contiguous. Wherever one axis says kFill, `fill` (converted) is written.
void remap(const View& x, const View& out, const AxisMaps& maps, double fill = 0);

/// The adjoint for f32 and f64, both contiguous: dx[from_0[i], from_1[j], ..] += dy[i, j, ..], axis by axis in a fixed
/// order, so equal on every run.
void remap_adjoint(const View& dy, const View& dx, const AxisMaps& maps);

}  // namespace whence::cpu
