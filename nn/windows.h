// What attention near by needs: windows of tokens or of cells, and tables of relative positions.
#pragma once
#include "whence/ops/ops.h"

namespace whence::nn {

/// A bias [1, 1, T, T]: 0 where before > i - j > -after (query i, key j), else minus infinity.
Var distance_bias(Graph& g, int64_t T, double before, double after, DType dtype);

/// Buckets [T, S] (i64) of T5's relative positions (Raffel et al. 2020, arXiv 1910.10683): exact up to half of them,
/// then logarithmic up to `furthest`. Both ways: half of the buckets are for keys ahead. Query i stands at `first` + i.
Tensor relative_buckets(int64_t T, int64_t S, bool both_ways, int64_t buckets, int64_t furthest, int64_t first = 0);

// Swin's windows (Liu et al. 2021, arXiv 2103.14030) of w x w cells.
/// [B, H, W, C] -> [B windows, w w, C]. \throws ShapeError unless w divides H and W
Var to_windows(Arg x, int64_t w);
/// Back to a grid [B, H, W, C].
Var from_windows(Arg x, const Shape& grid, int64_t w);
/// Where in a table of (2 w - 1)^2 offsets each pair of cells of a window stands: [w w, w w] i64.
Tensor window_offsets(int64_t w);
/// After a shift, windows at the far edge hold cells of up to four regions, which must not see one another: a bias
/// [windows, 1, w w, w w], 0 within a region and -100 between two.
Var window_regions(Graph& g, int64_t H, int64_t W, int64_t w, int64_t shift, DType dtype);

}  // namespace whence::nn
