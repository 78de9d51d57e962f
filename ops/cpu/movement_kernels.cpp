// Data movement that copies: pad, flip, roll, repeat, repeat_interleave, and arange. What a result shows of x along an
// axis is a few runs of equally spaced positions, so each op is a few strided copies.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"

namespace whence::cpu {
namespace {

/// Positions to .. to + n of a result's axis show from, from + step, .. of x.
struct Run {
  int64_t to, n, from, step = 1;
};
struct Runs {  ///< of one axis, in the order of the result
  Run run[3];
  int count = 0;
  void add(Run r) {
    if (r.n > 0) run[count++] = r;
  }
  const Run* begin() const { return run; }
  const Run* end() const { return run + count; }
};
using AxisRuns = Runs[Shape::kMaxRank];

// One copy for each way to choose a run on every axis.
void show(const View& x, const View& out, const AxisRuns& axes, int axis = 0) {
  if (axis == x.shape.rank()) return copy(x, out);
  for (const Run& r : axes[axis])
    show(narrowed(x, axis, r.from, r.n, r.step), narrowed(out, axis, r.to, r.n), axes, axis + 1);
}

// ---- pad ----------------------------------------------------------------------------------------------------------

Runs padded_runs(const PadAttrs& attrs, int axis, int64_t n) {
  const int64_t before = attrs.before(axis), after = attrs.after(axis), end = n + before;
  Runs runs;
  switch (attrs.mode) {
    case PadMode::constant: {  // negative pads crop
      const int64_t first = std::max<int64_t>(0, -before), last = n - std::max<int64_t>(0, -after);
      runs.add({first + before, last - first, first});
      break;
    }
    case PadMode::reflect:
      runs.add({0, before, before, -1});
      runs.add({before, n, 0});
      runs.add({end, after, n - 2, -1});
      break;
    case PadMode::replicate:
      runs.add({0, before, 0, 0});
      runs.add({before, n, 0});
      runs.add({end, after, n - 1, 0});
      break;
    case PadMode::circular:
      runs.add({0, before, n - before});
      runs.add({before, n, 0});
      runs.add({end, after, 0});
      break;
  }
  return runs;
}

// The places around x's: on each axis those before and after, within x's places on the axes before it. Where these
// would be many short runs, everything that is left is filled, and x written over it.
void fill_around(View out, const AxisRuns& axes, double value) {
  uint64_t element;  // the value in out's dtype
  copy({&value, f64, {}, {}}, {&element, out.dtype, {}, {}});
  auto fill = [&](const View& to) { copy({&element, to.dtype, to.shape, Shape::filled(to.shape.rank(), 0)}, to); };
  int64_t runs = 1;
  for (int a = 0; a < out.shape.rank(); runs *= out.shape[a++]) {
    const int64_t n = out.shape[a];
    const Run r = axes[a].count ? axes[a].run[0] : Run{0, 0, 0};
    if (r.n == n) continue;
    if (r.n == 0 || (runs > 64 && out.strides[a] < 64)) return fill(out);
    fill(narrowed(out, a, 0, r.to));
    fill(narrowed(out, a, r.to + r.n, n - r.to - r.n));
    out = narrowed(out, a, r.to, r.n);
  }
}

void pad_kernel(const KernelCall& call) {
  const View &x = call.in[0], &out = call.out[0];
  const PadAttrs attrs = PadAttrs::of(call.attrs);
  AxisRuns axes;
  for (int a = 0; a < x.shape.rank(); ++a) axes[a] = padded_runs(attrs, a, x.shape[a]);
  if (attrs.mode == PadMode::constant) fill_around(out, axes, attrs.value);
  show(x, out, axes);
}

// Axis by axis, each in the order of the padded axis; what lies between two axes is in one half of the workspace.
size_t pad_adjoint_bytes(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs&) {
  int padded = 0;
  for (int a = 0; a < in[0].shape.rank(); ++a) padded += in[0].shape[a] != out[0].shape[a];
  return padded < 2 ? 0 : 2 * size_t(in[0].shape.numel()) * size_of(in[0].dtype);
}
template <class T> void pad_adjoint(const KernelCall& call) {
  const View &dy = call.in[0], &dx = call.out[0];
  const PadAttrs attrs = PadAttrs::of(call.attrs);
  Shape shape = dy.shape;
  const T* from = dy.as<T>();
  int left = 0;
  for (int a = 0; a < shape.rank(); ++a) left += shape[a] != dx.shape[a];
  if (left == 0) return copy(dy, dx);
  for (int a = 0; a < shape.rank(); ++a) {
    const int64_t n = dx.shape[a];
    if (shape[a] == n) continue;
    T* to = --left ? reinterpret_cast<T*>(call.workspace) + left % 2 * dy.numel() : dx.as<T>();
    const Lanes s(shape, a);
    const Runs runs = padded_runs(attrs, a, n);
    s.each(s.n, s.inner, [&](int64_t o, int64_t first, int64_t last) {
      for (int64_t j = 0; j < n; ++j)
        std::fill(to + (o * n + j) * s.inner + first, to + (o * n + j) * s.inner + last, T(0));
      for (const Run& r : runs)
        for (int64_t j = 0; j < r.n; ++j) {
          const T* src = from + (o * s.n + r.to + j) * s.inner;
          T* dst = to + (o * n + r.from + j * r.step) * s.inner;
          for (int64_t i = first; i < last; ++i) dst[i] += src[i];
        }
    });
    from = to;
    shape[a] = n;
  }
}

// ---- flip, roll ---------------------------------------------------------------------------------------------------

Runs all_of(int64_t n) {
  Runs runs;
  runs.add({0, n, 0});
  return runs;
}

void flip_kernel(const KernelCall& call) {
  const Shape& s = call.in[0].shape;
  AxisRuns axes;
  for (int a = 0; a < s.rank(); ++a) axes[a] = all_of(s[a]);
  for (int64_t a : call.attrs.ints("axes")) {
    const int axis = normalize_axis(a, s.rank());
    axes[axis] = {};
    axes[axis].add({0, s[axis], s[axis] - 1, -1});
  }
  show(call.in[0], call.out[0], axes);
}

void roll_kernel(const KernelCall& call) {
  const Shape& s = call.in[0].shape;
  const RollAttrs attrs = RollAttrs::of(call.attrs);
  AxisRuns axes;
  for (int a = 0; a < s.rank(); ++a) {
    int64_t shift = 0;
    for (size_t i = 0; i < attrs.axes.size() && s[a]; ++i)
      if (normalize_axis(attrs.axes[i], s.rank()) == a) shift = (shift + attrs.shifts[i] % s[a] + s[a]) % s[a];
    axes[a].add({0, shift, s[a] - shift});
    axes[a].add({shift, s[a] - shift, 0});
  }
  show(call.in[0], call.out[0], axes);
}

// ---- repeat, repeat_interleave ------------------------------------------------------------------------------------

// The copies of an axis become an axis of their own, before it (abab) or behind it (aabb), along which x does not move;
// copies that find no room among eight axes are made one by one.
void spread(View x, View out, int axis, bool tiled) {
  for (int a = axis; a >= 0; --a) {
    const int64_t n = x.shape[a], copies = out.shape[a] / n, step = out.strides[a];
    if (copies == 1) continue;
    if (x.shape.rank() == Shape::kMaxRank) {
      for (int64_t i = 0; i < copies; ++i)
        spread(x, tiled ? narrowed(out, a, i * n, n) : narrowed(out, a, i, n, copies), a - 1, tiled);
      return;
    }
    const int at = tiled ? a : a + 1;
    x.shape.insert(at, copies);
    x.strides.insert(at, 0);
    out.shape[a] = n;
    out.strides[a] = tiled ? step : step * copies;
    out.shape.insert(at, copies);
    out.strides.insert(at, tiled ? step * n : step);
  }
  copy(x, out);
}

template <bool TILED> void repeat_kernel(const KernelCall& call) {
  if (call.out[0].numel()) spread(call.in[0], call.out[0], call.in[0].shape.rank() - 1, TILED);
}

// ---- arange -------------------------------------------------------------------------------------------------------

void arange_kernel(const KernelCall& call) {
  const View& y = call.out[0];
  for_numbers(y.dtype, [&](auto element) {
    using T = decltype(element);
    for (int64_t i = 0, n = y.numel(); i < n; ++i) y.as<T>()[i] = T(i);
  });
}

constexpr KernelFacts kMoves{.floats = kAllFloats, .strided = true};

}  // namespace

REGISTER_KERNEL(cpu, pad) = {pad_kernel, kMoves};
REGISTER_KERNEL(cpu, pad_adjoint) = {
    [](const KernelCall& call) { call.in[0].dtype == f64 ? pad_adjoint<double>(call) : pad_adjoint<float>(call); },
    {.workspace = pad_adjoint_bytes}};
REGISTER_KERNEL(cpu, flip) = {flip_kernel, kMoves};
REGISTER_KERNEL(cpu, roll) = {roll_kernel, kMoves};
REGISTER_KERNEL(cpu, repeat) = {repeat_kernel<true>, kMoves};
REGISTER_KERNEL(cpu, repeat_interleave) = {repeat_kernel<false>, kMoves};
REGISTER_KERNEL(cpu, arange) = arange_kernel;

}  // namespace whence::cpu
