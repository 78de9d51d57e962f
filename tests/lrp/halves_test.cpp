// Relevance over forwards in halves: f32, with a ledger that closes as it does over f32.
#include <gtest/gtest.h>

#include "net.h"

using namespace whence;

namespace {

struct Case {
  Graph g;
  Var x, y;
  Feeds feeds;
};

// A norm, attention and a gated feed-forward layer over data of dtype t, everything but the input a parameter.
void record(Case& c, DType t) {
  auto weight = [&](const std::string& name, Shape s, uint64_t seed) {
    return cast(c.g.parameter(name, randn(s, seed).to(f32).contiguous_copy()), t);
  };
  Tensor data = randn({2, 5, 8}, 1).to(bf16).to(t).contiguous_copy();
  c.x = c.g.input("x", data.shape(), t);
  c.feeds = {{"x", data}};
  Var h = layer_norm(c.x, weight("n", {8}, 2), weight("m", {8}, 3));
  auto heads = [&](const std::string& name, uint64_t seed) {
    return nn::split_heads(linear(h, weight(name, {8, 8}, seed), weight(name + "b", {8}, seed)), 2);
  };
  Var a = nn::merge_heads(attention(heads("q", 4), heads("k", 5), heads("v", 6), {.causal = true}));
  h = c.x + linear(a, weight("o", {8, 8}, 7));
  h = h +
      linear(silu(linear(h, weight("g", {16, 8}, 8))) * linear(h, weight("u", {16, 8}, 9)), weight("d", {8, 16}, 10));
  c.y = linear(cast(mean(h, {1}), t), weight("c", {3, 8}, 11));
}

TEST(Halves, RelevanceIsF32AndTheLedgerCloses) {
  for (DType t : {bf16, f16, f32})
    for (const lrp::RuleSet& rules : {lrp::attn(), lrp::epsilon(), lrp::cp()}) {
      Case c;
      record(c, t);
      lrp::Ledger ledger(rules);
      Var r = ledger.relevance(c.y, c.x, lrp::seed(c.y, 1));
      EXPECT_EQ(r.dtype(), f32);
      Results out = compile({std::vector<Var>{r}, ledger.outputs()}).run(c.feeds);
      lrp::LedgerReport report = ledger.read(out);
      EXPECT_EQ(report.dtype, f32);
      EXPECT_TRUE(report.holds()) << name_of(t) << "\n" << report.text();
    }
}

// The same network in f32 on the same numbers: relevance differs by what the forward rounds, not by what sweeps round.
TEST(Halves, RelevanceFollowsF32) {
  std::vector<Tensor> r;
  for (DType t : {bf16, f32}) {
    Case c;
    record(c, t);
    r.push_back(evaluate({relevance(c.y, c.x, lrp::attn(), lrp::seed(c.y, 1))}, c.feeds)[0]);
  }
  double worst = 0, scale = 0;
  for (int64_t i = 0; i < r[0].numel(); ++i) {
    worst = std::max(worst, std::fabs(r[0].item(i) - r[1].item(i)));
    scale = std::max(scale, std::fabs(r[1].item(i)));
  }
  EXPECT_LT(worst, 0.1 * scale);
  EXPECT_GT(worst, 0);
}

}  // namespace
