// The kernels of recurrences, cumulative sums and causal convolutions against plain loops in long double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "whence/autograd/run_op.h"
#include "whence/ops/attrs.h"

namespace whence {
namespace {

using Wide = long double;

template <class T> std::vector<T> randoms(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<double> g(-1, 1);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng));
  return v;
}

/// The op's only result.
template <class T>
std::vector<T> run(const char* op, const std::vector<Tensor>& in, const Shape& out, const Attrs& attrs) {
  const TensorType type{out, dtype_of<T>::value};
  return run_op(op_named(op), in, {&type, 1}, attrs)[0].to_vector<T>();
}

struct Space {
  int64_t outer, n, inner;
  operator Shape() const { return {outer, n, inner}; }
};
const Space kShapes[] = {{1, 1, 1},   {1, 40, 1}, {3, 5, 1}, {16, 16, 1}, {37, 33, 1},   {2, 7, 3},    {2, 9, 16},
                         {3, 20, 37}, {0, 4, 2},  {2, 0, 2}, {2, 3, 0},   {200, 150, 1}, {2, 300, 100}};

template <class T> class Scan : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Scan, Types);

TYPED_TEST(Scan, Linear) {
  using T = TypeParam;
  const double tol = 60 * std::numeric_limits<T>::epsilon();
  for (Space s : kShapes)
    for (bool reverse : {false, true}) {
      const int64_t N = s.outer * s.n * s.inner;
      auto a = randoms<T>(N, 1), b = randoms<T>(N, 2);
      std::vector<T> h =
          run<T>("linear_scan", {Tensor::from(a, s), Tensor::from(b, s)}, s, ScanAttrs{1, reverse}.attrs());
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t j = 0; j < s.inner; ++j) {
          Wide want = 0;
          for (int64_t t = 0; t < s.n; ++t) {
            size_t at = size_t((o * s.n + (reverse ? s.n - 1 - t : t)) * s.inner + j);
            want = Wide(a[at]) * want + b[at];
            ASSERT_NEAR(h[at], double(want), tol) << s.outer << "," << s.n << "," << s.inner;
          }
        }
    }
}

TYPED_TEST(Scan, CumulativeSum) {
  using T = TypeParam;
  auto cumsum = [](const std::vector<T>& x, Shape s, bool reverse) {
    return run<T>("cumsum", {Tensor::from(x, s)}, s, ScanAttrs{1, reverse}.attrs());
  };
  for (Space s : kShapes)
    for (bool reverse : {false, true}) {
      auto x = randoms<T>(s.outer * s.n * s.inner, 1);
      std::vector<T> y = cumsum(x, s, reverse);
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t j = 0; j < s.inner; ++j) {
          Wide sum = 0;
          for (int64_t t = 0; t < s.n; ++t) {
            size_t at = size_t((o * s.n + (reverse ? s.n - 1 - t : t)) * s.inner + j);
            Wide before = sum;
            sum += x[at];
            ASSERT_NEAR(
                y[at], double(sum),
                4 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(double(sum)) + std::fabs(double(before))));
          }
        }
    }
  std::vector<T> x(100000, T(0.1)), y = cumsum(x, {1, 100000}, false);  // the error must not grow along the sequence
  EXPECT_NEAR(y.back() / (1e5 * double(T(0.1))), 1, 2 * std::numeric_limits<T>::epsilon());
  x[5] = std::numeric_limits<T>::infinity();
  EXPECT_EQ(cumsum(x, {1, 100000}, false)[9], x[5]);
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
      const Shape whole{c.B, c.n, c.C}, taps{c.C, c.K};
      const Tensor tx = Tensor::from(x, whole);
      std::vector<T> y = run<T>("causal_conv1d", {tx, Tensor::from(w, taps), Tensor::from(bias, {c.C})}, whole,
                                {{"reverse", reverse}}),
                     dw = run<T>("causal_conv1d_taps", {tx, Tensor::from(dy, whole)}, taps,
                                 {{"taps", c.K}, {"reverse", reverse}});
      std::vector<Wide> want_dw(w.size());
      for (int64_t b = 0; b < c.B; ++b)
        for (int64_t t = 0; t < c.n; ++t)
          for (int64_t ch = 0; ch < c.C; ++ch) {
            size_t at = size_t((b * c.n + t) * c.C + ch);
            Wide s = bias[size_t(ch)];
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
    }
}

}  // namespace
}  // namespace whence
