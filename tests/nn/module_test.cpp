// Modules and initialisers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/nn/layers.h"

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
    EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("missing in.bias [7]"),
                                         testing::HasSubstr("in.weight is [7, 5], the file has [7, 6]"),
                                         testing::HasSubstr("unexpected other [1]")));
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

TEST(Module, FrozenParametersAreNoVarsToDifferentiateBy) {
  Mlp m;
  m.init();
  m.in.weight.set_trainable(false);
  Graph g;
  EXPECT_EQ(vars(g, m).size(), 2u);
}

}  // namespace
