// C[.., m, n] = A[.., m, k] . B[.., k, n], and y = x W^T + b.
#include <deque>

#include "whence/autograd/sweep.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

Shape leading(const Shape& s, int keep) {
  Shape r;
  for (int i = 0; i < s.rank() - keep; ++i) r.push_back(s[i]);
  return r;
}

// The result's dtype: the operands', or what the attribute asks for.
DType product_dtype(const InferCtx& infer) {
  DType have = infer.dtype(0), want = infer.attrs.has("dtype") ? infer.attrs.dtype("dtype") : have;
  if (want != have && want != accumulate_dtype(have))
    infer.dtype_error("a product of " + std::string(name_of(have)) + " cannot give " + std::string(name_of(want)),
                      "cast the result");
  return want;
}

void infer_matmul(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  for (int i : {0, 1})
    if (c.rank(i) < 2)
      c.shape_error(c.op.operand_name(i) + " must have rank 2 or more, got " + c.shape(i).str(), "unsqueeze it");
  if (c.shape(0)[-1] != c.shape(1)[-2]) {
    bool fits = c.shape(0)[-1] == c.shape(1)[-1];
    c.shape_error(
        "inner dimensions differ: " + std::to_string(c.shape(0)[-1]) + " vs " + std::to_string(c.shape(1)[-2]),
        fits ? "transpose(b) would fit" : "");
  }
  Shape s;
  try {
    s = broadcast_shapes(leading(c.shape(0), 2), leading(c.shape(1), 2));
  } catch (const ShapeError& e) {
    c.shape_error(std::string("leading axes: ") + e.what());
  }
  s.push_back(c.shape(0)[-2]);
  s.push_back(c.shape(1)[-1]);
  c.out(s, product_dtype(c));
}

// [.., rows, cols] -> [rows of everything, cols], keeping `lead` leading axes.
Var flat_rows(Var v, int lead) {
  Shape s;
  for (int i = 0; i < lead; ++i) s.push_back(v.shape()[i]);
  int64_t rows = 1;
  for (int i = lead; i < v.rank() - 1; ++i) rows *= v.shape()[i];
  s.push_back(rows);
  s.push_back(v.shape()[-1]);
  return reshape(v, s);
}

// The products of a gradient take what the forward product took, and give f32 for halves: a weight behind a cast gets
// its gradient unrounded.
std::optional<DType> unrounded(Var factor) {
  DType t = accumulate_dtype(factor.dtype());
  return t == factor.dtype() ? std::nullopt : std::optional(t);
}

void matmul_vjp(SweepCtx& c) {
  Var a = c.recorded(0), b = c.recorded(1), d = c.narrow_d();
  auto product = [](Var x, Var y) { return matmul(x, y, unrounded(x)); };
  if (c.needs(0)) c.give(0, c.reduce_to(product(d, transpose(b)), 0));
  if (!c.needs(1)) return;
  if (b.rank() == 2 && a.rank() > 2) c.give(1, product(transpose(flat_rows(a, 0)), flat_rows(d, c.lead())));
  else c.give(1, c.reduce_to(product(transpose(a), d), 1));
}

std::vector<Sample> matmul_samples() {
  auto two = [](Shape a, Shape b, const char* name) { return Sample{{{.shape = a}, {.shape = b}}, {}, name}; };
  return {two({3, 4}, {4, 5}, "matrix"),
          two({2, 3, 4}, {4, 5}, "shared right"),
          two({2, 1, 3, 4}, {3, 4, 2}, "broadcast"),
          two({2, 2}, {2, 2}, "tiny"),
          two({1, 7}, {7, 1}, "dot"),
          two({0, 3}, {3, 2}, "empty rows"),
          two({2, 0}, {0, 3}, "empty inner")};
}

// ---- linear

void infer_linear(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  c.need_rank(1, 2);
  if (c.rank(0) < 1 || c.shape(0)[-1] != c.shape(1)[1])
    c.shape_error("features differ: x has " + (c.rank(0) ? std::to_string(c.shape(0)[-1]) : "no axis") +
                      ", weight [out, in] takes " + std::to_string(c.shape(1)[1]),
                  c.rank(0) && c.shape(0)[-1] == c.shape(1)[0]
                      ? "x has as many features as weight has outputs: is the weight [in, out], or x another value?"
                      : "");
  if (c.n() == 3) {
    c.need_same_dtype(0, 2);
    c.need_shape(2, {c.shape(1)[0]});
  }
  Shape s = c.shape(0);
  s[-1] = c.shape(1)[0];
  c.out(s, product_dtype(c));
}

void linear_vjp(SweepCtx& c) {
  Var x = c.recorded(0), w = c.recorded(1), d = c.narrow_d();
  std::optional<DType> wide = unrounded(x);
  if (c.needs(0)) c.give(0, d.rank() > 1 ? matmul(d, w, wide) : reshape(matmul(flat_rows(d, 0), w, wide), x.shape()));
  if (c.needs(1)) c.give(1, matmul(transpose(flat_rows(d, c.lead())), flat_rows(x, 0), wide));
  if (c.n_in() == 3 && c.needs(2)) c.give(2, sum(flat_rows(c.d(), c.lead()), {c.lead()}));
}

std::vector<Sample> linear_samples() {
  SampleInput w{.shape = {4, 5}, .parameter = true}, b{.shape = {4}, .parameter = true};
  return {{{{.shape = {3, 5}}, w, b}, {}, "bias"},
          {{{.shape = {2, 3, 5}}, w}, {}, "batch"},
          {{{.shape = {5}}, w, b}, {}, "vector"},
          {{{.shape = {2, 2}}, {.shape = {2, 2}}}, {}, "both data"},
          {{{.shape = {0, 5}}, w, b}, {}, "empty"}};
}

}  // namespace

REGISTER_OP(matmul) = {
    .doc = "C[.., m, n] = A[.., m, k] . B[.., k, n], leading axes broadcast",
    .operands = {"a", "b"},
    .infer = infer_matmul,
    .vjp = matmul_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = matmul_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{32, 768}, f32}, {{512, 64}, f32}}, {}, "inner dimensions differ: 768 vs 512"},
              {{{{3, 4}, f32}, {{5, 4}, f32}}, {}, "transpose(b) would fit"},
              {{{{4}, f32}, {{4, 5}, f32}}, {}, "must have rank 2 or more"},
              {{{{2, 3, 4}, f32}, {{3, 4, 5}, f32}}, {}, "leading axes"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

REGISTER_OP(linear) = {
    .doc = "y = x W^T + b: x [.., in], W [out, in], b [out] or absent",
    .operands = {"x", "weight", "bias"},
    .infer = infer_linear,
    .vjp = linear_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = linear_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{3, 4}, f32}, {{4, 5}, f32}}, {}, "is the weight [in, out]"},
                                          {{{{3, 5}, f32}, {{4, 5}, f32}, {{5}, f32}}, {}, "bias must have shape [4]"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

// What a plan makes of t + product (autograd/plan/rewrite.cpp).
static void infer_sum_with(InferCtx& c, const OpDef& product) {
  std::deque<TensorType> results;
  InferCtx inner(c.op, c.in.subspan(1), c.attrs, results);
  product.infer(inner);
  c.need_shape(0, results[0].shape);
  if (c.dtype(0) != results[0].dtype) c.dtype_error("t must be " + std::string(name_of(results[0].dtype)));
  c.out(results[0].shape, results[0].dtype);
}
static std::vector<Var> sum_with(const OpDef& product, std::span<const Var> in, const Attrs& attrs) {
  return {in[0] + in[0].graph().record(product, in.subspan(1), attrs)};
}

REGISTER_OP(matmul_add) = {
    .doc = "t + A . B, B a matrix",
    .operands = {"t", "a", "b"},
    .infer = [](InferCtx& c) { infer_sum_with(c, matmul_op); },
    .vjp = vjp_through_body,
    .body = [](std::span<const Var> in, const Attrs& attrs) { return sum_with(matmul_op, in, attrs); },
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {3, 5}}, {.shape = {3, 4}}, {.shape = {4, 5}}}, {}, "matrix"},
              {{{.shape = {2, 3, 5}}, {.shape = {2, 3, 4}}, {.shape = {4, 5}}}, {}, "shared right"},
              {{{.shape = {3, 3}}, {.shape = {3, 401}}, {.shape = {401, 3}}}, {}, "long"},
              {{{.shape = {2, 3}}, {.shape = {2, 0}}, {.shape = {0, 3}}}, {}, "empty inner"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{3, 4}, f32}, {{3, 4}, f32}, {{4, 5}, f32}}, {}, "t must have shape [3, 5]"},
              {{{{3, 5}, f64}, {{3, 4}, f32}, {{4, 5}, f32}}, {}, "t must be f32"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

REGISTER_OP(linear_add) = {
    .doc = "t + x W^T + b",
    .operands = {"t", "x", "weight", "bias"},
    .infer = [](InferCtx& c) { infer_sum_with(c, linear_op); },
    .vjp = vjp_through_body,
    .body = [](std::span<const Var> in, const Attrs& attrs) { return sum_with(linear_op, in, attrs); },
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {3, 4}}, {.shape = {3, 5}}, {.shape = {4, 5}}, {.shape = {4}}}, {}, "bias"},
              {{{.shape = {2, 3, 4}}, {.shape = {2, 3, 5}}, {.shape = {4, 5}}}, {}, "batch"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{3, 5}, f32}, {{3, 5}, f32}, {{4, 5}, f32}}, {}, "t must have shape [3, 4]"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

static Attrs product_attrs(std::optional<DType> dtype) { return dtype ? Attrs{{"dtype", *dtype}} : Attrs(); }
Var matmul(Arg a, Arg b, std::optional<DType> dtype) { return record(matmul_op, {a, b}, product_attrs(dtype)); }
Var linear(Arg x, Arg weight, OptionalArg bias, std::optional<DType> dtype) {
  return bias ? record(linear_op, {x, weight, *bias}, product_attrs(dtype))
              : record(linear_op, {x, weight}, product_attrs(dtype));
}

}  // namespace whence
