// Average pools as one map (means over rectangular windows) and its adjoint; max-pools with the positions of the
// maxima.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/checks.h"
#include "whence/ops/conv.h"
#include "whence/ops/index.h"
#include "whence/ops/pool_windows.h"

namespace whence {
namespace {

void check_windows(InferCtx& infer, int64_t space, const char* extra = "count") {
  const Ints& out = infer.attrs.ints("out");
  int64_t n = 0;
  for (int64_t o : out) n += o;
  bool fits = int64_t(out.size()) == space;
  for (const char* name : {"begin", "end", extra}) fits = fits && int64_t(infer.attrs.ints(name).size()) == n;
  if (!fits) infer.value_error("the windows do not fit x");
}
Shape pooled_shape(InferCtx& infer, const char* extra) {
  infer.need_float(0);
  if (infer.rank(0) < 3 || infer.rank(0) > 5)
    infer.shape_error("x must be [N, C, ...] with one to three axes of space, got " + infer.shape(0).str());
  check_windows(infer, infer.rank(0) - 2, extra);
  Shape s{infer.shape(0)[0], infer.shape(0)[1]};
  size_t at = 0;
  for (size_t i = 0; i < infer.attrs.ints("out").size(); ++i)
    for (int64_t k = 0; k < infer.attrs.ints("out")[i]; ++k, ++at)
      if (infer.attrs.ints("begin")[at] < 0 || infer.attrs.ints("end")[at] > infer.shape(0)[int(i) + 2])
        infer.shape_error("a window leaves axis " + std::to_string(i + 2));
  for (int64_t o : infer.attrs.ints("out")) s.push_back(o);
  return s;
}
void infer_pool(InferCtx& infer) { infer.out(pooled_shape(infer, "count"), infer.dtype(0)); }
void infer_adjoint(InferCtx& infer) {
  infer.need_float(0);
  check_windows(infer, infer.rank(0) - 2);
  Shape s{infer.shape(0)[0], infer.shape(0)[1]};
  for (int64_t n : infer.attrs.ints("space")) s.push_back(n);
  infer.out(s, infer.dtype(0));
}

Attrs windows(const Attrs& a) {
  return {{"out", a.ints("out")}, {"begin", a.ints("begin")}, {"end", a.ints("end")}, {"count", a.ints("count")}};
}

// Several targets in t are more samples.
Var adjoint(const SweepCtx& sweep, Var t) {
  Attrs a = windows(sweep.attrs);
  const Shape& x = sweep.in().shape();
  a.set({"space", Ints(x.begin() + 2, x.end())});
  if (sweep.lead()) {
    Shape flat = sweep.out().shape();
    flat[0] *= sweep.targets();
    t = reshape(t, flat);
  }
  Var y = record(op_named("avg_pool_adjoint"), {t}, a);
  return sweep.lead() ? reshape(y, sweep.shape_of(0)) : y;
}

// Of each window, a constant shaped like the space of the result: its divisor, and how many cells it has.
Var per_window(const SweepCtx& sweep, bool cells) {
  Shape s;
  for (int64_t n : sweep.attrs.ints("out")) s.push_back(n);
  Tensor t = Tensor::empty(s, f64);
  PoolWindows(sweep.attrs, "count").each([&](int64_t cell, const PoolWindow& w) {
    t.data<double>()[cell] = cells ? double(w.cells()) : w.divisor();
  });
  return sweep.graph.constant(t.to(sweep.in().dtype()));
}

// To every cell of a window alike.
Var uniform(const SweepCtx& sweep, Var r) {
  return adjoint(sweep, r * (per_window(sweep, false) / per_window(sweep, true)));
}

void pool_relevance(SweepCtx& sweep) {
  const std::string& v = sweep.rule().variant;
  Var x = sweep.in(), r = sweep.d();
  if (v == "uniform") return sweep.give(0, uniform(sweep, r));
  if (v == "abs") {
    Var size = abs(x), total = sweep.apply(std::vector<Var>{size}), empty = equal(total, 0.0),
        none = sweep.graph.constant(0.0, r.dtype());
    Var t = where(empty, none, r / where(empty, sweep.graph.constant(1.0, r.dtype()), total));
    return sweep.give(0, size * adjoint(sweep, t) + uniform(sweep, where(empty, r, none)));
  }
  if (v == "sum") {
    Var n = per_window(sweep, false);
    return sweep.give(0, x * adjoint(sweep, sweep.stabilised_share(r, sweep.out() * n, 1.0) * n));
  }
  sweep.give(0, x * adjoint(sweep, sweep.stabilised_share(r, sweep.out(), 1.0)));
}

void pool_absorbed(SweepCtx& sweep) {
  const std::string& v = sweep.rule().variant;
  if (v == "abs" || v == "uniform") return;
  if (v != "sum") return lrp::absorbed_by_stabiliser(sweep);
  Var z = sweep.out() * per_window(sweep, false);
  sweep.absorb("stabiliser", sweep.d() - sweep.stabilised_share(sweep.d(), z, 1.0) * z);
}

Attrs sample_attrs(Ints count = {2, 3, 2, 3, 2}) {
  return {
      {"out", Ints{2, 3}}, {"begin", Ints{0, 1, 0, 1, 3}}, {"end", Ints{2, 4, 2, 4, 5}}, {"count", std::move(count)}};
}

}  // namespace

REGISTER_OP(avg_pool) = {
    .doc = "sum of x [N, C, ...] over windows, divided by the product of the windows' counts on each axis",
    .operands = {"x"},
    .infer = infer_pool,
    .vjp = [](SweepCtx& sweep) { sweep.give(0, adjoint(sweep, sweep.d())); },
    .relevance = pool_relevance,
    .absorbed = pool_absorbed,
    .variants = {"sum", "abs", "uniform"},
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {2, 2, 4, 5}}}, sample_attrs(), "plane"},
                                     {{{.shape = {1, 2, 4, 5}}}, sample_attrs({3, 3, 1, 3, 4}), "padded"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 2, 3, 5}, f32}}, sample_attrs(), "leaves axis 2"},
                                          {{{{2, 5}, f32}}, sample_attrs(), "must be [N, C, ...]"},
                                          {{{{2, 2, 4, 5}, f32}}, sample_attrs({2, 3}), "do not fit"}};
        },
    .traits = {.batched_sweep = true},
};
REGISTER_OP(avg_pool_adjoint) = {
    .doc = "the adjoint of avg_pool: spreads y over its windows",
    .operands = {"y"},
    .infer = infer_adjoint,
    .vjp = [](SweepCtx& sweep) { sweep.give(0, record(op_named("avg_pool"), {sweep.d()}, windows(sweep.attrs))); },
    .samples =
        [] {
          Attrs a = sample_attrs();
          a.set({"space", Ints{4, 5}});
          return std::vector<Sample>{{{{.shape = {2, 2, 2, 3}}}, a, "plane"}};
        },
    .errors = [] { return std::vector<ErrorSample>{}; },
    .traits = {.backward = true},
};

// ---- maxima -------------------------------------------------------------------------------------------------------

namespace {

void infer_max(InferCtx& infer) {
  Shape s = pooled_shape(infer, "step");
  for (size_t i = 0; i < infer.attrs.ints("begin").size(); ++i) {
    if (infer.attrs.ints("begin")[i] >= infer.attrs.ints("end")[i]) infer.shape_error("a window lies in the padding");
    if (infer.attrs.ints("step")[i] < 1) infer.value_error("step must be positive");
  }
  infer.out(s, infer.dtype(0));
  infer.out(s, i64);
}

// [.., cells of the space], keeping the axes before it.
Var flat_space(Var v, int space) {
  Shape s = v.shape();
  int64_t n = 1;
  for (int i = 0; i < space; ++i) {
    n *= s[-1];
    s.erase(s.rank() - 1);
  }
  s.push_back(n);
  return reshape(v, s);
}

// src at the positions (of its own shape) in the space of zeros shaped `to`.
Var place(Var src, Var positions, const Shape& to, int space) {
  Shape wide = to, plane;
  for (int i = 0; i < wide.rank() - space; ++i) plane.push_back(wide[i]);
  int64_t n = 1;
  for (int i = 0; i < space; ++i) n *= wide[wide.rank() - 1 - i];
  plane.push_back(n);
  Var zeros = broadcast_to(src.graph().constant(0.0, src.dtype()), plane);
  return reshape(scatter_add(zeros, flat_space(positions, space), flat_space(src, space), -1), wide);
}

void vjp_max(SweepCtx& sweep) {
  if (!sweep.has(0)) return;  // a cotangent of the positions ends here
  Var index = sweep.out(1), d = sweep.d();
  if (sweep.lead()) index = broadcast_to(index, d.shape());
  sweep.give(0, place(d, index, sweep.shape_of(0), sweep.in().rank() - 2));
}

Attrs max_attrs(Ints step = {1, 1, 1, 1, 1}) {
  return {{"out", Ints{2, 3}}, {"begin", Ints{0, 1, 0, 1, 3}}, {"end", Ints{2, 4, 2, 4, 5}}, {"step", std::move(step)}};
}

}  // namespace

REGISTER_OP(max_pool) = {
    .doc =
        "largest of x [N, C, ...] in each window, and its flat position (i64) in the channel's space; the first of "
        "equals",
    .operands = {"x"},
    .infer = infer_max,
    .vjp = vjp_max,
    .relevance = lrp::reindex,
    .absorbed = absorb_positions,
    .samples =
        [] {
          auto x = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{
              {{x({2, 2, 4, 5})}, max_attrs(), "plane"},
              {{x({1, 1, 4, 5})}, max_attrs({1, 2, 1, 2, 1}), "dilated"},
              {{x({2, 1, 5})},
               {{"out", Ints{2}}, {"begin", Ints{0, 2}}, {"end", Ints{3, 5}}, {"step", Ints{1, 1}}},
               "line"},
              {{x({0, 2, 4, 5})}, max_attrs(), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 2, 3, 5}, f32}}, max_attrs(), "leaves axis 2"},
                                          {{{{2, 2, 4, 5}, i32}}, max_attrs(), "must be floating point"},
                                          {{{{2, 2, 4, 5}, f32}}, max_attrs({1, 0, 1, 1, 1}), "step must be positive"}};
        },
    .traits = {.batched_sweep = true},
};

// ---- windows from kernel, stride and padding ----------------------------------------------------------------------

namespace {

Ints per_axis(const Ints& v, int n, int64_t otherwise, const std::string& op) {
  if (v.empty()) return Ints(size_t(n), otherwise);
  if (v.size() != 1 && int(v.size()) != n)
    throw ValueError("[" + op + "] " + std::to_string(v.size()) + " values for " + std::to_string(n) +
                     " axes of space: give one per axis, or one for all");
  return v.size() == 1 ? Ints(size_t(n), v[0]) : v;
}

// One window along one axis: the cells begin, begin + step, .. before end; those outside the axis are padding.
struct Span {
  int64_t begin, end, step = 1;
};
using Spans = std::vector<Span>;

// Per axis of space. `ceil` keeps a last window that only begins inside the axis or its near padding (PyTorch's rule).
std::vector<Spans> sliding(const Arg& x, const PoolOptions& o, const std::string& op) {
  int n = x.rank() - 2;
  if (n < 1) throw ShapeError("[" + op + "] x must be [N, C, ...], got " + x.shape().str());
  if (o.kernel.empty()) throw ValueError("[" + op + "] needs a kernel");
  Ints kernel = per_axis(o.kernel, n, 1, op), stride = o.stride.empty() ? kernel : per_axis(o.stride, n, 1, op),
       padding = per_axis(o.padding, n, 0, op), dilation = per_axis(o.dilation, n, 1, op);
  std::vector<Spans> axes;
  for (size_t i = 0; i < size_t(n); ++i) {
    int64_t extent = x.shape()[int(i) + 2], s = stride[i], p = padding[i];
    for (auto [v, least] : {std::pair{kernel[i], 1}, {s, 1}, {dilation[i], 1}, {p, 0}})
      if (v < least || v > INT32_MAX)
        throw ValueError("[" + op + "] kernel, stride and dilation must be positive, padding not negative");
    int64_t span = dilation[i] * (kernel[i] - 1) + 1, room = extent + 2 * p - span;
    if (p > span / 2)
      throw ValueError("[" + op + "] padding " + std::to_string(p) + " is more than half a window of " +
                       std::to_string(span));
    if (room < 0)
      throw ShapeError("[" + op + "] the kernel is larger than axis " + std::to_string(i + 2) + " of " +
                       x.shape().str());
    int64_t count = (room + (o.ceil ? s - 1 : 0)) / s + 1;
    if ((count - 1) * s >= extent + p) --count;
    Spans spans;
    or_out_of_memory("[pool]", [&] {
      for (int64_t k = 0; k < count; ++k) spans.push_back({k * s - p, k * s - p + span, dilation[i]});
    });
    axes.push_back(std::move(spans));
  }
  return axes;
}

std::vector<Spans> adaptive(const Arg& x, const Ints& out, const std::string& op) {
  if (int(out.size()) != x.rank() - 2)
    throw ShapeError("[" + op + "] needs one extent per axis of space of " + x.shape().str());
  std::vector<Spans> axes;
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t n = x.shape()[int(i) + 2];
    if (out[i] < 0) throw ShapeError("[" + op + "] negative extent " + std::to_string(out[i]));
    if (out[i] > INT32_MAX || n > INT32_MAX)
      throw ShapeError("[" + op + "] " + std::to_string(out[i]) + " windows on an extent of " + std::to_string(n));
    Spans spans;
    or_out_of_memory("[adaptive pool]", [&] {
      for (int64_t k = 0; k < out[i]; ++k) spans.push_back({k * n / out[i], ((k + 1) * n + out[i] - 1) / out[i]});
    });
    axes.push_back(std::move(spans));
  }
  return axes;
}

// Attributes of the windows that an op sees, clipped to x: `extra` holds what_of(axis, window, cells inside).
template <class F> Attrs clipped(const Arg& x, const std::vector<Spans>& axes, const char* extra, F&& what_of) {
  Ints out, begin, end, what;
  for (size_t i = 0; i < axes.size(); ++i) {
    out.push_back(int64_t(axes[i].size()));
    int64_t n = x.shape()[int(i) + 2];
    for (const Span& w : axes[i]) {
      int64_t first = w.begin < 0 ? w.begin + (-w.begin + w.step - 1) / w.step * w.step : w.begin;
      begin.push_back(std::min(first, n));
      end.push_back(std::clamp<int64_t>(w.end, 0, n));
      what.push_back(what_of(i, w, end.back() - begin.back()));
    }
  }
  return {{"out", out}, {"begin", begin}, {"end", end}, {extra, what}};
}

TopK maxima(const Arg& x, const std::vector<Spans>& axes) {
  Var v = record(max_pool_op, {x}, clipped(x, axes, "step", [](size_t, const Span& w, int64_t) { return w.step; }));
  return {v, {&v.graph(), v.id() + 1}};
}

}  // namespace

Var avg_pool(Arg x, const PoolOptions& o) {
  LocationGuard at(x);
  if (!o.dilation.empty()) throw ValueError("[avg_pool] has no dilation");
  need_float(x, "avg_pool");
  Ints padding = per_axis(o.padding, std::max(0, x.rank() - 2), 0, "avg_pool");
  Var wide = o.divisor != 0 ? widened(x) : x.var;  // a sum of halves may overflow before it is divided
  Var y = record(avg_pool_op, {wide},
                 clipped(x, sliding(x, o, "avg_pool"), "count", [&](size_t axis, const Span& w, int64_t inside) {
                   if (o.divisor != 0) return int64_t(1);
                   return o.count_include_pad ? std::min(w.end, x.shape()[int(axis) + 2] + padding[axis]) - w.begin
                                              : inside;
                 }));
  return o.divisor != 0 ? cast(y * (1 / o.divisor), x.dtype()) : y;
}
Var adaptive_avg_pool(Arg x, const Ints& out) {
  LocationGuard at(x);
  return record(avg_pool_op, {x},
                clipped(x, adaptive(x, out, "adaptive_avg_pool"), "count",
                        [](size_t, const Span&, int64_t inside) { return inside; }));
}

static TopK pooled(const Arg& x, const PoolOptions& o) {
  LocationGuard at(x);
  return maxima(x, sliding(x, o, "max_pool"));
}
static TopK pooled(const Arg& x, const Ints& out) {
  LocationGuard at(x);
  return maxima(x, adaptive(x, out, "adaptive_max_pool"));
}
Var max_pool(Arg x, const PoolOptions& o) { return pooled(x, o).values; }
Var max_pool_indices(Arg x, const PoolOptions& o) { return pooled(x, o).indices; }
Var adaptive_max_pool(Arg x, const Ints& out) { return pooled(x, out).values; }
Var adaptive_max_pool_indices(Arg x, const Ints& out) { return pooled(x, out).indices; }

Var max_unpool(Arg x, Arg indices, const Ints& space) {
  LocationGuard at(x);
  if (x.rank() < 3 || int(space.size()) != x.rank() - 2)
    throw ShapeError("[max_unpool] needs one extent per axis of space of " + x.shape().str());
  if (!(indices.shape() == x.shape()))
    throw ShapeError("[max_unpool] needs one position for each value of " + x.shape().str() + ", got " +
                     indices.shape().str());
  Shape to{x.shape()[0], x.shape()[1]};
  for (int64_t n : space) to.push_back(n);
  check_extents(to);
  return place(x, indices, to, x.rank() - 2);
}

Var lp_pool(Arg x, double p, const PoolOptions& o) {
  LocationGuard at(x);
  need_float(x, "lp_pool");
  PoolOptions sums = o;
  sums.divisor = 1;
  // Powers of f32 leave its range, not that of f64. At the tip of the norm the gradient is 0, as for norm2.
  Var total = avg_pool(pow(abs(cast(x, f64)), p), sums), tip = equal(total, 0.0);
  return cast(where(tip, 0.0, pow(where(tip, 1.0, total), 1 / p)), x.dtype());
}

}  // namespace whence
