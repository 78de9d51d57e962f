// A row-major tensor seen along one axis, as (outer, n, inner): what kernels that walk lanes share.
#pragma once
#include <algorithm>
#include <cstring>
#include <limits>

#include "whence/tensor/parallel.h"
#include "whence/tensor/view.h"

namespace whence::cpu {

struct Lanes {
  int64_t outer = 1, n, inner = 1;
  Lanes(const Shape& s, int axis) : n(s[axis]) {
    for (int a = 0; a < axis; ++a) outer *= s[a];
    for (int a = axis + 1; a < s.rank(); ++a) inner *= s[a];
  }
  static constexpr int64_t kMost = 256;  ///< lanes of a piece whose running values lie on the stack
  /// f(o, first, last): lanes [first, last) of the inner positions at outer position o, at most `most` of them, split
  /// over threads. `work` is what one lane costs, in elements.
  template <class F> void each(int64_t work, int64_t most, F&& f) const {
    parallel_for(outer * inner, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work)),
                 [&](int64_t begin, int64_t end) {
                   while (begin < end) {
                     const int64_t first = begin % inner, last = std::min({inner, first + end - begin, first + most});
                     f(begin / inner, first, last);
                     begin += last - first;
                   }
                 });
  }
};

/// Offset of flat position i over the axes [from, to) of `shape`, in memory of the given strides.
inline int64_t offset_of(int64_t i, const Shape& shape, const Shape& strides, int from, int to) {
  int64_t at = 0;
  for (int a = to - 1; a >= from; --a) {
    at += i % shape[a] * strides[a];
    i /= shape[a];
  }
  return at;
}

/// Calls f with a value of an unsigned type of that many bytes, for kernels that only move elements.
template <class F> void for_size(size_t bytes, F&& f) {
  switch (bytes) {
    case 8: return f(uint64_t{});
    case 4: return f(uint32_t{});
    case 2: return f(uint16_t{});
    default: return f(uint8_t{});
  }
}
/// Calls f with a value of v's type, for kernels that add up and compare: f32, f64, i32, i64, and u8 for all others.
template <class F> void for_numbers(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::i32: return f(int32_t{});
    case DType::i64: return f(int64_t{});
    default: return f(uint8_t{});
  }
}

/// Zeros in a contiguous view of any dtype.
inline void zero(const View& v) {
  parallel_for(v.numel() * int64_t(size_of(v.dtype)), 4 * kGrain,
               [&](int64_t b, int64_t e) { std::memset(v.as<std::byte>() + b, 0, size_t(e - b)); });
}

}  // namespace whence::cpu
