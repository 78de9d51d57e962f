// What the registry's samples cannot say about data movement, indexing, scans, random numbers and composites: run-time
// errors, dtypes, ties and NaN, determinism, and values next to formulas.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

using Doubles = std::vector<double>;
using Indices = std::vector<int64_t>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Now : Graph {
  Now() : Graph(Mode::immediate) {}
  Var in(Doubles v, Shape s) { return input("in" + std::to_string(node_count()), Tensor::from(v, s)); }
  Var ids(Indices v, Shape s) { return input("in" + std::to_string(node_count()), Tensor::from(v, s)); }
};
Doubles values(Var v) { return v.value().to_vector<double>(); }
Indices integers(Var v) { return v.value().to_vector<int64_t>(); }

// The gradient of sum(c y) by central differences.
template <class F> void expect_gradient(F f, Doubles at, Shape shape) {
  Now g;
  Var x = g.in(at, shape), y = f(x);
  Doubles c;
  std::mt19937_64 rng(3);
  for (int64_t i = 0; i < y.numel(); ++i) c.push_back(std::uniform_real_distribution<double>(-1, 1)(rng));
  Doubles got = values(grad(sum(y * g.constant(Tensor::from(c, y.shape()))), x));
  for (size_t i = 0; i < at.size(); ++i) {
    double side[2], h = 1e-6;
    for (int s : {0, 1}) {
      Now q;
      Doubles moved = at;
      moved[i] += s ? h : -h;
      Doubles out = values(f(q.in(moved, shape)));
      side[s] = 0;
      for (size_t k = 0; k < out.size(); ++k) side[s] += c[k] * out[k];
    }
    EXPECT_NEAR(got[i], (side[1] - side[0]) / (2 * h), 1e-7) << "element " << i;
  }
}

// ---- movement -----------------------------------------------------------------------------------------------------

TEST(Movement, EveryDtypeMoves) {
  for (DType t : {f32, f64, bf16, f16, i32, i64, u8, boolean}) {
    Now g;
    Var x = g.constant(Tensor::from(Doubles{1, 0, 1, 1}, {2, 2}).to(t));
    EXPECT_EQ(values(cast(pad(x, {0, 1, 1, 0}, PadMode::constant, 1), f64)), (Doubles{1, 1, 0, 1, 1, 1, 1, 1, 1}))
        << name_of(t);
    EXPECT_EQ(values(cast(flip(x, {1}), f64)), (Doubles{0, 1, 1, 1})) << name_of(t);
    EXPECT_EQ(values(cast(repeat(x, {1, 2}), f64)), (Doubles{1, 0, 1, 0, 1, 1, 1, 1})) << name_of(t);
    EXPECT_EQ(values(cast(gather(x, g.ids({1}, {1})), f64)), (Doubles{1, 1})) << name_of(t);
  }
}

TEST(Movement, PadModesShowTheirNeighbours) {
  Now g;
  Var x = g.in({1, 2, 3}, {3});
  EXPECT_EQ(values(pad(x, {2, 1}, PadMode::reflect)), (Doubles{3, 2, 1, 2, 3, 2}));
  EXPECT_EQ(values(pad(x, {2, 1}, PadMode::replicate)), (Doubles{1, 1, 1, 2, 3, 3}));
  EXPECT_EQ(values(pad(x, {2, 1}, PadMode::circular)), (Doubles{2, 3, 1, 2, 3, 1}));
  EXPECT_EQ(values(pad(x, {-1, 2}, PadMode::constant, 7)), (Doubles{2, 3, 7, 7}));
}

TEST(Movement, NegativePadsCropInEveryMode) {
  Now g;
  Var x = g.in({1, 2, 3, 4}, {4});
  EXPECT_EQ(values(pad(x, {-2, 3}, PadMode::reflect)), (Doubles{3, 4, 3, 2, 1}));
  EXPECT_EQ(values(pad(x, {-4, 2}, PadMode::replicate)), (Doubles{4, 4}));  // nothing is left to repeat but the edge
  EXPECT_EQ(values(pad(x, {3, -3}, PadMode::replicate)), (Doubles{1, 1, 1, 1}));
  EXPECT_EQ(values(pad(x, {-1, 2}, PadMode::circular)), (Doubles{2, 3, 4, 2, 3}));  // what is left goes round
  Var edge = g.in({1, 2, 3, 4}, {4});
  EXPECT_EQ(values(grad(sum(pad(edge, {-3, 2}, PadMode::replicate)), edge)), (Doubles{0, 0, 0, 3}));
  EXPECT_THAT(thrown([&] { pad(x, {-3, -2}, PadMode::reflect); }), HasSubstr("cannot take pads -3 and -2"));
  EXPECT_THAT(thrown([&] { pad(x, {-2, 3}, PadMode::circular); }), HasSubstr("wrapping shows at most extent"));
}

TEST(Movement, NothingOfAnAxisThatIsNotThereIsRefused) {
  Now g;
  Var x = g.in({1, 2}, {2});
  EXPECT_THAT(thrown([&] { slice(x, 1, 0, 0); }), HasSubstr("axis 1 is outside x of rank 1"));
  EXPECT_THAT(thrown([&] { slice(x, -2, 0); }), HasSubstr("axis -2 is outside x of rank 1"));
}

TEST(Movement, RepeatPrependsAxes) {
  Now g;
  Var y = repeat(g.in({1, 2}, {2}), {2, 1, 2});
  EXPECT_EQ(y.shape(), (Shape{2, 1, 4}));
  EXPECT_EQ(values(y), (Doubles{1, 2, 1, 2, 1, 2, 1, 2}));
  EXPECT_EQ(values(repeat(g.in({1, 2}, {2, 1}), {3})), (Doubles{1, 1, 1, 2, 2, 2}));
}

// ---- indexing -----------------------------------------------------------------------------------------------------

TEST(Indexing, PositionsOutsideAreNamed) {
  Now g;
  Var x = g.in({1, 2, 3, 4, 5, 6}, {3, 2});
  EXPECT_THAT(thrown([&] {
                gather(x, g.ids({0, 3, -1}, {3}));
              }),
              HasSubstr("[gather] index 3 at position 1 is outside [-3, 3)"));
  EXPECT_THAT(thrown([&] {
                gather(x, g.ids({0, -4}, {2}));
              }),
              HasSubstr("[gather] index -4 at position 1 is outside [-3, 3)"));
  EXPECT_THAT(thrown([&] { pick(x, g.ids({0, -1, 0}, {3})); }), HasSubstr("index -1 at position 1 is outside [0, 2)"));
  EXPECT_THAT(thrown([&] { embedding(g.ids({-1}, {1}), x); }), HasSubstr("ids -1"));
  EXPECT_THAT(thrown([&] { segment_sum(x, g.ids({0, -1, 1}, {3}), 0, 2); }), HasSubstr("index -1"));
  EXPECT_THAT(thrown([&] { embedding(g.ids({5}, {1}), x); }),
              HasSubstr("[embedding] ids 5 at position 0 is outside [0, 3)"));
  EXPECT_THAT(thrown([&] { take_along_axis(x, g.ids({2, 0}, {1, 2}), 1); }), HasSubstr("[take_along_axis] index 2"));
  EXPECT_THAT(thrown([&] {
                scatter_add(x, g.ids({9, 0}, {1, 2}), g.in({1, 1}, {1, 2}), 0);
              }),
              HasSubstr("[scatter_add] index 9"));
  EXPECT_THAT(thrown([&] { segment_sum(x, g.ids({0, 1, 2}, {3}), 0, 2); }), HasSubstr("[segment_sum] index 2"));
  EXPECT_THAT(thrown([&] { one_hot(g.ids({4}, {1}), 4); }), HasSubstr("[one_hot] ids 4"));
}

TEST(Indexing, ReadsCountFromTheEnd) {
  Now g;
  Var x = g.in({1, 2, 3, 4, 5, 6}, {3, 2}), rows = gather(x, g.ids({-1, 0, -3, -1}, {4}));
  EXPECT_EQ(values(rows), (Doubles{5, 6, 1, 2, 1, 2, 5, 6}));
  EXPECT_EQ(values(grad(sum(rows), x)), (Doubles{2, 2, 0, 0, 2, 2}));
  Var lanes = take_along_axis(x, g.ids({-1, -2, -1, 1, 0, -2}, {3, 2}), 1);
  EXPECT_EQ(values(lanes), (Doubles{2, 1, 4, 4, 5, 5}));
  EXPECT_EQ(values(grad(sum(lanes), x)), (Doubles{1, 1, 0, 2, 2, 0}));
  EXPECT_EQ(values(relevance(rows, x, lrp::RuleSet())), (Doubles{2, 4, 0, 0, 10, 12}));
}

// As many lanes as there may be, all of them without elements: done at once.
TEST(Indexing, EmptyLanesAreNotWalked) {
  Graph g;
  const Shape hollow{int64_t(1) << 33, 0, 3};
  Var x = g.input("x", Tensor::zeros(hollow)), index = g.input("at", Tensor::zeros(hollow, i64));
  Var planes = adaptive_max_pool(g.constant(Tensor::zeros({4, int64_t(1) << 33, 0})), {0});
  EXPECT_EQ(evaluate({planes}, {})[0].numel(), 0);
  Results r = evaluate({take_along_axis(x, index, 1), scatter_add(x, index, x, 1), sort(x, 1).values, cumsum(x, 1)},
                       {{"x", Tensor::zeros(hollow)}, {"at", Tensor::zeros(hollow, i64)}});
  for (size_t k = 0; k < 4; ++k) EXPECT_EQ(r[k].shape(), hollow);
}

TEST(Indexing, PickTakesOnePerRow) {
  Now g;
  Var x = g.in({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(values(pick(x, g.ids({2, 0}, {2}))), (Doubles{3, 4}));
  EXPECT_EQ(values(grad(sum(pick(x, g.ids({2, 0}, {2}))), x)), (Doubles{0, 0, 1, 1, 0, 0}));
  EXPECT_THAT(thrown([&] { pick(x, g.ids({2}, {1, 1})); }), HasSubstr("[pick] x [2, 3] needs an index of rank 1"));
}

TEST(Indexing, TokensReceiveTheRelevanceOfTheirRows) {
  Now g;
  Tensor table = Tensor::from(Doubles{1, 2, 3, 4, 5, 6}, {3, 2});
  Var ids = g.ids({2, 0, 2}, {3}), weight = g.parameter("weight", table);
  Var r = relevance(embedding(ids, weight), ids, lrp::RuleSet());
  EXPECT_EQ(values(r), (Doubles{11, 3, 11}));  // the seed is the value itself: 5 + 6, 1 + 2
  EXPECT_TRUE(is_float(r.dtype()));
}

TEST(Indexing, PaddingRowHasNoGradient) {
  Now g;
  Var weight = g.parameter("weight", Tensor::from(Doubles{1, 2, 3, 4, 5, 6}, {3, 2}));
  EXPECT_EQ(values(grad(sum(embedding(g.ids({2, 0, 2}, {3}), weight)), weight)), (Doubles{1, 1, 0, 0, 2, 2}));
  EXPECT_EQ(values(grad(sum(embedding(g.ids({2, 0, 2}, {3}), weight, 2)), weight)), (Doubles{1, 1, 0, 0, 0, 0}));
}

TEST(Indexing, SumsOfManyAreEqualForAnyNumberOfThreads) {
  std::mt19937_64 rng(1);
  Tensor rows = Tensor::empty({5000, 9}, f32), at = Tensor::empty({5000}, i32);
  for (int64_t i = 0; i < rows.numel(); ++i) rows.data<float>()[i] = float(rng() % 1000) / 7;
  for (int64_t i = 0; i < at.numel(); ++i) at.data<int32_t>()[i] = int32_t(rng() % 17);
  std::vector<float> want(17 * 9);
  for (int64_t i = 0; i < 5000; ++i)
    for (int64_t c = 0; c < 9; ++c) want[size_t(at.data<int32_t>()[i] * 9 + c)] += rows.data<float>()[i * 9 + c];
  Now g;
  EXPECT_EQ(segment_sum(g.constant(rows), g.constant(at), 0, 17).value().to_vector<float>(), want);
  Var base = broadcast_to(g.constant(0.0, f32), {17, 9}),
      index = broadcast_to(reshape(g.constant(at), {5000, 1}), {5000, 9});
  EXPECT_EQ(scatter_add(base, index, g.constant(rows), 0).value().to_vector<float>(), want);
}

TEST(Indexing, HalvesAreSummedInFloat) {
  Now g;
  Tensor ones = Tensor::full({3000, 1}, 1, bf16);  // bf16 itself stops counting at 256
  EXPECT_EQ(values(cast(segment_sum(g.constant(ones), g.constant(Tensor::zeros({3000}, i64)), 0, 1), f64)),
            (Doubles{3008}));
}

TEST(Order, TiesAndNan) {
  Now g;
  Var x = g.in({2, 5, kNan, 5, 1}, {5});
  EXPECT_EQ(integers(argsort(x)), (Indices{4, 0, 1, 3, 2}));
  EXPECT_EQ(integers(argsort(x, 0, true)), (Indices{2, 1, 3, 0, 4}));
  EXPECT_EQ(integers(topk(x, 3).indices), (Indices{2, 1, 3}));
  EXPECT_EQ(integers(bottomk(x, 3).indices), (Indices{4, 0, 1}));
  EXPECT_EQ(values(sort(g.in({3, 1, 2}, {3})).values), (Doubles{1, 2, 3}));
  EXPECT_EQ(values(cummax(g.in({1, 3, 2, 3, 4}, {5}), 0).values), (Doubles{1, 3, 3, 3, 4}));
  EXPECT_EQ(integers(cummax(g.in({1, 3, 2, 3, 4}, {5}), 0).indices), (Indices{0, 1, 1, 1, 4}));
}

// ---- scans --------------------------------------------------------------------------------------------------------

TEST(Scan, LinearScanTakesRelevanceThroughItsInputOnly) {
  Now g;
  Var a = g.in({0.5, 0.5, 0.5}, {3}), b = g.in({1, 2, 3}, {3});
  Var h = linear_scan(a, b, 0);
  EXPECT_EQ(values(h), (Doubles{1, 2.5, 4.25}));
  lrp::Rule exact;
  exact.eps = 0;
  Var last = slice(h, 0, 2);
  auto r = relevance(last, std::vector<Var>{a, b}, lrp::RuleSet("exact", exact));
  EXPECT_EQ(values(r[0]), (Doubles{0, 0, 0}));
  EXPECT_EQ(values(r[1]), (Doubles{0.25, 1, 3}));  // a a b_0, a b_1, b_2
}

TEST(Scan, IntegersAddUp) {
  Now g;
  EXPECT_EQ(integers(cumsum(g.ids({1, 2, 3, 4}, {2, 2}), 0)), (Indices{1, 2, 4, 6}));
  EXPECT_EQ(integers(cumsum(g.ids({1, 2, 3}, {3}), 0, true)), (Indices{6, 5, 3}));
}

TEST(Scan, LogcumsumexpHoldsFarApart) {
  Now g;
  Doubles y = values(logcumsumexp(g.in({-2000, 0, 2000, 1999}, {4}), 0));
  EXPECT_EQ(y[0], -2000);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 2000);
  EXPECT_NEAR(y[3], 2000 + std::log1p(std::exp(-1.0)), 1e-12);
  expect_gradient([](Var x) { return logcumsumexp(x, 1); }, {0.3, -1.2, 2.0, 0.7, 0.1, -0.4}, {2, 3});
  expect_gradient([](Var x) { return logcumsumexp(x, 0, true); }, {0.3, -1.2, 2.0, 0.7, 0.1, -0.4}, {3, 2});
}

TEST(Scan, LogcumsumexpOfNothingIsMinusInfinityWithoutGradient) {
  for (DType t : {f32, f64}) {
    Now g;
    Var x = g.input("x", Tensor::from<double>({-INFINITY, -INFINITY, 1, -INFINITY, 1}).to(t)), y = logcumsumexp(x, 0);
    Doubles v = values(y);
    EXPECT_EQ(v[0], -INFINITY);
    EXPECT_EQ(v[1], -INFINITY);
    EXPECT_EQ(v[2], 1);
    EXPECT_EQ(v[3], 1);
    EXPECT_NEAR(v[4], 1 + std::log(2.0), 1e-6);
    Doubles d = values(grad(sum(y), x)), want{0, 0, 2.5, 0, 0.5};
    for (size_t i = 0; i < d.size(); ++i) EXPECT_NEAR(d[i], want[i], want[i] * 1e-6) << i;
    EXPECT_EQ(values(logcumsumexp(g.input("y", Tensor::from<double>({0, INFINITY, 3}).to(t)), 0)),
              (Doubles{0, INFINITY, INFINITY}));
  }
}

TEST(Scan, ProductsWithZerosHaveTheirGradient) {
  expect_gradient([](Var x) { return cumprod(x, 0); }, {2, 0, 3, 0, -1}, {5});
  expect_gradient([](Var x) { return cumprod(x, 0, true); }, {2, 0, 3, -1}, {4});
  expect_gradient([](Var x) { return prod(x, 1); }, {2, 0, 3, -1, 4, 0.5}, {2, 3});
}

// ---- random -------------------------------------------------------------------------------------------------------

TEST(Random, KeyAndSeedDecide) {
  Graph g;
  Var a = normal(g, {100}, 1), b = normal(g, {100}, 1), c = normal(g, {100}, 2);
  Plan plan = compile({a, b, c});
  Results one = plan.run({}, {.seed = 1}), again = plan.run({}, {.seed = 1}), two = plan.run({}, {.seed = 2});
  EXPECT_TRUE(bitwise_equal(one[a], one[b]));
  EXPECT_TRUE(bitwise_equal(one[a], again[a]));
  EXPECT_FALSE(bitwise_equal(one[a], one[c]));
  EXPECT_FALSE(bitwise_equal(one[a], two[a]));
}

TEST(Random, Moments) {
  Now g;
  auto moments = [](Var v) {
    Doubles x = values(v);
    double m = 0, s = 0;
    for (double e : x) m += e / double(x.size());
    for (double e : x) s += (e - m) * (e - m) / double(x.size());
    return std::pair(m, std::sqrt(s));
  };
  for (DType t : {f32, f64}) {
    auto [m, s] = moments(uniform(g, {100001}, 3, -1, 3, t));
    EXPECT_NEAR(m, 1, 0.02);
    EXPECT_NEAR(s, 4 / std::sqrt(12.0), 0.02);
    std::tie(m, s) = moments(normal(g, {100001}, 4, 2, 0.5, t));
    EXPECT_NEAR(m, 2, 0.01);
    EXPECT_NEAR(s, 0.5, 0.01);
    EXPECT_NEAR(moments(bernoulli(g, {100001}, 5, 0.3, t)).first, 0.3, 0.01);
  }
  EXPECT_TRUE(
      bitwise_equal(bernoulli(g, {999}, 5, 0.3, f32).value().to(f64), bernoulli(g, {999}, 5, 0.3, f64).value()));
  for (double v : values(uniform(g, {10000}, 9, 2, 3))) EXPECT_TRUE(v >= 2 && v < 3);
  Indices p = integers(permutation(g, 1001, 7));
  EXPECT_EQ(std::set<int64_t>(p.begin(), p.end()).size(), 1001u);
  EXPECT_NE(p[0] * p[1] * p[2], 0 * 1 * 2);
}

TEST(Random, DropoutUsesOneMaskForwardAndBack) {
  Now g;
  Var x = g.input("x", Tensor::full({40000}, 2, f32));
  Var y = dropout(x, 0.25, 11);
  EXPECT_EQ(values(grad(sum(y), x) * 2.0), values(y));
  double mean = 0;
  for (double v : values(y)) mean += v / 40000;
  EXPECT_NEAR(mean, 2, 0.05);
  EXPECT_TRUE(dropout(x, 0, 11).same(x));
  EXPECT_EQ(values(relevance(y, x, lrp::RuleSet())), values(y));  // all of it to x
}

// ---- composites ---------------------------------------------------------------------------------------------------

TEST(Composite, AtanOfTwoInEveryQuadrant) {
  Now g;
  Doubles ys{1, 1, -1, -1, 0, 0, 2, -2, 0.1, -3}, xs{1, -1, -1, 1, 1, -1, 0, 0, -5, 0.2}, want;
  for (size_t i = 0; i < ys.size(); ++i) want.push_back(std::atan2(ys[i], xs[i]));
  Doubles got = values(atan2(g.in(ys, {10}), g.in(xs, {10})));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-15) << ys[i] << ", " << xs[i];
  expect_gradient([&](Var v) { return atan2(slice(v, 0, 0, 8), slice(v, 0, 8)); },
                  {1, 1, -1, -1, 0, 2, -2, 0.1, 1, -2, -0.5, 3, 1, 0, 0, -5}, {16});
}

TEST(Composite, TheOriginHasNoAngleToTurn) {
  Now g;
  Var y = g.in({0, -0.0, 3}, {3}), x = g.in({0, 0, 4}, {3}), angle = atan2(y, x);
  EXPECT_EQ(values(grad(sum(angle), y)), (Doubles{0, 0, 4.0 / 25}));
  EXPECT_EQ(values(grad(sum(angle), x)), (Doubles{0, 0, -3.0 / 25}));
}

TEST(Composite, ActivationsPassAllRelevance) {
  Var (*const functions[])(Arg) = {hardswish, quick_gelu, mish, softsign, relu6, hardsigmoid, atan};
  for (auto f : functions) {
    Now g;
    Var x = g.in({-2, -0.5, 0.4, 1.7}, {4}), seed = g.in({1, 2, 3, 4}, {4});
    EXPECT_EQ(values(relevance(f(x), x, lrp::RuleSet(), seed)), (Doubles{1, 2, 3, 4}));
  }
}

TEST(Composite, Relu6IsFlatFromItsBoundsOn) {
  Now g;
  Var x = g.in({-1, 0, 3, 6, 7, kNan}, {6});
  EXPECT_EQ(values(grad(sum(relu6(x)), x)), (Doubles{0, 0, 1, 0, 0, 1}));
}

TEST(Composite, WindowsAndTheirAdjoint) {
  Window w{{3, 2}, {2, 1}, {1, 1}, {1, 2}};
  Doubles v;
  for (int i = 0; i < 2 * 7 * 6; ++i) v.push_back(std::sin(i * 1.7));
  Now g;
  Var x = g.in(v, {1, 2, 7, 6}), columns = im2col(x, w);
  Var u = cos(columns * 3.0);
  // <im2col x, u> = <x, col2im u>
  EXPECT_NEAR(values(sum(columns * u))[0], values(sum(x * col2im(u, 7, 6, w)))[0], 1e-12);
  EXPECT_EQ(values(unfold(g.in({1, 2, 3, 4, 5}, {5}), 0, 3, 2)), (Doubles{1, 2, 3, 3, 4, 5}));
  EXPECT_THAT(thrown([&] { unfold(g.in({1, 2}, {2}), 0, 3); }), HasSubstr("a window spans 3 elements, the axis has 2"));
  Var image = g.in(v, {2, 1, 7, 6});
  EXPECT_EQ(values(pixel_shuffle(pixel_unshuffle(pad(image, {0, 0, 0, 0, 0, 1, 0, 0}), 2), 2)),
            values(pad(image, {0, 0, 0, 0, 0, 1, 0, 0})));
}

TEST(Composite, DiagonalsAndTriangles) {
  Now g;
  Var x = g.in({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(values(diagonal(x)), (Doubles{1, 5}));
  EXPECT_EQ(values(diagonal(x, 1)), (Doubles{2, 6}));
  EXPECT_EQ(values(diagonal(x, -1)), (Doubles{4}));
  EXPECT_EQ(values(tril(x)), (Doubles{1, 0, 0, 4, 5, 0}));
  EXPECT_EQ(values(triu(x, 1)), (Doubles{0, 2, 3, 0, 0, 6}));
  EXPECT_EQ(values(put_along_axis(x, g.ids({2, 0}, {2, 1}), g.in({9, 8}, {2, 1}), 1)), (Doubles{1, 2, 9, 8, 5, 6}));
  EXPECT_EQ(values(segment_mean(x, g.ids({1, 1}, {2}), 0, 2)), (Doubles{0, 0, 0, 2.5, 3.5, 4.5}));
}

}  // namespace
