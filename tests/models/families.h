// What every model of models/ must do: give its shapes, let the gradient reach every parameter that trains, pass
// relevance on without loss.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/nn/module.h"
#include "whence/ops/ops.h"

namespace whence {

inline Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype = f64) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Tensor t = Tensor::empty(shape, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = normal(random);
  return t.to(dtype);
}
inline Tensor random_ids(const Shape& shape, int64_t below, uint64_t seed) {
  std::mt19937_64 random(seed);
  Tensor t = Tensor::empty(shape, i64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<int64_t>()[i] = int64_t(random() % uint64_t(below));
  return t;
}

/// What one recording of a model has to show.
struct Recording {
  Var data, result;  ///< relevance runs from the result to the data
  Shape shape;       ///< of the result
  Feeds feeds;
};
struct FamilyCheck {
  std::vector<std::string> untouched = {};  ///< parameters that this recording does not use, by parts of their names
  lrp::RuleSet rules = lrp::attn();
};

/// Weights become random in f64, norm scales near 1 and biases near 0, so that nothing hides behind a zero.
inline void randomise(nn::Module& model) {
  model.init(1, f64);
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  for (nn::Parameter* p : model.parameters()) {
    if (!p->trainable()) continue;
    Tensor t = p->tensor();
    for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] += 0.1 * normal(random);
  }
}

inline void check_family(nn::Module& model, const std::function<Recording(Graph&)>& record,
                         const FamilyCheck& check = {}) {
  Graph g;
  Recording r = record(g);
  EXPECT_EQ(r.result.shape(), r.shape);
  // Each result with a weight of its own: no symmetry hides a parameter.
  Var loss = sum(r.result * g.constant(random_tensor(r.shape, 3)));
  std::vector<Var> gradients = nn::grad(loss, model);
  lrp::Ledger ledger(check.rules);
  Var relevance = ledger.relevance(r.result, r.data);
  Results out = compile({loss, relevance, gradients, ledger.outputs()}).run(r.feeds);
  EXPECT_TRUE(std::isfinite(out[0].item()));
  size_t i = 0;
  for (nn::Parameter* p : model.parameters()) {
    if (!p->trainable()) continue;
    double largest = 0;
    for (double v : out[gradients[i++]].to_vector<double>()) largest = std::max(largest, std::fabs(v));
    bool used = true;
    for (const std::string& part : check.untouched) used = used && p->name().find(part) == std::string::npos;
    EXPECT_TRUE(std::isfinite(largest)) << p->name();
    if (used) EXPECT_GT(largest, 0) << p->name();
    else EXPECT_EQ(largest, 0) << p->name();
  }
  lrp::LedgerReport report = ledger.read(out);
  EXPECT_TRUE(report.holds(1e-9)) << report.text();
  double largest = 0;
  for (double v : out[relevance].to_vector<double>()) largest = std::max(largest, std::fabs(v));
  EXPECT_GT(largest, 0);
}

}  // namespace whence
