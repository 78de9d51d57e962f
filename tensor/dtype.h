// Element types. f32 and f64 compute; bf16 and f16 store (the planner casts around kernels); integers index; boolean
// masks.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace whence {

enum class DType : uint8_t { f32, f64, bf16, f16, i32, i64, u8, boolean };

inline constexpr DType f32 = DType::f32;
inline constexpr DType f64 = DType::f64;
inline constexpr DType bf16 = DType::bf16;
inline constexpr DType f16 = DType::f16;
inline constexpr DType i32 = DType::i32;
inline constexpr DType i64 = DType::i64;
inline constexpr DType u8 = DType::u8;
inline constexpr DType boolean = DType::boolean;

/// Bytes of one element.
constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::u8:
    case DType::boolean: return 1;
  }
  return 0;
}

constexpr bool is_float(DType t) { return t <= DType::f16; }  ///< f32, f64, bf16, f16
/// i32, i64, u8; not boolean.
constexpr bool is_integer(DType t) { return t == DType::i32 || t == DType::i64 || t == DType::u8; }

/// Can t hold x as it is? Integers those of their range, bool 0 and 1; floats take every number, rounded.
bool holds(DType t, double x);

/// The dtype of sums, statistics and losses over t: f32 for the halves, else t.
constexpr DType accumulate_dtype(DType t) { return t == DType::bf16 || t == DType::f16 ? DType::f32 : t; }

/// A set of dtypes.
class Dtypes {
 public:
  constexpr Dtypes() = default;
  constexpr Dtypes(std::initializer_list<DType> list) {
    for (DType t : list) bits_ |= uint16_t(1u << int(t));
  }
  constexpr bool has(DType t) const { return bits_ >> int(t) & 1; }

 private:
  uint16_t bits_ = 0;
};
inline constexpr Dtypes kWideFloats{DType::f32, DType::f64};  ///< what kernels compute in
inline constexpr Dtypes kAllFloats{DType::f32, DType::f64, DType::bf16, DType::f16};

/// "f32", "bf16", "bool", ...
std::string_view name_of(DType t);
/// Inverse of name_of. \throws DTypeError for an unknown name.
DType dtype_from(std::string_view name);

/// bfloat16 storage: the upper half of a float. Rounds to nearest even, beyond the largest to infinity; a NaN stays
/// one.
struct bf16_t {
  uint16_t bits = 0;
  bf16_t() = default;
  explicit bf16_t(float x) {
    uint32_t u = std::bit_cast<uint32_t>(x);
    bits = uint16_t(x != x ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

/// IEEE half storage, rounded as bf16_t is. Without branches, so that loops over it become vectors.
struct f16_t {
  uint16_t bits = 0;
  f16_t() = default;
  explicit f16_t(float x) {
    uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;  // other bias; may carry into infinity
    uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;  // 2^-24 is the last place
    uint32_t h = a < 0x38800000u ? small : normal;
    h = a >= 0x47800000u ? 0x7c00u : h;
    h = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ffu) : h;
    bits = uint16_t(h | sign);
  }
  explicit operator float() const {
    uint32_t a = bits & 0x7fffu, sign = uint32_t(bits & 0x8000u) << 16;
    uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(a << 13) * 0x1p112f);  // subnormals too
    return std::bit_cast<float>((a >= 0x7c00u ? (a << 13) | 0x7f800000u : finite) | sign);
  }
};

template <class T> struct dtype_of;  // dtype_of<float>::value == f32
template <> struct dtype_of<float> { static constexpr DType value = f32; };
template <> struct dtype_of<double> { static constexpr DType value = f64; };
template <> struct dtype_of<bf16_t> { static constexpr DType value = bf16; };
template <> struct dtype_of<f16_t> { static constexpr DType value = f16; };
template <> struct dtype_of<int32_t> { static constexpr DType value = i32; };
template <> struct dtype_of<int64_t> { static constexpr DType value = i64; };
template <> struct dtype_of<uint8_t> { static constexpr DType value = u8; };
template <> struct dtype_of<bool> { static constexpr DType value = boolean; };

}  // namespace whence
