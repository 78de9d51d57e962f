// Optimiser kernels against scalar formulas in double. What methods make of them: tests/nn/optim_test.cpp.
#include "ops/cpu/optim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace whence::cpu {
namespace {

constexpr Intake kIn{.scale = 0.5, .l2 = 0.1, .keep = 0.98};

template <class T> class Optim : public ::testing::Test {
 public:
  static std::vector<T> randoms(int64_t n, unsigned seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<double> g;
    std::vector<T> v(static_cast<size_t>(n));
    for (T& x : v) x = static_cast<T>(g(rng));
    return v;
  }
  static void near(const std::vector<T>& got, const std::vector<double>& want) {
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 40 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(want[i])));
  }
  /// kernel(p, g, s, n) on arrays beside rule(d, s0, s1, s2), which updates the state and returns the step, on each
  /// element.
  static void check(const std::function<void(T*, const T*, std::array<T*, 3>, int64_t)>& kernel,
                    const std::function<double(double, double*)>& rule) {
    for (int64_t n : {0, 1, 17, 100, 50001}) {
      auto p = randoms(n, 1);
      std::array<std::vector<T>, 3> s{randoms(n, 2), randoms(n, 3),
                                      randoms(n, 4)};  // a small mean, two means of squares
      for (T& x : s[0]) x *= T(0.25);
      for (size_t k : {1, 2})
        for (T& x : s[k]) x = 2 + std::fabs(x);
      std::vector<double> wp(p.begin(), p.end());
      std::array<std::vector<double>, 3> ws;
      for (size_t k = 0; k < 3; ++k) ws[k].assign(s[k].begin(), s[k].end());
      for (unsigned step : {5u, 6u}) {
        auto g = randoms(n, step);
        kernel(p.data(), g.data(), {s[0].data(), s[1].data(), s[2].data()}, n);
        for (size_t i = 0; i < size_t(n); ++i) {
          double v[3] = {ws[0][i], ws[1][i], ws[2][i]};
          wp[i] = kIn.keep * wp[i] - rule(kIn.scale * double(g[i]) + kIn.l2 * wp[i], v);
          for (size_t k = 0; k < 3; ++k) ws[k][i] = v[k];
        }
        near(p, wp);
        for (size_t k = 0; k < 3; ++k) near(s[k], ws[k]);
      }
    }
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Optim, Types);

TYPED_TEST(Optim, Adam) {
  using T = TypeParam;
  for (bool largest : {false, true})
    for (double direct : {0.0, 0.03}) {
      AdamStep a{.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .rate = 0.02, .direct = direct, .root = 1.5};
      this->check([&](T* p, const T* g, std::array<T*, 3> s,
                      int64_t n) { adam_step(p, g, s[0], s[1], largest ? s[2] : nullptr, n, kIn, a); },
                  [&](double d, double* s) {
                    s[0] = 0.9 * s[0] + 0.1 * d;
                    s[1] = 0.99 * s[1] + 0.01 * d * d;
                    if (largest) s[2] = std::max(s[2], s[1]);
                    return (0.02 * s[0] + direct * d) / (1.5 * std::sqrt(largest ? s[2] : s[1]) + 1e-3);
                  });
    }
}

TYPED_TEST(Optim, Adamax) {
  using T = TypeParam;
  AdamaxStep a{.beta1 = 0.9, .beta2 = 0.6, .eps = 1e-3, .rate = 0.02};
  this->check([&](T* p, const T* g, std::array<T*, 3> s, int64_t n) { adamax_step(p, g, s[0], s[1], n, kIn, a); },
              [&](double d, double* s) {
                s[0] = 0.9 * s[0] + 0.1 * d;
                s[1] = std::max(0.6 * s[1], std::fabs(d) + 1e-3);
                return 0.02 * s[0] / s[1];
              });
}

TYPED_TEST(Optim, Rms) {
  using T = TypeParam;
  for (bool centered : {false, true})
    for (bool momentum : {false, true}) {
      RmsStep r{.alpha = 0.9, .gain = 0.2, .eps = 1e-3, .rate = 0.02, .momentum = 0.7};
      this->check(
          [&](T* p, const T* g, std::array<T*, 3> s, int64_t n) {
            rms_step(p, g, s[1], centered ? s[0] : nullptr, momentum ? s[2] : nullptr, n, kIn, r);
          },
          [&](double d, double* s) {
            s[1] = 0.9 * s[1] + 0.2 * d * d;
            if (centered) s[0] = 0.9 * s[0] + 0.2 * d;
            double c = d / (std::sqrt(s[1] - (centered ? s[0] * s[0] : 0)) + 1e-3);
            return 0.02 * (momentum ? s[2] = 0.7 * s[2] + c : c);
          });
    }
}

TYPED_TEST(Optim, Adadelta) {
  using T = TypeParam;
  this->check([&](T* p, const T* g, std::array<T*, 3> s,
                  int64_t n) { adadelta_step(p, g, s[1], s[2], n, kIn, {.rho = 0.9, .eps = 1e-3, .rate = 0.5}); },
              [&](double d, double* s) {
                s[1] = 0.9 * s[1] + 0.1 * d * d;
                double c = d * std::sqrt(s[2] + 1e-3) / std::sqrt(s[1] + 1e-3);
                s[2] = 0.9 * s[2] + 0.1 * c * c;
                return 0.5 * c;
              });
}

TYPED_TEST(Optim, Sgd) {
  using T = TypeParam;
  for (bool momentum : {false, true})
    for (bool nesterov : {false, true})
      for (bool first : {false, true}) {
        SgdStep c{.rate = 0.1, .momentum = 0.9, .dampening = 0.2, .nesterov = nesterov, .first = first};
        this->check([&](T* p, const T* g, std::array<T*, 3> s,
                        int64_t n) { sgd_step(p, g, momentum ? s[0] : nullptr, n, kIn, c); },
                    [&](double d, double* s) {
                      if (!momentum) return 0.1 * d;
                      s[0] = first ? d : 0.9 * s[0] + 0.8 * d;
                      return 0.1 * (nesterov ? d + 0.9 * s[0] : s[0]);
                    });
      }
}

TYPED_TEST(Optim, Lion) {
  using T = TypeParam;
  this->check([&](T* p, const T* g, std::array<T*, 3> s,
                  int64_t n) { lion_step(p, g, s[0], n, kIn, {.rate = 0.1, .beta1 = 0.9, .beta2 = 0.99}); },
              [&](double d, double* s) {
                double u = 0.9 * s[0] + 0.1 * d;
                s[0] = 0.99 * s[0] + 0.01 * d;
                return 0.1 * ((u > 0) - (u < 0));
              });
  T p[2] = {1, 2}, g[2] = {0, 0}, m[2] = {0, 0};
  lion_step<T>(p, g, m, 2, {}, {.rate = 0.1, .beta1 = 0.9, .beta2 = 0.99});
  EXPECT_EQ(p[0], 1);  // the sign of nothing is nothing
}

TYPED_TEST(Optim, Blend) {
  const int64_t n = 37;
  auto y = this->randoms(n, 1), before = y, x = this->randoms(n, 2);
  blend_array(y.data(), 0.75, x.data(), 0.25, n);
  std::vector<double> want;
  for (size_t i = 0; i < size_t(n); ++i) want.push_back(before[i] * 0.75 + 0.25 * double(x[i]));
  this->near(y, want);
}

}  // namespace
}  // namespace whence::cpu
