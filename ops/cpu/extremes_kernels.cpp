// Extrema and where they are, logsumexp, any, all: over any axes.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/cpu/reduce_axes.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

/// y[o, i] = f(first element of lane (o, i)); the next ones lie `inner` apart.
template <class T, class R, class F> void fold(const T* x, R* y, int64_t outer, int64_t n, int64_t inner, F&& f) {
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) y[o * inner + i] = f(x + o * n * inner + i);
}

template <bool LARGEST> void extremum_kernel(const KernelCall& call) {
  reduce_axes(call, [](const auto* x, auto* y, int64_t outer, int64_t n, int64_t inner) {
    using T = std::remove_pointer_t<decltype(y)>;
    if constexpr (std::is_floating_point_v<T>) {
      LARGEST ? reduce_max(x, y, outer, n, inner) : reduce_min(x, y, outer, n, inner);
    } else {
      fold(x, y, outer, n, inner, [&](const T* p) {
        T best = p[0];
        for (int64_t r = 1; r < n; ++r) best = LARGEST ? std::max(best, p[r * inner]) : std::min(best, p[r * inner]);
        return best;
      });
    }
  });
}

template <bool LARGEST> void arg_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  const Lanes s(x.shape, axis_of(call.attrs, x.shape.rank()));
  int64_t* y = call.out[0].as<int64_t>();
  for_numbers(x.dtype, [&](auto element) {
    using T = decltype(element);
    const T* from = x.as<T>();
    if constexpr (std::is_floating_point_v<T>) {
      LARGEST ? reduce_argmax(from, y, s.outer, s.n, s.inner) : reduce_argmin(from, y, s.outer, s.n, s.inner);
    } else {
      fold(from, y, s.outer, s.n, s.inner, [&](const T* p) {
        int64_t best = 0;
        for (int64_t r = 1; r < s.n; ++r) {
          const T v = p[r * s.inner], b = p[best * s.inner];
          if (LARGEST ? v > b : v < b) best = r;
        }
        return best;
      });
    }
  });
}

void logsumexp_kernel(const KernelCall& call) {
  reduce_axes(call, [](const auto* x, auto* y, int64_t outer, int64_t n, int64_t inner) {
    using T = std::remove_pointer_t<decltype(y)>;
    if constexpr (std::is_floating_point_v<T>) reduce_logsumexp(x, y, outer, n, inner);
  });
}

/// x in groups: positions that agree on the axes that are kept. Offsets in memory, in row-major order.
struct Groups {
  Shape kept, kept_strides, cut, cut_strides;
  Groups(const View& x, const Ints& axes) {
    for (int a = 0; a < x.shape.rank(); ++a) {
      const bool is_cut = std::binary_search(axes.begin(), axes.end(), int64_t(a));
      (is_cut ? cut : kept).push_back(x.shape[a]);
      (is_cut ? cut_strides : kept_strides).push_back(x.strides[a]);
    }
  }
  int64_t count() const { return kept.numel(); }
  int64_t base(int64_t group) const { return offset_of(group, kept, kept_strides, 0, kept.rank()); }
  /// f(offset of the group's element, from its base) until it says false.
  template <class F> void each(F&& f) const {
    const int64_t n = cut.numel(), last = cut.rank() ? cut.back() : 1, step = cut.rank() ? cut_strides.back() : 0;
    for (int64_t at = 0; at < n; at += last) {
      const int64_t row = offset_of(at, cut, cut_strides, 0, cut.rank());
      for (int64_t i = 0; i < last; ++i)
        if (!f(row + i * step)) return;
    }
  }
  /// f(begin, end) over the groups, split over threads.
  template <class F> void split(F&& f) const {
    parallel_for(count(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cut.numel())), f);
  }
};

// put_extremum: d, one number per group, at the group's first extremum in x, zeros elsewhere; pick_extremum is its
// adjoint. A NaN is more extreme than any number, as for the values. Several targets come one after the other.
template <bool PUT, class T> void place(const KernelCall& call) {
  const View &x = call.in[0], &wide = PUT ? call.out[0] : call.in[1], &narrow = PUT ? call.in[1] : call.out[0];
  const Groups groups(x, call.attrs.ints("axes"));
  const bool largest = call.attrs.flag("largest");
  if (PUT) zero(wide);
  const int64_t n = x.numel(), count = groups.count(), targets = n ? wide.numel() / n : 0;
  if (targets == 0) return;
  const T* p = x.as<T>();
  groups.split([&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t base = groups.base(g);
      int64_t best = base;
      groups.each([&](int64_t offset) {
        const T a = p[base + offset], b = p[best];
        if ((largest ? a > b : a < b) || (a != a && b == b)) best = base + offset;
        return true;
      });
      for (int64_t t = 0; t < targets; ++t) {
        T &w = wide.as<T>()[t * n + best], &v = narrow.as<T>()[t * count + g];
        PUT ? w = v : v = w;
      }
    }
  });
}
template <bool PUT> void place_kernel(const KernelCall& call) { by_float(call, place<PUT, float>, place<PUT, double>); }

template <bool ANY> void any_kernel(const KernelCall& call) {
  const Groups groups(call.in[0], call.attrs.ints("axes"));
  const uint8_t* x = call.in[0].as<uint8_t>();
  uint8_t* y = call.out[0].as<uint8_t>();
  groups.split([&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      bool found = false;  // a true one (any), a false one (all)
      const int64_t base = groups.base(g);
      groups.each([&](int64_t offset) { return !(found = (x[base + offset] != 0) == ANY); });
      y[g] = found == ANY;
    }
  });
}

}  // namespace

REGISTER_KERNEL(cpu, max) = {extremum_kernel<true>, {.workspace = reduce_workspace}};
REGISTER_KERNEL(cpu, min) = {extremum_kernel<false>, {.workspace = reduce_workspace}};
REGISTER_KERNEL(cpu, logsumexp) = {logsumexp_kernel, {.workspace = reduce_workspace}};
REGISTER_KERNEL(cpu, argmax) = arg_kernel<true>;
REGISTER_KERNEL(cpu, argmin) = arg_kernel<false>;
REGISTER_KERNEL(cpu, put_extremum) = place_kernel<true>;
REGISTER_KERNEL(cpu, pick_extremum) = place_kernel<false>;
REGISTER_KERNEL(cpu, any) = {any_kernel<true>, {.strided = true}};
REGISTER_KERNEL(cpu, all) = {any_kernel<false>, {.strided = true}};

}  // namespace whence::cpu
