// Scans along one axis: cumsum, cummax, logcumsumexp, and the linear recurrence that state space models and gated cells
// are made of.
#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/sweep.h"
#include "ops/composite.h"
#include "tensor/parallel.h"
#include "ops/cpu/scan.h"
#include "ops/floats.h"
#include "ops/ops.h"

namespace whence {
namespace {

using cpu::kGrain;
using cpu::parallel_for;

constexpr int64_t kLanes = 256;  // running values that one piece of work holds on its stack

int axis_of(const Attrs& attrs, int rank) { return normalize_axis(attrs.integer("axis"), rank); }

/// (outer, n, inner): the scan runs over n.
struct Space {
  int64_t outer = 1, n, inner = 1;
  Space(const Shape& s, int axis) : n(s[axis]) {
    for (int a = 0; a < axis; ++a) outer *= s[a];
    for (int a = axis + 1; a < s.rank(); ++a) inner *= s[a];
  }
  /// f(outer position, first lane, end lane) with at most kLanes lanes, split over threads.
  template <class F> void each(F&& f) const {
    if (n == 0) return;
    parallel_for(outer * inner, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
      while (begin < end) {
        int64_t first = begin % inner, last = std::min({inner, first + end - begin, first + kLanes});
        f(begin / inner, first, last);
        begin += last - first;
      }
    });
  }
};

Attrs scan_attrs(int64_t axis, bool reverse) { return {{"axis", axis}, {"reverse", reverse}}; }

// ---- cumsum -------------------------------------------------------------------------------------------------------

template <class T> void run_cumsum(const KernelCall& k) {
  const T* x = k.in[0].as<T>();
  T* y = k.out[0].as<T>();
  Space s(k.in[0].shape, axis_of(k.attrs, k.in[0].shape.rank()));
  bool reverse = k.attrs.flag("reverse");
  if constexpr (std::is_floating_point_v<T>) {
    cpu::cumsum(x, y, s.outer, s.n, s.inner, reverse);
  } else {
    s.each([&](int64_t o, int64_t first, int64_t last) {
      std::make_unsigned_t<T> sum[kLanes] = {};  // wraps
      for (int64_t step = 0; step < s.n; ++step) {
        int64_t row = (o * s.n + (reverse ? s.n - 1 - step : step)) * s.inner;
        for (int64_t i = first; i < last; ++i) y[row + i] = T(sum[i - first] += std::make_unsigned_t<T>(x[row + i]));
      }
    });
  }
}

}  // namespace

namespace {

// Each prefix is a sum: epsilon rule, or "abs": |x_s| / (|x_0| + .. + |x_t|) of R_t.
void cumsum_relevance(SweepCtx& c) {
  if (c.rule().variant != "abs") return lrp::linear_in_carriers(c);
  Var size = abs(c.in()), total = c.apply({&size, 1});
  Var none = c.graph.constant(0.0, c.d().dtype()), empty = equal(total, 0.0);
  Var t = where(empty, none, c.d() / where(empty, c.graph.constant(1.0, total.dtype()), total));
  Var spread = c.frozen_vjp(t)[0];
  if (spread.defined()) c.give(0, size * spread);
}

void cumsum_absorbed(SweepCtx& c) {
  if (c.rule().variant != "abs") return lrp::absorbed_by_stabiliser(c);
  Var size = abs(c.in());  // a prefix of zeros has nobody to pass to
  c.absorb("zero output", where(equal(c.apply({&size, 1}), 0.0), c.d(), c.graph.constant(0.0, c.d().dtype())));
}

void cumsum_kernel(const KernelCall& k) {
  switch (k.in[0].dtype) {
    case DType::f32: return run_cumsum<float>(k);
    case DType::f64: return run_cumsum<double>(k);
    case DType::i32: return run_cumsum<int32_t>(k);
    case DType::i64: return run_cumsum<int64_t>(k);
    default: throw MissingKernel("[cumsum] has no cpu kernel for " + std::string(name_of(k.in[0].dtype)));
  }
}

}  // namespace

REGISTER_OP(cumsum) = {
    .doc = "y_t = x_0 + .. + x_t along axis; reverse: from t to the end",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.axis(0, c.attrs.integer("axis"));
          if (c.dtype(0) == u8 || c.dtype(0) == boolean)
            c.dtype_error("x must be a number that can be added up, got " + std::string(name_of(c.dtype(0))),
                          "cast it to i32");
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = cumsum_kernel,
    .vjp =
        [](SweepCtx& c) {
          c.give(0, cumsum(c.d(), axis_of(c.attrs, c.in().rank()) + c.lead(), !c.attrs.flag("reverse")));
        },
    .relevance = cumsum_relevance,
    .absorbed = cumsum_absorbed,
    .variants = {"abs"},
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 4}}}, scan_attrs(1, false), "columns"},
                                     {{{.shape = {4, 3}}}, scan_attrs(0, true), "reverse"},
                                     {{{.shape = {2, 5, 3}}}, scan_attrs(-2, false), "middle"},
                                     {{{.shape = {2, 0}}}, scan_attrs(1, false), "empty"},
                                     {{{.shape = {0, 3}}}, scan_attrs(1, true), "hollow"},
                                     {{{.shape = {67}}}, scan_attrs(0, false), "odd"},
                                     {{{.shape = {1, 33, 301}}}, scan_attrs(1, true), "wide"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, scan_attrs(2, false), "axis 2 is outside x of rank 2"},
              {{{{}, f32}}, scan_attrs(0, false), "axis 0 is outside x of rank 0"},
              {{{{2}, boolean}}, scan_attrs(0, false), "x must be a number that can be added up, got bool"}};
        },
    .traits = {.batched_sweep = true},
};

Var cumsum(Arg x, int64_t axis, bool reverse) { return record(cumsum_op, {x}, scan_attrs(axis, reverse)); }

// ---- linear_scan --------------------------------------------------------------------------------------------------

namespace {

/// Where the lanes of an operand begin: it may have any strides, and axes that repeat (stride 0).
struct Source {
  std::vector<int64_t> outer_at, inner_at;
  int64_t step;
  bool unit = true;  ///< inner lanes are adjacent
  Source(const View& v, const Shape& to, int axis) {
    Shape strides = broadcast_strides(v.shape, v.strides, to);
    step = strides[axis];
    auto starts = [&](int from, int until) {
      int64_t n = 1;
      for (int a = from; a < until; ++a) n *= to[a];
      std::vector<int64_t> at(size_t(n), 0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t a = until - 1, rest = i; a >= from; --a) {
          at[size_t(i)] += rest % to[int(a)] * strides[int(a)];
          rest /= to[int(a)];
        }
      return at;
    };
    outer_at = starts(0, axis);
    inner_at = starts(axis + 1, to.rank());
    for (size_t i = 0; i < inner_at.size(); ++i) unit &= inner_at[i] == int64_t(i);
  }
};

template <class T> void run_linear_scan(const KernelCall& k) {
  const Shape& shape = k.out[0].shape;
  int axis = axis_of(k.attrs, shape.rank());
  if (shape.numel() == 0) return;
  Space s(shape, axis);
  bool reverse = k.attrs.flag("reverse");
  const T *a = k.in[0].as<T>(), *b = k.in[1].as<T>();
  T* h = k.out[0].as<T>();
  if (k.in[0].shape == shape && k.in[0].contiguous() && k.in[1].contiguous())
    return cpu::linear_scan<T>(a, b, nullptr, h, s.outer, s.n, s.inner, reverse);
  Source sa(k.in[0], shape, axis), sb(k.in[1], shape, axis);
  bool unit = sa.unit && sb.unit;
  s.each([&](int64_t o, int64_t first, int64_t last) {
    T state[kLanes] = {};
    for (int64_t step = 0; step < s.n; ++step) {
      int64_t t = reverse ? s.n - 1 - step : step;
      const T *at = a + sa.outer_at[size_t(o)] + t * sa.step, *bt = b + sb.outer_at[size_t(o)] + t * sb.step;
      T* ht = h + (o * s.n + t) * s.inner;
      if (unit) {
        for (int64_t i = first; i < last; ++i) ht[i] = state[i - first] = at[i] * state[i - first] + bt[i];
      } else {
        for (int64_t i = first; i < last; ++i)
          ht[i] = state[i - first] = at[sa.inner_at[size_t(i)]] * state[i - first] + bt[sb.inner_at[size_t(i)]];
      }
    }
  });
}

/// x moved by one step along axis, away from (`later`) or towards the beginning; a zero enters.
Var shifted(Var x, int axis, bool later) {
  Ints pads(size_t(2 * x.rank()), 0);
  pads[size_t(2 * axis)] = later ? 1 : -1;
  pads[size_t(2 * axis + 1)] = later ? -1 : 1;
  return pad(x, std::move(pads));
}

/// g_t = d_t + a_{t+1} g_{t+1}: what reaches b_t. A coefficient that is the same at every step needs no shift.
Var scan_back(SweepCtx& c, Var d) {
  Var a = c.in(0);
  bool reverse = c.attrs.flag("reverse");
  int axis = axis_of(c.attrs, c.in(1).rank()), own = axis - (c.in(1).rank() - a.rank());
  if (own >= 0 && a.shape()[own] != 1) a = shifted(a, own, reverse);
  return linear_scan(a, d, axis + c.lead(), !reverse);
}

}  // namespace

REGISTER_OP(linear_scan) = {
    .doc = "h_t = a_t h_{t-1} + b_t along axis, h_{-1} = 0; reverse: from the end; a broadcasts to b",
    .operands = {"a", "b"},
    .infer =
        [](InferCtx& c) {
          c.need_float(1);
          c.need_same_dtype(0, 1);
          if (!broadcastable_to(c.shape(0), c.shape(1)))
            c.shape_error("a " + c.shape(0).str() + " does not broadcast to b " + c.shape(1).str());
          c.axis(1, c.attrs.integer("axis"));
          c.out(c.shape(1), c.dtype(1));
        },
    .cpu = {[](const KernelCall& k) { by_float(k, run_linear_scan<float>, run_linear_scan<double>); },
            {.strided = true}},
    .vjp =
        [](SweepCtx& c) {
          Var g = scan_back(c, c.d());
          c.give(1, g);
          if (!c.needs(0)) return;
          Var before = shifted(c.out(), axis_of(c.attrs, c.in(1).rank()), !c.attrs.flag("reverse"));  // h_{t-1}
          c.give(0, c.reduce_to(g * before, 0));
        },
    // Linear in b once the decay a is held fixed; a gates and takes nothing.
    .relevance =
        [](SweepCtx& c) {
          if (c.needs(1)) c.give(1, c.in(1) * scan_back(c, c.stabilised_share(c.d(), c.out(), 1.0)));
        },
    .absorbed =
        [](SweepCtx& c) {
          Var t = c.stabilised_share(c.d(), c.out(), 1.0);
          if (!c.carries(1)) c.absorb("constant", t * c.out());
          c.absorb("stabiliser", c.d() - t * c.out());
        },
    .samples =
        [] {
          auto a = [](Shape s) { return SampleInput{.shape = s, .low = -0.9, .high = 0.9}; };
          return std::vector<Sample>{{{a({3, 4}), {.shape = {3, 4}}}, scan_attrs(1, false), "columns"},
                                     {{a({4, 3}), {.shape = {4, 3}}}, scan_attrs(0, true), "reverse"},
                                     {{a({5, 1}), {.shape = {2, 5, 3}}}, scan_attrs(-2, false), "per_step"},
                                     {{a({3}), {.shape = {2, 5, 3}}}, scan_attrs(1, true), "constant_decay"},
                                     {{a({}), {.shape = {6}}}, scan_attrs(0, false), "scalar_decay"},
                                     {{a({2, 1, 3}), {.shape = {2, 4, 3}}}, scan_attrs(1, false), "once"},
                                     {{a({2, 0}), {.shape = {2, 0}}}, scan_attrs(1, false), "empty"},
                                     {{a({2, 1}), {.shape = {2, 1}}}, scan_attrs(1, false), "one"},
                                     {{a({3, 67}), {.shape = {3, 67}}}, scan_attrs(1, false), "odd"},
                                     {{a({9, 301}), {.shape = {9, 301}}}, scan_attrs(0, false), "wide"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}, {{3}, f32}}, scan_attrs(0, false), "a [2, 3] does not broadcast to b [3]"},
              {{{{3}, f32}, {{3}, f64}}, scan_attrs(0, false), "dtypes differ"},
              {{{{3}, f32}, {{3}, f32}}, scan_attrs(1, false), "axis 1 is outside b of rank 1"},
              {{{{3}, i32}, {{3}, i32}}, scan_attrs(0, false), "b must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

Var linear_scan(Arg a, Arg b, int64_t axis, bool reverse) {
  return record(linear_scan_op, {a, b}, scan_attrs(axis, reverse));
}

// ---- logcumsumexp -------------------------------------------------------------------------------------------------

namespace {

// y = m + log(s) with the running maximum m and s = sum of e^(x - m), in double.
template <class T> void run_logcumsumexp(const KernelCall& k) {
  const T* x = k.in[0].as<T>();
  T* y = k.out[0].as<T>();
  Space s(k.in[0].shape, axis_of(k.attrs, k.in[0].shape.rank()));
  bool reverse = k.attrs.flag("reverse");
  s.each([&](int64_t o, int64_t first, int64_t last) {
    double most[kLanes], sum[kLanes];
    for (int64_t step = 0; step < s.n; ++step) {
      int64_t row = (o * s.n + (reverse ? s.n - 1 - step : step)) * s.inner;
      for (int64_t i = first; i < last; ++i) {
        double v = double(x[row + i]), &m = most[i - first], &e = sum[i - first];
        if (step == 0) m = v, e = 1;
        else if (v == m) e += 1;  // infinities too
        else if (v > m) e = e * std::exp(m - v) + 1, m = v;
        else e += std::exp(v - m);
        y[row + i] = T(m + std::log(e));
      }
    }
  });
}

// dx_s = sum over t >= s of d_t e^(x_s - y_t) = g_s e^(x_s - y_s) with g_s = d_s + e^(y_s - y_{s+1}) g_{s+1}: no
// exponent is above zero. Its relevance is the same formula, as for logsumexp: the weights of each y_t add up to one.
void sweep_logcumsumexp(SweepCtx& c) {
  double limit = c.in().dtype() == f64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  bool reverse = c.attrs.flag("reverse");
  int axis = axis_of(c.attrs, c.in().rank());
  Var x = minimum(c.in(), limit), y = clamp(c.out(), -limit, limit);  // where y = -inf, x is: weight 0
  Var decay = minimum(exp(y - shifted(y, axis, reverse)), 1.0);       // the last one meets zeros
  c.give(0, linear_scan(decay, c.d(), axis + c.lead(), !reverse) * exp(x - y));
}

}  // namespace

REGISTER_OP(logcumsumexp) = {
    .doc = "y_t = log(e^x_0 + .. + e^x_t) along axis, without overflow; reverse: from t to the end",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.need_float(0);
          c.axis(0, c.attrs.integer("axis"));
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = [](const KernelCall& k) { by_float(k, run_logcumsumexp<float>, run_logcumsumexp<double>); },
    .vjp = sweep_logcumsumexp,
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {3, 4}}}, scan_attrs(1, false), "columns"},
              {{{.shape = {4, 3}}}, scan_attrs(0, true), "reverse"},
              {{{.shape = {2, 5, 3}, .low = -30, .high = 30}}, scan_attrs(-2, false), "far apart"},
              {{{.shape = {2, 0}}}, scan_attrs(1, false), "empty"},
              {{{.shape = {67}}}, scan_attrs(0, true), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, i32}}, scan_attrs(0, false), "x must be floating point"},
                                          {{{{2}, f32}}, scan_attrs(1, false), "axis 1 is outside"}};
        },
    .traits = {.batched_sweep = true},
};

Var logcumsumexp(Arg x, int64_t axis, bool reverse) {
  return record(logcumsumexp_op, {x}, scan_attrs(normalize_axis(axis, x.rank()), reverse));
}

// ---- cummax -------------------------------------------------------------------------------------------------------

namespace {

template <class T> void run_cummax(const KernelCall& k) {
  const T* x = k.in[0].as<T>();
  T* y = k.out[0].as<T>();
  int64_t* where = k.out[1].as<int64_t>();
  Space s(k.in[0].shape, axis_of(k.attrs, k.in[0].shape.rank()));
  bool reverse = k.attrs.flag("reverse");
  s.each([&](int64_t o, int64_t first, int64_t last) {
    int64_t before = 0;  // row of the step before
    for (int64_t step = 0; step < s.n; ++step) {
      int64_t t = reverse ? s.n - 1 - step : step, row = (o * s.n + t) * s.inner;
      for (int64_t i = first; i < last; ++i) {
        T v = x[row + i], best = step ? y[before + i] : v;
        bool wins = step == 0 || v > best || (v != v && best == best);
        y[row + i] = wins ? v : best;
        where[row + i] = wins ? t : where[before + i];
      }
      before = row;
    }
  });
}

void vjp_cummax(SweepCtx& c) {
  if (!c.has(0)) return;  // a cotangent of the positions ends here
  Var index = c.out(1), d = c.d();
  if (c.lead()) index = broadcast_to(index, d.shape());
  Var zeros = broadcast_to(c.graph.constant(0.0, d.dtype()), c.shape_of(0));
  c.give(0, scatter_add(zeros, index, d, axis_of(c.attrs, c.in().rank()) + c.lead()));
}

void cummax_kernel(const KernelCall& k) {
  switch (k.in[0].dtype) {
    case DType::f32: return run_cummax<float>(k);
    case DType::f64: return run_cummax<double>(k);
    case DType::i32: return run_cummax<int32_t>(k);
    case DType::i64: return run_cummax<int64_t>(k);
    default: throw MissingKernel("[cummax] has no cpu kernel for " + std::string(name_of(k.in[0].dtype)));
  }
}

}  // namespace

REGISTER_OP(cummax) = {
    .doc =
        "y_t = max(x_0, .., x_t) along axis, and the position (i64) of the first such maximum; reverse: from the end",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.axis(0, c.attrs.integer("axis"));
          c.out(c.shape(0), c.dtype(0));
          c.out(c.shape(0), i64);
        },
    .cpu = cummax_kernel,
    .vjp = vjp_cummax,
    .relevance = lrp::reindex,
    .absorbed =
        [](SweepCtx& c) {
          if (c.has(1)) c.absorb("index", c.d(1));
        },
    .samples =
        [] {
          auto x = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{{{x({3, 4})}, scan_attrs(1, false), "columns"},
                                     {{x({4, 3})}, scan_attrs(0, true), "reverse"},
                                     {{x({2, 0})}, scan_attrs(1, false), "empty"},
                                     {{x({3, 67})}, scan_attrs(-1, false), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, scan_attrs(2, false), "axis 2 is outside x of rank 2"}};
        },
    .traits = {.batched_sweep = true},
};

TopK cummax(Arg x, int64_t axis, bool reverse) {
  Var v = record(cummax_op, {x}, scan_attrs(axis, reverse));
  return {v, {&v.graph(), v.id() + 1}};
}

}  // namespace whence
