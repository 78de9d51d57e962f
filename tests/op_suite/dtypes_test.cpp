// A dtype that an op cannot compute with is refused when the op is recorded, never by a missing kernel at the run.
#include <gtest/gtest.h>

#include <algorithm>

#include "whence/autograd/plan.h"
#include "whence/ops/ops.h"
#include "whence/testing/op_suite.h"

using namespace whence;

namespace {

constexpr DType kAll[] = {f32, f64, bf16, f16, i32, i64, u8, boolean};

TEST(DTypes, EveryOpRunsOrRefusesWhenItIsRecorded) {
  int ran = 0, refused = 0;
  for (const OpDef* op : all_ops()) {
    if (!op->samples || op->traits.leaf) continue;
    for (const Sample& sample : op->samples())
      for (DType t : kAll) {
        std::vector<Tensor> in = suite::draw(*op, sample, t);
        SCOPED_TRACE(op->name + ", " + sample.name + ", " + std::string(name_of(t)));
        Graph g, now(Graph::Mode::immediate);
        std::vector<std::string> names;
        for (size_t i = 0; i < in.size(); ++i) names.push_back("x" + std::to_string(i));
        Feeds feeds;
        std::vector<Var> leaves, values, out;
        for (size_t i = 0; i < in.size(); ++i) {
          feeds.emplace_back(names[i], in[i]);
          leaves.push_back(g.input(names[i], in[i].shape(), in[i].dtype()));
          values.push_back(now.input(names[i], in[i]));
        }
        try {
          Var first = g.record(*op, leaves, sample.attrs);
          for (uint32_t k = 0; k < g.producer(first.id()).out_count; ++k) out.push_back(g.var(first.id() + k));
        } catch (const DTypeError&) {
          ++refused;
          EXPECT_THROW(now.record(*op, values, sample.attrs), DTypeError);
          continue;
        }
        ++ran;
        EXPECT_NO_THROW(evaluate({out}, feeds));
        EXPECT_NO_THROW(now.record(*op, values, sample.attrs));
      }
  }
  EXPECT_GT(ran, 1000);
  EXPECT_GT(refused, 500);
}

}  // namespace
