// Average pools as one map (means over rectangular windows) and its adjoint; max-pools from strided windows.
#include <limits>

#include "autograd/sweep.h"
#include "ops/conv.h"
#include "ops/cpu/halves.h"
#include "ops/cpu/parallel.h"

namespace whence {
namespace {

// Windows of each axis as clipped ranges [begin, end); `divisor` 0 divides by the cells a window really has.
struct Axis {
  std::vector<int64_t> begin, end;
};

std::vector<Axis> axes_of(const Attrs& a) {
  std::vector<Axis> axes;
  size_t at = 0;
  for (int64_t n : a.ints("out")) {
    Axis x;
    for (int64_t i = 0; i < n; ++i, ++at) {
      x.begin.push_back(a.ints("begin")[at]);
      x.end.push_back(a.ints("end")[at]);
    }
    axes.push_back(std::move(x));
  }
  while (axes.size() < 3) axes.insert(axes.begin(), Axis{{0}, {1}});
  return axes;
}

// f(cell, first cells of the window and its extents) for every window.
template <class F> void for_windows(const std::vector<Axis>& a, F&& f) {
  int64_t cell = 0;
  for (size_t d = 0; d < a[0].begin.size(); ++d)
    for (size_t h = 0; h < a[1].begin.size(); ++h)
      for (size_t w = 0; w < a[2].begin.size(); ++w, ++cell) f(cell, a[0].begin[d], a[0].end[d], a[1].begin[h], a[1].end[h], a[2].begin[w], a[2].end[w]);
}

template <class T, bool ADJOINT> void run_windows(const View& wide, const View& narrow, const Attrs& attrs) {
  std::vector<Axis> axes = axes_of(attrs);
  double divisor = attrs.real("divisor");
  int64_t H = wide.shape.rank() > 3 ? wide.shape[-2] : 1, W = wide.shape[-1], rows = wide.shape[0] * wide.shape[1];
  if (rows == 0) return;
  int64_t plane = wide.numel() / rows, cells = narrow.numel() / rows;
  T *x = wide.as<T>(), *y = narrow.as<T>();
  cpu::parallel_for(rows, std::max<int64_t>(1, cpu::kGrain / std::max<int64_t>(1, plane)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T *px = x + r * plane, *py = y + r * cells;
      if (ADJOINT) std::fill_n(px, plane, T(0));
      for_windows(axes, [&](int64_t cell, int64_t d0, int64_t d1, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
        T scale = T(1 / (divisor > 0 ? divisor : double(std::max<int64_t>(1, (d1 - d0) * (h1 - h0) * (w1 - w0))))), total = 0;
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
template <bool ADJOINT> void kernel(const KernelCall& k) { cpu::in_f32_or_f64(k, run_pool<float, ADJOINT>, run_pool<double, ADJOINT>); }

void check_windows(InferCtx& c, int64_t space) {
  const Ints& out = c.attrs.ints("out");
  int64_t n = 0;
  for (int64_t o : out) n += o;
  if (int64_t(out.size()) != space || int64_t(c.attrs.ints("begin").size()) != n || int64_t(c.attrs.ints("end").size()) != n) c.value_error("the windows do not fit x");
}
void infer_pool(InferCtx& c) {
  c.need_float(0);
  if (c.rank(0) < 3 || c.rank(0) > 5) c.shape_error("x must be [N, C, ...] with one to three axes of space, got " + c.shape(0).str());
  check_windows(c, c.rank(0) - 2);
  Shape s{c.shape(0)[0], c.shape(0)[1]};
  size_t at = 0;
  for (size_t i = 0; i < c.attrs.ints("out").size(); ++i)
    for (int64_t k = 0; k < c.attrs.ints("out")[i]; ++k, ++at)
      if (c.attrs.ints("begin")[at] < 0 || c.attrs.ints("end")[at] > c.shape(0)[int(i) + 2]) c.shape_error("a window leaves axis " + std::to_string(i + 2));
  for (int64_t o : c.attrs.ints("out")) s.push_back(o);
  c.out(s, c.dtype(0));
}
void infer_adjoint(InferCtx& c) {
  c.need_float(0);
  check_windows(c, c.rank(0) - 2);
  Shape s{c.shape(0)[0], c.shape(0)[1]};
  for (int64_t n : c.attrs.ints("space")) s.push_back(n);
  c.out(s, c.dtype(0));
}

Attrs windows(const Attrs& a) { return {{"out", a.ints("out")}, {"begin", a.ints("begin")}, {"end", a.ints("end")}, {"divisor", a.real("divisor")}}; }

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
  double divisor = c.attrs.real("divisor");
  for_windows(axes_of(c.attrs), [&](int64_t cell, int64_t d0, int64_t d1, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
    double n = double(std::max<int64_t>(1, (d1 - d0) * (h1 - h0) * (w1 - w0)));
    t.data<double>()[cell] = cells || divisor <= 0 ? n : divisor;
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
    Var size = abs(x), total = c.apply(std::vector<Var>{size}), empty = equal(total, 0.0), none = c.graph.constant(0.0, r.dtype());
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

Attrs sample_attrs() { return {{"out", Ints{2, 3}}, {"begin", Ints{0, 1, 0, 1, 3}}, {"end", Ints{2, 4, 2, 4, 5}}, {"divisor", 0.0}}; }

}  // namespace

REGISTER_OP(avg_pool, {.doc = "mean of x [N, C, ...] over windows; divisor 0 counts the cells a window has", .operands = {"x"}, .infer = infer_pool, .cpu = kernel<false>,
                       .vjp = [](SweepCtx& c) { c.give(0, adjoint(c, c.d())); }, .relevance = pool_relevance, .absorbed = pool_absorbed,
                       .samples = [] { return std::vector<Sample>{{{{.shape = {2, 2, 4, 5}}}, sample_attrs(), "plane"}}; },
                       .errors = [] { return std::vector<ErrorSample>{{{{{2, 2, 3, 5}, f32}}, sample_attrs(), "leaves axis 2"}, {{{{2, 5}, f32}}, sample_attrs(), "must be [N, C, ...]"}}; }});
REGISTER_OP(avg_pool_adjoint, {.doc = "the adjoint of avg_pool: spreads y over its windows", .operands = {"y"}, .infer = infer_adjoint, .cpu = kernel<true>,
                               .vjp = [](SweepCtx& c) { c.give(0, record(op_named("avg_pool"), {c.d()}, windows(c.attrs))); },
                               .samples = [] { Attrs a = sample_attrs(); a.set({"space", Ints{4, 5}}); return std::vector<Sample>{{{{.shape = {2, 2, 2, 3}}}, a, "plane"}}; },
                               .errors = [] { return std::vector<ErrorSample>{}; }, .traits = {.backward = true}});

namespace {

Ints per_axis(const Ints& v, int n, int64_t otherwise) {
  if (v.empty()) return Ints(size_t(n), otherwise);
  return v.size() == 1 ? Ints(size_t(n), v[0]) : v;
}

struct Windows {
  Ints kernel, stride, padding, out;
};
Windows windows_of(const Var& x, const PoolOptions& o, const char* op) {
  int n = x.rank() - 2;
  if (n < 1) throw ShapeError(std::string("[") + op + "] x must be [N, C, ...], got " + x.shape().str());
  if (o.kernel.empty()) throw ValueError(std::string("[") + op + "] needs a kernel");
  Windows w{per_axis(o.kernel, n, 1), {}, per_axis(o.padding, n, 0), {}};
  w.stride = o.stride.empty() ? w.kernel : per_axis(o.stride, n, 1);
  for (int i = 0; i < n; ++i) {
    size_t k = size_t(i);
    int64_t room = x.shape()[i + 2] + 2 * w.padding[k] - w.kernel[k];
    if (room < 0 || w.stride[k] < 1) throw ShapeError(std::string("[") + op + "] the kernel is larger than axis " + std::to_string(i + 2) + " of " + x.shape().str());
    w.out.push_back(room / w.stride[k] + 1);
  }
  return w;
}

}  // namespace

Var avg_pool(Arg x, const PoolOptions& o) {
  Windows w = windows_of(x, o, "avg_pool");
  Ints begin, end;
  double cells = 1;
  for (size_t i = 0; i < w.out.size(); ++i) {
    cells *= double(w.kernel[i]);
    for (int64_t k = 0; k < w.out[i]; ++k) {
      int64_t at = k * w.stride[i] - w.padding[i];
      begin.push_back(std::max<int64_t>(0, at));
      end.push_back(std::min(x.shape()[int(i) + 2], at + w.kernel[i]));
    }
  }
  return record(avg_pool_op, {x}, {{"out", w.out}, {"begin", begin}, {"end", end}, {"divisor", o.count_include_pad ? cells : 0.0}});
}

Var adaptive_avg_pool(Arg x, const Ints& out) {
  Ints begin, end;
  for (size_t i = 0; i < out.size() && int(i) + 2 < x.rank(); ++i)
    for (int64_t k = 0; k < out[i]; ++k) {
      int64_t n = x.shape()[int(i) + 2];
      begin.push_back(k * n / out[i]);
      end.push_back(((k + 1) * n + out[i] - 1) / out[i]);
    }
  return record(avg_pool_op, {x}, {{"out", out}, {"begin", begin}, {"end", end}, {"divisor", 0.0}});
}

Var max_pool(Arg x, const PoolOptions& o) {
  LocationGuard at(x);
  Windows w = windows_of(x, o, "max_pool");
  int n = int(w.out.size());
  Ints pads(4, 0);
  bool padded = false;
  for (int64_t p : w.padding) {
    pads.insert(pads.end(), {p, p});
    padded = padded || p > 0;
  }
  Var wide = padded ? pad(x, pads, PadMode::constant, -std::numeric_limits<double>::infinity()) : x.var;
  std::vector<Var> taps{wide};
  for (int i = 0; i < n; ++i) {
    size_t k = size_t(i);
    std::vector<Var> next;
    for (const Var& v : taps)
      for (int64_t t = 0; t < w.kernel[k]; ++t) next.push_back(slice(v, i + 2, t, t + (w.out[k] - 1) * w.stride[k] + 1, w.stride[k]));
    taps = std::move(next);
  }
  int last = x.rank();
  return max(stack(taps, last), {last});
}

}  // namespace whence
