// Tensors and Vars as they are written every day: indexing, comparing, numbers of any type, parameters as operands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "tests/thrown.h"
#include "whence/autograd/plan.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

using testing::HasSubstr;
using Doubles = std::vector<double>;

Doubles values(const Tensor& t) { return t.to_vector<double>(); }
Doubles values(Var v) { return values(v.value()); }

TEST(DailyTensor, Creation) {
  EXPECT_EQ(values(Tensor::arange(4)), (Doubles{0, 1, 2, 3}));
  EXPECT_EQ(values(Tensor::arange(1.0, 2.0, 0.25, f64)), (Doubles{1, 1.25, 1.5, 1.75}));
  EXPECT_EQ(values(Tensor::arange(3.0, 1.0, -1.0)), (Doubles{3, 2}));
  EXPECT_EQ(Tensor::arange(3.0, 1.0).numel(), 0);
  EXPECT_THROW(Tensor::arange(0.0, 1.0, 0.0), ValueError);
  EXPECT_EQ(values(Tensor::eye(2)), (Doubles{1, 0, 0, 1}));
  EXPECT_EQ(values(Tensor::linspace(0, 1, 5, f64)), (Doubles{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(values(Tensor::linspace(3, 4, 1)), (Doubles{3}));
  EXPECT_EQ(values(Tensor::logspace(0, 2, 3)), (Doubles{1, 10, 100}));
  EXPECT_TRUE(bitwise_equal(Tensor::randn({7, 3}, 5), Tensor::randn({7, 3}, 5)));
  EXPECT_FALSE(bitwise_equal(Tensor::randn({7, 3}, 5), Tensor::randn({7, 3}, 6)));
  for (DType t : {f32, f64}) {
    double sum = 0, squares = 0;
    for (double v : values(Tensor::randn({20000}, 1, t))) sum += v, squares += v * v;
    EXPECT_NEAR(sum / 20000, 0, 0.03);
    EXPECT_NEAR(squares / 20000, 1, 0.03);
    for (double v : values(Tensor::rand({20000}, 1, t))) ASSERT_TRUE(v >= 0 && v < 1);
  }
  std::set<double> seen;
  for (double v : values(Tensor::randint(-2, 3, {500}, 4))) seen.insert(v);
  EXPECT_EQ(seen, (std::set<double>{-2, -1, 0, 1, 2}));
  EXPECT_THROW(Tensor::randint(3, 3, {2}), ValueError);
}

TEST(DailyTensor, PartsAndPrinting) {
  Tensor t = Tensor::arange(24, f32).reshaped({2, 3, 4});
  EXPECT_EQ(values(t.at({1, _, Slice(1, -1)})), (Doubles{13, 14, 17, 18, 21, 22}));
  EXPECT_EQ(values(t[-1][2]), (Doubles{20, 21, 22, 23}));
  EXPECT_EQ(t.at({0, 0, 0}).shape(), (Shape{}));
  t.at({0, 1}).fill(-1);  // a window on its memory
  EXPECT_EQ(t.item(4), -1);
  EXPECT_THROW(t.at({2}), ShapeError);
  EXPECT_THROW(t.at({0, 0, 0, 0}), ShapeError);
  std::ostringstream out;
  out << Tensor::arange(3) << " " << Shape{2, 3};
  EXPECT_THAT(out.str(), HasSubstr("[2, 3]"));
}

TEST(DailyVar, PartsComparisonsAndNumbers) {
  Graph g(Graph::Mode::immediate);
  Var x = g.constant(Tensor::arange(6, f32).reshaped({2, 3}));
  EXPECT_EQ(values(x[1]), (Doubles{3, 4, 5}));
  EXPECT_EQ(values(x.at({_, Slice(1, -1)})), (Doubles{1, 4}));
  EXPECT_EQ(values(x.at({-1, 0})), (Doubles{3}));
  EXPECT_THAT(thrown<ShapeError>([&] { x[2]; }), HasSubstr("daily_test.cpp:"));
  EXPECT_THAT(thrown<ShapeError>([&] { x.at({0, 0, 0}); }), HasSubstr("daily_test.cpp:"));
  EXPECT_EQ(values(sum(x, 1)), (Doubles{3, 12}));
  EXPECT_EQ(values(mean(x, -1, true)), (Doubles{1, 4}));
  const size_t three = 3;
  EXPECT_EQ(values(x / x.size(-1)), values(x / three));
  EXPECT_EQ(values(x * three), values(3u * x));
  EXPECT_EQ(values(x * 2.5f), values(x * 2.5));
  EXPECT_EQ(values(x > 2), (Doubles{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(values(x == 2.0), (Doubles{0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(values(3 != x), (Doubles{1, 1, 1, 0, 1, 1}));
  EXPECT_EQ(values(x <= x), Doubles(6, 1));
  Var y = x;
  y += 1;
  y *= x;
  EXPECT_EQ(values(y), (Doubles{0, 2, 6, 12, 20, 30}));
  EXPECT_TRUE(x.same(x));
  EXPECT_FALSE(y.same(x));
  EXPECT_THAT(thrown<ValueError>([&] { x + ((int64_t(1) << 53) + 1); }), HasSubstr("9007199254740993 is not exact"));
}

TEST(DailyVar, AParameterIsAnOperand) {
  Graph g;
  State w("w", Tensor::full({2, 3}, 2)), b("b", Tensor::full({2}, 1));
  Var x = g.input("x", {4, 3});
  Var y = linear(x, w, b) * b;
  EXPECT_EQ(evaluate({y}, {{"x", Tensor::full({4, 3}, 1)}})[0].item(), 7);
  EXPECT_THAT(thrown<ValueError>([&] { relu(w); }), HasSubstr("needs at least one Var"));
  EXPECT_THAT(thrown<ValueError>([&] { sum(w); }), HasSubstr("daily_test.cpp:"));
}

TEST(DailyVar, AScalarInputIsWritten) {
  Graph g;
  EXPECT_EQ(g.input("t", {}).shape(), (Shape{}));
  EXPECT_EQ(g.input("x", {2, 3}).shape(), (Shape{2, 3}));
}

}  // namespace
}  // namespace whence
