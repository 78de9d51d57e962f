// Convolutions as products of unfolded windows: of each image and group, columns [channels x taps, cells] in the
// workspace.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/gemm.h"
#include "whence/ops/cpu/lanes.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

constexpr int kSpace = 3;

// Wide side (conv's input) and narrow side (its output), padded to three axes of space.
struct Geometry {
  int64_t wide[kSpace]{1, 1, 1}, narrow[kSpace]{1, 1, 1}, kernel[kSpace]{1, 1, 1}, stride[kSpace]{1, 1, 1},
      padding[kSpace]{}, dilation[kSpace]{1, 1, 1}, groups = 1;
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t cells() const { return narrow[0] * narrow[1] * narrow[2]; }
  int64_t plane() const { return wide[0] * wide[1] * wide[2]; }

  /// All [N, C, space..]; of the weight only the space counts.
  Geometry(const Shape& wide_shape, const Shape& narrow_shape, const Shape& weight, const Attrs& call) {
    const ConvAttrs attrs = ConvAttrs::of(call);
    groups = attrs.groups;
    const int n = wide_shape.rank() - 2, at = kSpace - n;
    for (int i = 0; i < n; ++i) {
      wide[at + i] = wide_shape[i + 2];
      narrow[at + i] = narrow_shape[i + 2];
      kernel[at + i] = weight[i + 2];
      stride[at + i] = attrs.stride[size_t(i)];
      padding[at + i] = attrs.padding[size_t(i)];
      dilation[at + i] = attrs.dilation[size_t(i)];
    }
  }
};

// Visits, for one channel and tap, the runs of narrow cells along the last axis that read inside the plane.
template <class F> void for_rows(const Geometry& g, int64_t tap, F&& f) {
  int64_t kw = tap % g.kernel[2], kh = tap / g.kernel[2] % g.kernel[1], kd = tap / g.kernel[2] / g.kernel[1];
  int64_t ow = g.narrow[2], base = kw * g.dilation[2] - g.padding[2];
  // Cells whose column base + i stride lies in [0, wide).
  int64_t first = base >= 0 ? 0 : (-base + g.stride[2] - 1) / g.stride[2];
  int64_t last = base >= g.wide[2] ? 0 : std::min(ow, (g.wide[2] - 1 - base) / g.stride[2] + 1);
  for (int64_t d = 0; d < g.narrow[0]; ++d)
    for (int64_t h = 0; h < g.narrow[1]; ++h) {
      int64_t z = d * g.stride[0] - g.padding[0] + kd * g.dilation[0],
              y = h * g.stride[1] - g.padding[1] + kh * g.dilation[1];
      bool inside = z >= 0 && z < g.wide[0] && y >= 0 && y < g.wide[1] && first < last;
      f((d * g.narrow[1] + h) * ow, inside ? first : 0, inside ? last : 0, (z * g.wide[1] + y) * g.wide[2] + base);
    }
}

// columns [channels * taps, cells] from a plane per channel; zeros outside.
template <class T> void unfold(const Geometry& g, int64_t channels, const T* x, T* columns) {
  const int64_t taps = g.taps(), cells = g.cells(), plane = g.plane();
  parallel_for(channels * taps, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cells)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   const T* from = x + r / taps * plane;
                   T* to = columns + r * cells;
                   for_rows(g, r % taps, [&](int64_t cell, int64_t first, int64_t last, int64_t at) {
                     for (int64_t i = 0; i < g.narrow[2]; ++i)
                       to[cell + i] = i >= first && i < last ? from[at + i * g.stride[2]] : T(0);
                   });
                 }
               });
}

// The adjoint: adds columns into zeroed planes.
template <class T> void fold(const Geometry& g, int64_t channels, const T* columns, T* x) {
  const int64_t taps = g.taps(), cells = g.cells(), plane = g.plane();
  parallel_for(channels, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cells * taps)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t c = begin; c < end; ++c)
                   for (int64_t tap = 0; tap < taps; ++tap) {
                     const T* from = columns + (c * taps + tap) * cells;
                     T* to = x + c * plane;
                     for_rows(g, tap, [&](int64_t cell, int64_t first, int64_t last, int64_t at) {
                       for (int64_t i = first; i < last; ++i) to[at + i * g.stride[2]] += from[cell + i];
                     });
                   }
               });
}

template <class T> void add_bias(const KernelCall& call) {
  if (call.in.size() < 3) return;
  const View& out = call.out[0];
  const T* bias = call.in[2].as<T>();
  const int64_t channels = out.shape[1], rows = out.shape[0] * channels,
                plane = out.numel() / std::max<int64_t>(1, rows);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < plane; ++i) out.as<T>()[r * plane + i] += bias[r % channels];
}

/// f(image and group, group), one after the other.
template <class F> void for_groups(const Geometry& g, int64_t images, F&& f) {
  for (int64_t i = 0; i < images * g.groups; ++i) f(i, i % g.groups);
}

template <class T> void conv(const KernelCall& call) {
  const View &x = call.in[0], &w = call.in[1], &y = call.out[0];
  if (y.numel() == 0) return;
  const Geometry g(x.shape, y.shape, w.shape, call.attrs);
  const int64_t C = x.shape[1] / g.groups, O = y.shape[1] / g.groups, K = C * g.taps(), P = g.cells();
  T* columns = reinterpret_cast<T*>(call.workspace);
  for_groups(g, x.shape[0], [&](int64_t i, int64_t q) {
    unfold(g, C, x.as<T>() + i * C * g.plane(), columns);
    gemm<T>(false, false, O, P, K, T(1), w.as<T>() + q * O * K, K, columns, P, T(0), y.as<T>() + i * O * P, P);
  });
  add_bias<T>(call);
}

template <class T> void conv_transpose(const KernelCall& call) {
  const View &x = call.in[0], &w = call.in[1], &y = call.out[0];  // x is narrow, y is wide
  if (y.numel() == 0) return;
  zero(y);
  const Geometry g(y.shape, x.shape, w.shape, call.attrs);
  const int64_t C = x.shape[1] / g.groups, O = y.shape[1] / g.groups, K = O * g.taps(), P = g.cells();
  T* columns = reinterpret_cast<T*>(call.workspace);
  if (x.numel() > 0)
    for_groups(g, x.shape[0], [&](int64_t i, int64_t q) {
      gemm<T>(true, false, K, P, C, T(1), w.as<T>() + q * C * K, K, x.as<T>() + i * C * P, P, T(0), columns, P);
      fold(g, O, columns, y.as<T>() + i * O * g.plane());
    });
  add_bias<T>(call);
}

template <class T> void conv_weight(const KernelCall& call) {
  const View &x = call.in[0], &d = call.in[1], &w = call.out[0];
  zero(w);
  if (w.numel() == 0 || d.numel() == 0) return;
  const Geometry g(x.shape, d.shape, w.shape, call.attrs);
  const int64_t C = x.shape[1] / g.groups, O = d.shape[1] / g.groups, K = C * g.taps(), P = g.cells();
  T* columns = reinterpret_cast<T*>(call.workspace);
  for_groups(g, x.shape[0], [&](int64_t i, int64_t q) {
    unfold(g, C, x.as<T>() + i * C * g.plane(), columns);
    gemm<T>(false, true, O, K, P, T(1), d.as<T>() + i * O * P, P, columns, P, T(1), w.as<T>() + q * O * K, K);
  });
}

size_t bytes(const Geometry& g, int64_t channels, DType t) {
  return size_t(channels / g.groups * g.taps() * g.cells()) * size_of(t);
}
using Types = std::span<const TensorType>;
size_t conv_bytes(Types in, Types out, const Attrs& attrs) {
  return bytes({in[0].shape, out[0].shape, in[1].shape, attrs}, in[0].shape[1], out[0].dtype);
}
size_t transpose_bytes(Types in, Types out, const Attrs& attrs) {
  return bytes({out[0].shape, in[0].shape, in[1].shape, attrs}, out[0].shape[1], out[0].dtype);
}
size_t weight_bytes(Types in, Types out, const Attrs& attrs) {
  return bytes({in[0].shape, in[1].shape, out[0].shape, attrs}, in[0].shape[1], out[0].dtype);
}

}  // namespace

REGISTER_KERNEL(cpu, conv) = {[](const KernelCall& call) { by_float(call, conv<float>, conv<double>); },
                              {.workspace = conv_bytes}};
REGISTER_KERNEL(cpu, conv_transpose) = {
    [](const KernelCall& call) { by_float(call, conv_transpose<float>, conv_transpose<double>); },
    {.workspace = transpose_bytes}};
REGISTER_KERNEL(cpu, conv_weight) = {
    [](const KernelCall& call) { by_float(call, conv_weight<float>, conv_weight<double>); },
    {.workspace = weight_bytes}};

}  // namespace whence::cpu
