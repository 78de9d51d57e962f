// Composites, and the two elementwise primitives that no composite gives exactly: atan and hardsigmoid. Their loops are
// plain ones, for want of an arctangent in registers.
#include "whence/ops/composite.h"

#include <cmath>

#include "whence/autograd/sweep.h"
#include "whence/ops/checks.h"
#include "whence/ops/scalar_row.h"

namespace whence {
namespace {

void infer_real(InferCtx& infer) {
  infer.need_float(0);
  infer.out(infer.shape(0), infer.dtype(0));
}
std::vector<Sample> samples(double low, double high) {
  auto x = [&](Shape s) { return SampleInput{.shape = s, .low = low, .high = high}; };
  return {{{x({3, 4})}, {}, "matrix"}, {{x({})}, {}, "scalar"}, {{x({2, 0})}, {}, "empty"}, {{x({67})}, {}, "odd"}};
}
std::vector<ErrorSample> not_float() { return {{{{{2}, i32}}, {}, "x must be floating point"}}; }

constexpr Traits kUnary{.batched_sweep = true};

WHENCE_SCALAR(atan, (x), (), atan(x));
WHENCE_SCALAR(hardsigmoid, (x), (), select(x <= T(-3), T(0), select(x >= T(3), T(1), x*(T(1) / T(6)) + T(0.5))));

}  // namespace

REGISTER_OP(atan) = {
    .doc = "inverse tangent",
    .operands = {"x"},
    .infer = infer_real,
    .vjp = [](SweepCtx& sweep) { sweep.give(0, sweep.d() / (square(sweep.in()) + 1.0)); },
    .relevance = lrp::identity,
    .scalar = atan_row,
    .samples = [] { return samples(-3, 3); },
    .errors = not_float,
    .traits = kUnary,
};

// A primitive because of its relevance: the bias 1/2 of the written-out form would take a share of it.
REGISTER_OP(hardsigmoid) = {
    .doc = "x / 6 + 1/2 held to [0, 1]",
    .operands = {"x"},
    .infer = infer_real,
    .vjp =
        [](SweepCtx& sweep) {
          Var inside = logical_and(greater(sweep.in(), -3.0), less(sweep.in(), 3.0));
          sweep.give(0, where(inside, sweep.d() * (1.0 / 6.0), 0.0));
        },
    .relevance = lrp::identity,
    .scalar = hardsigmoid_row,
    .samples = [] { return samples(-2.9, 2.9); },
    .errors = not_float,
    .traits = kUnary,
};

// ---- elementwise --------------------------------------------------------------------------------------------------

Var atan(Arg x) { return record(atan_op, {x}); }
Var hardsigmoid(Arg x) { return record(hardsigmoid_op, {x}); }

namespace {

// The other operand of a binary composite: a number becomes a constant.
Var as_var(const Arg& a, const Arg& other) {
  return a.var.defined() ? a.var : a.in(other.graph(), other.dtype());
}

}  // namespace

Var atan2(Arg y, Arg x) {
  LocationGuard at(y.is_number() ? x : y);
  Var v = as_var(y, x), u = as_var(x, y);
  need_float(v, "atan2", "y");
  need_same_dtype(v, u, "atan2");
  DType dtype = v.dtype();
  Shape s = broadcast_shapes(v.shape(), u.shape());
  v = widened(broadcast_to(v, s));
  u = widened(broadcast_to(u, s));
  // Two infinities stand for a diagonal.
  Var far = logical_and(equal(abs(v), INFINITY), equal(abs(u), INFINITY));
  v = where(far, sign(v), v);
  u = where(far, sign(u), u);
  // The quotient of the smaller by the larger, so that neither half divides by zero away from the origin.
  Var steep = greater(abs(v), abs(u)), up = greater_equal(v, 0.0);
  Var q = where(steep, u, where(equal(u, 0.0), 0.0, v)) / where(steep, v, where(equal(u, 0.0), ones_like(u), u));
  Var turn = atan(q);
  Var flat = where(less(u, 0.0), turn + where(up, full(v.graph(), s, M_PI, v.dtype()), -M_PI), turn);
  return cast(where(steep, where(up, full(v.graph(), s, M_PI / 2, v.dtype()), -M_PI / 2) - turn, flat), dtype);
}

Var logit(Arg x) {
  LocationGuard at(x);
  Var wide = widened(x);
  return cast(log(wide / (1.0 - wide)), x.dtype());
}
Var softplus(Arg x, double beta) { return record(op_named("softplus"), {x}, {{"beta", beta}}); }
Var elu(Arg x, double alpha) {
  LocationGuard at(x);
  Var wide = widened(x);
  return cast(where(less_equal(wide, 0.0), expm1(minimum(wide, 0.0)) * alpha, wide), x.dtype());  // a NaN passes whole
}
// Where it is flat the gradient ends, and at the bounds, as for relu; relevance passes everywhere.
Var relu6(Arg x) {
  LocationGuard at(x);
  return where(logical_or(less_equal(x, 0), greater_equal(x, 6)), clamp(stop_gradient(x), 0, 6), x);
}

// Gates take no relevance: everything goes to x, as for one activation.
static Var gated(const Arg& x, Var (*gate)(Var)) {
  LocationGuard at(x);
  Var wide = widened(x);
  return cast(wide * stop_relevance(gate(wide)), x.dtype());
}
Var hardswish(Arg x) {
  return gated(x, [](Var v) { return hardsigmoid(v); });
}
Var swish(Arg x, double beta) {
  LocationGuard at(x);
  Var wide = widened(x);
  return cast(wide * stop_relevance(sigmoid(wide * beta)), x.dtype());
}
Var quick_gelu(Arg x) {
  LocationGuard at(x);
  return swish(x, 1.702);
}
Var mish(Arg x) {
  return gated(x, [](Var v) { return tanh(softplus(v)); });
}
Var softsign(Arg x) {
  LocationGuard at(x);
  Var wide = widened(x);
  return cast(wide / (abs(wide) + 1.0), x.dtype());
}
Var softshrink(Arg x, double lambda) {
  LocationGuard at(x);
  if (!(lambda >= 0)) throw ValueError("[softshrink] lambda must not be negative, got " + std::to_string(lambda));
  Var wide = widened(x);
  return cast(wide - clamp(wide, -lambda, lambda), x.dtype());
}
Var softcap(Arg x, double cap) {
  LocationGuard at(x);
  return cast(tanh(widened(x) * (1.0 / cap)) * cap, x.dtype());
}
Var softmin(Arg x, int64_t axis) {
  LocationGuard at(x);
  return softmax(-x, axis);
}
Var prelu(Arg x, Arg weight, int64_t axis) {
  LocationGuard at(x);
  Var w = weight;
  if (w.rank() == 1) {
    Shape s = Shape::filled(x.rank(), 1);
    s[normalize_axis(axis, x.rank())] = w.shape()[0];
    w = reshape(w, s);
  }
  Var positive = greater(x, 0.0);
  return where(positive, x, where(positive, 0.0, x) * w);  // the weight sees nothing of a positive x, were it infinite
}

namespace {
std::vector<Var> halves(const Arg& x, int64_t axis) {
  if (Var(x).size(axis) % 2)
    throw ShapeError("[glu] axis " + std::to_string(axis) + " of " + x.shape().str() + " has no two halves");
  std::vector<Var> h = chunk(x, 2, axis);
  return {widened(h[0]), widened(h[1])};
}
}  // namespace

Var glu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return cast(sigmoid(h[1]) * h[0], x.dtype());  // gates stand first (lrp::cp)
}
Var geglu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return cast(gelu(h[0]) * h[1], x.dtype());
}
Var swiglu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return cast(silu(h[0]) * h[1], x.dtype());
}
Var masked_fill(Arg x, Arg mask, double value) {
  LocationGuard at(x);
  return where(mask, x.graph().constant(value, x.dtype()), x);
}

// ---- creation -----------------------------------------------------------------------------------------------------

Var full(Graph& g, Shape shape, double value, DType dtype, std::source_location where) {
  return broadcast_to(Arg(g.constant(value, dtype, where), where), shape);
}
Var zeros_like(Arg x) {
  LocationGuard at(x);
  return full(x.graph(), x.shape(), 0, x.dtype());
}
Var ones_like(Arg x) {
  LocationGuard at(x);
  return full(x.graph(), x.shape(), 1, x.dtype());
}

// ---- reductions, norms --------------------------------------------------------------------------------------------

Var prod(Arg x, int64_t axis, bool keepdim) {
  LocationGuard at(x);
  Shape s = x.shape();
  int a = normalize_axis(axis, s.rank());
  if (s[a] == 0) {
    s[a] = 1;
    Var one = full(x.graph(), s, 1, x.dtype());
    return keepdim ? one : squeeze(one, a);
  }
  Var last = slice(cumprod(x, a), a, s[a] - 1, s[a]);
  return keepdim ? last : squeeze(last, a);
}
namespace {

// sqrt(x) with gradient 0 at 0: of the subgradients of a norm at its tip, the one of least norm.
Var root(Var x) {
  Var tip = equal(x, 0.0);
  return where(tip, 0.0, sqrt(where(tip, 1.0, x)));
}

}  // namespace

// The squares are taken in f64: those of f32 neither overflow nor vanish there.
Var standard_deviation(Arg x, Axes axes, bool keepdim, int64_t correction) {
  LocationGuard at(x);
  need_float(x, "standard_deviation");
  return cast(root(variance(cast(x, f64), std::move(axes), keepdim, correction)), accumulate_dtype(x.dtype()));
}
Var norm1(Arg x, Axes axes, bool keepdim) {
  LocationGuard at(x);
  return sum(abs(widened(x)), std::move(axes), keepdim);
}
Var norm2(Arg x, Axes axes, bool keepdim) {
  LocationGuard at(x);
  need_float(x, "norm2");
  return cast(root(sum(square(cast(x, f64)), std::move(axes), keepdim)), accumulate_dtype(x.dtype()));
}
Var l2_normalize(Arg x, int64_t axis, double eps) {
  LocationGuard at(x);
  need_float(x, "l2_normalize");
  return cast(widened(x) / maximum(norm2(x, {axis}, true), eps), x.dtype());
}

// ---- scans --------------------------------------------------------------------------------------------------------

Var diff(Arg x, int64_t axis) {
  LocationGuard at(x);
  if (x.shape()[normalize_axis(axis, x.rank())] == 0) return x;
  return slice(x, axis, 1) - slice(x, axis, 0, -1);
}

// ---- order --------------------------------------------------------------------------------------------------------

TopK sort(Arg x, int64_t axis, bool descending) {
  LocationGuard at(x);
  Var order = argsort(x, axis, descending);
  return {take_along_axis(x, order, axis), order};
}

// ---- indexing -----------------------------------------------------------------------------------------------------

Var segment_mean(Arg x, Arg index, int64_t axis, int64_t count) {
  LocationGuard at(x);
  need_float(x, "segment_mean");
  Var total = segment_sum(widened(x), index, axis, count);
  Graph& g = x.graph();
  Var members = segment_sum(full(g, index.shape(), 1, total.dtype()), index, 0, count);
  Shape s = Shape::filled(total.rank(), 1);
  s[axis < 0 ? int(axis) + x.rank() : int(axis)] = count;
  return cast(total / reshape(maximum(members, 1.0), s), x.dtype());
}
Var index_add(Arg base, Arg index, Arg src, int64_t axis) {
  LocationGuard at(base);
  int a = normalize_axis(axis, base.rank());
  return base + segment_sum(src, index, a, base.shape()[a]);
}
Var put_along_axis(Arg base, Arg index, Arg src, int64_t axis) {
  LocationGuard at(base);
  Graph& g = base.graph();
  Var hits = scatter_add(full(g, base.shape(), 0, i32), index, full(g, index.shape(), 1, i32), axis);
  return scatter_add(where(greater(hits, 0.0), 0.0, base), index, src, axis);
}

}  // namespace whence
