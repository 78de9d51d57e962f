// Reductions beside sum and mean: extrema and where they are, logsumexp, any, all, variance.
#include <cmath>
#include <limits>

#include "whence/autograd/sweep.h"
#include "whence/ops/axes.h"
#include "whence/ops/checks.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

Attrs axes_attrs(Ints axes, bool keepdim) { return {{"axes", std::move(axes)}, {"keepdim", keepdim}}; }

std::string nothing_in(const Shape& s) { return "an empty axis of " + s.str() + " has no extremum"; }

// ---- max and min over any axes ------------------------------------------------------------------------------------

void infer_extremum(InferCtx& infer) {
  if (infer.dtype(0) == boolean || infer.dtype(0) == u8)
    infer.dtype_error("x must be a float, i32 or i64, got " + std::string(name_of(infer.dtype(0))),
                      infer.dtype(0) == boolean ? "use any or all" : "cast it first");
  Shape s = reduced_shape(infer, infer.attrs.ints("axes"), infer.attrs.flag("keepdim"));
  if (infer.shape(0).numel() == 0 && s.numel() > 0) infer.shape_error(nothing_in(infer.shape(0)));
  infer.out(s, infer.dtype(0));
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
template <bool PUT> void infer_place(InferCtx& infer) {
  infer.need_float(0);
  infer.need_same_dtype(0, 1);
  const Ints& axes = infer.attrs.ints("axes");
  reduced_shape(infer, axes, true);  // checks the axes
  Shape ones = with_ones(infer.shape(0), axes);
  const Shape &full = infer.shape(0), &from = PUT ? ones : full, &to = PUT ? full : ones;
  if (infer.rank(1) < from.rank() || !(behind(infer.shape(1), from.rank(), from) == infer.shape(1)))
    infer.shape_error(infer.op.operand_name(1) + " must end in " + from.str() + ", got " + infer.shape(1).str());
  infer.out(behind(infer.shape(1), from.rank(), to), infer.dtype(1));
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
    .vjp =
        [](SweepCtx& sweep) {
          sweep.give(1, record(op_named("pick_extremum"), {sweep.in(0), sweep.d()}, sweep.attrs));
        },
    .samples = place_samples<true>,
    .errors = place_errors,
    .traits = {.batched_sweep = true, .sinks = 1, .backward = true},
};
REGISTER_OP(pick_extremum) = {
    .doc = "the element of v at each group's first extremum in x",
    .operands = {"x", "v"},
    .infer = infer_place<false>,
    .vjp =
        [](SweepCtx& sweep) {
          sweep.give(1, record(put_extremum_op, {sweep.in(0), sweep.d()}, sweep.attrs));
        },
    .samples = place_samples<false>,
    .errors = place_errors,
    .traits = {.batched_sweep = true, .sinks = 1, .backward = true},
};

namespace {

// Gradient and relevance go to the winner: the exact adjoint of picking it.
template <bool LARGEST> void sweep_extremum(SweepCtx& sweep) {
  const Ints& axes = sweep.attrs.ints("axes");
  sweep.give(0, record(put_extremum_op, {sweep.in(), with_axes(sweep.d(), sweep.in().shape(), axes, sweep.lead())},
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
    .vjp = sweep_extremum<false>,
    .relevance = lrp::reindex,
    .samples = extremum_samples,
    .errors = extremum_errors,
    .traits = {.batched_sweep = true},
};

Var max(Arg x, Axes axes, bool keepdim) {
  return record(max_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}
Var min(Arg x, Axes axes, bool keepdim) {
  return record(min_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- argmax and argmin --------------------------------------------------------------------------------------------

namespace {

void infer_arg(InferCtx& infer) {
  if (infer.dtype(0) == boolean || infer.dtype(0) == u8)
    infer.dtype_error("x must be a float, i32 or i64, got " + std::string(name_of(infer.dtype(0))), "cast it first");
  int a = infer.axis(0, infer.attrs.integer("axis"));
  Shape s = infer.shape(0);
  bool empty = s[a] == 0;
  if (infer.attrs.flag("keepdim")) s[a] = 1;
  else s.erase(a);
  if (empty && s.numel() > 0) infer.shape_error(nothing_in(infer.shape(0)));
  infer.out(s, i64);
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
    .samples = arg_samples,
    .errors = arg_errors,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(argmin) = {
    .doc = "index (i64) of the first smallest element along an axis",
    .operands = {"x"},
    .infer = infer_arg,
    .samples = arg_samples,
    .errors = arg_errors,
    .traits = {.nondifferentiable = true},
};

Var argmax(Arg x, int64_t axis, bool keepdim) { return record(argmax_op, {x}, arg_attrs(axis, keepdim)); }
Var argmin(Arg x, int64_t axis, bool keepdim) { return record(argmin_op, {x}, arg_attrs(axis, keepdim)); }

// ---- logsumexp ----------------------------------------------------------------------------------------------------

namespace {

void infer_logsumexp(InferCtx& infer) {
  infer.need_float(0);
  infer.out(reduced_shape(infer, infer.attrs.ints("axes"), infer.attrs.flag("keepdim")),
            accumulate_dtype(infer.dtype(0)));
}

// dx = d softmax(x). Its relevance is the same formula: identity through exp and log, the epsilon rule over the sum of
// exponentials, R_i = R e^{x_i} / sum e^{x_j}; it conserves exactly and does not see the shift by the maximum.
void sweep_logsumexp(SweepCtx& sweep) {
  const Ints& axes = sweep.attrs.ints("axes");
  Var y = with_axes(sweep.out(), sweep.in().shape(), axes, 0),
      d = with_axes(sweep.d(), sweep.in().shape(), axes, sweep.lead());
  double lowest = y.dtype() == f64 ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
  sweep.give(0, d * exp(sweep.in() - maximum(y, lowest)));  // where y = -inf, x = -inf everywhere: weights 0, not NaN
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

Var logsumexp(Arg x, Axes axes, bool keepdim) {
  return record(logsumexp_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- any and all --------------------------------------------------------------------------------------------------

namespace {

void infer_any(InferCtx& infer) {
  if (infer.dtype(0) != boolean && infer.dtype(0) != u8)
    infer.dtype_error("x must be bool or u8, got " + std::string(name_of(infer.dtype(0))), "compare it with 0");
  infer.out(reduced_shape(infer, infer.attrs.ints("axes"), infer.attrs.flag("keepdim")), boolean);
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
    .samples = any_samples,
    .errors = any_errors,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(all) = {
    .doc = "are all elements true, over axes; true for none",
    .operands = {"x"},
    .infer = infer_any,
    .samples = any_samples,
    .errors = any_errors,
    .traits = {.nondifferentiable = true},
};

Var any(Arg x, Axes axes, bool keepdim) {
  return record(any_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}
Var all(Arg x, Axes axes, bool keepdim) {
  return record(all_op, {x}, axes_attrs(canonical_axes(std::move(axes), x.rank()), keepdim));
}

// ---- variance: composed, so that relevance follows its terms ------------------------------------------------------

Var variance(Arg x, Axes axes, bool keepdim, int64_t correction) {
  LocationGuard at(x);
  need_float(x, "variance");
  axes = canonical_axes(std::move(axes), x.rank());
  Var wide = widened(x), squares = square(wide - mean(wide, axes, true)), total = sum(squares, axes, keepdim);
  int64_t n = 1;
  for (int64_t a : axes) n *= x.shape()[int(a)];
  return total * (1.0 / std::max(double(n) - double(correction), 0.0));
}

}  // namespace whence
