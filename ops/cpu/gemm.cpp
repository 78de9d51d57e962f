#include "whence/ops/cpu/gemm.h"

#include <algorithm>
#include <utility>

#include "whence/ops/cpu/micro.h"
#include "whence/tensor/parallel.h"

// B is packed into slivers of NR columns, k-major, one panel of KC x NC at a time, by all threads
// together. Then strips of at most MR rows of A are taken by threads as they become free: a strip is packed (it fits
// the first-level cache) and multiplied with every sliver of the panel, which stays in the second-level cache. One
// micro-kernel holds an MR x NR block of C in registers for a whole KC. A panel of A is never packed at large: a strip
// is used NC / NR times right after packing.
namespace whence::cpu {
namespace {

// ---- micro-kernel -------------------------------------------------------------------------------------------------

/// C[0..M)[0..n) = alpha sum_p a[p * AS + i] b[p * bs + j] + beta C + bias, n <= NV * W.
template <class T, int M, int NV> void micro(int64_t k, const T* a, const T* b, int64_t bs, T* c, int64_t ldc,
                                             int64_t n, T alpha, T beta, const T* bias) {
  using V = Vec<T>;
  constexpr int64_t W = V::size;
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = V(T(0));
#pragma GCC unroll 4
  for (int64_t p = 0; p < k; ++p) {
    V bv[NV];
    __builtin_prefetch(b + 16 * bs);
    if (NV == 2 && W * sizeof(T) == 64) __builtin_prefetch(b + 16 * bs + W);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) bv[v] = V::load(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      V ai(a[i]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = fma(ai, bv[v], acc[i][v]);
    }
    a += Tile<T>::AS;
    b += bs;
  }
  if (n == NV * W && alpha == T(1) && !bias && (beta == T(0) || beta == T(1))) {  // nearly always
    if (beta == T(0)) {
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v].store(c + i * ldc + v * W);
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) (V::load(c + i * ldc + v * W) + acc[i][v]).store(c + i * ldc + v * W);
    }
    return;
  }
  // All other cases through memory, in a loop that stays small.
  alignas(64) T t[M][NV * W];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v].store(t[i] + v * W);
  const V av(alpha), betav(beta);
#pragma GCC unroll 1
  for (int64_t j = 0; j < n; j += W) {
    const int64_t m = std::min(W, n - j);
    const V add = bias ? V::load(bias + j, m) : V(T(0));
#pragma GCC unroll 1
    for (int i = 0; i < M; ++i) {
      T* q = c + i * ldc + j;
      V y = fma(V::load(t[i] + j), av, add);
      if (beta != T(0)) y = fma(betav, V::load(q, m), y);
      y.store(q, m);
    }
  }
}

template <class T, int NV, int... I> constexpr auto kernel_row(std::integer_sequence<int, I...>) {
  struct {
    Kernel<T> at[sizeof...(I)];
  } t{{micro<T, I + 1, NV>...}};
  return t;
}
}  // namespace

template <class T> Kernel<T> kernel_for(int64_t rows, int64_t columns) {
  using Rows = std::make_integer_sequence<int, static_cast<int>(Tile<T>::MR)>;
  static constexpr auto one = kernel_row<T, 1>(Rows{});
  static constexpr auto two = kernel_row<T, 2>(Rows{});
  return columns <= Tile<T>::W ? one.at[rows - 1] : two.at[rows - 1];
}

template Kernel<float> kernel_for<float>(int64_t, int64_t);
template Kernel<double> kernel_for<double>(int64_t, int64_t);

namespace {

// ---- small cases --------------------------------------------------------------------------------------------------

template <class T> struct Problem {
  bool ta, tb;
  int64_t m, n, k;
  T alpha;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  T beta;
  T* c;
  int64_t ldc;
  const T* bias;
  BlockFn done;
  void* context;

  void finish(int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    if (done && i0 < i1 && j0 < j1) done(context, i0, i1, j0, j1);
  }
  void put(int64_t i, int64_t j, T sum) const {
    T* q = c + i * ldc + j;
    T y = alpha * sum;
    if (beta != T(0)) y += beta * *q;
    *q = bias ? y + bias[j] : y;
  }
};

constexpr int64_t kTurned = 4096;  // elements of a turned B on the stack, one tile of 4 registers wide

/// A handful of multiplications: no packing, no calls.
template <class T> void multiply_tiny(const Problem<T>& p) {
  const int64_t ai = p.ta ? 1 : p.lda, ak = p.ta ? p.lda : 1, bk = p.tb ? 1 : p.ldb, bj = p.tb ? p.ldb : 1;
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      const T *x = p.a + i * ai, *y = p.b + j * bj;
      T s = 0;
      for (int64_t q = 0; q < p.k; ++q) s += x[q * ak] * y[q * bk];
      p.put(i, j, s);
    }
}

/// Rows of A times rows of B (tb, A not transposed): dot products along k, for m too small to pay for packing B.
template <class T, int M, int N> void dots(const Problem<T>& p, int64_t i, int64_t j) {
  using V = Vec<T>;
  V acc[M][N];
#pragma GCC unroll 4
  for (int r = 0; r < M; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) acc[r][c] = V(T(0));
  const T *a = p.a + i * p.lda, *b = p.b + j * p.ldb;
  auto step = [&](auto load, int64_t q) {
    V x[M];
#pragma GCC unroll 4
    for (int r = 0; r < M; ++r) x[r] = load(a + r * p.lda + q);
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) {
      V y = load(b + c * p.ldb + q);
#pragma GCC unroll 4
      for (int r = 0; r < M; ++r) acc[r][c] = fma(x[r], y, acc[r][c]);
    }
  };
  int64_t q = 0;
  for (; q + V::size <= p.k; q += V::size) step([](const T* s) { return V::load(s); }, q);
  if (q < p.k) step([m = p.k - q](const T* s) { return V::load(s, m); }, q);
  for (int r = 0; r < M; ++r)
    for (int c = 0; c < N; ++c) p.put(i + r, j + c, fold_add(acc[r][c]));
}
template <class T, int M> void dot_rows(const Problem<T>& p, int64_t i, int64_t j0, int64_t j1) {
  int64_t j = j0;
  for (; j + 4 <= j1; j += 4) dots<T, M, 4>(p, i, j);
  for (; j < j1; ++j) dots<T, M, 1>(p, i, j);
}
template <class T> void multiply_dots(const Problem<T>& p) {
  // Groups of columns, so that a group's rows of B stay in cache for all rows of A.
  int64_t group = std::max<int64_t>(4, 4096 / std::max<int64_t>(1, p.k) / 4 * 4);
  int64_t groups = (p.n + group - 1) / group;
  parallel_for(groups, std::max<int64_t>(1, 250000 / std::max<int64_t>(1, group * p.k * p.m)),
               [&](int64_t g0, int64_t g1) {
                 for (int64_t g = g0; g < g1; ++g) {
                   int64_t j0 = g * group, j1 = std::min(p.n, j0 + group), i = 0;
                   for (; i + 4 <= p.m; i += 4) dot_rows<T, 4>(p, i, j0, j1);
                   switch (p.m - i) {
                     case 3: dot_rows<T, 3>(p, i, j0, j1); break;
                     case 2: dot_rows<T, 2>(p, i, j0, j1); break;
                     case 1: dot_rows<T, 1>(p, i, j0, j1); break;
                     default: break;
                   }
                   p.finish(0, p.m, j0, j1);
                 }
               });
}

/// Rows [i, i + M) of A, read as they lie, times columns [j, j + w) of a k-major B: NV registers of columns, KU values
/// of k in flight.
template <class T, int M, int NV, int KU>
void axpys(const Problem<T>& p, const T* b, int64_t ldb, int64_t i, int64_t j, int64_t w) {
  using V = Vec<T>;
  constexpr int64_t W = V::size;
  const int64_t ai = p.ta ? 1 : p.lda, ak = p.ta ? p.lda : 1;
  const T* a = p.a + i * ai;
  V acc[KU][M][NV];
#pragma GCC unroll 4
  for (int u = 0; u < KU; ++u)
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[u][r][v] = V(T(0));
  auto step = [&](V(&to)[M][NV], int64_t q, auto load) {
    V bv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) bv[v] = load(b + q * ldb + v * W, v);
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) {
      V x(a[r * ai + q * ak]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) to[r][v] = fma(x, bv[v], to[r][v]);
    }
  };
  auto sweep = [&](auto load) {
    int64_t q = 0;
    for (; q + KU <= p.k; q += KU) {
#pragma GCC unroll 4
      for (int u = 0; u < KU; ++u) step(acc[u], q + u, load);
    }
    for (; q < p.k; ++q) step(acc[0], q, load);
  };
  if (w == NV * W) sweep([](const T* s, int) { return V::load(s); });
  else
    sweep([w](const T* s, int v) {
      const int64_t m = std::min<int64_t>(V::size, w - v * V::size);
      return m <= 0 ? V(T(0)) : m == V::size ? V::load(s) : V::load(s, m);
    });
  const V alpha(p.alpha), beta(p.beta);
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) {
    const int64_t m = std::min<int64_t>(W, w - v * W);
    if (m <= 0) break;
    const V add = p.bias ? V::load(p.bias + j + v * W, m) : V(T(0));
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) {
      V y = acc[0][r][v];
#pragma GCC unroll 4
      for (int u = 1; u < KU; ++u) y += acc[u][r][v];
      y = fma(y, alpha, add);
      T* q = p.c + (i + r) * p.ldc + j + v * W;
      if (p.beta != T(0)) y = fma(beta, V::load(q, m), y);
      y.store(q, m);
    }
  }
}
template <class T, int NV> void axpy_rows(const Problem<T>& p, const T* b, int64_t ldb, int64_t j, int64_t w) {
  constexpr int R = Tile<T>::MR >= 12 ? 6 : 4;  // rows at a time, by the number of registers
  int64_t i = 0;
  for (; i + R <= p.m; i += R) axpys<T, R, NV, NV == 1 ? 2 : 1>(p, b, ldb, i, j, w);
  switch (p.m - i) {
    case 5: axpys<T, 5, NV, NV == 1 ? 2 : 1>(p, b, ldb, i, j, w); break;
    case 4: axpys<T, 4, NV, NV == 1 ? 2 : 1>(p, b, ldb, i, j, w); break;
    case 3: axpys<T, 3, NV, NV == 1 ? 4 : 1>(p, b, ldb, i, j, w); break;
    case 2: axpys<T, 2, NV, NV == 4 ? 1 : 4 / NV>(p, b, ldb, i, j, w); break;
    case 1: axpys<T, 1, NV, NV == 4 ? 2 : 4>(p, b, ldb, i, j, w); break;
    default: break;
  }
}
template <class T> void axpy_tile(const Problem<T>& p, const T* b, int64_t ldb, int64_t j, int64_t w) {
  if (w <= Vec<T>::size) axpy_rows<T, 1>(p, b, ldb, j, w);
  else if (w <= 2 * Vec<T>::size) axpy_rows<T, 2>(p, b, ldb, j, w);
  else axpy_rows<T, 4>(p, b, ldb, j, w);
}
/// B k-major as it lies: no packing at all.
template <class T> void multiply_axpys(const Problem<T>& p) {
  constexpr int64_t width = 4 * Vec<T>::size;
  const int64_t tiles = (p.n + width - 1) / width;
  parallel_for(tiles, std::max<int64_t>(1, 250000 / std::max<int64_t>(1, width * p.k * p.m)),
               [&](int64_t t0, int64_t t1) {
                 for (int64_t t = t0; t < t1; ++t) {
                   const int64_t j = t * width, w = std::min(width, p.n - j);
                   axpy_tile(p, p.b + j, p.ldb, j, w);
                   p.finish(0, p.m, j, j + w);
                 }
               });
}
/// A small [n,k] B, turned on the stack.
template <class T> void multiply_turned(const Problem<T>& p) {
  constexpr int64_t width = 4 * Vec<T>::size;
  alignas(64) T b[kTurned + 4 * Vec<T>::size];
  for (int64_t j = 0; j < p.n; j += width) {
    const int64_t w = std::min(width, p.n - j), ld = (w + Vec<T>::size - 1) / Vec<T>::size * Vec<T>::size;
    pack_transposed(p.b + j * p.ldb, p.ldb, w, p.k, b, ld);
    axpy_tile(p, b, ld, j, w);
  }
  p.finish(0, p.m, 0, p.n);
}

// ---- the packed product -------------------------------------------------------------------------------------------

constexpr int64_t kBand = 8;  // strips of A in one task

/// Rows of a k-major operand, cut into pieces of `width` that lie `step` apart and are stored STRIDE wide. The row some
/// ahead is fetched.
template <int64_t STRIDE, class T>
void pack_row(const T* src, int64_t ld, int64_t n, int64_t width, T* dst, int64_t step) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T)), ahead = 8;
  for (int64_t i = 0; i < n; i += line) __builtin_prefetch(src + ahead * ld + i);
  for (int64_t i = 0; i < n; i += width, dst += step)
    pack_straight(src + i, ld, std::min(width, n - i), 1, dst, STRIDE);
}

template <class T> void multiply_packed(const Problem<T>& p, int threads) {
  using Tl = Tile<T>;
  constexpr int64_t NR = Tl::NR;
  const int64_t strips = (p.m + Tl::MR - 1) / Tl::MR;
  const int64_t rows = (p.m + strips - 1) / strips;  // all strips about equally tall
  const int64_t kblocks = (p.k + Tl::KC - 1) / Tl::KC, kc0 = (p.k + kblocks - 1) / kblocks;
  const int64_t nblocks = (p.n + Tl::NC - 1) / Tl::NC;
  const int64_t nc0 = ((p.n + nblocks - 1) / nblocks + NR - 1) / NR * NR;
  // B that is already k-major with few rows of A to use it is read where it lies; only a last narrow sliver is packed.
  const bool direct = !p.tb && (p.m <= 2 * Tl::MR || p.k * p.ldb * int64_t(sizeof(T)) <= 65536);
  T* panel = scratch<T>(0, kc0 * std::min(nc0, (p.n + NR - 1) / NR * NR));

  for (int64_t j0 = 0; j0 < p.n; j0 += nc0) {
    const int64_t nc = std::min(nc0, p.n - j0), slivers = (nc + NR - 1) / NR;
    for (int64_t p0 = 0; p0 < p.k; p0 += kc0) {
      const int64_t kc = std::min(kc0, p.k - p0);
      const bool first = p0 == 0, last = p0 + kc == p.k;

      // B is packed by all threads: a transposed one by slivers, the other along its rows.
      const int64_t first_packed = direct ? nc / NR : 0, columns = nc - first_packed * NR;
      auto pack_slivers = [&](int64_t b, int64_t e) {
        for (int64_t s = first_packed + b; s < first_packed + e; ++s)
          pack_transposed(p.b + (j0 + s * NR) * p.ldb + p0, p.ldb, std::min(NR, nc - s * NR), kc, panel + s * NR * kc,
                          NR);
      };
      auto pack_rows = [&](int64_t b, int64_t e) {
        for (int64_t q = b; q < e; ++q)
          pack_row<NR>(p.b + (p0 + q) * p.ldb + j0 + first_packed * NR, p.ldb, columns, NR,
                       panel + first_packed * NR * kc + q * NR, NR * kc);
      };
      const int64_t units = p.tb ? slivers - first_packed : columns > 0 ? kc : 0, chunk = p.tb ? 1 : 16;
      auto pack = [&](int64_t b, int64_t e) { p.tb ? pack_slivers(b, e) : pack_rows(b, e); };
      if (threads > 1 && kc * columns > 65536) parallel_chunks(units, chunk, pack);
      else pack(0, units);

      // Tasks: strips of rows, and when they are few, groups of slivers as well.
      int64_t column_groups = 1;
      while (threads > 1 && strips * column_groups < 4 * threads && column_groups * 2 <= slivers) column_groups *= 2;
      const int64_t per_group = (slivers + column_groups - 1) / column_groups;
      column_groups = (slivers + per_group - 1) / per_group;
      // While a strip is multiplied, the rows of the next one are on their way from memory.
      auto prefetch = [&](int64_t i, int64_t part, int64_t parts) {
        if (p.ta) return;
        const int64_t line = 64 / static_cast<int64_t>(sizeof(T)), extent = std::min(rows, p.m - i);
        for (int64_t e = extent * part / parts; e < extent * (part + 1) / parts; ++e)
          for (int64_t c = 0; c < kc; c += line) __builtin_prefetch(p.a + (i + e) * p.lda + p0 + c);
      };
      // A task is a band of strips one below the other, for one group of slivers. A band of a transposed A is packed at
      // once, along its rows.
      const int64_t deep = std::clamp<int64_t>(strips * column_groups / (8 * threads), 1, kBand),
                    bands = (strips + deep - 1) / deep;
      auto task = [&](int64_t t) {
        const int64_t s0 = t % column_groups * per_group, s1 = std::min(slivers, s0 + per_group);
        const int64_t top = t / column_groups * deep * rows, bottom = std::min(p.m, top + deep * rows);
        T* packed = scratch<T>(1, kBand * kc * Tl::AS);
        if (p.ta)
          for (int64_t q = 0; q < kc; ++q)
            pack_row<Tl::AS>(p.a + (p0 + q) * p.lda + top, p.lda, bottom - top, rows, packed + q * Tl::AS, kc * Tl::AS);
        for (int64_t i = top; i < bottom; i += rows) {
          const int64_t mr = std::min(rows, bottom - i);
          T* strip = packed + (p.ta ? (i - top) / rows * kc * Tl::AS : 0);
          if (!p.ta) pack_transposed(p.a + i * p.lda + p0, p.lda, mr, kc, strip, Tl::AS);
          for (int64_t s = s0; s < s1; ++s) {
            const int64_t j = j0 + s * NR, w = std::min(NR, p.n - j);
            const bool in_place = s < first_packed;
            const T* src = in_place ? p.b + p0 * p.ldb + j : panel + s * NR * kc;
            if (i + rows < bottom) prefetch(i + rows, s - s0, s1 - s0);
            kernel_for<T>(mr, w)(kc, strip, src, in_place ? p.ldb : NR, p.c + i * p.ldc + j, p.ldc, w, p.alpha,
                                 first ? p.beta : T(1), last && p.bias ? p.bias + j : nullptr);
          }
          if (last) p.finish(i, i + mr, j0 + s0 * NR, std::min(p.n, j0 + s1 * NR));
        }
      };
      const int64_t tasks = bands * column_groups;
      if (threads > 1) {
        parallel_chunks(tasks, 1, [&](int64_t b, int64_t e) {
          for (int64_t t = b; t < e; ++t) task(t);
        });
      } else {
        for (int64_t t = 0; t < tasks; ++t) task(t);
      }
    }
  }
}

template <class T> void multiply(const Problem<T>& p) {
  if (p.m <= 0 || p.n <= 0) return;
  if (p.k <= 0 || p.alpha == T(0)) {
    Problem<T> q = p;
    q.alpha = T(0);
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j) q.put(i, j, T(0));
    return p.finish(0, p.m, 0, p.n);
  }
  const double macs = double(p.m) * double(p.n) * double(p.k);
  if (macs <= 32) {
    multiply_tiny(p);
    return p.finish(0, p.m, 0, p.n);
  }
  if (!p.tb) {
    if (p.m <= 4 || (p.m <= 128 && p.k * p.ldb * int64_t(sizeof(T)) <= 65536)) return multiply_axpys(p);
  } else {
    if (!p.ta && (p.m <= 2 || (p.m <= 12 && p.k * p.n > kTurned)) && p.k >= 16) return multiply_dots(p);
    if (p.k * 4 * Vec<T>::size <= kTurned && p.n <= 4 * Vec<T>::size && p.m <= 128) return multiply_turned(p);
  }
  multiply_packed(p, 2 * macs > 2e6 ? num_threads() : 1);
}

}  // namespace

template <class T> void gemm_epilogue(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
                                      int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc, const T* bias,
                                      BlockFn done, void* context) {
  multiply(Problem<T>{ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, bias, done, context});
}

template <class T> void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                             const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  multiply(Problem<T>{ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, nullptr, nullptr, nullptr});
}

template <class T> void gemm_batched(int64_t batch, bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha,
                                     const T* a, int64_t lda, BatchOffsets oa, const T* b, int64_t ldb, BatchOffsets ob,
                                     T beta, T* c, int64_t ldc, BatchOffsets oc) {
  const double flops = 2.0 * double(m) * double(n) * double(k);
  auto one = [&](int64_t i) { gemm(ta, tb, m, n, k, alpha, a + oa(i), lda, b + ob(i), ldb, beta, c + oc(i), ldc); };
  if (batch < num_threads() && flops > 4e6) {  // few large ones: threads inside
    for (int64_t i = 0; i < batch; ++i) one(i);
    return;
  }
  parallel_for(batch, std::max<int64_t>(1, static_cast<int64_t>(1e6 / std::max(1.0, flops))),
               [&](int64_t b0, int64_t b1) {
                 for (int64_t i = b0; i < b1; ++i) one(i);
               });
}

#define WHENCE_INSTANTIATE(T)                                                                                       \
  template void gemm<T>(bool, bool, int64_t, int64_t, int64_t, T, const T*, int64_t, const T*, int64_t, T, T*,      \
                        int64_t);                                                                                   \
  template void gemm_epilogue<T>(bool, bool, int64_t, int64_t, int64_t, T, const T*, int64_t, const T*, int64_t, T, \
                                 T*, int64_t, const T*, BlockFn, void*);                                            \
  template void gemm_batched<T>(int64_t, bool, bool, int64_t, int64_t, int64_t, T, const T*, int64_t, BatchOffsets, \
                                const T*, int64_t, BatchOffsets, T, T*, int64_t, BatchOffsets);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
