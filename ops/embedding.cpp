// Rows of a table by number, and numbers as rows.
#include "whence/ops/index.h"

namespace whence {
namespace {

Attrs padding_attrs(int64_t padding_idx) { return {{"padding_idx", padding_idx}}; }

void infer_embedding(InferCtx& infer) {
  infer.need_integer(0);
  infer.need_rank(1, 2);
  if (int64_t p = infer.attrs.integer("padding_idx"); p >= infer.shape(1)[0])
    infer.value_error("padding_idx " + std::to_string(p) + " is outside a table of " +
                      std::to_string(infer.shape(1)[0]) + " rows");
  Shape s = infer.shape(0);
  if (s.rank() == Shape::kMaxRank) infer.shape_error("the result would have more than 8 dimensions");
  s.push_back(infer.shape(1)[1]);
  infer.out(s, infer.dtype(1));
}

// Rows of padding pass no gradient; otherwise the cotangents of a row add up.
void vjp_embedding(SweepCtx& sweep) {
  if (!sweep.needs(1)) return;
  Var d = sweep.d(), ids = sweep.in(0);
  if (int64_t p = sweep.attrs.integer("padding_idx"); p >= 0 && holds(ids.dtype(), double(p))) {
    Var real = not_equal(ids, sweep.graph.constant(double(p), ids.dtype()));
    d = where(unsqueeze(real, -1), d, 0.0);
  }
  sweep.give(1, segment_sum(d, ids, sweep.lead(), sweep.in(1).shape()[0]));
}

// What arrives at a looked-up row belongs to the token that asked for it: summed over the features. A table made from
// data shares it; one that is a parameter gets what passed through it, beside the tokens.
void relevance_embedding(SweepCtx& sweep) {
  Var r = sweep.carries(0) && sweep.carries(1) ? sweep.d() * 0.5 : sweep.d();
  if (sweep.needs(0)) sweep.give(0, sum(r, {-1}));
  if (sweep.needs(1)) sweep.give(1, segment_sum(r, sweep.in(0), sweep.lead(), sweep.in(1).shape()[0]));
}

}  // namespace

REGISTER_OP(embedding) = {
    .doc = "weight[ids]: ids [..], weight [V, C] -> [.., C]; the row padding_idx gets no gradient",
    .operands = {"ids", "weight"},
    .infer = infer_embedding,
    .vjp = vjp_embedding,
    .relevance = relevance_embedding,
    .samples =
        [] {
          SampleInput table{.shape = {5, 3}, .parameter = true};
          return std::vector<Sample>{
              {{positions({4}, 5), table}, padding_attrs(-1), "tokens"},
              {{positions({2, 3}, 5, i32), table}, padding_attrs(2), "padding"},
              {{positions({}, 5), table}, padding_attrs(-1), "scalar"},
              {{positions({2, 0}, 5), table}, padding_attrs(-1), "empty"},
              {{positions({3}, 4), {.shape = {4, 2}}}, padding_attrs(-1), "computed_table"},
              {{positions({3, 11}, 67), {.shape = {67, 5}, .parameter = true}}, padding_attrs(0), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4}, f32}, {{5, 3}, f32}}, padding_attrs(-1), "ids must be integer, got f32"},
              {{{{4}, i64}, {{5}, f32}}, padding_attrs(-1), "weight must have rank 2, got [5]"},
              {{{{4}, i64}, {{5, 3}, f32}}, padding_attrs(5), "padding_idx 5 is outside a table of 5 rows"}};
        },
    .traits = {.batched_sweep = true},
};

Var embedding(Arg ids, Arg weight, int64_t padding_idx) {
  return record(embedding_op, {ids, weight}, padding_attrs(padding_idx));
}

REGISTER_OP(one_hot) = {
    .doc = "1 at each id, 0 elsewhere: ids [..] -> [.., classes]; relevance ends here",
    .operands = {"ids"},
    .infer =
        [](InferCtx& infer) {
          infer.need_integer(0);
          int64_t n = infer.attrs.integer("classes");
          if (n < 0) infer.value_error("classes must not be negative, got " + std::to_string(n));
          if (infer.rank(0) == Shape::kMaxRank) infer.shape_error("the result would have more than 8 dimensions");
          Shape s = infer.shape(0);
          s.push_back(n);
          infer.out(s, infer.attrs.dtype("dtype"));
        },
    .samples =
        [] {
          auto at = [](int64_t n, DType t) { return Attrs{{"classes", n}, {"dtype", t}}; };
          return std::vector<Sample>{{{positions({2, 3}, 5)}, at(5, f32), "f32"},
                                     {{positions({4}, 3, i32)}, at(3, boolean), "bool"},
                                     {{positions({0}, 5)}, at(5, f64), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2}, f32}}, {{"classes", 3}, {"dtype", f32}}, "ids must be integer, got f32"},
              {{{{2}, i64}}, {{"classes", -3}, {"dtype", f32}}, "classes must not be negative, got -3"}};
        },
    .traits = {.nondifferentiable = true},
};

Var one_hot(Arg ids, int64_t classes, DType dtype) {
  return record(one_hot_op, {ids}, {{"classes", classes}, {"dtype", dtype}});
}

}  // namespace whence
