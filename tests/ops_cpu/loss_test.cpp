// Cross entropy against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "whence/ops/cpu/loss.h"

namespace whence::cpu {
namespace {

using Wide = long double;

template <class T> std::vector<T> randoms(int64_t n, unsigned seed, double scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> g;
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng) * scale);
  return v;
}

template <class P> class Loss : public ::testing::Test {};
template <class A, class B> struct Pair {
  using T = A;
  using I = B;
};
using Types =
    ::testing::Types<Pair<float, int32_t>, Pair<float, int64_t>, Pair<double, int32_t>, Pair<double, int64_t>>;
TYPED_TEST_SUITE(Loss, Types);

TYPED_TEST(Loss, CrossEntropy) {
  using T = typename TypeParam::T;
  using I = typename TypeParam::I;
  const double tol = 30 * std::numeric_limits<T>::epsilon();
  for (auto [rows, V] : {std::pair<int64_t, int64_t>{1, 1}, {4, 3}, {5, 17}, {3, 1000}, {0, 5}, {700, 100}})
    for (double s : {0.0, 0.1, 1.0}) {
      auto x = randoms<T>(rows * V, 1, 5);
      std::vector<I> t(static_cast<size_t>(rows));
      for (int64_t r = 0; r < rows; ++r) t[size_t(r)] = r % 4 == 1 ? I(-100) : I((r * 7) % V);
      std::vector<T> loss(size_t(rows) + 1, T(-77)), lse(static_cast<size_t>(rows)), g = randoms<T>(rows, 2),
                                                                                     dx(x.size()), same = x;
      EXPECT_EQ(cross_entropy(x.data(), t.data(), loss.data(), lse.data(), rows, V, -100, s), -1);
      EXPECT_EQ(loss.back(), T(-77));
      cross_entropy_backward(x.data(), lse.data(), t.data(), g.data(), 1, T(0.5), dx.data(), rows, V, -100, s);
      cross_entropy_backward(same.data(), lse.data(), t.data(), g.data(), 1, T(0.5), same.data(), rows, V, -100, s);
      EXPECT_EQ(same, dx);
      for (int64_t r = 0; r < rows; ++r) {
        const T* p = x.data() + r * V;
        Wide sum = 0, total = 0;
        for (int64_t v = 0; v < V; ++v) sum += expl(p[v]), total += p[v];
        Wide l = logl(sum),
             want = t[size_t(r)] < 0 ? 0 : (1 - Wide(s)) * (l - p[t[size_t(r)]]) + Wide(s) * (l - total / V);
        ASSERT_NEAR(lse[size_t(r)], double(l), tol * 20);
        ASSERT_NEAR(loss[size_t(r)], double(want), tol * 20);
        for (int64_t v = 0; v < V; ++v) {
          Wide d = t[size_t(r)] < 0
                       ? 0
                       : 0.5L * g[size_t(r)] * (expl(p[v]) / sum - (v == t[size_t(r)] ? 1 - Wide(s) : 0) - Wide(s) / V);
          ASSERT_NEAR(dx[size_t(r * V + v)], double(d), tol * 10);
        }
      }
    }
  std::vector<T> x(6, T(1)), loss(2), lse(2);
  std::vector<I> t{0, 3};
  EXPECT_EQ(cross_entropy(x.data(), t.data(), loss.data(), lse.data(), 2, 3, -100, 0.0), 1);
  EXPECT_TRUE(std::isnan(loss[1]));
  // a confident row keeps its tiny loss; logits that would overflow do not
  std::vector<T> sure{T(5000), T(5000 - 10), T(4000)};
  t = {0};
  cross_entropy(sure.data(), t.data(), loss.data(), lse.data(), 1, 3, -100, 0.0);
  EXPECT_NEAR(loss[0] / std::log1p(std::exp(-10.0)), 1, sizeof(T) == 4 ? 3e-3 : 1e-10);
}

}  // namespace
}  // namespace whence::cpu
