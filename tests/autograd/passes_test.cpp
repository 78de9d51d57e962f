// The reverse sweep: fan-in, seeds, markers, missing rules, higher orders, several targets.
#include "whence/autograd/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/ops/ops.h"

using namespace whence;
using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

namespace {

using Doubles = std::vector<double>;

Var data(Graph& g, const char* name, const Doubles& v) { return g.input(name, Tensor::from(v)); }
Doubles values(Var v) { return v.value().to_vector<double>(); }

MATCHER_P(NearTo, want, "") {
  Doubles w = want;
  if (arg.size() != w.size()) return false;
  for (size_t i = 0; i < w.size(); ++i)
    if (!(std::abs(arg[i] - w[i]) <= 1e-12 * (1 + std::abs(w[i])))) return false;
  return true;
}

lrp::RuleSet no_stabiliser() {
  lrp::Rule r;
  r.eps = 0;
  return lrp::RuleSet("exact", r);
}

struct Immediate : testing::Test {
  Graph g{Graph::Mode::immediate};
};
using Gradient = Immediate;
using Relevance = Immediate;

}  // namespace

TEST_F(Gradient, FanInAddsEveryTerm) {
  Var x = data(g, "x", {1, 2, 3});
  EXPECT_THAT(values(grad(sum(x + x + x), x)), NearTo(Doubles{3, 3, 3}));
  EXPECT_THAT(values(grad(sum(x * x * x), x)), NearTo(Doubles{3, 12, 27}));
  Var y = x;
  for (int i = 0; i < 6; ++i) y = y + y;  // 64 paths
  EXPECT_THAT(values(grad(sum(y), x)), NearTo(Doubles{64, 64, 64}));
}

TEST_F(Gradient, SeedsScaleAndRootsAdd) {
  Var x = data(g, "x", {1, 2}), y = square(x), z = x * 3.0;
  Var u = g.constant(Tensor::from<double>({10, 100}));
  EXPECT_THAT(values(grad(y, x, u)), NearTo(Doubles{20, 400}));
  auto both = sweep(std::vector{y, z}, std::vector{u, u}, std::vector{x}, {.kind = PassKind::gradient});
  EXPECT_THAT(values(both[0]), NearTo(Doubles{50, 700}));
  auto same = sweep(std::vector{y, y}, std::vector{u, u}, std::vector{x}, {.kind = PassKind::gradient});
  EXPECT_THAT(values(same[0]), NearTo(Doubles{40, 800}));
}

TEST_F(Gradient, OfTheRootItselfAndOfInnerValues) {
  Var x = data(g, "x", {1, 2}), y = square(x), s = sum(y);
  EXPECT_THAT(values(grad(s, s)), NearTo(Doubles{1}));
  EXPECT_THAT(values(grad(s, y)), NearTo(Doubles{1, 1}));
  auto many = grad(s, std::vector{y, x, y});
  EXPECT_THAT(values(many[1]), NearTo(Doubles{2, 4}));
  EXPECT_THAT(values(many[2]), NearTo(Doubles{1, 1}));
}

TEST_F(Gradient, UnreachedValuesGetZeros) {
  Var x = data(g, "x", {1, 2}), other = g.input("other", Tensor::from<float>({1, 2, 3}));
  Var d = grad(sum(x), other);
  EXPECT_EQ(d.dtype(), f32);
  EXPECT_THAT(values(d), NearTo(Doubles{0, 0, 0}));
  EXPECT_THAT(values(grad(sum(floor(x)), x)), NearTo(Doubles{0, 0}));
}

TEST_F(Gradient, ErrorsSayWhatIsWrong) {
  Var x = data(g, "x", {1, 2});
  try {
    grad(x, x);
    FAIL();
  } catch (const ShapeError& e) {
    EXPECT_THAT(e.what(), HasSubstr("grad needs a scalar, got [2]"));
  }
  try {
    grad(x, x, g.constant(Tensor::zeros({3}, f64)));
    FAIL();
  } catch (const ShapeError& e) {
    EXPECT_THAT(e.what(), HasSubstr("the seed has shape [3], the root needs [2]"));
  }
  EXPECT_THROW(sweep({}, {}, std::vector{x}, {}), ValueError);
  EXPECT_THROW(sweep(std::vector{x}, {}, std::vector{x}, {}), ValueError);
}

TEST_F(Gradient, OfAGradient) {
  Var x = data(g, "x", {0.3, -0.7, 1.1});
  Var first = grad(sum(x * x * x * x), x), second = grad(sum(first), x), third = grad(sum(second), x);
  Doubles v = values(x), d2, d3;
  for (double t : v) d2.push_back(12 * t * t), d3.push_back(24 * t);
  EXPECT_THAT(values(second), NearTo(d2));
  EXPECT_THAT(values(third), NearTo(d3));
}

TEST_F(Gradient, HessianVectorProduct) {
  // f = sum(tanh(x)^2): f' = 2 t (1 - t^2), f'' = 2 (1 - t^2)(1 - 3 t^2)
  Var x = data(g, "x", {0.3, -0.7}), v = g.constant(Tensor::from<double>({2, -1}));
  Var hv = grad(sum(grad(sum(square(tanh(x))), x) * v), x);
  Doubles want;
  for (size_t i = 0; i < 2; ++i) {
    double t = std::tanh(values(x)[i]);
    want.push_back(2 * (1 - t * t) * (1 - 3 * t * t) * values(v)[i]);
  }
  EXPECT_THAT(values(hv), NearTo(want));
}

TEST_F(Gradient, OfRelevance) {
  // With eps = 0, R_x = x w z / (x w + b) for the seed z, so dR/dw is known.
  Var x = data(g, "x", {1.5, -2}), w = data(g, "w", {0.7, 0.4}), b = data(g, "b", {0.2, 0.3});
  Var y = x * stop_relevance(w) + stop_relevance(b);
  Var seed = g.constant(Tensor::from<double>({1, 1}));
  Var R = relevance(y, x, no_stabiliser(), seed);
  Doubles want;
  for (size_t i = 0; i < 2; ++i) {
    double z = values(x)[i] * values(w)[i], bi = values(b)[i];
    want.push_back(values(x)[i] * bi / ((z + bi) * (z + bi)));
  }
  EXPECT_THAT(values(grad(sum(R), w)), NearTo(want));
}

TEST_F(Gradient, StopGradientIsAnIdentityForRelevance) {
  Var x = data(g, "x", {1, 2});
  Var y = square(stop_gradient(x)) + x;
  EXPECT_THAT(values(y), NearTo(Doubles{2, 6}));
  EXPECT_THAT(values(grad(sum(y), x)), NearTo(Doubles{1, 1}));
  EXPECT_THAT(values(relevance(stop_gradient(x), x, no_stabiliser(), g.constant(Tensor::from<double>({3, 4})))),
              NearTo(Doubles{3, 4}));
}

TEST_F(Relevance, StopRelevanceIsAnIdentityForGradients) {
  Var x = data(g, "x", {1, 2}), gate = sigmoid(x);
  Var y = x * stop_relevance(gate), open = x * gate;
  EXPECT_THAT(values(y), NearTo(values(open)));
  EXPECT_THAT(values(grad(sum(y), x)), NearTo(values(grad(sum(open), x))));
  Var seed = g.constant(Tensor::from<double>({3, 5}));
  EXPECT_THAT(values(relevance(y, x, no_stabiliser(), seed)), NearTo(Doubles{3, 5}));  // the value path takes all
  EXPECT_THAT(values(relevance(open, gate, no_stabiliser(), seed)), NearTo(Doubles{1.5, 2.5}));
}

TEST_F(Relevance, ReachedTwiceAddsTwice) {  // D26
  Var x = data(g, "x", {0.5, -1.5});
  Var seed = g.constant(Tensor::from<double>({1, 1}));
  EXPECT_THAT(values(relevance(x * exp(x), x, no_stabiliser(), seed)), NearTo(Doubles{1, 1}));
  EXPECT_THAT(values(relevance(x + square(x), x, no_stabiliser(), seed)), NearTo(Doubles{1, 1}));
}

TEST_F(Relevance, TheSeedDefaultsToTheValue) {
  Var x = data(g, "x", {2, 3});
  EXPECT_THAT(values(relevance(sum(x), x, no_stabiliser())), NearTo(Doubles{2, 3}));
}

TEST_F(Relevance, AConstantTakesItsShare) {  // D1: h - 1 must not lose half
  Var x = data(g, "x", {4, 5}), seed = g.constant(Tensor::from<double>({1, 1}));
  EXPECT_THAT(values(relevance(x - 1.0, x, no_stabiliser(), seed)), NearTo(Doubles{4.0 / 3, 5.0 / 4}));
}

TEST_F(Relevance, ParametersAndMasksCarryNothing) {
  Var x = data(g, "x", {1, 2}), w = g.parameter("w", Tensor::from<double>({3, 4}));
  Var mask = g.input("mask", Tensor::from<double>({5, 6}), {.carries = false});
  Var seed = g.constant(Tensor::from<double>({1, 1}));
  EXPECT_THAT(values(relevance(x * w, x, no_stabiliser(), seed)), NearTo(Doubles{1, 1}));
  EXPECT_THAT(values(relevance(x * mask, x, no_stabiliser(), seed)), NearTo(Doubles{1, 1}));
  std::vector<char> carry = carries_relevance(g, {});
  EXPECT_TRUE(carry[x.id()]);
  EXPECT_FALSE(carry[w.id()]);
  EXPECT_FALSE(carry[mask.id()]);
}

TEST_F(Relevance, AskingForAParameterLeavesTheDataAlone) {  // D6
  Var x = data(g, "x", {1, 2}), w = g.parameter("w", Tensor::from<double>({3, 4}));
  Var y = x * w + w;
  Var alone = relevance(y, x, no_stabiliser()), both = relevance(y, std::vector{x, w}, no_stabiliser())[0];
  EXPECT_THAT(values(both), NearTo(values(alone)));
}

TEST_F(Relevance, IdentityAndDetachWorkForEveryOp) {
  Var x = data(g, "x", {1, 2}), z = data(g, "z", {5, 7}), seed = g.constant(Tensor::from<double>({1, 1}));
  lrp::Rule identity, detach;
  identity.variant = "identity";
  detach.variant = "detach";
  lrp::RuleSet first("first"), none("none");
  first.set("add", identity);
  none.set("add", detach);
  EXPECT_THAT(values(relevance(x + z, x, first, seed)), NearTo(Doubles{1, 1}));
  EXPECT_THAT(values(relevance(x + z, z, first, seed)), NearTo(Doubles{0, 0}));
  EXPECT_THAT(values(relevance(x + z, x, none, seed)), NearTo(Doubles{0, 0}));
}

TEST_F(Relevance, RulesMatchOpAndScope) {
  Var x = data(g, "x", {1, 2}), z = data(g, "z", {3, 3}), seed = g.constant(Tensor::from<double>({1, 1}));
  Var y;
  {
    Scope s(g, "gate");
    y = x * z;
  }
  lrp::Rule value;
  value.variant = "first";
  EXPECT_THAT(values(relevance(y, x, lrp::RuleSet().set("mul", "gate*", value), seed)), NearTo(Doubles{1, 1}));
  EXPECT_THAT(values(relevance(y, x, lrp::RuleSet().set("mul", "other*", value), seed)), NearTo(Doubles{0.5, 0.5}));
  EXPECT_THAT(values(relevance(y, x, lrp::RuleSet().set("m*", value).set("mul", lrp::Rule()), seed)),
              NearTo(Doubles{0.5, 0.5}));  // the last match wins
}

TEST(RelevanceRules, MissingRulesAreListedAtOnce) {
  // Backward ops have no relevance rule: a relevance sweep through a gradient must say so, for all of them together.
  Graph g;
  Var x = g.input("x", {3});
  Scope s(g, "head");
  Var y = record(op_named("test_no_rule_a"), {x}), z = record(op_named("test_no_rule_b"), {y});
  try {
    relevance(sum(exp(z)), x, lrp::RuleSet());
    FAIL() << "nothing was thrown";
  } catch (const MissingRule& e) {
    EXPECT_THAT(e.what(), HasSubstr("no relevance rule for 2 of 4 nodes:"));
    EXPECT_THAT(e.what(), HasSubstr("test_no_rule_a recorded at passes_test.cpp:"));
    EXPECT_THAT(e.what(), HasSubstr("test_no_rule_b recorded at passes_test.cpp:"));
    EXPECT_THAT(e.what(), HasSubstr(" in head"));
    EXPECT_THAT(e.what(), testing::Not(HasSubstr("exp")));
  }
  // An op that is not on the way does not matter, nor does one that the rule set overrides.
  EXPECT_NO_THROW(relevance(sum(x), x, lrp::RuleSet()));
  lrp::Rule identity;
  identity.variant = "identity";
  EXPECT_NO_THROW(relevance(sum(exp(z)), x, lrp::RuleSet().set("test_no_rule_*", identity)));
}

#define NO_RULE(NAME)                                                \
  REGISTER_OP(NAME) = {                                              \
      .doc = "x, without a rule",                                    \
      .operands = {"x"},                                             \
      .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },   \
      .view =                                                        \
          [](const View& in, const Attrs&, View& out) {              \
            out = in;                                                \
            return true;                                             \
          },                                                         \
      .vjp = [](SweepCtx& c) { c.give(0, c.d()); },                  \
      .samples =                                                     \
          [] {                                                       \
            return std::vector<Sample>{{{{.shape = {3}}}, {}, "x"}}; \
          },                                                         \
      .traits = {.backward = true},                                  \
  }
NO_RULE(test_no_rule_a);
NO_RULE(test_no_rule_b);

TEST_F(Relevance, TargetsAreOneSweepWithALeadingAxis) {
  Graph g(Graph::Mode::immediate);
  auto random = [&](const char* name, Shape s, double a) {
    Doubles v(size_t(s.numel()));
    for (size_t i = 0; i < v.size(); ++i) v[i] = std::sin(a * double(i + 1));
    return g.input(name, Tensor::from(v, s));
  };
  Var x = random("x", {2, 4}, 1.1), w = random("w", {4, 3}, 0.7);
  Var h = softmax(matmul(tanh(x), w)), y = matmul(h, random("v", {3, 5}, 1.9)) + 0.1;
  Doubles eye(5 * 2 * 5, 0.0);
  for (size_t t = 0; t < 5; ++t)
    for (size_t b = 0; b < 2; ++b) eye[(t * 2 + b) * 5 + t] = 1;
  lrp::RuleSet rules;
  Var all = relevance(y, x, rules, g.constant(Tensor::from(eye, {5, 2, 5})), {.targets = 5});
  EXPECT_EQ(all.shape(), (Shape{5, 2, 4}));
  for (int64_t t = 0; t < 5; ++t) {
    Doubles one(10, 0.0);
    one[size_t(t)] = one[size_t(5 + t)] = 1;
    Var R = relevance(y, x, rules, g.constant(Tensor::from(one, {2, 5})));
    EXPECT_LE(max_abs_diff(all.value().slice(0, t, t + 1).reshaped({2, 4}), R.value()), 1e-12 * 10);
  }
  EXPECT_THROW(relevance(y, x, rules, {}, {.targets = 5}), ValueError);
  EXPECT_THROW(relevance(y, x, rules, g.constant(Tensor::zeros({4, 2, 5}, f64)), {.targets = 5}), ShapeError);
  EXPECT_EQ(relevance(y, g.input("unused", Tensor::zeros({3}, f64)), rules, g.constant(Tensor::from(eye, {5, 2, 5})),
                      {.targets = 5})
                .shape(),
            (Shape{5, 3}));
}
