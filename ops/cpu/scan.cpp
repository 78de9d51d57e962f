#include "ops/cpu/scan.h"

#include <algorithm>
#include <vector>

#include "tensor/parallel.h"
#include "ops/cpu/row.h"
#include "ops/cpu/transpose.h"

namespace whence::cpu {
namespace {

/// f(offset of the first element, columns) for each tile of up to `width` columns of each outer index.
template <class F> void columns(int64_t outer, int64_t n, int64_t inner, int64_t width, F&& f) {
  const int64_t tiles = (inner + width - 1) / width;
  parallel_for(outer * tiles, std::max<int64_t>(1, kGrain / 2 / std::max<int64_t>(1, n * std::min(width, inner))),
               [&](int64_t b, int64_t e) {
                 for (int64_t t = b; t < e; ++t) {
                   const int64_t o = t / tiles, j = t % tiles * width;
                   f(o, j, std::min(width, inner - j));
                 }
               });
}

/// inner == 1: W sequences side by side, turned so that a register holds one time step of each.
/// step(registers of W times, count, in time order of the sweep).
template <class T, int IN, int OUT, class Step>
void turned(int64_t outer, int64_t n, bool backwards, const T* const (&in)[IN], T* const (&out)[OUT], Step make_step) {
  using V = Vec<T>;
  constexpr int64_t W = V::size;
  const int64_t groups = (outer + W - 1) / W;
  parallel_for(groups, std::max<int64_t>(1, kGrain / 2 / std::max<int64_t>(1, n * W)), [&](int64_t g0, int64_t g1) {
    for (int64_t g = g0; g < g1; ++g) {
      const int64_t o = g * W, rows = std::min(W, outer - o), blocks = (n + W - 1) / W;
      auto step = make_step(o, rows);
      for (int64_t k = 0; k < blocks; ++k) {
        const int64_t t0 = (backwards ? blocks - 1 - k : k) * W, tw = std::min(W, n - t0);
        V r[IN + OUT][W];
        for (int s = 0; s < IN; ++s) {
          for (int64_t i = 0; i < W; ++i) r[s][i] = i < rows ? load_upto(in[s] + (o + i) * n + t0, tw) : V(T(0));
          transpose(r[s]);
        }
        for (int64_t q = 0; q < tw; ++q) step(r, backwards ? tw - 1 - q : q);
        for (int s = 0; s < OUT; ++s) {
          if (!out[s]) continue;
          for (int64_t q = tw; q < W; ++q) r[IN + s][q] = V(T(0));
          transpose(r[IN + s]);
          for (int64_t i = 0; i < rows; ++i) store_upto(r[IN + s][i], out[s] + (o + i) * n + t0, tw);
        }
      }
    }
  });
}

}  // namespace

template <class T>
void linear_scan(const T* a, const T* b, const T* h0, T* h, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  if (inner == 1 && outer > 1) {
    const T* const in[2] = {a, b};
    T* const out[1] = {h};
    turned<T>(outer, n, reverse, in, out, [&](int64_t o, int64_t rows) {
      V state = h0 ? V::load(h0 + o, rows) : V(T(0));
      return [state](V(&r)[3][V::size], int64_t q) mutable { r[2][q] = state = fma(r[0][q], state, r[1][q]); };
    });
    return;
  }
  columns(outer, n, inner, V::size, [&](int64_t o, int64_t j, int64_t w) {
    V state = h0 ? load_upto(h0 + o * inner + j, w) : V(T(0));
    for (int64_t t = 0; t < n; ++t) {
      const int64_t at = (o * n + (reverse ? n - 1 - t : t)) * inner + j;
      state = fma(load_upto(a + at, w), state, load_upto(b + at, w));
      store_upto(state, h + at, w);
    }
  });
}

template <class T>
void cumsum(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, bool reverse, bool exclusive) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  columns(outer, n, inner, V::size, [&](int64_t o, int64_t j, int64_t w) {
    V sum(T(0)), lost(T(0));  // Kahan: lost is what the last addition dropped
    for (int64_t s = 0; s < n; ++s) {
      const int64_t at = (o * n + (reverse ? n - 1 - s : s)) * inner + j;
      const V v = load_upto(x + at, w);
      if (exclusive) store_upto(sum, y + at, w);
      const V add = v - lost, next = sum + add;
      lost = select(abs(next) < V(inf<T>()), (next - sum) - add, V(T(0)));
      sum = next;
      if (!exclusive) store_upto(sum, y + at, w);
    }
  });
}

template <class T>
void conv1d(const T* x, const T* w, const T* bias, T* y, int64_t B, int64_t n, int64_t C, int64_t K, bool reverse) {
  using V = Vec<T>;
  if (B <= 0 || n <= 0 || C <= 0) return;
  std::vector<T> taps(static_cast<size_t>(C * K));  // [K, C]
  for (int64_t c = 0; c < C; ++c)
    for (int64_t k = 0; k < K; ++k) taps[static_cast<size_t>(k * C + c)] = w[c * K + k];
  // Runs of rows of one sequence, all channels: rows that several taps read are still in the first cache.
  constexpr int64_t kRun = 64;
  const int64_t runs = (n + kRun - 1) / kRun;
  parallel_for(B * runs, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, kRun * C)), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      const int64_t t0 = r % runs * kRun, t1 = std::min(n, t0 + kRun);
      const T* px = x + r / runs * n * C;
      T* py = y + r / runs * n * C;
      each<T>(C, [&](int64_t c, int64_t m) {
        const V b0 = bias ? load_upto(bias + c, m) : V(T(0));
        auto row = [&](int64_t t, int64_t k0, int64_t k1, auto tap) {
          V a = b0;
          for (int64_t k = k0; k < k1; ++k)
            a = fma(tap(k), load_upto(px + (t + (reverse ? K - 1 - k : k - (K - 1))) * C + c, m), a);
          store_upto(a, py + t * C + c, m);
        };
        auto from_memory = [&](int64_t k) { return load_upto(taps.data() + k * C + c, m); };
        auto first = [&](int64_t t) {
          return reverse ? std::max<int64_t>(0, t + K - n) : std::max<int64_t>(0, K - 1 - t);
        };
        if (K == 4) {  // the usual width: taps in registers
          const V w4[4] = {from_memory(0), from_memory(1), from_memory(2), from_memory(3)};
          for (int64_t t = t0; t < t1; ++t)
            if (first(t) == 0) row(t, 0, 4, [&](int64_t k) { return w4[k]; });
            else row(t, first(t), 4, from_memory);
        } else {
          for (int64_t t = t0; t < t1; ++t) row(t, std::min(K, first(t)), K, from_memory);
        }
      });
    }
  });
}

template <class T>
void conv1d_taps(const T* x, const T* dy, T* dw, T* dbias, int64_t B, int64_t n, int64_t C, int64_t K, bool reverse) {
  using V = Vec<T>;
  if (C <= 0) return;
  const int64_t width = (K + 1) * C;  // taps [K, C], then the bias
  std::vector<T> part(static_cast<size_t>(std::max<int64_t>(1, B) * width));
  parallel_for(B, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n * C * K)), [&](int64_t b0, int64_t b1) {
    for (int64_t b = b0; b < b1; ++b) {
      T* to = part.data() + b * width;
      const T *px = x + b * n * C, *pd = dy + b * n * C;
      each<T>(C, [&](int64_t c, int64_t m) {
        for (int64_t k = 0; k <= K; ++k) {
          const int64_t shift = k == K ? 0 : reverse ? K - 1 - k : k - (K - 1);
          const int64_t lo = std::max<int64_t>(0, -shift), hi = std::min(n, n - shift);
          V total(T(0));
          for (int64_t t = lo; t < hi; t += 128) {  // short runs, then their sums
            V s(T(0));
            for (int64_t u = t; u < std::min(hi, t + 128); ++u) {
              const V d = load_upto(pd + u * C + c, m);
              s = k == K ? s + d : fma(d, load_upto(px + (u + shift) * C + c, m), s);
            }
            total += s;
          }
          store_upto(total, to + k * C + c, m);
        }
      });
    }
  });
  for (int64_t c = 0; c < C; ++c) {
    for (int64_t k = 0; k <= K; ++k) {
      T s = 0;
      for (int64_t b = 0; b < B; ++b) s += part[static_cast<size_t>(b * width + k * C + c)];
      if (k < K) dw[c * K + k] = s;
      else if (dbias) dbias[c] = s;
    }
  }
}

#define WHENCE_INSTANTIATE(T)                                                                          \
  template void linear_scan<T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, bool);     \
  template void cumsum<T>(const T*, T*, int64_t, int64_t, int64_t, bool, bool);                        \
  template void conv1d<T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, bool); \
  template void conv1d_taps<T>(const T*, const T*, T*, T*, int64_t, int64_t, int64_t, int64_t, bool);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
