#include "whence/tensor/dtype.h"

#include <array>
#include <cmath>
#include <string>

#include "whence/tensor/error.h"

namespace whence {

static constexpr std::array<std::string_view, 8> kNames = {"f32", "f64", "bf16", "f16", "i32", "i64", "u8", "bool"};

std::string_view name_of(DType t) { return kNames[size_t(t)]; }

bool holds(DType t, double x) {
  if (is_float(t)) return true;
  if (x != std::trunc(x)) return false;  // and a NaN; infinities lie beyond the ends
  switch (t) {
    case DType::i32: return x >= -0x1p31 && x < 0x1p31;
    case DType::i64: return x >= -0x1p63 && x < 0x1p63;
    case DType::u8: return x >= 0 && x < 256;
    default: return x == 0 || x == 1;
  }
}

DType dtype_from(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return DType(i);
  throw DTypeError("unknown dtype '" + std::string(name) + "'");
}

}  // namespace whence
