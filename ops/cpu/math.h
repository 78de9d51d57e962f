// Elementary functions on Vec<float> and Vec<double>. Private to kernel .cpp files.
//
// Polynomials are minimax fits of our own (Remez exchange in 50 digits, then rounded); each says what it approximates.
// Accuracy, measured over the whole range by tests/ops_cpu/math_test.cpp, is within 2 ulp in float and 1e-15 relative
// in double, and infinities, NaN, overflow and subnormals come out as the C library gives them.
#pragma once

#include <cmath>
#include <limits>

#include "whence/ops/cpu/simd.h"
#include "whence/ops/scalar.h"

namespace whence::cpu {
namespace detail {

/// c[0] + c[1] x + ... by Horner's rule.
template <class T, size_t N> Vec<T> horner(Vec<T> x, const T (&c)[N]) {
  Vec<T> r(c[N - 1]);
  for (size_t i = N - 1; i-- > 0;) r = fma(r, x, Vec<T>(c[i]));
  return r;
}

template <class T> struct Ieee;
template <> struct Ieee<float> {
  static constexpr int mantissa = 23;
  static constexpr int32_t bias = 127, mantissa_mask = 0x007fffff, sqrt_half_bits = 0x3f3504f3;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  static constexpr float ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f;  // hi has 15 bits: n * hi is exact
};
template <> struct Ieee<double> {
  static constexpr int mantissa = 52;
  static constexpr int64_t bias = 1023, mantissa_mask = 0x000fffffffffffffLL, sqrt_half_bits = 0x3fe6a09e667f3bcdLL;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double ln2_hi = 0x1.62e42fefa38p-1, ln2_lo = 0x1.ef35793c7673p-45;
};

/// (e^r - 1 - r) / r^2 on |r| <= ln(2)/2.
inline Vec<float> exp_tail(Vec<float> r) {
  static constexpr float c[] = {0.5000000062f, 0.1666654267f, 0.04166628102f, 0.008366631546f, 0.001394653514f};
  return horner(r, c);
}
inline Vec<double> exp_tail(Vec<double> r) {
  static constexpr double c[] = {0.5,
                                 0.16666666666666677,
                                 0.0416666666666667,
                                 0.008333333333321563,
                                 0.0013888888888866715,
                                 0.0001984126988632875,
                                 2.4801587360822257e-05,
                                 2.755724397857236e-06,
                                 2.755724251943671e-07,
                                 2.510912569219521e-08,
                                 2.0924520143777175e-09};
  return horner(r, c);
}

/// (log(1+f) - f + f^2/2) / f^3 on [sqrt(1/2) - 1, sqrt(2) - 1].
inline Vec<float> log_tail(Vec<float> f) {
  static constexpr float c[] = {0.333333106f,   -0.2499998656f, 0.2000221808f,  -0.166692483f, 0.1421880286f,
                                -0.1238445894f, 0.1187212982f,  -0.1178892871f, 0.06916096936f};
  return horner(f, c);
}

/// (2 atanh(s) - 2 s) / s^3 as a function of z = s^2, for log in double.
inline Vec<double> atanh_tail(Vec<double> z) {
  static constexpr double c[] = {0.6666666666666733,  0.39999999999417485, 0.2857142874295164, 0.22222198422854658,
                                 0.18183576058848946, 0.1531366473304233,  0.14800564569261598};
  return horner(z, c);
}

/// n (an integer held as a real) and r with x = n ln 2 + r, |r| <= ln(2)/2.
template <class T> Vec<T> reduce_ln2(Vec<T> x, Vec<T>& n) {
  n = rint(x * Vec<T>(T(1.4426950408889634)));
  Vec<T> r = fma(n, Vec<T>(-Ieee<T>::ln2_hi), x);
  return fma(n, Vec<T>(-Ieee<T>::ln2_lo), r);
}

/// 2^n for a real n that holds an integer within the exponent range of normal numbers.
template <class T> Vec<T> pow2_normal(Vec<T> n) {
  IntBatch<T> i = as_int(n + Vec<T>(Ieee<T>::magic));
  return as_real<T>((i + IntBatch<T>(Ieee<T>::bias)) << Ieee<T>::mantissa);
}

/// p * 2^n for |n| up to twice the exponent range: gradual underflow and overflow to infinity.
template <class T> Vec<T> scale_pow2(Vec<T> p, Vec<T> n) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return xsimd::batch<T>(_mm512_scalef_ps(p.v, n.v));
  else return xsimd::batch<T>(_mm512_scalef_pd(p.v, n.v));
#else
  Vec<T> half = rint(n * Vec<T>(T(0.5)));
  return p * pow2_normal(half) * pow2_normal(n - half);
#endif
}

/// x limited to [lo, hi]; NaN stays NaN.
template <class T> Vec<T> limit(Vec<T> x, T lo, T hi) {
#if defined(__AVX512F__)  // these return the second operand when either is a NaN
  if constexpr (std::is_same_v<T, float>)
    return xsimd::batch<T>(_mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), x.v)));
  else return xsimd::batch<T>(_mm512_min_pd(_mm512_set1_pd(hi), _mm512_max_pd(_mm512_set1_pd(lo), x.v)));
#else
  return select(x < Vec<T>(lo), Vec<T>(lo), select(x > Vec<T>(hi), Vec<T>(hi), x));
#endif
}

/// Each lane by a scalar function: for the rare ones.
template <class T, class F> Vec<T> by_lane(Vec<T> a, F f) {
  alignas(64) T t[Vec<T>::size];
  a.v.store_aligned(t);
  for (T& x : t) x = f(x);
  return xsimd::batch<T>::load_aligned(t);
}

}  // namespace detail

template <class T> Vec<T> exp(Vec<T> x) {
  constexpr bool single = std::is_same_v<T, float>;
  x = detail::limit(x, single ? T(-104) : T(-746), single ? T(89) : T(710));
  Vec<T> n, r = detail::reduce_ln2(x, n);
  Vec<T> p = fma(r * r, detail::exp_tail(r), r);
  return detail::scale_pow2(p + Vec<T>(T(1)), n);
}

/// exp for weights that are summed: results below the smallest normal number become zero. Producing a subnormal, or
/// rounding one to zero, costs some processors over a hundred cycles, and masked scores (-inf) would do so all the
/// time.
template <class T> Vec<T> exp_flush(Vec<T> x0) {
  constexpr T least = std::is_same_v<T, float> ? T(-87) : T(-708);
  Vec<T> n, r = detail::reduce_ln2(detail::limit(x0, least, std::is_same_v<T, float> ? T(89) : T(710)), n);
  Vec<T> p = fma(r * r, detail::exp_tail(r), r);
  return select(x0 < Vec<T>(least), Vec<T>(T(0)), detail::scale_pow2(p + Vec<T>(T(1)), n));
}

template <class T> Vec<T> expm1(Vec<T> x0) {
  constexpr bool single = std::is_same_v<T, float>;
  Vec<T> x = detail::limit(x0, single ? T(-30) : T(-60), single ? T(89) : T(710));
  Vec<T> n, r = detail::reduce_ln2(x, n);
  Vec<T> p = fma(r * r, detail::exp_tail(r), r);  // e^r - 1
  // 2^n p + (2^n - 1), halved and doubled again so that 2^n itself does not overflow before the result does.
  Vec<T> s = detail::scale_pow2(Vec<T>(T(0.5)), n);
  Vec<T> y = fma(s, p, s - Vec<T>(T(0.5))) * Vec<T>(T(2));
  return select(abs(x0) < Vec<T>(single ? T(1e-8) : T(1e-17)), x0, y);  // keeps -0 and subnormals
}

template <class T> Vec<T> log(Vec<T> x0) {
  using I = detail::Ieee<T>;
  using Int = typename Vec<T>::Int;
  constexpr T tiny = std::numeric_limits<T>::min();
  constexpr bool single = std::is_same_v<T, float>;
  Mask<T> small = x0 < Vec<T>(tiny);
  Vec<T> x = select(small, x0 * Vec<T>(single ? T(0x1p25) : T(0x1p54)), x0);
  // x = 2^e * m with m in [sqrt(1/2), sqrt(2)), by integer arithmetic on the bits.
  IntBatch<T> shifted = as_int(x) - IntBatch<T>(Int(I::sqrt_half_bits));
  IntBatch<T> magic = xsimd::bitwise_cast<IntBatch<T>>(xsimd::batch<T>(I::magic));
  IntBatch<T> ebits;
  if constexpr (single) {
    ebits = shifted >> I::mantissa;
  } else {  // arithmetic shift of 64-bit lanes is missing before AVX-512: shift a value that is made non-negative
    ebits = ((shifted + IntBatch<T>(Int(1) << 62)) >> I::mantissa) - IntBatch<T>(Int(1) << 10);
  }
  Vec<T> e = as_real<T>(ebits + magic) - Vec<T>(I::magic);
  Vec<T> m = as_real<T>((shifted & IntBatch<T>(Int(I::mantissa_mask))) + IntBatch<T>(Int(I::sqrt_half_bits)));
  e = select(small, e - Vec<T>(single ? T(25) : T(54)), e);
  Vec<T> f = m - Vec<T>(T(1)), y;
  Vec<T> lo = e * Vec<T>(I::ln2_lo);
  if constexpr (single) {
    Vec<T> f2 = f * f;
    Vec<T> t = fma(f2 * f, detail::log_tail(f), lo);
    y = fma(f2, Vec<T>(T(-0.5)), t) + f;
  } else {
    Vec<T> s = f / (Vec<T>(T(2)) + f), z = s * s, h = Vec<T>(T(0.5)) * f * f;
    y = f - (h - fma(s, h + z * detail::atanh_tail(z), lo));
  }
  y = fma(e, Vec<T>(I::ln2_hi), y);
  constexpr T inf = std::numeric_limits<T>::infinity();
  y = select(x0 < Vec<T>(T(0)), Vec<T>(std::numeric_limits<T>::quiet_NaN()), y);
  y = select(x0 == Vec<T>(T(0)), Vec<T>(-inf), y);
  return select((x0 == Vec<T>(inf)) | isnan(x0), x0, y);
}

template <class T> Vec<T> log1p(Vec<T> x) {
  Vec<T> one(T(1)), u = x + one;
  // log(u) plus what the rounding of 1 + x lost, to first order.
  Vec<T> lost = select(abs(x) < one, x - (u - one), one - (u - x));
  Vec<T> y = log(u) + lost / u;
  y = select(u == one, x, y);
  y = select(x == Vec<T>(T(-1)), Vec<T>(-std::numeric_limits<T>::infinity()), y);
  return select(x == Vec<T>(std::numeric_limits<T>::infinity()), x, y);
}

/// log(1 + t) for t in [0, 1]: with s = t / (2 + t), 2 atanh(s) = t - s (t - s^2 R(s^2)); R is a fit on [0, 1/9].
template <class T> Vec<T> log1p_unit(Vec<T> t) {
  Vec<T> s = t / (Vec<T>(T(2)) + t), z = s * s, r;
  if constexpr (std::is_same_v<T, float>) {
    static constexpr float c[] = {0.6666667489f, 0.3999893053f, 0.286156118f, 0.2144019349f, 0.2425745602f};
    r = detail::horner(z, c);
  } else {
    static constexpr double c[] = {0.6666666666666667,  0.3999999999999414,  0.28571428572489277, 0.22222222126831898,
                                   0.18181823150071855, 0.15384453226897213, 0.1333678524779471,  0.11716162281389787,
                                   0.10971206510836029, 0.06999214387507849, 0.16459767874239942};
    r = detail::horner(z, c);
  }
  return fma(-s, fma(-z, r, t), t);
}

template <class T> Vec<T> copysign(Vec<T> magnitude, Vec<T> sign) {
  using Int = typename Vec<T>::Int;
  IntBatch<T> bit(std::numeric_limits<Int>::min());
  return as_real<T>((as_int(magnitude) & ~bit) | (as_int(sign) & bit));
}

template <class T> Vec<T> tanh(Vec<T> x) {
  Vec<T> t = expm1(abs(x) * Vec<T>(T(-2)));  // in (-1, 0]
  return copysign(-t / (t + Vec<T>(T(2))), x);
}

inline Vec<float> erf(Vec<float> x) {
  static constexpr float near[] = {1.128379166f,    -0.3761262714f,    0.1128360018f,
                                   -0.02685444468f,  // erf(x)/x in x^2, [0,1]
                                   0.005189535423f, -0.0008020841507f, 7.889119037e-05f};
  static constexpr float far[] = {0.0003415667533f, 1.127089011f,  0.6381451338f,
                                  0.1031064911f,  // -log(erfc(x)), [1,4]
                                  -0.02183793705f,  0.0029476264f, -0.0001863759265f};
  Vec<float> a = detail::limit(abs(x), 0.0f, 4.0f);
  Vec<float> n1 = x * detail::horner(x * x, near);
  Vec<float> f1 = Vec<float>(1.0f) - exp(-detail::horner(a, far));
  return select(a < Vec<float>(1.0f), n1, copysign(f1, x));
}

namespace detail {
/// erf(x)/x in x^2 on [0,1], and exp(x^2) erfc(x) on [1,6] in t = (x-2)/(x+2).
inline constexpr double erf_near[] = {1.1283791670955126,      -0.3761263890318355,     0.11283791670945252,
                                      -0.026866170643276066,   0.005223977607422441,    -0.0008548325989657815,
                                      0.00012055295319607062,  -1.4924744650979377e-05, 1.6447517575640707e-06,
                                      -1.6209175460453178e-07, 1.3722975546023312e-08,  -7.801189502470727e-10};
inline constexpr double erfc_far[] = {0.25539567631050575,    -0.42718584741395815,   0.24165819424247353,
                                      -0.0789785810158,       0.003732892402032018,   0.006997461735626238,
                                      -0.0008471430653667231, -0.0009819761160269323, 4.3551264635126255e-05,
                                      0.00017432513201341948, 2.7523937002791028e-05, -2.712564053517146e-05,
                                      -1.3213412480795819e-05};
inline Vec<double> erfc_scaled(Vec<double> a) {
  return horner((a - Vec<double>(2.0)) / (a + Vec<double>(2.0)), erfc_far);
}
}  // namespace detail

inline Vec<double> erf(Vec<double> x) {
  Vec<double> a = detail::limit(abs(x), 0.0, 6.0);
  Vec<double> n1 = x * detail::horner(x * x, detail::erf_near);
  Vec<double> f1 = Vec<double>(1.0) - exp(-(a * a)) * detail::erfc_scaled(a);
  return select(a < Vec<double>(1.0), n1, copysign(f1, x));
}

/// exp(-a^2 / 2) times a smooth factor, which is fitted: one exponential serves GELU and its derivative.
inline scalar::NormalTail<Vec<float>> normal_tail(Vec<float> a) {
  static constexpr float c[] = {-1.27575040e-05f, 0.15992038f,  0.15564593f, 0.15907693f,
                                -0.014221367f,  // Phi(-a) / exp(-a^2/2) on [0,14]
                                0.25407648f,      -0.37680984f, 0.20232442f, -0.0400002f};  // in t = 1 / (1 + 0.4 a)
  Vec<float> bell = exp_flush(Vec<float>(-0.5f) * a * a),
             t = Vec<float>(1.0f) / fma(a, Vec<float>(0.4f), Vec<float>(1.0f));
  return {bell * detail::horner(t, c), bell};
}
inline scalar::NormalTail<Vec<double>> normal_tail(Vec<double> a) {
  Vec<double> z = a * Vec<double>(0.70710678118654752), bell = exp_flush(Vec<double>(-0.5) * a * a), half(0.5);
  Vec<double> near = half - half * z * detail::horner(z * z, detail::erf_near);
  return {select(z < Vec<double>(1.0), near, half * bell * detail::erfc_scaled(detail::limit(z, 1.0, 6.0))), bell};
}

template <class T> Vec<T> sin(Vec<T> x) { return xsimd::sin(x.v); }
template <class T> Vec<T> cos(Vec<T> x) { return xsimd::cos(x.v); }

/// x^y with the C library's special cases. For float, positive finite x go as exp(y log x) in double; every lane is
/// decided by its own operands, so that an element's result does not depend on its neighbours.
template <class T> Vec<T> pow(Vec<T> x, Vec<T> y) {
  alignas(64) T a[Vec<T>::size], b[Vec<T>::size], r[Vec<T>::size];
  auto plain = [](T base, T power) {
    return std::is_same_v<T, float> && base > T(0) && base < std::numeric_limits<T>::infinity() &&
           std::abs(power) < std::numeric_limits<T>::infinity();
  };
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    using D = xsimd::batch<double>;
    auto half = [](__m256 u, __m256 v) {
      return _mm512_cvtpd_ps(exp(Vec<double>(D(_mm512_cvtps_pd(v))) * log(Vec<double>(D(_mm512_cvtps_pd(u))))).v);
    };
    auto upper = [](Vec<T> u) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(u.v), 1)); };
    __m256 lo = half(_mm512_castps512_ps256(x.v), _mm512_castps512_ps256(y.v)), hi = half(upper(x), upper(y));
    Vec<T> fast = xsimd::batch<T>(
        _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(lo)), _mm256_castps_pd(hi), 1)));
    Mask<float> all_plain = (x > Vec<float>(0.0f)) & (x < Vec<float>(inf)) & (abs(y) < Vec<float>(inf));
    if (xsimd::all(all_plain.m)) return fast;
    fast.v.store_aligned(r);
    x.v.store_aligned(a);
    y.v.store_aligned(b);
    for (int64_t i = 0; i < Vec<T>::size; ++i)
      if (!plain(a[i], b[i])) r[i] = std::pow(a[i], b[i]);
    return xsimd::batch<T>::load_aligned(r);
  }
#endif
  x.v.store_aligned(a);
  y.v.store_aligned(b);
  for (int64_t i = 0; i < Vec<T>::size; ++i)
    r[i] = plain(a[i], b[i]) ? static_cast<T>(std::exp(double(b[i]) * std::log(double(a[i])))) : std::pow(a[i], b[i]);
  return xsimd::batch<T>::load_aligned(r);
}

}  // namespace whence::cpu
