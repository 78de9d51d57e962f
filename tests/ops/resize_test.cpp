// Resizing next to numbers worked out by hand, and sampling at points next to resizing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

using Doubles = std::vector<double>;

struct Now : Graph {
  Now() : Graph(Mode::immediate) {}
  Var in(Doubles v, Shape s) { return input("in" + std::to_string(node_count()), Tensor::from(v, s)); }
};
Doubles values(Var v) { return v.value().to_vector<double>(); }
void expect_near(Var got, const Doubles& want, double tolerance = 1e-14) {
  Doubles v = values(got);
  ASSERT_EQ(v.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(v[i], want[i], tolerance) << "element " << i;
}

TEST(Resize, NearestCells) {
  Now g;
  Var x = g.in({1, 2, 3}, {1, 1, 3});
  expect_near(resize(x, {7}), {1, 1, 1, 2, 2, 3, 3});
  expect_near(resize(x, {7}, Resize::nearest_exact), {1, 1, 2, 2, 2, 3, 3});
  expect_near(resize(x, {2}), {1, 2});
  expect_near(resize(x, {2}, Resize::nearest_exact), {1, 3});
  expect_near(resize_by(x, {2}), {1, 1, 2, 2, 3, 3});
}

TEST(Resize, LinesStayLines) {
  Now g;
  Var x = g.in({0, 3, 6, 9}, {1, 1, 4});
  expect_near(resize(x, {7}, Resize::linear, true), {0, 1.5, 3, 4.5, 6, 7.5, 9});
  expect_near(resize(x, {7}, Resize::cubic, true),
              {0, 1.21875, 3, 4.5, 6, 7.78125, 9});  // bent at the ends, where the outermost cells repeat
  expect_near(resize(x, {2}, Resize::linear), {1.5, 7.5});
  expect_near(resize(x, {2}, Resize::area), {1.5, 7.5});
  expect_near(resize(x, {8}, Resize::linear), {0, 0.75, 2.25, 3.75, 5.25, 6.75, 8.25, 9});
  expect_near(resize(x, {1}, Resize::linear, true), {0});
}

TEST(Resize, AFactorSaysHowFarApartCellsLie) {
  Now g;
  Var x = g.in({0, 1, 2, 3, 4}, {1, 1, 5});
  // floor(5 * 1.5) = 7 cells, 2/3 apart, not 5/7
  expect_near(resize_by(x, {1.5}, Resize::linear), {0, 0.5, 7.0 / 6, 11.0 / 6, 2.5, 19.0 / 6, 23.0 / 6});
}

TEST(Resize, WeightsSumToOneOnEveryAxis) {
  for (Resize mode : {Resize::nearest, Resize::nearest_exact, Resize::linear, Resize::cubic, Resize::area})
    for (Ints to : {Ints{3, 9}, Ints{8, 2}}) {
      Now g;
      Var x = g.input("x", Tensor::full({2, 3, 5, 4}, 2, f64)), y = resize(x, to, mode);
      EXPECT_EQ(y.shape(), (Shape{2, 3, to[0], to[1]}));
      expect_near(y, Doubles(size_t(y.numel()), 2));
      expect_near(sum(grad(sum(y), x)), {double(y.numel())}, 1e-11);
    }
}

TEST(GridSample, ReadsWhereTheGridPoints) {
  Now g;
  Var x = g.in({1, 2, 3, 4, 5, 6}, {1, 1, 2, 3});
  // The corners' centres, the middle, a point half outside, one beyond.
  Var grid = g.in({-1, -1, 1, 1, 0, 0, -1.5, -1, 3, 0}, {1, 1, 5, 2});
  expect_near(grid_sample(x, grid, true), {1, 6, 3.5, 0.5, 0});
  Var edges = g.in({-2.0 / 3, -0.5, 0, 0, -1, -0.5}, {1, 1, 3, 2});
  expect_near(grid_sample(x, edges), {1, 3.5, 0.5});
}

TEST(GridSample, OnARegularGridItResizes) {
  Now g;
  Doubles v, points;
  for (int i = 0; i < 2 * 3 * 4 * 5; ++i) v.push_back(std::sin(i * 1.3));
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 7; ++i)
      for (int j = 0; j < 6; ++j) points.insert(points.end(), {j / 5.0 * 2 - 1, i / 6.0 * 2 - 1});
  Var x = g.in(v, {2, 3, 4, 5}), y = grid_sample(x, g.in(points, {2, 7, 6, 2}), true);
  expect_near(y, values(resize(x, {7, 6}, Resize::linear, true)), 1e-13);
}

TEST(GridSample, GradientsReachImageAndGridRelevanceTheImage) {
  Doubles v, points{0.11, -0.3, 0.62, 0.4, -0.95, 0.13, 0.2, 0.97};
  for (int i = 0; i < 12; ++i) v.push_back(std::sin(i * 1.3));
  auto value = [&](const Doubles& image, const Doubles& at) {
    Now g;
    return values(sum(square(grid_sample(g.in(image, {1, 1, 3, 4}), g.in(at, {1, 2, 2, 2})))))[0];
  };
  Now g;
  Var x = g.in(v, {1, 1, 3, 4}), grid = g.in(points, {1, 2, 2, 2}), y = grid_sample(x, grid);
  auto d = grad(sum(square(y)), std::vector<Var>{x, grid});
  for (int part : {0, 1}) {
    Doubles got = values(d[size_t(part)]);
    for (size_t i = 0; i < got.size(); ++i) {
      double side[2];
      for (int s : {0, 1}) {
        Doubles image = v, at = points;
        (part ? at : image)[i] += s ? 1e-6 : -1e-6;
        side[s] = value(image, at);
      }
      EXPECT_NEAR(got[i], (side[1] - side[0]) / 2e-6, 1e-8);
    }
  }
  auto r = relevance(y, std::vector<Var>{x, grid}, lrp::RuleSet());
  EXPECT_NEAR(values(sum(r[0]))[0], values(sum(y))[0], 1e-4);
  EXPECT_EQ(values(r[1]), Doubles(8, 0));
}

TEST(Resize, RefusesWhatHasNoMeaning) {
  Graph g;
  Var x = g.input("x", {1, 2, 4, 4}, f32), grid = g.input("grid", {2, 3, 3, 2}, f32);
  EXPECT_THAT(thrown([&] { resize(x, {3}); }), HasSubstr("one value per axis"));
  EXPECT_THAT(thrown([&] { resize(x, {3, 0}); }), HasSubstr("must be positive"));
  EXPECT_THAT(thrown([&] { resize(x, {3, 3}, Resize::nearest, true); }), HasSubstr("align_corners"));
  EXPECT_THAT(thrown([&] { grid_sample(x, grid); }), HasSubstr("grid must be [1, h, w, 2]"));
}

}  // namespace
