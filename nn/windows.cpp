#include "whence/nn/windows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace whence::nn {

Var distance_bias(Graph& g, int64_t T, double before, double after, DType dtype) {
  Var distance = unsqueeze(arange(g, T, dtype), 1) - unsqueeze(arange(g, T, dtype), 0);
  Var near = logical_and(less(distance, before), greater(distance, -after));
  const double hidden = -std::numeric_limits<double>::infinity();
  return reshape(where(near, g.constant(0, dtype), g.constant(hidden, dtype)), {1, 1, T, T});
}

Tensor relative_buckets(int64_t T, int64_t S, bool both_ways, int64_t buckets, int64_t furthest, int64_t first) {
  Tensor t = Tensor::zeros({T, S}, i64);
  if (both_ways) buckets /= 2;
  const int64_t exact = buckets / 2;
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < S; ++j) {
      const int64_t ahead = j - i - first, bucket = both_ways && ahead > 0 ? buckets : 0;
      int64_t d = both_ways ? std::abs(ahead) : std::max<int64_t>(-ahead, 0);
      if (d >= exact) {
        const double far = std::log(double(d) / double(exact)) / std::log(double(furthest) / double(exact));
        d = std::min(exact + int64_t(far * double(buckets - exact)), buckets - 1);
      }
      t.data<int64_t>()[i * S + j] = bucket + d;
    }
  return t;
}

Var to_windows(Arg x, int64_t w) {
  LocationGuard at(x);
  const Shape& s = x.shape();
  if (s.rank() != 4 || w < 1 || s[1] % w || s[2] % w)
    throw ShapeError("to_windows: " + s.str() + " is not [B, H, W, C] with H and W multiples of " + std::to_string(w) +
                     at_line(x.where));
  const int64_t B = s[0], h = s[1] / w, v = s[2] / w, C = s[3];
  return reshape(permute(reshape(x, {B, h, w, v, w, C}), {0, 1, 3, 2, 4, 5}), {B * h * v, w * w, C});
}

Var from_windows(Arg x, const Shape& grid, int64_t w) {
  LocationGuard at(x);
  const int64_t B = grid[0], h = grid[1] / w, v = grid[2] / w, C = x.shape()[2];
  return reshape(permute(reshape(x, {B, h, v, w, w, C}), {0, 1, 3, 2, 4, 5}), {B, grid[1], grid[2], C});
}

Tensor window_offsets(int64_t w) {
  Tensor t = Tensor::zeros({w * w, w * w}, i64);
  for (int64_t i = 0; i < w * w; ++i)
    for (int64_t j = 0; j < w * w; ++j)
      t.data<int64_t>()[i * w * w + j] = (i / w - j / w + w - 1) * (2 * w - 1) + i % w - j % w + w - 1;
  return t;
}

Var window_regions(Graph& g, int64_t H, int64_t W, int64_t w, int64_t shift, DType dtype) {
  Tensor region = Tensor::zeros({1, H, W, 1}, f64);
  auto part = [&](int64_t i, int64_t n) { return i < n - w ? 0 : i < n - shift ? 1 : 2; };
  for (int64_t i = 0; i < H * W; ++i) region.data<double>()[i] = 3 * part(i / W, H) + part(i % W, W);
  Var r = squeeze(to_windows(g.constant(region.to(dtype)), w), -1);  // (windows, w w)
  return unsqueeze(where(equal(unsqueeze(r, 1), unsqueeze(r, 2)), g.constant(0, dtype), g.constant(-100, dtype)), 1);
}

}  // namespace whence::nn
