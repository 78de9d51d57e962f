// Random ops, counter based (tensor/philox.h). What they draw depends on key, the element's position and the run's
// seed only, so two nodes with equal attributes are equal, and a value can be drawn again instead of kept.
#include "whence/autograd/sweep.h"
#include "whence/ops/checks.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

// The last operand is the run's seed, i64 [].
void need_seed(InferCtx& infer) {
  int i = infer.n() - 1;
  if (infer.dtype(i) != i64) infer.dtype_error("seed must be i64, got " + std::string(name_of(infer.dtype(i))));
  infer.need_rank(i, 0);
}
SampleInput seed_sample() { return {.shape = {}, .dtype = i64, .low = 0, .high = 1000}; }

Shape random_shape(InferCtx& infer) {
  Shape s = infer.attrs.shape("shape");
  for (int64_t n : s)
    if (n < 0) infer.shape_error("shape " + s.str() + " has a negative extent");
  return s;
}
void infer_real(InferCtx& infer) {
  DType t = infer.attrs.dtype("dtype");
  if (t != f32 && t != f64)
    infer.dtype_error("dtype must be f32 or f64, got " + std::string(name_of(t)), "draw f32 and cast");
  need_seed(infer);
  infer.out(random_shape(infer), t);
}

constexpr Traits kRandom{.random = true, .nondifferentiable = true, .sinks = 1};

// ---- uniform, normal ----------------------------------------------------------------------------------------------

Attrs uniform_attrs(const Shape& s, int64_t key, double low, double high, DType t) {
  return {{"shape", s}, {"key", key}, {"low", low}, {"high", high}, {"dtype", t}};
}
Attrs normal_attrs(const Shape& s, int64_t key, double mean, double stddev, DType t) {
  return {{"shape", s}, {"key", key}, {"mean", mean}, {"stddev", stddev}, {"dtype", t}};
}
Attrs bernoulli_attrs(const Shape& s, int64_t key, double p, DType t) {
  return {{"shape", s}, {"key", key}, {"p", p}, {"dtype", t}};
}

}  // namespace

REGISTER_OP(uniform) = {
    .doc = "Uniform numbers in [low, high); f32 has 24 random bits, f64 has 53",
    .operands = {"seed"},
    .infer =
        [](InferCtx& infer) {
          if (!(infer.attrs.real("low") <= infer.attrs.real("high"))) infer.value_error("low is above high");
          infer_real(infer);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, uniform_attrs({3, 5}, 1, -1, 2, f64), "f64"},
                                     {{seed_sample()}, uniform_attrs({4099}, 2, 0, 1, f32), "odd"},
                                     {{seed_sample()}, uniform_attrs({2, 0}, 3, 0, 1, f32), "empty"},
                                     {{seed_sample()}, uniform_attrs({}, 4, 0, 1, f32), "scalar"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, uniform_attrs({2}, 0, 1, 0, f32), "low is above high"},
              {{{{}, i64}}, uniform_attrs({2}, 0, 0, 1, i32), "dtype must be f32 or f64, got i32"},
              {{{{}, i64}}, uniform_attrs({-2}, 0, 0, 1, f32), "shape [-2] has a negative extent"}};
        },
    .traits = kRandom,
};

REGISTER_OP(normal) = {
    .doc = "Normal numbers of the given mean and standard deviation",
    .operands = {"seed"},
    .infer =
        [](InferCtx& infer) {
          if (!(infer.attrs.real("stddev") >= 0)) infer.value_error("stddev must not be negative");
          infer_real(infer);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, normal_attrs({3, 5}, 1, 2, 0.5, f64), "f64"},
                                     {{seed_sample()}, normal_attrs({4099}, 2, 0, 1, f32), "odd"},
                                     {{seed_sample()}, normal_attrs({0}, 3, 0, 1, f32), "empty"},
                                     {{seed_sample()}, normal_attrs({}, 4, 0, 1, f32), "scalar"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, normal_attrs({2}, 0, 0, -1, f32), "stddev must not be negative"},
              {{{{}, i64}}, normal_attrs({2}, 0, 0, 1, i64), "dtype must be f32 or f64, got i64"}};
        },
    .traits = kRandom,
};

// ---- bernoulli, permutation ---------------------------------------------------------------------------------------

namespace {

void need_probability(InferCtx& infer, double p) {
  if (!(p >= 0 && p <= 1)) infer.value_error("p must be in [0, 1], got " + std::to_string(p));
}

}  // namespace

// One draw per element whatever the dtype, so a mask is the same in every precision.
REGISTER_OP(bernoulli) = {
    .doc = "1 with probability p, else 0",
    .operands = {"seed"},
    .infer =
        [](InferCtx& infer) {
          need_probability(infer, infer.attrs.real("p"));
          DType t = infer.attrs.dtype("dtype");
          if (t == bf16 || t == f16) infer.dtype_error("no " + std::string(name_of(t)) + " here", "draw f32 and cast");
          need_seed(infer);
          infer.out(random_shape(infer), t);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, bernoulli_attrs({3, 5}, 1, 0.5, f64), "f64"},
                                     {{seed_sample()}, bernoulli_attrs({4099}, 2, 0.1, boolean), "odd"},
                                     {{seed_sample()}, bernoulli_attrs({7}, 3, 1, f32), "always"},
                                     {{seed_sample()}, bernoulli_attrs({7}, 3, 0, f32), "never"},
                                     {{seed_sample()}, bernoulli_attrs({0, 2}, 3, 0.3, i32), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, bernoulli_attrs({2}, 0, 1.5, f32), "p must be in [0, 1], got 1.5"}};
        },
    .traits = kRandom,
};

REGISTER_OP(permutation) = {
    .doc = "0 .. n - 1 in random order (i64)",
    .operands = {"seed"},
    .infer =
        [](InferCtx& infer) {
          int64_t n = infer.attrs.integer("n");
          if (n < 0) infer.value_error("n must not be negative, got " + std::to_string(n));
          need_seed(infer);
          infer.out({n}, i64);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, {{"n", 7}, {"key", 1}}, "odd"},
                                     {{seed_sample()}, {{"n", 0}, {"key", 1}}, "empty"},
                                     {{seed_sample()}, {{"n", 4099}, {"key", 2}}, "long"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{}, i64}}, {{"n", -1}, {"key", 0}}, "n must not be negative, got -1"}};
        },
    .traits = kRandom,
};

// Halves are drawn in f32 and rounded.
static Var draw(const OpDef& op, Var seed, Attrs attrs, DType dtype) {
  bool half = dtype == bf16 || dtype == f16;
  attrs.set({"dtype", half ? f32 : dtype});
  return cast(seed.graph().record(op, {&seed, 1}, std::move(attrs)), dtype);
}
Var uniform(Graph& g, Shape shape, int64_t key, double low, double high, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(uniform_op, g.seed(), uniform_attrs(shape, key, low, high, dtype), dtype);
}
Var normal(Graph& g, Shape shape, int64_t key, double mean, double stddev, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(normal_op, g.seed(), normal_attrs(shape, key, mean, stddev, dtype), dtype);
}
Var bernoulli(Graph& g, Shape shape, int64_t key, double p, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(bernoulli_op, g.seed(), bernoulli_attrs(shape, key, p, dtype), dtype);
}
Var permutation(Graph& g, int64_t n, int64_t key, std::source_location where) {
  Var seed = g.seed();
  return g.record(permutation_op, {&seed, 1}, {{"n", n}, {"key", key}}, where);
}

// ---- dropout ------------------------------------------------------------------------------------------------------

namespace {

// keep / (1 - p), of x's shape
Var dropout_mask(Var seed, const Shape& shape, DType t, const Attrs& attrs) {
  double keep = 1.0 - attrs.real("p");
  return draw(bernoulli_op, seed, bernoulli_attrs(shape, attrs.integer("key"), keep, t), t) * (1.0 / keep);
}

}  // namespace

REGISTER_OP(dropout) = {
    .doc = "x times a mask that is 0 with probability p and 1 / (1 - p) otherwise",
    .operands = {"x", "seed"},
    .infer =
        [](InferCtx& infer) {
          infer.need_float(0);
          double p = infer.attrs.real("p");
          if (!(p >= 0 && p < 1)) infer.value_error("p must be in [0, 1), got " + std::to_string(p));
          need_seed(infer);
          infer.out(infer.shape(0), infer.dtype(0));
        },
    // The same mask, drawn again. Several targets share it.
    .vjp =
        [](SweepCtx& sweep) {
          if (sweep.lead())
            sweep.give(0, sweep.d() * dropout_mask(sweep.in(1), sweep.in().shape(), sweep.d().dtype(), sweep.attrs));
          else sweep.give(0, record(op_named("dropout"), {sweep.d(), sweep.in(1)}, sweep.attrs));
        },
    .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> {
      return {in[0] * dropout_mask(in[1], in[0].shape(), in[0].dtype(), attrs)};
    },
    .fast_relevance = lrp::identity,  // the mask is no data: the product passes everything to x
    .samples =
        [] {
          auto at = [](double p) { return Attrs{{"p", p}, {"key", 5}}; };
          return std::vector<Sample>{{{{.shape = {3, 4}}, seed_sample()}, at(0.5), "half"},
                                     {{{.shape = {2, 3}}, seed_sample()}, at(0.1), "tenth"},
                                     {{{.shape = {0, 3}}, seed_sample()}, at(0.5), "empty"},
                                     {{{.shape = {4099}}, seed_sample()}, at(0.3), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2}, f32}, {{}, i64}}, {{"p", 1.0}, {"key", 0}}, "p must be in [0, 1), got 1"},
              {{{{2}, i32}, {{}, i64}}, {{"p", 0.5}, {"key", 0}}, "x must be floating point"}};
        },
    .traits = {.random = true, .batched_sweep = true, .sinks = 2},
};

Var dropout(Arg x, double p, int64_t key) {
  if (p == 0) return x;
  return record(dropout_op, {x, x.graph().seed()}, {{"p", p}, {"key", key}});
}

Var categorical(Arg logits, int64_t key) {
  LocationGuard at(logits);
  need_float(logits, "categorical", "logits");
  Var x = widened(logits);
  // u in (0, 1): with u = 0 the noise is -infinity, and a class could never be drawn.
  Var u = uniform(x.graph(), x.shape(), key, 0x1p-24, 1, x.dtype(), logits.where);
  return argmax(x - log(-log(u)), -1);
}

}  // namespace whence
