// Perturbation curves on a model whose truth is known, and the page of an explanation.
#include <gtest/gtest.h>

#include <cmath>

#include "whence/lrp/explain.h"
#include "whence/whence.h"

using namespace whence;

namespace {

TEST(Curves, AreaIsNormalised) {
  lrp::Curve c{{0, 0.5, 1}, {1, 0.5, 0}};
  EXPECT_DOUBLE_EQ(c.area(), 0.5);
  EXPECT_DOUBLE_EQ((lrp::Curve{{0, 1}, {1, 1}}).area(), 1);
}

TEST(Curves, AKnownModel) {
  // The score is the share of the first three of twelve units that is still there.
  auto score = [](const Tensor& keep) {
    std::vector<double> s;
    for (int64_t b = 0; b < keep.shape()[0]; ++b) {
      double n = 0;
      for (int64_t i = 0; i < 3; ++i) n += keep.item(b * 12 + i);
      s.push_back(n / 3);
    }
    return s;
  };
  std::vector<double> right(12, 0), wrong(12, 0);
  for (size_t i = 0; i < 3; ++i) right[i] = 1;
  for (size_t i = 9; i < 12; ++i) wrong[i] = 1;
  lrp::CurveOptions o{.steps = 12, .batch = 5, .random_orders = 64};
  auto good = lrp::faithfulness(right, score, o), bad = lrp::faithfulness(wrong, score, o);
  // Most relevant first: 1, 2/3, 1/3, 0, ... ; least relevant first: 1 until three are left.
  EXPECT_NEAR(good.morf.area(), (0.5 + 2.0 / 3 + 1.0 / 3) / 12, 1e-12);
  EXPECT_NEAR(good.lerf.area(), 1 - good.morf.area(), 1e-12);
  EXPECT_NEAR(good.random.area(), 0.5, 0.06);
  EXPECT_NEAR(good.insertion.area(), 1 - good.morf.area(), 1e-12);
  EXPECT_GT(good.abpc(), 0.7);
  EXPECT_LT(bad.abpc(), good.abpc());
  EXPECT_EQ(good.random.score.size(), 13u);
}

TEST(Curves, AnOrderNamesEveryUnitOnce) {
  auto score = [](const Tensor& keep) { return std::vector<double>(size_t(keep.shape()[0]), 1.0); };
  for (auto order : std::vector<std::vector<int64_t>>{{0, 1, 4, 2}, {0, -1, 1}, {1, 0, 1}, {INT64_MIN, 0}, {7}}) {
    EXPECT_THROW(lrp::deletion_curve(order, score), ValueError);
    EXPECT_THROW(lrp::insertion_curve(order, score), ValueError);
  }
  EXPECT_EQ(lrp::insertion_curve({2, 0, 1}, score).score.size(), 4u);
  EXPECT_TRUE(lrp::deletion_curve({}, score).score.empty());
}

TEST(Curves, NumbersThatMakeNoSense) {
  auto score = [](const Tensor& keep) { return std::vector<double>(size_t(keep.shape()[0]), std::nan("")); };
  EXPECT_THROW(lrp::deletion_curve({1, 0}, score), NumericError);
  EXPECT_THROW(lrp::by_relevance({1, std::nan(""), 2}), NumericError);
  EXPECT_EQ(lrp::by_relevance({-INFINITY, INFINITY, 0}), (std::vector<int64_t>{1, 2, 0}));
  auto one = [](const Tensor& keep) { return std::vector<double>(size_t(keep.shape()[0]), 1.0); };
  for (lrp::CurveOptions o : {lrp::CurveOptions{.steps = 0}, {.batch = -3}, {.random_orders = 0}})
    EXPECT_THROW(lrp::faithfulness({1, 2}, one, o), ValueError);
  EXPECT_THROW(lrp::mean_curve({{{0, 0.5, 1}, {1, 1, 1}}, {{0, 0.25, 1}, {1, 1, 1}}}), ValueError);
  EXPECT_THROW((lrp::Curve{{0, 1}, {1}}).area(), ValueError);
}

TEST(Explain, ScoresThatPredictNothing) {
  auto model = [](Var x) { return x * 1.0; };
  double nan = std::nan("");
  for (auto scores : std::vector<std::vector<double>>{{1, nan}, {nan, nan, nan}, {3, INFINITY}, {-INFINITY, -INFINITY}})
    for (int64_t target : {-1, 0})
      EXPECT_THROW(lrp::explain(model, Tensor::from(scores), {.target = target}), NumericError);
  auto e = lrp::explain(model, Tensor::from<double>({1, -INFINITY, 2}));  // a class that cannot be
  EXPECT_EQ(e.predicted, 2);
  EXPECT_EQ(e.probabilities[1], 0);
  EXPECT_TRUE(e.ledger.holds()) << e.ledger.text();
  EXPECT_THROW(lrp::explain([](Var x) { return slice(x, 1, 0, 0); }, Tensor::from<double>({1, 2})), ShapeError);
  EXPECT_THROW(lrp::explain([](Var x) { return cast(x, i64); }, Tensor::from<double>({1, 2})), DTypeError);
}

TEST(Explain, APageThatStandsAlone) {
  Tensor table = Tensor::zeros({5, 4}, f32), head = Tensor::zeros({3, 4}, f32);
  for (int64_t i = 0; i < table.numel(); ++i) table.data<float>()[i] = float(std::sin(double(i)));
  for (int64_t i = 0; i < head.numel(); ++i) head.data<float>()[i] = float(std::cos(double(i)));
  auto model = [&](Var ids) {
    Graph& g = ids.graph();
    return linear(gelu(mean(embedding(ids, g.parameter("table", table)), {1})), g.parameter("head", head));
  };
  std::vector<int64_t> ids{0, 1, 2, 3, 3, 2, 1, 0, 2, 1};
  auto e = lrp::explain(model, Tensor::from(ids),
                        {.title = "A <test>",
                         .classes = {"ant", "bee", "cat"},
                         .tokens = {"A", "C", "G", "T", "T", "G", "C", "A", "G", "C"},
                         .removed_token = 4});
  EXPECT_EQ(e.relevance.relevance.size(), ids.size());
  EXPECT_EQ(e.baseline.relevance.size(), ids.size());
  EXPECT_TRUE(e.ledger.holds()) << e.ledger.text();
  double total = e.ledger.all_absorbed();
  for (double r : e.relevance.relevance) total += r;
  EXPECT_NEAR(total, e.scores[size_t(e.target)], 1e-5);
  EXPECT_EQ(e.relevance.curves.morf.score.size(), 11u);
  EXPECT_NEAR(e.relevance.curves.morf.score[0], e.probabilities[size_t(e.target)], 1e-6);
  std::string page = e.html();
  EXPECT_NE(page.find("A &lt;test&gt;"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos) << "nothing may be fetched";
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_THROW(lrp::explain(model, Tensor::from(ids), {.target = 3}), ValueError);
}

}  // namespace
