#include "tensor/dtype.h"

#include <array>
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

}  // namespace whence
