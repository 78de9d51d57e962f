// CTC next to the sum over every path, spelled out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

constexpr int kTime = 4, kBatch = 4, kClasses = 3;
const std::vector<int64_t> kTargets{1, 1, 2, 1, 2, -1, 1, 2};  // [4, 2]; -1 is padding
const std::vector<int64_t> kRows{4, 3, 4, 1}, kLabels{2, 2, 1, 2};

std::vector<double> logits() {
  std::vector<double> v;
  for (int i = 0; i < kTime * kBatch * kClasses; ++i) v.push_back(std::sin(i * 2.3) * 1.5);
  return v;
}

// -log sum of the probabilities of all paths that collapse to the target of sequence b.
double by_paths(const std::vector<double>& v, int b, int blank) {
  int64_t T = kRows[size_t(b)], paths = int64_t(std::pow(kClasses, double(T)));
  std::vector<int64_t> target(kTargets.begin() + 2 * b, kTargets.begin() + 2 * b + kLabels[size_t(b)]);
  double total = 0;
  for (int64_t path = 0; path < paths; ++path) {
    std::vector<int64_t> spelled;
    double p = 1;
    int64_t rest = path, before = blank;
    for (int64_t t = 0; t < T; ++t, rest /= kClasses) {
      int64_t c = rest % kClasses;
      const double* row = &v[size_t((t * kBatch + b) * kClasses)];
      double z = 0;
      for (int k = 0; k < kClasses; ++k) z += std::exp(row[k]);
      p *= std::exp(row[c]) / z;
      if (c != blank && c != before) spelled.push_back(c);
      before = c;
    }
    if (spelled == target) total += p;
  }
  return -std::log(total);
}

Var loss_of(Graph& g, const std::vector<double>& v, CtcOptions o, Var* x = nullptr) {
  Var in = g.input("logits", Tensor::from(v, {kTime, kBatch, kClasses}));
  if (x) *x = in;
  return ctc_loss(in, g.constant(Tensor::from(kTargets, {kBatch, 2})), g.constant(Tensor::from(kRows)),
                  g.constant(Tensor::from(kLabels)), o);
}

TEST(Ctc, IsTheSumOverAllPaths) {
  Graph g(Graph::Mode::immediate);
  std::vector<double> got = loss_of(g, logits(), {.reduction = Reduction::none}).value().to_vector<double>();
  for (int b = 0; b < 3; ++b) EXPECT_NEAR(got[size_t(b)], by_paths(logits(), b, 0), 1e-13) << "sequence " << b;
  EXPECT_EQ(got[3], INFINITY);  // two labels, one row
  EXPECT_EQ(by_paths(logits(), 3, 0), INFINITY);
}

TEST(Ctc, ReducesAsItSays) {
  Graph g(Graph::Mode::immediate);
  double sum = 0, mean = 0;
  for (int b = 0; b < 3; ++b)
    sum += by_paths(logits(), b, 0), mean += by_paths(logits(), b, 0) / double(kLabels[size_t(b)]) / kBatch;
  EXPECT_NEAR(loss_of(g, logits(), {.zero_infinity = true, .reduction = Reduction::sum}).value().item(), sum, 1e-12);
  EXPECT_NEAR(loss_of(g, logits(), {.zero_infinity = true}).value().item(), mean, 1e-12);
}

TEST(Ctc, GradientByDifferencesAndNoneWhereNothingFits) {
  for (bool zero_infinity : {true, false}) {
    Graph g(Graph::Mode::immediate);
    Var x, y = loss_of(g, logits(), {.zero_infinity = zero_infinity, .reduction = Reduction::none}, &x);
    std::vector<double> d =
        grad(sum(y * g.constant(Tensor::from<double>({1, -2, 3, 1}))), x).value().to_vector<double>();
    const double weight[] = {1, -2, 3};
    for (int i = 0; i < kTime * kBatch * kClasses; ++i) {
      int b = i / kClasses % kBatch;
      auto moved = [&](double h) {
        std::vector<double> v = logits();
        v[size_t(i)] += h;
        return by_paths(v, b, 0);
      };
      double want = b == 3 ? 0 : weight[b] * (moved(1e-6) - moved(-1e-6)) / 2e-6;
      EXPECT_NEAR(d[size_t(i)], want, 1e-8) << "element " << i;
    }
  }
}

// The recursion of Graves et al., equation 6 on, step by step in doubles.
double by_recursion(const std::vector<double>& v, int64_t T, const std::vector<int64_t>& target) {
  const size_t L = 2 * target.size() + 1;
  auto symbol = [&](size_t s) { return s % 2 ? target[s / 2] : 0; };
  std::vector<double> alpha(L), next(L);
  for (int64_t t = 0; t < T; ++t) {
    double z = 0;
    for (int k = 0; k < kClasses; ++k) z += std::exp(v[size_t(t * kClasses + k)]);
    for (size_t s = 0; s < L; ++s) {
      double before = t == 0 ? double(s < 2) : alpha[s];
      if (t > 0 && s > 0) before += alpha[s - 1];
      if (t > 0 && s > 1 && symbol(s) != 0 && symbol(s) != symbol(s - 2)) before += alpha[s - 2];
      next[s] = before * std::exp(v[size_t(t * kClasses + symbol(s))]) / z;
    }
    alpha = next;
  }
  return -std::log(alpha[L - 1] + alpha[L - 2]);
}

TEST(Ctc, ItsGraphDoesNotGrowWithTheInput) {
  std::vector<size_t> nodes, steps;
  for (int64_t T : {5, 40}) {
    std::vector<double> v;
    for (int64_t i = 0; i < T * kClasses; ++i) v.push_back(std::sin(double(i) * 1.7));
    Graph g;
    Var x = g.input("x", {T, 1, kClasses}, f64),
        y = ctc_loss(x, g.constant(Tensor::from<int64_t>({1, 2, 2}, {1, 3})), g.constant(Tensor::from<int64_t>({T})),
                     g.constant(Tensor::from<int64_t>({3})), {.reduction = Reduction::sum});
    Plan p = compile({y, grad(y, x)});
    EXPECT_NEAR(p.run({{"x", Tensor::from(v, {T, 1, kClasses})}})[0].item(), by_recursion(v, T, {1, 2, 2}),
                1e-12 * double(T));
    nodes.push_back(g.node_count());
    steps.push_back(p.stats().steps);
  }
  EXPECT_EQ(nodes[0], nodes[1]);
  EXPECT_EQ(steps[0], steps[1]);
}

TEST(Ctc, RefusesWhatDoesNotFit) {
  Graph g;
  Var x = g.input("x", {5, 2, 4}, f32), targets = g.input("t", {2, 3}, i64), n = g.input("n", {2}, i64);
  EXPECT_THAT(thrown([&] { ctc_loss(x, n, n, n); }), HasSubstr("targets must be [2, S]"));
  EXPECT_THAT(thrown([&] { ctc_loss(x, targets, targets, n); }), HasSubstr("input_lengths must be [2]"));
  EXPECT_THAT(thrown([&] { ctc_loss(x, targets, n, n, {.blank = 4}); }), HasSubstr("blank 4 is no class"));
}

}  // namespace
