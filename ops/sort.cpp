// Order along an axis: topk, argsort.
#include "whence/ops/index.h"

namespace whence {
namespace {

Attrs topk_attrs(int64_t k, int64_t axis, bool largest) { return {{"k", k}, {"axis", axis}, {"largest", largest}}; }

}  // namespace

REGISTER_OP(topk) = {
    .doc =
        "The k largest (or smallest) along axis in order, and their positions (i64); the lowest index first among "
        "equals",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          int axis = infer.axis(0, infer.attrs.integer("axis"));
          int64_t k = infer.attrs.integer("k");
          if (k < 0 || k > infer.shape(0)[axis])
            infer.value_error("k is " + std::to_string(k) + ", axis " + std::to_string(axis) + " has " +
                              std::to_string(infer.shape(0)[axis]) + " elements");
          Shape s = infer.shape(0);
          s[axis] = k;
          infer.out(s, infer.dtype(0));
          infer.out(s, i64);
        },
    .vjp = sweep_positions,
    .relevance = lrp::reindex,
    .absorbed = absorb_positions,
    .samples =
        [] {
          auto x = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{
              {{x({3, 4})}, topk_attrs(2, -1, true), "columns"}, {{x({4, 3})}, topk_attrs(3, 0, false), "rows"},
              {{x({2, 5, 3})}, topk_attrs(5, 1, true), "all"},   {{x({3, 4})}, topk_attrs(0, 1, true), "none"},
              {{x({0, 4})}, topk_attrs(2, 1, true), "empty"},    {{x({3, 67})}, topk_attrs(9, 1, true), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, topk_attrs(4, 1, true), "k is 4, axis 1 has 3 elements"},
                                          {{{{2, 3}, f32}}, topk_attrs(1, 2, true), "axis 2 is outside x of rank 2"}};
        },
    .traits = {.batched_sweep = true},
};

TopK topk(Arg x, int64_t k, int64_t axis) {
  Var v = record(topk_op, {x}, topk_attrs(k, axis, true));
  return {v, {&v.graph(), v.id() + 1}};
}
TopK bottomk(Arg x, int64_t k, int64_t axis) {
  Var v = record(topk_op, {x}, topk_attrs(k, axis, false));
  return {v, {&v.graph(), v.id() + 1}};
}

REGISTER_OP(argsort) = {
    .doc = "Positions (i64) that sort x along axis; stable, NaN counts as the largest",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.axis(0, infer.attrs.integer("axis"));
          infer.out(infer.shape(0), i64);
        },
    .samples =
        [] {
          auto at = [](int64_t axis, bool descending) { return Attrs{{"axis", axis}, {"descending", descending}}; };
          return std::vector<Sample>{{{{.shape = {3, 5}}}, at(-1, false), "columns"},
                                     {{{.shape = {5, 3}}}, at(0, true), "rows"},
                                     {{positions({4, 9}, 3)}, at(1, true), "ties"},
                                     {{{.shape = {2, 0}}}, at(1, false), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"axis", 2}, {"descending", false}}, "axis 2 is outside x of rank 2"}};
        },
    .traits = {.nondifferentiable = true},
};

Var argsort(Arg x, int64_t axis, bool descending) {
  return record(argsort_op, {x}, {{"axis", axis}, {"descending", descending}});
}

}  // namespace whence
