// The report of a ledger: what an op's own parameters took, what crossed a scope's boundary, coverage.
#include "tests/lrp/net.h"

using namespace whence;

namespace {

// x (1, 3) -> linear -> relu -> linear -> (1, 2), in two scopes, with the relevance that each part takes in closed form
// (epsilon 0, seed 1).
struct TwoLayers {
  Tensor x = Tensor::from<double>({1, -2, 3}, {1, 3}), w1 = randn({4, 3}, 1), b1 = randn({4}, 2), w2 = randn({2, 4}, 3),
         b2 = randn({2}, 4);
  double bias1 = 0, bias2 = 0, between = 0, input = 0;
  Net n;
  Var in, y;

  TwoLayers() {
    std::vector<double> z1(4), h(4), r(4);
    for (int i = 0; i < 4; ++i) {
      z1[size_t(i)] = b1.item(i);
      for (int j = 0; j < 3; ++j) z1[size_t(i)] += w1.item(i * 3 + j) * x.item(j);
      h[size_t(i)] = std::max(0.0, z1[size_t(i)]);
    }
    for (int o = 0; o < 2; ++o) {
      double z = b2.item(o);
      for (int i = 0; i < 4; ++i) z += w2.item(o * 4 + i) * h[size_t(i)];
      bias2 += b2.item(o) / z;
      for (int i = 0; i < 4; ++i) r[size_t(i)] += w2.item(o * 4 + i) * h[size_t(i)] / z;
    }
    for (int i = 0; i < 4; ++i) {
      between += r[size_t(i)];
      bias1 += b1.item(i) / z1[size_t(i)] * r[size_t(i)];
    }
    input = between - bias1;
    in = n.data("x", x);
    Var hidden;
    {
      Scope s(n.g, "net/lower");
      hidden = relu(linear(in, n.weight("w1", w1), Arg(n.weight("b1", b1))));
    }
    Scope s(n.g, "net/upper");
    y = linear(hidden, n.weight("w2", w2), Arg(n.weight("b2", b2)));
  }
};

TEST(Report, WhatTheBiasesOfAnOpTook) {
  TwoLayers t;
  EXPECT_NEAR(sum_of(t.n.relevance(t.y, {t.in}, exact())[0]), t.input, 1e-10);
  auto ops = t.n.report.by_op();
  ASSERT_EQ(ops.size(), 2u);
  const lrp::LedgerRow &linear = ops.at("linear"), &relu = ops.at("relu");
  EXPECT_NEAR(linear.absorbed.at("bias"), t.bias1 + t.bias2, 1e-10);
  // Into the linear layers: the seed, and what relu hands back; out: to relu, and to the input.
  EXPECT_NEAR(linear.entered, 2 + t.between, 1e-10);
  EXPECT_NEAR(linear.left, t.between + t.input, 1e-10);
  EXPECT_NEAR(relu.entered, t.between, 1e-10);
  EXPECT_NEAR(relu.left, t.between, 1e-10);
  EXPECT_NEAR(relu.all_absorbed(), 0, 1e-12);
}

TEST(Report, WhatCrossedABoundary) {
  TwoLayers t;
  t.n.relevance(t.y, {t.in}, exact());
  auto scopes = t.n.report.by_scope();
  EXPECT_NEAR(scopes.at("net/upper").entered, 2, 1e-12);
  EXPECT_NEAR(scopes.at("net/upper").left, t.between, 1e-10);
  EXPECT_NEAR(scopes.at("net/upper").absorbed.at("bias"), t.bias2, 1e-10);
  EXPECT_NEAR(scopes.at("net/lower").entered, t.between, 1e-10);
  EXPECT_NEAR(scopes.at("net/lower").left, t.input, 1e-10);
  EXPECT_NEAR(scopes.at("net/lower").absorbed.at("bias"), t.bias1, 1e-10);
  auto whole = t.n.report.by_scope(1);
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_NEAR(whole.at("net").entered, 2, 1e-12) << "what moves inside does not count";
  EXPECT_NEAR(whole.at("net").left, t.input, 1e-10);
}

// Chains count once, whatever their length; each group adds up; together they make the seed.
TEST(Report, GroupsAddUp) {
  Net n;
  Var x = n.data("x", randn({2, 1, 3, 4}, 5)), h = x;
  for (int64_t i = 0; i < 3; ++i) {
    Scope s(n.g, "block" + std::to_string(i));
    h = h + linear(layer_norm(attention(h, tanh(h), h), Arg(n.weight("g" + std::to_string(i), randn({4}, 6, 1))),
                              Arg(n.weight("b" + std::to_string(i), randn({4}, 7)))),
                   n.weight("w" + std::to_string(i), randn({4, 4}, 8)),
                   Arg(n.weight("c" + std::to_string(i), randn({4}, 9))));
  }
  for (const char* preset : {"attn", "cp", "dynamic"}) {
    n.relevance(h, {x}, lrp::preset(preset));
    for (auto groups : {n.report.by_op(), n.report.by_scope()}) {
      double absorbed = 0, scale = n.report.seed;
      for (const auto& [name, row] : groups) {
        scale = std::max(scale, row.arrived_abs);
        EXPECT_NEAR(row.entered, row.left + row.all_absorbed(), 1e-10 * scale) << preset << " " << name;
        absorbed += row.all_absorbed();
      }
      EXPECT_NEAR(n.report.leaves + absorbed, n.report.seed, 1e-10 * scale);
    }
    // The ops that were recorded, bodies included.
    for (const auto& [op, row] : n.report.by_op())
      EXPECT_TRUE(op == "attention" || op == "layer_norm" || op == "linear" || op == "add" || op == "tanh" ||
                  op == "permute")
          << op;
    EXPECT_NEAR(n.report.by_scope().at("block2").entered, n.report.seed, 1e-10 * n.report.seed);
  }
}

TEST(Report, Coverage) {
  TwoLayers t;
  t.n.relevance(t.y, {t.in}, lrp::attn());
  EXPECT_EQ(t.n.report.with_rule, 3u);
  EXPECT_EQ(t.n.report.coverage(), "coverage: 3 of 3 nodes have a rule, 0 refused; 0 seeds at padding refused");
  EXPECT_NE(t.n.report.text().find(t.n.report.coverage()), std::string::npos);
}

TEST(Report, SeedsAtPaddingAreRefused) {
  Tensor mask = Tensor::full({2, 3}, 1, boolean);
  mask.data<bool>()[2] = mask.data<bool>()[4] = mask.data<bool>()[5] = false;
  for (DType t : {boolean, u8})
    for (int64_t targets : {0, 2}) {
      Graph g;
      Var x = g.input("x", {2, 3, 4}, f64), y = linear(x, g.parameter("w", randn({5, 4}, 10)));
      lrp::Ledger ledger(lrp::attn());
      ledger.only_where(g.constant(mask.to(t)));
      Var seed = targets ? lrp::seeds_for_classes(y, {1, 4}) : lrp::seed_argmax(y, {.position = -1});
      Var r = ledger.relevance(y, x, seed, {.targets = targets});
      Tensor data = randn({2, 3, 4}, 11);
      Results out = evaluate({r, ledger.outputs()}, {{"x", data}});
      lrp::LedgerReport report = ledger.read(out);
      EXPECT_TRUE(report.holds());
      // Last positions of both samples; or three positions for each of two classes.
      EXPECT_EQ(report.seeds_refused, targets ? 6 : 2);
      EXPECT_NE(report.text().find(std::to_string(report.seeds_refused) + " seeds at padding refused"),
                std::string::npos);
      if (!targets) {
        EXPECT_EQ(report.seed, 0);
      }
      for (int64_t k = 0; k < std::max<int64_t>(1, targets); ++k)
        for (int64_t p = 0; p < 6; ++p)
          for (int64_t f = 0; f < 4; ++f) EXPECT_TRUE(mask.item(p) || out[0].item((k * 6 + p) * 4 + f) == 0);
    }
  Graph g;
  Var y = tanh(g.input("x", {2, 3}, f64));
  lrp::Ledger ledger(lrp::attn());
  ledger.only_where(g.constant(Tensor::full({3, 2}, 1, boolean)));
  EXPECT_THROW(ledger.relevance(y, y), ShapeError);
}

}  // namespace
