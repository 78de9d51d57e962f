// The ledger closes wherever relevance ends; rule sets that do not fit are refused; presets and seeds.
#include "tests/lrp/net.h"

using namespace whence;

namespace {

// Fused ops whose bodies end relevance in different places.
void same(InferCtx& c) { c.out(c.shape(0), c.dtype(0)); }
std::vector<Sample> none() { return {}; }
#define BODY(NAME, ...)                                                                            \
  REGISTER_OP(NAME) = {                                                                            \
      .doc = "for the ledger",                                                                     \
      .operands = {"x..."},                                                                        \
      .infer = same,                                                                               \
      .body = [](std::span<const Var> in, const Attrs&) { return std::vector<Var>{__VA_ARGS__}; }, \
      .samples = none,                                                                             \
  }
BODY(test_cut, stop_relevance(silu(in[0])));
BODY(test_cut_deeper, record(test_cut_op, {in[0]}));
BODY(test_gated, in[0] * stop_relevance(silu(in[0])));
BODY(test_first_operand, in[0]);

double part(const lrp::LedgerReport& r, const char* category) {
  return r.absorbed.count(category) ? r.absorbed.at(category) : 0;
}

// Relevance of x is what y takes from it; the ledger, which Net checks node by node, must close as a whole too.
TEST(Ledger, BooksWhatABodyCutsOff) {
  struct Case {
    const char* name;
    const OpDef& op;
    bool cut;
  };
  for (const Case& c : {Case{"cut", test_cut_op, true},
                        {"deeper", test_cut_deeper_op, true},
                        {"gated", test_gated_op, false},
                        {"first", test_first_operand_op, false}}) {
    Net n;
    Var x = n.data("x", randn({2, 3}, 1)), z = n.data("z", randn({2, 3}, 2));
    Var h = record(c.op, {x}), y = h + z;
    auto r = n.relevance(y, {x, z}, exact());
    Results v = n.run({h, y});
    double share = 0;
    for (int64_t i = 0; i < 6; ++i) share += v[0].item(i) / v[1].item(i);
    EXPECT_NEAR(part(n.report, "detached"), c.cut ? share : 0, 1e-9) << c.name;
    EXPECT_NEAR(sum_of(r[0]), c.cut ? 0 : share, 1e-9) << c.name;
    EXPECT_NEAR(n.report.leaves + n.report.all_absorbed(), 6, 1e-9) << c.name;
    EXPECT_NEAR(n.report.leaves, sum_of(r[0]) + sum_of(r[1]), 1e-9) << c.name;
    // As the root.
    EXPECT_NEAR(sum_of(n.relevance(h, {x}, exact())[0]), c.cut ? 0 : 6, 1e-9) << c.name;
    EXPECT_NEAR(part(n.report, "detached"), c.cut ? 6 : 0, 1e-9) << c.name;
  }
}

TEST(Ledger, BooksWhatIsCutOffInCheckpointsAndBranches) {
  Net n;
  Var x = n.data("x", randn({2, 3}, 3)), w = n.weight("w", randn({3, 3}, 4));
  Var a = checkpoint([&](Var v) { return record(test_cut_op, {linear(v, w)}); }, x),
      b = checkpoint([&](Var v) { return stop_relevance(tanh(v)); }, x);
  for (Var y : {a + x, concat({a, b, x}, 0), where(greater(x, 0.0), a, x), sum(a * b + x), a, b}) {
    Tensor r = n.relevance(y, {x}, lrp::attn())[0];  // holds
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(y.numel()), 1e-9);
  }
  EXPECT_NEAR(part(n.report, "detached"), 6, 1e-12) << "a root under stop_relevance";
}

TEST(Ledger, BooksWhatRulesCutOff) {
  lrp::RuleSet rules = exact();
  rules.set("tanh", {.variant = "detach"}).set("layer_norm", {.variant = "detach"});
  Net n;
  Var x = n.data("x", randn({2, 4}, 5));
  for (Var y : {tanh(x), layer_norm(x)}) {
    n.relevance(y, {x}, rules);
    EXPECT_NEAR(part(n.report, "detached"), 8, 1e-12);
  }
  // Weights of attention are cut off inside its body; when the values are parameters, nothing else carries.
  Var q = n.data("q", randn({1, 1, 3, 4}, 6)), k = n.weight("k", randn({1, 1, 5, 4}, 7)),
      v = n.weight("v", randn({1, 1, 5, 4}, 8));
  EXPECT_EQ(sum_of(n.relevance(attention(q, k, v), {q}, lrp::cp())[0]), 0);
  EXPECT_NEAR(part(n.report, "detached"), 12, 1e-9);
}

TEST(Ledger, CountsParametersApartHoweverTheyAreReached) {
  Net n;
  Var x = n.data("x", randn({3, 4}, 9)), w = n.weight("w", randn({4, 5}, 10)), scale = n.weight("s", randn({4}, 11));
  Var turned = transpose(w) * rms_norm(scale);  // (5, 4)
  auto r = n.relevance(linear(x, turned), {x, w, scale}, exact());
  EXPECT_NEAR(sum_of(r[0]), 15, 1e-9);
  EXPECT_NEAR(sum_of(r[1]), 15, 1e-9);
  EXPECT_NEAR(n.report.leaves, 15, 1e-9);
  Var normed = layer_norm(w);  // asked for itself, it is data; it has parents, but none of them carries
  n.relevance(matmul(x, normed), {x, normed}, exact());
  EXPECT_NEAR(n.report.leaves, 15, 1e-9);
}

TEST(Ledger, HoldsForSeveralTargets) {
  Graph g;
  Var x = g.input("x", {2, 1, 3, 4}, f64), h = attention(x, tanh(x), x),
      y = sum(record(test_cut_op, {h}) + h, {1, 2});  // (2, 4)
  lrp::Ledger ledger(lrp::attn());
  Var r = ledger.relevance(y, x, lrp::seeds_for_classes(y, {0, 3, 1}), {.targets = 3});
  lrp::LedgerReport report = ledger.read(evaluate({r, ledger.outputs()}, {{"x", randn({2, 1, 3, 4}, 13)}}));
  EXPECT_TRUE(report.holds()) << report.text();
  EXPECT_NE(part(report, "detached"), 0);
}

// ---- rule sets that do not fit ------------------------------------------------------------------------------------

std::string refusal(Var y, Var x, const lrp::RuleSet& rules) {
  size_t before = y.graph().node_count();
  std::string text;
  try {
    relevance(y, x, rules, y);
  } catch (const ValueError& e) {
    text = e.what();
    EXPECT_EQ(y.graph().node_count(), before) << "nothing may be recorded";
  }
  return text;
}
int count(const std::string& text, const std::string& what) {
  int n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(Variants, AnUnknownOneIsAnErrorThatListsEveryNode) {
  Graph g;
  Var x = g.input("x", {2, 4}, f64), w = g.constant(randn({4, 4}, 14)), y;
  {
    Scope s(g, "block");
    y = relu(linear(x, w));
  }
  y = sum(softmax(y + x), {1});
  lrp::RuleSet rules("mine");
  rules.set("linear", {.variant = "zplsu"})
      .set("relu", {.variant = "pass"})
      .set("softmax", {.variant = "taylor"})
      .set("add", {.variant = "abs"});
  std::string text = refusal(y, x, rules);
  EXPECT_NE(text.find("rule set 'mine' does not fit"), text.npos) << text;
  EXPECT_NE(text.find("linear recorded at ledger_test.cpp"), text.npos) << text;
  EXPECT_NE(text.find(" in block: [linear] has no relevance variant 'zplsu', it knows epsilon, first"), text.npos)
      << text;
  EXPECT_NE(text.find("[relu] has no relevance variant 'pass', it knows identity, detach"), text.npos) << text;
  EXPECT_NE(text.find("[softmax] has no relevance variant 'taylor'"), text.npos) << text;
  EXPECT_EQ(count(text, "has no relevance variant"), 3) << text;
  // A rule set's fallback counts, too; an op that relevance does not reach does not.
  EXPECT_EQ(count(refusal(y, x, lrp::RuleSet("all", {.variant = "gamma"})), "has no relevance variant 'gamma'"), 4);
  EXPECT_EQ(refusal(relu(x) * stop_relevance(softmax(x)), x, lrp::RuleSet().set("softmax", {.variant = "taylor"})), "");
  EXPECT_EQ(
      refusal(relu(x) + stop_relevance(softmax(x)), x, lrp::RuleSet().set("add", {.variant = "first"})).find("[add]") ==
          std::string::npos,
      false);
}

TEST(Variants, BodiesAreLookedInto) {
  Graph g;
  Var x = g.input("x", {2, 4}, f64), y = layer_norm(x) + x;
  std::string text = refusal(y, x, lrp::RuleSet().set("sub", {.variant = "first"}).set("rsqrt", {.variant = "gamma"}));
  EXPECT_NE(text.find("sub in the body of layer_norm recorded at ledger_test.cpp"), text.npos) << text;
  EXPECT_EQ(count(text, "rsqrt"), 0) << "the body stops relevance before it reaches rsqrt: " << text;
  EXPECT_NE(refusal(record(test_cut_deeper_op, {x}) + record(test_gated_op, {x}), x,
                    lrp::RuleSet().set("mul", {.variant = "gamma"}))
                .find("mul in the body of test_gated"),
            text.npos);
  EXPECT_NE(refusal(y, x, lrp::RuleSet().set("layer_norm", {.variant = "abs"}))
                .find("[layer_norm] has no relevance variant 'abs'"),
            text.npos);
  // With identity for the whole op, its body is not asked.
  EXPECT_EQ(refusal(y, x, lrp::RuleSet().set("sub", {.variant = "first"}).set("layer_norm", {.variant = "identity"})),
            "");
}

TEST(Variants, IdentityNeedsTheResultsShape) {
  Graph g;
  Var x = g.input("x", {2, 4}, f64), row = g.input("row", {4}, f64);
  std::string text = refusal(sum(x, {1}), x, lrp::RuleSet().set("sum", {.variant = "identity"}));
  EXPECT_NE(text.find("variant identity passes [2] to x [2, 4], which is of another shape"), text.npos) << text;
  EXPECT_EQ(refusal(row * x, row, lrp::RuleSet().set("mul", {.variant = "identity"})), "");
}

TEST(Variants, PresetsFitEveryOpOfATransformerAndAConvolution) {
  for (const char* name : {"attn", "cp", "dynamic", "mamba", "epsilon", "epsilon_plus", "epsilon_alpha2_beta1"}) {
    Net n;
    Var x = n.data("x", randn({1, 2, 4, 4}, 15)),
        c = relu(conv(x, n.weight("k", randn({2, 2, 3, 3}, 16)), {}, {.padding = {1}}));
    Var h = rms_norm(max_pool(c, {.kernel = {2}})), y = swiglu(layer_norm(attention(c, c, c))) / (exp(mean(h)) + 1.0);
    EXPECT_EQ(n.relevance(y, {x}, lrp::preset(name)).size(), 1u) << name;  // and the ledger holds
  }
}

// ---- presets, seeds -----------------------------------------------------------------------------------------------

TEST(Presets, TheySplitOppositeSignsDifferently) {
  Net n;
  Var a = n.data("a", Tensor::from<double>({2})), b = n.data("b", Tensor::from<double>({-1}));
  auto attn = n.relevance(a + b, {a, b}, lrp::attn(1e-12)), dynamic = n.relevance(a + b, {a, b}, lrp::dynamic());
  EXPECT_EQ(n.report.rules, "dynamic");
  EXPECT_NEAR(attn[0].item(), 2, 1e-9);
  EXPECT_NEAR(attn[1].item(), -1, 1e-9);
  EXPECT_NEAR(dynamic[0].item(), 2.0 / 3, 1e-9);
  EXPECT_NEAR(dynamic[1].item(), 1.0 / 3, 1e-9);
}

TEST(Presets, DescribeThemselvesAndAreFoundByName) {
  for (const char* name : {"attn", "cp", "dynamic", "mamba", "epsilon", "epsilon_plus", "epsilon_alpha2_beta1"}) {
    EXPECT_EQ(lrp::preset(name).name(), name);
    EXPECT_EQ(lrp::preset(name).describe().rfind(name, 0), 0u);
  }
  EXPECT_THROW(lrp::preset("atn"), ValueError);
}

TEST(Ledger, NamesTheNodeThatLoses) {
  Net n;
  Var x = n.data("x", randn({3, 4}, 57)), seed = broadcast_to(n.g.constant(1.0, f64), {3, 4});
  lrp::Ledger ledger(lrp::attn());
  Var r = ledger.relevance(tanh(x) + x, x, seed);
  std::vector<Var> wanted{r};
  wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
  lrp::LedgerReport report = ledger.read(n.run(wanted));
  ASSERT_TRUE(report.holds()) << report.text();
  report.nodes.back().passed *= 0.9;
  ASSERT_EQ(report.offenders().size(), 1u);
  EXPECT_NE(report.text().find("DOES NOT ADD UP"), std::string::npos);
}

TEST(Ledger, HoldsForATransformerBlockInBothPrecisions) {
  for (DType t : {f64, f32}) {
    Graph g;
    auto p = [&](const char* name, Shape s, uint64_t seed) { return g.parameter(name, randn(s, seed).to(t)); };
    Var x = g.input("x", {2, 5, 8}, t);
    Var h = layer_norm(x, Arg(p("lw", {8}, 1)), Arg(p("lb", {8}, 2)));
    auto heads = [&](Var v) { return permute(reshape(v, {2, 5, 2, 4}), {0, 2, 1, 3}); };
    Var a = attention(heads(linear(h, p("q", {8, 8}, 3))), heads(linear(h, p("k", {8, 8}, 4))),
                      heads(linear(h, p("v", {8, 8}, 5))), {.causal = true});
    Var y = x + linear(reshape(permute(a, {0, 2, 1, 3}), {2, 5, 8}), p("o", {8, 8}, 6), Arg(p("ob", {8}, 7)));
    y = y + linear(gelu(linear(rms_norm(y, Arg(p("rw", {8}, 8))), p("u", {16, 8}, 9), Arg(p("ub", {16}, 10)))),
                   p("d", {8, 16}, 11));
    for (const char* name : {"attn", "cp", "dynamic"}) {
      lrp::Ledger ledger(lrp::preset(name));
      Var r = ledger.relevance(y, x, y);
      lrp::LedgerReport report = ledger.read(evaluate({r, ledger.outputs()}, {{"x", randn({2, 5, 8}, 12).to(t)}}));
      EXPECT_TRUE(report.holds()) << name << " " << name_of(t) << "\n" << report.text();
    }
  }
}

TEST(Seeds, OneSweepForSeveralClasses) {
  Graph g;
  Var x = g.input("x", {2, 4}, f64);
  Var y = linear(tanh(linear(x, g.parameter("w", randn({6, 4}, 1)))), g.parameter("v", randn({5, 6}, 2)));
  Ints classes{3, 0, 4};
  Var many = relevance(y, x, lrp::attn(), lrp::seeds_for_classes(y, classes), {.targets = 3});
  std::vector<Var> wanted{many};
  for (int64_t k : classes) wanted.push_back(relevance(y, x, lrp::attn(), lrp::seed(y, k)));
  Results r = compile(wanted).run({{"x", randn({2, 4}, 3)}});
  for (int64_t k = 0; k < 3; ++k)
    EXPECT_LT(max_abs_diff(r[0].slice(0, k, k + 1).reshaped({2, 4}).contiguous_tensor(), r[size_t(k) + 1]), 1e-12);
}

}  // namespace
