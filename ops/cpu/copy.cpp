#include "ops/cpu/copy.h"

#include <algorithm>
#include <cstring>

#include "tensor/parallel.h"
#include "ops/cpu/row.h"
#include "ops/cpu/transpose.h"

namespace whence::cpu {
namespace {

constexpr int kMaxRank = 16;

struct Axis {
  int64_t n, s, d;  // extent, stride of src, stride of dst
};

/// dst[j * ld_dst + i] = src[i * ld_src + j], i < rows, j < columns.
template <class U>
void transpose_block(const U* src, int64_t ld_src, U* dst, int64_t ld_dst, int64_t rows, int64_t columns) {
  if constexpr (sizeof(U) >= 4) {  // through registers of reals: bits are moved, never computed with
    using T = std::conditional_t<sizeof(U) == 4, float, double>;
    using V = Vec<T>;
    constexpr int64_t W = V::size;
    auto x = reinterpret_cast<const T*>(src);
    auto y = reinterpret_cast<T*>(dst);
    for (int64_t i = 0; i < rows; i += W)
      for (int64_t j = 0; j < columns; j += W) {
        const int64_t h = std::min(W, rows - i), w = std::min(W, columns - j);
        V r[W];
        if (h == W && w == W) {
#pragma GCC unroll 16
          for (int64_t k = 0; k < W; ++k) r[k] = V::load(x + (i + k) * ld_src + j);
          transpose(r);
#pragma GCC unroll 16
          for (int64_t k = 0; k < W; ++k) r[k].store(y + (j + k) * ld_dst + i);
          continue;
        }
        for (int64_t k = 0; k < W; ++k) r[k] = k < h ? load_upto(x + (i + k) * ld_src + j, w) : V(T(0));
        transpose(r);
        for (int64_t k = 0; k < w; ++k) store_upto(r[k], y + (j + k) * ld_dst + i, h);
      }
  } else {
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) dst[j * ld_dst + i] = src[i * ld_src + j];
  }
}

template <class U> void copy(const U* src, U* dst, Axis* axis, int rank) {
  // The innermost axis of dst is last. If another axis is the innermost of src, the two form a matrix to be turned.
  const Axis inner = axis[rank - 1];
  int turn = -1;
  if (inner.d == 1 && inner.s != 1 && inner.s != 0)
    for (int a = 0; a < rank - 1; ++a)
      if (axis[a].s == 1 && axis[a].n > 1) turn = a;
  constexpr int64_t kSide = 64;  // a block of 64 x 64 elements stays in the first cache on both sides
  Axis columns{1, 0, 0};
  if (turn >= 0) {
    columns = axis[turn];
    std::copy(axis + turn + 1, axis + rank, axis + turn);
    --rank;
  }
  // Outer axes are counted as one number; tasks are (outer, tile of rows, tile of columns).
  int64_t outer = 1;
  for (int a = 0; a < rank - 1; ++a) outer *= axis[a].n;
  const int64_t row_tile = turn >= 0 ? kSide : std::max<int64_t>(1, std::min<int64_t>(inner.n, kGrain));
  const int64_t row_tiles = (inner.n + row_tile - 1) / row_tile,
                column_tiles = turn >= 0 ? (columns.n + kSide - 1) / kSide : 1;
  const int64_t per_task = row_tile * std::min(columns.n, kSide);
  parallel_for(outer * column_tiles * row_tiles, std::max<int64_t>(1, kGrain / per_task), [&](int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; ++t) {
      const int64_t r = t % row_tiles * row_tile, c = t / row_tiles % column_tiles * kSide;
      int64_t rest = t / row_tiles / column_tiles;
      const U* x = src + r * inner.s;
      U* y = dst + r * inner.d;
      for (int a = rank - 2; a >= 0; --a) {
        const int64_t i = rest % axis[a].n;
        rest /= axis[a].n;
        x += i * axis[a].s;
        y += i * axis[a].d;
      }
      const int64_t n = std::min(row_tile, inner.n - r);
      if (turn >= 0) {
        transpose_block(x + c, inner.s, y + c * columns.d, columns.d, n, std::min(kSide, columns.n - c));
      } else if (inner.s == 1 && inner.d == 1) {
        if (n >= 16) std::memcpy(y, x, static_cast<size_t>(n) * sizeof(U));
        else
          for (int64_t i = 0; i < n; ++i) y[i] = x[i];
      } else if (inner.s == 0 && inner.d == 1) {
        std::fill(y, y + n, *x);
      } else {
        for (int64_t i = 0; i < n; ++i) y[i * inner.d] = x[i * inner.s];
      }
    }
  });
}

}  // namespace

void copy_strided(int element_size, int rank, const int64_t* shape, const void* src, const int64_t* src_strides,
                  void* dst, const int64_t* dst_strides) {
  Axis axis[kMaxRank + 1];
  int count = 0;
  for (int a = 0; a < rank && a < kMaxRank; ++a) {
    if (shape[a] <= 0) return;
    if (shape[a] > 1) axis[count++] = {shape[a], src_strides[a], dst_strides[a]};
  }
  if (count == 0) axis[count++] = {1, 1, 1};
  // In the order of dst's memory; stable, so equal strides (there are none in a valid dst) would keep theirs.
  std::stable_sort(axis, axis + count, [](const Axis& a, const Axis& b) { return std::abs(a.d) > std::abs(b.d); });
  int kept = 1;
  for (int a = 1; a < count; ++a) {  // merge an axis into the one before where both sides run on
    Axis& last = axis[kept - 1];
    if (last.s == axis[a].s * axis[a].n && last.d == axis[a].d * axis[a].n)
      last = {last.n * axis[a].n, axis[a].s, axis[a].d};
    else axis[kept++] = axis[a];
  }
  switch (element_size) {
    case 1: return copy(static_cast<const uint8_t*>(src), static_cast<uint8_t*>(dst), axis, kept);
    case 2: return copy(static_cast<const uint16_t*>(src), static_cast<uint16_t*>(dst), axis, kept);
    case 4: return copy(static_cast<const uint32_t*>(src), static_cast<uint32_t*>(dst), axis, kept);
    case 8: return copy(static_cast<const uint64_t*>(src), static_cast<uint64_t*>(dst), axis, kept);
    default: return;
  }
}

}  // namespace whence::cpu
