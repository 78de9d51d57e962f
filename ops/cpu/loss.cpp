#include "whence/ops/cpu/loss.h"

#include <atomic>

#include "whence/tensor/parallel.h"
#include "whence/ops/cpu/row.h"

namespace whence::cpu {

template <class T, class I> int64_t cross_entropy(const T* x, const I* target, T* loss, T* lse, int64_t rows,
                                                  int64_t classes, int64_t ignore_index, double smoothing) {
  std::atomic<int64_t> bad{rows};
  parallel_for(rows, std::max<int64_t>(1, kGrain / 4 / std::max<int64_t>(1, classes)), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      const T* p = x + r * classes;
      const T top = reduce_row<Max>(p, classes);
      const bool special = top == inf<T>() || top == -inf<T>() || top != top;
      // log of the sum stays apart from the shift until the end, so that a confident row keeps its small loss
      const T rest = special ? T(0) : std::log(exp_sum<false, T>(p, nullptr, classes, top));
      lse[r] = top + rest;
      const int64_t t = static_cast<int64_t>(target[r]);
      if (t == ignore_index) {
        loss[r] = T(0);
      } else if (t < 0 || t >= classes) {
        loss[r] = std::numeric_limits<T>::quiet_NaN();
        int64_t seen = bad.load();
        while (r < seen && !bad.compare_exchange_weak(seen, r)) {}
      } else {
        T l = (top - p[t]) + rest;
        if (smoothing != 0) {
          const T mean = reduce_row<Sum>(p, classes) / static_cast<T>(classes);
          const T uniform = static_cast<T>(smoothing) * ((top - mean) + rest);
          l = smoothing == 1 ? uniform : static_cast<T>(1 - smoothing) * l + uniform;
        }
        loss[r] = l;
      }
    }
  });
  return bad.load() < rows ? bad.load() : -1;
}

template <class T, class I> void cross_entropy_backward(const T* x, const T* lse, const I* target, const T* dloss,
                                                        int64_t dloss_stride, T scale, T* dx, int64_t rows,
                                                        int64_t classes, int64_t ignore_index, double smoothing) {
  using V = Vec<T>;
  parallel_for(rows, std::max<int64_t>(1, kGrain / 4 / std::max<int64_t>(1, classes)), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      T* q = dx + r * classes;
      const int64_t t = static_cast<int64_t>(target[r]);
      if (t == ignore_index) {
        std::fill(q, q + classes, T(0));
        continue;
      }
      const T* p = x + r * classes;
      const T g = dloss[r * dloss_stride] * scale;
      const V shift(lse[r]), gv(g), spread(static_cast<T>(smoothing / static_cast<double>(classes)));
      each<T>(classes, [&](int64_t i, int64_t m) {
        store_upto((exp_flush(load_upto(p + i, m) - shift) - spread) * gv, q + i, m);
      });
      if (t >= 0 && t < classes) q[t] -= g * static_cast<T>(1 - smoothing);
    }
  });
}

#define WHENCE_INSTANTIATE(T, I)                                                                                       \
  template int64_t cross_entropy<T, I>(const T*, const I*, T*, T*, int64_t, int64_t, int64_t, double);                 \
  template void cross_entropy_backward<T, I>(const T*, const T*, const I*, const T*, int64_t, T, T*, int64_t, int64_t, \
                                             int64_t, double);
WHENCE_INSTANTIATE(float, int32_t)
WHENCE_INSTANTIATE(float, int64_t)
WHENCE_INSTANTIATE(double, int32_t)
WHENCE_INSTANTIATE(double, int64_t)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
