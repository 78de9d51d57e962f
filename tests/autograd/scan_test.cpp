// Loops with a body of their own, beside the same steps written out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/thrown.h"
#include "whence/autograd/body.h"
#include "whence/autograd/plan/run.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/nn/layers.h"
#include "whence/testing/sim.h"
#include "whence/testing/values.h"
#include "whence/whence.h"

using namespace whence;
using testing::HasSubstr;

namespace {

using Values = std::vector<Var>;
using Step = std::function<ScanNext(const ScanStep&)>;

// The same steps in the graph outside.
Scanned unrolled(const Step& body, Values carries, const Values& per_step, const Values& shared, int64_t T,
                 bool reverse = false) {
  std::vector<Values> outs;
  for (int64_t i = 0; i < T; ++i) {
    Values x;
    for (const Var& v : per_step) x.push_back(select(v, 0, reverse ? T - 1 - i : i));
    ScanNext next = body({carries, x, shared});
    carries = next.carries;
    outs.resize(next.out.size());
    for (size_t k = 0; k < outs.size(); ++k) outs[k].insert(reverse ? outs[k].begin() : outs[k].end(), next.out[k]);
  }
  Scanned r{carries, {}};
  for (const Values& o : outs) r.out.push_back(stack(o, 0));
  return r;
}

// x [T, B, 3], h and c [B, 4]: gates by one product of the state, as an LSTM has them.
ScanNext cell(const ScanStep& s) {
  std::vector<Var> gates = chunk(s.per_step[0] + linear(s.carries[0], s.shared[0], Arg(s.shared[1])), 4);
  Var c = sigmoid(gates[1]) * s.carries[1] + sigmoid(gates[0]) * tanh(gates[2]), h = sigmoid(gates[3]) * tanh(c);
  return {{h, c}, {h}};
}

Tensor randn(const Shape& s, uint64_t seed, DType t = f64) {
  suite::Rng rng("scan", seed);
  return suite::random_tensor(s, t, rng);
}

struct Lstm {
  static constexpr int64_t B = 2, H = 4;
  int64_t T;
  bool reverse = false;
  DType dtype = f64;
  std::vector<Tensor> data() const {
    return {randn({T, B, 4 * H}, 1, dtype), randn({B, H}, 2, dtype), randn({B, H}, 3, dtype),
            randn({4 * H, H}, 4, dtype), randn({4 * H}, 5, dtype)};
  }
  // x, h, c, W, b
  Values inputs(Graph& g) const {
    Values v;
    const char* names[] = {"x", "h", "c", "W", "b"};
    for (size_t i = 0; i < 5; ++i) v.push_back(g.input(names[i], data()[i]));
    return v;
  }
  Feeds feeds() const {
    std::vector<Tensor> d = data();
    return {{"x", d[0]}, {"h", d[1]}, {"c", d[2]}, {"W", d[3]}, {"b", d[4]}};
  }
  Scanned scanned(const Values& v) const {
    return scan(cell, {v[1], v[2]}, {v[0]}, {v[3], v[4]}, {.reverse = reverse});
  }
  Scanned written_out(const Values& v) const { return unrolled(cell, {v[1], v[2]}, {v[0]}, {v[3], v[4]}, T, reverse); }
  // A number that every result has a part in.
  static Var loss(const Scanned& s) {
    Var weights = sin(arange(s.out[0].graph(), s.out[0].numel(), s.out[0].dtype()));
    return sum(reshape(s.out[0], {-1}) * weights) + sum(square(s.carries[1])) + sum(s.carries[0]);
  }
};

double scale(const Tensor& t) { return max_abs_diff(t, Tensor::zeros(t.shape(), t.dtype())); }

TEST(Scan, IsTheUnrolledLoopBitByBit) {
  for (int64_t T : {1, 2, 7})
    for (bool reverse : {false, true})
      for (bool immediate : {false, true}) {
        Lstm l{T, reverse};
        Graph g(immediate ? Graph::Mode::immediate : Graph::Mode::record);
        Values in = l.inputs(g);
        Scanned a = l.scanned(in), b = l.written_out(in);
        ASSERT_EQ(a.out[0].shape(), (Shape{T, Lstm::B, Lstm::H}));
        Values list{a.out[0], a.carries[0], a.carries[1], b.out[0], b.carries[0], b.carries[1]};
        std::vector<Tensor> got;
        if (immediate)
          for (const Var& v : list) got.push_back(v.value());
        else
          for (const Tensor& t : compile(list).run(l.feeds())) got.push_back(t);
        for (size_t k = 0; k < 3; ++k) EXPECT_TRUE(bitwise_equal(got[k], got[k + 3])) << T << " result " << k;
      }
}

TEST(Scan, GradientsOfBothOrdersAreThoseOfTheUnrolledLoop) {
  for (bool reverse : {false, true})
    for (CompileOptions o : {CompileOptions{}, {.fuse = false}, {.reuse_memory = false}}) {
      Lstm l{5, reverse};
      Graph g;
      Values in = l.inputs(g), all;
      for (Scanned s : {l.scanned(in), l.written_out(in)}) {
        Values d = grad(Lstm::loss(s), in);
        Var along = sum(d[0] * cos(in[0]));
        for (size_t i = 1; i < in.size(); ++i) along = along + sum(d[i] * cos(in[i]));
        Values hv = grad(along, in);
        all.insert(all.end(), d.begin(), d.end());
        all.insert(all.end(), hv.begin(), hv.end());
      }
      Results r = compile(all, o).run(l.feeds());
      for (size_t i = 0; i < 10; ++i)
        EXPECT_LT(max_abs_diff(r[i], r[i + 10]), 1e-12 * scale(r[i + 10])) << "order " << i / 5 + 1 << " of " << i % 5;
    }
}

TEST(Scan, NodesAndStepsDoNotDependOnT) {
  std::vector<std::vector<size_t>> counts;
  for (int64_t T : {3, 50}) {
    Lstm l{T};
    Graph g;
    Values in = l.inputs(g);
    Var y = Lstm::loss(l.scanned(in));
    std::vector<size_t> count{g.node_count()};
    Values d = grad(y, in);
    count.push_back(g.node_count());
    Values hv = grad(sum(square(d[3])), in), r = relevance(y, in, lrp::attn());
    count.push_back(g.node_count());
    count.push_back(compile({y, d, hv, r}).stats().steps);
    counts.push_back(count);
  }
  EXPECT_EQ(counts[0], counts[1]);
}

TEST(Scan, HistoryTakesMemoryOnlyForASweep) {
  auto bytes = [](int64_t T, bool sweep) {
    Lstm l{T};
    Graph g;
    Values in = l.inputs(g);
    Var y = sum(l.scanned(in).carries[0]);
    return compile(sweep ? Values{y, grad(y, in[3])} : Values{y}).stats().arena_bytes;
  };
  EXPECT_EQ(bytes(10, false), bytes(1000, false));
  EXPECT_GT(bytes(1000, true), bytes(10, true));
}

// ---- relevance ----------------------------------------------------------------------------------------------------

// Everything but the weights carries, or only x: then the first steps have fewer carriers than the others.
TEST(Scan, RelevanceIsThatOfTheUnrolledLoopUnderAnyRules) {
  lrp::RuleSet own("own");
  own.set("mul", {.variant = "second"}).set("linear", {.variant = "gamma"}).set("tanh", {.variant = "identity"});
  for (const lrp::RuleSet& rules : {lrp::attn(1e-6), lrp::epsilon(1e-4, lrp::Stab::sign), lrp::mamba(), own})
    for (int data : {1, 2, 3})
      for (bool reverse : {false, true}) {
        Lstm l{4, reverse};
        std::vector<Tensor> t = l.data(), relevances;
        for (bool loop : {true, false}) {
          Graph g(Graph::Mode::immediate);
          Values in;
          for (size_t i = 0; i < 5; ++i)
            in.push_back(int(i) < data ? g.input("x" + std::to_string(i), t[i])
                                       : g.parameter("w" + std::to_string(i), t[i]));
          Scanned s = loop ? l.scanned(in) : l.written_out(in);
          Var y = sum(s.out[0]) + sum(s.carries[1] * 0.5);
          for (Var r : relevance(y, std::span(in).first(size_t(data)), rules)) relevances.push_back(r.value());
        }
        for (int i = 0; i < data; ++i)
          EXPECT_LT(max_abs_diff(relevances[size_t(i)], relevances[size_t(i + data)]),
                    1e-11 * (1 + scale(relevances[size_t(i + data)])))
              << rules.name() << " with " << data << " operands of data, operand " << i;
      }
}

TEST(Scan, TheLedgerClosesAtEveryStep) {
  for (int64_t T : {6, 60}) {
    Lstm l{T};
    Graph g;
    Values in = l.inputs(g);
    Var W = g.parameter("W", l.data()[3]), b = g.parameter("b", l.data()[4]);
    Scope outer(g, "lstm");
    Scanned s = scan(cell, {in[1], in[2]}, {in[0]}, {W, b});
    Var y = sum(s.out[0]) + sum(s.carries[1]);
    lrp::Ledger ledger(lrp::attn(1e-3));
    Values r = ledger.relevance(y, std::vector<Var>{in[0], in[1], in[2]});
    Results out = compile({r, ledger.outputs()}).run(l.feeds());
    lrp::LedgerReport report = ledger.read(out);
    EXPECT_TRUE(report.holds()) << report.text();
    EXPECT_GT(std::abs(report.absorbed.at("bias")), 1e-6);
    size_t rows = 0;
    for (const lrp::LedgerRow& row : report.nodes) {
      if (row.steps == 1) continue;
      ++rows;
      EXPECT_EQ(row.steps, T);
      EXPECT_EQ(row.recorded, "scan");
      EXPECT_LT(row.worst, 1e-10) << row.where;
      EXPECT_THAT(row.where, HasSubstr("scan_test.cpp"));
    }
    EXPECT_GT(rows, 8u);
    // What came into the scan left it or was absorbed in it.
    lrp::LedgerRow scan_row = report.by_op().at("scan"), scope = report.by_scope().at("lstm");
    EXPECT_NEAR(scan_row.entered, scan_row.left + scan_row.all_absorbed(), 1e-9);
    EXPECT_NEAR(scope.entered, scope.left + scope.all_absorbed(), 1e-9);
    double sum_leaves = 0;
    for (size_t i = 0; i < 3; ++i)
      for (double v : out[i].to_vector<double>()) sum_leaves += v;
    EXPECT_NEAR(sum_leaves, report.leaves, 1e-9);
  }
}

TEST(Scan, ALedgerSeesALeakInOneStep) {
  lrp::LedgerReport report;
  report.seed = report.leaves = 1;
  lrp::LedgerRow row;
  row.arrived = row.passed = row.arrived_abs = row.passed_abs = 1;
  row.worst = 1e-3;  // steps that make up for each other
  report.nodes = {row};
  EXPECT_FALSE(report.holds());
}

TEST(Scan, RulesThatDoNotFitItsBodyAreToldBeforehand) {
  Lstm l{3};
  Graph g;
  Values in = l.inputs(g);
  Var y = sum(l.scanned(in).out[0]);
  lrp::RuleSet bad("bad");
  bad.set("linear", {.variant = "no_such"});
  size_t nodes = g.node_count();
  EXPECT_THAT(thrown([&] { relevance(y, in[0], bad); }), HasSubstr("[linear] has no relevance variant 'no_such'"));
  EXPECT_EQ(g.node_count(), nodes);
  // What decides inside the body only has decided.
  lrp::RuleSet inside("inside");
  inside.set("tanh", {.variant = "identity"}).set("gelu", {.variant = "identity"});
  std::vector<std::string> unmatched;
  relevance(y, in[0], inside, {}, {.unmatched = &unmatched});
  ASSERT_EQ(unmatched.size(), 1u);
  EXPECT_THAT(unmatched[0], HasSubstr("gelu"));
}

// ---- lengths ------------------------------------------------------------------------------------------------------

TEST(Scan, SamplesEndEarly) {
  const std::vector<int64_t> lengths{3, 5};
  for (bool reverse : {false, true}) {
    Lstm l{5, reverse};
    Graph g(Graph::Mode::immediate);
    Values in = l.inputs(g);
    Var n = g.constant(Tensor::from(lengths));
    Scanned s = scan(cell, {in[1], in[2]}, {in[0]}, {in[3], in[4]}, {.reverse = reverse, .lengths = n});
    Values d = grad(Lstm::loss(s), in);
    for (int64_t b = 0; b < 2; ++b) {
      auto row = [&](Var v, int64_t axis) { return slice(v, axis, b, b + 1); };
      Lstm alone{lengths[size_t(b)], reverse};
      Values part{slice(row(in[0], 1), 0, 0, alone.T), row(in[1], 0), row(in[2], 0), in[3], in[4]};
      Scanned want = alone.scanned(part);
      EXPECT_LT(max_abs_diff(row(s.carries[1], 0).value(), want.carries[1].value()), 1e-14);
      EXPECT_LT(max_abs_diff(slice(row(s.out[0], 1), 0, 0, alone.T).value(), want.out[0].value()), 1e-14);
      for (double v : slice(row(s.out[0], 1), 0, alone.T).value().to_vector<double>()) EXPECT_EQ(v, 0);
      for (double v : slice(row(d[0], 1), 0, alone.T).value().to_vector<double>()) EXPECT_EQ(v, 0);
    }
  }
  Graph g;
  Lstm l{5};
  Values in = l.inputs(g);
  Var n = g.input("n", {2}, i32);
  Plan p = compile({scan(cell, {in[1], in[2]}, {in[0]}, {in[3], in[4]}, {.lengths = n}).carries[0]});
  Feeds feeds = l.feeds();
  feeds.emplace_back("n", Tensor::from<int32_t>({2, 6}));
  EXPECT_THAT(thrown([&] { p.run(feeds); }), HasSubstr("length 6 at position 1 is outside [0, 6)"));
}

// ---- what a body may be ---------------------------------------------------------------------------------------------

TEST(Scan, NoStepsLeaveTheStates) {
  for (bool immediate : {false, true}) {
    Lstm l{0};
    Graph g(immediate ? Graph::Mode::immediate : Graph::Mode::record);
    Values in = l.inputs(g);
    Scanned s = l.scanned(in);
    Values d = grad(sum(s.carries[0] * 3.0) + sum(s.out[0]), in), list{s.carries[0], s.out[0], d[1], d[3], d[0]};
    std::vector<Tensor> got;
    if (immediate)
      for (const Var& v : list) got.push_back(v.value());
    else
      for (const Tensor& t : compile(list).run(l.feeds())) got.push_back(t);
    EXPECT_TRUE(bitwise_equal(got[0], l.data()[1]));
    EXPECT_EQ(got[1].shape(), (Shape{0, Lstm::B, Lstm::H}));
    for (double v : got[2].to_vector<double>()) EXPECT_EQ(v, 3);
    for (double v : got[3].to_vector<double>()) EXPECT_EQ(v, 0);
    EXPECT_EQ(got[4].shape(), (Shape{0, Lstm::B, 4 * Lstm::H}));
  }
}

TEST(Scan, StepsAloneCount) {
  Graph g(Graph::Mode::immediate);
  Var one = g.constant(1.0, f64), rate = g.input("rate", Tensor::scalar(1.5, f64));
  Scanned s = scan(
      [](const ScanStep& s) {
        return ScanNext{{s.carries[0] * s.shared[0]}, {}};
      },
      {one}, {}, {rate}, {.steps = 6});
  EXPECT_EQ(s.carries[0].value().item(), std::pow(1.5, 6));
  EXPECT_NEAR(grad(s.carries[0], rate).value().item(), 6 * std::pow(1.5, 5), 1e-12);
  EXPECT_NEAR(grad(grad(s.carries[0], rate), rate).value().item(), 30 * std::pow(1.5, 4), 1e-11);
}

TEST(Scan, ScansInScans) {
  // s_{t+1} = sum over k of s_t a_k x_t, by an inner loop over a.
  Step inner = [](const ScanStep& s) { return ScanNext{{s.carries[0] + s.shared[0] * s.per_step[0]}, {}}; };
  Step outer = [&](const ScanStep& s) {
    Var zero = broadcast_to(s.carries[0].graph().constant(0.0, f64), {3});
    Var next = scan(inner, {zero}, {s.shared[0]}, {s.carries[0] * s.per_step[0]}).carries[0];
    return ScanNext{{next}, {next}};
  };
  Graph g;
  Var x = g.input("x", {4, 3}, f64), a = g.input("a", {5, 3}, f64), h = g.input("h", {3}, f64);
  Feeds feeds{{"x", randn({4, 3}, 7)}, {"a", randn({5, 3}, 8)}, {"h", randn({3}, 9)}};
  Scanned s = scan(outer, {h}, {x}, {a});
  Var want = h;
  for (int64_t t = 0; t < 4; ++t) want = want * select(x, 0, t) * sum(a, {0});
  Values in{x, a, h}, all{s.carries[0], want};
  for (Var y : {s.carries[0], want}) {
    Values d = grad(sum(y), in), r = relevance(sum(y), in, lrp::attn(0));
    all.insert(all.end(), d.begin(), d.end());
    all.insert(all.end(), r.begin(), r.end());
  }
  lrp::Ledger ledger(lrp::attn(1e-3));
  ledger.relevance(sum(s.carries[0]), in);
  Results r = compile({all, ledger.outputs()}).run(feeds);
  EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-12 * scale(r[1]));
  for (size_t i = 2; i < 5; ++i) EXPECT_LT(max_abs_diff(r[i], r[i + 6]), 1e-12 * scale(r[i + 6]));
  for (size_t i = 5; i < 8; ++i)
    EXPECT_NEAR(r[i].to_vector<double>()[0] + r[i].to_vector<double>()[1],
                r[i + 6].to_vector<double>()[0] + r[i + 6].to_vector<double>()[1], 1e-9)
        << i;
  lrp::LedgerReport report = ledger.read(r);
  EXPECT_TRUE(report.holds()) << report.text();
  int64_t deepest = 0;
  for (const lrp::LedgerRow& row : report.nodes) deepest = std::max(deepest, row.steps);
  EXPECT_EQ(deepest, 16);  // of 4 x 5: the first inner step starts from zeros, which carry nothing
}

TEST(Scan, FindsParametersConstantsAndInputsByItself) {
  Graph g;
  Tensor w = randn({3, 3}, 1, f32), large = randn({3, 100}, 2, f32);
  Var x = g.input("x", {4, 2, 3}), h = g.input("h", {2, 3});
  auto body = [&](const ScanStep& s) {
    Graph& inside = s.carries[0].graph();
    Var next = tanh(linear(s.carries[0], inside.parameter("w", w)) + s.per_step[0] * inside.input("gain", Shape{}) +
                    sum(inside.constant(large), {1}));
    return ScanNext{{next}, {next}};
  };
  Var y = scan(body, {h}, {x}).carries[0], dw = grad(sum(y), g.parameter("w", w));
  auto want = [&](const ScanStep& s) { return body(s); };
  Var z = unrolled(want, {h}, {x}, {}, 4).carries[0], dz = grad(sum(z), g.parameter("w", w));
  Results r =
      compile({y, z, dw, dz})
          .run({{"x", randn({4, 2, 3}, 3, f32)}, {"h", randn({2, 3}, 4, f32)}, {"gain", Tensor::scalar(0.7, f32)}});
  EXPECT_TRUE(bitwise_equal(r[0], r[1]));
  EXPECT_LT(max_abs_diff(r[2], r[3]), 1e-6);
}

TEST(Scan, PartsOfAModelKeepTheirNamesInside) {
  struct Cell : nn::Module {
    Cell(Module& parent, const std::string& name) : Module(parent, name) {}
    Var operator()(Arg x, Var h) const {
      nn::ModuleScope here(*this, x);
      auto body = [&](const ScanStep& s) {
        Var next = tanh(s.per_step[0] + map(s.carries[0]));
        return ScanNext{{next}, {}};
      };
      return scan(body, {h}, {x}).carries[0];
    }
    nn::Linear map{*this, "map", 3, 3};
  };
  nn::Module root;
  Cell cell(root, "encoder.cell");
  Graph g;
  Var y = cell(g.input("x", {4, 2, 3}), g.input("h", {2, 3}));
  const Graph& inside = g.attrs(g.producer(y.id())).body("body")->graph();
  std::set<std::string> scopes;
  for (NodeId n = 0; n < inside.node_count(); ++n)
    if (!inside.node(n).op->traits.leaf) scopes.insert(inside.scope_name(inside.node(n)));
  EXPECT_EQ(scopes, (std::set<std::string>{"encoder.cell", "encoder.cell/map"}));
}

TEST(Scan, RandomNumbersDifferByStepAndRepeatForTheSweep) {
  Graph g;
  Var x = g.input("x", {6, 40}), h = g.input("h", {40});
  auto body = [](const ScanStep& s) {
    Var next = s.carries[0] + dropout(s.per_step[0], 0.5, 3);
    return ScanNext{{next}, {next - s.carries[0]}};
  };
  Scanned s = scan(body, {h}, {x});
  Var d = grad(sum(s.carries[0]), x);
  Results r = compile({s.out[0], d}).run({{"x", Tensor::full({6, 40}, 1)}, {"h", Tensor::zeros({40})}}, {.seed = 7});
  EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-6);
  EXPECT_FALSE(bitwise_equal(r[1].slice(0, 0, 1).contiguous_copy(), r[1].slice(0, 1, 2).contiguous_copy()));
}

TEST(Scan, HalvesSweepInF32) {
  for (DType t : {bf16, f16}) {
    Lstm wide{5, false, f64};
    std::vector<Tensor> data = wide.data();
    Graph g(Graph::Mode::immediate);
    Values half, full;
    for (size_t i = 0; i < 5; ++i) {
      half.push_back(g.input("h" + std::to_string(i), data[i].to(t)));
      full.push_back(g.input("f" + std::to_string(i), data[i].to(t).to(f64)));
    }
    Values a = grad(Lstm::loss(wide.scanned(half)), half), b = grad(Lstm::loss(wide.scanned(full)), full);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(a[i].dtype(), f32);
      EXPECT_LT(max_abs_diff(a[i].value().to(f64), b[i].value()), 0.1 * scale(b[i].value()));
    }
    lrp::Ledger ledger(lrp::attn());
    Graph r;
    Values in;
    for (size_t i = 0; i < 5; ++i) in.push_back(r.input("h" + std::to_string(i), data[i].to(t)));
    ledger.relevance(sum(wide.scanned(in).out[0]), in);
    Feeds feeds;
    static const char* names[] = {"h0", "h1", "h2", "h3", "h4"};
    for (size_t i = 0; i < 5; ++i) feeds.emplace_back(names[i], data[i].to(t));
    lrp::LedgerReport report = ledger.read(compile(ledger.outputs()).run(feeds));
    EXPECT_TRUE(report.holds()) << report.text();
  }
}

TEST(Scan, RunsOnAnotherDevice) {
  Lstm l{5, true, f32};
  Graph g;
  Values in = l.inputs(g), all{l.scanned(in).out[0]};
  Var y = Lstm::loss(l.scanned(in));
  for (const Var& v : grad(y, in)) all.push_back(v);
  for (const Var& v : relevance(y, in, lrp::attn())) all.push_back(v);
  Results here = compile(all).run(l.feeds());
  Plan there = compile(all, {.device = sim::device()});
  for (int run = 0; run < 2; ++run) {
    Results far = there.run(l.feeds());
    for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(bitwise_equal(far[i].to(Device{}), here[i])) << i;
  }
}

TEST(Scan, EqualLoopsAreOneNodeAndOneProgram) {
  Lstm l{5};
  size_t hits = 0;
  for (int time = 0; time < 2; ++time) {
    Graph g;
    Values in = l.inputs(g);
    Var a = l.scanned(in).out[0], b = l.scanned(in).out[0];
    Plan p = compile({a + b});
    EXPECT_GE(p.stats().merged, 1u);
    if (time) {
      EXPECT_GT(plan_cache_stats().hits, hits);
    }
    hits = plan_cache_stats().hits;
  }
  Graph g;
  Var x = g.input("x", {3, 2}), h = g.input("h", {2});
  auto with = [&](double k) {
    return scan(
               [&](const ScanStep& s) {
                 return ScanNext{{s.carries[0] * k + s.per_step[0]}, {}};
               },
               {h}, {x})
        .carries[0];
  };
  Results r = compile({with(2), with(3)}).run({{"x", Tensor::full({3, 2}, 1)}, {"h", Tensor::full({2}, 1)}});
  EXPECT_EQ(r[0].item(), 15);
  EXPECT_EQ(r[1].item(), 40);
}

// ---- errors -------------------------------------------------------------------------------------------------------

TEST(Scan, ErrorsNameTheUsersLine) {
  Graph g;
  Var x = g.input("x", {4, 2, 3}), h = g.input("h", {2, 3}), y = g.input("y", {5, 2, 3});
  auto message = [&](const Step& body, Values per_step) { return thrown([&] { scan(body, {h}, per_step); }); };
  auto fine = [](const ScanStep& s) { return ScanNext{s.carries, {}}; };
  EXPECT_THAT(message(fine, {x, y}), HasSubstr("per_step 1 is [5, 2, 3], 4 steps are wanted"));
  EXPECT_THAT(message(fine, {}), HasSubstr("say how many"));
  EXPECT_THAT(message(
                  [](const ScanStep& s) {
                    return ScanNext{{sum(s.carries[0], {0})}, {}};
                  },
                  {x}),
              HasSubstr("state 0 is [2, 3] f32, its next value [3] f32"));
  EXPECT_THAT(message(
                  [](const ScanStep& s) {
                    return ScanNext{{cast(s.carries[0], f64)}, {}};
                  },
                  {x}),
              HasSubstr("its next value [2, 3] f64"));
  EXPECT_THAT(message([](const ScanStep&) { return ScanNext{}; }, {x}), HasSubstr("1 states are carried"));
  EXPECT_THAT(message(
                  [&](const ScanStep& s) {
                    return ScanNext{{s.carries[0] + h}, {}};
                  },
                  {x}),
              testing::AllOf(HasSubstr("belongs to another graph"), HasSubstr("scan_test.cpp")));
  EXPECT_THAT(message(
                  [](const ScanStep& s) {
                    return ScanNext{{matmul(s.carries[0], s.per_step[0])}, {}};
                  },
                  {x}),
              testing::AllOf(HasSubstr("[matmul]"), HasSubstr("scan_test.cpp")));
  State w("w", Tensor::zeros({2, 3}));
  EXPECT_THAT(message(
                  [&](const ScanStep& s) {
                    s.carries[0].graph().assign(w, s.carries[0]);
                    return ScanNext{s.carries, {}};
                  },
                  {x}),
              HasSubstr("cannot assign a state"));
}

TEST(Scan, WrongDataNamesTheOperationAndTheStep) {
  auto body = [](const ScanStep& s) { return ScanNext{{s.carries[0] + gather(s.shared[0], s.per_step[0])}, {}}; };
  Tensor ids = Tensor::from<int64_t>({1, 0, 9, 2, 7, 1}, {3, 2}), table = randn({4, 3}, 1, f32);
  Graph g;
  Var s = scan(body, {g.input("h", {2, 3})}, {g.input("ids", {3, 2}, i64)}, {g.input("table", {4, 3})}).carries[0];
  Feeds feeds{{"h", Tensor::zeros({2, 3})}, {"ids", ids}, {"table", table}};
  std::string text = thrown([&] { compile({s}).run(feeds); });
  EXPECT_THAT(text, HasSubstr("[gather] index 9 at position 0 is outside [-4, 4), in step 1 of scan"));
  EXPECT_THAT(text, HasSubstr("scan_test.cpp"));
  Graph now(Graph::Mode::immediate);
  EXPECT_THAT(thrown([&] {
                scan(body, {now.constant(Tensor::zeros({2, 3}))}, {now.constant(ids)}, {now.constant(table)});
              }),
              HasSubstr("[gather] index 9 at position 0 is outside [-4, 4), in step 1 of scan"));
}

}  // namespace
