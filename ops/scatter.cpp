// Adding up at computed positions: segment_sum, the adjoint of gather, and scatter_add. Both add in the order of the
// index, so results are equal on every run.
#include "whence/ops/index.h"

namespace whence {
namespace {

void infer_segment_sum(InferCtx& infer) {
  infer.need_integer(1);
  need_summable(infer, 0);
  Shape x = infer.shape(0);
  const Shape& index = infer.shape(1);
  int64_t count = infer.attrs.integer("count");
  int axis = first_axis(infer.attrs, x.rank());
  if (axis < 0 || axis + index.rank() > x.rank())
    infer.shape_error("axis " + std::to_string(infer.attrs.integer("axis")) +
                      " leaves no room for the index in x of rank " + std::to_string(x.rank()));
  for (int i = 0; i < index.rank(); ++i)
    if (x[axis + i] != index[i]) infer.shape_error("index does not fit x from axis " + std::to_string(axis));
  if (count < 0) infer.value_error("count must not be negative, got " + std::to_string(count));
  for (int i = 0; i < index.rank(); ++i) x.erase(axis);
  if (x.rank() == Shape::kMaxRank) infer.shape_error("the result would have more than 8 dimensions");
  x.insert(axis, count);
  infer.out(x, infer.dtype(0));
}

// A sum of its inputs: the stabiliser holds back the rest.
void absorbed_segment_sum(SweepCtx& sweep) {
  sweep.absorb("stabiliser", sweep.d() - sweep.stabilised_share(sweep.d(), sweep.out(), 1.0) * sweep.out());
}

std::vector<Sample> segment_samples() {
  auto one = [](const char* name, Shape x, Shape index, int64_t axis, int64_t count, DType t = i64) {
    return Sample{{{.shape = x}, positions(index, count, t)}, segment_attrs(axis, count), name};
  };
  return {
      one("rows", {5, 2}, {5}, 0, 3),  one("block", {2, 2, 3}, {2, 3}, 1, 4, i32), one("scalar", {3, 2}, {}, 1, 2),
      one("empty", {0, 3}, {0}, 0, 2), one("odd", {67, 5}, {67}, -2, 9),
  };
}
std::vector<ErrorSample> segment_errors() {
  return {
      {{{{4, 3}, f32}, {{2}, i64}}, segment_attrs(0, 3), "index does not fit x from axis 0"},
      {{{{4}, f32}, {{4}, f32}}, segment_attrs(0, 3), "index must be integer, got f32"},
      {{{{4}, f32}, {{4, 1}, i64}}, segment_attrs(0, 3), "axis 0 leaves no room for the index in x of rank 1"},
      {{{{4}, f32}, {{4}, i64}}, segment_attrs(0, -1), "count must not be negative, got -1"},
      {{{{4}, boolean}, {{4}, i64}}, segment_attrs(0, 2), "x must be a number that can be added up, got bool"},
  };
}

void infer_scatter_add(InferCtx& infer) {
  infer.need_integer(1);
  infer.need_same_dtype(0, 2);
  need_summable(infer, 0);
  need_lanes(infer, 0, 1, infer.axis(0, infer.attrs.integer("axis")));
  if (!(infer.shape(1) == infer.shape(2)))
    infer.shape_error("index and src differ in shape: " + infer.shape(1).str() + " vs " + infer.shape(2).str());
  infer.out(infer.shape(0), infer.dtype(0));
}

void absorbed_scatter_add(SweepCtx& sweep) {
  Var t = sweep.stabilised_share(sweep.d(), sweep.out(), 1.0);
  if (!sweep.carries(0)) sweep.absorb("constant", t * sweep.in(0));
  if (!sweep.carries(2)) {
    Var none = zeros(sweep.d(), sweep.in().shape());
    int axis = axis_of(sweep.attrs, sweep.in().rank());
    sweep.absorb("constant", t * scatter_add(none, sweep.in(1), sweep.in(2), axis));
  }
  sweep.absorb("stabiliser", sweep.d() - t * sweep.out());
}

std::vector<Sample> scatter_samples() {
  auto one = [](const char* name, Shape base, Shape src, int64_t axis, DType t = i64) {
    return Sample{{{.shape = base}, positions(src, base[int(axis)], t), {.shape = src}}, axis_attrs(axis), name};
  };
  return {
      one("rows", {4, 3}, {5, 3}, 0),  one("columns", {2, 3}, {2, 2}, -1, i32), one("smaller", {3, 4, 2}, {2, 3, 1}, 1),
      one("empty", {3, 4}, {3, 0}, 1), one("odd", {33, 9}, {33, 67}, 1),
  };
}
std::vector<ErrorSample> scatter_errors() {
  return {
      {{{{4, 3}, f32}, {{2, 3}, i64}, {{2, 2}, f32}}, axis_attrs(0), "index and src differ in shape"},
      {{{{4, 3}, f32}, {{2, 3}, i64}, {{2, 3}, f64}}, axis_attrs(0), "dtypes differ"},
      {{{{4, 3}, f32}, {{2, 4}, i64}, {{2, 4}, f32}}, axis_attrs(0), "index has extent 4 on axis 1, base only 3"},
      {{{{4}, f32}, {{2}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"},
  };
}

}  // namespace

REGISTER_OP(segment_sum) = {
    .doc = "out[.., k, ..] = sum of x[.., i.., ..] over index[i..] == k; the index occupies x's axes from `axis`",
    .operands = {"x", "index"},
    .infer = infer_segment_sum,
    .vjp =
        [](SweepCtx& sweep) {
          int axis = first_axis(sweep.attrs, sweep.in().rank());
          sweep.give(0, gather(sweep.d(), sweep.in(1), axis + sweep.lead()));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = absorbed_segment_sum,
    .samples = segment_samples,
    .errors = segment_errors,
    .traits = {.batched_sweep = true, .sinks = 2},
};

REGISTER_OP(scatter_add) = {
    .doc = "base, with src[i][j] added at [index[i][j]][j] for axis 0; index has src's shape, repeats accumulate",
    .operands = {"base", "index", "src"},
    .infer = infer_scatter_add,
    .vjp =
        [](SweepCtx& sweep) {
          sweep.give(0, sweep.d());
          if (!sweep.needs(2)) return;
          int axis = axis_of(sweep.attrs, sweep.in().rank());
          sweep.give(2, take_along_axis(sweep.d(), with_targets(sweep.in(1), sweep), axis + sweep.lead()));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = absorbed_scatter_add,
    .samples = scatter_samples,
    .errors = scatter_errors,
    .traits = {.batched_sweep = true, .sinks = 2},
};

Var segment_sum(Arg x, Arg index, int64_t axis, int64_t count) {
  return record(segment_sum_op, {x, index}, segment_attrs(axis, count));
}

Var scatter_add(Arg base, Arg index, Arg src, int64_t axis) {
  return record(scatter_add_op, {base, index, src}, axis_attrs(axis));
}

}  // namespace whence
