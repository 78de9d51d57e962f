// Axis lists of reductions, and the collapse of any reduction to (outer, n, inner).
#pragma once
#include <algorithm>
#include <memory>
#include <numeric>

#include "autograd/graph.h"
#include "ops/ops.h"

namespace whence {

/// {} means all axes; negative axes count from the end; sorted. Axes out of range stay as they are: inference names
/// them.
inline Ints canonical_axes(Ints axes, int rank) {
  if (axes.empty()) {
    axes.resize(size_t(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (int64_t& a : axes)
    if (a < 0) a += rank;
  std::sort(axes.begin(), axes.end());
  return axes;
}

inline Shape reduced_shape(InferCtx& c, const Ints& axes, bool keepdim) {
  unsigned mask = 0;
  for (int64_t a : axes) {
    int k = c.axis(0, a);
    if (mask >> k & 1) c.value_error("axis " + std::to_string(k) + " occurs twice");
    mask |= 1u << k;
  }
  Shape s;
  for (int i = 0; i < c.rank(0); ++i) {
    if (!(mask >> i & 1)) s.push_back(c.shape(0)[i]);
    else if (keepdim) s.push_back(1);
  }
  return s;
}

/// v, a reduction of something of shape `full`, with the reduced axes back at extent one (after `lead` leading axes).
inline Var with_axes(Var v, const Shape& full, const Ints& axes, int lead) {
  Shape s;
  for (int i = 0; i < lead; ++i) s.push_back(v.shape()[i]);
  for (int i = 0; i < full.rank(); ++i) s.push_back(std::binary_search(axes.begin(), axes.end(), i) ? 1 : full[i]);
  return reshape(v, s);
}

/// Calls f(x, y, outer, n, inner) with typed pointers; x is copied once when the reduced axes are not adjacent.
template <class F> void reduce_axes(const KernelCall& k, F&& f) {
  View x = k.in[0];
  const Ints& axes = k.attrs.ints("axes");
  std::vector<int> kept, cut;
  for (int a = 0; a < x.shape.rank(); ++a)
    (std::binary_search(axes.begin(), axes.end(), int64_t(a)) ? cut : kept).push_back(a);
  int64_t outer = 1, n = 1, inner = 1;
  for (int a : cut) n *= x.shape[a];
  bool adjacent = true;
  for (size_t i = 1; i < cut.size(); ++i)  // adjacent up to axes of extent one
    for (int a = cut[i - 1] + 1; a < cut[i]; ++a) adjacent = adjacent && x.shape[a] == 1;
  for (int a : kept) (adjacent && !cut.empty() && a > cut[0] ? inner : outer) *= x.shape[a];
  std::shared_ptr<Buffer> copied;
  if (!adjacent) {
    View moved = x;
    int to = 0;
    for (const auto& list : {kept, cut})
      for (int a : list) {
        moved.shape[to] = x.shape[a];
        moved.strides[to++] = x.strides[a];
      }
    copied = Buffer::allocate(size_t(x.numel()) * size_of(x.dtype));
    View flat{copied->data(), x.dtype, moved.shape, contiguous_strides(moved.shape)};
    copy(moved, flat);
    x.data = flat.data;
  }
  switch (x.dtype) {
    case DType::f32: return f(x.as<float>(), k.out[0].as<float>(), outer, n, inner);
    case DType::f64: return f(x.as<double>(), k.out[0].as<double>(), outer, n, inner);
    case DType::i32: return f(x.as<int32_t>(), k.out[0].as<int32_t>(), outer, n, inner);
    case DType::i64: return f(x.as<int64_t>(), k.out[0].as<int64_t>(), outer, n, inner);
    default: throw MissingKernel("a reduction has no cpu kernel for " + std::string(name_of(x.dtype)));
  }
}

}  // namespace whence
