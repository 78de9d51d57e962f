// Conversion between element types: one scalar meaning, which every copy, cast and fill has.
#pragma once
#include <cmath>
#include <limits>
#include <type_traits>

#include "whence/tensor/dtype.h"

namespace whence {
namespace detail {

template <class T> inline constexpr bool is_half = std::is_same_v<T, bf16_t> || std::is_same_v<T, f16_t>;

// Rounding to odd: x itself where it fits, else that one of its two neighbours whose last bit is set. To round the
// result once more, to a type shorter by two bits or more, gives what rounding x itself gives.
inline float odd(double x) {
  float f = float(x);
  uint32_t u = std::bit_cast<uint32_t>(f);
  double y = f, over = std::fabs(y) - std::fabs(x);
  uint32_t toward = over > 0 ? ~0u : y != x ? 1u : 0u;          // a NaN changes in its last bit only
  return std::bit_cast<float>(u + (toward & ((u & 1u) - 1u)));  // nothing where f is odd
}
inline float odd(int32_t x) {
  bool fits = uint32_t(x) + (1u << 24) <= 1u << 25;
  return float(fits ? x : (x & ~0xff) | (x & 0xff ? 0x80 : 0));
}
inline double odd(int64_t x) {
  bool fits = uint64_t(x) + (uint64_t(1) << 53) <= uint64_t(1) << 54;
  return double(fits ? x : (x & ~int64_t(0x7ff)) | (x & 0x7ff ? 0x400 : 0));
}

template <class I, class R> I saturate(R x) {
  constexpr I low = std::numeric_limits<I>::min(), high = std::numeric_limits<I>::max();
  // R(high) may round up to the power of two above: hence >=.
  return x != x ? I(0) : x >= R(high) ? high : x <= R(low) ? low : static_cast<I>(x);
}

}  // namespace detail

/// x as a D. D and S are element types (float, double, bf16_t, f16_t, int32_t, int64_t, uint8_t, bool).
///
///  from          to              value
///  anything      f32, f64        the nearest, ties to even; beyond the largest: infinity; a NaN stays a NaN
///  anything      bf16, f16       the same, rounded once (not first to f32, then to half)
///  real          integer         towards zero; beyond either end: that end (u8: 0 and 255); a NaN is 0
///  integer       integer         modulo 2^n, as C++20 and PyTorch have it: i64 300 is u8 44, i32 -1 is u8 255
///  anything      bool            x != 0: a NaN is true, -0 is false
///  bool          number          0 or 1
template <class D, class S> D convert(S x) {
  if constexpr (std::is_same_v<D, S>) return x;
  else if constexpr (detail::is_half<S>) return convert<D>(float(x));
  else if constexpr (std::is_same_v<D, bool>) return x != S(0);
  else if constexpr (std::is_same_v<S, bool> && detail::is_half<D>) return D(float(int32_t(x)));
  else if constexpr (std::is_same_v<S, bool>) return static_cast<D>(int32_t(x));
  else if constexpr (detail::is_half<D>) {
    if constexpr (std::is_same_v<S, float> || std::is_same_v<S, uint8_t>) return D(float(x));
    else return convert<D>(detail::odd(x));  // i64 by way of f64
  } else if constexpr (std::is_floating_point_v<S> && std::is_integral_v<D>) return detail::saturate<D>(x);
  else return static_cast<D>(x);
}

/// y[i] = convert(x[i]) for i < n, without threads; bytes of a boolean other than 0 and 1 are true. The last argument
/// is not read: the function has the signature of the scalar loops (autograd/scalar_row.h), so that a cast joins a
/// fused group.
using ConvertRun = void (*)(const void* x, void* y, int64_t n, const double*);
/// The run for a pair of dtypes; x may be y where their elements have one size.
ConvertRun convert_run(DType from, DType to);

}  // namespace whence
