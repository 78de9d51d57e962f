// Checkpoints, memory budgets, extensions with promises: less memory or less work, the same bits.
#include <cmath>

#include "whence/autograd/checkpoint.h"
#include "whence/autograd/plan/run.h"
#include "whence/autograd/sweep.h"
#include "planner_test_ops.h"

using namespace whence;
using namespace planner_test;

namespace {

// A layered network with a hand-written backward pass whose nodes are marked as a gradient's.
struct Layers {
  Graph g;
  Var x, loss, gradient;
  std::vector<Tensor> w;
  Layers(int depth, int64_t n, bool checkpoints) {
    x = g.input("x", {n, n});
    std::vector<Var> weights;
    for (int i = 0; i < depth; ++i) {
      w.push_back(random_tensor({n, n}, uint64_t(i) + 1));
      weights.push_back(g.parameter("w" + std::to_string(i), w.back()));
    }
    Var h = x;
    for (int i = 0; i < depth; ++i) {
      auto block = [&](Var v) { return sigmoid(tanh(v * 0.5 + weights[size_t(i)]) * v) + v; };
      h = checkpoints ? checkpoint(block, h) : block(h);
    }
    loss = h;
    gradient = grad(h, x, g.constant(Tensor::full({n, n}, 1)));
  }
};

TEST(Recompute, CheckpointsLowerMemoryAndKeepTheBits) {
  Layers plain(12, 32, false), marked(12, 32, true);
  Feeds feeds{{"x", random_tensor({32, 32}, 9)}};
  CompileOptions o{.fuse = false};
  Plan a = compile({plain.loss, plain.gradient}, o), b = compile({marked.loss, marked.gradient}, o);
  EXPECT_EQ(a.stats().recomputed, 0u);
  EXPECT_GT(b.stats().recomputed, 0u);
  EXPECT_LT(b.stats().arena_bytes, a.stats().arena_bytes / 2);
  Results ra = a.run(feeds), rb = b.run(feeds);
  expect_same_bits(ra, rb);
  expect_same_bits(ra, a.reference(feeds));
  Plan c = compile({marked.loss, marked.gradient});  // with fusion
  EXPECT_GT(c.stats().recomputed, 0u);
  expect_same_bits(c.run(feeds), ra);
}

TEST(Recompute, BudgetIsMetOrTheSmallestIsNamed) {
  Layers net(16, 32, false);
  Feeds feeds{{"x", random_tensor({32, 32}, 9)}};
  Plan free = compile({net.loss, net.gradient}, {.fuse = false});
  size_t peak = free.stats().arena_bytes;
  Results want = free.run(feeds);
  for (double part : {0.9, 0.7, 0.5}) {
    size_t budget = size_t(part * double(peak));
    Plan p = compile({net.loss, net.gradient}, {.memory_budget = budget, .fuse = false});
    EXPECT_LE(p.stats().arena_bytes, budget) << part;
    EXPECT_GT(p.stats().recomputed, 0u);
    expect_same_bits(p.run(feeds), want);
  }
  try {
    compile({net.loss, net.gradient}, {.memory_budget = 16, .fuse = false});
    ADD_FAILURE() << "16 bytes cannot be enough";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("the smallest arena found needs"));
  }
}

TEST(Recompute, RandomGraphsUnderBudgetsKeepTheBits) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph r(seed, 40, 8);
    // What is recorded from here on belongs to a sweep and reads earlier values at random.
    NodeId last = NodeId(r.g.node_count() - 1);
    std::vector<Var> outputs;
    {
      OriginGuard sweep(r.g, last, 1);
      Var d = r.g.var(r.g.producer(r.outputs[0].id()).out_begin);
      for (const Var& v : r.outputs)
        if (v.shape() == Shape{8, 8}) d = v;
      for (size_t i = r.outputs.size(); i-- > 0;)
        if (r.outputs[i].shape() == Shape{8, 8}) d = tanh(d * r.outputs[i] + mm(d, r.outputs[i]));
      outputs.push_back(d);
    }
    Plan free = compile(outputs);
    Results want = free.reference(r.feeds(), {.seed = 3});
    expect_same_bits(free.run(r.feeds(), {.seed = 3}), want);
    for (double part : {0.95, 0.8, 0.6}) {
      try {
        Plan p = compile(outputs, {.memory_budget = size_t(part * double(free.stats().arena_bytes))});
        expect_same_bits(p.run(r.feeds(), {.seed = 3}), want);
        EXPECT_EQ(planner::find_overlap(p.state()->program->blocks), "");
      } catch (const Error&) {  // not feasible: fine
      }
    }
  }
}

// ---- extensions ---------------------------------------------------------------------------------------------------

TEST(Extend, ReadsWhatIsHeldAndRecomputesTheRest) {
  Layers net(8, 16, false);
  Feeds feeds{{"x", random_tensor({16, 16}, 9)}};
  Plan train = compile({net.loss, net.gradient});
  EXPECT_THROW(train.extend({net.loss * 2.0}), ValueError);  // has not run
  Results first = train.run(feeds);
  Var r;
  {
    OriginGuard sweep(net.g, net.g.producer_id(net.loss.id()), 2);
    r = net.loss;
    for (NodeId i = 0; i < net.g.node_count(); ++i) {
      const Node& n = net.g.node(i);
      if (n.pass == 0 && n.op->name == "sigmoid") r = r * net.g.var(n.out_begin);
    }
  }
  Plan extended = train.extend({r});
  Plan whole = compile({net.loss, net.gradient, r});
  Tensor want = whole.run(feeds)[2];
  EXPECT_TRUE(bitwise_equal(extended.run(feeds)[0], want));
  EXPECT_TRUE(bitwise_equal(extended.reference(feeds)[0], want));
  const PlanStats& s = extended.stats();
  EXPECT_GT(s.promises, 0u);
  EXPECT_GE(s.promise_depth, s.promises);
  EXPECT_GT(s.promise_density, 0);
  // The base runs on other data: the extension follows.
  Feeds other{{"x", random_tensor({16, 16}, 10)}};
  train.run(other);
  EXPECT_TRUE(bitwise_equal(extended.run(other)[0], whole.run(other)[2]));
}

TEST(Extend, KeepingAllNeedsNoPromiseForStoredValuesAndNoFeeds) {
  Graph g;
  Var x = g.input("x", {16, 16});
  Var a = mm(x, x), b = mm(a, x), c = mm(b, a), y = mm(c, c);
  Plan p = compile({y}, {.keep_for_extend = true});
  Feeds feeds{{"x", random_tensor({16, 16}, 1)}};
  p.run(feeds);
  Var r;
  {
    OriginGuard sweep(g, g.producer_id(y.id()), 2);
    r = (a + b) * c + x;
  }
  Plan e = p.extend({r});
  EXPECT_EQ(e.stats().promises, 0u);
  EXPECT_EQ(e.stats().recomputed, 0u);
  EXPECT_TRUE(bitwise_equal(e.run()[0], evaluate({r}, feeds)[0]));
}

TEST(Extend, RandomGraphs) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph r(seed, 30, 8);
    std::vector<Var> base(r.outputs.begin(), r.outputs.begin() + long(1 + r.outputs.size() / 2));
    Plan p = compile(base, {.keep_for_extend = seed % 2 == 0});
    p.run(r.feeds(), {.seed = 2});
    std::vector<Var> more;
    {
      OriginGuard sweep(r.g, NodeId(r.g.node_count() - 1), 2);
      for (NodeId i = 0; i < NodeId(r.g.node_count()) && more.size() < 8; i += 5)
        if (const Node n = r.g.node(i); n.out_count && r.g.type(n.out_begin) == TensorType{{8, 8}, f32})
          more.push_back(tanh(r.g.var(n.out_begin)) * 2.0);
    }
    Plan e = p.extend({more});
    expect_same_bits(e.run(r.feeds(), {.seed = 2}), compile(more).reference(r.feeds(), {.seed = 2}));
    if (HasFailure()) break;
  }
}

}  // namespace
