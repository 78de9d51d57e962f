#include "whence/ops/cpu/stabilise.h"

#include <algorithm>
#include <cmath>

#include "whence/ops/cpu/micro.h"
#include "whence/ops/cpu/row.h"

namespace whence::cpu {

template <class T> void divide_stabilised(const T* r, const T* z, T* out, int64_t n, StabForm form, T e, T share) {
  using V = Vec<T>;
  auto loop = [&](auto stab) {
    each<T>(n, [&](int64_t i, int64_t m) {
      V den = stab(load_upto(z + i, m)), R = load_upto(r + i, m), y = V(share) * R / den;
      store_upto(select((den == V(T(0))) | (R == V(T(0))), V(T(0)), y), out + i, m);
    });
  };
  const V add(e), minus(-e), zero(T(0));
  switch (form) {
    case StabForm::sign: return loop([&](V d) { return d + select(d >= zero, add, minus); });
    case StabForm::plain: return loop([&](V d) { return d + add; });
    case StabForm::clip:
      return loop([&](V d) { return select(d >= zero, select(d > add, d, add), select(d < minus, d, minus)); });
  }
}

template <class T> double root_mean_square(const T* z, int64_t n) {
  if (n <= 0) return 0;
  auto squared = [](Vec<T> v) { return v * v; };
  double sum = run<Sum, T>(
      0, n, [&](int64_t i) { return squared(Vec<T>::load(z + i)); },
      [&](int64_t i, int64_t m) { return squared(load_tail<Sum>(z + i, m)); });
  if (!std::isfinite(sum)) {
    sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += double(z[i]) * double(z[i]);
  }
  return std::sqrt(sum / double(n));
}

namespace {

template <class T>
void divide_rows(const void* rv, int r_step, const void* zv, int z_step, void* out, int64_t n, const double* params) {
  const T share = T(params[0]);
  const int64_t row = int64_t(params[2]);
  auto at = [&](const void* p, int step, int64_t i) {
    const T* x = static_cast<const T*>(p);
    if (step) return x + i;
    T* same = scratch<T>(9, row);  // a row of one value
    std::fill(same, same + row, *x);
    return static_cast<const T*>(same);
  };
  for (int64_t i = 0; i < n; i += row) {
    T e = T(params[1] * std::max(1.0, root_mean_square(at(zv, z_step, i), row)));
    if (r_step && z_step) {
      divide_stabilised(static_cast<const T*>(rv) + i, static_cast<const T*>(zv) + i, static_cast<T*>(out) + i, row,
                        StabForm::sign, e, share);
      continue;
    }
    for (int64_t j = i; j < i + row; ++j)
      divide_stabilised(static_cast<const T*>(rv) + j * r_step, static_cast<const T*>(zv) + j * z_step,
                        static_cast<T*>(out) + j, 1, StabForm::sign, e, share);
  }
}

}  // namespace

BinaryLoop find_row_loop(std::string_view name, DType dtype) {
  if (name != "stabilised_div") return nullptr;
  return dtype == f32 ? divide_rows<float> : dtype == f64 ? divide_rows<double> : nullptr;
}

#define WHENCE_INSTANTIATE(T)                                                          \
  template void divide_stabilised<T>(const T*, const T*, T*, int64_t, StabForm, T, T); \
  template double root_mean_square<T>(const T*, int64_t);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
