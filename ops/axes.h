// Axis lists of reductions, and the collapse of any reduction to (outer, n, inner).
#pragma once
#include <algorithm>
#include <memory>
#include <numeric>

#include "whence/autograd/graph.h"
#include "whence/ops/ops.h"

namespace whence {

/// {} means all axes; negative axes count from the end; sorted. Axes out of range stay as they are: inference names
/// them.
inline Ints canonical_axes(Ints axes, int rank) {
  if (axes.empty()) {
    axes.resize(size_t(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (int64_t& a : axes)
    if (a < 0 && a >= -rank) a += rank;
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

}  // namespace whence
