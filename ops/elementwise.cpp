// Elementwise ops: literals around the rows of ops/scalar_table.h.
#include <array>
#include <limits>

#include "whence/autograd/sweep.h"
#include "whence/ops/composite.h"
#include "whence/ops/scalar_table.h"

namespace whence {
namespace {

// ---- inference shared by all rows -------------------------------------------------------------------

void infer_unary(InferCtx& c) {
  c.need_float(0);
  c.out(c.shape(0), c.dtype(0));
}

void infer_clamp(InferCtx& c) {
  double low = c.attrs.real("low"), high = c.attrs.real("high");
  if (!(low <= high)) c.value_error("low " + std::to_string(low) + " is not below high " + std::to_string(high));
  infer_unary(c);
}

void need_number(InferCtx& c) {  // what has arithmetic: u8 stores, bool is logical
  if (DType t = c.dtype(0); t == u8 || t == boolean)
    c.dtype_error(c.op.operand_name(0) + " must be a float, i32 or i64, got " + std::string(name_of(t)),
                  t == u8 ? "cast it first" : "cast it first, or use logical_and, logical_or, logical_not");
}
void infer_unary_signed(InferCtx& c) {  // also integers
  need_number(c);
  c.out(c.shape(0), c.dtype(0));
}

Shape broadcast(InferCtx& c) {
  Shape s = c.shape(0);
  for (int i = 1; i < c.n(); ++i) {
    if (!broadcastable_to(s, c.shape(i)) && !broadcastable_to(c.shape(i), s)) {
      try {
        s = broadcast_shapes(s, c.shape(i));
        continue;
      } catch (const ShapeError&) {
        c.shape_error("cannot broadcast " + s.str() + " with " + c.shape(i).str());
      }
    }
    s = broadcast_shapes(s, c.shape(i));
  }
  return s;
}

void infer_binary(InferCtx& c) {
  c.need_same_dtype(0, 1);
  need_number(c);
  c.out(broadcast(c), c.dtype(0));
}
void infer_binary_float(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  c.out(broadcast(c), c.dtype(0));
}
void infer_compare(InferCtx& c) {
  c.need_same_dtype(0, 1);
  c.out(broadcast(c), boolean);
}
void infer_logical(InferCtx& c) {
  for (int i = 0; i < c.n(); ++i)
    if (c.dtype(i) != boolean)
      c.dtype_error(c.op.operand_name(i) + " must be bool, got " + std::string(name_of(c.dtype(i))),
                    "compare it with 0");
  c.out(broadcast(c), boolean);
}
void infer_where(InferCtx& c) {
  if (c.dtype(0) != boolean && c.dtype(0) != u8)
    c.dtype_error("condition must be bool or u8, got " + std::string(name_of(c.dtype(0))));
  c.need_same_dtype(1, 2);
  c.out(broadcast(c), c.dtype(1));
}
void infer_cast(InferCtx& c) { c.out(c.shape(0), c.attrs.dtype("dtype")); }

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr Traits kElementwise{.batched_sweep = true};
constexpr Traits kPredicate{.nondifferentiable = true};
constexpr Traits kBackward{.batched_sweep = true, .backward = true};

// ---- samples ------------------------------------------------------------------------------------------------------

template <int LOW, int HIGH, int GAP = 0> std::vector<Sample> unary_samples() {  // in tenths
  auto in = [](Shape s) { return SampleInput{.shape = s, .low = LOW / 10.0, .high = HIGH / 10.0, .gap = GAP / 10.0}; };
  return {
      {{in({3, 5})}, {}, "matrix"}, {{in({})}, {}, "scalar"}, {{in({2, 0, 3})}, {}, "empty"}, {{in({67})}, {}, "odd"}};
}
template <int LOW = -20, int HIGH = 20, int GAP = 0> std::vector<Sample> binary_samples() {
  auto in = [](Shape s) { return SampleInput{.shape = s, .low = LOW / 10.0, .high = HIGH / 10.0, .gap = GAP / 10.0}; };
  return {{{in({3, 5}), in({3, 5})}, {}, "same"},  {{in({3, 5}), in({5})}, {}, "row"},
          {{in({3, 1}), in({1, 5})}, {}, "outer"}, {{in({}), in({2, 3})}, {}, "scalar"},
          {{in({2, 0}), in({1, 1})}, {}, "empty"}, {{in({33}), in({33})}, {}, "odd"}};
}
std::vector<ErrorSample> unary_errors() { return {{{{{2}, i32}}, {}, "must be floating point"}}; }
std::vector<ErrorSample> clamp_errors() {
  return {{{{{2}, i32}}, {{"low", 0.0}, {"high", 1.0}}, "must be floating point"},
          {{{{2}, f32}}, {{"low", 1.0}, {"high", 0.0}}, "is not below high"}};
}
std::vector<ErrorSample> binary_errors() {
  return {{{{{2, 3}, f32}, {{4}, f32}}, {}, "cannot broadcast"}, {{{{2}, f32}, {{2}, f64}}, {}, "dtypes differ"}};
}
std::vector<ErrorSample> no_errors() { return {}; }

#define UNARY(NAME, DOC, SAMPLES, VJP)               \
  REGISTER_OP(NAME) = {                              \
      .doc = DOC,                                    \
      .operands = {"x"},                             \
      .infer = infer_unary,                          \
      .vjp =                                         \
          [](SweepCtx& c) {                          \
            Var x = c.in(), y = c.out(), dy = c.d(); \
            (void)x;                                 \
            (void)y;                                 \
            c.give(0, VJP);                          \
          },                                         \
      .relevance = lrp::identity,                    \
      .scalar = NAME##_row,                          \
      .samples = SAMPLES,                            \
      .errors = unary_errors,                        \
      .traits = kElementwise,                        \
  }

}  // namespace

// ---- derivatives that are one pass: fused with their definition ---------------------------------------------------

static Var zeros_like(Var x) { return x.graph().constant(0.0, x.dtype()); }

#define DERIVATIVE(NAME, FIRST, SAMPLES, BODY)                                      \
  REGISTER_OP(NAME) = {                                                             \
      .doc = "Derivative of " #NAME " (without d_) times dy, in one pass.",         \
      .operands = {FIRST, "dy"},                                                    \
      .infer = infer_binary_float,                                                  \
      .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> { \
        Var x = in[0], dy = in[1];                                                  \
        (void)attrs;                                                                \
        return {BODY};                                                              \
      },                                                                            \
      .scalar = NAME##_row,                                                         \
      .samples = SAMPLES,                                                           \
      .errors = binary_errors,                                                      \
      .traits = kBackward,                                                          \
  }

static std::vector<Sample> with(std::vector<Sample> samples, const Attrs& attrs) {
  for (Sample& s : samples) s.attrs = attrs;
  return samples;
}

DERIVATIVE(d_tanh, "y", (binary_samples<-9, 9>), dy*(1.0 - x * x));
DERIVATIVE(d_sigmoid, "y", (binary_samples<1, 9>), dy* x*(1.0 - x));
DERIVATIVE(d_relu, "x", (binary_samples<-20, 20, 2>), where(less_equal(x, 0.0), zeros_like(dy), dy));
DERIVATIVE(
    d_leaky_relu, "x",
    [] {
      return with(binary_samples<-20, 20, 2>(), {{"slope", 0.1}});
    },
    where(greater(x, 0.0), dy, dy* attrs.real("slope")));
DERIVATIVE(
    d_clamp, "x",
    [] {
      return with(binary_samples<-20, 20>(), {{"low", -1.05}, {"high", 0.95}});
    },
    where(logical_and(greater_equal(x, attrs.real("low")), less_equal(x, attrs.real("high"))), dy, zeros_like(dy)));
// Phi(x) + x phi(x)
DERIVATIVE(d_gelu, "x", binary_samples<>,
           dy*(0.5 * (1.0 + erf(x * 0.70710678118654752440)) + x * 0.39894228040143267794 * exp(x * x * -0.5)));
static Var d_gelu_tanh_body(Var x, Var dy) {
  const double c = 0.79788456080286535588, a = 0.044715;  // sqrt(2 / pi)
  Var t = tanh((x + x * x * x * a) * c);
  return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * (c * (1.0 + 3.0 * a * x * x)));
}
DERIVATIVE(d_gelu_tanh, "x", binary_samples<>, d_gelu_tanh_body(x, dy));
static Var d_silu_body(Var x, Var dy) {
  Var s = sigmoid(x);
  return dy * s * (1.0 + x * (1.0 - s));
}
DERIVATIVE(d_silu, "x", binary_samples<>, d_silu_body(x, dy));

static Var d1(const OpDef& op, Var x, Var dy, Attrs attrs = {}) { return record(op, {x, dy}, std::move(attrs)); }

// Outside the domain of a function, where its value y is NaN, a cotangent of zero passes nothing: a branch that where
// does not select.
static Var inside_domain(Var y, Var dy, Var dx) { return where(logical_and(equal(dy, 0.0), not_equal(y, y)), 0.0, dx); }

// ---- unary --------------------------------------------------------------------------------------------------------

UNARY(exp, "e^x", (unary_samples<-20, 20>), dy* y);
UNARY(expm1, "e^x - 1, accurate near 0", (unary_samples<-20, 20>), dy*(y + 1.0));
UNARY(log, "natural logarithm", (unary_samples<2, 30>), dy / x);
UNARY(log1p, "log(1 + x), accurate near 0", (unary_samples<-5, 30>), dy / (x + 1.0));
UNARY(sqrt, "square root", (unary_samples<2, 30>), inside_domain(y, dy, dy * 0.5 / y));
UNARY(rsqrt, "1 / sqrt(x)", (unary_samples<2, 30>), inside_domain(y, dy, dy * -0.5 * y * y * y));
UNARY(reciprocal, "1 / x", (unary_samples<-20, 20, 4>), -(dy* y* y));
UNARY(sin, "sine", (unary_samples<-30, 30>), dy* cos(x));
UNARY(cos, "cosine", (unary_samples<-30, 30>), -(dy* sin(x)));
UNARY(tanh, "hyperbolic tangent", (unary_samples<-20, 20>), d1(d_tanh_op, y, dy));
UNARY(sigmoid, "1 / (1 + e^-x)", (unary_samples<-20, 20>), d1(d_sigmoid_op, y, dy));
UNARY(erf, "error function", (unary_samples<-20, 20>), dy*(exp(-(x* x)) * 1.12837916709551257390));
UNARY(relu, "max(x, 0)", (unary_samples<-20, 20, 2>), d1(d_relu_op, x, dy));
UNARY(gelu, "x Phi(x), exact", (unary_samples<-20, 20>), d1(d_gelu_op, x, dy));
UNARY(gelu_tanh, "x Phi(x), tanh approximation", (unary_samples<-20, 20>), d1(d_gelu_tanh_op, x, dy));
UNARY(silu, "x sigmoid(x)", (unary_samples<-20, 20>), d1(d_silu_op, x, dy));
UNARY(log_sigmoid, "log sigmoid(x)", (unary_samples<-20, 20>), dy* sigmoid(-x));

#define UNARY_WITH(NAME, DOC, INFER, SAMPLES, ERRORS, TRAITS, VJP) \
  REGISTER_OP(NAME) = {                                            \
      .doc = DOC,                                                  \
      .operands = {"x"},                                           \
      .infer = INFER,                                              \
      .vjp = VJP,                                                  \
      .relevance = lrp::identity,                                  \
      .scalar = NAME##_row,                                        \
      .samples = SAMPLES,                                          \
      .errors = ERRORS,                                            \
      .traits = TRAITS,                                            \
  }

UNARY_WITH(neg, "-x", infer_unary_signed, (unary_samples<-20, 20>), no_errors, kElementwise,
           [](SweepCtx& c) { c.give(0, -c.d()); });
UNARY_WITH(abs, "|x|", infer_unary_signed, (unary_samples<-20, 20, 2>), no_errors, kElementwise,
           [](SweepCtx& c) { c.give(0, c.d() * sign(c.in())); });
UNARY_WITH(square, "x^2", infer_unary_signed, (unary_samples<-20, 20>), no_errors, kElementwise,
           [](SweepCtx& c) { c.give(0, c.d() * (c.in() * 2.0)); });
UNARY_WITH(
    leaky_relu, "x for x > 0, else slope x", infer_unary,
    [] {
      return with(unary_samples<-20, 20, 2>(), {{"slope", 0.1}});
    },
    unary_errors, kElementwise, [](SweepCtx& c) { c.give(0, d1(d_leaky_relu_op, c.in(), c.d(), c.attrs)); });
UNARY_WITH(
    clamp, "x held to [low, high]", infer_clamp,
    [] {
      return with(unary_samples<-20, 20>(), {{"low", -1.05}, {"high", 0.95}});
    },
    clamp_errors, kElementwise, [](SweepCtx& c) { c.give(0, d1(d_clamp_op, c.in(), c.d(), c.attrs)); });
UNARY_WITH(
    softplus, "log(1 + e^(beta x)) / beta", infer_unary,
    [] {
      return with(unary_samples<-20, 20>(), {{"beta", 1.0}});
    },
    unary_errors, kElementwise, [](SweepCtx& c) { c.give(0, c.d() * sigmoid(c.in() * c.attrs.real("beta"))); });

#define STEP(NAME, DOC)                  \
  REGISTER_OP(NAME) = {                  \
      .doc = DOC,                        \
      .operands = {"x"},                 \
      .infer = infer_unary,              \
      .scalar = NAME##_row,              \
      .samples = unary_samples<-20, 20>, \
      .errors = unary_errors,            \
      .traits = kPredicate,              \
  }
STEP(floor, "largest integer not above x; gradient and relevance end here");
STEP(round, "nearest integer, halves to even; gradient and relevance end here");
STEP(sign, "-1, 0 or 1; gradient and relevance end here");

REGISTER_OP(cast) = {
    .doc = "x as another dtype (rounds to nearest even)",
    .operands = {"x"},
    .infer = infer_cast,
    .vjp = [](SweepCtx& c) { c.give(0, is_float(c.in().dtype()) ? cast(c.d(), c.in().dtype()) : c.d()); },
    .relevance = [](SweepCtx& c) { c.give(0, is_float(c.in().dtype()) ? cast(c.d(), c.in().dtype()) : c.d()); },
    .scalar = cast_row,
    .samples =
        [] {
          return with(unary_samples<-20, 20>(), {{"dtype", f64}});
        },
    .errors = no_errors,
    .traits = {.batched_sweep = true},
};

// ---- binary -------------------------------------------------------------------------------------------------------

namespace {

// y = a + s b, s = +1 or -1. Rules: epsilon (default), "abs" (DynamicLRP), "pass" (non-carriers take nothing).
//
// The terms of y and y itself as the rules see them. Where nothing arrives they are zero: a mask of -inf or -1e9
// (before a softmax) would drown its whole row in the stabiliser, and zero times infinity would stand in the ledger.
struct SumTerms {
  Var r, a, b, y, z;  // z: y under the stabiliser
  template <int S> static SumTerms of(const SweepCtx& c) {
    SumTerms s{c.d(), c.in(0), S > 0 ? c.in(1) : -c.in(1), c.out(), c.out()};
    Var silent = equal(s.r, 0.0), zero = c.graph.constant(0.0, s.r.dtype());
    for (Var* term : {&s.y, &s.a, &s.b}) *term = where(silent, zero, *term);
    if (s.z.rank() > 1) s.z = s.y;  // the elements of a vector are rows of their own, and a target axis would join them
    return s;
  }
  Var operator[](int i) const { return i ? b : a; }
  /// |a| / (|a| + |b|), and so for b; 0/0 splits in halves.
  Var ratio(int i) const {
    Var total = abs(a) + abs(b), even = equal(total, 0.0);
    return where(even, 0.5, abs((*this)[i]) / where(even, 1.0, total));
  }
};

template <int S> void relevance_sum(SweepCtx& c) {
  const std::string& variant = c.rule().variant;
  bool pass = variant == "pass" && c.carriers() == 1, ratio = variant == "abs";
  SumTerms s = SumTerms::of<S>(c);
  Var t = pass || ratio ? s.r : c.stabilised_share(s.r, s.z, 1.0);
  for (int i : {0, 1}) {
    if (!c.needs(i) || (pass && !c.carries(i))) continue;
    c.give(i, c.reduce_to(pass ? t : t * (ratio ? s.ratio(i) : s[i]), i));
  }
}

// What an operand without data (bias, constant) takes, and what the stabiliser holds back.
template <int S> void absorbed_sum(SweepCtx& c) {
  const std::string& variant = c.rule().variant;
  if (variant == "pass" && c.carriers() == 1) return;
  bool ratio = variant == "abs";
  SumTerms s = SumTerms::of<S>(c);
  Var t = ratio ? s.r : c.stabilised_share(s.r, s.z, 1.0);
  for (int i : {0, 1})
    if (!c.carries(i)) c.absorb("bias", t * (ratio ? s.ratio(i) : s[i]));
  if (!ratio) c.absorb("stabiliser", s.r - t * s.y);
}

// Uniform over the data operands; a parameter or constant factor takes nothing. "abs": DynamicLRP's ratio. "first",
// "second": the other operand is a gate and takes nothing.
void relevance_mul(SweepCtx& c) {
  Var r = c.d();
  const std::string& v = c.rule().variant;
  bool both = c.carries(0) && c.carries(1);
  if (both && v == "abs") {
    Var a = abs(c.in(0)), b = abs(c.in(1)), total = a + b;
    Var even = equal(total, 0.0);
    Var safe = where(even, c.graph.constant(1.0, r.dtype()), total);
    Var half = c.graph.constant(0.5, r.dtype());
    c.give(0, c.reduce_to(r * where(even, half, a / safe), 0));
    c.give(1, c.reduce_to(r * where(even, half, b / safe), 1));
    return;
  }
  if (both && (v == "first" || v == "second")) {
    int i = v == "second";
    c.give(i, c.reduce_to(r, i));
    return;
  }
  for (int i : {0, 1})
    if (c.needs(i)) c.give(i, c.reduce_to(both ? r * 0.5 : r, i));
}

// a / b: the denominator is a normaliser and takes nothing, unless it alone carries.
void relevance_div(SweepCtx& c) {
  Var r = c.d();
  if (c.rule().variant == "abs" && c.carries(0) && c.carries(1)) {
    Var a = abs(c.in(0)), b = abs(reciprocal(c.in(1))), total = a + b;
    Var silent = equal(r, 0.0);  // b may be 0 there
    c.give(0, c.reduce_to(where(silent, 0.0, r * (a / total)), 0));
    c.give(1, c.reduce_to(where(silent, 0.0, r * (b / total)), 1));
    return;
  }
  int i = c.carries(1) && !c.carries(0) ? 1 : 0;
  c.give(i, c.reduce_to(r, i));
}

// What reaches a and b: d e^a / (e^a + e^b) and d e^b / (e^a + e^b); nothing where both are -inf. The same for
// relevance: identity through exp and log, the epsilon rule over the sum of exponentials.
std::array<Var, 2> parts_of_logaddexp(SweepCtx& c) {
  Var a = c.in(0), b = c.in(1), apart = a - b,
      level = logical_and(equal(a, b), not_equal(apart, 0.0));  // both infinite
  Var d = where(equal(c.out(), -kInf), 0.0, c.d()), first = d * sigmoid(where(level, 0.0, apart));
  return {first, d - first};
}
void sweep_logaddexp(SweepCtx& c) {
  std::array<Var, 2> parts = parts_of_logaddexp(c);
  for (int i : {0, 1})
    if (c.needs(i)) c.give(i, c.reduce_to(parts[size_t(i)], i));
}
void absorbed_logaddexp(SweepCtx& c) {
  std::array<Var, 2> parts = parts_of_logaddexp(c);
  for (int i : {0, 1})
    if (!c.carries(i)) c.absorb("constant", parts[size_t(i)]);
  c.absorb("zero output", where(equal(c.out(), -kInf), c.d(), 0.0));
}

// The selected operand takes all.
void to_winner(SweepCtx& c, Var first_wins) {
  Var d = c.d(), zero = c.graph.constant(0.0, d.dtype());
  if (c.needs(0)) c.give(0, c.reduce_to(where(first_wins, d, zero), 0));
  if (c.needs(1)) c.give(1, c.reduce_to(where(first_wins, zero, d), 1));
}
void absorbed_winner(SweepCtx& c, Var first_wins) {
  Var d = c.d(), zero = c.graph.constant(0.0, d.dtype());
  if (!c.carries(0)) c.absorb("constant", where(first_wins, d, zero));
  if (!c.carries(1)) c.absorb("constant", where(first_wins, zero, d));
}

}  // namespace

using Variants = std::vector<std::string>;

#define BINARY(NAME, DOC, INFER, SAMPLES, VJP, RELEVANCE, ABSORBED, VARIANTS) \
  REGISTER_OP(NAME) = {                                                       \
      .doc = DOC,                                                             \
      .operands = {"a", "b"},                                                 \
      .infer = INFER,                                                         \
      .vjp = VJP,                                                             \
      .relevance = RELEVANCE,                                                 \
      .absorbed = ABSORBED,                                                   \
      .variants = VARIANTS,                                                   \
      .scalar = NAME##_row,                                                   \
      .samples = SAMPLES,                                                     \
      .errors = binary_errors,                                                \
      .traits = kElementwise,                                                 \
  }

BINARY(
    add, "a + b", infer_binary, binary_samples<>,
    [](SweepCtx& c) {
      for (int i : {0, 1})
        if (c.needs(i)) c.give(i, c.reduce_to(c.d(), i));
    },
    relevance_sum<1>, absorbed_sum<1>, (Variants{"abs", "pass"}));
BINARY(
    sub, "a - b", infer_binary, binary_samples<>,
    [](SweepCtx& c) {
      if (c.needs(0)) c.give(0, c.reduce_to(c.d(), 0));
      if (c.needs(1)) c.give(1, c.reduce_to(-c.d(), 1));
    },
    relevance_sum<-1>, absorbed_sum<-1>, (Variants{"abs", "pass"}));
BINARY(
    mul, "a b", infer_binary, binary_samples<>,
    [](SweepCtx& c) {
      if (c.needs(0)) c.give(0, c.reduce_to(c.d() * c.in(1), 0));
      if (c.needs(1)) c.give(1, c.reduce_to(c.d() * c.in(0), 1));
    },
    relevance_mul, nullptr, (Variants{"abs", "first", "second"}));
BINARY(
    div, "a / b", infer_binary_float, (binary_samples<-20, 20, 5>),
    [](SweepCtx& c) {
      if (c.needs(0)) c.give(0, c.reduce_to(c.d() / c.in(1), 0));
      if (c.needs(1)) c.give(1, c.reduce_to(-(c.d() * c.out() / c.in(1)), 1));
    },
    relevance_div, nullptr, Variants{"abs"});
BINARY(
    pow, "a^b", infer_binary_float, (binary_samples<3, 20>),
    [](SweepCtx& c) {
      Var a = c.in(0);
      Var b = c.in(1);
      // a^0 is the constant 1, and 0^b the constant 0 for b > 0 and, by convention, where b is 0.
      if (c.needs(0)) {
        Var slope = inside_domain(c.out(), c.d(), c.d() * (b * pow(a, b - 1.0)));
        c.give(0, c.reduce_to(where(equal(b, 0.0), 0.0, slope), 0));
      }
      if (c.needs(1)) {
        Var flat = logical_and(equal(a, 0.0), greater_equal(b, 0.0));
        c.give(1, c.reduce_to(where(flat, 0.0, c.d() * (c.out() * log(a))), 1));
      }
    },
    relevance_div, nullptr, Variants{});
BINARY(logaddexp, "log(e^a + e^b), without overflow", infer_binary_float, (binary_samples<-20, 20>), sweep_logaddexp,
       sweep_logaddexp, absorbed_logaddexp, Variants{});
BINARY(
    maximum, "the larger; the first of equals takes gradient and relevance", infer_binary, binary_samples<>,
    [](SweepCtx& c) { to_winner(c, greater_equal(c.in(0), c.in(1))); },
    [](SweepCtx& c) { to_winner(c, greater_equal(c.in(0), c.in(1))); },
    [](SweepCtx& c) { absorbed_winner(c, greater_equal(c.in(0), c.in(1))); }, Variants{});
BINARY(
    minimum, "the smaller; the first of equals takes gradient and relevance", infer_binary, binary_samples<>,
    [](SweepCtx& c) { to_winner(c, less_equal(c.in(0), c.in(1))); },
    [](SweepCtx& c) { to_winner(c, less_equal(c.in(0), c.in(1))); },
    [](SweepCtx& c) { absorbed_winner(c, less_equal(c.in(0), c.in(1))); }, Variants{});

REGISTER_OP(where) = {
    .doc = "condition ? a : b; the selected operand takes gradient and relevance",
    .operands = {"condition", "a", "b"},
    .infer = infer_where,
    .vjp =
        [](SweepCtx& c) {
          Var d = c.d(), zero = c.graph.constant(0.0, d.dtype());
          if (c.needs(1)) c.give(1, c.reduce_to(where(c.in(0), d, zero), 1));
          if (c.needs(2)) c.give(2, c.reduce_to(where(c.in(0), zero, d), 2));
        },
    .relevance = lrp::reindex,
    .absorbed =
        [](SweepCtx& c) {
          Var d = c.d(), zero = c.graph.constant(0.0, d.dtype());
          if (!c.carries(1)) c.absorb("constant", where(c.in(0), d, zero));
          if (!c.carries(2)) c.absorb("constant", where(c.in(0), zero, d));
        },
    .scalar = where_row,
    .samples =
        [] {
          auto bits = [](Shape s) { return SampleInput{.shape = s, .dtype = boolean, .low = 0, .high = 2}; };
          return std::vector<Sample>{{{bits({3, 5}), {.shape = {3, 5}}, {.shape = {3, 5}}}, {}, "same"},
                                     {{bits({3, 1}), {.shape = {5}}, {.shape = {}}}, {}, "broadcast"},
                                     {{bits({0}), {.shape = {0}}, {.shape = {1}}}, {}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, f32}, {{2}, f32}, {{2}, f32}}, {}, "condition must be bool"}};
        },
    .traits = {.batched_sweep = true, .sinks = 1},
};

// ---- predicates ---------------------------------------------------------------------------------------------------

#define COMPARE(NAME, DOC)         \
  REGISTER_OP(NAME) = {            \
      .doc = DOC,                  \
      .operands = {"a", "b"},      \
      .infer = infer_compare,      \
      .scalar = NAME##_row,        \
      .samples = binary_samples<>, \
      .errors = binary_errors,     \
      .traits = kPredicate,        \
  }
COMPARE(less, "a < b, boolean");
COMPARE(less_equal, "a <= b, boolean");
COMPARE(greater, "a > b, boolean");
COMPARE(greater_equal, "a >= b, boolean");
COMPARE(equal, "a == b, boolean");
COMPARE(not_equal, "a != b, boolean");

static std::vector<Sample> logical_samples(int n) {
  SampleInput bits{.shape = {3, 5}, .dtype = boolean, .low = 0, .high = 2};
  return {{std::vector<SampleInput>(size_t(n), bits), {}, "matrix"}};
}
#define LOGICAL(NAME, DOC, N, ...)                                                                                   \
  REGISTER_OP(NAME) = {                                                                                              \
      .doc = DOC,                                                                                                    \
      .operands = {__VA_ARGS__},                                                                                     \
      .infer = infer_logical,                                                                                        \
      .scalar = NAME##_row,                                                                                          \
      .samples = [] { return logical_samples(N); },                                                                  \
      .errors =                                                                                                      \
          [] {                                                                                                       \
            return std::vector<ErrorSample>{{std::vector<TensorType>(N, TensorType{{2}, f32}), {}, "must be bool"}}; \
          },                                                                                                         \
      .traits = kPredicate,                                                                                          \
  }
LOGICAL(logical_and, "both", 2, "a", "b");
LOGICAL(logical_or, "either", 2, "a", "b");
LOGICAL(logical_not, "not a", 1, "a");

// ---- the public functions -----------------------------------------------------------------------------------------

// clang-format off
#define UNARY_FUNCTION(NAME) \
  Var NAME(Arg x) { return record(NAME##_op, {x}); }
UNARY_FUNCTION(neg)
UNARY_FUNCTION(abs)
UNARY_FUNCTION(sign)
UNARY_FUNCTION(exp)
UNARY_FUNCTION(expm1)
UNARY_FUNCTION(log)
UNARY_FUNCTION(log1p)
UNARY_FUNCTION(sqrt)
UNARY_FUNCTION(rsqrt)
UNARY_FUNCTION(reciprocal)
UNARY_FUNCTION(square)
UNARY_FUNCTION(sin)
UNARY_FUNCTION(cos)
UNARY_FUNCTION(tanh)
UNARY_FUNCTION(sigmoid)
UNARY_FUNCTION(erf)
UNARY_FUNCTION(relu)
UNARY_FUNCTION(gelu)
UNARY_FUNCTION(gelu_tanh)
UNARY_FUNCTION(silu)
UNARY_FUNCTION(log_sigmoid)
UNARY_FUNCTION(floor)
UNARY_FUNCTION(round)
UNARY_FUNCTION(logical_not)
// clang-format on

Var leaky_relu(Arg x, double slope) { return record(leaky_relu_op, {x}, {{"slope", slope}}); }
Var softplus(Arg x) { return record(softplus_op, {x}, {{"beta", 1.0}}); }
Var clamp(Arg x, double low, double high) { return record(clamp_op, {x}, {{"low", low}, {"high", high}}); }
Var cast(Arg x, DType dtype) { return x.dtype() == dtype ? x.var : record(cast_op, {x}, {{"dtype", dtype}}); }
Var widened(Arg x) { return cast(x, accumulate_dtype(x.dtype())); }

// clang-format off
#define BINARY_FUNCTION(NAME) \
  Var NAME(Arg a, Arg b) { return record(NAME##_op, {a, b}); }
BINARY_FUNCTION(add)
BINARY_FUNCTION(sub)
BINARY_FUNCTION(mul)
BINARY_FUNCTION(div)
BINARY_FUNCTION(maximum)
BINARY_FUNCTION(minimum)
BINARY_FUNCTION(logaddexp)
BINARY_FUNCTION(pow)
BINARY_FUNCTION(less)
BINARY_FUNCTION(less_equal)
BINARY_FUNCTION(greater)
BINARY_FUNCTION(greater_equal)
BINARY_FUNCTION(equal)
BINARY_FUNCTION(not_equal)
BINARY_FUNCTION(logical_and)
BINARY_FUNCTION(logical_or)
// clang-format on

Var where(Arg condition, Arg a, Arg b) {
  // Numbers take the dtype of the other branch, not of the condition.
  Graph& g = condition.graph();
  LocationGuard at(condition);
  DType t = !a.is_number() ? a.dtype() : !b.is_number() ? b.dtype() : f32;
  return record(where_op, {condition, a.in(g, t), b.in(g, t)});
}

Var operator+(Arg a, Arg b) { return add(a, b); }
Var operator-(Arg a, Arg b) { return sub(a, b); }
Var operator*(Arg a, Arg b) { return mul(a, b); }
Var operator/(Arg a, Arg b) { return div(a, b); }
Var operator-(Arg a) { return neg(a); }
Var operator<(Arg a, Arg b) { return less(a, b); }
Var operator<=(Arg a, Arg b) { return less_equal(a, b); }
Var operator>(Arg a, Arg b) { return greater(a, b); }
Var operator>=(Arg a, Arg b) { return greater_equal(a, b); }
Var operator==(Arg a, Arg b) { return equal(a, b); }
Var operator!=(Arg a, Arg b) { return not_equal(a, b); }

}  // namespace whence
