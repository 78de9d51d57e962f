// Relevance over forwards in halves: f32, with a ledger that closes as it does over f32.
#include <gtest/gtest.h>

#include "whence/lrp/explain.h"
#include "tests/lrp/net.h"

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

// Ops that take halves, one by one: explained under every preset, near what the same numbers give in f32.
TEST(Halves, ExplainModelsOfEveryKind) {
  using F =
      std::function<Var(Var x, const std::function<Var(Shape, uint64_t)>& weight)>;  // x (1, 2, 6) -> (1, classes)
  auto flat = [](Var v) { return reshape(v, {1, v.numel()}); };
  const std::vector<std::pair<std::string, F>> models{
      {"linear",
       [&](Var x, auto& w) {
         return linear(flat(x), w({3, 12}, 1), Arg(w({3}, 2)));
       }},
      {"conv",
       [&](Var x, auto& w) {
         return linear(flat(relu(conv(x, w({4, 2, 3}, 3), Arg(w({4}, 4))))), w({3, 16}, 5));
       }},
      {"pools",
       [&](Var x, auto& w) {
         return linear(flat(avg_pool(x, {.kernel = {2}}) + max_pool(x, {.kernel = {2}})), w({3, 6}, 6));
       }},
      {"norms",
       [&](Var x, auto& w) {
         return flat(linear(rms_norm(x), w({2, 6}, 7)) * linear(layer_norm(x), w({2, 6}, 8)));
       }},
      {"softmax",
       [&](Var x, auto& w) {
         return flat(matmul(softmax(matmul(x, transpose(x))), linear(x, w({2, 6}, 9))));
       }},
      {"products", [&](Var x, auto&) { return prod(x, 1) + slice(cumprod(x, 2), 1, 0, 1) * 0.5; }},
      {"scan", [&](Var x, auto&) { return flat(linear_scan(sigmoid(x), tanh(x), 2)); }},
      {"selection",
       [&](Var x, auto&) { return flat(where(greater(x, 0.0), x, x * 0.25)) + flat(maximum(x, tanh(x))); }},
      {"sums", [&](Var x, auto&) { return flat(cast(sum(x, {1}), x.dtype())) + flat(cast(mean(x, {1}), x.dtype())); }},
      {"quotients", [&](Var x, auto&) { return flat(exp(x) / (abs(x) + 1.0)); }},
  };
  Tensor sample = randn({2, 6}, 20).to(bf16);
  for (const auto& [name, f] : models)
    for (const char* preset : {"attn", "epsilon", "dynamic", "cp", "mamba"}) {
      std::vector<double> wide;
      for (DType t : {f32, bf16, f16}) {
        auto model = [&, &f = f](Var x) {
          std::function<Var(Shape, uint64_t)> weight = [&](Shape s, uint64_t seed) {
            return x.graph().parameter("w" + std::to_string(seed), randn(s, seed).to(bf16).to(t).contiguous_copy());
          };
          Var y = f(x, weight);
          return reshape(y, {1, y.numel()});
        };
        lrp::Explanation e = lrp::explain(model, sample.to(t), {.target = 1, .rules = lrp::preset(preset)});
        EXPECT_TRUE(e.ledger.holds()) << name << " " << preset << " " << name_of(t) << "\n" << e.ledger.text();
        const std::vector<double>& r = e.relevance.relevance;
        if (t == f32) wide = r;
        double scale = 1e-3;
        for (double v : wide) scale = std::max(scale, std::fabs(v));
        for (size_t i = 0; i < r.size(); ++i)
          EXPECT_NEAR(r[i], wide[i], 0.1 * scale) << name << " " << preset << " " << name_of(t);
      }
    }
}

}  // namespace
