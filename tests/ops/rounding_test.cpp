// Functions made of several steps: on halves they round once, and rows whose squares leave the range of f32 (or of a
// half) have their norms all the same.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "whence/lrp/presets.h"
#include "whence/ops/conv.h"
#include "whence/ops/ctc.h"
#include "whence/ops/resize.h"
#include "whence/whence.h"

using namespace whence;

namespace {

Tensor draw(const Shape& s, uint64_t seed, double low, double high, DType t) {
  std::mt19937_64 rng(seed);
  Tensor x = Tensor::empty(s, f64);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = low + (high - low) * double(rng() >> 11) * 0x1p-53;
  return x.to(t).contiguous_copy();
}

TEST(Rounding, HalvesAreRoundedOnce) {
  struct Case {
    const char* name;
    std::function<Var(Var, Var)> f;
    double low = -3, high = 3;
  };
  const Case cases[] = {
      {"atan2", [](Var x, Var y) { return atan2(x, y); }},
      {"logaddexp", [](Var x, Var y) { return logaddexp(x, y); }},
      {"logit", [](Var x, Var) { return logit(x); }, .01, .99},
      {"elu", [](Var x, Var) { return elu(x, 1.3); }},
      {"hardswish", [](Var x, Var) { return hardswish(x); }},
      {"swish", [](Var x, Var) { return swish(x, 1.1); }},
      {"mish", [](Var x, Var) { return mish(x); }},
      {"softsign", [](Var x, Var) { return softsign(x); }},
      {"softshrink", [](Var x, Var) { return softshrink(x, .3); }},
      {"softcap", [](Var x, Var) { return softcap(x, 1.7); }},
      {"softmin", [](Var x, Var) { return softmin(x); }},
      {"glu", [](Var x, Var) { return glu(x); }},
      {"geglu", [](Var x, Var) { return geglu(x); }},
      {"swiglu", [](Var x, Var) { return swiglu(x); }},
      {"l2_normalize", [](Var x, Var) { return l2_normalize(x); }},
      {"layer_norm", [](Var x, Var) { return layer_norm(x); }},
      {"resize",
       [](Var x, Var) {
         return resize(reshape(x, {1, 1, 8, 16}), {5, 23}, Resize::linear);
       }},
      {"resize, cubic",
       [](Var x, Var) {
         return resize(reshape(x, {1, 1, 8, 16}), {11, 9}, Resize::cubic);
       }},
      {"grid_sample",
       [](Var x, Var y) {
         return grid_sample(reshape(x, {1, 1, 8, 16}), reshape(y, {1, 8, 8, 2}));
       },
       -1, 1},
      {"lp_pool",
       [](Var x, Var) {
         return lp_pool(reshape(x, {1, 1, 128}), 3, {.kernel = {4}});
       }},
      {"avg_pool",
       [](Var x, Var) {
         return avg_pool(reshape(x, {1, 1, 128}), {.kernel = {5}, .divisor = 7});
       }},
      {"segment_mean", [](Var x, Var) { return segment_mean(x, x.graph().constant(Tensor::full({8}, 1, i64)), 0, 3); }},
      {"einsum",
       [](Var x, Var y) {
         return einsum("ab,cb,cd->ad", {x, y, x});
       }},
      {"einsum of two",
       [](Var x, Var y) {
         return einsum("ab,cb->a", {x, y});
       }},
  };
  for (DType t : {bf16, f16})
    for (const Case& c : cases) {
      Tensor x = draw({8, 16}, 1, c.low, c.high, t), y = draw({8, 16}, 2, c.low, c.high, t);
      auto run = [&](DType as) {
        Graph g;
        Var a = g.input("x", {8, 16}, as), b = g.input("y", {8, 16}, as), v = c.f(a, b);
        EXPECT_EQ(v.dtype(), as) << c.name;
        return evaluate({v}, {{"x", x.to(as).contiguous_copy()}, {"y", y.to(as).contiguous_copy()}})[0];
      };
      Tensor got = run(t), want = run(f64);
      double largest = 0;  // sums that cancel are off by roundings of their terms in f32
      for (int64_t i = 0; i < want.numel(); ++i) largest = std::max(largest, std::fabs(want.item(i)));
      for (int64_t i = 0; i < want.numel(); ++i) {
        double w = want.item(i), place = std::ldexp(1, std::max(std::ilogb(w), -14) - (t == f16 ? 10 : 7));
        EXPECT_LE(std::fabs(got.item(i) - w), .505 * place + 1e-6 * largest)
            << c.name << " in " << name_of(t) << ", element " << i << ": " << got.item(i) << " for " << w;
      }
    }
}

TEST(Rounding, SumsOfHalvesDoNotOverflowOnTheWay) {
  Graph g;
  Var x = g.input("x", {1000}, f16), y = g.input("y", {1000}, f16), index = g.constant(Tensor::full({1000}, 0, i64));
  Var pool = avg_pool(reshape(x, {1, 1, 1000}), {.kernel = {1000}, .divisor = 1000});
  Results r = evaluate(
      {mean(x), mse_loss(x, y), variance(x), norm2(x), standard_deviation(x), segment_mean(x, index, 0, 1), pool},
      {{"x", Tensor::full({1000}, 300, f16)}, {"y", Tensor::full({1000}, 10, f16)}});
  const double want[] = {300, 290 * 290, 0, 300 * std::sqrt(1000), 0, 300, 300};
  for (size_t k = 0; k < 7; ++k) EXPECT_NEAR(r[k].item(), want[k], 1e-3 * want[k]) << k;
}

// ---- huge and tiny rows -------------------------------------------------------------------------------------------

using Values = std::vector<double>;

void expect_rows(const char* name, const std::function<Var(Var)>& f, const Values& row, const Values& want,
                 const Values& gradient = {}, DType t = f32) {
  for (bool immediate : {false, true}) {
    Tensor x = Tensor::from(row, {1, int64_t(row.size())}).to(t).contiguous_copy();
    Graph g(immediate ? Graph::Mode::immediate : Graph::Mode::record);
    Var v = g.input("x", x), y = f(v), first = select(reshape(y, {-1}), 0, 0), d = grad(cast(first, f64), v);
    Tensor a, b;
    if (immediate) {
      a = y.value();
      b = d.value();
    } else {
      Results r = evaluate({y, d}, {{"x", x}});
      a = r[0];
      b = r[1];
    }
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(a.item(int64_t(i)) / want[i], 1, t == f32 ? 1e-5 : t == f64 ? 1e-12 : 1e-2) << name << ", " << i;
    for (size_t i = 0; i < gradient.size(); ++i)
      EXPECT_NEAR(b.item(int64_t(i)), gradient[i], 1e-5 * std::fabs(gradient[i]) + 1e-35) << name << ", gradient " << i;
  }
}

TEST(Rounding, NormsOfHugeRows) {
  expect_rows("layer_norm", [](Var x) { return layer_norm(x); }, {2e30, -2e30, 2e30, -2e30}, {1, -1, 1, -1},
              {.25e-30, 0, -.25e-30, 0});
  expect_rows("layer_norm with a mean", [](Var x) { return layer_norm(x); }, {5e30, 1e30}, {1, -1});
  expect_rows("rms_norm", [](Var x) { return rms_norm(x); }, {3e30, -3e30}, {1, -1});
  expect_rows("norm2", [](Var x) { return norm2(x, {1}); }, {-6e30, 8e30}, {1e31}, {-.6, .8});
  expect_rows("l2_normalize", [](Var x) { return l2_normalize(x); }, {6e30, 8e30}, {.6, .8}, {.064e-30, -.048e-30});
  expect_rows("standard_deviation", [](Var x) { return standard_deviation(x, {1}, false, 0); }, {1e30, 3e30}, {1e30},
              {-.5, .5});
  expect_rows("lp_pool",
              [](Var x) {
                return lp_pool(reshape(x, {1, 1, 2}), 2, {.kernel = {2}});
              },
              {6e30, 8e30}, {1e31});
  expect_rows(
      "halves", [](Var x) { return norm2(x, {1}); }, {6e4, 2.5e4}, {65000}, {}, f16);
  expect_rows(
      "halves", [](Var x) { return layer_norm(x); }, {6e38 / 2, -6e38 / 2}, {1, -1}, {}, bf16);
  expect_rows(
      "halves", [](Var x) { return rms_norm(x); }, {6e4, -6e4}, {1, -1}, {}, f16);
  // Of f64 the largest magnitude is taken out.
  expect_rows(
      "layer_norm of f64", [](Var x) { return layer_norm(x); }, {2e200, -2e200}, {1, -1}, {}, f64);
}

TEST(Rounding, NormsOfTinyRows) {
  expect_rows("layer_norm", [](Var x) { return layer_norm(x, {}, {}, 0); }, {3e-30, 1e-30}, {1, -1});
  expect_rows("rms_norm", [](Var x) { return rms_norm(x, {}, 0); }, {3e-30, -3e-30}, {1, -1});
  expect_rows("norm2", [](Var x) { return norm2(x, {1}); }, {3e-30, -4e-30}, {5e-30}, {.6, -.8});
  expect_rows("l2_normalize", [](Var x) { return l2_normalize(x, -1, 0); }, {3e-30, -4e-30}, {.6, -.8});
  expect_rows("standard_deviation", [](Var x) { return standard_deviation(x, {1}, false, 0); }, {1e-30, 3e-30},
              {1e-30});
}

TEST(Rounding, BodiesOfNormsToo) {
  // Relevance through the written-out definition.
  Graph g;
  Var x = g.input("x", {1, 2}, f32), y = layer_norm(x), z = rms_norm(x);
  RelevanceOptions written{.inline_fused = true};
  Results r = evaluate({relevance(y, x, lrp::RuleSet(), {}, written), relevance(z, x, lrp::RuleSet(), {}, written)},
                       {{"x", Tensor::from(Values{1e30, -1e30}, {1, 2}).to(f32).contiguous_copy()}});
  for (const Tensor& t : r)
    for (double v : t.to_vector<double>()) EXPECT_TRUE(std::isfinite(v)) << v;
  EXPECT_NEAR(r[1].item(0), 1, 1e-4);
}

TEST(Rounding, AVarianceIsNeverNegative) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from(Values{2, 4, 9}, {3}));
  EXPECT_EQ(variance(x, {}, false, 3).value().item(), INFINITY);
  EXPECT_EQ(variance(x, {}, false, 7).value().item(), INFINITY);
  EXPECT_EQ(standard_deviation(x, {}, false, 4).value().item(), INFINITY);
  EXPECT_NEAR(variance(x, {}, false, 2).value().item(), 26, 1e-12);
}

}  // namespace
