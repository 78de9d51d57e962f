// Composites, and the two elementwise primitives that no composite gives exactly: atan and hardsigmoid. Their loops are
// plain ones, for want of an arctangent in registers.
#include "ops/composite.h"

#include <cmath>

#include "autograd/sweep.h"
#include "ops/scalar_row.h"

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
  return a.is_number() ? other.var.graph().constant(a.number, other.dtype()) : a.var;
}

}  // namespace

Var atan2(Arg y, Arg x) {
  LocationGuard at(y.is_number() ? x : y);
  Var v = as_var(y, x), u = as_var(x, y);
  Shape s = broadcast_shapes(v.shape(), u.shape());
  v = broadcast_to(v, s);
  u = broadcast_to(u, s);
  // The quotient of the smaller by the larger, so that neither half divides by zero away from the origin.
  Var steep = greater(abs(v), abs(u)), up = greater_equal(v, 0.0);
  Var q = where(steep, u, v) / where(steep, v, where(equal(u, 0.0), ones_like(u), u));
  Var turn = atan(q);
  Var flat = where(less(u, 0.0), turn + where(up, full(v.graph(), s, M_PI, v.dtype()), -M_PI), turn);
  return where(steep, where(up, full(v.graph(), s, M_PI / 2, v.dtype()), -M_PI / 2) - turn, flat);
}

Var logaddexp(Arg a, Arg b) {
  LocationGuard at(a.is_number() ? b : a);
  Var u = as_var(a, b), v = as_var(b, a);
  Shape s = broadcast_shapes(u.shape(), v.shape());
  return cast(logsumexp(stack({broadcast_to(u, s), broadcast_to(v, s)}, 0), {0}), u.dtype());
}

Var logit(Arg x) {
  LocationGuard at(x);
  return log(x / (1.0 - x));
}
Var softplus(Arg x, double beta) { return record(op_named("softplus"), {x}, {{"beta", beta}}); }
Var elu(Arg x, double alpha) {
  LocationGuard at(x);
  return where(greater(x, 0.0), x, expm1(minimum(x, 0.0)) * alpha);
}
// Where it is flat the gradient ends, and at the bounds, as for relu; relevance passes everywhere.
Var relu6(Arg x) {
  LocationGuard at(x);
  return where(logical_or(less_equal(x, 0), greater_equal(x, 6)), clamp(stop_gradient(x), 0, 6), x);
}

// Gates take no relevance: everything goes to x, as for one activation.
Var hardswish(Arg x) {
  LocationGuard at(x);
  return x * stop_relevance(hardsigmoid(x));
}
Var swish(Arg x, double beta) {
  LocationGuard at(x);
  return x * stop_relevance(sigmoid(x * beta));
}
Var quick_gelu(Arg x) {
  LocationGuard at(x);
  return swish(x, 1.702);
}
Var mish(Arg x) {
  LocationGuard at(x);
  return x * stop_relevance(tanh(softplus(x)));
}
Var softsign(Arg x) {
  LocationGuard at(x);
  return x / (abs(x) + 1.0);
}
Var softshrink(Arg x, double lambda) {
  LocationGuard at(x);
  return x - clamp(x, -lambda, lambda);
}
Var softcap(Arg x, double cap) {
  LocationGuard at(x);
  return tanh(x * (1.0 / cap)) * cap;
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
  return where(greater(x, 0.0), x, x * w);
}

namespace {
std::vector<Var> halves(const Arg& x, int64_t axis) {
  if (x.var.size(axis) % 2)
    throw ShapeError("[glu] axis " + std::to_string(axis) + " of " + x.shape().str() + " has no two halves");
  return chunk(x, 2, axis);
}
}  // namespace

Var glu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return sigmoid(h[1]) * h[0];  // gates stand first (lrp::cp)
}
Var geglu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return gelu(h[0]) * h[1];
}
Var swiglu(Arg x, int64_t axis) {
  LocationGuard at(x);
  auto h = halves(x, axis);
  return silu(h[0]) * h[1];
}
Var masked_fill(Arg x, Arg mask, double value) {
  LocationGuard at(x);
  return where(mask, x.var.graph().constant(value, x.dtype()), x);
}

// ---- creation -----------------------------------------------------------------------------------------------------

Var full(Graph& g, Shape shape, double value, DType dtype) { return broadcast_to(g.constant(value, dtype), shape); }
Var zeros_like(Arg x) {
  LocationGuard at(x);
  return full(x.var.graph(), x.shape(), 0, x.dtype());
}
Var ones_like(Arg x) {
  LocationGuard at(x);
  return full(x.var.graph(), x.shape(), 1, x.dtype());
}

// ---- reductions, norms --------------------------------------------------------------------------------------------

Var prod(Arg x, int64_t axis, bool keepdim) {
  LocationGuard at(x);
  Shape s = x.shape();
  int a = normalize_axis(axis, s.rank());
  if (s[a] == 0) {
    s[a] = 1;
    Var one = full(x.var.graph(), s, 1, x.dtype());
    return keepdim ? one : squeeze(one, a);
  }
  Var last = slice(cumprod(x, a), a, s[a] - 1, s[a]);
  return keepdim ? last : squeeze(last, a);
}
Var standard_deviation(Arg x, Ints axes, bool keepdim, int64_t correction) {
  LocationGuard at(x);
  return sqrt(variance(x, std::move(axes), keepdim, correction));
}
Var norm1(Arg x, Ints axes, bool keepdim) {
  LocationGuard at(x);
  return sum(abs(widened(x)), std::move(axes), keepdim);
}
Var norm2(Arg x, Ints axes, bool keepdim) {
  LocationGuard at(x);
  return sqrt(sum(square(widened(x)), std::move(axes), keepdim));
}
Var l2_normalize(Arg x, int64_t axis, double eps) {
  LocationGuard at(x);
  return x / maximum(norm2(x, {axis}, true), eps);
}

// ---- scans --------------------------------------------------------------------------------------------------------

Var diff(Arg x, int64_t axis) {
  LocationGuard at(x);
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
  Var total = segment_sum(x, index, axis, count);
  Graph& g = x.var.graph();
  Var members = segment_sum(full(g, index.shape(), 1, x.dtype()), index, 0, count);
  Shape s = Shape::filled(total.rank(), 1);
  s[axis < 0 ? int(axis) + x.rank() : int(axis)] = count;
  return total / reshape(maximum(members, 1.0), s);
}
Var index_add(Arg base, Arg index, Arg src, int64_t axis) {
  LocationGuard at(base);
  int a = normalize_axis(axis, base.rank());
  return base + segment_sum(src, index, a, base.shape()[a]);
}
Var put_along_axis(Arg base, Arg index, Arg src, int64_t axis) {
  LocationGuard at(base);
  Graph& g = base.var.graph();
  Var hits = scatter_add(full(g, base.shape(), 0, i32), index, full(g, index.shape(), 1, i32), axis);
  return scatter_add(where(greater(hits, 0.0), 0.0, base), index, src, axis);
}

}  // namespace whence
