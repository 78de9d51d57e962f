// Average pools as one map (means over rectangular windows) and its adjoint; max-pools with the positions of the
// maxima.
#include <algorithm>

#include "autograd/sweep.h"
#include "ops/conv.h"
#include "ops/floats.h"
#include "tensor/parallel.h"

namespace whence {
namespace {

// Windows of each axis as ranges [begin, end) inside it. A mean divides by the product of the windows' counts, which
// may include padding; a maximum looks at every step-th cell.
struct Axis {
  std::vector<int64_t> begin, end, extra;
};

// extra: "count" or "step"
std::vector<Axis> axes_of(const Attrs& a, const char* extra) {
  std::vector<Axis> axes;
  size_t at = 0;
  for (int64_t n : a.ints("out")) {
    Axis x;
    for (int64_t i = 0; i < n; ++i, ++at) {
      x.begin.push_back(a.ints("begin")[at]);
      x.end.push_back(a.ints("end")[at]);
      x.extra.push_back(a.ints(extra)[at]);
    }
    axes.push_back(std::move(x));
  }
  while (axes.size() < 3) axes.insert(axes.begin(), Axis{{0}, {1}, {1}});
  return axes;
}

// f(cell, divisor, ranges of the window) for every window.
template <class F> void for_windows(const std::vector<Axis>& a, F&& f) {
  int64_t cell = 0;
  for (size_t d = 0; d < a[0].begin.size(); ++d)
    for (size_t h = 0; h < a[1].begin.size(); ++h)
      for (size_t w = 0; w < a[2].begin.size(); ++w, ++cell) {
        double divisor = double(std::max<int64_t>(1, a[0].extra[d] * a[1].extra[h] * a[2].extra[w]));
        f(cell, divisor, a[0].begin[d], a[0].end[d], a[1].begin[h], a[1].end[h], a[2].begin[w], a[2].end[w]);
      }
}

template <class T, bool ADJOINT> void run_windows(const View& wide, const View& narrow, const Attrs& attrs) {
  std::vector<Axis> axes = axes_of(attrs, "count");
  int64_t H = wide.shape.rank() > 3 ? wide.shape[-2] : 1, W = wide.shape[-1], rows = wide.shape[0] * wide.shape[1];
  if (rows == 0) return;
  int64_t plane = wide.numel() / rows, cells = narrow.numel() / rows;
  T *x = wide.as<T>(), *y = narrow.as<T>();
  cpu::parallel_for(rows, std::max<int64_t>(1, cpu::kGrain / std::max<int64_t>(1, plane)),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r) {
                        T *px = x + r * plane, *py = y + r * cells;
                        if (ADJOINT) std::fill_n(px, plane, T(0));
                        for_windows(axes, [&](int64_t cell, double divisor, int64_t d0, int64_t d1, int64_t h0,
                                              int64_t h1, int64_t w0, int64_t w1) {
                          T scale = T(1 / divisor), total = 0;
                          for (int64_t d = d0; d < d1; ++d)
                            for (int64_t h = h0; h < h1; ++h)
                              for (int64_t w = w0; w < w1; ++w) {
                                if (ADJOINT) px[(d * H + h) * W + w] += py[cell] * scale;
                                else total += px[(d * H + h) * W + w];
                              }
                          if (!ADJOINT) py[cell] = total * scale;
                        });
                      }
                    });
}
template <class T, bool ADJOINT> void run_pool(const KernelCall& k) {
  run_windows<T, ADJOINT>(ADJOINT ? k.out[0] : k.in[0], ADJOINT ? k.in[0] : k.out[0], k.attrs);
}
template <bool ADJOINT> void kernel(const KernelCall& k) {
  by_float(k, run_pool<float, ADJOINT>, run_pool<double, ADJOINT>);
}

void check_windows(InferCtx& c, int64_t space, const char* extra = "count") {
  const Ints& out = c.attrs.ints("out");
  int64_t n = 0;
  for (int64_t o : out) n += o;
  bool fits = int64_t(out.size()) == space;
  for (const char* name : {"begin", "end", extra}) fits = fits && int64_t(c.attrs.ints(name).size()) == n;
  if (!fits) c.value_error("the windows do not fit x");
}
Shape pooled_shape(InferCtx& c, const char* extra) {
  c.need_float(0);
  if (c.rank(0) < 3 || c.rank(0) > 5)
    c.shape_error("x must be [N, C, ...] with one to three axes of space, got " + c.shape(0).str());
  check_windows(c, c.rank(0) - 2, extra);
  Shape s{c.shape(0)[0], c.shape(0)[1]};
  size_t at = 0;
  for (size_t i = 0; i < c.attrs.ints("out").size(); ++i)
    for (int64_t k = 0; k < c.attrs.ints("out")[i]; ++k, ++at)
      if (c.attrs.ints("begin")[at] < 0 || c.attrs.ints("end")[at] > c.shape(0)[int(i) + 2])
        c.shape_error("a window leaves axis " + std::to_string(i + 2));
  for (int64_t o : c.attrs.ints("out")) s.push_back(o);
  return s;
}
void infer_pool(InferCtx& c) { c.out(pooled_shape(c, "count"), c.dtype(0)); }
void infer_adjoint(InferCtx& c) {
  c.need_float(0);
  check_windows(c, c.rank(0) - 2);
  Shape s{c.shape(0)[0], c.shape(0)[1]};
  for (int64_t n : c.attrs.ints("space")) s.push_back(n);
  c.out(s, c.dtype(0));
}

Attrs windows(const Attrs& a) {
  return {{"out", a.ints("out")}, {"begin", a.ints("begin")}, {"end", a.ints("end")}, {"count", a.ints("count")}};
}

Var adjoint(const SweepCtx& c, Var t) {
  Attrs a = windows(c.attrs);
  const Shape& x = c.in().shape();
  a.set({"space", Ints(x.begin() + 2, x.end())});
  return record(op_named("avg_pool_adjoint"), {t}, a);
}

// Of each window, a constant shaped like the space of the result: its divisor, and how many cells it has.
Var per_window(const SweepCtx& c, bool cells) {
  Shape s;
  for (int64_t n : c.attrs.ints("out")) s.push_back(n);
  Tensor t = Tensor::empty(s, f64);
  for_windows(axes_of(c.attrs, "count"), [&](int64_t cell, double divisor, int64_t d0, int64_t d1, int64_t h0,
                                             int64_t h1, int64_t w0, int64_t w1) {
    t.data<double>()[cell] = cells ? double(std::max<int64_t>(1, (d1 - d0) * (h1 - h0) * (w1 - w0))) : divisor;
  });
  return c.graph.constant(t.to(c.in().dtype()));
}

// To every cell of a window alike.
Var uniform(const SweepCtx& c, Var r) { return adjoint(c, r * (per_window(c, false) / per_window(c, true))); }

void pool_relevance(SweepCtx& c) {
  const std::string& v = c.rule().variant;
  Var x = c.in(), r = c.d();
  if (v == "uniform") return c.give(0, uniform(c, r));
  if (v == "abs") {
    Var size = abs(x), total = c.apply(std::vector<Var>{size}), empty = equal(total, 0.0),
        none = c.graph.constant(0.0, r.dtype());
    Var t = where(empty, none, r / where(empty, c.graph.constant(1.0, r.dtype()), total));
    return c.give(0, size * adjoint(c, t) + uniform(c, where(empty, r, none)));
  }
  if (v == "sum") {
    Var n = per_window(c, false);
    return c.give(0, x * adjoint(c, c.stabilised_share(r, c.out() * n, 1.0) * n));
  }
  c.give(0, x * adjoint(c, c.stabilised_share(r, c.out(), 1.0)));
}

void pool_absorbed(SweepCtx& c) {
  const std::string& v = c.rule().variant;
  if (v == "abs" || v == "uniform") return;
  if (v != "sum") return lrp::absorbed_by_stabiliser(c);
  Var z = c.out() * per_window(c, false);
  c.absorb("stabiliser", c.d() - c.stabilised_share(c.d(), z, 1.0) * z);
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
    .cpu = kernel<false>,
    .vjp = [](SweepCtx& c) { c.give(0, adjoint(c, c.d())); },
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
};
REGISTER_OP(avg_pool_adjoint) = {
    .doc = "the adjoint of avg_pool: spreads y over its windows",
    .operands = {"y"},
    .infer = infer_adjoint,
    .cpu = kernel<true>,
    .vjp = [](SweepCtx& c) { c.give(0, record(op_named("avg_pool"), {c.d()}, windows(c.attrs))); },
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

template <class T> void run_max(const KernelCall& k) {
  const View &x = k.in[0], &y = k.out[0];
  std::vector<Axis> axes = axes_of(k.attrs, "step");
  const Axis &D = axes[0], &H = axes[1], &W = axes[2];
  int64_t rows = x.shape[0] * x.shape[1];
  if (rows == 0) return;
  int64_t plane = x.numel() / rows, cells = y.numel() / rows, height = x.shape.rank() > 3 ? x.shape[-2] : 1,
          width = x.shape[-1];
  cpu::parallel_for(rows, std::max<int64_t>(1, cpu::kGrain / std::max<int64_t>(1, plane)),
                    [&](int64_t first, int64_t last) {
                      for (int64_t r = first; r < last; ++r) {
                        const T* p = x.as<T>() + r * plane;
                        T* value = y.as<T>() + r * cells;
                        int64_t* position = k.out[1].as<int64_t>() + r * cells;
                        for (size_t d = 0; d < D.begin.size(); ++d)
                          for (size_t h = 0; h < H.begin.size(); ++h)
                            for (size_t w = 0; w < W.begin.size(); ++w) {
                              int64_t best = (D.begin[d] * height + H.begin[h]) * width + W.begin[w];
                              for (int64_t a = D.begin[d]; a < D.end[d]; a += D.extra[d])
                                for (int64_t b = H.begin[h]; b < H.end[h]; b += H.extra[h])
                                  for (int64_t c = W.begin[w]; c < W.end[w]; c += W.extra[w]) {
                                    int64_t at = (a * height + b) * width + c;
                                    if (p[at] > p[best] || (p[at] != p[at] && p[best] == p[best])) best = at;
                                  }
                              *value++ = p[best];
                              *position++ = best;
                            }
                      }
                    });
}

void infer_max(InferCtx& c) {
  Shape s = pooled_shape(c, "step");
  for (size_t i = 0; i < c.attrs.ints("begin").size(); ++i) {
    if (c.attrs.ints("begin")[i] >= c.attrs.ints("end")[i]) c.shape_error("a window lies in the padding");
    if (c.attrs.ints("step")[i] < 1) c.value_error("step must be positive");
  }
  c.out(s, c.dtype(0));
  c.out(s, i64);
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

void vjp_max(SweepCtx& c) {
  if (!c.has(0)) return;  // a cotangent of the positions ends here
  Var index = c.out(1), d = c.d();
  if (c.lead()) index = broadcast_to(index, d.shape());
  c.give(0, place(d, index, c.shape_of(0), c.in().rank() - 2));
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
    .cpu = [](const KernelCall& k) { by_float(k, run_max<float>, run_max<double>); },
    .vjp = vjp_max,
    .relevance = lrp::reindex,
    .absorbed =
        [](SweepCtx& c) {
          if (c.has(1)) c.absorb("index", c.d(1));
        },
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

Ints per_axis(const Ints& v, int n, int64_t otherwise) {
  if (v.empty()) return Ints(size_t(n), otherwise);
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
  Ints kernel = per_axis(o.kernel, n, 1), stride = o.stride.empty() ? kernel : per_axis(o.stride, n, 1),
       padding = per_axis(o.padding, n, 0), dilation = per_axis(o.dilation, n, 1);
  std::vector<Spans> axes;
  for (size_t i = 0; i < size_t(n); ++i) {
    int64_t extent = x.shape()[int(i) + 2], s = stride[i], p = padding[i], span = dilation[i] * (kernel[i] - 1) + 1,
            room = extent + 2 * p - span;
    if (kernel[i] < 1 || s < 1 || p < 0 || dilation[i] < 1)
      throw ValueError("[" + op + "] kernel, stride and dilation must be positive, padding not negative");
    if (room < 0)
      throw ShapeError("[" + op + "] the kernel is larger than axis " + std::to_string(i + 2) + " of " +
                       x.shape().str());
    int64_t count = (room + (o.ceil ? s - 1 : 0)) / s + 1;
    if ((count - 1) * s >= extent + p) --count;
    Spans spans;
    for (int64_t k = 0; k < count; ++k) spans.push_back({k * s - p, k * s - p + span, dilation[i]});
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
    Spans spans;
    for (int64_t k = 0; k < out[i]; ++k) spans.push_back({k * n / out[i], ((k + 1) * n + out[i] - 1) / out[i]});
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
  Ints padding = per_axis(o.padding, std::max(0, x.rank() - 2), 0);
  Var y = record(
      avg_pool_op, {x}, clipped(x, sliding(x, o, "avg_pool"), "count", [&](size_t axis, const Span& w, int64_t inside) {
        if (o.divisor != 0) return int64_t(1);
        return o.count_include_pad ? std::min(w.end, x.shape()[int(axis) + 2] + padding[axis]) - w.begin : inside;
      }));
  return o.divisor != 0 ? y * (1 / o.divisor) : y;
}
Var adaptive_avg_pool(Arg x, const Ints& out) {
  return record(avg_pool_op, {x},
                clipped(x, adaptive(x, out, "adaptive_avg_pool"), "count",
                        [](size_t, const Span&, int64_t inside) { return inside; }));
}

Var max_pool(Arg x, const PoolOptions& o) { return maxima(x, sliding(x, o, "max_pool")).values; }
Var max_pool_indices(Arg x, const PoolOptions& o) { return maxima(x, sliding(x, o, "max_pool")).indices; }
Var adaptive_max_pool(Arg x, const Ints& out) { return maxima(x, adaptive(x, out, "adaptive_max_pool")).values; }
Var adaptive_max_pool_indices(Arg x, const Ints& out) {
  return maxima(x, adaptive(x, out, "adaptive_max_pool")).indices;
}

Var max_unpool(Arg x, Arg indices, const Ints& space) {
  LocationGuard at(x);
  if (x.rank() < 3 || int(space.size()) != x.rank() - 2)
    throw ShapeError("[max_unpool] needs one extent per axis of space of " + x.shape().str());
  Shape to{x.shape()[0], x.shape()[1]};
  for (int64_t n : space) to.push_back(n);
  return place(x, indices, to, x.rank() - 2);
}

Var lp_pool(Arg x, double p, const PoolOptions& o) {
  LocationGuard at(x);
  PoolOptions sums = o;
  sums.divisor = 1;
  return pow(avg_pool(pow(abs(x), p), sums), 1 / p);
}

}  // namespace whence
