// What the op suite covers, and that the suite itself notices what it should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "whence/ops/ops.h"
#include "whence/testing/op_suite.h"

using namespace whence;

TEST(OpCoverage, EveryFileInOpsRegistersAndHasADifferentiableSample) {
  const char* root = std::getenv("WHENCE_SOURCE_DIR");
  std::filesystem::path ops = std::filesystem::path(root ? root : ".") / "ops";
  ASSERT_TRUE(std::filesystem::exists(ops)) << "run in the source folder, or set WHENCE_SOURCE_DIR";
  // Files without an op of their own: lowerings to other ops, and helpers.
  const std::set<std::string> none{"ops/ctc.cpp",          "ops/einsum.cpp", "ops/fused.cpp",
                                   "ops/linear_rules.cpp", "ops/resize.cpp", "ops/scan_sweep.cpp",
                                   "ops/windows.cpp"};
  std::map<std::string, std::vector<const OpDef*>> by_file;
  for (const OpDef* op : all_ops()) by_file[op->file].push_back(op);
  for (const auto& entry : std::filesystem::directory_iterator(ops)) {
    if (entry.path().extension() != ".cpp") continue;
    std::string name = "ops/" + entry.path().filename().string();
    const std::vector<const OpDef*>& registered = by_file[name];
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    bool mentions = text.str().find("REGISTER_OP(") != std::string::npos;
    if (none.contains(name)) {
      EXPECT_FALSE(mentions) << name << " registers ops now: take it off the list";
      continue;
    }
    EXPECT_FALSE(registered.empty()) << name << " registers no op"
                                     << (mentions ? " although it says REGISTER_OP: was it linked?" : "");
    bool wanted = false, sampled = false;
    for (const OpDef* op : registered) {
      wanted |= !op->traits.nondifferentiable && !op->traits.leaf && !op->traits.blocks_gradient;
      if (!op->samples) continue;
      for (const Sample& s : op->samples())
        for (size_t i = 0; i < s.in.size(); ++i)
          sampled |= s.in[i].dtype == f64 && s.in[i].shape.numel() > 0 && !(op->traits.sinks >> i & 1);
    }
    EXPECT_TRUE(sampled || !wanted) << name << " has no sample with a differentiable operand";
  }
}

TEST(OpCoverage, EveryPublicOpHasARuleOrABody) {
  for (const OpDef* op : all_ops()) {
    if (op->traits.leaf || op->traits.nondifferentiable || op->traits.backward || op->traits.blocks_relevance) continue;
    EXPECT_NE(op->relevance != nullptr, op->body != nullptr)
        << op->name << " in " << op->file << " needs a relevance rule or a body, not both";
  }
}

TEST(OpSuiteItself, NamesOpSampleAndNumbers) {
  // A wrong vjp in a copy of an op: the message says where and how far off.
  OpDef broken = op_named("mul");
  broken.vjp = [](SweepCtx& c) {
    c.give(0, c.reduce_to(c.d(), 0));
    c.give(1, c.reduce_to(c.d(), 1));
  };
  Sample sample = broken.samples()[0];
  whence::suite::Failures failures = whence::suite::check_gradient(broken, sample);
  ASSERT_FALSE(failures.empty());
  EXPECT_THAT(failures[0],
              ::testing::HasSubstr("[mul] sample 'same' layout contiguous, direction 0 of a: the vjp gives "));
  EXPECT_THAT(failures[0], ::testing::HasSubstr("central differences "));
}

TEST(OpSuiteItself, NoticesWhatAKernelDoesToMemory) {
  Sample sample{{{.shape = {4}}}, {}, "four"};
  OpDef op{.name = "suspect", .operands = {"x"}, .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); }};
  auto failures_of = [&](KernelFn kernel) {
    op.cpu = kernel;
    return whence::suite::check_kernel(op, sample);
  };
  using ::testing::Contains;
  using ::testing::HasSubstr;
  KernelFn sound = [](const KernelCall& k) { copy(k.in[0], k.out[0]); };
  EXPECT_TRUE(failures_of(sound).empty());
  // One byte too many: the buffers of these tests have room for it.
  EXPECT_THAT(failures_of([](const KernelCall& k) {
                copy(k.in[0], k.out[0]);
                static_cast<std::byte*>(k.out[0].data)[k.out[0].numel() * int64_t(size_of(k.out[0].dtype))] =
                    std::byte{1};
              }),
              Contains(HasSubstr("outside the buffer of result 0")));
  EXPECT_THAT(failures_of([](const KernelCall& k) {
                copy(k.in[0], k.out[0]);
                static_cast<std::byte*>(k.in[0].data)[-1] = std::byte{1};
              }),
              Contains(HasSubstr("around contiguous input 0")));
  EXPECT_THAT(failures_of([](const KernelCall& k) {
                View in = k.in[0], out = k.out[0];
                in.shape = out.shape = {3};
                copy(in, out);
              }),
              Contains(HasSubstr("depends on what its buffer held")));
  if (!whence::suite::heap_allocations) return;
  EXPECT_THAT(failures_of([](const KernelCall& k) {
                std::vector<double> scratch(size_t(k.in[0].numel()));
                copy(k.in[0], k.out[0]);
              }),
              Contains(HasSubstr("its third run takes from the heap, 1 times")));
}

TEST(OpSuiteItself, NoticesARuleThatLosesOrMisroutesRelevance) {
  using ::testing::HasSubstr;
  OpDef op = op_named("add");
  Sample sample = op.samples()[0];
  op.relevance = [](SweepCtx& c) {
    if (c.needs(0)) c.give(0, c.reduce_to(c.d(), 0));
  };  // conserves, goes to the wrong place
  EXPECT_FALSE(whence::suite::check_oracle(op, sample).empty());
  op.relevance = [](SweepCtx& c) {
    if (c.needs(0)) c.give(0, c.reduce_to(c.d() * 0.5, 0));
  };
  whence::suite::Failures lost = whence::suite::check_ledger(op, sample);
  ASSERT_FALSE(lost.empty());
  EXPECT_THAT(lost[0], HasSubstr("is missing"));
}

TEST(OpSuiteItself, AsksForAReference) {
  OpDef op = op_named("add");
  op.name = "add_without_reference";
  op.relevance = [](SweepCtx& c) { c.give(0, c.d()); };
  EXPECT_THAT(whence::suite::check_literal(op), ::testing::Contains(::testing::HasSubstr("has no reference")));
}
