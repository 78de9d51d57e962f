#include "whence/ops/resize.h"

#include <algorithm>
#include <cmath>

#include "whence/ops/checks.h"
#include "whence/ops/conv.h"

namespace whence {
namespace {

// Result i of an axis is the sum of weight[i][k] x[cell[i][k]].
struct Taps {
  std::vector<Ints> cell;
  std::vector<std::vector<double>> weight;
};

// Cells lie `num / den` of the axis' n apart.
Taps taps_of(int64_t n, int64_t m, double num, double den, Resize mode, bool align) {
  Taps t;
  bool cubic = mode == Resize::cubic, interpolates = cubic || mode == Resize::linear;
  for (int64_t i = 0; i < m; ++i) {
    double at = double(i) * num / den;
    if (mode == Resize::nearest_exact) at = (double(i) + 0.5) * num / den;
    if (interpolates)
      at = align ? (m > 1 ? double(i * (n - 1)) / double(m - 1) : 0) : (double(i) + 0.5) * num / den - 0.5;
    if (mode == Resize::linear) at = std::max(0.0, at);
    int64_t base = int64_t(std::floor(at));
    double f = at - double(base), g = 1 - f;
    Ints cells{base};
    std::vector<double> weights{1};
    if (mode == Resize::linear) cells = {base, base + 1}, weights = {g, f};
    if (cubic) {
      auto near = [](double d) { return (1.25 * d - 2.25) * d * d + 1; };        // |d| <= 1
      auto far = [](double d) { return ((-0.75 * d + 3.75) * d - 6) * d + 3; };  // 1 < |d| < 2
      cells = {base - 1, base, base + 1, base + 2}, weights = {far(f + 1), near(f), near(g), far(g + 1)};
    }
    for (int64_t& c : cells) c = std::clamp<int64_t>(c, 0, n - 1);
    t.cell.push_back(std::move(cells));
    t.weight.push_back(std::move(weights));
  }
  return t;
}

Var along_axis(Var x, int axis, const Taps& t) {
  int64_t m = int64_t(t.cell.size()), k = m ? int64_t(t.cell[0].size()) : 1;
  Tensor cells = Tensor::empty({m, k}, i64), weights = Tensor::empty({m, k}, f64);
  for (int64_t i = 0; i < m * k; ++i) {
    cells.data<int64_t>()[i] = t.cell[size_t(i / k)][size_t(i % k)];
    weights.data<double>()[i] = t.weight[size_t(i / k)][size_t(i % k)];
  }
  if (k == 1) return gather(x, x.graph().constant(cells.reshaped({m})), axis);
  Shape s{m, k};
  for (int a = axis + 1; a < x.rank(); ++a) s.push_back(1);
  Var taps = gather(x, x.graph().constant(cells), axis);  // [.., m, k, ..]
  return sum(taps * x.graph().constant(weights.to(x.dtype()).reshaped(s)), {axis + 1});
}

void check(const Arg& x, size_t axes, const char* op) {
  if (x.rank() < 3 || int(axes) != x.rank() - 2)
    throw ShapeError(std::string("[") + op + "] needs one value per axis of space of x [N, C, ..], got " +
                     std::to_string(axes) + " for " + x.shape().str());
  for (int a = 2; a < x.rank(); ++a)
    if (x.shape()[a] < 1) throw ShapeError(std::string("[") + op + "] x has no cells: " + x.shape().str());
}

// Without factors, cells lie as far apart as the sizes say.
Var resampled(const Arg& x, const Ints& space, const std::vector<double>& factors, Resize mode, bool align) {
  if (align && mode != Resize::linear && mode != Resize::cubic)
    throw ValueError("[resize] align_corners goes with linear and cubic");
  for (int64_t m : space)
    if (m < 1 || m > INT32_MAX) throw ShapeError("[resize] sizes must be positive and below 2^31");
  if (mode == Resize::area) return adaptive_avg_pool(x, space);
  const bool interpolates = mode == Resize::linear || mode == Resize::cubic;
  if (interpolates) need_float(x, "resize");
  Var y = interpolates ? widened(x) : x.var;
  for (size_t i = 0; i < space.size(); ++i) {
    int64_t n = x.shape()[int(i) + 2];
    bool by_size = factors.empty();
    y = or_out_of_memory("[resize]", [&] {
      return along_axis(
          y, int(i) + 2,
          taps_of(n, space[i], by_size ? double(n) : 1, by_size ? double(space[i]) : factors[i], mode, align));
    });
  }
  return cast(y, x.dtype());
}

}  // namespace

Var resize(Arg x, const Ints& space, Resize mode, bool align_corners) {
  LocationGuard at(x);
  check(x, space.size(), "resize");
  return resampled(x, space, {}, mode, align_corners);
}

Var resize_by(Arg x, const std::vector<double>& factors, Resize mode, bool align_corners) {
  LocationGuard at(x);
  check(x, factors.size(), "resize_by");
  Ints space;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double cells = std::floor(double(x.shape()[int(i) + 2]) * factors[i]);
    if (!(cells >= 1 && cells <= INT32_MAX)) throw ShapeError("[resize] sizes must be positive and below 2^31");
    space.push_back(int64_t(cells));
  }
  return resampled(x, space, factors, mode, align_corners);
}

Var grid_sample(Arg x, Arg grid, bool align_corners) {
  LocationGuard at(x);
  check(x, 2, "grid_sample");
  const Shape &s = x.shape(), &p = grid.shape();
  if (p.rank() != 4 || p[0] != s[0] || p[3] != 2)
    throw ShapeError("[grid_sample] grid must be [" + std::to_string(s[0]) + ", h, w, 2], got " + p.str());
  need_float(x, "grid_sample");
  need_same_dtype(x, grid, "grid_sample");
  Graph& g = x.graph();
  Var wide = widened(grid);
  int64_t N = s[0], C = s[1], size[2] = {s[3], s[2]};  // columns, rows
  Var cells = reshape(permute(widened(x), {0, 2, 3, 1}), {N * s[2] * s[3], C});
  Var first[2], part[2];  // the cell before the point, and how far behind it the point lies; [N, h, w]
  for (int a : {0, 1}) {
    double n = double(size[a]);
    Var u = (select(wide, -1, a) + 1.0) * (align_corners ? (n - 1) / 2 : n / 2);
    if (!align_corners) u = u - 0.5;
    u = clamp(u, -2, n + 1);  // farther out lies nothing, and infinity has no place between two cells
    first[a] = floor(u);
    part[a] = u - first[a];
  }
  Var image = reshape(arange(g, N), {N, 1, 1}), total;
  for (int corner = 0; corner < 4; ++corner) {
    Var index = image, weight, inside;
    for (int a : {1, 0}) {
      bool after = corner >> a & 1;
      double last = double(size[a] - 1);
      Var cell = first[a] + double(after), w = after ? part[a] : 1.0 - part[a],
          in = logical_and(greater_equal(cell, 0.0), less_equal(cell, last));
      index = index * double(size[a]) + cast(clamp(cell, 0, last), i64);
      weight = weight.defined() ? weight * w : w;
      inside = inside.defined() ? logical_and(inside, in) : in;
    }
    Var cell = where(unsqueeze(inside, -1), gather(cells, index, 0), 0.0);  // [N, h, w, C]
    Var term = cell * stop_relevance(unsqueeze(weight, -1));
    total = total.defined() ? total + term : term;
  }
  return cast(permute(total, {0, 3, 1, 2}), x.dtype());
}

}  // namespace whence
