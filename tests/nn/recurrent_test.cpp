// LSTM and GRU beside their cells written out step by step.
#include "whence/nn/recurrent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/thrown.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/nn/optim.h"
#include "whence/nn/train.h"
#include "whence/testing/values.h"
#include "whence/whence.h"

using namespace whence;
using testing::HasSubstr;

namespace {

Tensor randn(const Shape& s, uint64_t seed, DType t = f64) {
  suite::Rng rng("recurrent", seed);
  return suite::random_tensor(s, t, rng);
}

struct Nets : nn::Module {
  explicit Nets(nn::RecurrentOptions o) : lstm(*this, "lstm", 3, 4, o), gru(*this, "gru", 3, 4, o) { init(3, f64); }
  nn::LSTM lstm;
  nn::GRU gru;
  Tensor get(const std::string& name) { return state_dict().at(name); }
};

// Layers and directions of PyTorch's documentation, one step after the other. states [layers directions, B, H].
std::vector<Var> by_steps(Nets& n, const std::string& kind, const nn::RecurrentOptions& o, Var x,
                          std::vector<Var> states, std::vector<int64_t> lengths) {
  Graph& g = x.graph();
  const int64_t T = x.size(1), D = o.bidirectional ? 2 : 1, B = x.size(0);
  std::vector<std::vector<Var>> last(states.size());
  for (int64_t l = 0; l < o.layers; ++l) {
    std::vector<Var> sides;
    for (int64_t d = 0; d < D; ++d) {
      std::string tail = "_l" + std::to_string(l) + (d ? "_reverse" : "");
      auto w = [&](const std::string& name) { return g.constant(n.get(kind + "." + name + tail)); };
      std::vector<Var> rows, ends[2];
      for (int64_t b = 0; b < B; ++b) {  // each sample by itself, as long as it is
        Var h = select(select(states[0], 0, l * D + d), 0, b), c;
        if (kind == "lstm") c = select(select(states[1], 0, l * D + d), 0, b);
        std::vector<Var> steps(size_t(T), broadcast_to(g.constant(0.0, f64), {4}));
        for (int64_t i = 0; i < lengths[size_t(b)]; ++i) {
          int64_t t = d ? lengths[size_t(b)] - 1 - i : i;
          Var in = linear(select(select(x, 0, b), 0, t), w("weight_ih")), rec = linear(h, w("weight_hh"));
          if (o.bias) in = in + w("bias_ih"), rec = rec + w("bias_hh");
          if (kind == "lstm") {
            std::vector<Var> p = chunk(in + rec, 4);
            c = sigmoid(p[1]) * c + sigmoid(p[0]) * tanh(p[2]);
            h = sigmoid(p[3]) * tanh(c);
          } else {
            std::vector<Var> p = chunk(in, 3), q = chunk(rec, 3);
            Var z = sigmoid(p[1] + q[1]);
            h = (1.0 - z) * tanh(p[2] + sigmoid(p[0] + q[0]) * q[2]) + z * h;
          }
          steps[size_t(t)] = h;
        }
        rows.push_back(stack(steps));
        ends[0].push_back(h);
        if (kind == "lstm") ends[1].push_back(c);
      }
      sides.push_back(stack(rows));
      for (size_t k = 0; k < states.size(); ++k) last[k].push_back(stack(ends[k]));
    }
    x = concat(sides, -1);
  }
  std::vector<Var> r{x};
  for (auto& s : last) r.push_back(stack(s));
  return r;
}

TEST(Recurrent, IsItsCellsStepByStep) {
  for (nn::RecurrentOptions o : {nn::RecurrentOptions{},
                                 {.layers = 2},
                                 {.bias = false, .bidirectional = true},
                                 {.layers = 2, .bidirectional = true}})
    for (bool early : {false, true})
      for (std::string kind : {"lstm", "gru"}) {
        Nets n(o);
        const int64_t chains = o.layers * (o.bidirectional ? 2 : 1);
        std::vector<int64_t> lengths = early ? std::vector<int64_t>{5, 2, 0} : std::vector<int64_t>{5, 5, 5};
        Graph g(Graph::Mode::immediate);
        Var x = g.input("x", randn({3, 5, 3}, 1)), h = g.input("h", randn({chains, 3, 4}, 2)),
            c = g.input("c", randn({chains, 3, 4}, 3));
        std::optional<Var> ends;
        if (early) ends = g.constant(Tensor::from(lengths));
        std::vector<Var> got, states{h};
        if (kind == "lstm") {
          nn::LSTM::Result r = n.lstm(x, nn::LSTM::State{h, c}, ends);
          got = {r.out, r.state.h, r.state.c};
          states.push_back(c);
        } else {
          nn::GRU::Result r = n.gru(x, h, ends);
          got = {r.out, r.h};
        }
        std::vector<Var> want = by_steps(n, kind, o, x, states, lengths);
        ASSERT_EQ(got.size(), want.size());
        for (size_t k = 0; k < got.size(); ++k)
          EXPECT_LT(max_abs_diff(got[k].value(), want[k].value()), 1e-14) << kind << " result " << k;
        auto total = [](const std::vector<Var>& v) {
          Var s = sum(square(v[0]));
          for (size_t k = 1; k < v.size(); ++k) s = s + sum(v[k]);
          return s;
        };
        for (const Var& v : states)
          EXPECT_LT(max_abs_diff(grad(total(got), v).value(), grad(total(want), v).value()), 1e-12);
        EXPECT_LT(max_abs_diff(grad(total(got), x).value(), grad(total(want), x).value()), 1e-12);
      }
}

TEST(Recurrent, RelevanceIsThatOfTheStepsAndTheLedgerCloses) {
  lrp::RuleSet recurrent("recurrent", {.eps = 1e-9});  // lrp::mamba, with less of a stabiliser
  recurrent.set("mul", {.variant = "recurrent", .eps = 1e-9});
  for (std::string kind : {"lstm", "gru"})
    for (const lrp::RuleSet& rules : {lrp::epsilon(1e-9, lrp::Stab::sign), recurrent}) {
      nn::RecurrentOptions o{.layers = 2, .bidirectional = true};
      Nets n(o);
      Graph g;
      Var x = g.input("x", {2, 4, 3}, f64), zero = broadcast_to(g.constant(0.0, f64), {4, 2, 4});
      std::vector<Var> states(kind == "lstm" ? 2 : 1, zero);
      Var got = sum(kind == "lstm" ? n.lstm(x).out : n.gru(x).out),
          want = sum(by_steps(n, kind, o, x, states, {4, 4})[0]);
      lrp::Ledger ledger(rules);
      Var a = ledger.relevance(got, x), b = relevance(want, x, rules);
      Results r = compile({a, b, ledger.outputs()}).run({{"x", randn({2, 4, 3}, 1)}});
      lrp::LedgerReport report = ledger.read(r);
      EXPECT_TRUE(report.holds()) << report.text();
      EXPECT_NEAR(suite::sum(r[0]), report.leaves, 1e-9);
      EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-4 * suite::max_abs(r[1])) << kind << " under " << rules.name();
    }
}

TEST(Recurrent, FollowsThePrecisionOfItsGraph) {
  nn::Module root;
  nn::LSTM lstm(root, "lstm", 3, 4);
  nn::GRU gru(root, "gru", 3, 4);
  Feeds feeds{{"x", randn({2, 5, 3}, 1, f32)}};
  auto run = [&](const GraphOptions& o) {
    Graph g(o);
    Var x = g.input("x", {2, 5, 3});
    nn::LSTM::Result l = lstm(x);
    Var y = sum(square(l.out)) + sum(gru(x).out);
    EXPECT_EQ(l.state.c.dtype(), f32);
    return compile({y, grad(y, x), grad(y, g.state(*lstm.parameters()[1]))}).run(feeds);  // weight_hh
  };
  Results full = run({}), mixed_run = run({.precision = mixed(bf16)});
  for (size_t i = 0; i < 3; ++i)
    EXPECT_LT(max_abs_diff(full[i], mixed_run[i]), 0.03 * (suite::max_abs(full[i].to(f64)) + 0.1)) << i;
}

TEST(Recurrent, TrainsWithDropoutBetweenLayers) {
  struct Net : nn::Module {
    nn::LSTM lstm{*this, "lstm", 2, 16, {.layers = 2, .dropout = 0.1}};
    nn::Linear head{*this, "head", 16, 1};
  } net;
  // The sign of the sum of a sequence.
  auto batch = [](uint64_t seed) {
    Batch b;
    b.tensors["x"] = randn({32, 8, 2}, seed, f32);
    Graph g(Graph::Mode::immediate);
    b.tensors["y"] = cast(greater(sum(g.constant(b.tensors["x"]), {1, 2}), 0.0), f32).value();
    return b;
  };
  nn::TrainStep step(net, nn::AdamW{.lr = 1e-2}, [&](Graph& g, const Batch& b) {
    Var out = net.lstm(g.input("x", b["x"])).out;
    return bce_with_logits(squeeze(net.head(select(out, 1, -1)), 1), g.input("y", b["y"], {.carries = false}));
  });
  double first = step(batch(0)).loss(), last = 0;
  for (uint64_t i = 1; i < 120; ++i) last = step(batch(i)).loss();
  EXPECT_GT(first, 0.6);
  EXPECT_LT(last, 0.25);
}

TEST(Recurrent, HasPyTorchsNames) {
  nn::Module root;
  nn::LSTM lstm(root, "rnn", 3, 5, {.layers = 2, .bidirectional = true});
  std::vector<std::string> names;
  for (auto& [name, t] : root.state_dict()) names.push_back(name + " " + t.shape().str());
  EXPECT_THAT(names, testing::IsSupersetOf({"rnn.weight_ih_l0 [20, 3]", "rnn.weight_hh_l0 [20, 5]",
                                            "rnn.bias_ih_l0_reverse [20]", "rnn.weight_ih_l1_reverse [20, 10]",
                                            "rnn.bias_hh_l1 [20]"}));
  EXPECT_EQ(names.size(), 16u);
}

TEST(Recurrent, RefusesWhatDoesNotFit) {
  nn::Module root;
  EXPECT_THAT(thrown([&] { nn::GRU(root, "a", 3, 0); }),
              testing::AllOf(HasSubstr("GRU 'a' made"), HasSubstr("hidden must be at least 1")));
  EXPECT_THAT(thrown([&] { nn::LSTM(root, "b", 3, 4, {.dropout = 1}); }), HasSubstr("dropout must lie in [0, 1)"));
  nn::LSTM lstm(root, "c", 3, 4);
  Graph g;
  EXPECT_THAT(thrown([&] { lstm(g.input("x", {2, 5, 4})); }), HasSubstr("'c' x must be [B, T, 3], got [2, 5, 4]"));
  Var x = g.input("y", {2, 5, 3}), h = g.input("h", {1, 3, 4});
  EXPECT_THAT(thrown([&] { lstm(x, nn::LSTM::State{h, h}); }), HasSubstr("initial states must be [1, 2, 4]"));
}

}  // namespace
