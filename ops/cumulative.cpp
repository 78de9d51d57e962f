// Sums, products and maxima up to each position of an axis: cumsum, cumprod, cummax, logcumsumexp.
#include <limits>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/index.h"
#include "whence/ops/shifted.h"

namespace whence {
namespace {

// Each prefix is a sum: epsilon rule, or "abs": |x_s| / (|x_0| + .. + |x_t|) of R_t.
void cumsum_relevance(SweepCtx& sweep) {
  if (sweep.rule().variant != "abs") return lrp::linear_in_carriers(sweep);
  Var size = abs(sweep.in()), total = sweep.apply({&size, 1});
  Var none = sweep.graph.constant(0.0, sweep.d().dtype()), empty = equal(total, 0.0);
  Var t = where(empty, none, sweep.d() / where(empty, sweep.graph.constant(1.0, total.dtype()), total));
  Var spread = sweep.frozen_vjp(t)[0];
  if (spread.defined()) sweep.give(0, size * spread);
}

void cumsum_absorbed(SweepCtx& sweep) {
  if (sweep.rule().variant != "abs") return lrp::absorbed_by_stabiliser(sweep);
  Var size = abs(sweep.in());  // a prefix of zeros has nobody to pass to
  sweep.absorb("zero output",
               where(equal(sweep.apply({&size, 1}), 0.0), sweep.d(), sweep.graph.constant(0.0, sweep.d().dtype())));
}

}  // namespace

REGISTER_OP(cumsum) = {
    .doc = "y_t = x_0 + .. + x_t along axis; reverse: from t to the end",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.axis(0, infer.attrs.integer("axis"));
          need_summable(infer, 0);
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          sweep.give(0, cumsum(sweep.d(), axis_of(sweep.attrs, sweep.in().rank()) + sweep.lead(),
                               !ScanAttrs::of(sweep.attrs).reverse));
        },
    .relevance = cumsum_relevance,
    .absorbed = cumsum_absorbed,
    .variants = {"abs"},
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 4}}}, ScanAttrs{1, false}.attrs(), "columns"},
                                     {{{.shape = {4, 3}}}, ScanAttrs{0, true}.attrs(), "reverse"},
                                     {{{.shape = {2, 5, 3}}}, ScanAttrs{-2, false}.attrs(), "middle"},
                                     {{{.shape = {2, 0}}}, ScanAttrs{1, false}.attrs(), "empty"},
                                     {{{.shape = {0, 3}}}, ScanAttrs{1, true}.attrs(), "hollow"},
                                     {{{.shape = {67}}}, ScanAttrs{0, false}.attrs(), "odd"},
                                     {{{.shape = {1, 33, 301}}}, ScanAttrs{1, true}.attrs(), "wide"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, ScanAttrs{2, false}.attrs(), "axis 2 is outside x of rank 2"},
              {{{{}, f32}}, ScanAttrs{0, false}.attrs(), "axis 0 is outside x of rank 0"},
              {{{{2}, boolean}}, ScanAttrs{0, false}.attrs(), "x must be a number that can be added up, got bool"}};
        },
    .traits = {.batched_sweep = true},
};

Var cumsum(Arg x, int64_t axis, bool reverse) { return record(cumsum_op, {x}, ScanAttrs{axis, reverse}.attrs()); }

// ---- scans of floats -----------------------------------------------------------------------------------------------

static void infer_floats(InferCtx& infer) {
  infer.need_float(0);
  infer.axis(0, infer.attrs.integer("axis"));
  infer.out(infer.shape(0), infer.dtype(0));
}
static std::vector<ErrorSample> no_floats() {
  return {{{{{2}, i32}}, ScanAttrs{0, false}.attrs(), "x must be floating point"},
          {{{{2}, f32}}, ScanAttrs{1, false}.attrs(), "axis 1 is outside"}};
}

// ---- cumprod ------------------------------------------------------------------------------------------------------

namespace {

// dx_s = (x_0 .. x_{s-1}) (d_s + x_{s+1} d_{s+1} + x_{s+1} x_{s+2} d_{s+2} + ..): no division, so zeros are no matter.
void cumprod_vjp(SweepCtx& sweep) {
  bool reverse = ScanAttrs::of(sweep.attrs).reverse;
  int axis = axis_of(sweep.attrs, sweep.in().rank());
  Var before = shifted(sweep.out(), axis, !reverse, 1),
      after = linear_scan(shifted(sweep.in(), axis, reverse), sweep.d(), axis + sweep.lead(), !reverse);
  sweep.give(0, before * after);
}

// The t + 1 factors of y_t take equal shares of R_t, whatever their values.
void cumprod_relevance(SweepCtx& sweep) {
  bool reverse = ScanAttrs::of(sweep.attrs).reverse;
  int axis = axis_of(sweep.attrs, sweep.in().rank());
  int64_t n = sweep.in().shape()[axis];
  std::vector<double> share(static_cast<size_t>(n));
  for (int64_t t = 0; t < n; ++t) share[size_t(reverse ? n - 1 - t : t)] = 1 / double(t + 1);
  Shape along = Shape::filled(sweep.in().rank() - axis, 1);
  along[0] = n;
  Var each = sweep.d() * sweep.graph.constant(Tensor::from(share, along).to(sweep.d().dtype()));
  sweep.give(0, cumsum(each, axis + sweep.lead(), !reverse));
}

}  // namespace

REGISTER_OP(cumprod) = {
    .doc = "y_t = x_0 x_1 .. x_t along axis; reverse: from t to the end",
    .operands = {"x"},
    .infer = infer_floats,
    .vjp = cumprod_vjp,
    .relevance = cumprod_relevance,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 4}}}, ScanAttrs{1, false}.attrs(), "columns"},
                                     {{{.shape = {4, 3}}}, ScanAttrs{0, true}.attrs(), "reverse"},
                                     {{{.shape = {2, 5, 3}}}, ScanAttrs{-2, false}.attrs(), "middle"},
                                     {{{.shape = {2, 0}}}, ScanAttrs{1, false}.attrs(), "empty"},
                                     {{{.shape = {2, 1}}}, ScanAttrs{1, false}.attrs(), "one"},
                                     {{{.shape = {33}, .low = -1.2, .high = 1.2}}, ScanAttrs{0, true}.attrs(), "odd"}};
        },
    .errors = no_floats,
    .traits = {.batched_sweep = true},
};

Var cumprod(Arg x, int64_t axis, bool reverse) { return record(cumprod_op, {x}, ScanAttrs{axis, reverse}.attrs()); }

// ---- logcumsumexp --------------------------------------------------------------------------------------------------

namespace {

// dx_s = sum over t >= s of d_t e^(x_s - y_t) = g_s e^(x_s - y_s) with g_s = d_s + e^(y_s - y_{s+1}) g_{s+1}: no
// exponent is above zero. Its relevance is the same formula, as for logsumexp: the weights of each y_t add up to one.
void sweep_logcumsumexp(SweepCtx& sweep) {
  double limit = sweep.in().dtype() == f64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  bool reverse = ScanAttrs::of(sweep.attrs).reverse;
  int axis = axis_of(sweep.attrs, sweep.in().rank());
  Var x = minimum(sweep.in(), limit), y = clamp(sweep.out(), -limit, limit);  // where y = -inf, x is: weight 0
  Var decay = minimum(exp(y - shifted(y, axis, reverse)), 1.0);               // the last one meets zeros
  sweep.give(0, linear_scan(decay, sweep.d(), axis + sweep.lead(), !reverse) * exp(x - y));
}

}  // namespace

REGISTER_OP(logcumsumexp) = {
    .doc = "y_t = log(e^x_0 + .. + e^x_t) along axis, without overflow; reverse: from t to the end",
    .operands = {"x"},
    .infer = infer_floats,
    .vjp = sweep_logcumsumexp,
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {3, 4}}}, ScanAttrs{1, false}.attrs(), "columns"},
              {{{.shape = {4, 3}}}, ScanAttrs{0, true}.attrs(), "reverse"},
              {{{.shape = {2, 5, 3}, .low = -30, .high = 30}}, ScanAttrs{-2, false}.attrs(), "far apart"},
              {{{.shape = {2, 0}}}, ScanAttrs{1, false}.attrs(), "empty"},
              {{{.shape = {67}}}, ScanAttrs{0, true}.attrs(), "odd"}};
        },
    .errors = no_floats,
    .traits = {.batched_sweep = true},
};

Var logcumsumexp(Arg x, int64_t axis, bool reverse) {
  return record(logcumsumexp_op, {x}, ScanAttrs{normalize_axis(axis, x.rank()), reverse}.attrs());
}

// ---- cummax --------------------------------------------------------------------------------------------------------

REGISTER_OP(cummax) = {
    .doc =
        "y_t = max(x_0, .., x_t) along axis, and the position (i64) of the first such maximum; reverse: from the end",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.axis(0, infer.attrs.integer("axis"));
          infer.out(infer.shape(0), infer.dtype(0));
          infer.out(infer.shape(0), i64);
        },
    .vjp = sweep_positions,
    .relevance = lrp::reindex,
    .absorbed = absorb_positions,
    .samples =
        [] {
          auto x = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{{{x({3, 4})}, ScanAttrs{1, false}.attrs(), "columns"},
                                     {{x({4, 3})}, ScanAttrs{0, true}.attrs(), "reverse"},
                                     {{x({2, 0})}, ScanAttrs{1, false}.attrs(), "empty"},
                                     {{x({3, 67})}, ScanAttrs{-1, false}.attrs(), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, ScanAttrs{2, false}.attrs(), "axis 2 is outside x of rank 2"}};
        },
    .traits = {.batched_sweep = true},
};

TopK cummax(Arg x, int64_t axis, bool reverse) {
  Var v = record(cummax_op, {x}, ScanAttrs{axis, reverse}.attrs());
  return {v, {&v.graph(), v.id() + 1}};
}

}  // namespace whence
