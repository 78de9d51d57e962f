// Losses beside cross entropy, and drawing from a distribution.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/thrown.h"
#include "whence/autograd/plan.h"
#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

using testing::HasSubstr;

struct Now {
  Graph g{Graph::Mode::immediate};
  Var in(std::vector<double> v, Shape s) { return g.input("x" + std::to_string(n++), Tensor::from(v, s)); }
  int n = 0;
};

TEST(Losses, L1AndHuberByTheirFormula) {
  Now now;
  Var x = now.in({0, 3, -2, 1.5}, {4}), t = now.in({0.5, 1, -2, 1}, {4});
  EXPECT_NEAR(l1_loss(x, t).value().item(), (0.5 + 2 + 0 + 0.5) / 4, 1e-12);
  EXPECT_NEAR(huber_loss(x, t).value().item(), (0.125 + 1.5 + 0 + 0.125) / 4, 1e-12);
  EXPECT_NEAR(huber_loss(x, t, 0.25, Reduction::sum).value().item(), 0.25 * (0.375 + 1.875 + 0 + 0.375), 1e-12);
  EXPECT_EQ(l1_loss(x, 1.0, Reduction::none).value().to_vector<double>(), (std::vector<double>{1, 2, 3, 0.5}));
  Var d = grad(huber_loss(x, t, 1, Reduction::sum), x);
  EXPECT_EQ(d.value().to_vector<double>(), (std::vector<double>{-0.5, 1, 0, 0.5}));
  // A far value whose square overflows has a finite gradient.
  Graph g(Graph::Mode::immediate);
  Var far = g.constant(Tensor::full({1}, 1e30));
  EXPECT_EQ(grad(huber_loss(far, 0.0), far).value().item(), 1);
  EXPECT_THAT(thrown<ValueError>([&] { huber_loss(x, t, 0); }), HasSubstr("delta must be positive"));
  EXPECT_THROW(l1_loss(x, now.in({1}, {1})), ShapeError);
}

TEST(Losses, DivergenceOfEqualsIsZeroAndZeroTargetsCountForNothing) {
  Now now;
  Var p = now.in({0.2, 0.8, 0.5, 0.5}, {2, 2}), q = now.in({0, 1, 0.25, 0.75}, {2, 2});
  EXPECT_NEAR(kl_divergence(log(p), p).value().item(), 0, 1e-12);
  const double want = (std::log(1 / 0.8) + 0.25 * std::log(0.25 / 0.5) + 0.75 * std::log(0.75 / 0.5)) / 2;
  EXPECT_NEAR(kl_divergence(log(p), q).value().item(), want, 1e-12);
  Var impossible = now.in({-INFINITY, 0}, {1, 2}), certain = now.in({0, 1}, {1, 2});
  EXPECT_EQ(kl_divergence(impossible, certain).value().item(), 0);
  EXPECT_THROW(kl_divergence(now.in({1}, {}), now.in({1}, {})), ShapeError);
}

TEST(Categorical, DrawsAsOftenAsTheProbabilitiesSay) {
  Graph g;
  Tensor logits =
      Tensor::from<float>({std::log(0.1f), std::log(0.6f), std::log(0.3f), -INFINITY}).broadcast_to({20000, 4});
  Var x = g.input("x", {20000, 4}), drawn = categorical(x, 5);
  EXPECT_EQ(drawn.dtype(), i64);
  Plan plan = compile({drawn});
  auto draw = [&](uint64_t seed) { return plan.run({{"x", logits}}, {.seed = seed})[0].to_vector<int64_t>(); };
  std::vector<int64_t> first = draw(1), count(4);
  for (int64_t c : first) ++count[size_t(c)];
  EXPECT_NEAR(double(count[0]), 2000, 200);
  EXPECT_NEAR(double(count[1]), 12000, 300);
  EXPECT_NEAR(double(count[2]), 6000, 300);
  EXPECT_EQ(count[3], 0);
  EXPECT_EQ(first, draw(1));
  EXPECT_NE(first, draw(2));
}

}  // namespace
}  // namespace whence
