// What plans take from the heap: nothing once they run; and when a request fails, any of them, the plan stays usable.
#include <gtest/gtest.h>

#include <new>

#include "heap.h"
#include "whence/nn/layers.h"
#include "whence/nn/train.h"
#include "whence/testing/op_suite.h"

using namespace whence;

namespace {

struct Net : nn::Module {
  nn::Linear a{*this, "a", 8, 16}, b{*this, "b", 16, 4};
  nn::LayerNorm norm{*this, "norm", 16};
  nn::Dropout drop{*this, "drop", 0.1};
  Var operator()(Var x) const { return b(drop(norm(gelu(a(x))))); }
};

Batch batch_of(int64_t n) {
  Tensor x = Tensor::empty({n, 8}), y = Tensor::empty({n}, i32);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = float(i % 13) / 7 - 1;
  for (int64_t i = 0; i < n; ++i) y.data<int32_t>()[i] = int32_t(i % 4);
  Batch b;
  b.tensors = {{"x", x}, {"y", y}};
  return b;
}

TEST(Allocation, ATrainingStepTakesNothingFromTheHeapAfterTheSecond) {
  if (!suite::heap_allocations) GTEST_SKIP() << "this build has no counting heap";
  Net net;
  nn::TrainStep step(net, nn::AdamW{},
                     [&](Graph& g, const Batch& b) {
                       return cross_entropy(net(g.input("x", b["x"])), g.input("y", b["y"], {.carries = false}));
                     },
                     {.clip_norm = 1, .accumulate = 2, .ema_decay = 0.9});
  Batch b = batch_of(16);
  for (int i = 0; i < 4; ++i) float(step(b));
  int64_t before = suite::heap_allocations();
  for (int i = 0; i < 6; ++i) float(step(b));
  EXPECT_EQ(suite::heap_allocations() - before, 0);
}

TEST(Allocation, PlansOfAThreadShareOneArena) {
  Graph g;
  Var x = g.input("x", {64, 64}), y = matmul(x, x), z = matmul(y, matmul(y, y)), w = matmul(z, y);
  Plan small = compile({matmul(y, y)}), large = compile({matmul(w, z)});
  Feeds f{{"x", Tensor::full({64, 64}, 0.01)}};
  Results want = small.run(f);
  for (int i = 0; i < 3; ++i) {
    large.run(f);
    EXPECT_TRUE(bitwise_equal(small.run(f)[0], want[0]));
  }
}

// compile and run with the n-th request failing, for n = 0, 1, .. until none fails; then the right values.
TEST(Allocation, AnyRequestMayFailAndThePlanStaysUsable) {
  if (!heap_can_fail()) GTEST_SKIP() << "this build has no failing heap";
  clear_plan_cache();
  State w("w", Tensor::full({8, 8}, 0.5));
  Tensor xs = Tensor::full({4, 8}, 0.25);
  double before = 0.5;
  int64_t failed = 0;
  for (int64_t n = 0;; ++n) {
    ASSERT_LT(n, 100000);
    clear_plan_cache();
    Graph g;
    Var x = g.input("x", {4, 8}), wv = g.state(w), y = matmul(tanh(x), wv), loss = sum(y * y);
    g.assign(w, wv - 0.5 * grad(loss, wv));
    Plan p;
    bool done = false;
    const std::vector<Var> outputs{loss};
    const CompileOptions options{.fuse = n % 2 == 0};
    const Feeds feeds{{"x", xs}};
    fail_heap_after(n);
    try {
      p = compile(outputs, options);
      p.run(feeds);
      done = true;
    } catch (const OutOfMemory&) {}
    fail_heap_after(-1);
    failed += !done;
    // Nothing is half done: the state has its next value or the old one.
    double now = w.tensor().item();
    EXPECT_TRUE(done || now == before) << n;
    if (!p.defined()) p = compile({loss});
    w.tensor().fill(0.5);
    Results r = p.run({{"x", xs}});
    Graph e(Graph::Mode::immediate);
    Var ye = matmul(tanh(e.constant(xs)), e.constant(Tensor::full({8, 8}, 0.5)));
    EXPECT_FLOAT_EQ(float(r[0].item()), float(sum(ye * ye).value().item())) << n;
    w.tensor().fill(0.5);
    if (done) break;
  }
  EXPECT_GT(failed, 100);
}

}  // namespace
