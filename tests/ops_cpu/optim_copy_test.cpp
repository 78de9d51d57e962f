// Optimiser steps against scalar formulas in double, and strided copies against index arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "ops/cpu/copy.h"
#include "ops/cpu/optim.h"

namespace whence::cpu {
namespace {

template <class T>
std::vector<T> randoms(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> g;
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng));
  return v;
}

template <class T> class Optim : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Optim, Types);

template <class T>
void near(const std::vector<T>& got, const std::vector<double>& want) {
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 20 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(want[i])));
}

TYPED_TEST(Optim, Adam) {
  using T = TypeParam;
  for (int64_t n : {0, 1, 17, 100, 50001})
    for (bool decoupled : {false, true}) {
      auto p = randoms<T>(n, 1), m = randoms<T>(n, 3), v = randoms<T>(n, 4);
      for (T& x : v) x *= x;
      std::vector<double> wp(p.begin(), p.end()), wm(m.begin(), m.end()), wv(v.begin(), v.end());
      for (int64_t step : {1, 2}) {
        auto g = randoms<T>(n, unsigned(10 + step));
        AdamStep a{.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .step = step, .decoupled = decoupled};
        adam_step(p.data(), g.data(), m.data(), v.data(), n, a, 0.5);
        for (size_t i = 0; i < size_t(n); ++i) {
          double d = 0.5 * double(g[i]) + (decoupled ? 0 : 0.1 * wp[i]);
          wm[i] = 0.9 * wm[i] + 0.1 * d;
          wv[i] = 0.99 * wv[i] + 0.01 * d * d;
          double mh = wm[i] / (1 - std::pow(0.9, double(step))), vh = wv[i] / (1 - std::pow(0.99, double(step)));
          wp[i] = wp[i] * (decoupled ? 1 - 0.01 * 0.1 : 1) - 0.01 * mh / (std::sqrt(vh) + 1e-8);
        }
        near(p, wp), near(m, wm), near(v, wv);
      }
    }
}

TYPED_TEST(Optim, SgdAndLion) {
  using T = TypeParam;
  for (int64_t n : {0, 3, 40, 50001})
    for (double momentum : {0.0, 0.9})
      for (bool nesterov : {false, true}) {
        auto p = randoms<T>(n, 1), m = randoms<T>(n, 2);
        std::vector<double> wp(p.begin(), p.end()), wm(m.begin(), m.end());
        for (bool first : {true, false}) {
          auto g = randoms<T>(n, first ? 5 : 6);
          sgd_step(p.data(), g.data(), momentum != 0 ? m.data() : nullptr, n, SgdStep{.lr = 0.1, .momentum = momentum, .dampening = 0.2, .weight_decay = 0.01, .nesterov = nesterov, .first = first}, 2.0);
          for (size_t i = 0; i < size_t(n); ++i) {
            double d = 2.0 * double(g[i]) + 0.01 * wp[i];
            if (momentum != 0) {
              wm[i] = first ? d : momentum * wm[i] + 0.8 * d;
              d = nesterov ? d + momentum * wm[i] : wm[i];
            }
            wp[i] -= 0.1 * d;
          }
          near(p, wp);
        }
      }
  const int64_t n = 37;
  auto p = randoms<T>(n, 1), m = randoms<T>(n, 2), g = randoms<T>(n, 3);
  m[5] = g[5] = 0;
  std::vector<double> wp(p.begin(), p.end()), wm(m.begin(), m.end());
  lion_step(p.data(), g.data(), m.data(), n, LionStep{.lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.01});
  for (size_t i = 0; i < size_t(n); ++i) {
    double u = 0.9 * wm[i] + 0.1 * double(g[i]);
    wp[i] = wp[i] * (1 - 0.1 * 0.01) - 0.1 * ((u > 0) - (u < 0));
    wm[i] = 0.99 * wm[i] + 0.01 * double(g[i]);
  }
  near(p, wp), near(m, wm);
  blend_array(p.data(), 0.75, g.data(), 0.25, n);
  scale_array(m.data(), 3, n);
  for (size_t i = 0; i < size_t(n); ++i) wp[i] = 0.75 * wp[i] + 0.25 * double(g[i]), wm[i] *= 3;
  near(p, wp), near(m, wm);
}

// Copies a permuted, possibly sliced and broadcast source into a permuted destination.
template <class U>
void check_copy(std::vector<int64_t> shape, std::vector<int> source_order, std::vector<int> dest_order, int64_t pad, int broadcast) {
  const int rank = int(shape.size());
  std::vector<int64_t> ss(static_cast<size_t>(rank)), ds(ss);
  int64_t s = 1, d = 1;
  for (int k = rank; k-- > 0;) {
    ss[size_t(source_order[size_t(k)])] = s;
    s *= shape[size_t(source_order[size_t(k)])] + pad;
    ds[size_t(dest_order[size_t(k)])] = d;
    d *= shape[size_t(dest_order[size_t(k)])] + pad;
  }
  if (broadcast >= 0) ss[size_t(broadcast)] = 0;
  std::vector<U> x(size_t(s) + 1), y(size_t(d) + 1, U(255)), want = y;
  for (size_t i = 0; i < x.size(); ++i) x[i] = U(i * 2654435761u);
  int64_t total = 1;
  for (int64_t n : shape) total *= n;
  for (int64_t t = 0; t < total; ++t) {
    int64_t rest = t, from = 0, to = 0;
    for (int a = rank; a-- > 0;) {
      from += rest % shape[size_t(a)] * ss[size_t(a)];
      to += rest % shape[size_t(a)] * ds[size_t(a)];
      rest /= shape[size_t(a)];
    }
    want[size_t(to)] = x[size_t(from)];
  }
  copy_strided(sizeof(U), rank, shape.data(), x.data(), ss.data(), y.data(), ds.data());
  ASSERT_EQ(y, want);
}

template <class U>
void all_copies() {
  for (std::vector<int64_t> shape : std::vector<std::vector<int64_t>>{{}, {1}, {7}, {0, 3}, {3, 5}, {70, 33}, {16, 16}, {2, 65, 130}, {3, 1, 40}, {2, 3, 17, 19}, {5, 4, 3, 2}, {1, 300, 200}}) {
    std::vector<int> order(shape.size());
    std::iota(order.begin(), order.end(), 0);
    auto source = order;
    do {
      for (int64_t pad : {0, 2})
        for (int broadcast : {-1, 0}) {
          if (broadcast >= int(shape.size())) continue;
          check_copy<U>(shape, source, order, pad, broadcast);
          check_copy<U>(shape, order, source, pad, broadcast);
        }
    } while (std::next_permutation(source.begin(), source.end()));
  }
}
TEST(Copy, AllPermutations) {
  all_copies<uint8_t>();
  all_copies<uint16_t>();
  all_copies<uint32_t>();
  all_copies<uint64_t>();
}
TEST(Copy, NegativeStridesAndSignallingBits) {
  uint32_t x[6] = {0x7f800001u, 2, 3, 4, 5, 0xff812345u}, y[6];  // NaN payloads must survive
  int64_t shape[] = {6}, back[] = {-1}, fore[] = {1};
  copy_strided(4, 1, shape, x + 5, back, y, fore);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(y[i], x[5 - i]);
  std::vector<uint32_t> a(400, 0x7f800001u), b(400);
  int64_t square[] = {20, 20}, turned[] = {1, 20}, plain[] = {20, 1};
  copy_strided(4, 2, square, a.data(), turned, b.data(), plain);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace whence::cpu
