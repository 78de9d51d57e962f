// Reductions beside sum and mean: extrema and where they are, logsumexp, any, all, variance.
#include <cmath>
#include <limits>

#include "autograd/sweep.h"
#include "ops/axes.h"
#include "ops/cpu/reduce.h"
#include "ops/floats.h"
#include "ops/ops.h"

namespace whence {
namespace {

Attrs axes_attrs(Ints axes, bool keepdim) { return {{"axes", std::move(axes)}, {"keepdim", keepdim}}; }

std::string nothing_in(const Shape& s) { return "an empty axis of " + s.str() + " has no extremum"; }

// ---- max and min over any axes ------------------------------------------------------------------------------------

void infer_extremum(InferCtx& c) {
  if (c.dtype(0) == boolean || c.dtype(0) == u8 || size_of(c.dtype(0)) < 4)
    c.dtype_error("x must be f32, f64 or a wide integer, got " + std::string(name_of(c.dtype(0))),
                  c.dtype(0) == boolean ? "use any or all" : "cast it first");
  Shape s = reduced_shape(c, c.attrs.ints("axes"), c.attrs.flag("keepdim"));
  if (c.shape(0).numel() == 0 && s.numel() > 0) c.shape_error(nothing_in(c.shape(0)));
  c.out(s, c.dtype(0));
}

template <bool LARGEST> void extremum_kernel(const KernelCall& k) {
  reduce_axes(k, [](const auto* x, auto* y, int64_t outer, int64_t n, int64_t inner) {
    using T = std::remove_pointer_t<decltype(y)>;
    if constexpr (std::is_floating_point_v<T>) {
      LARGEST ? cpu::reduce_max(x, y, outer, n, inner) : cpu::reduce_min(x, y, outer, n, inner);
    } else {
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          T best = x[o * n * inner + i];
          for (int64_t r = 1; r < n; ++r) {
            T v = x[(o * n + r) * inner + i];
            best = LARGEST ? std::max(best, v) : std::min(best, v);
          }
          y[o * inner + i] = best;
        }
    }
  });
}

// Offsets of a contiguous tensor, split by whether an axis is reduced; row-major order in both lists.
struct Groups {
  std::vector<int64_t> kept{0}, cut{0};
  Groups(const Shape& shape, const Ints& axes) {
    Shape strides = contiguous_strides(shape);
    for (int a = 0; a < shape.rank(); ++a) {
      auto& list = std::binary_search(axes.begin(), axes.end(), int64_t(a)) ? cut : kept;
      std::vector<int64_t> longer;
      longer.reserve(list.size() * size_t(shape[a]));
      for (int64_t at : list)
        for (int64_t i = 0; i < shape[a]; ++i) longer.push_back(at + i * strides[a]);
      list = std::move(longer);
    }
  }
};

// Where the first extremum of each group lies (a NaN is more extreme than any number, as in the kernels of the values).
template <class T> std::vector<int64_t> first_extrema(const View& x, const Ints& axes, bool largest) {
  Groups g(x.shape, axes);
  const T* p = x.as<T>();
  std::vector<int64_t> at;
  if (g.cut.empty()) return at;
  for (int64_t base : g.kept) {
    int64_t best = base + g.cut[0];
    for (int64_t step : g.cut) {
      T a = p[base + step], b = p[best];
      if ((largest ? a > b : a < b) || (a != a && b == b)) best = base + step;
    }
    at.push_back(best);
  }
  return at;
}

// put_extremum: d, one number per group, at the group's first extremum in x; zeros elsewhere. pick_extremum: its
// adjoint.
Shape with_ones(const Shape& shape, const Ints& axes) {
  Shape s = shape;
  for (int64_t a : axes) s[int(a)] = 1;
  return s;
}
Shape behind(Shape leads, int keep,
             const Shape& tail) {  // leading axes of `leads` (all but the last `keep`), then tail
  Shape s;
  for (int i = 0; i < leads.rank() - keep; ++i) s.push_back(leads[i]);
  for (int64_t n : tail) s.push_back(n);
  return s;
}
template <bool PUT> void infer_place(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  const Ints& axes = c.attrs.ints("axes");
  reduced_shape(c, axes, true);  // checks the axes
  Shape ones = with_ones(c.shape(0), axes);
  const Shape &full = c.shape(0), &from = PUT ? ones : full, &to = PUT ? full : ones;
  if (c.rank(1) < from.rank() || !(behind(c.shape(1), from.rank(), from) == c.shape(1)))
    c.shape_error(c.op.operand_name(1) + " must end in " + from.str() + ", got " + c.shape(1).str());
  c.out(behind(c.shape(1), from.rank(), to), c.dtype(1));
}
template <bool PUT, class T> void run_place(const KernelCall& k) {
  const View& x = k.in[0];
  std::vector<int64_t> at = first_extrema<T>(x, k.attrs.ints("axes"), k.attrs.flag("largest"));
  int64_t n = x.numel(), groups = int64_t(at.size());
  const T* from = k.in[1].as<T>();
  T* to = k.out[0].as<T>();
  if (PUT) std::fill_n(to, k.out[0].numel(), T(0));
  int64_t leads = n ? (PUT ? k.out[0] : k.in[1]).numel() / n : 0;
  for (int64_t l = 0; l < leads; ++l)
    for (int64_t g = 0; g < groups; ++g) {
      int64_t wide = l * n + at[size_t(g)], narrow = l * groups + g;
      PUT ? to[wide] = from[narrow] : to[narrow] = from[wide];
    }
}
template <bool PUT> void place_kernel(const KernelCall& k) {
  by_float(k, run_place<PUT, float>, run_place<PUT, double>);
}

Attrs place_attrs(Ints axes, bool largest) { return {{"axes", std::move(axes)}, {"largest", largest}}; }

template <bool PUT> std::vector<Sample> place_samples() {
  auto one = [](Shape x, Ints axes, bool largest, const char* name, Shape lead = {}) {
    Shape other = PUT ? with_ones(x, axes) : x;
    return Sample{{{.shape = x, .distinct = true, .parameter = true}, {.shape = behind(lead, 0, other)}},
                  place_attrs(axes, largest),
                  name};
  };
  return {one({3, 5}, {1}, true, "rows"), one({2, 3, 4}, {0, 2}, false, "outer axes"),
          one({3, 2}, {0}, true, "led", {2}), one({}, {}, true, "scalar"), one({2, 0}, {0}, true, "empty")};
}
std::vector<ErrorSample> place_errors() {
  return {{{{{2, 3}, f32}, {{4}, f32}}, place_attrs({1}, true), "must end in"}};
}

}  // namespace

REGISTER_OP(put_extremum) = {
    .doc = "zeros like x with d [.., 1 at each reduced axis] at each group's first extremum",
    .operands = {"x", "d"},
    .infer = infer_place<true>,
    .cpu = place_kernel<true>,
    .vjp =
        [](SweepCtx& c) {
          c.give(1, record(op_named("pick_extremum"), {c.in(0), c.d()}, c.attrs));
        },
    .samples = place_samples<true>,
    .errors = place_errors,
    .traits = {.batched_sweep = true, .sinks = 1, .backward = true},
};
REGISTER_OP(pick_extremum) = {
    .doc = "the element of v at each group's first extremum in x",
    .operands = {"x", "v"},
    .infer = infer_place<false>,
    .cpu = place_kernel<false>,
    .vjp =
        [](SweepCtx& c) {
          c.give(1, record(put_extremum_op, {c.in(0), c.d()}, c.attrs));
        },
    .samples = place_samples<false>,
    .errors = place_errors,
    .traits = {.batched_sweep = true, .sinks = 1, .backward = true},
};

namespace {

// Gradient and relevance go to the winner: the exact adjoint of picking it.
template <bool LARGEST> void sweep_extremum(SweepCtx& c) {
  const Ints& axes = c.attrs.ints("axes");
  c.give(0, record(put_extremum_op, {c.in(), with_axes(c.d(), c.in().shape(), axes, c.lead())},
                   place_attrs(axes, LARGEST)));
}

std::vector<Sample> extremum_samples() {
  auto one = [](Shape s, Ints axes, bool keep, const char* name) {
    return Sample{{{.shape = s, .distinct = true}}, axes_attrs(axes, keep), name};
  };
  return {
      one({3, 5}, {1}, false, "rows"), one({5, 3}, {0}, true, "columns"), one({2, 3, 4}, {0, 2}, false, "outer axes"),
      one({7}, {0}, false, "all"),     one({2, 2}, {0, 1}, true, "tiny"), one({}, {}, false, "scalar"),
      one({0, 3}, {1}, false, "empty")};
}
std::vector<ErrorSample> extremum_errors() {
  return {{{{{2, 0}, f32}}, axes_attrs({1}, false), "has no extremum"},
          {{{{2, 3}, f32}}, axes_attrs({2}, false), "axis 2 is outside"},
          {{{{2}, boolean}}, axes_attrs({0}, false), "use any or all"}};
}

}  // namespace

REGISTER_OP(max) = {
    .doc = "largest of x over axes; the first one takes gradient and relevance",
    .operands = {"x"},
    .infer = infer_extremum,
    .cpu = extremum_kernel<true>,
    .vjp = sweep_extremum<true>,
    .relevance = lrp::reindex,
    .samples = extremum_samples,
    .errors = extremum_errors,
    .traits = {.batched_sweep = true},
};
REGISTER_OP(min) = {
    .doc = "smallest of x over axes; the first one takes gradient and relevance",
    .operands = {"x"},
    .infer = infer_extremum,
    .cpu = extremum_kernel<false>,
    .vjp = sweep_extremum<false>,
    .relevance = lrp::reindex,
    .samples = extremum_samples,
    .errors = extremum_errors,
    .traits = {.batched_sweep = true},
};

Var max(Arg x, Ints axes, bool keepdim) {
  return record(max_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}
Var min(Arg x, Ints axes, bool keepdim) {
  return record(min_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- argmax and argmin --------------------------------------------------------------------------------------------

namespace {

void infer_arg(InferCtx& c) {
  if (c.dtype(0) == boolean || size_of(c.dtype(0)) < 4)
    c.dtype_error("x must be f32, f64 or a wide integer, got " + std::string(name_of(c.dtype(0))), "cast it first");
  int a = c.axis(0, c.attrs.integer("axis"));
  Shape s = c.shape(0);
  bool empty = s[a] == 0;
  if (c.attrs.flag("keepdim")) s[a] = 1;
  else s.erase(a);
  if (empty && s.numel() > 0) c.shape_error(nothing_in(c.shape(0)));
  c.out(s, i64);
}

template <bool LARGEST, class T> void run_arg(const KernelCall& k) {
  const View& x = k.in[0];
  int a = normalize_axis(k.attrs.integer("axis"), x.shape.rank());
  int64_t outer = 1, n = x.shape[a], inner = 1;
  for (int i = 0; i < x.shape.rank(); ++i)
    if (i != a) (i < a ? outer : inner) *= x.shape[i];
  const T* p = x.as<T>();
  int64_t* y = k.out[0].as<int64_t>();
  if constexpr (std::is_floating_point_v<T>) {
    LARGEST ? cpu::reduce_argmax(p, y, outer, n, inner) : cpu::reduce_argmin(p, y, outer, n, inner);
  } else {
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        int64_t best = 0;
        for (int64_t r = 1; r < n; ++r) {
          T v = p[(o * n + r) * inner + i], b = p[(o * n + best) * inner + i];
          if (LARGEST ? v > b : v < b) best = r;
        }
        y[o * inner + i] = best;
      }
  }
}
template <bool LARGEST> void arg_kernel(const KernelCall& k) {
  switch (k.in[0].dtype) {
    case DType::f32: return run_arg<LARGEST, float>(k);
    case DType::f64: return run_arg<LARGEST, double>(k);
    case DType::i32: return run_arg<LARGEST, int32_t>(k);
    default: return run_arg<LARGEST, int64_t>(k);
  }
}

Attrs arg_attrs(int64_t axis, bool keepdim) { return {{"axis", axis}, {"keepdim", keepdim}}; }
std::vector<Sample> arg_samples() {
  auto one = [](Shape s, int64_t axis, bool keep, const char* name) {
    return Sample{{{.shape = s, .distinct = true}}, arg_attrs(axis, keep), name};
  };
  return {one({3, 5}, -1, false, "rows"), one({2, 7, 3}, 1, true, "middle"), one({67}, 0, false, "odd"),
          one({1}, 0, false, "tiny"), one({0, 3}, 1, false, "empty")};
}
std::vector<ErrorSample> arg_errors() {
  return {{{{{2, 0}, f32}}, arg_attrs(1, false), "has no extremum"},
          {{{{2, 3}, f32}}, arg_attrs(2, false), "axis 2 is outside"},
          {{{{}, f32}}, arg_attrs(-1, false), "axis -1 is outside"}};
}

}  // namespace

REGISTER_OP(argmax) = {
    .doc = "index (i64) of the first largest element along an axis",
    .operands = {"x"},
    .infer = infer_arg,
    .cpu = arg_kernel<true>,
    .samples = arg_samples,
    .errors = arg_errors,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(argmin) = {
    .doc = "index (i64) of the first smallest element along an axis",
    .operands = {"x"},
    .infer = infer_arg,
    .cpu = arg_kernel<false>,
    .samples = arg_samples,
    .errors = arg_errors,
    .traits = {.nondifferentiable = true},
};

Var argmax(Arg x, int64_t axis, bool keepdim) { return record(argmax_op, {x}, arg_attrs(axis, keepdim)); }
Var argmin(Arg x, int64_t axis, bool keepdim) { return record(argmin_op, {x}, arg_attrs(axis, keepdim)); }

// ---- logsumexp ----------------------------------------------------------------------------------------------------

namespace {

void infer_logsumexp(InferCtx& c) {
  c.need_float(0);
  c.out(reduced_shape(c, c.attrs.ints("axes"), c.attrs.flag("keepdim")), accumulate_dtype(c.dtype(0)));
}

void logsumexp_kernel(const KernelCall& k) {
  reduce_axes(k, [](const auto* x, auto* y, int64_t outer, int64_t n, int64_t inner) {
    using T = std::remove_pointer_t<decltype(y)>;
    if constexpr (std::is_floating_point_v<T>) cpu::reduce_logsumexp(x, y, outer, n, inner);
  });
}

// dx = d softmax(x). Its relevance is the same formula: identity through exp and log, the epsilon rule over the sum of
// exponentials, R_i = R e^{x_i} / sum e^{x_j}; it conserves exactly and does not see the shift by the maximum.
void sweep_logsumexp(SweepCtx& c) {
  const Ints& axes = c.attrs.ints("axes");
  Var y = with_axes(c.out(), c.in().shape(), axes, 0), d = with_axes(c.d(), c.in().shape(), axes, c.lead());
  double lowest = y.dtype() == f64 ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
  c.give(0, d * exp(c.in() - maximum(y, lowest)));  // where y = -inf, x = -inf everywhere: weights 0, not NaN
}

std::vector<Sample> logsumexp_samples() {
  auto one = [](Shape s, Ints axes, bool keep, const char* name) {
    return Sample{{{.shape = s}}, axes_attrs(axes, keep), name};
  };
  return {
      one({3, 5}, {1}, false, "rows"), one({5, 3}, {0}, true, "columns"), one({2, 3, 4}, {0, 2}, false, "outer axes"),
      one({67}, {0}, false, "odd"),    one({1}, {0}, false, "one"),       one({0, 3}, {1}, false, "empty")};
}

}  // namespace

REGISTER_OP(logsumexp) = {
    .doc = "log(sum(e^x)) over axes, shifted by the maximum",
    .operands = {"x"},
    .infer = infer_logsumexp,
    .cpu = logsumexp_kernel,
    .vjp = sweep_logsumexp,
    .relevance = lrp::reindex,
    .samples = logsumexp_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, axes_attrs({2}, false), "axis 2 is outside"},
                                          {{{{2, 3}, i32}}, axes_attrs({1}, false), "must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

Var logsumexp(Arg x, Ints axes, bool keepdim) {
  return record(logsumexp_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- any and all --------------------------------------------------------------------------------------------------

namespace {

void infer_any(InferCtx& c) {
  if (c.dtype(0) != boolean && c.dtype(0) != u8)
    c.dtype_error("x must be bool or u8, got " + std::string(name_of(c.dtype(0))), "compare it with 0");
  c.out(reduced_shape(c, c.attrs.ints("axes"), c.attrs.flag("keepdim")), boolean);
}
template <bool ANY> void any_kernel(const KernelCall& k) {
  Groups g(k.in[0].shape, k.attrs.ints("axes"));
  const uint8_t* x = k.in[0].as<uint8_t>();
  uint8_t* y = k.out[0].as<uint8_t>();
  for (int64_t base : g.kept) {
    bool found = false;  // a true one (any), a false one (all)
    for (size_t i = 0; i < g.cut.size() && !found; ++i) found = (x[base + g.cut[i]] != 0) == ANY;
    *y++ = found == ANY;
  }
}
std::vector<Sample> any_samples() {
  auto one = [](Shape s, Ints axes, bool keep, const char* name) {
    return Sample{{{.shape = s, .dtype = boolean, .low = 0, .high = 2}}, axes_attrs(axes, keep), name};
  };
  return {one({3, 5}, {1}, false, "rows"), one({2, 3, 2}, {0, 2}, true, "outer axes"), one({}, {}, false, "scalar"),
          one({2, 0}, {1}, false, "empty")};
}
std::vector<ErrorSample> any_errors() { return {{{{{2}, f32}}, axes_attrs({0}, false), "compare it with 0"}}; }

}  // namespace

REGISTER_OP(any) = {
    .doc = "is any element true, over axes; false for none",
    .operands = {"x"},
    .infer = infer_any,
    .cpu = any_kernel<true>,
    .samples = any_samples,
    .errors = any_errors,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(all) = {
    .doc = "are all elements true, over axes; true for none",
    .operands = {"x"},
    .infer = infer_any,
    .cpu = any_kernel<false>,
    .samples = any_samples,
    .errors = any_errors,
    .traits = {.nondifferentiable = true},
};

Var any(Arg x, Ints axes, bool keepdim) {
  return record(any_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}
Var all(Arg x, Ints axes, bool keepdim) {
  return record(all_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- variance: composed, so that relevance follows its terms ------------------------------------------------------

Var variance(Arg x, Ints axes, bool keepdim, int64_t correction) {
  LocationGuard at(x);
  axes = canonical_axes(std::move(axes), x.rank());
  Var wide = widened(x), squares = square(wide - mean(wide, axes, true));
  int64_t n = 1;
  for (int64_t a : axes) n *= x.shape()[int(a)];
  return sum(squares, axes, keepdim) * (1.0 / double(n - correction));
}

}  // namespace whence
