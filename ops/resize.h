// Images in other sizes, and at other places: x [N, C, space..]. Written in other ops, gradient and relevance too. What
// the comments leave unsaid is at the head of ops/ops.h.
#pragma once
#include "whence/ops/ops.h"

namespace whence {

/// nearest takes the cell below i n / m, nearest_exact the one around (i + 1/2) n / m; linear and cubic (a = -3/4)
/// interpolate along each axis, area takes means. No smoothing when shrinking. PyTorch's `interpolate`.
enum class Resize { nearest, nearest_exact, linear, cubic, area };
/// x [N, C, n..] -> [N, C, space..]; float, nearest and nearest_exact any. align_corners (linear, cubic; else
/// ValueError): the outermost cells stay where they are, otherwise the edges of the image do. ShapeError: not one
/// extent per axis, an extent < 1, or (area) more than three axes of space.
Var resize(Arg x, const Ints& space, Resize mode = Resize::nearest, bool align_corners = false);
/// resize to floor(n factor) cells, one factor per axis; the cells lie 1 / factor apart, n / floor(n factor) for area.
Var resize_by(Arg x, const std::vector<double>& factors, Resize mode = Resize::nearest, bool align_corners = false);

/// x [N, C, H, W] at the points grid [N, h, w, 2] of (column, row), linearly interpolated, 0 outside -> [N, C, h, w];
/// float. -1 and 1 are the edges of the image, or (align_corners) its outermost cells. ShapeError: they do not fit.
/// Gradients reach both, relevance goes to x. (arXiv 1506.02025)
Var grid_sample(Arg x, Arg grid, bool align_corners = false);

}  // namespace whence
