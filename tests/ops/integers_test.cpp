// Integers and numbers of C++: nothing is promoted, nothing is rounded in silence, and a function whose value is no
// integer in general takes none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "whence/ops/conv.h"
#include "whence/ops/ctc.h"
#include "whence/ops/resize.h"
#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<double> values(Var v) { return v.value().to_vector<double>(); }

TEST(Integers, ANumberTheyCannotHoldIsRefused) {
  struct Case {
    DType dtype;
    double number;
    const char* text;
  };
  const Case cases[] = {{i32, 0.5, "0.5"},   {i32, 3e9, "3000000000"}, {i32, -2147483649.0, "-2147483649"},
                        {i64, 0.25, "0.25"}, {i64, 1e19, "1e+19"},     {i64, 9223372036854775808.0, "9.22"},
                        {u8, 300, "300"},    {u8, -1, "-1"},           {u8, 1.5, "1.5"},
                        {i32, NAN, "nan"},   {i64, kInf, "inf"},       {u8, -kInf, "-inf"},
                        {boolean, 2, "2"},   {boolean, .5, "0.5"}};
  const std::pair<const char*, std::function<Var(Var, double)>> functions[] = {
      {"less", [](Var x, double n) { return less(x, n); }},
      {"greater_equal", [](Var x, double n) { return greater_equal(n, x); }},
      {"equal", [](Var x, double n) { return equal(x, n); }},
      {"not_equal", [](Var x, double n) { return not_equal(n, x); }},
      {"add", [](Var x, double n) { return x + n; }},
      {"sub", [](Var x, double n) { return n - x; }},
      {"mul", [](Var x, double n) { return x * n; }},
      {"maximum", [](Var x, double n) { return maximum(x, n); }},
      {"minimum", [](Var x, double n) { return minimum(n, x); }},
      {"where", [](Var x, double n) { return where(equal(x, x), x, n); }},
      {"masked_fill", [](Var x, double n) { return masked_fill(x, equal(x, x), n); }},
      {"pad",
       [](Var x, double n) {
         return pad(x, {1, 1}, PadMode::constant, n);
       }},
      {"full", [](Var x, double n) { return full(x.graph(), {2}, n, x.dtype()); }},
      {"constant", [](Var x, double n) { return x.graph().constant(n, x.dtype()); }},
  };
  for (const Case& c : cases)
    for (auto& [name, f] : functions) {
      Graph g;
      Var x = g.input("x", {3}, c.dtype);
      std::string e = thrown<DTypeError>([&] { f(x, c.number); });
      EXPECT_THAT(e, HasSubstr(c.text)) << name << " of " << name_of(c.dtype);
      EXPECT_THAT(e, HasSubstr(std::string(name_of(c.dtype)))) << name;
      EXPECT_THAT(e, HasSubstr("cast")) << name;
      EXPECT_THAT(e, HasSubstr("recorded at integers_test.cpp:")) << name;
    }
}

TEST(Integers, ANumberTheyHoldIsTaken) {
  Graph g(Graph::Mode::immediate);
  using D = std::vector<double>;
  Var i = g.input("i", Tensor::from<int32_t>({-3, 2147483647}, {2})),
      l = g.input("l", Tensor::from<int64_t>({1, 5}, {2}));
  Var b = g.input("b", Tensor::from<double>({1, 200}, {2}).to(u8).contiguous_copy());
  EXPECT_EQ(values(less(i, 2147483647.0)), (D{1, 0}));
  EXPECT_EQ(values(less(b, 200.0)), (D{1, 0}));
  EXPECT_EQ(values(l * -2.0 + 1.0), (D{-1, -9}));
  EXPECT_EQ(values(greater(l, -9223372036854775808.0)), (D{1, 1}));
  EXPECT_EQ(values(where(less(l, 3), l, -0.0)), (D{1, 0}));
  EXPECT_EQ(values(full(g, {2}, 255, u8)), (D{255, 255}));
  EXPECT_EQ(values(full(g, {1}, 1, boolean)), (D{1}));
  EXPECT_EQ(values(pad(b, {1, 0}, PadMode::constant, 7)), (D{7, 1, 200}));
  // Floats round a number, as C++ does.
  Var x = g.input("x", Tensor::from<double>({1}, {1}).to(f16).contiguous_copy());
  EXPECT_EQ(values(x + 0.1)[0], double(float(f16_t(1 + float(f16_t(0.1f))))));
  EXPECT_EQ(values(x * 1e6)[0], kInf);
}

TEST(Integers, AreRefusedWhereTheValueIsNone) {
  const std::pair<const char*, std::function<void(Var)>> functions[] = {
      {"mean", [](Var x) { mean(x); }},
      {"mean", [](Var x) { mean(x, {2}); }},
      {"variance", [](Var x) { variance(x); }},
      {"standard_deviation", [](Var x) { standard_deviation(x, {0}); }},
      {"norm2", [](Var x) { norm2(x); }},
      {"l2_normalize", [](Var x) { l2_normalize(x); }},
      {"div", [](Var x) { x / 1.0; }},
      {"div", [](Var x) { x / x; }},
      {"mse_loss", [](Var x) { mse_loss(x, x, Reduction::none); }},
      {"bce_with_logits", [](Var x) { bce_with_logits(x, 1.0); }},
      {"cross_entropy", [](Var x) { cross_entropy(x, cast(x, f32)); }},
      {"cross_entropy",
       [](Var x) {
         cross_entropy(x, x.graph().input("labels", {1, 1}, i64));
       }},
      {"ctc_loss",
       [](Var x) {
         Graph& g = x.graph();
         ctc_loss(x, g.input("t", {1, 1}, i64), g.input("n", {1}, i64), g.input("m", {1}, i64));
       }},
      {"resize", [](Var x) { resize(x, {6}, Resize::linear); }},
      {"resize", [](Var x) { resize(x, {6}, Resize::cubic); }},
      {"avg_pool", [](Var x) { resize(x, {2}, Resize::area); }},
      {"segment_mean", [](Var x) { segment_mean(x, x.graph().input("s", {1}, i64), 0, 2); }},
      {"avg_pool", [](Var x) { avg_pool(x, {.kernel = {2}}); }},
      {"lp_pool", [](Var x) { lp_pool(x, 2, {.kernel = {2}}); }},
      {"atan2", [](Var x) { atan2(x, x); }},
      {"logaddexp", [](Var x) { logaddexp(x, x); }},
      {"softmax", [](Var x) { softmax(x); }},
      {"layer_norm", [](Var x) { layer_norm(x); }},
      {"sqrt", [](Var x) { sqrt(x); }},
      {"pow", [](Var x) { pow(x, 1.0); }},
      {"sign", [](Var x) { sign(x); }},
      {"clamp", [](Var x) { clamp(x, 0, 1); }},
  };
  for (DType t : {i32, i64, u8, boolean})
    for (auto& [name, f] : functions) {
      Graph g;
      Var x = g.input("x", {1, 1, 3}, t);
      std::string e = thrown<DTypeError>([&] { f(x); });
      EXPECT_THAT(e, HasSubstr("[" + std::string(name) + "]")) << name_of(t);
      EXPECT_THAT(e, HasSubstr("must be floating point, got " + std::string(name_of(t)))) << name;
      EXPECT_THAT(e, HasSubstr("recorded at integers_test.cpp:")) << name;
    }
}

TEST(Integers, BytesAndBooleansHaveNoArithmetic) {
  for (DType t : {u8, boolean}) {
    Graph g;
    Var x = g.input("x", {2}, t);
    const std::function<void()> functions[] = {[&] { x + x; },         [&] { x - x; },         [&] { x * x; },
                                               [&] { maximum(x, x); }, [&] { minimum(x, x); }, [&] { -x; },
                                               [&] { abs(x); },        [&] { square(x); },     [&] { sum(x); },
                                               [&] { max(x); },        [&] { argmin(x); },     [&] { cumsum(x, 0); }};
    for (auto& f : functions) EXPECT_THAT(thrown(f), HasSubstr("got " + std::string(name_of(t))));
  }
}

TEST(Integers, HalvesHaveExtremes) {
  for (DType t : {bf16, f16}) {
    Graph g;
    Var x = g.input("x", {2, 3}, t), top = max(x, {1}), low = min(x, {0});
    EXPECT_EQ(top.dtype(), t);
    Var loss = sum(cast(top, f32));
    Results r = evaluate({top, low, argmax(x), argmin(x, 0), grad(loss, x)},
                         {{"x", Tensor::from<double>({1, 5, 3, 9, -2, NAN}, {2, 3}).to(t).contiguous_copy()}});
    EXPECT_EQ(r[0].item(0), 5);
    EXPECT_TRUE(std::isnan(r[0].item(1)));
    EXPECT_EQ(r[1].item(1), -2);
    EXPECT_EQ(r[2].to_vector<double>(), (std::vector<double>{1, 2}));
    EXPECT_EQ(r[3].to_vector<double>(), (std::vector<double>{0, 1, 1}));
    EXPECT_EQ(r[4].to_vector<double>(), (std::vector<double>{0, 1, 0, 0, 0, 1}));
  }
}

TEST(Integers, PositionsThatNoDTypeHolds) {
  // padding_idx and ignore_index beyond the dtype of the ids: nothing is padding, nothing is ignored.
  Graph g(Graph::Mode::immediate);
  Var table = g.input("w", Tensor::full({400, 1}, 1, f64)), ids = g.input("i", Tensor::full({2}, 44, u8));
  EXPECT_EQ(grad(sum(embedding(ids, table, 300)), table).value().item(44), 2);  // 300 is 44 in eight bits
  Var logits = g.input("x", Tensor::full({2, 2}, 0, f64)), labels = g.input("t", Tensor::full({2}, 1, i32));
  Var loss = cross_entropy(logits, labels, {.ignore_index = (int64_t(1) << 32) + 1});
  EXPECT_NEAR(loss.value().item(), std::log(2), 1e-12);
  Graph h;
  EXPECT_THAT(thrown<DTypeError>([&] { arange(h, 300, u8); }), HasSubstr("u8"));
  EXPECT_THAT(thrown<DTypeError>([&] { arange(h, (int64_t(1) << 31) + 1, i32); }), HasSubstr("i32"));
  EXPECT_EQ(arange(h, 256, u8).numel(), 256);
}

TEST(Integers, AScalarOfARunToo) {
  Graph g;
  Var k = g.scalar("k", i64), y = k + 1.0;
  Plan p = compile({y});
  EXPECT_EQ(p.run({}, {.scalars = {{"k", 3}}})[0].item(), 4);
  EXPECT_THAT(thrown<DTypeError>([&] { p.run({}, {.scalars = {{"k", 2.5}}}); }), HasSubstr("'k'"));
  EXPECT_EQ(p.run({}, {.scalars = {{"k", -3}}})[0].item(), -2);
}

TEST(Integers, SumsWrapRound) {
  Graph g;
  const int32_t most = std::numeric_limits<int32_t>::max();
  Var x = g.constant(Tensor::from<int32_t>({most, 1}, {2})), both = g.constant(Tensor::from<int32_t>({0, 0}, {2}));
  Results r = evaluate({sum(x), segment_sum(x, both, 0, 1), scatter_add(x, both, x, 0)});
  EXPECT_EQ(r[0].item(), -double(most) - 1);
  EXPECT_EQ(r[1].item(), -double(most) - 1);
  EXPECT_EQ(r[2].item(0), -1);  // three terms: most, most and 1
}

}  // namespace
