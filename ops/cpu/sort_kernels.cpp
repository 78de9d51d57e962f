// topk and argsort. Each lane's positions are sorted in the workspace, by a strict order: the lower position goes first
// among equals.
#include <numeric>

#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"

namespace whence::cpu {
namespace {

/// Strict order by value; a NaN counts as the largest.
template <class T> bool before(T a, T b, bool descending) {
  const bool na = a != a, nb = b != b;
  if (na || nb) return descending ? na && !nb : !na && nb;
  return descending ? a > b : a < b;
}

size_t order_bytes(std::span<const TensorType> in, std::span<const TensorType>, const Attrs&) {
  return size_t(in[0].shape.numel()) * sizeof(int64_t);
}

/// Finds the first k positions of every lane of x in order; f(offset in the result, offset in x, position in the lane).
template <class T, class F> void order_lanes(const KernelCall& call, const T* x, int64_t k, bool descending, F&& f) {
  const Shape& shape = call.in[0].shape;
  const Lanes s(shape, axis_of(call.attrs, shape.rank()));
  int64_t* orders = reinterpret_cast<int64_t*>(call.workspace);  // [lanes, n]
  if (shape.numel() == 0) return;
  parallel_for(s.outer * s.inner, std::max<int64_t>(1, kGrain / (8 * s.n)), [&](int64_t begin, int64_t end) {
    for (int64_t l = begin; l < end; ++l) {
      const int64_t o = l / s.inner, i = l % s.inner, at = o * s.n * s.inner + i, to = o * k * s.inner + i;
      int64_t* order = orders + l * s.n;
      std::iota(order, order + s.n, 0);
      auto less = [&](int64_t a, int64_t b) {
        const T p = x[at + a * s.inner], q = x[at + b * s.inner];
        return before(p, q, descending) || (!before(q, p, descending) && a < b);
      };
      if (k < s.n) std::partial_sort(order, order + k, order + s.n, less);
      else std::sort(order, order + s.n, less);
      for (int64_t j = 0; j < k; ++j) f(to + j * s.inner, at + order[j] * s.inner, order[j]);
    }
  });
}

void topk_kernel(const KernelCall& call) {
  const View &x = call.in[0], &values = call.out[0];
  const int64_t k = values.shape[axis_of(call.attrs, x.shape.rank())];
  int64_t* index = call.out[1].as<int64_t>();
  for_numbers(x.dtype, [&](auto element) {
    using T = decltype(element);
    const T* from = x.as<T>();
    T* to = values.as<T>();
    order_lanes(call, from, k, call.attrs.flag("largest"), [&](int64_t i, int64_t at, int64_t position) {
      to[i] = from[at];
      index[i] = position;
    });
  });
}

void argsort_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  int64_t* y = call.out[0].as<int64_t>();
  for_numbers(x.dtype, [&](auto element) {
    order_lanes(call, x.as<decltype(element)>(), x.shape[axis_of(call.attrs, x.shape.rank())],
                call.attrs.flag("descending"), [&](int64_t i, int64_t, int64_t position) { y[i] = position; });
  });
}

}  // namespace

REGISTER_KERNEL(cpu, topk) = {topk_kernel, {.workspace = order_bytes}};
REGISTER_KERNEL(cpu, argsort) = {argsort_kernel, {.workspace = order_bytes}};

}  // namespace whence::cpu
