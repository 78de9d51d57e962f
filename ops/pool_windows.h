// The windows of a pool, as its attributes list them: for each axis of space one range of cells per window.
#pragma once
#include <algorithm>

#include "whence/autograd/attrs.h"

namespace whence {

/// Cells [begin, end) on each of three axes; missing axes come first and have one cell.
struct PoolWindow {
  int64_t begin[3], end[3];
  int64_t extra[3];  ///< of a mean: the cells that count; of a maximum: the step to the next cell
  double divisor() const { return double(std::max<int64_t>(1, extra[0] * extra[1] * extra[2])); }
  int64_t cells() const {
    return std::max<int64_t>(1, (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]));
  }
};

class PoolWindows {
 public:
  /// \param extra "count" (means) or "step" (maxima)
  PoolWindows(const Attrs& attrs, const char* extra) {
    const Ints &out = attrs.ints("out"), &begin = attrs.ints("begin"), &end = attrs.ints("end"),
               &more = attrs.ints(extra);
    size_t at = 0, axis = 3 - out.size();
    for (int64_t n : out) {
      axes_[axis++] = {n, begin.data() + at, end.data() + at, more.data() + at};
      at += size_t(n);
    }
  }
  /// f(cell of the result, window), in row-major order.
  template <class F> void each(F&& f) const {
    PoolWindow w;
    int64_t cell = 0;
    for (int64_t d = 0; d < axes_[0].n; ++d) {
      choose(0, d, w);
      for (int64_t h = 0; h < axes_[1].n; ++h) {
        choose(1, h, w);
        for (int64_t i = 0; i < axes_[2].n; ++i, ++cell) {
          choose(2, i, w);
          f(cell, w);
        }
      }
    }
  }

 private:
  static constexpr int64_t kZero = 0, kOne = 1;
  struct Axis {
    int64_t n = 1;
    const int64_t *begin = &kZero, *end = &kOne, *extra = &kOne;
  };
  void choose(int axis, int64_t window, PoolWindow& w) const {
    const Axis& a = axes_[axis];
    w.begin[axis] = a.begin[window];
    w.end[axis] = a.end[window];
    w.extra[axis] = a.extra[window];
  }
  Axis axes_[3];
};

/// Positions in the space of x [N, C, space..].
struct PoolStrides {
  int64_t depth = 1, height = 1, width;
  explicit PoolStrides(const Shape& x)
      : depth(x.rank() > 4 ? x[-3] : 1), height(x.rank() > 3 ? x[-2] : 1), width(x[-1]) {}
  int64_t cells() const { return depth * height * width; }
  int64_t cell(int64_t d, int64_t h, int64_t w) const { return (d * height + h) * width + w; }
};

}  // namespace whence
