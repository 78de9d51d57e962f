// The language of scalar functions: one text, three compilers.
//
// T is float or double (reference, CUDA through NVRTC) or a SIMD register (whence::cpu::Vec, whose exp, log, select ...
// are found by argument-dependent lookup). So the text keeps to a small language: arithmetic, comparisons,
// `select(condition, a, b)` instead of branches, constants as T(0.5), and the functions named below. No standard header
// is used under NVRTC. Integers have arithmetic, comparisons and what stands under "integers".
//
// d_NAME(v, dy) is the derivative times dy, where v is the input x, or the output y for tanh and sigmoid, whose
// derivatives are cheaper from it.
#pragma once

#ifdef __CUDACC__
#define WHENCE_FN __host__ __device__ inline
#else
#define WHENCE_FN inline
#endif

#ifndef __CUDACC_RTC__
#include <cmath>
#endif

namespace whence::scalar {

#ifndef __CUDACC_RTC__
using std::abs, std::atan, std::cos, std::erf, std::erfc, std::exp, std::expm1, std::floor, std::fma, std::isnan,
    std::log, std::log1p, std::pow, std::rint, std::sin, std::sqrt, std::tanh;
#endif

WHENCE_FN float select(bool c, float a, float b) { return c ? a : b; }
WHENCE_FN double select(bool c, double a, double b) { return c ? a : b; }
template <class T> WHENCE_FN T select(bool c, T a, T b) { return c ? a : b; }

/// log(1 + t) for t in [0, 1]; registers have a shorter one.
template <class T> WHENCE_FN T log1p_unit(T t) { return log1p(t); }

// ---- one operand --------------------------------------------------------------------------------------------------

template <class T> WHENCE_FN T neg(T x) { return -x; }
template <class T> WHENCE_FN T magnitude(T x) { return abs(x); }
template <class T> WHENCE_FN T sign(T x) { return select(x > T(0), T(1), select(x < T(0), T(-1), T(0))); }  // NaN: 0
template <class T> WHENCE_FN T reciprocal(T x) { return T(1) / x; }
template <class T> WHENCE_FN T rsqrt(T x) { return T(1) / sqrt(x); }
template <class T> WHENCE_FN T square(T x) { return x * x; }
template <class T> WHENCE_FN T relu(T x) { return select(x < T(0), T(0), x); }
template <class T> WHENCE_FN T leaky_relu(T x, T slope) { return select(x < T(0), x * slope, x); }
template <class T> WHENCE_FN T clamp(T x, T lo, T hi) { return select(x < lo, lo, select(x > hi, hi, x)); }
template <class T> WHENCE_FN T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }
template <class T> WHENCE_FN T silu(T x) { return x / (T(1) + exp(-x)); }
/// The standard normal distribution at a >= 0: probability beyond it, Phi(-a), and exp(-a^2 / 2). Registers have their
/// own.
template <class T> struct NormalTail { T beyond, bell; };
template <class T> WHENCE_FN NormalTail<T> normal_tail(T a) {
  return {T(0.5) * erfc(a * T(0.70710678118654752)), exp(T(-0.5) * a * a)};
}
// x Phi(x) = max(x, 0) - |x| Phi(-|x|): exact far out on both sides. Phi(-40) is 0 in every dtype.
template <class T> WHENCE_FN T gelu(T x) {
  T a = clamp(abs(x), T(0), T(40));
  return relu(x) - a * normal_tail(a).beyond;
}
// x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), written as x sigmoid(2u).
template <class T> WHENCE_FN T gelu_tanh(T x) {
  T u2 = T(1.5957691216057308) * x * (T(1) + T(0.044715) * x * x);
  return x / (T(1) + exp(-u2));
}
// log(1 + e^(beta x)) / beta with the large part taken out, so it neither overflows nor needs a threshold.
template <class T> WHENCE_FN T softplus(T x, T beta) {
  T z = beta * x;
  return (select(z < T(0), T(0), z) + log1p_unit(exp(-abs(z)))) / beta;
}
template <class T> WHENCE_FN T log_sigmoid(T x) { return select(x > T(0), T(0), x) - log1p_unit(exp(-abs(x))); }

// ---- two operands -------------------------------------------------------------------------------------------------

template <class T> WHENCE_FN T add(T a, T b) { return a + b; }
template <class T> WHENCE_FN T sub(T a, T b) { return a - b; }
template <class T> WHENCE_FN T mul(T a, T b) { return a * b; }
template <class T> WHENCE_FN T div(T a, T b) { return a / b; }
// A NaN on either side is the answer.
template <class T> WHENCE_FN T maximum(T a, T b) { return select((a > b) | isnan(a), a, b); }
template <class T> WHENCE_FN T minimum(T a, T b) { return select((a < b) | isnan(a), a, b); }
// log(e^a + e^b) from the larger one; equal infinities have no difference.
template <class T> WHENCE_FN T logaddexp(T a, T b) {
  T apart = select(a == b, T(0), abs(a - b));
  return maximum(a, b) + log1p_unit(exp(-apart));
}
/// share r / (z + sigma(z) e), sigma(0) = 1; 0 where the denominator is 0, and where r is, were z NaN.
template <class T> WHENCE_FN T stabilised_div(T r, T z, T share, T e) {
  T den = z + select(z >= T(0), e, -e);
  return select((den == T(0)) | (r == T(0)), T(0), share * r / den);
}

// ---- derivatives --------------------------------------------------------------------------------------------------

template <class T> WHENCE_FN T d_tanh(T y, T dy) { return dy * (T(1) - y * y); }
template <class T> WHENCE_FN T d_sigmoid(T y, T dy) { return dy * (y * (T(1) - y)); }
template <class T> WHENCE_FN T d_relu(T x, T dy) { return select(x <= T(0), T(0), dy); }  // a NaN passes
template <class T> WHENCE_FN T d_leaky_relu(T x, T dy, T slope) { return select(x > T(0), dy, dy * slope); }
template <class T> WHENCE_FN T d_clamp(T x, T dy, T lo, T hi) { return select((x < lo) | (x > hi), T(0), dy); }
template <class T> WHENCE_FN T d_silu(T x, T dy) {
  T s = sigmoid(x);
  return dy * (s * (T(1) + x * (T(1) - s)));
}
template <class T> WHENCE_FN T d_gelu(T x, T dy) {
  T a = clamp(abs(x), T(0), T(40));
  auto [beyond, bell] = normal_tail(a);
  T s = beyond - T(0.39894228040143268) * a * bell;  // the derivative at -|x|; at |x| it is 1 - s
  return dy * select(x > T(0), T(1) - s, s);
}
template <class T> WHENCE_FN T d_gelu_tanh(T x, T dy) {
  T x2 = x * x;
  T s = sigmoid(T(1.5957691216057308) * x * (T(1) + T(0.044715) * x2));
  T du = T(1.5957691216057308) * (T(1) + T(0.134145) * x2);
  return dy * (s * (T(1) + x * du * (T(1) - s)));
}

// ---- integers -----------------------------------------------------------------------------------------------------
// Arithmetic wraps round.

#define WHENCE_INTEGER(I, U)                                \
  WHENCE_FN I add(I a, I b) { return (I)((U)a + (U)b); }    \
  WHENCE_FN I sub(I a, I b) { return (I)((U)a - (U)b); }    \
  WHENCE_FN I mul(I a, I b) { return (I)((U)a * (U)b); }    \
  WHENCE_FN I neg(I x) { return sub((I)0, x); }             \
  WHENCE_FN I magnitude(I x) { return x < 0 ? neg(x) : x; } \
  WHENCE_FN I square(I x) { return mul(x, x); }             \
  WHENCE_FN I maximum(I a, I b) { return a > b ? a : b; }   \
  WHENCE_FN I minimum(I a, I b) { return a < b ? a : b; }
WHENCE_INTEGER(int, unsigned)
WHENCE_INTEGER(long, unsigned long)
WHENCE_INTEGER(long long, unsigned long long)
#undef WHENCE_INTEGER

}  // namespace whence::scalar
