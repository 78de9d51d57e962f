// Pools next to loops over every cell of every window: strides, padding, dilation, windows beyond the end, positions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

struct Setting {
  PoolOptions o;
  int64_t H, W;
};
std::vector<Setting> settings() {
  return {{{.kernel = {2}}, 7, 6},
          {{.kernel = {3}, .stride = {2}, .padding = {1}}, 8, 7},
          {{.kernel = {3}, .stride = {2}, .padding = {1}, .count_include_pad = false}, 8, 7},
          {{.kernel = {2, 3}, .stride = {1, 2}, .padding = {1, 0}}, 5, 7},
          {{.kernel = {3}, .stride = {2}, .ceil = true}, 8, 6},
          {{.kernel = {3}, .stride = {2}, .padding = {1}, .ceil = true}, 6, 9},
          {{.kernel = {2}, .stride = {3}, .padding = {1}, .ceil = true},
           7,
           8},  // a last window that would begin in the padding
          {{.kernel = {2}, .stride = {2}, .divisor = 3}, 4, 7}};
}

Tensor waves(Shape s) {
  Tensor t = Tensor::empty(s, f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = std::sin(1.7 * double(i * i % 101));
  return t;
}

int64_t one(const Ints& v, size_t i, int64_t otherwise) { return v.empty() ? otherwise : v[std::min(i, v.size() - 1)]; }

struct Plain {
  std::vector<double> mean, max;
  std::vector<int64_t> at;
  Shape shape;
};
Plain plain(const Tensor& x, const PoolOptions& o) {
  int64_t n[2], k[2], s[2], p[2], d[2], out[2];
  for (size_t i = 0; i < 2; ++i) {
    n[i] = x.shape()[int(i) + 2], k[i] = one(o.kernel, i, 1), s[i] = one(o.stride, i, k[i]),
    p[i] = one(o.padding, i, 0), d[i] = one(o.dilation, i, 1);
    double room = double(n[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1) / double(s[i]);
    out[i] = int64_t(o.ceil ? std::ceil(room) : std::floor(room)) + 1;
    while ((out[i] - 1) * s[i] >= n[i] + p[i]) --out[i];
  }
  Plain r;
  r.shape = {x.shape()[0], x.shape()[1], out[0], out[1]};
  for (int64_t c = 0; c < x.shape()[0] * x.shape()[1]; ++c)
    for (int64_t i = 0; i < out[0]; ++i)
      for (int64_t j = 0; j < out[1]; ++j) {
        double sum = 0, max = -INFINITY;
        int64_t inside = 0, padded = 0, at = -1;
        for (int64_t a = 0; a < k[0]; ++a)
          for (int64_t b = 0; b < k[1]; ++b) {
            int64_t h = i * s[0] - p[0] + a * d[0], w = j * s[1] - p[1] + b * d[1];
            padded += h < n[0] + p[0] && w < n[1] + p[1];
            if (h < 0 || w < 0 || h >= n[0] || w >= n[1]) continue;
            double v = x.item((c * n[0] + h) * n[1] + w);
            sum += v, ++inside;
            if (v > max) max = v, at = h * n[1] + w;
          }
        r.mean.push_back(sum / (o.divisor != 0 ? o.divisor : double(o.count_include_pad ? padded : inside)));
        r.max.push_back(max);
        r.at.push_back(at);
      }
  return r;
}

void expect_near(const Tensor& got, const std::vector<double>& want) {
  ASSERT_EQ(got.numel(), int64_t(want.size()));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got.item(int64_t(i)), want[i], 1e-14) << "element " << i;
}

TEST(Pool, AveragesAreThoseOfTheLoops) {
  for (const Setting& c : settings()) {
    Graph g(Graph::Mode::immediate);
    Tensor x = waves({2, 2, c.H, c.W});
    Var y = avg_pool(g.input("x", x), c.o);
    Plain want = plain(x, c.o);
    EXPECT_EQ(y.shape(), want.shape);
    expect_near(y.value(), want.mean);
  }
}

TEST(Pool, MaximaAndTheirPositionsAreThoseOfTheLoops) {
  auto all = settings();
  all.push_back({{.kernel = {2}, .stride = {2}, .dilation = {2}}, 8, 7});
  all.push_back({{.kernel = {3, 2}, .stride = {1}, .padding = {1}, .dilation = {1, 3}, .ceil = true}, 5, 6});
  for (const Setting& c : all) {
    Graph g(Graph::Mode::immediate);
    Tensor x = waves({2, 2, c.H, c.W});
    Var v = g.input("x", x), y = max_pool(v, c.o), at = max_pool_indices(v, c.o);
    Plain want = plain(x, c.o);
    EXPECT_EQ(y.shape(), want.shape);
    EXPECT_EQ(y.value().to_vector<double>(), want.max);
    EXPECT_EQ(at.value().to_vector<int64_t>(), want.at);
    // Gradient and relevance: one unit to each winner.
    Tensor winners = Tensor::zeros(x.shape(), f64);
    for (size_t i = 0; i < want.at.size(); ++i)
      winners.data<double>()[int64_t(i) / (want.shape[2] * want.shape[3]) * c.H * c.W + want.at[i]] += 1;
    EXPECT_TRUE(bitwise_equal(grad(sum(y), v).value(), winners));
    EXPECT_TRUE(bitwise_equal(relevance(y, v, lrp::RuleSet(), ones_like(y)).value(), winners));
  }
}

TEST(Pool, AdaptiveWindowsOverlapWhereTheyMust) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from<double>({3, 1, 4, 1, 5}, {1, 1, 5}));
  expect_near(adaptive_avg_pool(x, {3}).value(), {2, 2, 3});  // [0, 2), [1, 4), [3, 5)
  EXPECT_EQ(adaptive_max_pool(x, {3}).value().to_vector<double>(), (std::vector<double>{3, 4, 5}));
  EXPECT_EQ(adaptive_max_pool_indices(x, {3}).value().to_vector<int64_t>(), (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(adaptive_max_pool(x, {7}).value().to_vector<double>(), (std::vector<double>{3, 3, 4, 4, 4, 5, 5}));
}

TEST(Pool, UnpoolingPutsTheMaximaBack) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from<double>({1, 7, 2, 3, 4, 9, 8, 5}, {1, 1, 2, 4}));
  PoolOptions o{.kernel = {2}};
  Var back = max_unpool(max_pool(x, o), max_pool_indices(x, o), {2, 4});
  EXPECT_EQ(back.value().to_vector<double>(), (std::vector<double>{0, 0, 0, 0, 0, 9, 8, 0}));
}

TEST(Pool, NormOfEachWindow) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from<double>({3, -4, 1, 2}, {1, 1, 4}));
  expect_near(lp_pool(x, 2, {.kernel = {2}}).value(), {5, std::sqrt(5.0)});
}

TEST(Pool, RefusesWhatHasNoMeaning) {
  Graph g;
  Var x = g.input("x", {1, 1, 4, 4}, f32);
  EXPECT_THAT(thrown([&] { max_pool(x, {}); }), HasSubstr("needs a kernel"));
  EXPECT_THAT(thrown([&] { max_pool(x, {.kernel = {5}}); }), HasSubstr("larger than axis 2"));
  EXPECT_THAT(thrown([&] { max_pool(x, {.kernel = {1}, .padding = {1}}); }), HasSubstr("more than half a window of 1"));
  EXPECT_THAT(thrown([&] { avg_pool(x, {.kernel = {2}, .dilation = {2}}); }), HasSubstr("no dilation"));
  EXPECT_THAT(thrown([&] { avg_pool(x, {.kernel = {2}, .stride = {0}}); }), HasSubstr("must be positive"));
  EXPECT_THAT(thrown([&] { adaptive_max_pool(x, {2}); }), HasSubstr("one extent per axis"));
}

}  // namespace
