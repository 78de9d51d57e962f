// A small network with its feeds, and a relevance sweep whose ledger must hold.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/seed.h"
#include "whence/nn/layers.h"
#include "whence/ops/conv.h"
#include "whence/whence.h"

namespace whence {

inline Tensor randn(const Shape& s, uint64_t seed, double shift = 0) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> n;
  Tensor t = Tensor::empty(s, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = n(rng) + shift;
  return t;
}

inline lrp::RuleSet exact(lrp::RuleSet s = lrp::RuleSet("exact", {.eps = 0, .stab = lrp::Stab::sign})) { return s; }
inline double sum_of(const Tensor& t) {
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

}  // namespace whence
