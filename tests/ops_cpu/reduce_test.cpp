// Reductions and softmax against long double loops over (outer, n, inner), and for any number of threads.
#include "whence/ops/cpu/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

using Wide = long double;
struct Shape {
  int64_t outer, n, inner;
};
const Shape kShapes[] = {{1, 1, 1},      {3, 5, 1},      {2, 16, 1},  {5, 33, 1},    {1, 1025, 1},
                         {7, 2000, 1},   {1, 300001, 1}, {0, 4, 1},   {3, 0, 1},     {3, 4, 0},
                         {1, 4, 3},      {2, 7, 17},     {3, 65, 16}, {1, 33, 70},   {2, 3, 300},
                         {1, 1000, 257}, {40, 9, 5},     {3, 0, 4},   {300, 165, 1}, {30, 165, 40}};

template <class T> std::vector<T> randoms(int64_t n, double lo = -3, double hi = 3) {
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<double> u(lo, hi);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(u(rng));
  return v;
}

template <class T> class Reduce : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Reduce, Types);

template <class T, class Kernel, class Want> void check(Kernel kernel, Want want, double tolerance) {
  for (Shape s : kShapes) {
    auto x = randoms<T>(s.outer * s.n * s.inner);
    std::vector<T> y(static_cast<size_t>(s.outer * s.inner + 1), T(-77));
    kernel(x.data(), y.data(), s);
    ASSERT_EQ(y.back(), T(-77));
    for (int64_t o = 0; o < s.outer; ++o)
      for (int64_t j = 0; j < s.inner; ++j) {
        std::vector<Wide> row;
        for (int64_t r = 0; r < s.n; ++r) row.push_back(x[static_cast<size_t>((o * s.n + r) * s.inner + j)]);
        double w = static_cast<double>(want(row)), got = y[static_cast<size_t>(o * s.inner + j)];
        if (std::isinf(w)) ASSERT_EQ(got, w);
        else
          ASSERT_NEAR(got, w, tolerance * std::numeric_limits<T>::epsilon() * (std::fabs(w) + std::sqrt(double(s.n))))
              << s.outer << "," << s.n << "," << s.inner;
      }
  }
}

TYPED_TEST(Reduce, Sum) {
  using T = TypeParam;
  check<T>([](const T* x, T* y, Shape s) { reduce_sum(x, y, s.outer, s.n, s.inner); },
           [](auto& r) {
             Wide t = 0;
             for (Wide v : r) t += v;
             return t;
           },
           8);
}
TYPED_TEST(Reduce, Mean) {
  using T = TypeParam;
  check<T>([](const T* x, T* y, Shape s) { reduce_sum(x, y, s.outer, s.n, s.inner, s.n ? 1.0 / double(s.n) : 1.0); },
           [](auto& r) {
             Wide t = 0;
             for (Wide v : r) t += v;
             return r.empty() ? 0 : t / r.size();
           },
           4);
}
TYPED_TEST(Reduce, MaxMin) {
  using T = TypeParam;
  check<T>([](const T* x, T* y, Shape s) { reduce_max(x, y, s.outer, s.n, s.inner); },
           [](auto& r) {
             Wide t = -INFINITY;
             for (Wide v : r) t = std::max(t, v);
             return t;
           },
           0);
  check<T>([](const T* x, T* y, Shape s) { reduce_min(x, y, s.outer, s.n, s.inner); },
           [](auto& r) {
             Wide t = INFINITY;
             for (Wide v : r) t = std::min(t, v);
             return t;
           },
           0);
}
TYPED_TEST(Reduce, LogSumExp) {
  using T = TypeParam;
  check<T>([](const T* x, T* y, Shape s) { reduce_logsumexp(x, y, s.outer, s.n, s.inner); },
           [](auto& r) {
             Wide t = 0;
             for (Wide v : r) t += expl(v);
             return logl(t);
           },
           4);
}
TYPED_TEST(Reduce, ArgFindsTheFirstExtremeAndNan) {
  using T = TypeParam;
  for (Shape s : kShapes) {
    auto x = randoms<T>(s.outer * s.n * s.inner);
    for (T& v : x) v = std::round(v);  // many ties
    std::vector<int64_t> hi(static_cast<size_t>(s.outer * s.inner)), lo(hi);
    reduce_argmax(x.data(), hi.data(), s.outer, s.n, s.inner);
    reduce_argmin(x.data(), lo.data(), s.outer, s.n, s.inner);
    for (int64_t o = 0; o < s.outer; ++o)
      for (int64_t j = 0; j < s.inner; ++j) {
        int64_t h = s.n ? 0 : -1, l = h;
        auto at = [&](int64_t r) { return x[static_cast<size_t>((o * s.n + r) * s.inner + j)]; };
        for (int64_t r = 1; r < s.n; ++r) {
          if (at(r) > at(h)) h = r;
          if (at(r) < at(l)) l = r;
        }
        ASSERT_EQ(hi[static_cast<size_t>(o * s.inner + j)], h);
        ASSERT_EQ(lo[static_cast<size_t>(o * s.inner + j)], l);
      }
  }
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (int64_t inner : {1, 3}) {
    std::vector<T> x(static_cast<size_t>(40 * inner), T(1)), y(static_cast<size_t>(inner));
    for (int64_t j = 0; j < inner; ++j)
      x[static_cast<size_t>(21 * inner + j)] = x[static_cast<size_t>(30 * inner + j)] = nan;
    x[0] = std::numeric_limits<T>::infinity();
    std::vector<int64_t> at(static_cast<size_t>(inner));
    reduce_argmax(x.data(), at.data(), 1, 40, inner);
    EXPECT_EQ(at[0], 21);
    reduce_max(x.data(), y.data(), 1, 40, inner);
    EXPECT_TRUE(std::isnan(y[0]));
    reduce_min(x.data(), y.data(), 1, 40, inner);
    EXPECT_TRUE(std::isnan(y[0]));
  }
}

TYPED_TEST(Reduce, SoftmaxFamily) {
  using T = TypeParam;
  for (Shape s : kShapes) {
    size_t size = static_cast<size_t>(s.outer * s.n * s.inner);
    auto x = randoms<T>(s.outer * s.n * s.inner, -20, 20), g = randoms<T>(s.outer * s.n * s.inner);
    std::vector<T> y(size), l(size), dx(size), dl(size);
    softmax(x.data(), y.data(), s.outer, s.n, s.inner);
    log_softmax(x.data(), l.data(), s.outer, s.n, s.inner);
    softmax_vjp(y.data(), g.data(), dx.data(), s.outer, s.n, s.inner);
    log_softmax_vjp(l.data(), g.data(), dl.data(), s.outer, s.n, s.inner);
    const double eps = std::numeric_limits<T>::epsilon();
    for (int64_t o = 0; o < s.outer; ++o)
      for (int64_t j = 0; j < s.inner; ++j) {
        auto k = [&](int64_t r) { return static_cast<size_t>((o * s.n + r) * s.inner + j); };
        Wide total = 0, yg = 0, gs = 0;
        for (int64_t r = 0; r < s.n; ++r) total += expl(x[k(r)]);
        for (int64_t r = 0; r < s.n; ++r) yg += expl(x[k(r)]) / total * g[k(r)], gs += g[k(r)];
        for (int64_t r = 0; r < s.n; ++r) {
          double p = static_cast<double>(expl(x[k(r)]) / total);
          ASSERT_NEAR(y[k(r)], p, 32 * eps * p);
          ASSERT_NEAR(l[k(r)], static_cast<double>(x[k(r)] - logl(total)), 60 * eps);
          ASSERT_NEAR(dx[k(r)], p * static_cast<double>(g[k(r)] - yg), 300 * eps * p + 1e-30);
          ASSERT_NEAR(dl[k(r)], static_cast<double>(g[k(r)] - p * gs), 60 * eps * (3 + p * std::sqrt(double(s.n))));
        }
      }
    std::vector<T> z = x;  // in place
    softmax(z.data(), z.data(), s.outer, s.n, s.inner);
    ASSERT_TRUE(size == 0 || std::memcmp(z.data(), y.data(), size * sizeof(T)) == 0);
    z = g;
    softmax_vjp(y.data(), z.data(), z.data(), s.outer, s.n, s.inner);
    ASSERT_TRUE(size == 0 || std::memcmp(z.data(), dx.data(), size * sizeof(T)) == 0);
  }
}

TYPED_TEST(Reduce, MaskedAndExtremeRows) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity();
  for (int64_t inner : {1, 2}) {
    std::vector<T> x(static_cast<size_t>(20 * inner), -inf), y(x), l(static_cast<size_t>(inner));
    reduce_logsumexp(x.data(), l.data(), 1, 20, inner);
    EXPECT_EQ(l[0], -inf);
    softmax(x.data(), y.data(), 1, 20, inner);
    EXPECT_TRUE(std::isnan(y[0]));
    x[0] = T(5);
    softmax(x.data(), y.data(), 1, 20, inner);
    EXPECT_EQ(y[0], T(1));
    EXPECT_EQ(y[static_cast<size_t>(inner)], T(0));
    std::fill(x.begin(), x.end(), T(80000));
    softmax(x.data(), y.data(), 1, 20, inner);
    EXPECT_NEAR(y[0], 0.05, 1e-7);
  }
}

TYPED_TEST(Reduce, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  for (Shape s : {Shape{1, 1000003, 1}, Shape{1, 5280, 256}, Shape{64, 1000, 7}, Shape{2000, 165, 1}}) {
    auto x = randoms<T>(s.outer * s.n * s.inner);
    std::vector<std::vector<T>> results;
    std::vector<double> squares;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      std::vector<T> y(static_cast<size_t>(s.outer * s.inner));
      reduce_sum(x.data(), y.data(), s.outer, s.n, s.inner);
      results.push_back(y);
      squares.push_back(sum_squares(x.data(), static_cast<int64_t>(x.size())));
    }
    set_num_threads(0);
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    EXPECT_EQ(squares[0], squares[1]);
    Wide want = 0;
    for (T v : x) want += Wide(v) * v;
    EXPECT_NEAR(squares[0] / static_cast<double>(want), 1, sizeof(T) == 4 ? 1e-7 : 1e-14);
  }
}

}  // namespace
}  // namespace whence::cpu
