#include "whence/ops/cpu/norm.h"

#include <cmath>
#include <limits>

#include "whence/ops/cpu/micro.h"
#include "whence/ops/cpu/row.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

int64_t row_grain(int64_t n) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, 2 * n)); }

/// Mean and 1 / sqrt(second moment + eps) of a row whose squares leave the range of T: of the row over its largest
/// magnitude, in f64.
template <bool MEAN, class T> void moments_of_extremes(const T* p, int64_t n, double eps, T* mean, T* rstd) {
  double top = 0, mu = 0, ss = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, std::fabs(double(p[i])));
  if (top == 0) return;
  for (int64_t i = 0; MEAN && i < n; ++i) mu += double(p[i]) / top;
  mu /= double(n);
  for (int64_t i = 0; i < n; ++i) ss += (double(p[i]) / top - mu) * (double(p[i]) / top - mu);
  if (MEAN) *mean = static_cast<T>(mu * top);
  *rstd = static_cast<T>(1 / top / std::sqrt(ss / double(n) + eps / top / top));
}

/// One loop for both norms: MEAN says whether a mean is taken out.
template <bool MEAN, class T>
void forward(const T* x, const T* w, const T* b, T* y, T* mean, T* rstd, int64_t rows, int64_t n, double eps) {
  using V = Vec<T>;
  parallel_for(rows, row_grain(n), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      const T* p = x + r * n;
      T* q = y + r * n;
      T mu = MEAN && n > 0 ? reduce_row<Sum>(p, n) / static_cast<T>(n) : T(0);
      V m(mu);
      // The second moment about the mean in a second pass over the cached row: a large mean costs no digits.
      const T ss = run<Sum, T>(
          0, n,
          [&](int64_t i) {
            V d = V::load(p + i) - m;
            return d * d;
          },
          [&](int64_t i, int64_t k) {
            V d = load_or(p + i, k, mu) - m;
            return d * d;
          });
      T rs = static_cast<T>(1 / std::sqrt(static_cast<double>(ss) / static_cast<double>(n) + eps));
      constexpr T tiny = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();
      if (!(ss <= std::numeric_limits<T>::max()) || (ss < tiny && !(eps > tiny) && n > 0)) {
        moments_of_extremes<MEAN>(p, n, eps, &mu, &rs);
        m = V(mu);
      }
      if (mean) mean[r] = mu;
      rstd[r] = rs;
      const V s(rs);
      each<T>(n, [&](int64_t i, int64_t k) {
        V v = (load_upto(p + i, k) - m) * s;
        if (w) v *= load_upto(w + i, k);
        if (b) v += load_upto(b + i, k);
        store_upto(v, q + i, k);
      });
    }
  });
}

// Per row, with u = (x - mean) rstd and g = dy w:
//   dx = rstd (g - [mean(g)] - [u mean(g u)]), the first bracket for layer norm, the second unless rstd is frozen.
template <bool MEAN, class T> void backward(const T* x, const T* mean, const T* rstd, const T* w, const T* dy, T* dx,
                                            T* dw, T* db, int64_t rows, int64_t n, bool freeze) {
  using V = Vec<T>;
  if (n <= 0) return;
  if (rows <= 0) {
    if (dw) std::fill(dw, dw + n, T(0));
    if (db) std::fill(db, db + n, T(0));
    return;
  }
  // Bands of rows sum their own dw and db; the bands are then added in order. 64 bands at most.
  const int64_t band = std::max<int64_t>(16, (rows + 63) / 64), bands = (rows + band - 1) / band;
  const int64_t width = (dw ? n : 0) + (db ? n : 0);
  T* part = scratch<T>(8, bands * width);
  std::fill(part, part + bands * width, T(0));
  auto do_band = [&](int64_t r0, int64_t r1) {
    T* pw = dw ? part + r0 / band * width : nullptr;
    T* pb = db ? part + r0 / band * width + (dw ? n : 0) : nullptr;
    for (int64_t r = r0; r < r1; ++r) {
      const T *p = x + r * n, *g = dy + r * n;
      const V m(MEAN ? mean[r] : T(0)), s(rstd[r]);
      V sum_g(T(0)), sum_gu(T(0)), mean_g(T(0)), mean_gu(T(0));
      if (dx && (MEAN || !freeze)) {
        V g2 = sum_g, gu2 = sum_gu;
        auto term = [&](int64_t i, int64_t k, V& a, V& b) {  // absent lanes of g are zero
          V gv = load_upto(g + i, k);
          if (w) gv *= load_upto(w + i, k);
          a += gv;
          b = fma(gv, (load_upto(p + i, k) - m) * s, b);
        };
        int64_t i = 0;
        for (; i + 2 * V::size <= n; i += 2 * V::size) {
          term(i, V::size, sum_g, sum_gu);
          term(i + V::size, V::size, g2, gu2);
        }
        for (; i < n; i += V::size) term(i, std::min(V::size, n - i), sum_g, sum_gu);
        if (MEAN) mean_g = V(fold_add(sum_g + g2) / static_cast<T>(n));
        if (!freeze) mean_gu = V(fold_add(sum_gu + gu2) / static_cast<T>(n));
      }
      each<T>(n, [&](int64_t i, int64_t k) {
        V u = (load_upto(p + i, k) - m) * s, d = load_upto(g + i, k);
        if (pw) store_upto(fma(d, u, load_upto(pw + i, k)), pw + i, k);
        if (pb) store_upto(load_upto(pb + i, k) + d, pb + i, k);
        if (dx) {
          V gv = w ? d * load_upto(w + i, k) : d;
          store_upto((gv - mean_g - u * mean_gu) * s, dx + r * n + i, k);
        }
      });
    }
  };
  if (rows * n <= kGrain) {
    for (int64_t r = 0; r < rows; r += band) do_band(r, std::min(rows, r + band));
  } else {
    parallel_chunks(rows, band, do_band);
  }
  for (int64_t which = 0; which < 2; ++which) {
    T* out = which ? db : dw;
    if (!out) continue;
    const T* first = part + (which && dw ? n : 0);
    for (int64_t i = 0; i < n; ++i) out[i] = first[i];
    for (int64_t k = 1; k < bands; ++k)
      for (int64_t i = 0; i < n; ++i) out[i] += first[k * width + i];
  }
}

}  // namespace

template <class T>
void layer_norm(const T* x, const T* w, const T* b, T* y, T* mean, T* rstd, int64_t rows, int64_t n, double eps) {
  forward<true>(x, w, b, y, mean, rstd, rows, n, eps);
}
template <class T> void rms_norm(const T* x, const T* w, T* y, T* rstd, int64_t rows, int64_t n, double eps) {
  forward<false, T>(x, w, nullptr, y, nullptr, rstd, rows, n, eps);
}
template <class T> void layer_norm_backward(const T* x, const T* mean, const T* rstd, const T* w, const T* dy, T* dx,
                                            T* dw, T* db, int64_t rows, int64_t n, bool freeze_rstd) {
  backward<true>(x, mean, rstd, w, dy, dx, dw, db, rows, n, freeze_rstd);
}
template <class T> void rms_norm_backward(const T* x, const T* rstd, const T* w, const T* dy, T* dx, T* dw,
                                          int64_t rows, int64_t n, bool freeze_rstd) {
  backward<false, T>(x, nullptr, rstd, w, dy, dx, dw, nullptr, rows, n, freeze_rstd);
}

#define WHENCE_INSTANTIATE(T)                                                                                          \
  template void layer_norm<T>(const T*, const T*, const T*, T*, T*, T*, int64_t, int64_t, double);                     \
  template void rms_norm<T>(const T*, const T*, T*, T*, int64_t, int64_t, double);                                     \
  template void layer_norm_backward<T>(const T*, const T*, const T*, const T*, const T*, T*, T*, T*, int64_t, int64_t, \
                                       bool);                                                                          \
  template void rms_norm_backward<T>(const T*, const T*, const T*, const T*, T*, T*, int64_t, int64_t, bool);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
