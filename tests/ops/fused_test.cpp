// What the registry's samples cannot say about reductions, softmax, norms, attention, losses, conv1d and einsum.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

Tensor randn(const Shape& s, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> n;
  Tensor t = Tensor::empty(s, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = n(rng);
  return t;
}

bool finite(const Tensor& t) {
  for (int64_t i = 0; i < t.numel(); ++i)
    if (!std::isfinite(t.item(i))) return false;
  return true;
}
double largest(const Tensor& t) {
  double m = 0;
  for (int64_t i = 0; i < t.numel(); ++i) m = std::max(m, std::fabs(t.item(i)));
  return m;
}

struct Now : Graph {  // an immediate graph with short names
  Now() : Graph(Mode::immediate) {}
  Var in(const Shape& s, uint64_t seed) { return input("in" + std::to_string(seed), randn(s, seed)); }
};

// ---- reductions and softmax ---------------------------------------------------------------------------------------

TEST(Extrema, TheFirstOfEqualsTakesGradientAndRelevance) {
  Now g;
  Var x = g.input("x", Tensor::from<double>({1, 3, 3, 2, 3, 0}, {2, 3}));
  EXPECT_EQ(grad(sum(max(x, {1})), x).value().to_vector<double>(), (std::vector<double>{0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(relevance(max(x), x, lrp::RuleSet()).value().to_vector<double>(), (std::vector<double>{0, 3, 0, 0, 0, 0}));
  EXPECT_EQ(argmax(x).value().to_vector<int64_t>(), (std::vector<int64_t>{1, 1}));
}

TEST(Logsumexp, RowsOfMinusInfinityHaveNoGradient) {
  Now g;
  double inf = std::numeric_limits<double>::infinity();
  Var x = g.input("x", Tensor::from<double>({-inf, -inf, 0, -inf}, {2, 2}));
  EXPECT_EQ(logsumexp(x, {1}).value().to_vector<double>(), (std::vector<double>{-inf, 0}));
  EXPECT_EQ(grad(sum(logsumexp(x, {1})), x).value().to_vector<double>(), (std::vector<double>{0, 0, 1, 0}));
}

TEST(Softmax, MaskedEntriesTakeNoRelevance) {
  Now g;
  Var x = g.in({3, 4}, 1),
      seen = g.constant(Tensor::from<int64_t>({1, 1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1}, {3, 4}).to(boolean));
  Var m = where(seen, x, g.constant(-std::numeric_limits<double>::infinity(), f64)), y = softmax(m);
  Var r = g.constant(randn({3, 4}, 2));
  Tensor got = relevance(y, x, lrp::RuleSet(), r).value();
  EXPECT_TRUE(finite(got));
  EXPECT_EQ(got.item(2), 0);
  double total = r.value().item(0) + r.value().item(1) + r.value().item(2) + r.value().item(3);
  EXPECT_NEAR(got.item(0), x.value().item(0) * (r.value().item(0) - y.value().item(0) * total), 1e-14);
}

// ---- norms --------------------------------------------------------------------------------------------------------

TEST(LayerNorm, BiasWithoutWeight) {
  Now g;
  Var x = g.in({3, 5}, 1), b = g.in({5}, 2);
  EXPECT_LT(max_abs_diff(layer_norm(x, {}, b).value(), (layer_norm(x) + b).value()), 1e-15);
}

TEST(LayerNorm, ThePlainVjpWouldLoseAllRelevance) {  // degree 0 as written: hence the frozen spread
  Now g;
  lrp::Rule exact;
  exact.eps = 0;
  Var x = g.in({4, 16}, 1), y = layer_norm(x, {}, {}, 0), r = g.constant(randn({4, 16}, 2));
  double in = sum(relevance(y, x, lrp::RuleSet("exact", exact), r)).value().item(),
         plain = sum(x * grad(y, x, r / y)).value().item(), out = sum(r).value().item();
  EXPECT_NEAR(in, out, 1e-9 * std::fabs(out));
  EXPECT_NEAR(plain, 0, 1e-9 * std::fabs(out));
}

// ---- attention ----------------------------------------------------------------------------------------------------

TEST(Attention, HeadsThatAreViewsEqualCopies) {
  const int64_t B = 2, T = 5, H = 3, D = 4;
  Tensor x = randn({B, T, 3 * H * D}, 1), d = randn({B, H, T, D}, 2);
  auto build = [&](Graph& g, Var in) {
    Var packed = permute(reshape(in, {B, T, 3, H, D}), {2, 0, 3, 1, 4});
    Var y = attention(select(packed, 0, 0), select(packed, 0, 1), select(packed, 0, 2), {.causal = true});
    Var seed = g.constant(d);
    return std::vector<Var>{y, grad(y, in, seed), relevance(y, in, lrp::RuleSet(), seed)};
  };
  Graph g;
  Results planned = compile(build(g, g.input("x", {B, T, 3 * H * D}, f64))).run({{"x", x}});
  Now now;
  std::vector<Var> want = build(now, now.input("x", x));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_LT(max_abs_diff(planned[i], want[i].value()), 1e-12) << i;
}

TEST(Attention, QueriesThatSeeNothingGiveZeroAndNoNan) {
  Now g;
  Var q = g.in({2, 2, 3, 4}, 1), k = g.in({2, 2, 5, 4}, 2), v = g.in({2, 2, 5, 4}, 3);
  Tensor mask = Tensor::zeros({2, 5}, u8);
  for (int s = 0; s < 5; ++s) mask.data<uint8_t>()[s] = 1;  // the second sample sees nothing
  Var y = attention(q, k, v, {.mask = g.input("mask", mask)});
  for (bool body : {false, true}) {
    std::vector<Var> in{q, k, v}, seeds{y};
    std::vector<Var> d = sweep({&y, 1}, seeds, in, {.kind = PassKind::gradient, .inline_fused = body});
    std::vector<Var> r = relevance(y, in, lrp::RuleSet(), {}, {.inline_fused = body});
    std::vector<Var> second = grad(sum(square(d[0])) + sum(d[2] * v), in);
    for (const auto& list : {d, r, second})
      for (Var t : list) {
        EXPECT_TRUE(finite(t.value()));
        EXPECT_EQ(largest(slice(t, 0, 1).value()), 0) << "second sample";
        EXPECT_GT(largest(slice(t, 0, 0, 1).value()), 0) << "first sample";
      }
  }
  EXPECT_EQ(largest(slice(y, 0, 1).value()), 0);
}

TEST(Attention, ABiasThatIsDataTakesItsShare) {
  Now g;
  lrp::Rule exact;
  exact.eps = 0;
  lrp::RuleSet rules("exact", exact);
  Var q = g.in({1, 2, 3, 4}, 1), k = g.in({1, 2, 3, 4}, 2), v = g.in({1, 2, 3, 4}, 3), bias = g.in({2, 1, 3}, 4);
  Var y = attention(q, k, v, {.bias = bias}), seed = g.constant(randn(y.shape(), 5));
  std::vector<Var> in{q, k, v, bias}, fast = relevance(y, in, rules, seed),
                                      slow = relevance(y, in, rules, seed, {.inline_fused = true});
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_LT(max_abs_diff(fast[i].value(), slow[i].value()), 1e-11 * std::max(1.0, largest(slow[i].value()))) << i;
}

TEST(Attention, OverriddenRulesReachItsBody) {
  Now g;
  lrp::RuleSet cp("cp");
  lrp::Rule detach;
  detach.variant = "detach";
  cp.set("softmax", detach);
  Var q = g.in({1, 1, 3, 4}, 1), k = g.in({1, 1, 3, 4}, 2), v = g.in({1, 1, 3, 4}, 3), y = attention(q, k, v);
  std::vector<Var> in{q, k, v}, r = relevance(y, in, cp);
  EXPECT_EQ(largest(r[0].value()), 0);
  EXPECT_EQ(largest(r[1].value()), 0);
  EXPECT_GT(largest(r[2].value()), 0);
}

TEST(Attention, TheErrorNamesTheCallersLine) {
  Graph g;
  Var q = g.input("q", {2, 4, 3, 8}), k = g.input("k", {2, 3, 3, 8});
  std::string text = thrown([&] { attention(q, k, k); });
  EXPECT_THAT(text, HasSubstr("no multiple of the 3 heads"));
  EXPECT_THAT(text, HasSubstr("fused_test.cpp"));
}

// ---- losses -------------------------------------------------------------------------------------------------------

TEST(CrossEntropy, ALabelThatIsNoClassIsNamed) {
  Now g;
  Var x = g.in({3, 4}, 1), t = g.constant(Tensor::from<int64_t>({0, 7, 1}));
  std::string text = thrown([&] { cross_entropy(x, t); });
  EXPECT_THAT(text, HasSubstr("[cross_entropy] target 7 at position 1 is outside [0, 4)"));
  EXPECT_THAT(text, HasSubstr("ignore_index -100"));
}

TEST(CrossEntropy, SoftTargetsEqualHardOnes) {
  Now g;
  Var x = g.in({3, 4}, 1), t = g.constant(Tensor::from<int32_t>({0, 3, 1}));
  for (double s : {0.0, 0.2}) {
    Var hard = cross_entropy(x, t, {.label_smoothing = s}),
        soft = cross_entropy(x, one_hot(t, 4, f64), {.label_smoothing = s});
    EXPECT_NEAR(hard.value().item(), soft.value().item(), 1e-14);
    EXPECT_LT(max_abs_diff(grad(hard, x).value(), grad(soft, x).value()), 1e-14);
  }
}

TEST(CrossEntropy, NoLabelsAtAllGiveZeroAndNoGradient) {
  Now g;
  Var x = g.in({2, 3}, 1), t = g.constant(Tensor::full({2}, -100, i64)), loss = cross_entropy(x, t);
  EXPECT_EQ(loss.value().item(), 0);
  EXPECT_EQ(largest(grad(loss, x).value()), 0);
}

TEST(Losses, ATargetThatWouldBroadcastIsRefused) {
  Graph g;
  EXPECT_THAT(thrown([&] { mse_loss(g.input("p", {4, 1}), g.input("t", {4})); }), HasSubstr("[4, 1] vs [4]"));
}

// ---- conv1d -------------------------------------------------------------------------------------------------------

TEST(CausalConv1d, StateContinuesASequence) {
  Now g;
  Var x = g.in({2, 9, 3}, 1), w = g.in({3, 4}, 2), b = g.in({3}, 3);
  Var whole = causal_conv1d(x, w, b), first = causal_conv1d(slice(x, 1, 0, 5), w, b);
  Var second = causal_conv1d(slice(x, 1, 5), w, b, slice(x, 1, 2, 5));
  EXPECT_LT(max_abs_diff(concat({first, second}, 1).value(), whole.value()), 1e-14);
  EXPECT_THAT(thrown([&] { causal_conv1d(x, w, b, x); }), HasSubstr("state must be [B, K-1, C] = [2, 3, 3]"));
}

// ---- einsum -------------------------------------------------------------------------------------------------------

// The definition: a loop over every assignment of the labels (one letter each, explicit output, no ellipsis).
Tensor by_loops(const std::string& equation, const std::vector<Tensor>& in) {
  std::vector<std::string> terms{""};
  for (char c : equation.substr(0, equation.find('-'))) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  std::string out = equation.substr(equation.find('>') + 1), labels;
  std::vector<int64_t> extent, at;
  for (size_t i = 0; i < terms.size(); ++i)
    for (size_t a = 0; a < terms[i].size(); ++a)
      if (labels.find(terms[i][a]) == labels.npos) {
        labels += terms[i][a];
        extent.push_back(in[i].shape()[int(a)]);
      }
  auto flat = [&](const std::string& term) {
    int64_t k = 0;
    for (char c : term) k = k * extent[labels.find(c)] + at[labels.find(c)];
    return k;
  };
  Shape s;
  for (char c : out) s.push_back(extent[labels.find(c)]);
  Tensor y = Tensor::zeros(s, f64);
  at.assign(labels.size(), 0);
  for (;;) {
    double p = 1;
    for (size_t i = 0; i < terms.size(); ++i) p *= in[i].item(flat(terms[i]));
    y.data<double>()[flat(out)] += p;
    size_t d = 0;
    while (d < at.size() && ++at[d] == extent[d]) at[d++] = 0;
    if (d == at.size()) return y;
  }
}

TEST(Einsum, EqualsItsDefinition) {
  struct {
    const char* equation;
    std::vector<Shape> in;
  } cases[] = {{"ij,jk->ik", {{2, 3}, {3, 4}}},
               {"bhqd,bhkd->bhqk", {{2, 3, 4, 5}, {2, 3, 6, 5}}},
               {"ij->ji", {{2, 3}}},
               {"ij->", {{2, 3}}},
               {"ii->i", {{4, 4}}},
               {"iij->j", {{3, 3, 2}}},
               {"iii->", {{3, 3, 3}}},
               {"i,j->ij", {{2}, {3}}},
               {"i,i->", {{4}, {4}}},
               {"ab,ab->ab", {{2, 3}, {2, 3}}},
               {"ab,cb->ca", {{2, 3}, {4, 3}}},
               {"abc,cd,db->ad", {{2, 3, 4}, {4, 5}, {5, 3}}},
               {"ij,kl->", {{2, 3}, {4, 2}}},
               {"abij,aj->bi", {{2, 3, 4, 5}, {2, 5}}}};
  Now g;
  uint64_t seed = 1;
  for (auto& c : cases) {
    std::vector<Var> in;
    std::vector<Tensor> values;
    for (const Shape& s : c.in) {
      in.push_back(g.in(s, seed++));
      values.push_back(in.back().value());
    }
    Tensor want = by_loops(c.equation, values), got = einsum(c.equation, in).value();
    ASSERT_EQ(got.shape(), want.shape()) << c.equation;
    EXPECT_LT(max_abs_diff(got, want), 1e-13) << c.equation;
  }
}

TEST(Einsum, ImplicitOutputAndEllipsis) {
  Now g;
  Var a = g.in({2, 3, 4}, 1), b = g.in({2, 4, 5}, 2), m = g.in({4, 5}, 3);
  Tensor want = matmul(a, b).value();
  EXPECT_LT(max_abs_diff(einsum("bij,bjk", {a, b}).value(), sum(matmul(a, b), {0}).value()),
            1e-12);  // b occurs twice: summed
  EXPECT_EQ(einsum("bij,bjk", {a, b}).shape(), (Shape{3, 5}));
  EXPECT_LT(max_abs_diff(einsum("...ij,...jk->...ik", {a, b}).value(), want), 1e-13);
  EXPECT_LT(max_abs_diff(einsum("...ij, jk -> ...ik", {a, m}).value(), matmul(a, m).value()), 1e-13);
  EXPECT_LT(max_abs_diff(einsum("...ij,...jk", {a, reshape(m, {1, 4, 5})}).value(), matmul(a, m).value()), 1e-13);
  EXPECT_LT(max_abs_diff(einsum("ba", {g.in({2, 3}, 9)}).value(), transpose(g.in({2, 3}, 9)).value()), 1e-15);
}

TEST(Einsum, GradientAndRelevanceFlowThrough) {
  Now g;
  lrp::Rule exact;
  exact.eps = 0;
  Var a = g.in({2, 3, 4}, 1), b = g.in({2, 4, 5}, 2), y = einsum("bij,bjk->bik", {a, b}), z = matmul(a, b),
      seed = g.constant(randn(z.shape(), 3));
  EXPECT_LT(max_abs_diff(grad(y, a, seed).value(), grad(z, a, seed).value()), 1e-13);
  lrp::RuleSet rules("exact", exact);
  Tensor ry = relevance(y, b, rules, seed).value(), rz = relevance(z, b, rules, seed).value();
  EXPECT_LT(max_abs_diff(ry, rz), 1e-10 * std::max(1.0, largest(rz)));
}

TEST(Einsum, ErrorsNameTheLabel) {
  Graph g;
  Var a = g.input("a", {2, 3}), b = g.input("b", {4, 5});
  EXPECT_THAT(thrown([&] { einsum("ij,jk->ik", {a, b}); }), HasSubstr("'j' has extents 3 and 4"));
  EXPECT_THAT(thrown([&] { einsum("ijk->i", {a}); }), HasSubstr("name 3 axes"));
  EXPECT_THAT(thrown([&] { einsum("ij->ik", {a}); }), HasSubstr("'k' of the output is on no operand"));
  EXPECT_THAT(thrown([&] { einsum("ij->ii", {a}); }), HasSubstr("'i' occurs twice in the output"));
  EXPECT_THAT(thrown([&] { einsum("ij,jk", {a}); }), HasSubstr("subscripts for 2 operands, got 1"));
  EXPECT_THAT(thrown([&] { einsum("i j ; k", {a}); }), HasSubstr("unexpected ';'"));
}

}  // namespace
