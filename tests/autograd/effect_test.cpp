// Ops with an effect are kept though nobody reads them, never merged, and run in the order of recording.
#include <gtest/gtest.h>

#include "whence/autograd/plan.h"
#include "whence/ops/ops.h"
#include "planner_test_ops.h"
#include "whence/testing/sim.h"

using namespace whence;

namespace {

std::vector<double> log_of_effects;

}  // namespace

REGISTER_OP(test_print) = {
    .doc = "test: writes x's first element to a log and passes x on",
    .operands = {"x"},
    .infer = [](InferCtx& infer) { infer.out(infer.shape(0), infer.dtype(0)); },
    .cpu =
        [](const KernelCall& call) {
          log_of_effects.push_back(double(*call.in[0].as<float>()));
          copy(call.in[0], call.out[0]);
        },
    .samples = [] { return std::vector<Sample>{}; },
    .traits = {.effect = true, .nondifferentiable = true},
};

namespace {

TEST(Effect, IsKeptNeverMergedAndInTheOrderOfRecording) {
  for (Device device : {Device{}, sim::device()})
    for (bool concurrent : {false, true}) {
      Graph g;
      Var x = g.input("x", {4});
      // Costly, then cheap: whatever the schedule prefers, the order stays.
      Var heavy = planner_test::mm(reshape(x, {2, 2}), reshape(x, {2, 2}));
      record(test_print_op, {reshape(heavy, {4})});
      record(test_print_op, {x});
      record(test_print_op, {x});  // equal to the one before, and an act of its own
      record(test_print_op, {x * 3.0});
      Plan p = compile({x + 1.0}, {.device = device, .concurrent = concurrent});
      for (int run = 0; run < 2; ++run) {
        log_of_effects.clear();
        p.run({{"x", Tensor::full({4}, 2)}});
        EXPECT_EQ(log_of_effects, (std::vector<double>{8, 2, 2, 6}));
      }
    }
}

}  // namespace
