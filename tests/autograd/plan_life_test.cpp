// The life of plans: cache, functions, reports, bound memory that is read, very long graphs, many cycles, several
// threads.
#include <malloc.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "whence/autograd/function.h"
#include "whence/autograd/plan/run.h"
#include "whence/autograd/sweep.h"
#include "whence/tensor/parallel.h"
#include "planner_test_ops.h"

using namespace whence;
using namespace planner_test;

namespace {

Var model(Graph& g, const Tensor& w, double factor, Shape shape = {4, 4}) {
  Var x = g.input("x", shape);
  return tanh(x * g.parameter("w", w) * factor) + 1.0;
}

TEST(PlanCache, EqualStructureIsFoundAgain) {
  clear_plan_cache();
  Tensor w = random_tensor({4, 4}, 1), w2 = random_tensor({4, 4}, 2);
  auto misses = [](auto&& f) {
    size_t before = plan_cache_stats().misses;
    f();
    return plan_cache_stats().misses - before;
  };
  auto make = [&](const Tensor& t, double factor, CompileOptions o = {}) {
    Graph g;
    compile({model(g, t, factor)}, o);
  };
  EXPECT_EQ(misses([&] { make(w, 2); }), 1u);
  EXPECT_EQ(misses([&] { make(w, 2); }), 0u);
  EXPECT_EQ(misses([&] { make(w, 3); }), 1u);                   // another constant
  EXPECT_EQ(misses([&] { make(w2, 2); }), 0u);                  // another parameter: bound when the plan is made
  EXPECT_EQ(misses([&] { make(w, 2, {.fuse = false}); }), 1u);  // other options
  EXPECT_EQ(misses([&] { make(w, 2); }), 0u);
  State state("state", Tensor::zeros({4, 4}));
  EXPECT_EQ(misses([&] {
              Graph g;
              Var y = model(g, w, 2);
              g.assign(state, y);
              compile({y});
            }),
            1u);
}

TEST(PlanCache, EqualModelsShareAProgramAndKeepTheirValues) {
  Tensor a = Tensor::full({4, 4}, 1), b = Tensor::full({4, 4}, 2), x = Tensor::full({4, 4}, 1);
  Graph ga, gb;
  Plan pa = compile({model(ga, a, 7)});
  size_t before = plan_cache_stats().misses;
  Plan pb = compile({model(gb, b, 7)});
  EXPECT_EQ(plan_cache_stats().misses, before);
  for (int i = 0; i < 3; ++i) {
    expect_same_bits(pa.run({{"x", x}}), pa.reference({{"x", x}}));
    expect_same_bits(pb.run({{"x", x}}), pb.reference({{"x", x}}));
  }
  EXPECT_FALSE(bitwise_equal(pa.run({{"x", x}})[0], pb.run({{"x", x}})[0]));
}

TEST(PlanCache, MemoryThatWasFreedAndComesBackIsAnotherParameter) {
  Tensor w = Tensor::full({4, 4}, 1);
  {
    Graph g;
    compile({model(g, w, 5)});
  }
  w = {};
  w = Tensor::full({4, 4}, 2);  // may get the same address
  Graph g;
  Var y = model(g, w, 5);
  Plan p = compile({y});
  Feeds f{{"x", Tensor::full({4, 4}, 1)}};
  expect_same_bits(p.run(f), p.reference(f));
}

TEST(PlanCache, IsBounded) {
  for (int i = 0; i < 400; ++i) {
    Graph g;
    Var x = g.input("x", {4});
    compile({x * double(i)}).run({{"x", Tensor::full({4}, 1)}});
  }
  EXPECT_LE(plan_cache_stats().programs, 128u);
}

TEST(PlanCache, TwoPlansOfOneProgramDoNotShareMemory) {
  Graph g, h;
  Tensor w = random_tensor({4, 4}, 1);
  Plan a = compile({model(g, w, 2)}), b = compile({model(h, w, 2)});
  Feeds fa{{"x", Tensor::full({4, 4}, 1)}}, fb{{"x", Tensor::full({4, 4}, 2)}};
  Results ra = a.run(fa), rb = b.run(fb);
  expect_same_bits(ra, a.reference(fa));
  expect_same_bits(rb, b.reference(fb));
}

TEST(Plan, ManyCyclesLeakNothing) {
  // Bytes handed out and not given back. A sanitizer has an allocator of its own, says 0 here, and judges at the exit.
  auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  Tensor w = random_tensor({4, 4}, 1);
  auto cycle = [&] {
    Graph g;
    Var x = g.input("x", {4, 4});
    Var y = mm(tanh(x), g.parameter("w", w)) * 2.0;
    compile({y, tanh(y)}).run({{"x", w}});
  };
  for (int i = 0; i < 100; ++i) cycle();
  const size_t before = in_use();
  for (int i = 0; i < 2000; ++i) cycle();
  EXPECT_LE(in_use(), before + 2000 * 8);  // less than a pointer a cycle
}

TEST(Plan, VeryLongGraphs) {
  constexpr int kNodes = 150000;  // and as many again for the sweep: more than 300,000
  Graph g;
  Var x = g.input("x", {4}), y = x;
  for (int i = 0; i < kNodes; ++i) y = i % 2 ? y * 0.999 : y + x;
  Var d = grad(y, x, g.constant(Tensor::full({4}, 1)));
  EXPECT_GT(g.node_count(), 2u * kNodes);
  Plan p = compile({y, d});
  Feeds f{{"x", Tensor::full({4}, 0.5)}};
  expect_same_bits(p.run(f), p.reference(f));
}

TEST(Plan, LongChainsOfKernels) {
  Graph g;
  Var x = g.input("x", {2, 2}), y = x;
  for (int i = 0; i < 20000; ++i) y = mm(y, x);
  Plan p = compile({y});
  EXPECT_LE(p.stats().arena_bytes, 8 * planner::kAlign);
  Feeds f{{"x", random_tensor({2, 2}, 1)}};
  expect_same_bits(p.run(f), p.reference(f));
}

// ---- states that the program reads and writes ----------------------------------------------------------------------

TEST(Assign, AnOptimiserWritesItsWeightsInPlace) {
  Graph g;
  State w("w", random_tensor({8, 8}, 1)), m("m", random_tensor({8, 8}, 2));
  Var x = g.input("x", {8, 8}), wv = g.state(w), mv = g.state(m);
  Var y = mm(x, wv);  // another reader: must run before the update
  Var m2 = mv * 0.9 + y * 0.1, w2 = wv - m2 * 0.01;
  Var late = mm(swap_axes(wv), y);  // recorded after the update, reads the old weight
  g.assign(w, w2);
  g.assign(m, m2);
  Plan p = compile({y, late});
  Graph h;  // the same values as results, on a graph without states to write
  Var hm2 = h.state(m) * 0.9 + mm(h.input("x", {8, 8}), h.state(w)) * 0.1;
  Plan values = compile({hm2, h.state(w) - hm2 * 0.01});
  Feeds f{{"x", random_tensor({8, 8}, 3)}};
  for (int step = 0; step < 3; ++step) {
    Results want = p.reference(f), next = values.reference(f);
    expect_same_bits(p.run(f), want);
    EXPECT_TRUE(bitwise_equal(m.tensor(), next[0]));
    EXPECT_TRUE(bitwise_equal(w.tensor(), next[1]));
  }
  EXPECT_LE(p.stats().arena_bytes, planner::kAlign * 3);  // workspaces and a transposed copy: no weight is copied
}

TEST(Assign, OldContentThatIsStillReadIsWrittenLast) {
  Graph g;
  State w("w", random_tensor({8, 8}, 1));
  Var x = g.input("x", {8, 8}), wv = g.state(w);
  Var w2 = wv * 0.5 + swap_axes(wv);  // not element by element
  Var z = mm(w2, wv);                 // reads both
  g.assign(w, w2);
  Plan p = compile({z, w2});
  (void)x;
  Results want = p.reference();
  Tensor next = want[1].contiguous_copy();
  expect_same_bits(p.run(), want);
  EXPECT_TRUE(bitwise_equal(w.tensor(), next));
}

TEST(Assign, StatesMayChangePlacesAndShareAValue) {
  Graph g;
  State a("a", Tensor::full({4}, 1)), b("b", Tensor::full({4}, 2)), c("c", Tensor::full({4}, 3));
  Var x = g.input("x", {4}), y = x * 2.0;
  g.assign(a, g.state(b));
  g.assign(b, g.state(a));
  g.assign(c, y);
  State d("d", Tensor::zeros({4}));
  g.assign(d, y);
  Plan p = compile({y});
  p.run({{"x", Tensor::full({4}, 3)}});
  EXPECT_EQ(a.tensor().item(3), 2);
  EXPECT_EQ(b.tensor().item(3), 1);
  EXPECT_EQ(c.tensor().item(3), 6);
  EXPECT_EQ(d.tensor().item(3), 6);
}

TEST(Assign, WindowsOnAnArenaAreSeenAsOverlapping) {
  Graph g;
  Tensor arena = random_tensor({24}, 1);
  State all("arena", arena), w("w", arena.slice(0, 4, 20).reshaped({4, 4}));
  Var x = g.input("x", {4, 4}), y = mm(x, g.state(w));
  Var next = g.state(all) * 0.5;
  g.assign(all, next);
  Var late = mm(y, g.state(w));  // still the old one
  Plan p = compile({y, late});
  Feeds f{{"x", random_tensor({4, 4}, 2)}};
  for (int step = 0; step < 3; ++step) {
    Results want = p.reference(f);
    double before = arena.item(7);
    expect_same_bits(p.run(f), want);
    EXPECT_EQ(float(arena.item(7)), float(before * 0.5));
  }
}

TEST(Assign, ACacheIsUpdatedInPlaceAtAPositionThatIsData) {
  Graph g;
  State cache("cache", Tensor::zeros({4, 3}));
  Var row = g.input("row", {1, 3}), at = g.scalar("at", i64);
  Var next = update_slice(g.state(cache), row, at, 0);
  g.assign(cache, next);
  Plan p = compile({sum(next)});
  EXPECT_LE(p.stats().arena_bytes, planner::kAlign * 2);  // no copy of the cache
  for (int i : {0, 2}) p.run({{"row", Tensor::full({1, 3}, i + 1)}}, {.scalars = {{"at", double(i)}}});
  EXPECT_EQ(cache.tensor().to_vector<float>(), (std::vector<float>{1, 1, 1, 0, 0, 0, 3, 3, 3, 0, 0, 0}));
  EXPECT_THROW(p.run({{"row", Tensor::zeros({1, 3})}}, {.scalars = {{"at", 4.0}}}), ValueError);
}

TEST(Assign, FedMemoryMayBeOverwritten) {
  Graph g;
  Var x = g.input("x", {4, 4});
  Var y = swap_axes(x) + x, z = mm(y, x);
  State xs("xs", random_tensor({4, 4}, 1));
  g.assign(xs, y);
  Plan p = compile({y, z});
  Feeds f{{"x", xs.tensor()}};
  Results want = p.reference(f);
  expect_same_bits(p.run(f), want);
  EXPECT_TRUE(bitwise_equal(xs.tensor(), want[0]));
}

TEST(Assign, AnExtensionRefusesAStateThatTheRunHasOverwritten) {
  Graph g;
  State w("w", random_tensor({4, 4}, 1));
  Var x = g.input("x", {4, 4}), y = mm(x, g.state(w));
  g.assign(w, g.state(w) * 0.5);
  Plan p = compile({y});
  p.run({{"x", random_tensor({4, 4}, 2)}});
  EXPECT_THROW(p.extend({mm(y, g.state(w))}), ValueError);
}

TEST(Plan, ScalarsTravelWithTheRun) {
  Graph g;
  Var x = g.input("x", {3}), lr = g.scalar("lr"), y = x * lr;
  Plan p = compile({y});
  EXPECT_EQ(p.run({{"x", Tensor::full({3}, 2)}}, {.scalars = {{"lr", 0.5}}})[0].item(), 1);
  EXPECT_EQ(p.run({{"x", Tensor::full({3}, 2)}}, {.scalars = {{"lr", 2}}})[0].item(), 4);
  EXPECT_THROW(p.run({{"x", Tensor::full({3}, 2)}}), ValueError);
}

// ---- function -----------------------------------------------------------------------------------------------------

// ---- two branches at the same time --------------------------------------------------------------------------------

TEST(Lanes, IndependentSweepsRunAtTheSameTimeWithTheSameBits) {
  bool forked = false;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph r(seed, 20, 40);
    NodeId last = NodeId(r.g.node_count() - 1);
    std::vector<Var> full, outputs;
    for (const Var& v : r.outputs)
      if (v.shape() == Shape{40, 40}) full.push_back(v);
    for (uint8_t pass : {1, 2}) {
      OriginGuard sweep(r.g, last, pass);
      Var d = full[0] * double(pass);
      for (int i = 0; i < 60; ++i) d = tanh(mm(d, full[size_t(i) % full.size()]) + swap_axes(d));
      outputs.push_back(d);
    }
    outputs.push_back(outputs[0] * outputs[1]);
    Plan p = compile(outputs), sequential = compile(outputs, {.concurrent = false});
    forked |= p.state()->program->lanes > 1;
    EXPECT_EQ(sequential.state()->program->lanes, 1);
    EXPECT_EQ(planner::find_overlap(p.state()->program->blocks), "");
    Results want = sequential.run(r.feeds());
    for (int i = 0; i < 5; ++i) expect_same_bits(p.run(r.feeds()), want);
  }
  EXPECT_TRUE(forked || cpu::num_threads() < 2);
}

TEST(Function, TracesOncePerSignature) {
  int traced = 0;
  auto f = function([&](Var x) {
    ++traced;
    return tanh(x) * 2.0;
  });
  Tensor a = random_tensor({3}, 1), b = random_tensor({5}, 2);
  Tensor ya = f(a), yb = f(b), yc = f(random_tensor({3}, 3));
  EXPECT_EQ(traced, 2);
  EXPECT_EQ(f.signatures(), 2u);
  EXPECT_EQ(ya.shape(), (Shape{3}));
  Graph g;
  EXPECT_TRUE(bitwise_equal(yb, evaluate({tanh(g.input("x", {5})) * 2.0}, {{"x", b}})[0]));
  Tensor yd = f(a);
  EXPECT_TRUE(bitwise_equal(ya, yd));
}

TEST(Function, SeveralInputsAndOutputs) {
  auto f = function([](Var a, Var b) { return std::vector<Var>{a + b, a * b}; });
  std::vector<Tensor> r = f(Tensor::full({2}, 3), Tensor::full({2}, 4));
  ASSERT_EQ(r.size(), 2u);
  EXPECT_EQ(r[0].item(), 7);
  EXPECT_EQ(r[1].item(), 12);
}

TEST(Function, FromSeveralThreads) {
  auto f = function([](Var a) { return tanh(a * 2.0); });
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        Tensor x = Tensor::full({8 + i % 3}, t * 0.1);
        if (std::abs(f(x).item() - std::tanh(float(t * 0.1) * 2.0)) > 1e-6) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Plan, CompileAndRunFromSeveralThreads) {
  Tensor w = random_tensor({16, 16}, 1);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 30; ++i) {
        Graph g;
        Plan p = compile({model(g, w, 1 + (i + t) % 3, {16, 16})});
        Feeds f{{"x", w}};
        if (!bitwise_equal(p.run(f)[0], p.reference(f)[0])) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// ---- reports ------------------------------------------------------------------------------------------------------

TEST(Report, NamesMemoryGroupsAndTimes) {
  Graph g;
  Var x = g.input("x", {64, 64}), y;
  {
    Scope s(g, "encoder");
    y = tanh(mm(x, x) * 2.0 + 1.0);
  }
  Plan p = compile({mm(y, y)}, {.profile = true});
  Feeds f{{"x", random_tensor({64, 64}, 1)}};
  p.run(f);
  p.run(f);
  std::string r = p.report();
  for (const char* part : {"steps", "arena", "encoder", "mul add tanh", "test_mm", "2 profiled runs", "16.0 KiB"})
    EXPECT_THAT(r, ::testing::HasSubstr(part));
  auto path = std::filesystem::temp_directory_path() / "whence_plan_trace.json";
  p.trace(path.string());
  std::ifstream file(path);
  auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["traceEvents"].size(), p.stats().steps);
  EXPECT_THAT(json["traceEvents"][0]["args"]["where"].get<std::string>(),
              ::testing::HasSubstr("recorded at planner_test_ops.cpp"));
  std::filesystem::remove(path);
  EXPECT_THROW(compile({y}).trace(path.string()), ValueError);
  EXPECT_THROW(p.trace("/nonexistent/folder/t.json"), IoError);
}

}  // namespace
