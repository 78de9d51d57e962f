#include "whence/tensor/convert.h"

#include <cstring>

namespace whence {
namespace {

template <class T> using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;  // a byte may hold 7

template <class S, class D> void run(const void* from, void* to, int64_t n, const double*) {
  if constexpr (std::is_same_v<S, D>) {
    if (n > 0 && from != to) std::memmove(to, from, size_t(n) * sizeof(S));
  } else {
    auto x = static_cast<const Stored<S>*>(from);
    auto y = static_cast<Stored<D>*>(to);
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (std::is_same_v<S, bool>) y[i] = convert<D>(x[i] != 0);
      else y[i] = convert<D>(x[i]);
    }
  }
}

template <class S> ConvertRun from(DType to) {
  switch (to) {
    case DType::f32: return run<S, float>;
    case DType::f64: return run<S, double>;
    case DType::bf16: return run<S, bf16_t>;
    case DType::f16: return run<S, f16_t>;
    case DType::i32: return run<S, int32_t>;
    case DType::i64: return run<S, int64_t>;
    case DType::u8: return run<S, uint8_t>;
    case DType::boolean: return run<S, bool>;
  }
  return nullptr;
}

}  // namespace

ConvertRun convert_run(DType s, DType to) {
  switch (s) {
    case DType::f32: return from<float>(to);
    case DType::f64: return from<double>(to);
    case DType::bf16: return from<bf16_t>(to);
    case DType::f16: return from<f16_t>(to);
    case DType::i32: return from<int32_t>(to);
    case DType::i64: return from<int64_t>(to);
    case DType::u8: return from<uint8_t>(to);
    case DType::boolean: return from<bool>(to);
  }
  return nullptr;
}

}  // namespace whence
