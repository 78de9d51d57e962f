// Halves: which results are f32, what reaches a weight, and what a recording's policy casts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "whence/ops/conv.h"
#include "whence/whence.h"

using namespace whence;

namespace {

Tensor randn(const Shape& s, uint64_t seed, DType t = f32) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> n;
  Tensor x = Tensor::empty(s, f64);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = n(rng);
  return x.to(t).contiguous_copy();
}
// Multiples of 1/8 below 4: exact in bf16.
Tensor coarse(const Shape& s, uint64_t seed) {
  Tensor x = randn(s, seed, f64);
  for (int64_t i = 0; i < x.numel(); ++i) {
    double& v = x.data<double>()[i];
    v = std::clamp(std::round(v * 8) / 8, -3.5, 3.5);
  }
  return x.to(f32).contiguous_copy();
}
Tensor rounded(const Tensor& x) { return x.to(bf16).to(f64).contiguous_copy(); }

// max |got - want| / max |want|
double error(const Tensor& got, const Tensor& want) {
  double worst = 0, scale = 1e-300;
  for (int64_t i = 0; i < want.numel(); ++i) {
    worst = std::max(worst, std::fabs(got.item(i) - want.item(i)));
    scale = std::max(scale, std::fabs(want.item(i)));
  }
  return worst / scale;
}

size_t count(const Graph& g, std::string_view op) {
  size_t n = 0;
  for (size_t i = 0; i < g.node_count(); ++i) n += g.node(NodeId(i)).op->name == op;
  return n;
}

TEST(Halves, StatisticsAndLossesAreF32) {
  Graph g;
  Var x = g.input("x", {2, 3, 4, 8}, bf16), w = g.input("w", {8}, f32);
  auto result = [&](Var v, uint32_t k) { return g.type(v.id() + k).dtype; };
  for (DType t : {bf16, f16}) {
    Var h = cast(x, t);
    EXPECT_EQ(h.dtype(), t);
    for (Var n : {layer_norm(h), layer_norm(h, w, w), layer_norm(h, cast(w, t))}) {
      EXPECT_EQ(n.dtype(), t);
      EXPECT_EQ(result(n, 1), f32);
      EXPECT_EQ(result(n, 2), f32);
    }
    EXPECT_EQ(result(rms_norm(h, w), 1), f32);
    EXPECT_EQ(softmax(h).dtype(), t);
    EXPECT_EQ(log_softmax(h).dtype(), t);
    for (Var s : {logsumexp(h, {1}), sum(h), mean(h, {0}), variance(h, {-1})}) EXPECT_EQ(s.dtype(), f32);
    Var o = g.record(op_named("attention"), std::vector<Var>{h, h, h}, {{"causal", false}, {"scale", 1.0}});
    EXPECT_EQ(o.dtype(), t);
    EXPECT_EQ(result(o, 1), f32);
    Var logits = reshape(h, {24, 8}), labels = g.input("y", {24}, i64), soft = g.input("p", {24, 8}, f32);
    for (Reduction r : {Reduction::mean, Reduction::none}) {
      Var loss = cross_entropy(logits, labels, {.reduction = r});
      EXPECT_EQ(loss.dtype(), f32);
      EXPECT_EQ(result(loss, 1), f32);
      EXPECT_EQ(cross_entropy(logits, soft, {.reduction = r}).dtype(), f32);
      EXPECT_EQ(bce_with_logits(logits, soft, r).dtype(), f32);
      EXPECT_EQ(mse_loss(logits, 0.5, r).dtype(), f32);
    }
    EXPECT_EQ(matmul(logits, transpose(logits)).dtype(), t);
    EXPECT_EQ(matmul(logits, transpose(logits), f32).dtype(), f32);
    EXPECT_EQ(linear(logits, logits, {}, f32).dtype(), f32);
    EXPECT_EQ(einsum("ab,cb->a", {logits, logits}).dtype(), t);
  }
  EXPECT_THROW(matmul(x, transpose(x), f64), DTypeError);
  EXPECT_THROW(layer_norm(cast(x, f64), w), DTypeError);
}

// A sum of many in a half would stop; a loss rounded to a half would be wrong in the third digit.
TEST(Halves, LossesAreAsAccurateAsF32) {
  Tensor x = randn({64, 100}, 1, bf16);
  std::vector<int64_t> y(64);
  for (size_t i = 0; i < y.size(); ++i) y[i] = int64_t(i * 7 % 100);
  auto losses = [&](Tensor in) {
    Graph g(Graph::Mode::immediate);
    Var v = g.constant(in), t = g.constant(Tensor::from(y));
    std::vector<Tensor> out;
    for (Var l : {cross_entropy(v, t, {.label_smoothing = 0.1}), mse_loss(v, 0.3), bce_with_logits(v, 0.3), mean(v),
                  logsumexp(v)})
      out.push_back(l.value());
    return out;
  };
  std::vector<Tensor> got = losses(x), want = losses(x.to(f64));
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LT(error(got[i], want[i]), 2e-6) << i;
}

// Through a cast, an f32 parameter gets the gradient of its rounded self, never rounded to a half on the way.
TEST(Halves, WeightGradientsAreNotRounded) {
  Tensor x = coarse({3, 40, 16}, 1), w = randn({8, 16}, 2), b = randn({8}, 3), u = coarse({3, 40, 8}, 4),
         m = randn({16, 8}, 5), n = randn({8}, 6), rows = randn({40, 8}, 7), z = coarse({3, 40, 8}, 8);
  Tensor ids = Tensor::empty({3, 40}, i64);
  for (int64_t i = 0; i < 120; ++i) ids.data<int64_t>()[i] = i % 7;
  auto gradients = [&](DType t) {
    Graph g(Graph::Mode::immediate);
    auto half = [&](Var v) { return t == f32 ? cast(v, bf16) : v; };
    auto leaf = [&](const Tensor& v) { return g.input("v" + std::to_string(g.node_count()), v); };
    auto param = [&](const Tensor& v) { return leaf(t == f32 ? v : rounded(v)); };
    Var a = param(w), c = param(b), d = param(m);
    Var seen = g.constant(t == f32 ? x.to(bf16) : rounded(x));
    Var weight = g.constant(t == f32 ? u : u.to(f64));
    auto loss = [&](Var y) { return sum(widened(y) * weight); };
    std::vector<Tensor> out;
    for (Var v : grad(loss(linear(seen, half(a), half(c))), std::vector<Var>{a, c})) out.push_back(v.value());
    out.push_back(grad(loss(matmul(seen, half(d))), d).value());
    Var scale = param(n), shift = param(b), at = g.constant(t == f32 ? z.to(bf16) : rounded(z)), table = param(rows);
    for (Var v : grad(loss(layer_norm(at, half(scale), half(shift))), std::vector<Var>{scale, shift}))
      out.push_back(v.value());
    out.push_back(grad(loss(embedding(g.constant(ids), half(table))), table).value());
    return out;
  };
  std::vector<Tensor> got = gradients(f32), want = gradients(f64);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].dtype(), f32);
    EXPECT_LT(error(got[i], want[i]), 1e-6) << i;
  }
}

// Two hundred contributions of one, each below half a unit of the sum in bf16.
TEST(Halves, ContributionsAddInF32) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::full({4}, 1, bf16)), y = x;
  for (int i = 0; i < 600; ++i) y = y + x * 0.0 + x;
  Var d = grad(sum(y), x);
  EXPECT_EQ(d.dtype(), f32);
  EXPECT_EQ(d.value().item(0), 601);
}

TEST(Policy, CastsByClassOfOp) {
  Graph g({.precision = mixed(bf16)});
  Var x = g.input("x", {5, 8}), w = g.parameter("w", randn({8, 8}, 1)), b = g.parameter("b", randn({8}, 2));
  Var y = linear(x, w, b);
  EXPECT_EQ(y.dtype(), bf16);
  EXPECT_EQ(count(g, "cast"), 3u);
  EXPECT_EQ(gelu(y).dtype(), bf16);    // follows
  EXPECT_EQ((y + x).dtype(), f32);     // promotes
  EXPECT_EQ((y * 2.0).dtype(), bf16);  // a number is no operand
  EXPECT_EQ(concat({y, x}, 0).dtype(), f32);
  EXPECT_EQ(layer_norm(y, b, b).dtype(), bf16);  // takes what comes
  EXPECT_EQ(layer_norm(x, b, b).dtype(), f32);
  EXPECT_EQ(matmul(y, transpose(x)).dtype(), bf16);
  EXPECT_EQ(matmul(y, transpose(x), f32).dtype(), f32);
  EXPECT_EQ(conv(g.input("i", {1, 3, 6, 6}), g.parameter("k", randn({4, 3, 3, 3}, 3))).dtype(), bf16);
  Var s = g.input("s", {2, 2}, f64);
  EXPECT_EQ(matmul(s, s).dtype(), f64);  // f64 stays out of it
  EXPECT_EQ(cross_entropy(y, g.input("t", {5}, i64)).dtype(), f32);
  EXPECT_EQ(grad(mean(y), w).dtype(), f32);
}

TEST(Policy, WithoutOneNothingIsCast) {
  Graph plain, same({.precision = {}});
  for (Graph* g : {&plain, &same}) {
    Var x = g->input("x", {5, 8}), w = g->parameter("w", randn({8, 8}, 1));
    grad(sum(linear(x, w) * x), w);
    EXPECT_EQ(count(*g, "cast"), 0u);
    EXPECT_THROW(linear(cast(x, bf16), w), DTypeError);
  }
  EXPECT_EQ(plain.node_count(), same.node_count());
}

// Equal casts of one parameter are one step of the plan.
TEST(Policy, CastsOfAParameterMerge) {
  Graph g({.precision = mixed(bf16)});
  Var x = g.input("x", {4, 16}), w = g.parameter("w", randn({16, 16}, 1));
  Var y = linear(linear(linear(x, w), w), w);
  size_t casts = count(g, "cast");
  EXPECT_EQ(casts, 4u);
  EXPECT_EQ(compile({y}).stats().merged, 2u);
}

}  // namespace
