// Relevance of products over an axis, of sums at computed positions, and of special functions.
#include "tests/lrp/net.h"

using namespace whence;

namespace {

void expect_near(const Tensor& got, const std::vector<double>& want, double tolerance = 1e-12) {
  std::vector<double> v = got.to_vector<double>();
  ASSERT_EQ(v.size(), want.size());
  for (size_t i = 0; i < v.size(); ++i) EXPECT_NEAR(v[i], want[i], tolerance) << "element " << i;
}

TEST(Products, FactorsTakeEqualShares) {
  for (auto values : std::vector<std::vector<double>>{{-2, 0.5, 3, 7}, {4, 0, -1, 2}, {0, 0, 5, 1}}) {
    Net n;
    Var x = n.data("x", Tensor::from(values));
    for (bool keep : {false, true})
      expect_near(n.relevance(prod(x, 0, keep), {x}, lrp::attn())[0], {0.25, 0.25, 0.25, 0.25});
    EXPECT_TRUE(n.report.absorbed.empty()) << "a product holds nothing back";
  }
}

TEST(Products, AsXTimesGradientOverTheNumberOfFactors) {
  Net n;
  Tensor xt = randn({3, 5}, 1);
  Var x = n.data("x", xt), y = prod(x, 1);
  lrp::Ledger ledger(lrp::attn());
  Var r = ledger.relevance(y, x);  // the seed is y
  std::vector<Var> wanted{r, x * grad(sum(y), x) * (1.0 / 5)};
  wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
  Results out = n.run(wanted);
  EXPECT_LT(max_abs_diff(out[0], out[1]), 1e-12);
  EXPECT_TRUE(ledger.read(out).holds());
}

TEST(Products, A3_EachPrefixOfACumulativeProductIsShared) {
  for (bool reverse : {false, true}) {
    Net n;
    Var x = n.data("x", Tensor::from<double>({3, 0, -2, 5}));
    std::vector<double> want{1 + 1 / 2. + 1 / 3. + 1 / 4., 1 / 2. + 1 / 3. + 1 / 4., 1 / 3. + 1 / 4., 1 / 4.};
    if (reverse) std::reverse(want.begin(), want.end());
    expect_near(n.relevance(cumprod(x, 0, reverse), {x}, lrp::epsilon())[0], want);
  }
}

TEST(Products, CumulativeProductsOfEveryAxisInSeveralTargets) {
  Net n;
  Var x = n.data("x", randn({2, 3, 4}, 2)), y = cumprod(x, 1);
  Var seeds = n.g.constant(randn({5, 2, 3, 4}, 3));
  std::vector<Var> wanted{relevance(y, x, lrp::attn(), seeds, {.targets = 5}),
                          sweep({&y, 1}, {&seeds, 1}, {&x, 1}, {.kind = PassKind::gradient, .targets = 5})[0]};
  for (int64_t k = 0; k < 5; ++k) {
    Var seed = select(seeds, 0, k);
    wanted.push_back(relevance(y, x, lrp::attn(), seed));
    wanted.push_back(grad(y, x, seed));
  }
  Results r = n.run(wanted);
  for (int64_t k = 0; k < 5; ++k)
    for (size_t pass : {0, 1})
      EXPECT_LT(max_abs_diff(r[pass].slice(0, k, k + 1).reshaped({2, 3, 4}), r[size_t(2 + 2 * k) + pass]), 1e-12);
}

TEST(Products, ZerosAndInfinitiesStayApart) {
  Net n;
  Var x = n.data("x", Tensor::from<double>({INFINITY, 2, -3})), y = cumprod(x, 0);
  Tensor products = n.run({y})[0];
  for (int64_t i : {0, 1, 2}) EXPECT_EQ(products.item(i), i == 2 ? -INFINITY : INFINITY);
  Var z = n.data("z", Tensor::from<double>({0, 2, 0, 4}));
  expect_near(n.run({grad(sum(cumprod(z, 0)), z)})[0], {1 + 2, 0, 0, 0});
}

TEST(Products, A2_TheErrorFunctionIsAnActivation) {
  Net n;
  Var x = n.data("x", randn({2, 5}, 4)), w = n.weight("w", randn({3, 5}, 5));
  Var h = linear(x, w);
  auto r = n.relevance(erf(h), {h, x}, exact());
  expect_near(r[0], std::vector<double>(6, 1.0));
  EXPECT_NEAR(sum_of(r[1]), 6, 1e-9);
}

TEST(Products, A4_ScatteredSumsAreShared) {
  Net n;
  Var base = n.data("base", Tensor::from<double>({1, 2, 3})), src = n.data("src", Tensor::from<double>({4, -1, 5, 2}));
  Var index = n.g.constant(Tensor::from<int64_t>({0, 2, 0, 2}));
  auto r = n.relevance(scatter_add(base, index, src, 0), {base, src}, exact());  // 10, 2, 4
  expect_near(r[0], {1 / 10., 1, 3 / 4.});
  expect_near(r[1], {4 / 10., -1 / 4., 5 / 10., 2 / 4.});
  EXPECT_NEAR(n.report.leaves, 3, 1e-12);
  // Beside a constant base, whose share is booked.
  Var zeros = n.g.constant(Tensor::from<double>({1, 2, 3}));
  r = n.relevance(scatter_add(zeros, index, src, 0), {src}, exact());
  EXPECT_NEAR(n.report.absorbed.at("constant"), 1 / 10. + 1 + 3 / 4., 1e-12);
}

}  // namespace
