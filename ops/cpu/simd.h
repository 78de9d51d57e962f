// Vec<T>: one SIMD register of T, a thin skin over xsimd::batch<T>. Private to kernel .cpp files.
//
// The skin exists for three reasons: functions on Vec are found by argument-dependent lookup in this namespace, so the
// text of ops/scalar.h can say `exp(x)` for a float, a double and a register and never pick xsimd's own; fused
// multiply-add is a promise and not a hope (xsimd 8.1 has none for AVX-512); and tails are partial loads, so an
// element's result never depends on where in an array it stands.
#pragma once

// GCC 12 reports its own _mm512_undefined operands as uninitialised wherever they are inlined; this must stand before
// the intrinsics' header.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace whence::cpu {

template <class T> struct Mask { xsimd::batch_bool<T> m; };

template <class T> struct Vec {
  using Batch = xsimd::batch<T>;
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  static constexpr int64_t size = static_cast<int64_t>(Batch::size);

  Batch v;

  Vec() = default;
  Vec(Batch b) : v(b) {}
  Vec(T s) : v(s) {}

  static Vec load(const T* p) { return Batch::load_unaligned(p); }
  void store(T* p) const { v.store_unaligned(p); }

  /// The first n (1 <= n <= size) elements at p; the other lanes are zero and nothing beyond p + n is read.
  static Vec load(const T* p, int64_t n) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
      return Batch(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p));
    else return Batch(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p));
#else
    alignas(64) T t[size] = {};
    std::memcpy(t, p, static_cast<size_t>(n) * sizeof(T));
    return Batch::load_aligned(t);
#endif
  }
  void store(T* p, int64_t n) const {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>) _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
    else _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), v);
#else
    alignas(64) T t[size];
    v.store_aligned(t);
    std::memcpy(p, t, static_cast<size_t>(n) * sizeof(T));
#endif
  }

  Vec& operator+=(Vec o) {
    v += o.v;
    return *this;
  }
  Vec& operator-=(Vec o) {
    v -= o.v;
    return *this;
  }
  Vec& operator*=(Vec o) {
    v *= o.v;
    return *this;
  }
  Vec& operator/=(Vec o) {
    v /= o.v;
    return *this;
  }
  friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend Vec operator-(Vec a) { return -a.v; }
  friend Mask<T> operator<(Vec a, Vec b) { return {a.v < b.v}; }
  friend Mask<T> operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
  friend Mask<T> operator>(Vec a, Vec b) { return {b.v < a.v}; }
  friend Mask<T> operator>=(Vec a, Vec b) { return {b.v <= a.v}; }
  friend Mask<T> operator==(Vec a, Vec b) { return {a.v == b.v}; }
  friend Mask<T> operator!=(Vec a, Vec b) { return {~(a.v == b.v)}; }  // xsimd 8.1's != is false for NaN
};

template <class T> Mask<T> operator|(Mask<T> a, Mask<T> b) { return {a.m | b.m}; }
template <class T> Mask<T> operator&(Mask<T> a, Mask<T> b) { return {a.m & b.m}; }
template <class T> bool any(Mask<T> a) { return xsimd::any(a.m); }

template <class T> Vec<T> select(Mask<T> c, Vec<T> a, Vec<T> b) { return xsimd::select(c.m, a.v, b.v); }
template <class T> Mask<T> isnan(Vec<T> a) { return {xsimd::isnan(a.v)}; }
template <class T> Vec<T> sqrt(Vec<T> a) { return xsimd::sqrt(a.v); }
template <class T> Vec<T> abs(Vec<T> a) { return xsimd::abs(a.v); }

// The instruction's own maximum: what a NaN gives is unspecified. Use where neither operand can be one.
template <class T> Vec<T> fast_max(Vec<T> a, Vec<T> b) { return xsimd::max(a.v, b.v); }

/// a * b + c with one rounding where the machine has it.
template <class T> Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return xsimd::batch<T>(_mm512_fmadd_ps(a.v, b.v, c.v));
  else return xsimd::batch<T>(_mm512_fmadd_pd(a.v, b.v, c.v));
#else
  return xsimd::fma(a.v, b.v, c.v);
#endif
}

template <class T> Vec<T> floor(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return xsimd::batch<T>(_mm512_roundscale_ps(a.v, 0x09));
  else return xsimd::batch<T>(_mm512_roundscale_pd(a.v, 0x09));
#else
  return xsimd::floor(a.v);
#endif
}

/// To the nearest integer, halves to even.
template <class T> Vec<T> rint(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return xsimd::batch<T>(_mm512_roundscale_ps(a.v, 0x08));
  else return xsimd::batch<T>(_mm512_roundscale_pd(a.v, 0x08));
#else
  return xsimd::nearbyint(a.v);
#endif
}

template <class T> using IntBatch = xsimd::batch<typename Vec<T>::Int>;
template <class T> IntBatch<T> as_int(Vec<T> a) { return xsimd::bitwise_cast<IntBatch<T>>(a.v); }
template <class T> Vec<T> as_real(IntBatch<T> a) { return xsimd::bitwise_cast<xsimd::batch<T>>(a); }

/// All lanes, combined as a balanced tree: the same order on every machine with the same register width.
template <class T, class F> T fold(Vec<T> a, F f) {
  alignas(64) T t[Vec<T>::size];
  a.v.store_aligned(t);
  for (int64_t w = Vec<T>::size / 2; w > 0; w /= 2)
    for (int64_t i = 0; i < w; ++i) t[i] = f(t[i], t[i + w]);
  return t[0];
}
template <class T> T fold_add(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return _mm512_reduce_add_ps(a.v);
  else return _mm512_reduce_add_pd(a.v);
#else
  return fold(a, [](T x, T y) { return x + y; });
#endif
}
template <class T> T fold_max(Vec<T> a) {
  return fold(a, [](T x, T y) { return x > y || x != x ? x : y; });
}
template <class T> T fold_min(Vec<T> a) {
  return fold(a, [](T x, T y) { return x < y || x != x ? x : y; });
}

}  // namespace whence::cpu
