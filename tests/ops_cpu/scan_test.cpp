// Recurrences, cumulative sums and causal convolutions against plain loops in long double; gradients as exact adjoints.
#include "ops/cpu/scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace whence::cpu {
namespace {

using Wide = long double;

template <class T> std::vector<T> randoms(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<double> g(-1, 1);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng));
  return v;
}

struct Shape {
  int64_t outer, n, inner;
};
const Shape kShapes[] = {{1, 1, 1},   {1, 40, 1}, {3, 5, 1}, {16, 16, 1}, {37, 33, 1},   {2, 7, 3},    {2, 9, 16},
                         {3, 20, 37}, {0, 4, 2},  {2, 0, 2}, {2, 3, 0},   {200, 150, 1}, {2, 300, 100}};

template <class T> class Scan : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Scan, Types);

TYPED_TEST(Scan, Linear) {
  using T = TypeParam;
  const double tol = 60 * std::numeric_limits<T>::epsilon();
  for (Shape s : kShapes)
    for (bool reverse : {false, true})
      for (bool start : {false, true}) {
        const int64_t N = s.outer * s.n * s.inner, S = s.outer * s.inner;
        auto a = randoms<T>(N, 1), b = randoms<T>(N, 2), h0 = randoms<T>(S, 3);
        const T* p0 = start ? h0.data() : nullptr;
        std::vector<T> h(size_t(N) + 1, T(-77));
        linear_scan(a.data(), b.data(), p0, h.data(), s.outer, s.n, s.inner, reverse);
        ASSERT_EQ(h.back(), T(-77));
        for (int64_t o = 0; o < s.outer; ++o)
          for (int64_t j = 0; j < s.inner; ++j) {
            auto at = [&](int64_t step) { return size_t((o * s.n + (reverse ? s.n - 1 - step : step)) * s.inner + j); };
            std::vector<Wide> want{start ? Wide(h0[size_t(o * s.inner + j)]) : 0};
            for (int64_t t = 0; t < s.n; ++t) {
              want.push_back(Wide(a[at(t)]) * want.back() + b[at(t)]);
              ASSERT_NEAR(h[at(t)], double(want.back()), tol) << s.outer << "," << s.n << "," << s.inner;
            }
          }
      }
}

TYPED_TEST(Scan, CumulativeSum) {
  using T = TypeParam;
  for (Shape s : kShapes)
    for (bool reverse : {false, true})
      for (bool exclusive : {false, true}) {
        auto x = randoms<T>(s.outer * s.n * s.inner, 1);
        std::vector<T> y(x.size());
        cumsum(x.data(), y.data(), s.outer, s.n, s.inner, reverse, exclusive);
        for (int64_t o = 0; o < s.outer; ++o)
          for (int64_t j = 0; j < s.inner; ++j) {
            Wide sum = 0;
            for (int64_t t = 0; t < s.n; ++t) {
              size_t at = size_t((o * s.n + (reverse ? s.n - 1 - t : t)) * s.inner + j);
              Wide before = sum;
              sum += x[at];
              ASSERT_NEAR(
                  y[at], double(exclusive ? before : sum),
                  4 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(double(sum)) + std::fabs(double(before))));
            }
          }
      }
  std::vector<T> x(100000, T(0.1)), y(x.size());  // the error must not grow along the sequence
  cumsum(x.data(), y.data(), 1, int64_t(x.size()), 1);
  EXPECT_NEAR(y.back() / (1e5 * double(T(0.1))), 1, 2 * std::numeric_limits<T>::epsilon());
  x[5] = std::numeric_limits<T>::infinity();
  cumsum(x.data(), y.data(), 1, 10, 1);
  EXPECT_EQ(y[9], x[5]);
}

TYPED_TEST(Scan, CausalConvolution) {
  using T = TypeParam;
  const double tol = 100 * std::numeric_limits<T>::epsilon();
  struct Case {
    int64_t B, n, C, K;
  };
  for (Case c : {Case{1, 1, 1, 1},
                 {2, 5, 3, 4},
                 {1, 3, 17, 4},
                 {2, 100, 33, 4},
                 {2, 70, 16, 3},
                 {1, 2, 5, 6},
                 {0, 4, 4, 4},
                 {2, 0, 4, 4},
                 {3, 300, 40, 2},
                 {2, 150, 8, 9}})
    for (bool reverse : {false, true}) {
      auto x = randoms<T>(c.B * c.n * c.C, 1), w = randoms<T>(c.C * c.K, 2), bias = randoms<T>(c.C, 3),
           dy = randoms<T>(c.B * c.n * c.C, 4);
      std::vector<T> y(x.size() + 1, T(-77)), dw(w.size() + 1, T(-77)), db(bias.size(), T(-77));
      conv1d(x.data(), w.data(), bias.data(), y.data(), c.B, c.n, c.C, c.K, reverse);
      conv1d_taps(x.data(), dy.data(), dw.data(), db.data(), c.B, c.n, c.C, c.K, reverse);
      ASSERT_EQ(y.back(), T(-77));
      ASSERT_EQ(dw.back(), T(-77));
      std::vector<Wide> want_dw(w.size()), want_db(bias.size());
      for (int64_t b = 0; b < c.B; ++b)
        for (int64_t t = 0; t < c.n; ++t)
          for (int64_t ch = 0; ch < c.C; ++ch) {
            size_t at = size_t((b * c.n + t) * c.C + ch);
            Wide s = bias[size_t(ch)];
            want_db[size_t(ch)] += dy[at];
            for (int64_t k = 0; k < c.K; ++k) {
              int64_t u = t + (reverse ? c.K - 1 - k : k - (c.K - 1));
              if (u < 0 || u >= c.n) continue;
              size_t from = size_t((b * c.n + u) * c.C + ch);
              s += Wide(w[size_t(ch * c.K + k)]) * x[from];
              want_dw[size_t(ch * c.K + k)] += Wide(dy[at]) * x[from];
            }
            ASSERT_NEAR(y[at], double(s), tol);
          }
      for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(dw[i], double(want_dw[i]), tol * 20);
      for (size_t i = 0; i < bias.size(); ++i) ASSERT_NEAR(db[i], double(want_db[i]), tol * 20);
    }
}

}  // namespace
}  // namespace whence::cpu
