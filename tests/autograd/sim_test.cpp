// Everything that a device needs, on the fake one: memory, queues, kernels, states, errors.
#include <gtest/gtest.h>

#include "whence/autograd/plan/run.h"
#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"
#include "planner_test_ops.h"
#include "whence/testing/sim.h"

using namespace whence;
using namespace planner_test;

namespace {

Results on_host(const Results& r) {
  std::vector<Tensor> t;
  for (const Tensor& x : r) t.push_back(x.to(Device{}));
  return {nullptr, t};
}

TEST(Sim, MemoryIsTheDevices) {
  Tensor t = Tensor::full({3, 2}, 1.5), d = t.to(sim::device());
  EXPECT_EQ(d.device(), sim::device());
  EXPECT_THROW(d.data<float>(), DeviceError);
  EXPECT_EQ(d.item(5), 1.5);
  EXPECT_EQ(d.to_vector<float>(), std::vector<float>(6, 1.5f));
  EXPECT_EQ(d.str(), t.str());
  EXPECT_TRUE(bitwise_equal(d.transposed().contiguous_copy(), t.transposed()));
  EXPECT_TRUE(bitwise_equal(d.to(bf16).to(Device{}), t.to(bf16)));
  d.fill(2);
  Tensor back = d.transposed().to(Device{});
  EXPECT_EQ(back.item(), 2);
  back.fill(3);
  d.slice(0, 1, 3).copy_from(back.transposed().slice(0, 1, 3));
  EXPECT_EQ(d.to_vector<float>(), (std::vector<float>{2, 2, 3, 3, 3, 3}));
  EXPECT_THROW(Tensor::empty({2}, f32, cuda()), DeviceError);
}

TEST(SimDeathTest, AHostReadOfDeviceMemoryDiesWithItsName) {
  Tensor d = Tensor::full({3}, 1).to(sim::device());
  EXPECT_DEATH({ [[maybe_unused]] volatile float x = *static_cast<float*>(d.raw()); }, "sim:0 outside a launch");
}

TEST(Sim, RandomGraphsEqualTheCpuBitByBit) {
  long waits = sim::counts().waits;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph r(seed, 60, 6, {}, bf16), far(seed, 60, 6, sim::device(), bf16);
    Plan host = compile(r.outputs, {.concurrent = false});
    Results want = host.run(r.feeds(), {.seed = 5});
    for (CompileOptions o : {CompileOptions{}, {.fuse = false}, {.reuse_memory = false}, {.concurrent = false}}) {
      o.device = sim::device();
      Plan p = compile(far.outputs, o);
      EXPECT_EQ(planner::find_overlap(p.state()->program->blocks), "");
      for (int i = 0; i < 2; ++i) expect_same_bits(on_host(p.run(r.feeds(), {.seed = 5})), want);
    }
  }
  EXPECT_GT(sim::counts().waits, waits);
}

TEST(Sim, ResultsAreLeases) {
  Graph g;
  Var x = g.input("x", {4}), y = x * 2.0;
  Plan p = compile({y}, {.device = sim::device()});
  Results first = p.run({{"x", Tensor::full({4}, 1)}});
  const void* slot = first[0].raw();
  Results second = p.run({{"x", Tensor::full({4}, 2)}});  // the first is still held: it moves away
  EXPECT_EQ(second[0].raw(), slot);
  EXPECT_NE(first[0].raw(), slot);
  EXPECT_EQ(first[0].item(), 2);
  EXPECT_EQ(second[0].item(), 4);
  first = second = {};
  p.run({{"x", Tensor::full({4}, 3)}});
  long before = sim::counts().allocations;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(p.run({{"x", Tensor::full({4}, i)}})[0].item(), 2.0 * i);
  EXPECT_EQ(sim::counts().allocations, before);
}

TEST(Sim, StatesMustLieOnTheDeviceAndAreUpdatedThere) {
  Graph g;
  State w("w", random_tensor({4, 4}, 1));
  Var x = g.input("x", {4, 4}), y = mm(x, g.state(w));
  EXPECT_THROW(compile({y}, {.device = sim::device()}), DeviceError);
  Graph h;
  State there("w", w.tensor().to(sim::device()));
  Var lr = h.scalar("lr"), wv = h.state(there), z = mm(h.input("x", {4, 4}), wv);
  h.assign(there, wv - lr * z);
  Plan p = compile({z}, {.device = sim::device()});
  Tensor xs = random_tensor({4, 4}, 2), now = w.tensor();
  for (int i = 0; i < 3; ++i) {
    Tensor want = evaluate({mm(g.input("x", {4, 4}), g.input("w", {4, 4}))}, {{"x", xs}, {"w", now}})[0];
    EXPECT_TRUE(bitwise_equal(p.run({{"x", xs}}, {.scalars = {{"lr", 0.25}}})[0], want));
    Graph e(Graph::Mode::immediate);
    now = (e.constant(now) - 0.25 * e.constant(want)).value();
    EXPECT_TRUE(bitwise_equal(there.tensor(), now));
  }
}

TEST(Sim, WrongDataIsNamedAfterTheRun) {
  Graph g;
  Var x = g.input("x", {3, 2}), ids = g.input("ids", {2}, i32, {.carries = false}), y = gather(x, ids);
  Plan p = compile({y * 2.0}, {.device = sim::device()});
  try {
    p.run({{"x", Tensor::zeros({3, 2})}, {"ids", Tensor::from<int32_t>({1, 7})}});
    FAIL();
  } catch (const ValueError& e) {
    EXPECT_NE(std::string(e.what()).find("[gather] index 7 at position 1 is outside [-3, 3)"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("sim_test.cpp"), std::string::npos);
  }
  EXPECT_EQ(p.run({{"x", Tensor::full({3, 2}, 1)}, {"ids", Tensor::from<int32_t>({1, 2})}})[0].item(), 2);
}

TEST(Sim, DtypesThatItHasNotAreMissingKernels) {
  Graph g;
  Var x = g.input("x", {3}, f64);
  EXPECT_THROW(compile({x * 2.0}, {.device = sim::device()}), MissingKernel);
}

TEST(Sim, ExtensionsReadWhatTheRunLeft) {
  Graph g;
  Var x = g.input("x", {4, 4}), y = tanh(mm(x, x));
  Plan p = compile({y}, {.device = sim::device(), .keep_for_extend = true});
  Tensor xs = random_tensor({4, 4}, 3);
  p.run({{"x", xs}});
  Var more = mm(y, y) + x;
  Plan e = p.extend({more}, {.device = sim::device()});
  EXPECT_TRUE(bitwise_equal(e.run()[0], compile({more}).run({{"x", xs}})[0]));
}

}  // namespace
