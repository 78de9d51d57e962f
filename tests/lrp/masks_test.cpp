// Masks of minus infinity, by a mask, a bias or by hand: finite relevance, and a ledger that closes.
#include <limits>

#include "tests/lrp/net.h"

using namespace whence;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Relevance of x under every preset; the ledger is checked on the way.
std::vector<Tensor> under_presets(Net& n, Var y, Var x) {
  std::vector<Tensor> all;
  for (const char* name : {"attn", "cp", "dynamic", "epsilon", "mamba"}) {
    all.push_back(n.relevance(y, {x}, lrp::preset(name))[0]);
    for (double v : all.back().to_vector<double>()) EXPECT_TRUE(std::isfinite(v)) << name;
    EXPECT_TRUE(std::isfinite(n.report.all_absorbed())) << name << "\n" << n.report.text();
    EXPECT_NEAR(n.report.leaves + n.report.all_absorbed(), n.report.seed, 1e-9 * std::max(1.0, n.report.seed)) << name;
  }
  return all;
}

Tensor bias_with_blind_query(int64_t T, int64_t query) {
  Tensor b = randn({1, 1, T, T}, 1);
  for (int64_t s = 0; s < T; ++s) b.data<double>()[query * T + s] = -kInf;
  b.data<double>()[((query + 1) % T) * T] = -kInf;  // and one key of another
  return b;
}

TEST(Masks, AQueryThatABiasBlinds) {
  for (bool carries : {false, true}) {
    Net n;
    Tensor bias = bias_with_blind_query(4, 2);
    Var x = n.data("x", randn({1, 1, 4, 3}, 2));
    Var b = carries ? n.data("b", bias) : n.g.constant(bias), y = attention(x, tanh(x), x, {.bias = b});
    for (double v : n.run({y})[0].to_vector<double>()) EXPECT_TRUE(std::isfinite(v));
    if (!carries) under_presets(n, y, x);
    else n.relevance(y, {x, b}, lrp::attn());
  }
}

TEST(Masks, FusedAndBodyAgreeOnABlindQuery) {
  Net n;
  Var x = n.data("x", randn({1, 2, 3, 4}, 3)), b = n.g.constant(bias_with_blind_query(3, 0));
  Var y = attention(x, x * 0.5, x, {.bias = b});
  std::vector<Var> wanted;
  for (bool body : {false, true}) {
    lrp::Ledger ledger(lrp::attn(1e-12));
    wanted.push_back(ledger.relevance(y, x, broadcast_to(n.g.constant(1.0, f64), y.shape()), {.inline_fused = body}));
  }
  Results r = n.run(wanted);
  EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-9);
}

TEST(Masks, AFullyMaskedRowOfABatch) {
  Net n;
  Tensor mask = Tensor::full({3, 5}, 1, boolean);
  for (int64_t s = 0; s < 5; ++s) mask.data<bool>()[5 + s] = false;  // the second sample sees nothing
  mask.data<bool>()[3] = mask.data<bool>()[4] = false;
  Var x = n.data("x", randn({3, 1, 5, 4}, 4));
  std::vector<Tensor> all = under_presets(n, sum(attention(x, tanh(x), x, {.mask = n.g.constant(mask)}), {1, 2, 3}), x);
  for (const Tensor& r : all)
    for (int64_t i = 20; i < 40; ++i) EXPECT_EQ(r.item(i), 0) << "nothing reaches the blind sample";
}

TEST(Masks, AddedToScoresByHand) {
  for (double masked : {-kInf, -1e9, -std::numeric_limits<double>::max()}) {
    Net n;
    Tensor mask = Tensor::zeros({4, 4}, f64);
    for (int64_t t = 0; t < 4; ++t)
      for (int64_t s = t + 1; s < 4; ++s) mask.data<double>()[t * 4 + s] = masked;
    Var x = n.data("x", randn({2, 4, 3}, 5)), scores = matmul(x, transpose(tanh(x)));
    Var y = matmul(softmax(scores + n.g.constant(mask)), x);
    std::vector<Tensor> r = under_presets(n, y, x);
    // The mask takes nothing from what it lets through: as attention does it.
    Var q = reshape(x, {2, 1, 4, 3}), fused = attention(q, tanh(q), q, {.causal = true, .scale = 1});
    Tensor want = n.relevance(fused, {x}, lrp::attn())[0];
    EXPECT_LT(max_abs_diff(r[0], want), 1e-4) << masked;
  }
}

TEST(Masks, ClassesThatCannotBe) {
  Net n;
  Tensor open = Tensor::full({2, 4}, 1, boolean);
  open.data<bool>()[1] = open.data<bool>()[6] = false;
  Var x = n.data("x", randn({2, 4}, 6)), scores = where(n.g.constant(open), x, -kInf);
  Var target = n.g.constant(Tensor::from<int64_t>({3, 0}));
  under_presets(n, pick(log_softmax(scores), target), x);
  under_presets(n, cross_entropy(scores, target), x);
  under_presets(n, softmax(scores + tanh(x)), x);  // both terms are data
}

TEST(Masks, ScoresThatAreMaskedOut) {
  Net n;
  Var y = n.data("y", Tensor::from<double>({-kInf, 2, -kInf, 1}).reshaped({1, 4}));
  Results r = n.run({lrp::seed(y, 1), lrp::seed_argmax(y), lrp::seed(y, 3, {.form = lrp::SeedForm::one_hot})});
  for (size_t i : {0, 1, 2})
    for (double v : r[i].to_vector<double>()) EXPECT_TRUE(std::isfinite(v));
  EXPECT_EQ(r[0].item(1), 2);
}

}  // namespace
