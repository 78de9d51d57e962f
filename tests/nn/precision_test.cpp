// A transformer block under mixed(bf16): it trains, and as the f32 one does.
#include <gtest/gtest.h>

#include <cmath>

#include "whence/autograd/plan.h"
#include "whence/nn/layers.h"

using namespace whence;
using namespace whence::nn;

namespace {

struct Block : Module {
  Embedding embed{*this, "embed", 11, 16};
  LayerNorm before{*this, "before", 16}, between{*this, "between", 16}, last{*this, "last", 16};
  MultiHeadAttention attend{*this, "attend", 16, 2};
  FeedForward feed{*this, "feed", 16, 32};
  Linear head{*this, "head", 16, 11};
  Var operator()(Var ids) const {
    Var x = embed(ids);
    x = x + attend(before(x), {.causal = true});
    x = x + feed(between(x));
    return head(last(x));
  }
};

// Losses of `steps` steps of gradient descent on a sequence that counts.
std::vector<double> losses(Precision precision, int steps) {
  Block net;
  net.init(3);
  constexpr int64_t B = 4, T = 12;
  Tensor ids = Tensor::empty({B, T}, i64), next = Tensor::empty({B, T}, i64);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t) {
      ids.data<int64_t>()[b * T + t] = (b + t * (b + 1)) % 11;
      next.data<int64_t>()[b * T + t] = (b + (t + 1) * (b + 1)) % 11;
    }
  Graph g({.precision = precision});
  Var loss = cross_entropy(net(g.input("ids", {B, T}, i64)), g.input("next", {B, T}, i64));
  std::vector<Var> wanted = grad(loss, net);
  for (const Var& d : wanted) EXPECT_EQ(d.dtype(), f32);
  wanted.push_back(loss);
  Plan plan = compile(wanted);
  std::vector<double> all;
  for (int step = 0; step < steps; ++step) {
    Results r = plan.run({{"ids", ids}, {"next", next}});
    all.push_back(r[wanted.size() - 1].item());
    std::vector<Parameter*> parameters = net.parameters();
    for (size_t p = 0; p < parameters.size(); ++p) {
      float* w = parameters[p]->tensor().data<float>();
      for (int64_t i = 0; i < r[p].numel(); ++i) w[i] -= 0.1f * r[p].data<float>()[i];
    }
  }
  return all;
}

TEST(Mixed, ABlockTrainsAndItsLossFollowsTheF32Run) {
  std::vector<double> wide = losses({}, 250), narrow = losses(mixed(bf16), 250);
  EXPECT_LT(narrow.back(), 0.4 * narrow.front());
  bool same = true;
  for (size_t i = 0; i < wide.size(); ++i) {
    EXPECT_NEAR(narrow[i], wide[i], 0.15 * wide[i] + 0.02) << "step " << i;
    same = same && narrow[i] == wide[i];
  }
  EXPECT_FALSE(same);  // something was rounded
}

}  // namespace
