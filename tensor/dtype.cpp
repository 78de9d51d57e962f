#include "tensor/dtype.h"

#include <array>
#include <cmath>
#include <string>

#include "tensor/error.h"

namespace whence {

static constexpr std::array<std::string_view, 8> kNames = {"f32", "f64", "bf16", "f16", "i32", "i64", "u8", "bool"};

std::string_view name_of(DType t) { return kNames[size_t(t)]; }

DType dtype_from(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return DType(i);
  throw DTypeError("unknown dtype '" + std::string(name) + "'");
}

f16_t::f16_t(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  uint16_t sign = uint16_t((u >> 16) & 0x8000);
  float a = std::fabs(x);
  if (a != a) {
    bits = sign | 0x7e00;
    return;
  }
  if (a >= 65520.0f) {
    bits = sign | 0x7c00;
    return;
  }                            // rounds to infinity
  if (a < 6.103515625e-05f) {  // subnormal: a multiple of 2^-24
    bits = sign | uint16_t(std::nearbyint(a * 16777216.0f));
    return;
  }
  uint32_t m = std::bit_cast<uint32_t>(a);
  m += 0xfff + ((m >> 13) & 1);  // round to nearest even at bit 13
  bits = sign | uint16_t((m - (112u << 23)) >> 13);
}

f16_t::operator float() const {
  uint32_t sign = uint32_t(bits & 0x8000) << 16, e = (bits >> 10) & 31, m = bits & 1023;
  if (e == 0) {
    float v = float(m) * (1.0f / 16777216.0f);
    return sign ? -v : v;
  }
  return std::bit_cast<float>(sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | (m << 13));
}

}  // namespace whence
