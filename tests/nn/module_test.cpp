// Modules, initialisers, optimisers, schedules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "nn/layers.h"
#include "nn/optim.h"

using namespace whence;
using namespace whence::nn;

namespace {

struct Mlp : Module {
  Linear in{*this, "in", 5, 7}, out{*this, "out", 7, 3, false};
};

TEST(Module, ParametersAreNamedAndLieInOneArena) {
  Mlp m;
  auto p = m.parameters();
  ASSERT_EQ(p.size(), 3u);
  EXPECT_EQ(p[0]->name(), "in.weight");
  EXPECT_EQ(p[1]->name(), "in.bias");
  EXPECT_EQ(p[2]->name(), "out.weight");
  EXPECT_EQ(m.flat().numel(), 5 * 7 + 7 + 7 * 3);
  EXPECT_EQ(p[1]->tensor().raw(), m.flat().data<float>() + 35);
  EXPECT_EQ(m.offset(*p[2]), 42);
}

TEST(Module, InitialValuesDependOnSeedAndNameOnly) {
  struct Reversed : Module {
    Linear out{*this, "out", 7, 3, false}, in{*this, "in", 5, 7};
  };
  Mlp a;
  Reversed b;
  a.init(3);
  b.init(3);
  EXPECT_TRUE(bitwise_equal(a.in.weight.tensor(), b.in.weight.tensor()));
  b.init(4);
  EXPECT_FALSE(bitwise_equal(a.in.weight.tensor(), b.in.weight.tensor()));
  double bound = 1 / std::sqrt(5.0);
  for (float x : a.in.weight.tensor().to_vector<float>()) EXPECT_LE(std::fabs(x), bound);
}

TEST(Module, StateDictRejectsWhatDoesNotFitAndChangesNothing) {
  Mlp m;
  m.init(1);
  Tensor before = m.flat().contiguous_copy();
  auto state = m.state_dict();
  state.erase("in.bias");
  state["in.weight"] = Tensor::zeros({7, 6});
  state["other"] = Tensor::zeros({1});
  try {
    m.load_state_dict(state);
    FAIL() << "accepted";
  } catch (const ValueError& e) {
    EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("missing in.bias [7]"), testing::HasSubstr("in.weight is [7, 5], the file has [7, 6]"), testing::HasSubstr("unexpected other [1]")));
  }
  EXPECT_TRUE(bitwise_equal(before, m.flat()));
}

TEST(Module, RefusesParametersAfterAllocationAndTwins) {
  Mlp m;
  m.init();
  EXPECT_THROW(Linear(m, "late", 2, 2), ValueError);
  struct Twins : Module {
    Linear a{*this, "x", 2, 2}, b{*this, "x", 2, 2};
  } twins;
  EXPECT_THROW(twins.init(), ValueError);
}

// One tensor of three elements, checked against the update rules written out.
struct Three : Module {
  Parameter& w = parameter("w", {3}, Init::zeros());
};

Tensor values(std::vector<double> v) { return Tensor::from(v); }

TEST(Optimizer, AdamWFollowsItsFormula) {
  Three m;
  m.init(0, f64);
  m.flat().copy_from(values({1, -2, 3}));
  AdamW c{.lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.05};
  Optimizer o(m, c);
  std::vector<double> p{1, -2, 3}, m1(3), m2(3), g{0.3, -0.2, 2};
  for (int t = 1; t <= 4; ++t) {
    o.step(values(g), 0.5);
    for (int i = 0; i < 3; ++i) {
      double lr = 0.05;
      m1[i] = 0.9 * m1[i] + 0.1 * g[i];
      m2[i] = 0.99 * m2[i] + 0.01 * g[i] * g[i];
      p[i] = p[i] * (1 - lr * 0.05) - lr * (m1[i] / (1 - std::pow(0.9, t))) / (std::sqrt(m2[i] / (1 - std::pow(0.99, t))) + 1e-6);
      EXPECT_NEAR(m.flat().item(i), p[i], 1e-13) << "step " << t;
    }
    for (double& x : g) x = x * -0.7 + 0.1;
  }
}

TEST(Optimizer, GroupsSetDecayAndRate) {
  Mlp m;
  m.init(0, f64);
  Tensor before = m.flat().contiguous_copy(), zero = Tensor::zeros(m.flat().shape(), f64);
  Optimizer o(m, AdamW{.lr = 0.1, .weight_decay = 0.5}, {{.pattern = "*.bias", .weight_decay = 0}, {.pattern = "out.*", .lr_scale = 0.1}});
  o.step(zero);
  for (int64_t i = 0; i < m.flat().numel(); ++i) {
    double keep = i < 35 ? 1 - 0.1 * 0.5 : i < 42 ? 1 : 1 - 0.01 * 0.5;
    EXPECT_NEAR(m.flat().item(i), before.item(i) * keep, 1e-15);
  }
}

TEST(Optimizer, FrozenParametersStay) {
  Mlp m;
  m.init(0, f64);
  m.in.weight.set_trainable(false);
  Tensor before = m.in.weight.tensor().contiguous_copy();
  Optimizer o(m, SGD{.lr = 1});
  o.step(Tensor::full(m.flat().shape(), 1, f64));
  EXPECT_TRUE(bitwise_equal(before, m.in.weight.tensor()));
  EXPECT_EQ(vars(*std::make_unique<Graph>(), m).size(), 2u);
}

TEST(Clip, ScalesToTheNormAndReportsIt) {
  Tensor g = values({3, 4});
  EXPECT_DOUBLE_EQ(clip_by_norm(g, 10), 5);
  EXPECT_DOUBLE_EQ(g.item(0), 3);
  EXPECT_DOUBLE_EQ(clip_by_norm(g, 1), 5);
  EXPECT_NEAR(g.item(1), 4.0 / (5 + 1e-6), 1e-15);
}

TEST(Schedules, StartPeakAndEnd) {
  Schedule one = one_cycle(100, 0.3, 25, 1e4);
  EXPECT_NEAR(one(0), 1 / 25.0, 1e-12);
  EXPECT_NEAR(one(29), 1, 1e-12);
  EXPECT_NEAR(one(99), 1 / 25e4, 1e-12);
  Schedule cosine = cosine_schedule(20, 5, 0.1);
  EXPECT_DOUBLE_EQ(cosine(0), 0.2);
  EXPECT_DOUBLE_EQ(cosine(5), 1);
  EXPECT_NEAR(cosine(20), 0.1, 1e-12);
}

}  // namespace
