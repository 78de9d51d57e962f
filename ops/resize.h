// Images in other sizes, and at other places: x [N, C, space..]. Written in other ops.
#pragma once
#include "ops/ops.h"

namespace whence {

/// nearest takes the cell below i n / m, nearest_exact the one around (i + 1/2) n / m; linear and cubic (a = -3/4)
/// interpolate along each axis, area takes means. No smoothing when shrinking. PyTorch's `interpolate`.
enum class Resize { nearest, nearest_exact, linear, cubic, area };
/// align_corners (linear, cubic): the outermost cells stay where they are; otherwise the edges of the image do.
Var resize(Arg x, const Ints& space, Resize mode = Resize::nearest, bool align_corners = false);
/// One factor per axis: floor(n factor) cells, which lie 1 / factor apart.
Var resize_by(Arg x, const std::vector<double>& factors, Resize mode = Resize::nearest, bool align_corners = false);

/// x [N, C, H, W] at the points grid [N, h, w, 2] of (column, row), from -1 to 1 across the image, linearly
/// interpolated; zeros outside. Gradients reach both, relevance goes to x.
Var grid_sample(Arg x, Arg grid, bool align_corners = false);

}  // namespace whence
