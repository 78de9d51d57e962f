// Attributes that several files read, an op's own and those of its kernels: their names are spelled here only.
#pragma once
#include "whence/autograd/op.h"
#include "whence/ops/ops.h"

namespace whence {

inline Attrs axis_attrs(int64_t axis) { return {{"axis", axis}}; }
inline int axis_of(const Attrs& attrs, int rank) { return normalize_axis(attrs.integer("axis"), rank); }
/// Of segment_sum: where the index begins in x. A scalar index may lie behind x's last axis.
inline int first_axis(const Attrs& attrs, int rank) {
  const int64_t a = attrs.integer("axis");
  return int(a < 0 ? a + rank : a);
}

/// n positions of an axis: begin, begin + step, ..
inline View narrowed(View v, int axis, int64_t begin, int64_t n, int64_t step = 1) {
  v.data = v.as<std::byte>() + begin * v.strides[axis] * int64_t(size_of(v.dtype));
  v.shape[axis] = n;
  if (n > 1) v.strides[axis] *= step;
  return v;
}

/// Of slice and slice_adjoint.
struct SliceAttrs {
  int64_t axis, begin, end, step;
  static SliceAttrs of(const Attrs& attrs) {
    return {attrs.integer("axis"), attrs.integer("begin"), attrs.integer("end"), attrs.integer("step")};
  }
  Attrs attrs() const { return {{"axis", axis}, {"begin", begin}, {"end", end}, {"step", step}}; }
  int64_t count() const { return steps_between(begin, end, step); }
  View view(const View& x) const { return narrowed(x, normalize_axis(axis, x.shape.rank()), begin, count(), step); }
};

/// Of pad, and of pad_adjoint, which has no value to fill with.
struct PadAttrs {
  const Ints& pads;  ///< before and after for every axis
  PadMode mode;
  double value;
  static PadAttrs of(const Attrs& attrs) {
    return {attrs.ints("pads"), PadMode(attrs.integer("mode")), attrs.real("value", 0)};
  }
  static Attrs make(Ints pads, PadMode mode, double value = 0) {
    return {{"pads", std::move(pads)}, {"mode", int64_t(mode)}, {"value", value}};
  }
  int64_t before(int axis) const { return pads[size_t(2 * axis)]; }
  int64_t after(int axis) const { return pads[size_t(2 * axis + 1)]; }
};

/// Of cumsum, cumprod, cummax, logcumsumexp and linear_scan.
struct ScanAttrs {
  int64_t axis;
  bool reverse;
  static ScanAttrs of(const Attrs& attrs) { return {attrs.integer("axis"), attrs.flag("reverse")}; }
  Attrs attrs() const { return {{"axis", axis}, {"reverse", reverse}}; }
};

/// Of causal_conv1d and causal_conv1d_taps.
struct ConvLineAttrs {
  bool reverse;
  static ConvLineAttrs of(const Attrs& attrs) { return {attrs.flag("reverse")}; }
  Attrs attrs() const { return {{"reverse", reverse}}; }
  /// Tap k of `taps` reads x at t + offset.
  static int64_t offset(int64_t k, int64_t taps, bool reverse) { return reverse ? taps - 1 - k : k - (taps - 1); }
};

/// Of conv, conv_transpose and conv_weight: one value per axis of space.
struct ConvAttrs {
  const Ints &stride, &padding, &dilation;
  int64_t groups;
  static ConvAttrs of(const Attrs& attrs) {
    return {attrs.ints("stride"), attrs.ints("padding"), attrs.ints("dilation"), attrs.integer("groups")};
  }
  Attrs attrs() const { return {{"stride", stride}, {"padding", padding}, {"dilation", dilation}, {"groups", groups}}; }
};

struct RollAttrs {
  const Ints &axes, &shifts;
  static RollAttrs of(const Attrs& attrs) { return {attrs.ints("axes"), attrs.ints("shifts")}; }
  static Attrs make(Ints axes, Ints shifts) { return {{"axes", std::move(axes)}, {"shifts", std::move(shifts)}}; }
};

}  // namespace whence
