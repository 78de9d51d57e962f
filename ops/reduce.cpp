// Sums and means over any axes.
#include "whence/autograd/sweep.h"
#include "whence/ops/axes.h"
#include "whence/ops/checks.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_sum(InferCtx& c) {
  if (c.dtype(0) == boolean || c.dtype(0) == u8)
    c.dtype_error("x must be a float, i32 or i64, got " + std::string(name_of(c.dtype(0))), "cast it first");
  c.out(reduced_shape(c, c.attrs.ints("axes"), c.attrs.flag("keepdim")), accumulate_dtype(c.dtype(0)));
}

// The result with its reduced axes back at extent one, so that it broadcasts against x.
Var keep(SweepCtx& c, Var v) { return with_axes(v, c.in().shape(), c.attrs.ints("axes"), c.lead()); }

void sum_vjp(SweepCtx& c) { c.give(0, broadcast_to(keep(c, c.d()), c.shape_of(0))); }

// Each term takes its part of the sum: epsilon rule, or "abs" (DynamicLRP): |x| / sum |x|, uniform where all are zero.
void sum_relevance(SweepCtx& c) {
  if (c.rule().variant != "abs") return lrp::linear_in_carriers(c);
  Var x = c.in(), a = abs(x);
  const Ints& axes = c.attrs.ints("axes");
  Var total = sum(a, axes, true), empty = equal(total, 0.0);
  double n = double(x.numel()) / double(std::max<int64_t>(1, c.out().numel()));
  Var ratio =
      where(empty, x.graph().constant(1.0 / n, x.dtype()), a / where(empty, x.graph().constant(1.0, x.dtype()), total));
  c.give(0, ratio * keep(c, c.d()));
}

void sum_absorbed(SweepCtx& c) {
  if (c.rule().variant != "abs") lrp::absorbed_by_stabiliser(c);
  else if (c.in().numel() == 0) c.absorb("constant", c.d());  // a sum of nothing has nobody to pass it to
}

std::vector<Sample> sum_samples() {
  auto attrs = [](Ints axes, bool keep) { return Attrs{{"axes", axes}, {"keepdim", keep}}; };
  return {{{{.shape = {3, 5}}}, attrs({1}, false), "rows"},
          {{{.shape = {2, 3, 4}}}, attrs({0, 2}, true), "outer"},
          {{{.shape = {3, 4}}}, attrs({0, 1}, false), "all"},
          {{{.shape = {2, 0, 3}}}, attrs({1}, false), "empty"},
          {{{.shape = {}}}, attrs({}, false), "scalar"}};
}

}  // namespace

REGISTER_OP(sum) = {
    .doc = "sum of x over axes, f32 for halves",
    .operands = {"x"},
    .infer = infer_sum,
    .vjp = sum_vjp,
    .relevance = sum_relevance,
    .absorbed = sum_absorbed,
    .variants = {"abs"},
    .samples = sum_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"axes", Ints{2}}, {"keepdim", false}}, "axis 2 is outside"},
              {{{{2, 3}, f32}}, {{"axes", Ints{1, 1}}, {"keepdim", false}}, "occurs twice"}};
        },
    .traits = {.batched_sweep = true},
};

Var sum(Arg x, Axes axes, bool keepdim) {
  return record(sum_op, {x}, {{"axes", canonical_axes(std::move(axes), x.rank())}, {"keepdim", keepdim}});
}

Var mean(Arg x, Axes axes, bool keepdim) {
  LocationGuard at(x);
  need_float(x, "mean");
  Var total = sum(x, std::move(axes), keepdim);
  int64_t n = total.numel() ? x.shape().numel() / total.numel() : 1;
  return total * (1.0 / double(std::max<int64_t>(n, 1)));
}

}  // namespace whence
