// Incomplete literals are refused, all defects at once. A program of its own: a broken op spoils every graph after it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "whence/autograd/graph.h"

using namespace whence;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

TEST(Registry, IsFullAndSoundBeforeAnythingIsBroken) {
  EXPECT_GT(all_ops().size(), 60u);
  EXPECT_EQ(registry_defects(), std::vector<std::string>());
  EXPECT_NO_THROW(Graph());
  EXPECT_NE(find_op("matmul"), nullptr);
  EXPECT_EQ(find_op("no_such_op"), nullptr);
  try {
    op_named("no_such_op");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("no op is named 'no_such_op'"));
  }
  std::vector<const OpDef*> ops = all_ops();
  EXPECT_TRUE(std::is_sorted(ops.begin(), ops.end(), [](auto* a, auto* b) { return a->name < b->name; }));
}

TEST(Registry, ListsAllDefectsOfABrokenLiteralWithOpAndFile) {
  const size_t before = all_ops().size();
  auto rule = [](SweepCtx&) {};
  register_op("broken_empty", "somewhere/else/ops/mine.cpp", {});
  register_op("broken_both", "ops/both.cpp",
              {.doc = "two definitions",
               .operands = {"x"},
               .infer = [](InferCtx&) {},
               .relevance = rule,
               .body = [](std::span<const Var>, const Attrs&) { return std::vector<Var>(); }});
  register_op("broken_rule", "ops/rule.cpp",
              {.doc = "no rule",
               .operands = {"x"},
               .infer = [](InferCtx&) {},
               .cpu = [](const KernelCall&) {},
               .vjp = rule,
               .fast_relevance = rule,
               .samples = [] { return std::vector<Sample>(); }});
  register_op("matmul", "ops/again.cpp",
              {.doc = "twice",
               .operands = {"x"},
               .infer = [](InferCtx&) {},
               .cpu = [](const KernelCall&) {},
               .vjp = rule,
               .relevance = rule,
               .samples = [] { return std::vector<Sample>(); }});
  register_op("broken_row", "ops/row.cpp",
              {.doc = "a row of another arity",
               .operands = {"a", "b"},
               .infer = [](InferCtx&) {},
               .vjp = rule,
               .relevance = rule,
               .scalar = {.name = "broken_row", .operands = {"x"}, .text = "x"},
               .samples = [] { return std::vector<Sample>(); }});
  std::vector<std::string> defects = registry_defects();
  auto names = [&](const char* op, const char* file, const char* what) {
    EXPECT_THAT(defects, Contains(AllOf(HasSubstr(op), HasSubstr(file), HasSubstr(what))));
  };
  names("broken_empty", "ops/mine.cpp", "no doc line");
  names("broken_empty", "ops/mine.cpp", "no shape inference");
  names("broken_empty", "ops/mine.cpp", "no cpu kernel, view or body");
  names("broken_empty", "ops/mine.cpp", "no vjp");
  names("broken_empty", "ops/mine.cpp", "no relevance rule");
  names("broken_empty", "ops/mine.cpp", "no samples");
  names("broken_both", "ops/both.cpp", "no relevance rule of its own");
  names("broken_both", "ops/both.cpp", "no samples");
  names("broken_rule", "ops/rule.cpp", "no relevance rule");
  names("broken_rule", "ops/rule.cpp", "fast_relevance belongs to fused ops");
  names("matmul", "ops/again.cpp", "registered twice");
  names("broken_row", "ops/row.cpp", "its scalar row takes 1 operand(s), it takes 2");
  EXPECT_EQ(all_ops().size(), before + 4);

  // The first graph after that refuses, with the whole list.
  try {
    Graph g;
    FAIL() << "a graph was made";
  } catch (const Error& e) {
    for (const std::string& d : defects) EXPECT_THAT(e.what(), HasSubstr(d));
    EXPECT_THAT(e.what(), HasSubstr(std::to_string(defects.size()) + " defect(s)"));
  }
}
