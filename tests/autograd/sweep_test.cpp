// Gradient and relevance through a small network, against finite differences and the conservation law.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "whence/whence.h"

using namespace whence;

namespace {

Tensor randn(const Shape& s, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> n;
  Tensor t = Tensor::empty(s, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = n(rng);
  return t;
}

TEST(Sweep, GradientOfAnMlpEqualsFiniteDifferences) {
  Tensor w1 = randn({7, 5}, 1), b1 = randn({7}, 2), w2 = randn({3, 7}, 3), x = randn({4, 5}, 4);
  auto loss_of = [&](Graph& g, std::vector<Var>* p) {
    *p = {g.parameter("w1", w1), g.parameter("b1", b1), g.parameter("w2", w2)};
    Var h = gelu(linear(g.input("x", {4, 5}, f64), (*p)[0], (*p)[1]));
    Var y = matmul(tanh(h), transpose((*p)[2]));
    return mean(square(y) + exp(y * 0.1));
  };
  Graph g;
  std::vector<Var> p;
  Var loss = loss_of(g, &p);
  auto d = grad(loss, p);
  Plan plan = compile({loss, d});
  Results r = plan.run({{"x", x}});
  std::vector<Tensor*> tensors{&w1, &b1, &w2};
  for (size_t i = 0; i < 3; ++i) {
    Tensor u = randn(tensors[i]->shape(), 10 + i), before = tensors[i]->contiguous_copy();
    double slope = 0, h = 1e-5, side[2];
    for (int64_t k = 0; k < u.numel(); ++k) slope += u.data<double>()[k] * r[d[i]].item(k);
    for (int s : {0, 1}) {
      for (int64_t k = 0; k < u.numel(); ++k) tensors[i]->data<double>()[k] = before.item(k) + (s ? h : -h) * u.item(k);
      side[s] = compile({loss}).run({{"x", x}})[0].item();
    }
    tensors[i]->copy_from(before);
    EXPECT_NEAR((side[1] - side[0]) / (2 * h), slope, 1e-7 * std::max(1.0, std::fabs(slope))) << "parameter " << i;
  }
}

TEST(Sweep, RelevanceOfABiasFreeMlpIsConserved) {
  Tensor w1 = randn({7, 5}, 1), w2 = randn({3, 7}, 3), x = randn({4, 5}, 4);
  Graph g;
  Var in = g.input("x", {4, 5}, f64);
  Var y = linear(relu(linear(in, g.parameter("w1", w1))), g.parameter("w2", w2));
  lrp::Rule exact;
  exact.eps = 0;
  Var r = relevance(y, in, lrp::RuleSet("epsilon", exact));
  Results out = evaluate({sum(y, {1}), sum(r, {1})}, {{"x", x}});
  EXPECT_LT(max_abs_diff(out[0], out[1]), 1e-10);
}

TEST(Sweep, SecondOrderGradientThroughAFusedDerivative) {
  Graph g;
  Var x = g.input("x", {}, f64);
  Var y = gelu(x);
  Var d = grad(y, x), dd = grad(d, x);
  double at = 0.7, phi = std::exp(-at * at / 2) / std::sqrt(2 * M_PI);
  Results r = evaluate({dd}, {{"x", Tensor::scalar(at, f64)}});
  EXPECT_NEAR(r[0].item(), phi * (2 - at * at), 1e-12);
}

TEST(Sweep, SeveralTargetsEqualSingleSweeps) {
  Tensor w1 = randn({7, 5}, 1), b1 = randn({7}, 2), w2 = randn({3, 7}, 3), x = randn({4, 5}, 4);
  Graph g;
  Var in = g.input("x", {4, 5}, f64);
  Var h = linear(in, g.parameter("w1", w1), g.parameter("b1", b1));
  Var y = linear(sum(tanh(h), {1}, true) * h, g.parameter("w2", w2));
  Tensor seeds = randn({3, 4, 3}, 9);
  lrp::RuleSet rules;
  Var many = relevance(y, in, rules, g.constant(seeds), {.targets = 3});
  ASSERT_EQ(many.shape(), (Shape{3, 4, 5}));
  for (int64_t k = 0; k < 3; ++k) {
    Var one = relevance(y, in, rules, g.constant(seeds.slice(0, k, k + 1).reshaped({4, 3}).contiguous_copy()));
    Results r = evaluate({select(many, 0, k), one}, {{"x", x}});
    EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-12) << "target " << k;
  }
}

}  // namespace
