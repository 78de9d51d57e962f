// Matrix products against a triple loop in double: every transposition, odd sizes, leading dimensions, beta, batches,
// epilogues.
#include "whence/ops/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

template <class T> std::vector<T> randoms(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> g;
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng));
  return v;
}

template <class T> struct Product {
  bool ta, tb;
  int64_t m, n, k, lda, ldb, ldc;
  std::vector<T> a, b, c0;
  Product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, int64_t slack = 0)
      : ta(ta),
        tb(tb),
        m(m),
        n(n),
        k(k),
        lda((ta ? m : k) + slack),
        ldb((tb ? k : n) + slack),
        ldc(n + slack),
        a(randoms<T>((ta ? k : m) * lda + 1, 1)),
        b(randoms<T>((tb ? n : k) * ldb + 1, 2)),
        c0(randoms<T>(m * ldc + 1, 3)) {}
  double exact(int64_t i, int64_t j) const {
    double s = 0;
    for (int64_t p = 0; p < k; ++p)
      s += double(a[size_t(ta ? p * lda + i : i * lda + p)]) * double(b[size_t(tb ? j * ldb + p : p * ldb + j)]);
    return s;
  }
  double tolerance() const { return 8 * std::numeric_limits<T>::epsilon() * std::sqrt(double(k) + 1) * 3; }
};

template <class T> class Gemm : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Types);

TYPED_TEST(Gemm, MatchesTripleLoop) {
  using T = TypeParam;
  struct Size {
    int64_t m, n, k;
  } sizes[] = {{1, 1, 1},   {2, 3, 4},    {0, 3, 4},      {3, 0, 4},    {3, 4, 0},      {1, 32, 784},  {1, 10, 33},
               {7, 9, 17},  {12, 40, 50}, {13, 31, 15},   {14, 32, 64}, {15, 33, 65},   {64, 64, 64},  {29, 100, 7},
               {5, 1, 300}, {300, 1, 5},  {97, 130, 401}, {3, 900, 20}, {50, 1000, 30}, {130, 70, 800}};
  for (auto s : sizes)
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (int64_t slack : {0, 5}) {
          Product<T> p(ta, tb, s.m, s.n, s.k, slack);
          struct {
            T alpha, beta;
          } scale[] = {{1, 0}, {T(0.5), 1}, {2, T(-0.25)}};
          for (auto f : scale) {
            auto c = p.c0;
            if (f.beta == T(0)) std::fill(c.begin(), c.end(), std::numeric_limits<T>::quiet_NaN());  // must not be read
            auto before = c;
            gemm<T>(ta, tb, s.m, s.n, s.k, f.alpha, p.a.data(), p.lda, p.b.data(), p.ldb, f.beta, c.data(), p.ldc);
            for (int64_t i = 0; i < s.m; ++i)
              for (int64_t j = 0; j < p.ldc; ++j) {
                size_t at = size_t(i * p.ldc + j);
                if (j >= s.n) {
                  ASSERT_TRUE(c[at] == before[at] || before[at] != before[at]) << "wrote between rows";
                  continue;
                }
                double want =
                    double(f.alpha) * p.exact(i, j) + (f.beta == T(0) ? 0 : double(f.beta) * double(p.c0[at]));
                ASSERT_NEAR(c[at], want, p.tolerance() * (1 + std::fabs(want)))
                    << s.m << "," << s.n << "," << s.k << " ta" << ta << " tb" << tb << " at " << i << "," << j;
              }
            ASSERT_TRUE(c.back() == before.back() || before.back() != before.back());
          }
        }
}

TYPED_TEST(Gemm, NoOverrunOfInputs) {  // operands end at the end of their allocation; sanitizers see an overrun
  using T = TypeParam;
  for (int64_t k : {1, 15, 17, 100})
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        int64_t m = 37, n = 41;
        std::vector<T> a(size_t(m * k), T(1)), b(size_t(n * k), T(1)), c(size_t(m * n));
        gemm<T>(ta, tb, m, n, k, 1, a.data(), ta ? m : k, b.data(), tb ? k : n, 0, c.data(), n);
        for (T v : c) ASSERT_EQ(v, T(k));
      }
}

TYPED_TEST(Gemm, LinearWithEpilogueTouchesEveryElementOnce) {
  using T = TypeParam;
  for (int64_t m : {1, 5, 13, 150})
    for (int64_t out : {1, 10, 33, 1600}) {
      const int64_t in = 40;
      Product<T> p(false, true, m, out, in);
      auto bias = randoms<T>(out, 4);
      std::vector<T> y(size_t(m * out)), plain(y);
      struct Context {
        T* y;
        int64_t ld;
      } context{y.data(), out};
      linear<T>(m, out, in, p.a.data(), p.b.data(), bias.data(), plain.data());
      linear<T>(
          m, out, in, p.a.data(), p.b.data(), bias.data(), y.data(),
          [](void* v, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
            auto c = static_cast<Context*>(v);
            for (int64_t i = i0; i < i1; ++i)
              for (int64_t j = j0; j < j1; ++j) c->y[i * c->ld + j] = c->y[i * c->ld + j] * 2 + 1;
          },
          &context);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < out; ++j) {
          size_t at = size_t(i * out + j);
          ASSERT_NEAR(plain[at], p.exact(i, j) + bias[size_t(j)], p.tolerance() * 4);
          ASSERT_EQ(y[at], plain[at] * 2 + 1);
        }
    }
}

TYPED_TEST(Gemm, Batched) {
  using T = TypeParam;
  for (int64_t batch : {0, 1, 3, 20})
    for (bool shared : {false, true}) {
      const int64_t m = 9, n = 20, k = 11;
      auto a = randoms<T>(batch * m * k + m * k, 1), b = randoms<T>(batch * k * n + k * n, 2);
      std::vector<T> c(size_t(batch * m * n));
      std::vector<int64_t> at;
      for (int64_t i = 0; i < batch; ++i) at.push_back((batch - 1 - i) * m * n);
      gemm_batched<T>(batch, false, false, m, n, k, 1, a.data(), k, {m * k}, b.data(), n, {shared ? 0 : k * n}, 0,
                      c.data(), n, {0, at.data()});
      for (int64_t i = 0; i < batch; ++i) {
        std::vector<T> want(size_t(m * n));
        gemm<T>(false, false, m, n, k, 1, a.data() + i * m * k, k, b.data() + (shared ? 0 : i * k * n), n, 0,
                want.data(), n);
        for (int64_t e = 0; e < m * n; ++e) ASSERT_EQ(want[size_t(e)], c[size_t(at[size_t(i)] + e)]);
      }
    }
}

TYPED_TEST(Gemm, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  for (bool ta : {false, true}) {
    Product<T> p(ta, !ta, 150, 333, 500);
    std::vector<std::vector<T>> results;
    for (int threads : {1, 2, 4}) {
      set_num_threads(threads);
      std::vector<T> c(size_t(p.m * p.ldc));
      gemm<T>(ta, !ta, p.m, p.n, p.k, 1, p.a.data(), p.lda, p.b.data(), p.ldb, 0, c.data(), p.ldc);
      results.push_back(c);
    }
    set_num_threads(0);
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  }
}

}  // namespace
}  // namespace whence::cpu
