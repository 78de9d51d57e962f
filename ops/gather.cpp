// Reading at computed positions: gather takes slices, take_along_axis and pick take single elements.
#include "whence/ops/index.h"

namespace whence {
namespace {

// x with `axis` replaced by the axes of the index.
Shape rows_shape(InferCtx& infer, Shape x, int axis, const Shape& index) {
  if (x.rank() - 1 + index.rank() > Shape::kMaxRank) infer.shape_error("the result would have more than 8 dimensions");
  x.erase(axis);
  for (int i = 0; i < index.rank(); ++i) x.insert(axis + i, index[i]);
  return x;
}

Sample one(const char* name, Shape x, Shape index, int64_t axis, DType t = i64) {
  return {{{.shape = x}, positions(index, x[int(axis)], t)}, axis_attrs(axis), name};
}
Sample from_end(Shape x, Shape index, int64_t axis) {
  const int64_t n = x[int(axis)];
  return {{{.shape = x}, positions(index, n, i64, -n)}, with_low(axis_attrs(axis), -n), "from the end"};
}
std::vector<Sample> gather_samples() {
  return {
      one("rows", {4, 3}, {5}, 0),      one("middle", {2, 5, 3}, {2, 2}, 1, i32),
      one("scalar", {3, 4}, {}, -1),    one("empty", {3, 4}, {0}, 0),
      one("hollow", {2, 4, 0}, {3}, 1), one("odd", {67, 5}, {33}, 0),
      one("bytes", {2, 9}, {4}, 1, u8), from_end({5, 3}, {2, 4}, 0),
  };
}
std::vector<ErrorSample> gather_errors() {
  return {
      {{{{4, 3}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"},
      {{{{4, 3}, f32}, {{2}, i64}}, axis_attrs(2), "axis 2 is outside x of rank 2"},
      {{{{1, 1, 1, 1, 1}, f32}, {{1, 1, 1, 1, 1}, i64}}, axis_attrs(0), "more than 8 dimensions"},
  };
}

std::vector<Sample> take_samples() {
  return {
      one("rows", {4, 3}, {5, 3}, 0),  one("columns", {3, 4}, {3, 2}, -1, i32), one("smaller", {3, 4, 2}, {2, 3, 1}, 1),
      one("empty", {3, 4}, {3, 0}, 1), one("odd", {33, 67}, {33, 5}, 1),        from_end({3, 5}, {3, 7}, 1),
  };
}
std::vector<ErrorSample> take_errors() {
  return {
      {{{{4, 3}, f32}, {{2}, i64}}, axis_attrs(0), "index must have x's rank 2, got [2]"},
      {{{{4, 3}, f32}, {{2, 4}, i64}}, axis_attrs(0), "index has extent 4 on axis 1, x only 3"},
      {{{{4}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"},
      {{{{4}, f32}, {{2}, i64}}, axis_attrs(1), "axis 1 is outside x of rank 1"},
  };
}

}  // namespace

REGISTER_OP(gather) = {
    .doc = "out[.., i.., ..] = x[.., index[i..], ..]: slices of x along axis, index of any rank, negative from the end",
    .operands = {"x", "index"},
    .infer =
        [](InferCtx& infer) {
          infer.need_integer(1);
          int axis = infer.axis(0, infer.attrs.integer("axis"));
          infer.out(rows_shape(infer, infer.shape(0), axis, infer.shape(1)), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          int axis = axis_of(sweep.attrs, sweep.in().rank());
          Attrs attrs = segment_attrs(axis + sweep.lead(), sweep.in().shape()[axis]);
          attrs = with_low(attrs, sweep.attrs.integer("low", 0));
          sweep.give(0, record(op_named("segment_sum"), {sweep.d(), sweep.in(1)}, attrs));
        },
    .relevance = lrp::reindex,
    .samples = gather_samples,
    .errors = gather_errors,
    .traits = {.batched_sweep = true, .sinks = 2},
};

REGISTER_OP(take_along_axis) = {
    .doc =
        "out[i][j] = x[index[i][j]][j] for axis 0, negative from the end; index has x's rank and on other axes at most "
        "its extents",
    .operands = {"x", "index"},
    .infer =
        [](InferCtx& infer) {
          infer.need_integer(1);
          need_lanes(infer, 0, 1, infer.axis(0, infer.attrs.integer("axis")));
          infer.out(infer.shape(1), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          Var d = sweep.d(), index = with_targets(sweep.in(1), sweep);
          int axis = axis_of(sweep.attrs, sweep.in().rank());
          Attrs attrs = with_low(axis_attrs(axis + sweep.lead()), sweep.attrs.integer("low", 0));
          sweep.give(0, record(op_named("scatter_add"), {zeros(d, sweep.shape_of(0)), index, d}, attrs));
        },
    .relevance = lrp::reindex,
    .samples = take_samples,
    .errors = take_errors,
    .traits = {.batched_sweep = true, .sinks = 2},
};

namespace {

// Negative positions count from the end.
Attrs from_both_ends(const Arg& x, int64_t axis) {
  bool inside = axis >= -x.rank() && axis < x.rank();  // else the op says so
  return with_low(axis_attrs(axis), inside ? -x.shape()[int(axis)] : 0);
}

}  // namespace

Var gather(Arg x, Arg index, int64_t axis) { return record(gather_op, {x, index}, from_both_ends(x, axis)); }

Var take_along_axis(Arg x, Arg index, int64_t axis) {
  return record(take_along_axis_op, {x, index}, from_both_ends(x, axis));
}

REGISTER_OP(in_range) = {
    .doc = "x; a value outside [low, high) is an error of the run, which calls x by `what`",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.need_integer(0);
          int64_t low = infer.attrs.integer("low"), high = infer.attrs.integer("high");
          if (low > high) infer.value_error("low " + std::to_string(low) + " is above high " + std::to_string(high));
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .samples =
        [] {
          auto between = [](int64_t low, int64_t high) {
            return Attrs{{"low", low}, {"high", high}, {"what", std::string("x")}};
          };
          auto x = [](Shape s, int64_t low, int64_t high, DType t) {
            return SampleInput{.shape = s, .dtype = t, .low = double(low), .high = double(high)};
          };
          return std::vector<Sample>{{{x({3, 4}, -2, 5, i64)}, between(-2, 5), "matrix"},
                                     {{x({67}, 0, 9, i32)}, between(0, 9), "odd"},
                                     {{x({0}, 0, 1, u8)}, between(0, 0), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, f32}}, {{"low", 0}, {"high", 3}}, "x must be integer, got f32"},
                                          {{{{2}, i64}}, {{"low", 4}, {"high", 3}}, "low 4 is above high 3"}};
        },
    .traits = {.nondifferentiable = true},
};

Var in_range(Arg x, int64_t low, int64_t high, const std::string& what) {
  return record(in_range_op, {x}, {{"low", low}, {"high", high}, {"what", what}});
}

Var pick(Arg x, Arg index) {
  LocationGuard at(x);
  if (x.rank() != index.rank() + 1)
    throw ShapeError("[pick] x " + x.shape().str() + " needs an index of rank " + std::to_string(x.rank() - 1) +
                     ", got " + index.shape().str());
  return squeeze(record(take_along_axis_op, {x, unsqueeze(index, -1)}, axis_attrs(-1)), -1);
}

}  // namespace whence
