// Composites on matrices, windows and images: triangles, diagonals, unfolded windows, pixel shuffles.
#include <algorithm>

#include "whence/ops/composite.h"

namespace whence {

namespace {

// [rows, columns] of j - i
Var distance(Graph& g, int64_t rows, int64_t columns) { return arange(g, columns) - unsqueeze(arange(g, rows), -1); }

// start + i * stride + j * dilation, [windows, size]
Var window_index(Graph& g, int64_t windows, int64_t stride, int64_t size, int64_t dilation) {
  return unsqueeze(arange(g, windows) * double(stride), -1) + arange(g, size) * double(dilation);
}

int64_t window_count(const char* op, int64_t extent, int64_t size, int64_t stride, int64_t dilation) {
  for (int64_t v : {size, stride, dilation})
    if (v < 1 || v > INT32_MAX)
      throw ValueError(std::string("[") + op + "] window size, stride and dilation must be positive and below 2^31");
  int64_t span = (size - 1) * dilation + 1;
  if (span > extent)
    throw ShapeError(std::string("[") + op + "] a window spans " + std::to_string(span) + " elements, the axis has " +
                     std::to_string(extent));
  return (extent - span) / stride + 1;
}

void check_window(const char* op, const Window& w) {
  if (w.kernel.size() != 2 || w.stride.size() != 2 || w.padding.size() != 2 || w.dilation.size() != 2)
    throw ValueError(std::string("[") + op + "] kernel, stride, padding and dilation need two entries each");
  for (int64_t p : w.padding)
    if (p < 0 || p > INT32_MAX)
      throw ValueError(std::string("[") + op + "] padding must not be negative, and below 2^31");
}

}  // namespace

Var tril(Arg x, int64_t diagonal) {
  LocationGuard at(x);
  if (x.rank() < 2) throw ShapeError("[tril] x needs two axes, got " + x.shape().str());
  return where(less_equal(distance(x.graph(), x.shape()[-2], x.shape()[-1]), double(diagonal)), x, 0.0);
}
Var triu(Arg x, int64_t diagonal) {
  LocationGuard at(x);
  if (x.rank() < 2) throw ShapeError("[triu] x needs two axes, got " + x.shape().str());
  return where(greater_equal(distance(x.graph(), x.shape()[-2], x.shape()[-1]), double(diagonal)), x, 0.0);
}

Var diagonal(Arg x, int64_t offset, int64_t a, int64_t b) {
  LocationGuard at(x);
  int rank = x.rank(), u = normalize_axis(a, rank), v = normalize_axis(b, rank);
  if (u == v) throw ShapeError("[diagonal] needs two different axes");
  Ints axes;
  for (int i = 0; i < rank; ++i)
    if (i != u && i != v) axes.push_back(i);
  axes.push_back(u);
  axes.push_back(v);
  Var y = permute(x, axes);
  int64_t rows = y.shape()[-2], columns = y.shape()[-1];
  offset = std::clamp(offset, -rows, columns);  // beyond lies nothing
  int64_t i0 = offset < 0 ? -offset : 0, j0 = offset > 0 ? offset : 0,
          n = std::max<int64_t>(0, std::min(rows - i0, columns - j0));
  Shape flat = y.shape();
  flat.erase(rank - 1);
  flat[-1] = rows * columns;
  Var at_diagonal = arange(x.graph(), n) * double(columns + 1) + double(i0 * columns + j0);
  return gather(reshape(y, flat), at_diagonal, -1);
}

Var unfold(Arg x, int64_t axis, int64_t size, int64_t step) {
  LocationGuard at(x);
  int a = normalize_axis(axis, x.rank());
  int64_t n = window_count("unfold", x.shape()[a], size, step, 1);
  Var y = gather(x, window_index(x.graph(), n, step, size, 1), a);
  Ints axes;
  for (int i = 0; i < y.rank(); ++i)
    if (i != a + 1) axes.push_back(i);
  axes.push_back(a + 1);
  return permute(y, axes);
}

Var im2col(Arg x, const Window& w) {
  LocationGuard at(x);
  check_window("im2col", w);
  if (x.rank() != 4) throw ShapeError("[im2col] x must be [B, C, H, W], got " + x.shape().str());
  Graph& g = x.graph();
  Var y = pad(x, {0, 0, 0, 0, w.padding[0], w.padding[0], w.padding[1], w.padding[1]});
  int64_t oh = window_count("im2col", y.shape()[2], w.kernel[0], w.stride[0], w.dilation[0]);
  int64_t ow = window_count("im2col", y.shape()[3], w.kernel[1], w.stride[1], w.dilation[1]);
  y = gather(y, window_index(g, oh, w.stride[0], w.kernel[0], w.dilation[0]), 2);  // [B, C, oh, kh, W]
  y = gather(y, window_index(g, ow, w.stride[1], w.kernel[1], w.dilation[1]), 4);  // [B, C, oh, kh, ow, kw]
  return reshape(permute(y, {0, 1, 3, 5, 2, 4}), {x.shape()[0], x.shape()[1] * w.kernel[0] * w.kernel[1], oh * ow});
}

Var col2im(Arg x, int64_t height, int64_t width, const Window& w) {
  LocationGuard at(x);
  check_window("col2im", w);
  check_extents({height, width});
  int64_t h = height + 2 * w.padding[0], v = width + 2 * w.padding[1];
  int64_t oh = window_count("col2im", h, w.kernel[0], w.stride[0], w.dilation[0]);
  int64_t ow = window_count("col2im", v, w.kernel[1], w.stride[1], w.dilation[1]);
  int64_t taps = w.kernel[0] * w.kernel[1];
  check_extents({oh, ow});
  if (x.rank() != 3 || x.shape()[1] % taps || x.shape()[2] != oh * ow)
    throw ShapeError("[col2im] x must be [B, C * " + std::to_string(taps) + ", " + std::to_string(oh * ow) + "], got " +
                     x.shape().str());
  Graph& g = x.graph();
  Var y =
      permute(reshape(x, {x.shape()[0], x.shape()[1] / taps, w.kernel[0], w.kernel[1], oh, ow}), {0, 1, 4, 2, 5, 3});
  y = segment_sum(y, window_index(g, ow, w.stride[1], w.kernel[1], w.dilation[1]), 4, v);  // [B, C, oh, kh, W]
  y = segment_sum(y, window_index(g, oh, w.stride[0], w.kernel[0], w.dilation[0]), 2, h);
  return pad(y, {0, 0, 0, 0, -w.padding[0], -w.padding[0], -w.padding[1], -w.padding[1]});
}

namespace {
struct Image {
  Shape lead;
  int64_t c, h, w;
};
Image image(const char* op, const Arg& x, int64_t r) {
  if (x.rank() < 3) throw ShapeError(std::string("[") + op + "] x needs [.., C, H, W], got " + x.shape().str());
  if (r < 1 || r > INT32_MAX) throw ValueError(std::string("[") + op + "] factor must be positive and below 2^31");
  Image i{x.shape(), x.shape()[-3], x.shape()[-2], x.shape()[-1]};
  for (int k = 0; k < 3; ++k) i.lead.erase(i.lead.rank() - 1);
  return i;
}
Var regroup(const Arg& x, const Image& i, std::initializer_list<int64_t> split, std::initializer_list<int64_t> order,
            std::initializer_list<int64_t> joined) {
  Shape s = i.lead, t = i.lead;
  for (int64_t n : split) s.push_back(n);
  for (int64_t n : joined) t.push_back(n);
  Ints axes;
  for (int a = 0; a < i.lead.rank(); ++a) axes.push_back(a);
  for (int64_t a : order) axes.push_back(i.lead.rank() + a);
  return reshape(permute(reshape(x, s), axes), t);
}
}  // namespace

Var pixel_shuffle(Arg x, int64_t r) {
  LocationGuard at(x);
  Image i = image("pixel_shuffle", x, r);
  if (i.c % (r * r))
    throw ShapeError("[pixel_shuffle] " + std::to_string(i.c) + " channels are no multiple of " +
                     std::to_string(r * r));
  return regroup(x, i, {i.c / (r * r), r, r, i.h, i.w}, {0, 3, 1, 4, 2},
                 {i.c / (r * r), multiply_extents(i.h, r), multiply_extents(i.w, r)});
}
Var pixel_unshuffle(Arg x, int64_t r) {
  LocationGuard at(x);
  Image i = image("pixel_unshuffle", x, r);
  if (i.h % r || i.w % r)
    throw ShapeError("[pixel_unshuffle] " + x.shape().str() + " is no multiple of " + std::to_string(r));
  return regroup(x, i, {i.c, i.h / r, r, i.w / r, r}, {0, 2, 4, 1, 3},
                 {multiply_extents(i.c, r * r), i.h / r, i.w / r});
}

}  // namespace whence
