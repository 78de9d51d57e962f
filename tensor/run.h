// A strided run of elements made contiguous: what copies and gathers are made of.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace whence {

/// y[i] = x[i * step] for i < n; U is an unsigned integer of the element's size, since bits are moved.
template <class U> void copy_run(const U* x, int64_t step, U* y, int64_t n) {
  if (step == 1 && n >= 16) std::memcpy(y, x, size_t(n) * sizeof(U));  // worth its call
  else if (step == 0 && n > 0) std::fill_n(y, n, *x);
  else
    for (int64_t i = 0; i < n; ++i) y[i] = x[i * step];
}

/// Calls f(U{}) for the unsigned integer U of `size` bytes: 1, 2, 4 or 8.
template <class F> decltype(auto) with_bits(size_t size, F&& f) {
  switch (size) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

}  // namespace whence
