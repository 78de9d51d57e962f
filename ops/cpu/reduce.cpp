#include "whence/ops/cpu/reduce.h"

#include <algorithm>
#include <limits>

#include "whence/ops/cpu/micro.h"
#include "whence/tensor/parallel.h"
#include "whence/ops/cpu/row.h"

namespace whence::cpu {
namespace {

constexpr int64_t kRows = 32;      // rows (inner > 1) summed in registers before the pairwise tree begins
constexpr int64_t kChunk = 65536;  // elements of one chunk when a single long reduction is spread over threads

/// Chunks of one long row over threads, combined as a left-to-right tree of fixed shape.
template <class R, class T, class RowFn> T reduce_long(int64_t n, RowFn row) {
  int64_t chunks = (n + kChunk - 1) / kChunk;
  if (chunks <= 1) return row(0, n);
  T* part = scratch<T>(8, chunks);
  parallel_chunks(n, kChunk, [&](int64_t b, int64_t e) { part[b / kChunk] = row(b, e); });
  for (int64_t w = 1; w < chunks; w *= 2)
    for (int64_t i = 0; i + w < chunks; i += 2 * w) part[i] = R::combine(part[i], part[i + w]);
  return part[0];
}

/// acc[0..w) = reduction over rows [r0, r1) of the columns at x; pairwise over blocks of rows. `acc` must hold w
/// elements.
template <class R, class T> void reduce_columns(const T* x, int64_t stride, int64_t r0, int64_t r1, int64_t w, T* acc) {
  using V = Vec<T>;
  if (r1 - r0 > kRows) {
    int64_t half = r0 + ((r1 - r0) / 2 + kRows - 1) / kRows * kRows;
    T right[256];
    reduce_columns<R>(x, stride, r0, half, w, acc);
    reduce_columns<R>(x, stride, half, r1, w, right);
    for (int64_t j = 0; j < w; ++j) acc[j] = R::combine(acc[j], right[j]);
    return;
  }
  int64_t j = 0;
  for (; j + 4 * V::size <= w; j += 4 * V::size) {
    V a(R::template identity<T>()), b = a, c = a, d = a;
    for (int64_t r = r0; r < r1; ++r) {
      const T* p = x + r * stride + j;
      a = R::combine(a, V::load(p));
      b = R::combine(b, V::load(p + V::size));
      c = R::combine(c, V::load(p + 2 * V::size));
      d = R::combine(d, V::load(p + 3 * V::size));
    }
    a.store(acc + j);
    b.store(acc + j + V::size);
    c.store(acc + j + 2 * V::size);
    d.store(acc + j + 3 * V::size);
  }
  for (; j < w; j += V::size) {
    int64_t m = std::min(w - j, V::size);
    V a(R::template identity<T>());
    for (int64_t r = r0; r < r1; ++r) a = R::combine(a, V::load(x + r * stride + j, m));
    a.store(acc + j, m);
  }
}
constexpr int64_t kTile = 256;  // columns per tile; `right` above is one tile

/// f(o, j, w) for every tile of columns [j, j + w) of every outer index, over threads when the whole is large.
template <class F> void for_tiles(int64_t outer, int64_t n, int64_t inner, int64_t width, F&& f) {
  int64_t tiles = (inner + width - 1) / width;
  int64_t work = std::max<int64_t>(1, n * std::min(inner, width));
  parallel_for(outer * tiles, std::max<int64_t>(1, kGrain / work), [&](int64_t b, int64_t e) {
    for (int64_t t = b; t < e; ++t) {
      int64_t o = t / tiles, j = t % tiles * width;
      f(o, j, std::min(width, inner - j));
    }
  });
}

template <class R, class T> void reduce(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  if (outer <= 0 || inner <= 0) return;
  if (n <= 0) {
    std::fill(y, y + outer * inner, R::template identity<T>());
    return;
  }
  if (inner == 1) {
    if (n > 2 * kChunk) {
      for (int64_t o = 0; o < outer; ++o)
        y[o] = reduce_long<R, T>(n, [&](int64_t b, int64_t e) { return reduce_row<R>(x + o * n + b, e - b); });
      return;
    }
    parallel_for(outer, std::max<int64_t>(1, kGrain / n), [&](int64_t b, int64_t e) {
      for (int64_t o = b; o < e; ++o) y[o] = reduce_row<R>(x + o * n, n);
    });
    return;
  }
  int64_t tiles = outer * ((inner + kTile - 1) / kTile);
  if (tiles < 8 && n * inner > 2 * kChunk && n > 4 * kRows) {
    // Few columns, many rows (a bias gradient): fixed bands of rows over threads, then the bands in order.
    int64_t band = std::max<int64_t>(kRows, kChunk / inner / kRows * kRows);
    int64_t bands = (n + band - 1) / band;
    T* part = scratch<T>(8, bands * inner);
    for (int64_t o = 0; o < outer; ++o) {
      const T* xo = x + o * n * inner;
      parallel_chunks(n, band, [&](int64_t b, int64_t e) {
        for (int64_t j = 0; j < inner; j += kTile)
          reduce_columns<R>(xo + j, inner, b, e, std::min(kTile, inner - j), part + b / band * inner + j);
      });
      for (int64_t j = 0; j < inner; j += kTile)
        reduce_columns<R>(part + j, inner, 0, bands, std::min(kTile, inner - j), y + o * inner + j);
    }
    return;
  }
  for_tiles(outer, n, inner, kTile, [&](int64_t o, int64_t j, int64_t w) {
    reduce_columns<R>(x + o * n * inner + j, inner, 0, n, w, y + o * inner + j);
  });
}

/// First position of the extreme, NaN counting as more extreme than anything.
template <class R, class T, class Better>
void arg_reduce(const T* x, int64_t* y, int64_t outer, int64_t n, int64_t inner, Better better) {
  if (outer <= 0 || inner <= 0) return;
  if (n <= 0) {
    std::fill(y, y + outer * inner, int64_t{-1});
    return;
  }
  if (inner == 1) {
    parallel_for(outer, std::max<int64_t>(1, kGrain / n), [&](int64_t b, int64_t e) {
      for (int64_t o = b; o < e; ++o) {
        const T* p = x + o * n;
        T best = reduce_row<R>(p, n);
        int64_t i = 0;
        if (best != best)
          while (p[i] == p[i]) ++i;
        else
          while (p[i] != best) ++i;
        y[o] = i;
      }
    });
    return;
  }
  for_tiles(outer, n, inner, kTile, [&](int64_t o, int64_t j, int64_t w) {
    T best[kTile];
    const T* p = x + o * n * inner + j;
    int64_t* at = y + o * inner + j;
    std::copy(p, p + w, best);
    std::fill(at, at + w, int64_t{0});
    for (int64_t r = 1; r < n; ++r) {
      const T* q = p + r * inner;
      for (int64_t c = 0; c < w; ++c) {
        bool take = better(q[c], best[c]) || (q[c] != q[c] && best[c] == best[c]);
        best[c] = take ? q[c] : best[c];
        at[c] = take ? r : at[c];
      }
    }
  });
}

// ---- rows of exponentials -----------------------------------------------------------------------------------------

template <class T> T log_sum_exp_row(const T* x, int64_t n) {
  T top = reduce_row<Max>(x, n);
  if (top == inf<T>() || top == -inf<T>() || top != top) return top;
  return top + std::log(exp_sum<false, T>(x, nullptr, n, top));
}

constexpr int64_t kSoftTile = 64;

/// Column tile of softmax-like ops: top[] and total[] = max and sum of exp over n, for w <= kSoftTile columns.
template <class T> void column_max_sum(const T* x, int64_t n, int64_t stride, int64_t w, T* top, T* total) {
  reduce_columns<Max>(x, stride, 0, n, w, top);
  for (int64_t j = 0; j < w; j += Vec<T>::size) {
    int64_t m = std::min(Vec<T>::size, w - j);
    Vec<T> shift = load_upto(top + j, m), sum(T(0)), part(T(0));
    for (int64_t r = 0; r < n; ++r) {
      part += exp_flush(load_upto(x + r * stride + j, m) - shift);
      if (r % kRows == kRows - 1) {
        sum += part;
        part = Vec<T>(T(0));
      }
    }
    store_upto(sum + part, total + j, m);
  }
}

template <class T, class F> void rows(int64_t outer, int64_t n, int64_t cost, F&& f) {
  parallel_for(outer, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n * cost)), [&](int64_t b, int64_t e) {
    for (int64_t o = b; o < e; ++o) f(o);
  });
}

}  // namespace

template <class T> void reduce_sum(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, double scale) {
  reduce<Sum>(x, y, outer, n, inner);
  if (scale != 1.0)
    for (int64_t i = 0; i < outer * inner; ++i) y[i] = static_cast<T>(y[i] * scale);
}
template <class T> void reduce_max(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  reduce<Max>(x, y, outer, n, inner);
}
template <class T> void reduce_min(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  reduce<Min>(x, y, outer, n, inner);
}
template <class T> void reduce_argmax(const T* x, int64_t* y, int64_t outer, int64_t n, int64_t inner) {
  arg_reduce<Max>(x, y, outer, n, inner, [](T a, T b) { return a > b; });
}
template <class T> void reduce_argmin(const T* x, int64_t* y, int64_t outer, int64_t n, int64_t inner) {
  arg_reduce<Min>(x, y, outer, n, inner, [](T a, T b) { return a < b; });
}

template <class T> void reduce_logsumexp(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  if (outer <= 0 || inner <= 0) return;
  if (n <= 0) {
    std::fill(y, y + outer * inner, -inf<T>());
  } else if (inner == 1) {
    rows<T>(outer, n, 4, [&](int64_t o) { y[o] = log_sum_exp_row(x + o * n, n); });
  } else {
    for_tiles(outer, 4 * n, inner, kSoftTile, [&](int64_t o, int64_t j, int64_t w) {
      T top[kSoftTile], total[kSoftTile];
      column_max_sum(x + o * n * inner + j, n, inner, w, top, total);
      for (int64_t c = 0; c < w; ++c) {
        bool special = top[c] == inf<T>() || top[c] == -inf<T>() || top[c] != top[c];
        y[o * inner + j + c] = special ? top[c] : top[c] + std::log(total[c]);
      }
    });
  }
}

template <class T> void softmax(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  if (inner == 1) {
    rows<T>(outer, n, 4, [&](int64_t o) {
      const T* p = x + o * n;
      T* q = y + o * n;
      V s(T(1) / exp_sum<true>(p, q, n, reduce_row<Max>(p, n)));
      each<T>(n, [&](int64_t i, int64_t m) { store_upto(load_upto(q + i, m) * s, q + i, m); });
    });
    return;
  }
  for_tiles(outer, 6 * n, inner, kSoftTile, [&](int64_t o, int64_t j0, int64_t w) {
    T top[kSoftTile], total[kSoftTile];
    const T* p = x + o * n * inner + j0;
    T* q = y + o * n * inner + j0;
    column_max_sum(p, n, inner, w, top, total);
    for (int64_t j = 0; j < w; j += V::size) {
      int64_t m = std::min(V::size, w - j);
      V shift = load_upto(top + j, m), scale = V(T(1)) / load_upto(total + j, m);
      for (int64_t r = 0; r < n; ++r)
        store_upto(exp_flush(load_upto(p + r * inner + j, m) - shift) * scale, q + r * inner + j, m);
    }
  });
}

template <class T> void log_softmax(const T* x, T* y, int64_t outer, int64_t n, int64_t inner) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  if (inner == 1) {
    rows<T>(outer, n, 4, [&](int64_t o) {
      const T* p = x + o * n;
      T* q = y + o * n;
      T top = reduce_row<Max>(p, n);
      V shift(top), rest(std::log(exp_sum<false, T>(p, nullptr, n, top)));
      each<T>(n, [&](int64_t i, int64_t m) { store_upto((load_upto(p + i, m) - shift) - rest, q + i, m); });
    });
    return;
  }
  for_tiles(outer, 4 * n, inner, kSoftTile, [&](int64_t o, int64_t j0, int64_t w) {
    T top[kSoftTile], total[kSoftTile];
    const T* p = x + o * n * inner + j0;
    T* q = y + o * n * inner + j0;
    column_max_sum(p, n, inner, w, top, total);
    for (int64_t j = 0; j < w; j += V::size) {
      int64_t m = std::min(V::size, w - j);
      V shift = load_upto(top + j, m), rest = log(load_upto(total + j, m));
      for (int64_t r = 0; r < n; ++r)
        store_upto((load_upto(p + r * inner + j, m) - shift) - rest, q + r * inner + j, m);
    }
  });
}

template <class T> void softmax_vjp(const T* y, const T* dy, T* dx, int64_t outer, int64_t n, int64_t inner) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  if (inner == 1) {
    rows<T>(outer, n, 2, [&](int64_t o) {
      const T *p = y + o * n, *g = dy + o * n;
      T* q = dx + o * n;
      V s(run<Sum, T>(
          0, n, [&](int64_t i) { return V::load(p + i) * V::load(g + i); },
          [&](int64_t i, int64_t m) { return V::load(p + i, m) * V::load(g + i, m); }));
      each<T>(n, [&](int64_t i, int64_t m) { store_upto(load_upto(p + i, m) * (load_upto(g + i, m) - s), q + i, m); });
    });
    return;
  }
  for_tiles(outer, 3 * n, inner, kSoftTile, [&](int64_t o, int64_t j0, int64_t w) {
    const int64_t base = o * n * inner + j0;
    for (int64_t j = base; j < base + w; j += V::size) {
      int64_t m = std::min(V::size, base + w - j);
      V s(T(0)), part(T(0));
      for (int64_t r = 0; r < n; ++r) {
        part = fma(load_upto(y + r * inner + j, m), load_upto(dy + r * inner + j, m), part);
        if (r % kRows == kRows - 1) {
          s += part;
          part = V(T(0));
        }
      }
      s += part;
      for (int64_t r = 0; r < n; ++r) {
        int64_t k = r * inner + j;
        store_upto(load_upto(y + k, m) * (load_upto(dy + k, m) - s), dx + k, m);
      }
    }
  });
}

template <class T> void log_softmax_vjp(const T* y, const T* dy, T* dx, int64_t outer, int64_t n, int64_t inner) {
  using V = Vec<T>;
  if (outer <= 0 || n <= 0 || inner <= 0) return;
  if (inner == 1) {
    rows<T>(outer, n, 3, [&](int64_t o) {
      const T *p = y + o * n, *g = dy + o * n;
      T* q = dx + o * n;
      V s(reduce_row<Sum>(g, n));
      each<T>(n, [&](int64_t i, int64_t m) {
        store_upto(fma(-exp(load_upto(p + i, m)), s, load_upto(g + i, m)), q + i, m);
      });
    });
    return;
  }
  for_tiles(outer, 4 * n, inner, kSoftTile, [&](int64_t o, int64_t j0, int64_t w) {
    const int64_t base = o * n * inner + j0;
    T total[kSoftTile];
    reduce_columns<Sum>(dy + base, inner, 0, n, w, total);
    for (int64_t j = 0; j < w; j += V::size) {
      int64_t m = std::min(V::size, w - j);
      V s = load_upto(total + j, m);
      for (int64_t r = 0; r < n; ++r) {
        int64_t k = base + r * inner + j;
        store_upto(fma(-exp(load_upto(y + k, m)), s, load_upto(dy + k, m)), dx + k, m);
      }
    }
  });
}

template <class T> double dot(const T* x, const T* y, int64_t n) {
  using V = Vec<T>;
  if (n <= 0) return 0;
  return reduce_long<Sum, double>(n, [&](int64_t b, int64_t e) {
    double total = 0;
    for (int64_t i = b; i < e; i += 4096) {  // short runs in T, their sums in double
      int64_t m = std::min<int64_t>(4096, e - i);
      const T *p = x + i, *q = y + i;
      total += run<Sum, T>(
          0, m, [&](int64_t k) { return V::load(p + k) * V::load(q + k); },
          [&](int64_t k, int64_t w) { return V::load(p + k, w) * V::load(q + k, w); });
    }
    return total;
  });
}
template <class T> double sum_squares(const T* x, int64_t n) { return dot(x, x, n); }

#define WHENCE_INSTANTIATE(T)                                                          \
  template void reduce_sum<T>(const T*, T*, int64_t, int64_t, int64_t, double);        \
  template void reduce_max<T>(const T*, T*, int64_t, int64_t, int64_t);                \
  template void reduce_min<T>(const T*, T*, int64_t, int64_t, int64_t);                \
  template void reduce_argmax<T>(const T*, int64_t*, int64_t, int64_t, int64_t);       \
  template void reduce_argmin<T>(const T*, int64_t*, int64_t, int64_t, int64_t);       \
  template void reduce_logsumexp<T>(const T*, T*, int64_t, int64_t, int64_t);          \
  template void softmax<T>(const T*, T*, int64_t, int64_t, int64_t);                   \
  template void log_softmax<T>(const T*, T*, int64_t, int64_t, int64_t);               \
  template void softmax_vjp<T>(const T*, const T*, T*, int64_t, int64_t, int64_t);     \
  template void log_softmax_vjp<T>(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template double dot<T>(const T*, const T*, int64_t);                                 \
  template double sum_squares<T>(const T*, int64_t);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
