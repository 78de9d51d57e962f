// The collapse of a reduction over any axes (attribute "axes", sorted) to (outer, n, inner).
#pragma once
#include <algorithm>

#include "whence/autograd/kernel.h"

namespace whence::cpu {

struct Collapsed {
  int64_t outer = 1, n = 1, inner = 1;
  bool adjacent = true;  // up to axes of extent one; else x must be copied with its reduced axes last

  Collapsed(const Shape& x, const Ints& axes) {
    int first = -1, last = -1;
    for (int a = 0; a < x.rank(); ++a) {
      bool cut = std::binary_search(axes.begin(), axes.end(), int64_t(a));
      if (!cut) continue;
      n *= x[a];
      for (int between = last + 1; first >= 0 && between < a; ++between) adjacent = adjacent && x[between] == 1;
      if (first < 0) first = a;
      last = a;
    }
    for (int a = 0; a < x.rank(); ++a)
      if (!std::binary_search(axes.begin(), axes.end(), int64_t(a)))
        (adjacent && first >= 0 && a > first ? inner : outer) *= x[a];
  }
};

/// KernelFacts::workspace of a reduction: the copy of x, when its reduced axes lie apart.
inline size_t reduce_workspace(std::span<const TensorType> in, std::span<const TensorType>, const Attrs& attrs) {
  const TensorType& x = in[0];
  return Collapsed(x.shape, attrs.ints("axes")).adjacent ? 0 : size_t(x.shape.numel()) * size_of(x.dtype);
}

/// Calls f(x, y, outer, n, inner) with typed pointers: float, double, int32_t or int64_t.
template <class F> void reduce_axes(const KernelCall& call, F&& f) {
  View x = call.in[0];
  const Ints& axes = call.attrs.ints("axes");
  Collapsed c(x.shape, axes);
  if (!c.adjacent) {
    View moved = x;
    int to = 0;
    for (bool cut : {false, true})
      for (int a = 0; a < x.shape.rank(); ++a)
        if (std::binary_search(axes.begin(), axes.end(), int64_t(a)) == cut) {
          moved.shape[to] = x.shape[a];
          moved.strides[to++] = x.strides[a];
        }
    View flat{call.workspace, x.dtype, moved.shape, contiguous_strides(moved.shape)};
    copy(moved, flat);
    x.data = flat.data;
  }
  auto typed = [&](auto zero) {
    using T = decltype(zero);
    f(x.as<const T>(), call.out[0].as<T>(), c.outer, c.n, c.inner);
  };
  switch (x.dtype) {
    case DType::f64: return typed(double{});
    case DType::i32: return typed(int32_t{});
    case DType::i64: return typed(int64_t{});
    default: return typed(float{});
  }
}

}  // namespace whence::cpu
