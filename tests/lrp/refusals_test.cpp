// What a sweep refuses: integers, ops without a rule, rules that nothing answers to. Every text says where and what to
// do.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/lrp/net.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

// ---- integers -----------------------------------------------------------------------------------------------------

TEST(Integers, HaveNothingToExplain) {
  Graph g;
  Var x = g.input("x", {2, 5}, f64), label = argmax(linear(x, g.parameter("w", randn({3, 5}, 1))), 1);
  size_t before = g.node_count();
  std::string text = thrown<DTypeError>([&] { relevance(label, x, lrp::attn()); });
  EXPECT_THAT(text, HasSubstr("[relevance] argmax recorded at refusals_test.cpp:"));
  EXPECT_THAT(text, HasSubstr("is i64: there is nothing to explain"));
  EXPECT_EQ(g.node_count(), before) << "nothing may be recorded";
  for (Var y : {label, greater(x, 0.0), cast(label, f64), reshape(cast(label, f64), {1, 2}), less(x, x)}) {
    EXPECT_THAT(thrown<DTypeError>([&] { relevance(y, x, lrp::cp()); }), HasSubstr("nothing to explain"));
    EXPECT_THAT(thrown<DTypeError>([&] { lrp::Ledger(lrp::dynamic()).relevance(y, x, y); }),
                HasSubstr("nothing to explain"));
    EXPECT_THAT(thrown<DTypeError>([&] { grad(sum(cast(y, i64)), x); }), HasSubstr("[gradient]"));
  }
}

TEST(Integers, OfTokensHaveRelevanceButNoGradient) {
  Graph g;
  Var ids = g.input("ids", {2, 3}, i64), rows = embedding(ids, g.parameter("t", randn({6, 4}, 2))), y = sum(tanh(rows));
  EXPECT_NO_THROW(relevance(y, ids, lrp::attn()));
  EXPECT_NO_THROW(relevance(sum(cast(ids, f64) * 2.0), ids, lrp::attn()));
  EXPECT_THAT(thrown<DTypeError>([&] { grad(y, ids); }), HasSubstr("input recorded at refusals_test.cpp:"));
  // Positions that select, and ids beside the way.
  Var index = g.input("index", {2}, i64), other = g.input("other", {2}, i32);
  for (Var w : {index, other, argmax(rows, 2)})
    EXPECT_THAT(thrown<DTypeError>([&] { relevance(sum(gather(rows, index, 1)), w, lrp::attn()); }),
                HasSubstr("ask for data that the result was computed from"));
}

// A negative eps moves denominators towards zero.
TEST(Rules, AStabiliserIsAFiniteNumber) {
  Graph g;
  Var x = g.input("x", {3}), y = sum(x * x);
  lrp::RuleSet rules("custom");
  rules.set("mul", {.eps = std::nan("")});
  for (const lrp::RuleSet& r : {lrp::epsilon(-0.5), lrp::epsilon(std::numeric_limits<double>::infinity()), rules})
    EXPECT_THAT(thrown<ValueError>([&] { relevance(y, x, r); }), HasSubstr("eps must be finite and not negative"));
  relevance(y, x, lrp::epsilon(0));
}

// ---- ops without a rule -------------------------------------------------------------------------------------------

// Special functions and transforms as somebody adds them for the forward pass alone: the trait lets them register.
#define FORWARD_ONLY(NAME)                                         \
  REGISTER_OP(NAME) = {                                            \
      .doc = "no derivative yet",                                  \
      .operands = {"x"},                                           \
      .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); }, \
      .view =                                                      \
          [](const View& in, const Attrs&, View& out) {            \
            out = in;                                              \
            return true;                                           \
          },                                                       \
      .vjp = [](SweepCtx& c) { c.give(0, c.d()); },                \
      .samples = [] { return std::vector<Sample>{}; },             \
      .traits = {.backward = true},                                \
  }
FORWARD_ONLY(test_digamma);
FORWARD_ONLY(test_rfft);
REGISTER_OP(test_spectrum) = {
    .doc = "a body that needs one of them",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .body = [](std::span<const Var> in, const Attrs&) -> std::vector<Var> {
      return {square(record(test_rfft_op, {in[0]}))};
    },
    .samples = [] { return std::vector<Sample>{}; },
};

TEST(MissingRules, A1_A7_NameOpNodeLineAndRemedy) {
  for (const OpDef* op : {&test_digamma_op, &test_rfft_op}) {
    Graph g;
    Var x = g.input("x", {4}, f64), y;
    {
      Scope s(g, "head");
      y = sum(tanh(record(*op, {x * 2.0})));
    }
    size_t before = g.node_count();
    std::string text = thrown<MissingRule>([&] { relevance(y, x, lrp::attn()); });
    EXPECT_THAT(text, HasSubstr("no relevance rule for 1 of 4 nodes:"));
    EXPECT_THAT(text, HasSubstr(op->name + " recorded at refusals_test.cpp:"));
    EXPECT_THAT(text, HasSubstr(" in head"));
    EXPECT_THAT(text, HasSubstr(".relevance (lrp::identity"));
    EXPECT_THAT(text, HasSubstr("rules.set(\"" + op->name + "\", {.variant = \"identity\"})"));
    EXPECT_EQ(g.node_count(), before);
    // As the text says.
    lrp::RuleSet rules = lrp::attn();
    rules.set(op->name, {.variant = "identity"});
    EXPECT_NO_THROW(relevance(y, x, rules));
  }
}

TEST(MissingRules, InBodiesToo) {
  Graph g;
  Var x = g.input("x", {4}, f64), y = record(test_spectrum_op, {x}) + x;
  for (const char* preset : {"attn", "cp", "dynamic"})
    EXPECT_THAT(thrown<MissingRule>([&] { relevance(y, x, lrp::preset(preset)); }),
                HasSubstr("test_rfft in the body of test_spectrum recorded at refusals_test.cpp:"));
  lrp::RuleSet rules = lrp::attn();
  rules.set("test_spectrum", {.variant = "identity"});
  EXPECT_NO_THROW(relevance(y, x, rules));
}

// ---- rules that decide nothing ------------------------------------------------------------------------------------

TEST(UnmatchedRules, AnOpThatNobodyRegisteredIsAnError) {
  Graph g;
  Var x = g.input("x", {2, 3}, f64), y = linear(x, g.parameter("w", randn({4, 3}, 3)));
  lrp::RuleSet rules = lrp::attn();
  rules.set("linaer", {.variant = "gamma"}).set("linear", {.variant = "gamma"}).set("soft*xx", "head", {});
  std::string text = thrown<ValueError>([&] { relevance(y, x, rules); });
  EXPECT_THAT(text, HasSubstr("a rule for 'linaer': no operation has this name"));
  EXPECT_THAT(text, HasSubstr("'soft*xx'"));
  EXPECT_THAT(text, testing::Not(HasSubstr("'linear'")));
}

TEST(UnmatchedRules, AreReported) {
  Net n;
  Var x = n.data("x", randn({2, 3}, 4)), h, y;
  {
    Scope s(n.g, "encoder/layer0");
    h = relu(linear(x, n.weight("w", randn({3, 3}, 5))));
  }
  y = layer_norm(h);
  lrp::RuleSet rules = lrp::cp();
  rules
      .set("linear", "encoder/layr0", {.variant = "gamma", .gamma = 0.5})  // a typo
      .set("linear", "encoder/*", {.variant = "zplus"})                    // hidden by the next
      .set("linear", {.variant = "epsilon"})
      .set("sub", {.variant = "abs"})  // in the body of layer_norm
      .set("tanh", {.variant = "detach"});
  std::vector<std::string> unmatched;
  relevance(y, x, rules, {}, {.unmatched = &unmatched});
  ASSERT_EQ(unmatched.size(), 3u);
  EXPECT_THAT(unmatched[0], HasSubstr("linear in encoder/layr0: gamma(0.5)"));
  EXPECT_THAT(unmatched[1], HasSubstr("linear in encoder/*: zplus"));
  EXPECT_THAT(unmatched[2], HasSubstr("tanh: detach"));
  n.relevance(y, {x}, rules);
  EXPECT_EQ(n.report.unmatched, unmatched);
  EXPECT_THAT(n.report.text(), HasSubstr("a rule that matches nothing here: linear in encoder/layr0"));
  // Presets are for any graph: conv, softmax and mul are not missed here; the scope of a box is the user's.
  n.relevance(y, {x}, lrp::cp());
  EXPECT_TRUE(n.report.unmatched.empty());
  n.relevance(y, {x}, lrp::epsilon_plus());
  EXPECT_TRUE(n.report.unmatched.empty());
  n.relevance(y, {x}, lrp::epsilon_gamma_box(-1, 1, "*frist*"));
  ASSERT_EQ(n.report.unmatched.size(), 1u);
  EXPECT_THAT(n.report.unmatched[0], HasSubstr("in *frist*"));
  // "detach" decides, though nothing passes there.
  n.relevance(tanh(h), {x}, lrp::attn().set("tanh", {.variant = "detach"}));
  EXPECT_TRUE(n.report.unmatched.empty());
}

// The ops of a body depend on its attributes and operands, not on its op alone.
TEST(UnmatchedRules, ARuleReachesEveryBodyThatHasItsOp) {
  for (bool bare_first : {false, true}) {
    Net n;
    Var x = n.data("x", randn({1, 1, 4, 3}, 6)), w = n.data("bias", randn({1, 1, 4, 4}, 7));
    auto bare = [&](Var v) { return attention(v, tanh(v), v); };
    auto biased = [&](Var v) { return attention(v, tanh(v), v, {.bias = w}); };
    // The sweep meets the last one first.
    Var y = bare_first ? bare(biased(x)) : biased(bare(x));
    lrp::RuleSet rules = lrp::attn(1e-12);
    rules.set("add", {.variant = "abs"});
    std::vector<Tensor> got = n.relevance(y, {x, w}, rules);
    EXPECT_TRUE(n.report.unmatched.empty());
    lrp::Ledger ledger(rules);
    std::vector<Var> want = ledger.relevance(y, std::vector<Var>{x, w}, broadcast_to(n.g.constant(1.0, f64), y.shape()),
                                             {.inline_fused = true});
    Results r = n.run(want);
    for (size_t i : {0, 1}) EXPECT_LT(max_abs_diff(got[i], r[i]), 1e-9) << bare_first;
    EXPECT_GT(max_abs_diff(n.relevance(y, {x, w}, lrp::attn())[1], got[1]), 1e-6) << "the rule makes a difference";
  }
}

}  // namespace
