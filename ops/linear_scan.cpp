// The linear recurrence that state space models and gated cells are made of.
#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"
#include "whence/ops/shifted.h"

namespace whence {
namespace {

/// g_t = d_t + a_{t+1} g_{t+1}: what reaches b_t. A coefficient that is the same at every step needs no shift.
Var scan_back(SweepCtx& sweep, Var d) {
  Var a = sweep.in(0);
  bool reverse = ScanAttrs::of(sweep.attrs).reverse;
  int axis = axis_of(sweep.attrs, sweep.in(1).rank()), own = axis - (sweep.in(1).rank() - a.rank());
  if (own >= 0 && a.shape()[own] != 1) a = shifted(a, own, reverse);
  return linear_scan(a, d, axis + sweep.lead(), !reverse);
}

}  // namespace

REGISTER_OP(linear_scan) = {
    .doc = "h_t = a_t h_{t-1} + b_t along axis, h_{-1} = 0; reverse: from the end; a broadcasts to b",
    .operands = {"a", "b"},
    .infer =
        [](InferCtx& infer) {
          infer.need_float(1);
          infer.need_same_dtype(0, 1);
          if (!broadcastable_to(infer.shape(0), infer.shape(1)))
            infer.shape_error("a " + infer.shape(0).str() + " does not broadcast to b " + infer.shape(1).str());
          infer.axis(1, infer.attrs.integer("axis"));
          infer.out(infer.shape(1), infer.dtype(1));
        },
    .vjp =
        [](SweepCtx& sweep) {
          Var g = scan_back(sweep, sweep.d());
          sweep.give(1, g);
          if (!sweep.needs(0)) return;
          int axis = axis_of(sweep.attrs, sweep.in(1).rank());
          Var before = shifted(sweep.out(), axis, !ScanAttrs::of(sweep.attrs).reverse);  // h_{t-1}
          sweep.give(0, sweep.reduce_to(g * before, 0));
        },
    // Linear in b once the decay a is held fixed; a gates and takes nothing.
    .relevance =
        [](SweepCtx& sweep) {
          if (sweep.needs(1))
            sweep.give(1, sweep.in(1) * scan_back(sweep, sweep.stabilised_share(sweep.d(), sweep.out(), 1.0)));
        },
    .absorbed =
        [](SweepCtx& sweep) {
          Var t = sweep.stabilised_share(sweep.d(), sweep.out(), 1.0);
          if (!sweep.carries(1)) sweep.absorb("constant", t * sweep.out());
          sweep.absorb("stabiliser", sweep.d() - t * sweep.out());
        },
    .samples =
        [] {
          auto a = [](Shape s) { return SampleInput{.shape = s, .low = -0.9, .high = 0.9}; };
          return std::vector<Sample>{{{a({3, 4}), {.shape = {3, 4}}}, ScanAttrs{1, false}.attrs(), "columns"},
                                     {{a({4, 3}), {.shape = {4, 3}}}, ScanAttrs{0, true}.attrs(), "reverse"},
                                     {{a({5, 1}), {.shape = {2, 5, 3}}}, ScanAttrs{-2, false}.attrs(), "per_step"},
                                     {{a({3}), {.shape = {2, 5, 3}}}, ScanAttrs{1, true}.attrs(), "constant_decay"},
                                     {{a({}), {.shape = {6}}}, ScanAttrs{0, false}.attrs(), "scalar_decay"},
                                     {{a({2, 1, 3}), {.shape = {2, 4, 3}}}, ScanAttrs{1, false}.attrs(), "once"},
                                     {{a({2, 0}), {.shape = {2, 0}}}, ScanAttrs{1, false}.attrs(), "empty"},
                                     {{a({2, 1}), {.shape = {2, 1}}}, ScanAttrs{1, false}.attrs(), "one"},
                                     {{a({3, 67}), {.shape = {3, 67}}}, ScanAttrs{1, false}.attrs(), "odd"},
                                     {{a({9, 301}), {.shape = {9, 301}}}, ScanAttrs{0, false}.attrs(), "wide"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}, {{3}, f32}}, ScanAttrs{0, false}.attrs(), "a [2, 3] does not broadcast to b [3]"},
              {{{{3}, f32}, {{3}, f64}}, ScanAttrs{0, false}.attrs(), "dtypes differ"},
              {{{{3}, f32}, {{3}, f32}}, ScanAttrs{1, false}.attrs(), "axis 1 is outside b of rank 1"},
              {{{{3}, i32}, {{3}, i32}}, ScanAttrs{0, false}.attrs(), "b must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

Var linear_scan(Arg a, Arg b, int64_t axis, bool reverse) {
  return record(linear_scan_op, {a, b}, ScanAttrs{axis, reverse}.attrs());
}

}  // namespace whence
