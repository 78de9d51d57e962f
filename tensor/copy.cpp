// The one strided copy. Axes are ordered by the destination's memory and merged; what is left is cut into blocks of two
// axes, `row` and `run`, which the cores share. A block is moved as bits: runs of bytes, or a transposition in
// registers where the source's innermost axis is not the destination's. Another dtype is converted on the way, block by
// block.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "whence/tensor/convert.h"
#include "whence/tensor/error.h"
#include "whence/tensor/parallel.h"
#include "whence/tensor/run.h"
#include "whence/tensor/view.h"

namespace whence {
namespace {

struct Axis {
  int64_t n, s, d;  // extent, stride of the source, stride of the destination, in elements
};

// ---- blocks of elements that are only moved ------------------------------------------------------------------------

// Registers of the compiler's own kind: one lane of 16 bytes (SSE2, NEON), or two.
template <class U> struct Register {
#ifdef __AVX2__
  static constexpr int kBytes = sizeof(U) >= 4 ? 32 : 16;
#else
  static constexpr int kBytes = 16;
#endif
  static constexpr int W = kBytes / sizeof(U), P = 16 / sizeof(U);  // elements of a register, of a lane
  typedef U V __attribute__((vector_size(kBytes)));

  // Elements of a and b taken in turn, within each lane: of the first half (FROM = 0) or the second (P / 2).
  template <int FROM, int... I> static V zip(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / P * P + FROM + I % P / 2 + I % 2 * W)...);
  }
  // The first (FROM = 0) or second (P) lanes of a and b.
  template <int FROM, int... I> static V lanes(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (FROM + I % P + I / P * W)...);
  }
};

// y[j * ld_y + i] = x[i * ld_x + j] for i, j < W. Each stage zips row i of a group of P with row i + P/2: log2(P) of
// them transpose the squares of P x P; then the lanes change places.
template <class U> inline void turn_square(const U* x, int64_t ld_x, U* y, int64_t ld_y) {
  using R = Register<U>;
  constexpr int W = R::W, P = R::P;
  constexpr auto all = std::make_integer_sequence<int, W>{};
  typename R::V r[W], z[W];
#pragma GCC unroll 16
  for (int k = 0; k < W; ++k) std::memcpy(&r[k], x + k * ld_x, R::kBytes);
#pragma GCC unroll 4
  for (int stage = 1; stage < P; stage *= 2) {
#pragma GCC unroll 16
    for (int k = 0; k < W / 2; ++k) {
      const int g = k / (P / 2) * P, i = k % (P / 2);
      z[g + 2 * i] = R::template zip<0>(r[g + i], r[g + i + P / 2], all);
      z[g + 2 * i + 1] = R::template zip<P / 2>(r[g + i], r[g + i + P / 2], all);
    }
#pragma GCC unroll 16
    for (int k = 0; k < W; ++k) r[k] = z[k];
  }
  if constexpr (W == 2 * P) {
#pragma GCC unroll 16
    for (int k = 0; k < P; ++k) {
      z[k] = R::template lanes<0>(r[k], r[k + P], all);
      z[k + P] = R::template lanes<P>(r[k], r[k + P], all);
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < W; ++k) std::memcpy(y + k * ld_y, &z[k], R::kBytes);
}

// y[j * ld_y + i] = x[i * ld_x + j], i < rows, j < columns. Squares that share lines of y follow each other, but where
// rows of x fall on the same lines of the first cache, as few of them as can be are read at a time.
template <class U> void turn(const U* x, int64_t ld_x, U* y, int64_t ld_y, int64_t rows, int64_t columns) {
  constexpr int64_t W = Register<U>::W, line = 64 / sizeof(U), alias = 4096 / sizeof(U);
  const int64_t h = rows / W * W, w = columns / W * W, step = ld_x % alias == 0 && ld_y % alias != 0 ? W : line;
  for (int64_t i0 = 0; i0 < h; i0 += step)
    for (int64_t j = 0; j < w; j += W)
      for (int64_t i = i0; i < std::min(h, i0 + step); i += W)
        turn_square(x + i * ld_x + j, ld_x, y + j * ld_y + i, ld_y);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = j < w ? h : 0; i < rows; ++i) y[j * ld_y + i] = x[i * ld_x + j];
}

template <class U> void move_as(const U* x, U* y, Axis row, Axis run) {
  if (run.d == 1 && row.s == 1 && run.s != 1 && row.n > 1) return turn(x, run.s, y, row.d, run.n, row.n);
  for (int64_t j = 0; j < row.n; ++j, x += row.s, y += row.d) {
    if (run.d == 1) copy_run(x, run.s, y, run.n);
    else
      for (int64_t i = 0; i < run.n; ++i) y[i * run.d] = x[i * run.s];
  }
}

using Move = void (*)(const void* x, void* y, Axis row, Axis run);
Move mover(size_t size) {
  return with_bits(size, [](auto u) -> Move {
    using U = decltype(u);
    return [](const void* x, void* y, Axis row, Axis run) {
      move_as(static_cast<const U*>(x), static_cast<U*>(y), row, run);
    };
  });
}

// ---- blocks that are converted -------------------------------------------------------------------------------------

constexpr int64_t kBlock = 4096;  // elements: both sides of a block stay in the first cache
constexpr int64_t kSide = 64;

// Whether the rows of a block follow each other without gaps, by the strides of one side.
bool dense(const Axis& row, const Axis& run, int64_t Axis::*stride) {
  return (run.*stride == 1 || run.n == 1) && (row.*stride == run.n || row.n == 1);
}

struct Converter {
  ConvertRun convert;
  Move from, to;
  size_t x_size, y_size;

  // Conversion wants long runs without gaps on both sides: a side that has none passes through a packed block.
  void block(const std::byte* x, std::byte* y, Axis row, Axis run) const {
    alignas(64) std::byte packed[kBlock * 8], made[kBlock * 8];
    const bool x_runs = run.s == 1 && run.n >= 32, y_runs = run.d == 1 && run.n >= 32;
    if (!dense(row, run, &Axis::s) && !(x_runs && y_runs)) {
      from(x, packed, {row.n, row.s, run.n}, {run.n, run.s, 1});
      x = packed;
      row.s = run.n;
      run.s = 1;
    }
    if (dense(row, run, &Axis::s) && dense(row, run, &Axis::d)) {
      convert(x, y, row.n * run.n, nullptr);
    } else if (y_runs) {
      for (int64_t j = 0; j < row.n; ++j)
        convert(x + j * row.s * int64_t(x_size), y + j * row.d * int64_t(y_size), run.n, nullptr);
    } else {
      convert(x, made, row.n * run.n, nullptr);
      to(made, y, {row.n, run.n, row.d}, {run.n, 1, run.d});
    }
  }
};

// ---- the walk ------------------------------------------------------------------------------------------------------

struct Walk {
  std::array<Axis, Shape::kMaxRank + 2> axis;  // outer axes, then the tiles of `row` and of `run`
  int rank = 0;
  Axis row{1, 0, 0}, run{1, 0, 0};
  int64_t row_tile = 1, run_tile = 1;
};

// Axes in the order of dst's memory, merged where both sides run on. Strides of dst become positive.
int order(const View& src, const View& dst, const std::byte*& x, std::byte*& y, Axis* axis) {
  int count = 0;
  for (int a = 0; a < src.shape.rank(); ++a) {
    Axis now{src.shape[a], src.strides[a], dst.strides[a]};
    if (now.n == 1) continue;
    if (now.d < 0) {
      x += now.s * (now.n - 1) * int64_t(size_of(src.dtype));
      y += now.d * (now.n - 1) * int64_t(size_of(dst.dtype));
      now.s = -now.s;
      now.d = -now.d;
    }
    int at = count++;
    for (; at > 0 && axis[at - 1].d < now.d; --at) axis[at] = axis[at - 1];
    axis[at] = now;
  }
  if (count == 0) axis[count++] = {1, 1, 1};
  int kept = 1;
  for (int a = 1; a < count; ++a) {
    Axis &last = axis[kept - 1], now = axis[a];
    if (last.s == now.s * now.n && last.d == now.d * now.n) last = {last.n * now.n, now.s, now.d};
    else axis[kept++] = now;
  }
  return kept;
}

Walk plan(const Axis* axis, int rank) {
  Walk w;
  w.run = axis[rank - 1];
  // The source's innermost axis, if it is another one, is the row: the block is turned. Else the next axis is.
  int second = rank - 2;
  int64_t least = std::abs(w.run.s);
  for (int a = 0; a < rank - 1; ++a)
    if (axis[a].s != 0 && std::abs(axis[a].s) < least) {
      least = std::abs(axis[a].s);
      second = a;
    }
  const bool turned = least < std::abs(w.run.s);
  if (second >= 0) w.row = axis[second];
  auto fit = [](int64_t n, int64_t most) { return n <= most ? n : most < kSide ? most : most / kSide * kSide; };
  w.run_tile = fit(w.run.n, turned ? kSide : kBlock);
  w.row_tile = fit(w.row.n, kBlock / w.run_tile);
  w.run_tile = fit(w.run.n, kBlock / w.row_tile);
  for (int a = 0; a < rank - 1; ++a)
    if (a != second) w.axis[size_t(w.rank++)] = axis[a];
  auto tiles = [&](const Axis& of, int64_t tile) {
    w.axis[size_t(w.rank++)] = {(of.n + tile - 1) / tile, of.s * tile, of.d * tile};
  };
  tiles(w.row, w.row_tile);
  tiles(w.run, w.run_tile);
  return w;
}

// Calls block(x, y, row, run) for the blocks [begin, end) of the walk.
template <class F> void blocks(const Walk& w, int64_t begin, int64_t end, const std::byte* x, size_t x_size,
                               std::byte* y, size_t y_size, F&& block) {
  std::array<int64_t, Shape::kMaxRank + 2> at;
  int64_t from = 0, to = 0;
  for (int64_t a = w.rank - 1, rest = begin; a >= 0; --a) {
    const Axis& axis = w.axis[size_t(a)];
    at[size_t(a)] = rest % axis.n;
    rest /= axis.n;
    from += at[size_t(a)] * axis.s;
    to += at[size_t(a)] * axis.d;
  }
  const size_t last = size_t(w.rank) - 1;
  for (int64_t t = begin; t < end; ++t) {
    Axis row = w.row, run = w.run;
    row.n = std::min(w.row_tile, row.n - at[last - 1] * w.row_tile);
    run.n = std::min(w.run_tile, run.n - at[last] * w.run_tile);
    block(x + from * int64_t(x_size), y + to * int64_t(y_size), row, run);
    for (size_t a = last + 1; a-- > 0;) {
      const Axis& axis = w.axis[a];
      from += axis.s;
      to += axis.d;
      if (++at[a] < axis.n) break;
      from -= axis.s * axis.n;
      to -= axis.d * axis.n;
      at[a] = 0;
    }
  }
}

}  // namespace

void copy(const View& src, const View& dst) {
  if (!(src.shape == dst.shape)) throw ShapeError("copy: " + src.shape.str() + " into " + dst.shape.str());
  if (src.numel() == 0) return;
  const bool same = src.dtype == dst.dtype;
  if (same && src.data == dst.data && src.strides == dst.strides) return;
  const size_t x_size = size_of(src.dtype), y_size = size_of(dst.dtype);
  auto x = static_cast<const std::byte*>(src.data);
  auto y = static_cast<std::byte*>(dst.data);
  std::array<Axis, Shape::kMaxRank> axis;
  const int rank = order(src, dst, x, y, axis.data());
  const ConvertRun convert = convert_run(src.dtype, dst.dtype);
  if (!same && rank == 1 && axis[0].s == 0) {  // one value for all is converted once
    alignas(8) std::byte one[8];
    convert(x, one, 1, nullptr);
    return copy({one, dst.dtype, src.shape, Shape::filled(src.shape.rank(), 0)}, dst);
  }
  if (rank == 1 && axis[0].s == 1 && axis[0].d == 1)
    return cpu::parallel_for(axis[0].n, cpu::kGrain, [&](int64_t begin, int64_t end) {
      convert(x + begin * int64_t(x_size), y + begin * int64_t(y_size), end - begin, nullptr);
    });
  const Walk w = plan(axis.data(), rank);
  int64_t count = 1;
  for (int a = 0; a < w.rank; ++a) count *= w.axis[size_t(a)].n;
  const int64_t grain = std::max<int64_t>(1, cpu::kGrain / (w.row_tile * w.run_tile));
  const Move move = mover(x_size);
  const Converter converter{convert, move, mover(y_size), x_size, y_size};
  cpu::parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    if (same) blocks(w, begin, end, x, x_size, y, y_size, move);
    else
      blocks(w, begin, end, x, x_size, y, y_size,
             [&](const std::byte* from, std::byte* to, Axis row, Axis run) { converter.block(from, to, row, run); });
  });
}

}  // namespace whence
