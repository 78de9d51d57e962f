// Reductions of one contiguous row in registers: blocked sums, maxima, sums of exponentials. Private to kernel .cpp
// files.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "whence/ops/cpu/math.h"

namespace whence::cpu {

inline constexpr int64_t kBlock = 512;  // elements summed in registers before the pairwise tree begins

template <class T> constexpr T inf() { return std::numeric_limits<T>::infinity(); }

// ---- what is reduced: identity, combination of registers and of scalars -------------------------------------------

struct Sum {
  template <class T> static constexpr T identity() { return T(0); }
  template <class V> static V combine(V a, V b) { return a + b; }
  template <class T> static T fold(Vec<T> a) { return fold_add(a); }
};
template <class T>
requires std::is_floating_point_v<T>
bool isnan(T x) { return x != x; }
template <class T>
requires std::is_floating_point_v<T> T pick(bool c, T a, T b) { return c ? a : b; }
template <class T> Vec<T> pick(Mask<T> c, Vec<T> a, Vec<T> b) { return select(c, a, b); }
struct Max {
  template <class T> static constexpr T identity() { return -inf<T>(); }
  template <class V> static V combine(V a, V b) { return pick((a > b) | isnan(a), a, b); }
  template <class T> static T fold(Vec<T> a) { return fold_max(a); }
};
struct Min {
  template <class T> static constexpr T identity() { return inf<T>(); }
  template <class V> static V combine(V a, V b) { return pick((a < b) | isnan(a), a, b); }
  template <class T> static T fold(Vec<T> a) { return fold_min(a); }
};

/// The n elements at p, the missing lanes holding `fill`.
template <class T> Vec<T> load_or(const T* p, int64_t n, T fill) {
  alignas(64) T t[Vec<T>::size];
  std::fill(t, t + Vec<T>::size, fill);
  std::copy(p, p + n, t);
  return Vec<T>::load(t);
}
template <class R, class T> Vec<T> load_tail(const T* p, int64_t n) { return load_or(p, n, R::template identity<T>()); }

/// Reduces n contiguous elements; `load(i)` gives the register at i, `tail(i, m)` the last m elements padded with the
/// identity.
template <class R, class T, class Load, class Tail>
T run(int64_t begin, int64_t n, const Load& load, const Tail& tail) {
  using V = Vec<T>;
  if (n > kBlock) {  // pairwise tree over blocks
    int64_t half = (n / 2 + kBlock - 1) / kBlock * kBlock;
    T left = run<R, T>(begin, half, load, tail);
    return R::combine(left, run<R, T>(begin + half, n - half, load, tail));
  }
  V a0(R::template identity<T>()), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = begin, end = begin + n;
  for (; i + 4 * V::size <= end; i += 4 * V::size) {
    a0 = R::combine(a0, load(i));
    a1 = R::combine(a1, load(i + V::size));
    a2 = R::combine(a2, load(i + 2 * V::size));
    a3 = R::combine(a3, load(i + 3 * V::size));
  }
  for (; i + V::size <= end; i += V::size) a0 = R::combine(a0, load(i));
  if (i < end) a1 = R::combine(a1, tail(i, end - i));
  return R::fold(R::combine(R::combine(a0, a1), R::combine(a2, a3)));
}

template <class R, class T> T reduce_row(const T* x, int64_t n) {
  return run<R, T>(
      0, n, [x](int64_t i) { return Vec<T>::load(x + i); },
      [x](int64_t i, int64_t m) { return load_tail<R>(x + i, m); });
}

/// f(register, m) over a row; m < size only at the end.
template <class T, class F> void each(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + Vec<T>::size <= n; i += Vec<T>::size) f(i, Vec<T>::size);
  if (i < n) f(i, n - i);
}
template <class T> Vec<T> load_upto(const T* p, int64_t m) {
  return m == Vec<T>::size ? Vec<T>::load(p) : Vec<T>::load(p, m);
}
template <class T> void store_upto(Vec<T> v, T* p, int64_t m) { m == Vec<T>::size ? v.store(p) : v.store(p, m); }

/// Sum of exp(x - shift) over a row, storing the exponentials to y when Store.
template <bool Store, class T> T exp_sum(const T* x, T* y, int64_t n, T shift) {
  using V = Vec<T>;
  V s(shift), zero(T(0));
  return run<Sum, T>(
      0, n,
      [&](int64_t i) {
        V e = exp_flush(V::load(x + i) - s);
        if constexpr (Store) e.store(y + i);
        return e;
      },
      [&](int64_t i, int64_t m) {
        V e = exp_flush(V::load(x + i, m) - s);
        if constexpr (Store) e.store(y + i, m);
        alignas(64) T t[V::size] = {};
        e.store(t, m);
        return V::load(t);
      });
}

}  // namespace whence::cpu
