// Convolutions as products of unfolded windows. Three maps that are each other's derivatives:
//   conv(x, w)            y = sum over taps of w x
//   conv_transpose(y, w)  its adjoint in x
//   conv_weight(x, y)     its adjoint in w
#include "ops/conv.h"
#include "ops/floats.h"

#include <algorithm>
#include <vector>

#include "autograd/sweep.h"
#include "ops/cpu/gemm.h"
#include "tensor/parallel.h"

namespace whence {
namespace {

constexpr int kSpace = 3;

// Wide side (conv's input) and narrow side (its output), padded to three axes of space.
struct Geometry {
  int64_t wide[kSpace]{1, 1, 1}, narrow[kSpace]{1, 1, 1}, kernel[kSpace]{1, 1, 1}, stride[kSpace]{1, 1, 1},
      padding[kSpace]{}, dilation[kSpace]{1, 1, 1};
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t cells() const { return narrow[0] * narrow[1] * narrow[2]; }
  int64_t plane() const { return wide[0] * wide[1] * wide[2]; }
};

Geometry geometry(const Shape& wide, const Shape& narrow, std::span<const int64_t> kernel, const Attrs& attrs) {
  Geometry g;
  int n = wide.rank() - 2, at = kSpace - n;
  for (int i = 0; i < n; ++i) {
    g.wide[at + i] = wide[i + 2];
    g.narrow[at + i] = narrow[i + 2];
    g.kernel[at + i] = kernel[size_t(i)];
    g.stride[at + i] = attrs.ints("stride")[size_t(i)];
    g.padding[at + i] = attrs.ints("padding")[size_t(i)];
    g.dilation[at + i] = attrs.ints("dilation")[size_t(i)];
  }
  return g;
}

std::span<const int64_t> space_of(const Shape& s) { return {s.begin() + 2, size_t(s.rank() - 2)}; }

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
  int64_t taps = g.taps(), cells = g.cells(), plane = g.plane();
  cpu::parallel_for(channels * taps, std::max<int64_t>(1, cpu::kGrain / std::max<int64_t>(1, cells)),
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
  int64_t taps = g.taps(), cells = g.cells(), plane = g.plane();
  cpu::parallel_for(channels, std::max<int64_t>(1, cpu::kGrain / std::max<int64_t>(1, cells * taps)),
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

template <class T> void add_bias(const View& out, const T* bias) {
  int64_t channels = out.shape[1], plane = out.numel() / std::max<int64_t>(1, out.shape[0] * channels);
  for (int64_t r = 0; r < out.shape[0] * channels; ++r)
    for (int64_t i = 0; i < plane; ++i) out.as<T>()[r * plane + i] += bias[r % channels];
}

template <class T> void run_conv(const KernelCall& k) {
  const View &x = k.in[0], &w = k.in[1], &y = k.out[0];
  if (y.numel() == 0) return;
  Geometry g = geometry(x.shape, y.shape, space_of(w.shape), k.attrs);
  int64_t groups = k.attrs.integer("groups"), C = x.shape[1] / groups, O = y.shape[1] / groups, K = C * g.taps(),
          P = g.cells();
  std::vector<T> columns(size_t(K * P));
  for (int64_t n = 0; n < x.shape[0]; ++n)
    for (int64_t q = 0; q < groups; ++q) {
      unfold(g, C, x.as<T>() + (n * groups + q) * C * g.plane(), columns.data());
      cpu::gemm<T>(false, false, O, P, K, T(1), w.as<T>() + q * O * K, K, columns.data(), P, T(0),
                   y.as<T>() + (n * groups + q) * O * P, P);
    }
  if (k.in.size() > 2) add_bias<T>(y, k.in[2].as<T>());
}

template <class T> void run_transpose(const KernelCall& k) {
  const View &x = k.in[0], &w = k.in[1], &y = k.out[0];  // x is narrow, y is wide
  if (y.numel() == 0) return;
  std::fill_n(y.as<T>(), y.numel(), T(0));
  Geometry g = geometry(y.shape, x.shape, space_of(w.shape), k.attrs);
  int64_t groups = k.attrs.integer("groups"), C = x.shape[1] / groups, O = y.shape[1] / groups, K = O * g.taps(),
          P = g.cells();
  std::vector<T> columns(size_t(K * P));
  if (P > 0 && x.numel() > 0)
    for (int64_t n = 0; n < x.shape[0]; ++n)
      for (int64_t q = 0; q < groups; ++q) {
        cpu::gemm<T>(true, false, K, P, C, T(1), w.as<T>() + q * C * K, K, x.as<T>() + (n * groups + q) * C * P, P,
                     T(0), columns.data(), P);
        fold(g, O, columns.data(), y.as<T>() + (n * groups + q) * O * g.plane());
      }
  if (k.in.size() > 2) add_bias<T>(y, k.in[2].as<T>());
}

template <class T> void run_weight(const KernelCall& k) {
  const View &x = k.in[0], &d = k.in[1], &w = k.out[0];
  std::fill_n(w.as<T>(), w.numel(), T(0));
  if (w.numel() == 0 || d.numel() == 0) return;
  Geometry g = geometry(x.shape, d.shape, space_of(w.shape), k.attrs);
  int64_t groups = k.attrs.integer("groups"), C = x.shape[1] / groups, O = d.shape[1] / groups, K = C * g.taps(),
          P = g.cells();
  std::vector<T> columns(size_t(K * P));
  for (int64_t n = 0; n < x.shape[0]; ++n)
    for (int64_t q = 0; q < groups; ++q) {
      unfold(g, C, x.as<T>() + (n * groups + q) * C * g.plane(), columns.data());
      cpu::gemm<T>(false, true, O, K, P, T(1), d.as<T>() + (n * groups + q) * O * P, P, columns.data(), P, T(1),
                   w.as<T>() + q * O * K, K);
    }
}

#define TYPED(RUN) [](const KernelCall& k) { by_float(k, RUN<float>, RUN<double>); }

// ---- shapes -------------------------------------------------------------------------------------------------------

void check_attrs(InferCtx& c, int space) {
  for (const char* name : {"stride", "padding", "dilation"})
    if (int(c.attrs.ints(name).size()) != space)
      c.value_error(std::string(name) + " needs " + std::to_string(space) + " values");
  for (int i = 0; i < space; ++i)
    if (c.attrs.ints("stride")[size_t(i)] < 1 || c.attrs.ints("dilation")[size_t(i)] < 1 ||
        c.attrs.ints("padding")[size_t(i)] < 0)
      c.value_error("stride and dilation must be positive, padding not negative");
  if (c.attrs.integer("groups") < 1) c.value_error("groups must be positive");
}

void check_operands(InferCtx& c) {
  c.need_float(0);
  for (int i = 1; i < c.n(); ++i) c.need_same_dtype(0, i);
  if (c.rank(0) < 3 || c.rank(0) > 5)
    c.shape_error("x must be [N, C, ...] with one to three axes of space, got " + c.shape(0).str());
  c.need_rank(1, c.rank(0));
  check_attrs(c, c.rank(0) - 2);
}

void infer_conv(InferCtx& c) {
  check_operands(c);
  const Shape &x = c.shape(0), &w = c.shape(1);
  int64_t groups = c.attrs.integer("groups");
  if (x[1] % groups || w[0] % groups || x[1] / groups != w[1])
    c.shape_error("x has " + std::to_string(x[1]) + " channels, weight [O, C / groups, ...] " + w.str() + " with " +
                  std::to_string(groups) + " groups takes " + std::to_string(w[1] * groups));
  if (c.n() > 2) c.need_shape(2, {w[0]});
  Shape out{x[0], w[0]};
  for (int i = 2; i < x.rank(); ++i) {
    size_t a = size_t(i - 2);
    int64_t room = x[i] + 2 * c.attrs.ints("padding")[a] - c.attrs.ints("dilation")[a] * (w[i] - 1) - 1;
    if (room < 0)
      c.shape_error("the kernel is larger than axis " + std::to_string(i) + " of x " + x.str() + " with its padding");
    out.push_back(room / c.attrs.ints("stride")[a] + 1);
  }
  c.out(out, c.dtype(0));
}

void infer_transpose(InferCtx& c) {
  check_operands(c);
  const Shape &x = c.shape(0), &w = c.shape(1);
  int64_t groups = c.attrs.integer("groups");
  if (x[1] != w[0] || x[1] % groups)
    c.shape_error("x has " + std::to_string(x[1]) + " channels, weight [C, O / groups, ...] " + w.str() + " takes " +
                  std::to_string(w[0]));
  if (c.n() > 2) c.need_shape(2, {w[1] * groups});
  const Ints& extra = c.attrs.ints("output_padding");
  if (int(extra.size()) != x.rank() - 2)
    c.value_error("output_padding needs " + std::to_string(x.rank() - 2) + " values");
  Shape out{x[0], w[1] * groups};
  for (int i = 2; i < x.rank(); ++i) {
    size_t a = size_t(i - 2);
    int64_t s = c.attrs.ints("stride")[a], d = c.attrs.ints("dilation")[a];
    if (extra[a] < 0 || extra[a] >= std::max(s, d))
      c.value_error("output_padding must be less than stride or dilation");
    int64_t n = (x[i] - 1) * s - 2 * c.attrs.ints("padding")[a] + d * (w[i] - 1) + extra[a] + 1;
    if (n < 0) c.shape_error("padding leaves nothing of axis " + std::to_string(i));
    out.push_back(n);
  }
  c.out(out, c.dtype(0));
}

void infer_weight(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  c.need_rank(1, c.rank(0));
  if (c.rank(0) < 3 || c.rank(0) > 5) c.shape_error("x must be [N, C, ...]");
  check_attrs(c, c.rank(0) - 2);
  int64_t groups = c.attrs.integer("groups");
  if (c.shape(0)[0] != c.shape(1)[0] || c.shape(0)[1] % groups || c.shape(1)[1] % groups)
    c.shape_error("batch or channels do not belong together");
  Shape out{c.shape(1)[1], c.shape(0)[1] / groups};
  for (int64_t k : c.attrs.ints("kernel")) out.push_back(k);
  c.out(out, c.dtype(0));
}

// ---- derivatives --------------------------------------------------------------------------------------------------

Ints channels_last_sum(const Shape& s) {  // all axes but the channels
  Ints a{0};
  for (int i = 2; i < s.rank(); ++i) a.push_back(i);
  return a;
}

Attrs plain(const Attrs& a) {
  return {{"stride", a.ints("stride")},
          {"padding", a.ints("padding")},
          {"dilation", a.ints("dilation")},
          {"groups", a.integer("groups")}};
}

Var call_conv(Var x, Var w, const Attrs& a) { return record(op_named("conv"), {x, w}, plain(a)); }
// The wide shape is known: whatever the stride skipped at the far end comes back as output padding.
Var call_transpose(Var y, Var w, const Attrs& a, const Shape& wide) {
  Ints extra;
  for (int i = 2; i < wide.rank(); ++i) {
    size_t k = size_t(i - 2);
    extra.push_back(wide[i] - ((y.shape()[i] - 1) * a.ints("stride")[k] - 2 * a.ints("padding")[k] +
                               a.ints("dilation")[k] * (w.shape()[i] - 1) + 1));
  }
  Attrs t = plain(a);
  t.set({"output_padding", extra});
  return record(op_named("conv_transpose"), {y, w}, t);
}
Var call_weight(Var x, Var y, const Attrs& a, const Shape& w) {
  Attrs t = plain(a);
  t.set({"kernel", Ints(w.begin() + 2, w.end())});
  return record(op_named("conv_weight"), {x, y}, t);
}

void conv_vjp(SweepCtx& c) {
  if (c.needs(0)) c.give(0, call_transpose(c.d(), c.in(1), c.attrs, c.in(0).shape()));
  if (c.needs(1)) c.give(1, call_weight(c.in(0), c.d(), c.attrs, c.in(1).shape()));
  if (c.n_in() > 2 && c.needs(2)) c.give(2, sum(c.d(), channels_last_sum(c.out().shape())));
}
void transpose_vjp(SweepCtx& c) {
  if (c.needs(0)) c.give(0, call_conv(c.d(), c.in(1), c.attrs));
  if (c.needs(1)) c.give(1, call_weight(c.d(), c.in(0), c.attrs, c.in(1).shape()));
  if (c.n_in() > 2 && c.needs(2)) c.give(2, sum(c.d(), channels_last_sum(c.out().shape())));
}
void weight_vjp(SweepCtx& c) {
  if (c.needs(0)) c.give(0, call_transpose(c.in(1), c.d(), c.attrs, c.in(0).shape()));
  if (c.needs(1)) c.give(1, call_conv(c.in(0), c.d(), c.attrs));
}

// ---- samples ------------------------------------------------------------------------------------------------------

Attrs options(Ints stride, Ints padding, Ints dilation, int64_t groups) {
  return {{"stride", stride}, {"padding", padding}, {"dilation", dilation}, {"groups", groups}};
}
Attrs with(Attrs a, const char* name, Ints v) {
  a.set({name, std::move(v)});
  return a;
}
SampleInput weights(Shape s) { return {.shape = s, .parameter = true}; }

std::vector<Sample> conv_samples() {
  return {{{{.shape = {2, 3, 9}}, weights({4, 3, 3}), weights({4})}, options({1}, {1}, {1}, 1), "line"},
          {{{.shape = {2, 4, 6, 5}}, weights({6, 2, 3, 2}), weights({6})}, options({2, 1}, {1, 0}, {1, 2}, 2), "plane"},
          {{{.shape = {1, 3, 5, 5}}, weights({3, 1, 3, 3})}, options({1, 1}, {1, 1}, {1, 1}, 3), "depthwise"},
          {{{.shape = {1, 2, 6, 6}}, weights({3, 2, 1, 1})}, options({2, 2}, {0, 0}, {1, 1}, 1), "skipping"},
          {{{.shape = {1, 2, 3, 4, 3}}, weights({2, 2, 2, 2, 2}), weights({2})},
           options({1, 2, 1}, {0, 1, 1}, {1, 1, 1}, 1),
           "volume"},
          {{{.shape = {0, 3, 5}}, weights({2, 3, 3})}, options({1}, {0}, {1}, 1), "empty"}};
}
std::vector<Sample> transpose_samples() {
  return {{{{.shape = {2, 3, 4}}, weights({3, 2, 3}), weights({2})},
           with(options({2}, {1}, {1}, 1), "output_padding", {1}),
           "line"},
          {{{.shape = {1, 4, 3, 4}}, weights({4, 2, 2, 3})},
           with(options({2, 1}, {0, 1}, {1, 2}, 2), "output_padding", {1, 0}),
           "plane"}};
}

}  // namespace

REGISTER_OP(conv) = {
    .doc = "y = sum over taps of weight x + bias: x [N, C, ...], weight [O, C / groups, k...], bias [O]",
    .operands = {"x", "weight", "bias"},
    .infer = infer_conv,
    .cpu = TYPED(run_conv),
    .vjp = conv_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = conv_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}}, options({1}, {0}, {1}, 1), "x has 3 channels"},
              {{{{1, 3, 2}, f32}, {{2, 3, 3}, f32}}, options({1}, {0}, {1}, 1), "kernel is larger"},
              {{{{1, 3, 5}, f32}, {{2, 3, 3}, f32}}, options({0}, {0}, {1}, 1), "must be positive"}};
        },
    .traits = {.compute_bound = true},
};
REGISTER_OP(conv_transpose) = {
    .doc = "the adjoint of conv in its input: x [N, C, ...], weight [C, O / groups, k...], bias [O]",
    .operands = {"x", "weight", "bias"},
    .infer = infer_transpose,
    .cpu = TYPED(run_transpose),
    .vjp = transpose_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = transpose_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}},
                                           with(options({1}, {0}, {1}, 1), "output_padding", {0}),
                                           "takes 2"}};
        },
    .traits = {.compute_bound = true},
};
REGISTER_OP(conv_weight) = {
    .doc = "the adjoint of conv in its weight: x [N, C, ...], y [N, O, ...] -> [O, C / groups, kernel...]",
    .operands = {"x", "y"},
    .infer = infer_weight,
    .cpu = TYPED(run_weight),
    .vjp = weight_vjp,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {2, 3, 9}}, {.shape = {2, 4, 9}}}, with(options({1}, {1}, {1}, 1), "kernel", {3}), "line"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}},
                                           with(options({1}, {0}, {1}, 1), "kernel", {3}),
                                           "do not belong together"}};
        },
    .traits = {.compute_bound = true, .backward = true},
};

// ---- the public functions -----------------------------------------------------------------------------------------

namespace {

Ints per_axis(const Ints& v, int n, int64_t otherwise) {
  if (v.empty()) return Ints(size_t(n), otherwise);
  return v.size() == 1 ? Ints(size_t(n), v[0]) : v;
}
Attrs attrs_of(const ConvOptions& o, int space) {
  return options(per_axis(o.stride, space, 1), per_axis(o.padding, space, 0), per_axis(o.dilation, space, 1), o.groups);
}

}  // namespace

Var conv(Arg x, Arg weight, std::optional<Arg> bias, const ConvOptions& o) {
  Attrs a = attrs_of(o, std::max(0, x.rank() - 2));
  return bias ? record(conv_op, {x, weight, *bias}, a) : record(conv_op, {x, weight}, a);
}

Var conv_transpose(Arg x, Arg weight, std::optional<Arg> bias, const ConvOptions& o) {
  int space = std::max(0, x.rank() - 2);
  Attrs a = with(attrs_of(o, space), "output_padding", per_axis(o.output_padding, space, 0));
  return bias ? record(conv_transpose_op, {x, weight, *bias}, a) : record(conv_transpose_op, {x, weight}, a);
}

}  // namespace whence
