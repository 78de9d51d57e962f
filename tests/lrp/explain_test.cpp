// Perturbation curves on a model whose truth is known, and the page of an explanation.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "whence/lrp/explain.h"
#include "whence/nn/io/npy.h"
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

TEST(Explain, PicturesAreDrawnAndFilesHoldTheNumbers) {
  Tensor w = Tensor::randn({3, 2 * 5 * 4}, 4);
  auto model = [&](Var x) { return linear(reshape(x, {x.size(0), 40}), x.graph().parameter("w", w)); };
  const Tensor sample = Tensor::rand({2, 5, 4}, 9);
  auto e = lrp::explain(model, sample, {.target = 1});
  const std::string page = e.html();
  EXPECT_NE(page.find("<div class=pictures><svg viewBox=\"0 0 4 5\""), std::string::npos);
  EXPECT_EQ(page.find("<table class=seq>"), std::string::npos);

  const std::string stem = std::filesystem::temp_directory_path() / ("whence_explain_" + std::to_string(getpid()));
  e.write_json(stem + ".json");
  e.write_csv(stem + ".csv");
  e.write_npy(stem + ".npy");
  const Tensor back = load_npy(stem + ".npy");
  EXPECT_EQ(back.shape(), sample.shape());
  EXPECT_EQ(back.to_vector<double>(), e.relevance.relevance);
  const auto json = nlohmann::json::parse(e.json());
  EXPECT_EQ(json.at("target"), 1);
  EXPECT_EQ(json.at("methods").at(e.relevance.name).at("relevance").get<std::vector<double>>(), e.relevance.relevance);
  EXPECT_NEAR(json.at("ledger").at("seed").get<double>(), e.scores[1], 1e-6);
  EXPECT_TRUE(json.at("ledger").at("by_op").contains("linear"));
  const std::string csv = e.csv();
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 41);
  for (const char* end : {".json", ".csv", ".npy"}) std::filesystem::remove(stem + end);
  auto named =
      lrp::explain([](Var x) { return x * 1.0; }, Tensor::from<double>({1, 2}), {.tokens = {"a,b", "say \"c\""}});
  EXPECT_NE(named.csv().find("\n0,\"a,b\","), std::string::npos);
  EXPECT_NE(named.csv().find("\n1,\"say \"\"c\"\"\","), std::string::npos);
}

TEST(Explain, OtherInputsAreFedAndThoseThatCarryHaveTheirPart) {
  auto model = [](Var x) {
    Graph& g = x.graph();
    Var second = g.input("second", {x.size(0), 3}, x.dtype());
    Var mask = g.input("mask", {x.size(0), 3}, u8, {.carries = false});
    return (x + second) * cast(mask, x.dtype());
  };
  const Tensor x = Tensor::from<double>({1, 2, 3}), second = Tensor::from<double>({10, 20, 30});
  auto e =
      lrp::explain(model, x, {.target = 1, .inputs = {{"second", second}, {"mask", Tensor::from<uint8_t>({0, 1, 1})}}});
  EXPECT_EQ(e.scores, (std::vector<double>{0, 22, 33}));
  EXPECT_NEAR(e.relevance.relevance[1], 2, 1e-4);
  EXPECT_NEAR(e.others.at("second").item(1), 20, 1e-4);
  EXPECT_EQ(e.others.size(), 1u);
  EXPECT_TRUE(e.ledger.holds()) << e.ledger.text();
  try {
    lrp::explain(model, x);
    FAIL();
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("'second'"), std::string::npos) << error.what();
  }
}

TEST(Explainer, ABatchIsItsSamplesAndSeveralClassesAreOneSweep) {
  Tensor kernel = Tensor::randn({3, 1, 3, 3}, 1, f64), head = Tensor::randn({4, 3}, 2, f64);
  auto model = [&](Var x) {
    Graph& g = x.graph();
    return linear(mean(relu(conv(x, g.parameter("k", kernel))), {2, 3}), g.parameter("h", head));
  };
  const Tensor batch = Tensor::randn({5, 1, 6, 6}, 3, f64);
  lrp::Explainer explainer(model);
  const lrp::BatchExplanation all = explainer(batch);
  EXPECT_EQ(all.relevance.shape(), batch.shape());
  lrp::Explainer classes(model, {.classes = {2, 0}});
  const lrp::BatchExplanation two = classes(batch);
  EXPECT_EQ(two.relevance.shape(), (Shape{2, 5, 1, 6, 6}));
  for (int64_t i = 0; i < 5; ++i) {
    auto one = lrp::explain(model, batch[i]);
    EXPECT_EQ(one.predicted, int64_t(all.predicted.item(i)));
    EXPECT_LT(max_abs_diff(all.relevance[i].reshaped({36}), Tensor::from(one.relevance.relevance)), 1e-12);
    for (int64_t k : {0, 1}) {
      auto other = lrp::explain(model, batch[i], {.target = k == 0 ? 2 : 0});
      EXPECT_LT(max_abs_diff(two.relevance[k][i].reshaped({36}), Tensor::from(other.relevance.relevance)), 1e-12);
    }
  }
  EXPECT_THROW(explainer(Tensor::scalar(1)), ShapeError);
  EXPECT_THROW(lrp::Explainer({}), ValueError);
}

}  // namespace
