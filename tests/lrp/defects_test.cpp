// Things that relevance engines get wrong, one test each (D1..D36), and the properties every sweep must have.
//
// D18 (batch norm) waits for that operation; in evaluation it is a scale and a shift, which D1 and D9 cover.
// D34 (a filter that loses relevance) has no counterpart: nothing here drops relevance silently.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lrp/ledger.h"
#include "lrp/presets.h"
#include "lrp/seed.h"
#include "ops/conv.h"
#include "whence/whence.h"

using namespace whence;

namespace {

Tensor randn(const Shape& s, uint64_t seed, double shift = 0) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> n;
  Tensor t = Tensor::empty(s, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = n(rng) + shift;
  return t;
}

lrp::RuleSet exact(lrp::RuleSet s = lrp::RuleSet("exact", {.eps = 0, .stab = lrp::Stab::sign})) { return s; }
double sum_of(const Tensor& t) {
  double s = 0;
  for (double v : t.to_vector<double>()) s += v;
  return s;
}

// A graph with a data input x and the feeds for it.
struct Net {
  Graph g;
  std::vector<std::pair<std::string, Tensor>> held;
  Var data(const std::string& name, Tensor t) {
    held.emplace_back(name, t);
    return g.input(name, t.shape(), t.dtype());
  }
  Var weight(const std::string& name, Tensor t) { return g.parameter(name, t); }
  Results run(std::vector<Var> wanted) {
    Feeds f;
    for (auto& [n, t] : held) f.emplace_back(n, t);
    return compile(wanted).run(f);
  }
  // Seeds ones; returns the relevance of each wrt, and checks the ledger on the way.
  std::vector<Tensor> relevance(Var y, std::vector<Var> wrt, const lrp::RuleSet& rules) {
    Var seed = broadcast_to(g.constant(1.0, f64), y.shape());
    lrp::Ledger ledger(rules);
    std::vector<Var> wanted = ledger.relevance(y, wrt, seed);
    size_t n = wanted.size();
    wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
    Results r = run(wanted);
    report = ledger.read(r);
    EXPECT_TRUE(report.holds()) << report.text();
    std::vector<Tensor> out;
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(r[i].shape(), wrt[i].shape());
      out.push_back(r[i]);
    }
    return out;
  }
  lrp::LedgerReport report;
};

TEST(Defects, D1_AConstantOperandHasItsShareBooked) {
  for (auto rules : {lrp::attn(), lrp::dynamic()}) {
    Net n;
    Var x = n.data("x", randn({6}, 1, 3));
    double seen = sum_of(n.relevance(x - 1.0, {x}, rules)[0]), absorbed = n.report.all_absorbed();
    EXPECT_NEAR(seen + absorbed, 6, 1e-9) << rules.name();
    EXPECT_GT(std::fabs(n.report.absorbed.at("bias")), 0.5) << rules.name();
  }
}

TEST(Defects, D2_SumsOverEveryAxis) {
  for (Ints axes : {Ints{}, Ints{0}, Ints{1}, Ints{-1}, Ints{0, 2}})
    for (bool keep : {false, true})
      for (bool average : {false, true}) {
        Net n;
        Var x = n.data("x", randn({2, 3, 4}, 2));
        Var y = average ? mean(x, axes, keep) : sum(x, axes, keep);
        EXPECT_NEAR(sum_of(n.relevance(y, {x}, lrp::dynamic())[0]), double(y.numel()), 1e-9);
      }
}

TEST(Defects, D3_D4_PartsOfASplitMayGoUnused) {
  Net n;
  Var x = n.data("x", randn({2, 7}, 3));
  auto parts = split(x, {1, 4, 2}, 1);
  Var y = slice(parts[1], 1, 0, 2) + parts[2];
  Tensor r = n.relevance(y, {x}, lrp::dynamic())[0];
  EXPECT_NEAR(sum_of(r), 4, 1e-9);
  EXPECT_EQ(r.item(0), 0);
  EXPECT_NE(r.item(5), 0);
}

TEST(Defects, D5_AConstantFactorOnEitherSide) {
  Net n;
  Var x = n.data("x", randn({5}, 4));
  Tensor a = n.relevance(x * 3.0, {x}, lrp::dynamic())[0];
  Tensor b = n.relevance(3.0 * x, {x}, lrp::dynamic())[0];
  EXPECT_TRUE(bitwise_equal(a, b));
  EXPECT_NEAR(sum_of(a), 5, 1e-12);
}

TEST(Defects, D6_ParameterRelevanceIsSeparate) {
  Net n;
  Var x = n.data("x", randn({3, 5}, 5)), w = n.weight("w", randn({4, 5}, 6));
  auto r = n.relevance(linear(x, w), {x, w}, exact());
  EXPECT_NEAR(sum_of(r[0]), 12, 1e-9);
  EXPECT_NEAR(sum_of(r[1]), 12, 1e-9);
  EXPECT_NEAR(n.report.leaves, 12, 1e-9) << "parameters never count as data";
}

TEST(Defects, D7_ZPlusOnMixedSigns) {
  Net n;
  Tensor xt = randn({2, 4}, 7), wt = randn({3, 4}, 8);
  Var x = n.data("x", xt), w = n.weight("w", wt);
  lrp::RuleSet rules("zplus", {.variant = "zplus", .eps = 0, .stab = lrp::Stab::sign});
  Tensor r = n.relevance(linear(x, w), {x}, rules)[0];
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < 4; ++i) {
      double want = 0;
      for (int o = 0; o < 3; ++o) {
        double z = 0;
        for (int j = 0; j < 4; ++j) z += std::max(0.0, xt.item(b * 4 + j) * wt.item(o * 4 + j));
        want += std::max(0.0, xt.item(b * 4 + i) * wt.item(o * 4 + i)) / z;
      }
      EXPECT_NEAR(r.item(b * 4 + i), want, 1e-12);
    }
}

TEST(Defects, D8_D25_HalvesOnlyBetweenDataTensors) {
  Net n;
  Var a = n.data("a", randn({2, 3, 4}, 9)), b = n.data("b", randn({2, 4, 5}, 10));
  auto r = n.relevance(matmul(a, b), {a, b}, exact());
  EXPECT_NEAR(sum_of(r[0]), 15, 1e-9);
  EXPECT_NEAR(sum_of(r[1]), 15, 1e-9);
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net m;
    Var h = m.data("x", randn({2, 4}, 11));
    Var x = h;
    for (uint64_t i = 0; i < 3; ++i) h = linear(h, m.weight("w" + std::to_string(i), randn({4, 4}, 12 + i)));
    EXPECT_NEAR(sum_of(m.relevance(h, {x}, rules)[0]), 8, 1e-6) << rules.name();
  }
}

TEST(Defects, D9_TheBiasShareIsExplicit) {
  Net n;
  Var x = n.data("x", Tensor::from<double>({1, 2}, {1, 2})), w = n.weight("w", Tensor::from<double>({1, 1}, {1, 2})), b = n.weight("b", Tensor::from<double>({-0.5}));
  EXPECT_NEAR(sum_of(n.relevance(linear(x, w, Arg(b)), {x}, exact())[0]), 3 / 2.5, 1e-12);
  EXPECT_NEAR(n.report.absorbed.at("bias"), -0.5 / 2.5, 1e-12);
  EXPECT_NEAR(sum_of(n.relevance(linear(x, w, Arg(b)), {x}, lrp::dynamic())[0]), 3 / 3.5, 1e-9);  // |z| / (|z| + |b|)
  EXPECT_NEAR(n.report.absorbed.at("bias"), 0.5 / 3.5, 1e-9);
}

TEST(Defects, D10_D11_ConvolutionsOfEveryStride) {
  struct Case { Shape x, w; ConvOptions o; bool transposed; };
  for (const Case& c : {Case{{1, 2, 6, 6}, {3, 2, 3, 3}, {.stride = {2}, .padding = {1}}, false}, Case{{1, 2, 6, 6}, {3, 2, 1, 1}, {.stride = {2}}, false},
                        Case{{1, 2, 5}, {2, 3, 3}, {.stride = {2}, .padding = {1}, .output_padding = {1}}, true}})
    for (const char* variant : {"", "zplus", "gamma"}) {
      Net n;
      Var x = n.data("x", randn(c.x, 60)), w = n.weight("w", randn(c.w, 61));
      Var y = c.transposed ? conv_transpose(x, w, {}, c.o) : conv(x, w, {}, c.o);
      Tensor r = n.relevance(y, {x}, lrp::RuleSet("conv", {.variant = variant, .eps = 0, .stab = lrp::Stab::sign}))[0];
      // Under z+, cells with negative contributions only have nobody to pass to: the ledger says how many.
      EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(y.numel()), 1e-6) << variant;
      if (std::string(variant) != "zplus") { EXPECT_NEAR(sum_of(r), double(y.numel()), 1e-6) << variant; }
    }
}

TEST(Defects, D19_D20_PoolsFeedSumsAndHaveOneRule) {
  for (auto rules : {exact(), lrp::dynamic()})
    for (int64_t out : {1, 2, 3}) {
      Net n;
      Var x = n.data("x", randn({1, 2, 6, 6}, 62));
      Var y = adaptive_avg_pool(max_pool(x, {.kernel = {2}}) + avg_pool(x, {.kernel = {2}}), {out, out});
      EXPECT_NEAR(sum_of(n.relevance(y, {x}, rules)[0]), double(y.numel()), 1e-6) << rules.name() << " " << out;
    }
}

TEST(Defects, D12_SumOfAProductAndATensor) {
  Net n;
  Var a = n.data("a", randn({2, 3, 4}, 20)), b = n.data("b", randn({2, 4, 5}, 21)), c = n.data("c", randn({2, 3, 5}, 22));
  auto r = n.relevance(c + matmul(a, b), {a, b, c}, exact());
  EXPECT_NEAR(sum_of(r[0]) + sum_of(r[1]) + sum_of(r[2]), 30, 1e-7);
}

TEST(Defects, D13_D29_ARepeatedPlanEqualsAFreshOne) {
  Tensor w1 = randn({6, 4}, 23), w2 = randn({3, 6}, 24);
  auto record = [&](Graph& g) {
    Var x = g.input("x", {2, 4}, f64);
    Var y = linear(gelu(linear(x, g.parameter("w1", w1))) * 2.0, g.parameter("w2", w2));
    return relevance(y, x, lrp::attn());
  };
  Graph g;
  Plan plan = compile({record(g)});
  for (uint64_t k = 0; k < 3; ++k) {
    Graph fresh;
    Tensor x = randn({2, 4}, 30 + k);
    Tensor again = plan.run({{"x", x}})[0], once = compile({record(fresh)}).run({{"x", x}})[0];
    EXPECT_TRUE(bitwise_equal(again, once)) << "run " << k;
  }
  EXPECT_THROW(plan.run({{"x", randn({3, 4}, 1)}}), Error) << "another batch size needs another plan";
}

TEST(Defects, D14_VarianceCumsumWhere) {
  Net n;
  Var x = n.data("x", randn({3, 16}, 25));
  EXPECT_NEAR(sum_of(n.relevance(variance(x, {1}), {x}, lrp::dynamic())[0]), 3, 1e-8);
  Tensor mask = Tensor::zeros({2, 3}, boolean);
  mask.data<bool>()[1] = mask.data<bool>()[5] = true;
  Net m;
  Var a = m.data("a", randn({2, 3}, 26)), b = m.data("b", randn({2, 3}, 27));
  auto r = m.relevance(where(m.g.constant(mask), a, b), {a, b}, lrp::attn());
  EXPECT_EQ(sum_of(r[0]), 2);
  EXPECT_EQ(sum_of(r[1]), 4);
}

TEST(Defects, D15_SoftmaxHonoursItsAxisAndSeesTheFuture) {
  Tensor xt = randn({4, 4}, 28);
  for (int64_t axis : {0, 1}) {
    Net n;
    Var x = n.data("x", xt);
    Tensor r = n.relevance(softmax(x, axis), {x}, lrp::attn())[0];
    // R = 1 everywhere: x (1 - s sum(1)) = x (1 - 4 s).
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) {
        double total = 0;
        for (int k = 0; k < 4; ++k) total += std::exp(axis ? xt.item(i * 4 + k) : xt.item(k * 4 + j));
        double v = xt.item(i * 4 + j), s = std::exp(v) / total;
        EXPECT_NEAR(r.item(i * 4 + j), v * (1 - 4 * s), 1e-12);
      }
    EXPECT_GT(std::fabs(n.report.absorbed.at("softmax")), 0) << "the Taylor term is booked, not lost";
    lrp::RuleSet off = lrp::attn();
    off.set("softmax", {.variant = "identity"});
    EXPECT_NEAR(sum_of(n.relevance(softmax(x, axis), {x}, off)[0]), 16, 1e-9);
  }
}

TEST(Defects, D16_D36_CpGivesNothingToQueriesAndKeys) {
  for (bool fused : {false, true}) {
    Net n;
    Var q = n.data("q", randn({1, 2, 3, 4}, 29)), k = n.data("k", randn({1, 2, 3, 4}, 30)), v = n.data("v", randn({1, 2, 3, 4}, 31));
    Var y = fused ? attention(q, k, v) : matmul(softmax(matmul(q, transpose(k)) * 0.5), v);
    auto r = n.relevance(y, {q, k, v}, lrp::cp(1e-12));
    for (int i : {0, 1})
      for (double x : r[size_t(i)].to_vector<double>()) EXPECT_EQ(x, 0.0);
    EXPECT_NEAR(sum_of(r[2]), 24, 1e-8) << "the value path takes everything";
    auto attn = n.relevance(y, {q, k, v}, lrp::attn(1e-12));
    EXPECT_NEAR(sum_of(attn[2]), 12, 1e-8);
    EXPECT_GT(std::fabs(sum_of(attn[0])), 1e-6);
  }
}

TEST(Defects, CpGatesAreConstants) {
  Net n;
  Var x = n.data("x", randn({2, 4}, 32));
  Var gate = linear(x, n.weight("g", randn({4, 4}, 33))), up = linear(x, n.weight("u", randn({4, 4}, 34)));
  auto r = n.relevance(silu(gate) * up, {gate, up}, lrp::cp(1e-12));
  EXPECT_EQ(sum_of(r[0]), 0);
  EXPECT_NEAR(sum_of(r[1]), 8, 1e-9);
}

TEST(Defects, D17_LayerNormWithoutParameters) {
  Net n;
  Var x = n.data("x", randn({3, 8}, 35, 0.4));
  EXPECT_NEAR(sum_of(n.relevance(layer_norm(x), {x}, exact())[0]), 24, 1e-7);
  EXPECT_NEAR(sum_of(n.relevance(layer_norm(x), {x}, lrp::dynamic())[0]), 24, 1e-9);
}

TEST(Defects, D21_D22_OpsThatFeedASum) {
  using F = Var (*)(Var);
  for (F f : std::initializer_list<F>{[](Var x) { return max(x, {1}, true); }, [](Var x) { return abs(x); }, [](Var x) { return clamp(x, -0.5, 0.5); }, [](Var x) { return softplus(x); },
                                      [](Var x) { return where(greater(x, 0.0), x, 0.0); },
                                      [](Var x) { return gather(x, x.graph().constant(Tensor::from<int64_t>({2, 0, 1, 1})), 1); }}) {
    Net n;
    Var x = n.data("x", randn({3, 4}, 36));
    Var y = f(x) + x;
    Tensor r = n.relevance(y, {x}, lrp::dynamic())[0];
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(y.numel()), 1e-9);
  }
}

TEST(Defects, D23_NegKeepsItsSign) {
  Net n;
  Var x = n.data("x", Tensor::from<double>({2})), y = n.data("y", Tensor::from<double>({5}));
  auto r = n.relevance(neg(x) + y, {x, y}, exact());
  EXPECT_NEAR(r[0].item(), -2.0 / 3, 1e-12);
  EXPECT_NEAR(r[1].item(), 5.0 / 3, 1e-12);
}

TEST(Defects, D24_BroadcastOperandsAreReducedInsideTheRule) {
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net n;
    Var a = n.data("a", randn({1, 16}, 37)), b = n.data("b", randn({1, 1}, 38));
    for (Var y : {a * b, a + b, a - b, a / b}) {
      auto r = n.relevance(y, {a, b}, rules);  // shapes are checked there
      EXPECT_NEAR(sum_of(r[0]) + sum_of(r[1]), 16, 1e-9) << rules.name();
    }
    Var x = n.data("x", randn({2, 8}, 39)), w = n.weight("w", randn({8}, 40));
    EXPECT_NEAR(sum_of(n.relevance(rms_norm(x, Arg(w)), {x}, rules)[0]), 16, 1e-9) << rules.name();
  }
}

TEST(Defects, D26_D28_EveryArrivalCounts) {
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net n;
    Var x = n.data("x", randn({3, 4}, 41)), w = n.weight("w", randn({4, 4}, 42)), b = n.weight("b", randn({4}, 43));
    for (Var y : {x * tanh(x), x + tanh(x), x + relu(x) * x}) EXPECT_NEAR(sum_of(n.relevance(y, {x}, rules)[0]), 12, 1e-8) << rules.name();
    Var h = linear(x, w, Arg(b));  // two consumers
    Tensor r = n.relevance(tanh(h) + h, {x}, rules)[0];
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), 12, 1e-8) << rules.name();
  }
}

TEST(Defects, D27_RowsNeverMix) {
  Tensor x3 = randn({3, 4}, 44), w = randn({5, 4}, 45), v = randn({5, 5}, 46);
  auto run = [&](const Tensor& x) {
    Graph g;
    Var in = g.input("x", x.shape(), f64);
    Var y = linear(tanh(linear(in, g.parameter("w", w))), g.parameter("v", v));
    return evaluate({relevance(y, in, lrp::attn(), lrp::seed_argmax(y, {.form = lrp::SeedForm::one_hot}))}, {{"x", x}})[0];
  };
  Tensor all = run(x3);
  for (int64_t b = 0; b < 3; ++b)
    EXPECT_LT(max_abs_diff(run(x3.slice(0, b, b + 1).contiguous_copy()), all.slice(0, b, b + 1).contiguous_copy()), 1e-12) << "row " << b;
}

TEST(Defects, D30_FrozenWeightsAreWeights) {
  Tensor w = randn({5, 4}, 47), xt = randn({2, 4}, 48);
  Net n;
  Var x = n.data("x", xt);
  Tensor a = n.relevance(linear(x, n.weight("w", w)), {x}, lrp::attn())[0], b = n.relevance(linear(x, n.g.constant(w)), {x}, lrp::attn())[0];
  EXPECT_LT(max_abs_diff(a, b), 1e-15);
}

TEST(Defects, D31_AToggleChangesTheNodesItNames) {
  Net n;
  Var x = n.data("x", randn({3, 4}, 49)), middle, y;
  {
    Scope s(n.g, "lower");
    middle = linear(x, n.weight("w", randn({4, 4}, 50)));
  }
  {
    Scope s(n.g, "upper");
    y = linear(middle, n.weight("v", randn({4, 4}, 51)));
  }
  lrp::RuleSet rules = lrp::attn();
  rules.set("linear", "lower", {.variant = "gamma", .gamma = 0.5});
  auto plain = n.relevance(y, {x, middle}, lrp::attn()), toggled = n.relevance(y, {x, middle}, rules);
  EXPECT_TRUE(bitwise_equal(plain[1], toggled[1]));
  EXPECT_GT(max_abs_diff(plain[0], toggled[0]), 1e-3);
}

TEST(Defects, D32_PartsThatMeetAgain) {
  Net n;
  Var x = n.data("x", randn({2, 6}, 52));
  auto p = chunk(x, 2, 1);
  Var again = concat({p[1], p[0]}, 1) + x, stacked = sum(stack({p[0], p[1]}, 0) + 0.0, {0});
  EXPECT_NEAR(sum_of(n.relevance(again, {x}, lrp::dynamic())[0]), 12, 1e-9);
  EXPECT_NEAR(sum_of(n.relevance(stacked, {x}, lrp::dynamic())[0]), 6, 1e-9);
}

TEST(Defects, D33_AnOpWithoutARuleIsAnError) {
  Graph g;
  Var x = g.input("x", {4}, f64);
  Var y = slice(square(x), 0, 1, 3);
  Var d = grad(sum(y * y), x);  // slice's adjoint belongs to sweeps and has no rule
  try {
    relevance(d, x, lrp::attn(), d);
    FAIL() << "expected MissingRule";
  } catch (const MissingRule& e) {
    EXPECT_NE(std::string(e.what()).find("slice_adjoint"), std::string::npos) << e.what();
  }
  EXPECT_THROW(relevance(linear(x, g.constant(randn({2, 4}, 1))), x, lrp::RuleSet("typo", {.variant = "zplsu"})), ValueError);
}

TEST(Defects, D35_AnyNumberOfParameters) {
  Net n;
  Var x = n.data("x", randn({2, 3}, 53));
  std::vector<Var> w{n.weight("a", randn({4, 3}, 54)), n.weight("b", randn({4, 4}, 55)), n.weight("c", randn({2, 4}, 56))};
  Var y = linear(relu(linear(relu(linear(x, w[0])), w[1])), w[2]);
  auto r = n.relevance(y, {w[0], x, w[1], w[2]}, exact());
  EXPECT_EQ(r.size(), 4u);
}

// ---- properties --------------------------------------------------------------------------------------------------------

TEST(Presets, TheySplitOppositeSignsDifferently) {
  Net n;
  Var a = n.data("a", Tensor::from<double>({2})), b = n.data("b", Tensor::from<double>({-1}));
  auto attn = n.relevance(a + b, {a, b}, lrp::attn(1e-12)), dynamic = n.relevance(a + b, {a, b}, lrp::dynamic());
  EXPECT_EQ(n.report.rules, "dynamic");
  EXPECT_NEAR(attn[0].item(), 2, 1e-9);
  EXPECT_NEAR(attn[1].item(), -1, 1e-9);
  EXPECT_NEAR(dynamic[0].item(), 2.0 / 3, 1e-9);
  EXPECT_NEAR(dynamic[1].item(), 1.0 / 3, 1e-9);
}

TEST(Presets, DescribeThemselvesAndAreFoundByName) {
  for (const char* name : {"attn", "cp", "dynamic", "mamba", "epsilon", "epsilon_plus", "epsilon_alpha2_beta1"}) {
    EXPECT_EQ(lrp::preset(name).name(), name);
    EXPECT_EQ(lrp::preset(name).describe().rfind(name, 0), 0u);
  }
  EXPECT_THROW(lrp::preset("atn"), ValueError);
}

TEST(Ledger, NamesTheNodeThatLoses) {
  Net n;
  Var x = n.data("x", randn({3, 4}, 57)), seed = broadcast_to(n.g.constant(1.0, f64), {3, 4});
  lrp::Ledger ledger(lrp::attn());
  Var r = ledger.relevance(tanh(x) + x, x, seed);
  std::vector<Var> wanted{r};
  wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
  lrp::LedgerReport report = ledger.read(n.run(wanted));
  ASSERT_TRUE(report.holds()) << report.text();
  report.nodes.back().passed *= 0.9;
  ASSERT_EQ(report.offenders().size(), 1u);
  EXPECT_NE(report.text().find("DOES NOT ADD UP"), std::string::npos);
}

TEST(Ledger, HoldsForATransformerBlockInBothPrecisions) {
  for (DType t : {f64, f32}) {
    Graph g;
    auto p = [&](const char* name, Shape s, uint64_t seed) { return g.parameter(name, randn(s, seed).to(t)); };
    Var x = g.input("x", {2, 5, 8}, t);
    Var h = layer_norm(x, Arg(p("lw", {8}, 1)), Arg(p("lb", {8}, 2)));
    auto heads = [&](Var v) { return permute(reshape(v, {2, 5, 2, 4}), {0, 2, 1, 3}); };
    Var a = attention(heads(linear(h, p("q", {8, 8}, 3))), heads(linear(h, p("k", {8, 8}, 4))), heads(linear(h, p("v", {8, 8}, 5))), {.causal = true});
    Var y = x + linear(reshape(permute(a, {0, 2, 1, 3}), {2, 5, 8}), p("o", {8, 8}, 6), Arg(p("ob", {8}, 7)));
    y = y + linear(gelu(linear(rms_norm(y, Arg(p("rw", {8}, 8))), p("u", {16, 8}, 9), Arg(p("ub", {16}, 10)))), p("d", {8, 16}, 11));
    for (const char* name : {"attn", "cp", "dynamic"}) {
      lrp::Ledger ledger(lrp::preset(name));
      Var r = ledger.relevance(y, x, y);
      lrp::LedgerReport report = ledger.read(evaluate({r, ledger.outputs()}, {{"x", randn({2, 5, 8}, 12).to(t)}}));
      EXPECT_TRUE(report.holds()) << name << " " << name_of(t) << "\n" << report.text();
    }
  }
}

TEST(Seeds, OneSweepForSeveralClasses) {
  Graph g;
  Var x = g.input("x", {2, 4}, f64);
  Var y = linear(tanh(linear(x, g.parameter("w", randn({6, 4}, 1)))), g.parameter("v", randn({5, 6}, 2)));
  Ints classes{3, 0, 4};
  Var many = relevance(y, x, lrp::attn(), lrp::seeds_for_classes(y, classes), {.targets = 3});
  std::vector<Var> wanted{many};
  for (int64_t k : classes) wanted.push_back(relevance(y, x, lrp::attn(), lrp::seed(y, k)));
  Results r = compile(wanted).run({{"x", randn({2, 4}, 3)}});
  for (int64_t k = 0; k < 3; ++k) EXPECT_LT(max_abs_diff(r[0].slice(0, k, k + 1).reshaped({2, 4}).contiguous_tensor(), r[size_t(k) + 1]), 1e-12);
}

}  // namespace
