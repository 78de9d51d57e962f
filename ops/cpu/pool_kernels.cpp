// Pools: sums and maxima over rectangular windows of x [N, C, space..].
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/floats.h"
#include "whence/ops/pool_windows.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

/// f(plane of x, its cells in y), for every image and channel.
template <class F> void for_planes(const View& x, const View& y, F&& f) {
  const int64_t planes = x.shape[0] * x.shape[1];
  if (planes == 0) return;
  const int64_t plane = x.numel() / planes, cells = y.numel() / planes;
  parallel_for(planes, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, plane)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r * plane, r * cells);
  });
}

template <class T> void avg_pool(const KernelCall& call) {
  const View &x = call.in[0], &y = call.out[0];
  const PoolWindows windows(call.attrs, "count");
  const PoolStrides to(x.shape);
  for_planes(x, y, [&](int64_t plane, int64_t cells) {
    const T* from = x.as<T>() + plane;
    T* means = y.as<T>() + cells;
    windows.each([&](int64_t cell, const PoolWindow& w) {
      T total = 0;
      for (int64_t d = w.begin[0]; d < w.end[0]; ++d)
        for (int64_t h = w.begin[1]; h < w.end[1]; ++h)
          for (int64_t i = w.begin[2]; i < w.end[2]; ++i) total += from[to.cell(d, h, i)];
      means[cell] = total * T(1 / w.divisor());
    });
  });
}

template <class T> void avg_pool_adjoint(const KernelCall& call) {
  const View &y = call.in[0], &x = call.out[0];
  const PoolWindows windows(call.attrs, "count");
  const PoolStrides to(x.shape);
  for_planes(x, y, [&](int64_t plane, int64_t cells) {
    T* sums = x.as<T>() + plane;
    const T* from = y.as<T>() + cells;
    std::fill_n(sums, to.cells(), T(0));
    windows.each([&](int64_t cell, const PoolWindow& w) {
      const T scale = T(1 / w.divisor());
      for (int64_t d = w.begin[0]; d < w.end[0]; ++d)
        for (int64_t h = w.begin[1]; h < w.end[1]; ++h)
          for (int64_t i = w.begin[2]; i < w.end[2]; ++i) sums[to.cell(d, h, i)] += from[cell] * scale;
    });
  });
}

// The first of equals, and a NaN before any number.
template <class T> void max_pool(const KernelCall& call) {
  const View &x = call.in[0], &y = call.out[0];
  const PoolWindows windows(call.attrs, "step");
  const PoolStrides to(x.shape);
  for_planes(x, y, [&](int64_t plane, int64_t cells) {
    const T* from = x.as<T>() + plane;
    T* values = y.as<T>() + cells;
    int64_t* positions = call.out[1].as<int64_t>() + cells;
    windows.each([&](int64_t cell, const PoolWindow& w) {
      int64_t best = to.cell(w.begin[0], w.begin[1], w.begin[2]);
      T top = from[best];
      for (int64_t d = w.begin[0]; d < w.end[0]; d += w.extra[0])
        for (int64_t h = w.begin[1]; h < w.end[1]; h += w.extra[1])
          for (int64_t i = w.begin[2]; i < w.end[2]; i += w.extra[2]) {
            const int64_t at = to.cell(d, h, i);
            const T v = from[at];
            const bool take = int(v > top) | (int(v != v) & int(top == top));  // no branch: data do not repeat
            top = take ? v : top;
            best = take ? at : best;
          }
      values[cell] = top;
      positions[cell] = best;
    });
  });
}

}  // namespace

REGISTER_KERNEL(cpu, avg_pool) = [](const KernelCall& call) { by_float(call, avg_pool<float>, avg_pool<double>); };
REGISTER_KERNEL(cpu, avg_pool_adjoint) = [](const KernelCall& call) {
  by_float(call, avg_pool_adjoint<float>, avg_pool_adjoint<double>);
};
REGISTER_KERNEL(cpu, max_pool) = [](const KernelCall& call) { by_float(call, max_pool<float>, max_pool<double>); };

}  // namespace whence::cpu
