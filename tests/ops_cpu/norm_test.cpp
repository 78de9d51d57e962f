// Norms: forward against long double, backward against central differences of that definition, both frozen and not.
#include "whence/ops/cpu/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

using Wide = long double;

template <class T> std::vector<T> randoms(int64_t n, unsigned seed, double shift = 0) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> g;
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng) + shift);
  return v;
}

struct Stats {
  Wide mean, rstd;
};
template <class T> Stats stats(const T* x, int64_t n, bool with_mean, double eps) {
  Wide m = 0, s = 0;
  for (int64_t i = 0; i < n && with_mean; ++i) m += x[i];
  if (with_mean) m /= n;
  for (int64_t i = 0; i < n; ++i) s += (x[i] - m) * (x[i] - m);
  return {m, 1 / sqrtl(s / n + eps)};
}

template <class T> class Norm : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Norm, Types);

TYPED_TEST(Norm, Forward) {
  using T = TypeParam;
  const double eps = 1e-5, tol = 40 * std::numeric_limits<T>::epsilon();
  for (auto [rows, n] :
       {std::pair<int64_t, int64_t>{3, 5}, {1, 1}, {4, 16}, {7, 33}, {2, 768}, {0, 4}, {3, 0}, {300, 1000}})
    for (bool layer : {false, true})
      for (int affine : {0, 1, 2}) {
        auto x = randoms<T>(rows * n, 1, 0.5), w = randoms<T>(n, 2), b = randoms<T>(n, 3);
        std::vector<T> y(x.size() + 1, T(-77)), mean(size_t(rows) + 1), rstd(size_t(rows) + 1);
        const T *pw = affine ? w.data() : nullptr, *pb = affine == 2 && layer ? b.data() : nullptr;
        if (layer) layer_norm<T>(x.data(), pw, pb, y.data(), mean.data(), rstd.data(), rows, n, eps);
        else rms_norm<T>(x.data(), pw, y.data(), rstd.data(), rows, n, eps);
        EXPECT_EQ(y.back(), T(-77));
        for (int64_t r = 0; r < rows && n > 0; ++r) {
          Stats s = stats(x.data() + r * n, n, layer, eps);
          ASSERT_NEAR(rstd[size_t(r)] / double(s.rstd), 1, tol);
          if (layer) {
            ASSERT_NEAR(mean[size_t(r)], double(s.mean), tol);
          }
          for (int64_t i = 0; i < n; ++i) {
            double want = double((x[size_t(r * n + i)] - s.mean) * s.rstd * (pw ? Wide(w[size_t(i)]) : 1) +
                                 (pb ? Wide(b[size_t(i)]) : 0));
            ASSERT_NEAR(y[size_t(r * n + i)], want, tol * (1 + std::fabs(want)) * 10);
          }
        }
      }
}

TYPED_TEST(Norm, LargeMeanKeepsItsDigits) {
  using T = TypeParam;
  std::vector<T> x{T(10000), T(10001), T(10002), T(10003)}, y(4), mean(1), rstd(1);
  layer_norm<T>(x.data(), nullptr, nullptr, y.data(), mean.data(), rstd.data(), 1, 4, 0);
  EXPECT_NEAR(y[0], -1.5 / std::sqrt(1.25), 1e-5);
}

// f(x, w, b) = sum dy . y with rstd held at its value for x0 when frozen.
TYPED_TEST(Norm, BackwardMatchesDifferences) {
  using T = TypeParam;
  const double eps = 1e-3;
  for (auto [rows, n] : {std::pair<int64_t, int64_t>{3, 5}, {2, 33}, {40, 4}, {1, 1}})
    for (bool layer : {false, true})
      for (bool frozen : {false, true})
        for (bool affine : {false, true}) {
          auto x = randoms<T>(rows * n, 1), w = randoms<T>(n, 2), dy = randoms<T>(rows * n, 4);
          std::vector<T> y(x.size()), mean(static_cast<size_t>(rows)), rstd(mean), dx(x.size()),
              dw(static_cast<size_t>(n)), db(dw);
          const T* pw = affine ? w.data() : nullptr;
          if (layer) {
            layer_norm<T>(x.data(), pw, nullptr, y.data(), mean.data(), rstd.data(), rows, n, eps);
            layer_norm_backward<T>(x.data(), mean.data(), rstd.data(), pw, dy.data(), dx.data(), dw.data(), db.data(),
                                   rows, n, frozen);
          } else {
            rms_norm<T>(x.data(), pw, y.data(), rstd.data(), rows, n, eps);
            rms_norm_backward<T>(x.data(), rstd.data(), pw, dy.data(), dx.data(), dw.data(), rows, n, frozen);
          }
          auto f = [&](std::vector<Wide> at, std::vector<Wide> weight) {
            Wide total = 0;
            for (int64_t r = 0; r < rows; ++r) {
              Stats s = stats(at.data() + r * n, n, layer, eps), s0 = stats(x.data() + r * n, n, layer, eps);
              for (int64_t i = 0; i < n; ++i)
                total += dy[size_t(r * n + i)] * (at[size_t(r * n + i)] - s.mean) * (frozen ? s0.rstd : s.rstd) *
                         weight[size_t(i)];
            }
            return total;
          };
          std::vector<Wide> at(x.begin(), x.end()), weight(size_t(n), 1);
          if (affine) weight.assign(w.begin(), w.end());
          const Wide h = 1e-5L;
          const double tol = sizeof(T) == 4 ? 2e-4 : 1e-7;
          for (size_t i = 0; i < at.size(); ++i) {
            auto lo = at, hi = at;
            lo[i] -= h, hi[i] += h;
            ASSERT_NEAR(dx[i], double((f(hi, weight) - f(lo, weight)) / (2 * h)), tol)
                << layer << frozen << affine << " n=" << n;
          }
          for (int64_t i = 0; i < n; ++i) {
            auto lo = weight, hi = weight;
            lo[size_t(i)] -= h, hi[size_t(i)] += h;
            // rstd depends on x alone, so dw is the same frozen or not
            ASSERT_NEAR(dw[size_t(i)], double((f(at, hi) - f(at, lo)) / (2 * h)), tol * 5);
            Wide sum = 0;
            for (int64_t r = 0; r < rows; ++r) sum += dy[size_t(r * n + i)];
            if (layer) {
              ASSERT_NEAR(db[size_t(i)], double(sum), tol);
            }
          }
          std::vector<T> only(x.size());  // dx alone, written over dy
          only = dy;
          if (layer)
            layer_norm_backward<T>(x.data(), mean.data(), rstd.data(), pw, only.data(), only.data(), nullptr, nullptr,
                                   rows, n, frozen);
          else rms_norm_backward<T>(x.data(), rstd.data(), pw, only.data(), only.data(), nullptr, rows, n, frozen);
          EXPECT_EQ(only, dx);
        }
}

TYPED_TEST(Norm, SameBitsForAnyThreadCountAndNoRows) {
  using T = TypeParam;
  const int64_t rows = 2000, n = 100;
  auto x = randoms<T>(rows * n, 1), dy = randoms<T>(rows * n, 2);
  std::vector<T> mean(size_t(rows), T(0.1)), rstd(size_t(rows), T(1.1)), dx(x.size());
  std::vector<std::vector<T>> all;
  for (int t : {1, 2, 3}) {
    set_num_threads(t);
    std::vector<T> dw(static_cast<size_t>(n)), db(dw);
    layer_norm_backward<T>(x.data(), mean.data(), rstd.data(), nullptr, dy.data(), dx.data(), dw.data(), db.data(),
                           rows, n, false);
    dw.insert(dw.end(), db.begin(), db.end());
    all.push_back(dw);
  }
  set_num_threads(0);
  EXPECT_EQ(all[0], all[1]);
  EXPECT_EQ(all[0], all[2]);
  std::vector<T> dw(3, T(9)), db(3, T(9));
  layer_norm_backward<T>(x.data(), mean.data(), rstd.data(), nullptr, dy.data(), dx.data(), dw.data(), db.data(), 0, 3,
                         false);
  EXPECT_EQ(dw[1], T(0));
  EXPECT_EQ(db[2], T(0));
}

}  // namespace
}  // namespace whence::cpu
