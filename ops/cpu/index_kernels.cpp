// Reading and writing at computed positions: gather, take_along_axis, embedding, one_hot, segment_sum, scatter_add. An
// index is read where it lies, and checked before anything else: the first bad position is reported, the result is
// zeros. The attribute "low" lets negative positions count from the end. Whatever adds up does so in the order of the
// index, so results are equal on every run.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"
#include "whence/ops/scalar.h"

namespace whence::cpu {
namespace {

/// Calls f with a pointer to the elements of the index, of the type they have.
template <class F> void with_index(const View& index, F&& f) {
  switch (index.dtype) {
    case DType::i32: return f(index.as<const int32_t>());
    case DType::u8: return f(index.as<const uint8_t>());
    default: return f(index.as<const int64_t>());
  }
}

template <class I> bool inside(const KernelCall& call, int operand, const I* at, int64_t limit) {
  const int64_t n = call.in[size_t(operand)].numel(), low = call.attrs.integer("low", 0);
  for (int64_t i = 0; i < n; ++i)
    if (const int64_t value = int64_t(at[i]); value < low || value >= limit) {
      call.out_of_range(operand, i, value, limit);
      zero(call.out[0]);
      return false;
    }
  return true;
}

inline int64_t from_start(int64_t at, int64_t n) { return at < 0 ? at + n : at; }

// x (outer, n, inner), index [m] -> (outer, m, inner)
void take_rows(const KernelCall& call, const View& x, int operand, int axis) {
  const Lanes s(x.shape, axis);
  const View& index = call.in[size_t(operand)];
  const int64_t m = index.numel();
  with_index(index, [&](const auto* at) {
    if (!inside(call, operand, at, s.n) || call.out[0].numel() == 0) return;
    for_size(size_of(x.dtype), [&](auto element) {
      using T = decltype(element);
      const T* from = x.as<T>();
      T* to = call.out[0].as<T>();
      parallel_for(s.outer * m, std::max<int64_t>(1, kGrain / s.inner), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const T* src = from + (r / m * s.n + from_start(int64_t(at[r % m]), s.n)) * s.inner;
          if (s.inner == 1) to[r] = *src;
          else std::memcpy(to + r * s.inner, src, size_t(s.inner) * sizeof(T));
        }
      });
    });
  });
}

void gather_kernel(const KernelCall& call) {
  take_rows(call, call.in[0], 1, axis_of(call.attrs, call.in[0].shape.rank()));
}
void embedding_kernel(const KernelCall& call) { take_rows(call, call.in[1], 0, 0); }

// x (outer, m, inner), index [m] -> (outer, n, inner). Threads own columns (outer, inner).
void segment_sum_kernel(const KernelCall& call) {
  const View &x = call.in[0], &index = call.in[1], &y = call.out[0];
  const Lanes s(y.shape, first_axis(call.attrs, x.shape.rank()));
  const int64_t m = index.numel();
  with_index(index, [&](const auto* at) {
    if (!inside(call, 1, at, s.n)) return;
    zero(y);
    for_numbers(y.dtype, [&](auto element) {
      using T = decltype(element);
      const T* rows = x.as<T>();
      T* sums = y.as<T>();
      s.each(std::min(m, kGrain / 16), s.inner, [&](int64_t o, int64_t first, int64_t last) {
        for (int64_t j = 0; j < m; ++j) {
          const T* __restrict src = rows + (o * m + j) * s.inner;
          T* __restrict dst = sums + (o * s.n + from_start(int64_t(at[j]), s.n)) * s.inner;
          for (int64_t i = first; i < last; ++i) dst[i] = scalar::add(dst[i], src[i]);
        }
      });
    });
  });
}

/// f(position in the index, offset in x of its lane's first element), lanes split over threads, each in order. The
/// index may be smaller than x on the other axes.
template <class F> void along(const Shape& index, const Shape& x, int axis, F&& f) {
  const Lanes s(index, axis);
  const Shape strides = contiguous_strides(x);
  s.each(s.n, Lanes::kMost, [&](int64_t o, int64_t first, int64_t last) {
    int64_t lane[Lanes::kMost];
    const int64_t base = offset_of(o, index, strides, 0, axis);
    for (int64_t i = first; i < last; ++i)
      lane[i - first] = base + offset_of(i, index, strides, axis + 1, index.rank());
    for (int64_t j = 0; j < s.n; ++j)
      for (int64_t i = first; i < last; ++i) f((o * s.n + j) * s.inner + i, lane[i - first]);
  });
}

void take_along_axis_kernel(const KernelCall& call) {
  const View &x = call.in[0], &index = call.in[1];
  const int axis = axis_of(call.attrs, x.shape.rank());
  const int64_t step = Lanes(x.shape, axis).inner, n = x.shape[axis];
  with_index(index, [&](const auto* at) {
    if (!inside(call, 1, at, n)) return;
    for_size(size_of(x.dtype), [&](auto element) {
      using T = decltype(element);
      const T* from = x.as<T>();
      T* to = call.out[0].as<T>();
      along(index.shape, x.shape, axis,
            [&](int64_t i, int64_t lane) { to[i] = from[lane + from_start(int64_t(at[i]), n) * step]; });
    });
  });
}

void scatter_add_kernel(const KernelCall& call) {
  const View &base = call.in[0], &index = call.in[1], &src = call.in[2], &y = call.out[0];
  const int axis = axis_of(call.attrs, base.shape.rank());
  const int64_t step = Lanes(base.shape, axis).inner, n = base.shape[axis];
  with_index(index, [&](const auto* at) {
    if (!inside(call, 1, at, n)) return;
    if (y.data != base.data) copy(base, y);
    for_numbers(y.dtype, [&](auto element) {
      using T = decltype(element);
      const T* from = src.as<T>();
      T* to = y.as<T>();
      along(index.shape, base.shape, axis, [&](int64_t i, int64_t lane) {
        auto& sum = to[lane + from_start(int64_t(at[i]), n) * step];
        sum = scalar::add(sum, from[i]);
      });
    });
  });
}

void in_range_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  with_index(x, [&](const auto* at) {
    if (inside(call, 0, at, call.attrs.integer("high"))) copy(x, call.out[0]);
  });
}

void one_hot_kernel(const KernelCall& call) {
  const View &ids = call.in[0], &y = call.out[0];
  const int64_t classes = y.shape.back(), n = ids.numel();
  with_index(ids, [&](const auto* at) {
    if (!inside(call, 0, at, classes)) return;
    zero(y);
    for_size(size_of(y.dtype), [&](auto element) {
      using T = decltype(element);
      double one = 1;
      T written;
      copy({&one, f64, {}, {}}, {&written, y.dtype, {}, {}});
      for (int64_t i = 0; i < n; ++i) y.as<T>()[i * classes + int64_t(at[i])] = written;
    });
  });
}

}  // namespace

REGISTER_KERNEL(cpu, gather) = {gather_kernel, {.floats = kAllFloats}};
REGISTER_KERNEL(cpu, embedding) = {embedding_kernel, {.floats = kAllFloats}};
REGISTER_KERNEL(cpu, take_along_axis) = {take_along_axis_kernel, {.floats = kAllFloats}};
REGISTER_KERNEL(cpu, in_range) = in_range_kernel;
REGISTER_KERNEL(cpu, one_hot) = {one_hot_kernel, {.floats = kAllFloats}};
REGISTER_KERNEL(cpu, segment_sum) = segment_sum_kernel;
REGISTER_KERNEL(cpu, scatter_add) = {scatter_add_kernel, {.in_place = 0}};

}  // namespace whence::cpu
