// Philox: the published known answers, element i a pure function of i, and the shape of the distributions.
#include "ops/cpu/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/parallel.h"
#include "ops/philox.h"

namespace whence::cpu {
namespace {

TEST(Philox, KnownAnswers) {  // Random123's kat_vectors for philox4x32-10
  auto zero = philox::words(0, 0, 0);
  EXPECT_EQ(zero.w[0], 0x6627e8d5u);
  EXPECT_EQ(zero.w[1], 0xe169c58du);
  EXPECT_EQ(zero.w[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.w[3], 0x9b00dbd8u);
  auto ones = philox::words(~0ull, ~0ull, ~0ull);
  EXPECT_EQ(ones.w[0], 0x408f276du);
  EXPECT_EQ(ones.w[1], 0x41c83b0eu);
  EXPECT_EQ(ones.w[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.w[3], 0x6d5451fdu);
}

TEST(Random, UniformIsTheDocumentedFunctionOfTheIndex) {
  const uint64_t seed = 0x123456789abcdefull, offset = 77;
  std::vector<float> f(1000);
  std::vector<double> d(1000);
  random_uniform(f.data(), 1000, seed, offset, 5);
  random_uniform(d.data(), 1000, seed, offset, 5);
  for (uint64_t i = 0; i < 1000; ++i) {
    auto w = philox::words(seed, offset, (i + 5) / 4);
    ASSERT_EQ(f[i], philox::uniform24(w.w[(i + 5) % 4]));
    auto v = philox::words(seed, offset, (i + 5) / 2);
    ASSERT_EQ(d[i], philox::uniform53(v.w[2 * ((i + 5) % 2)], v.w[2 * ((i + 5) % 2) + 1]));
  }
}

template <class T> void any_split_draws_the_same() {
  const int64_t n = 100003;
  std::vector<T> whole(n), parts(n + 1, T(-77));
  random_normal(whole.data(), n, 9, 3);
  for (int64_t b = 0, step = 1; b < n; b += step, step = step * 3 + 1)
    random_normal(parts.data() + b, std::min(step, n - b), 9, 3, b);
  EXPECT_EQ(parts.back(), T(-77));
  parts.pop_back();
  EXPECT_EQ(whole, parts);
  set_num_threads(1);
  random_normal(parts.data(), n, 9, 3);
  set_num_threads(0);
  EXPECT_EQ(whole, parts);
}
TEST(Random, AnySplitDrawsTheSame) {
  any_split_draws_the_same<float>();
  any_split_draws_the_same<double>();
}

template <class T> void normal_moments() {
  const int64_t n = 1 << 20;
  std::vector<T> x(n);
  random_normal(x.data(), n, 1, 0);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0;
  int64_t inside = 0;
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_TRUE(std::isfinite(x[size_t(i)]));
    double v = x[size_t(i)];
    m1 += v, m2 += v * v, m3 += v * v * v, m4 += v * v * v * v;
    if (i) lag += v * double(x[size_t(i - 1)]);
    inside += std::fabs(v) < 1;
  }
  const double s = 1 / double(n);  // bounds are about five standard errors
  EXPECT_NEAR(m1 * s, 0, 5e-3);
  EXPECT_NEAR(m2 * s, 1, 7e-3);
  EXPECT_NEAR(m3 * s, 0, 2e-2);
  EXPECT_NEAR(m4 * s, 3, 5e-2);
  EXPECT_NEAR(lag * s, 0, 5e-3);
  EXPECT_NEAR(double(inside) * s, 0.682689, 2.5e-3);
  EXPECT_GT(*std::max_element(x.begin(), x.end()), 4.2);
}
TEST(Random, NormalMoments) {
  normal_moments<float>();
  normal_moments<double>();
}

TEST(Random, UniformRangeAndBernoulli) {
  const int64_t n = 1 << 20;
  std::vector<float> x(n);
  std::vector<uint8_t> b(n), edge(100);
  random_uniform(x.data(), n, 4, 0);
  random_bernoulli(b.data(), n, 0.3, 4, 0);
  int64_t bins[16] = {}, ones = 0;
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_GE(x[size_t(i)], 0.0f);
    ASSERT_LT(x[size_t(i)], 1.0f);
    ++bins[int(x[size_t(i)] * 16)];
    ones += b[size_t(i)];
    ASSERT_EQ(b[size_t(i)], x[size_t(i)] < 0.3);  // the same word decides both
  }
  double chi = 0;
  for (int64_t k : bins) chi += std::pow(double(k) - n / 16.0, 2) / (n / 16.0);
  EXPECT_LT(chi, 45);  // 15 degrees of freedom, p about 1e-4
  EXPECT_NEAR(double(ones) / n, 0.3, 3e-3);
  random_bernoulli(edge.data(), 100, 0, 4, 0);
  EXPECT_EQ(*std::max_element(edge.begin(), edge.end()), 0);
  random_bernoulli(edge.data(), 100, 1, 4, 0);
  EXPECT_EQ(*std::min_element(edge.begin(), edge.end()), 1);
}

TEST(Random, StreamsDiffer) {
  float a[64], b[64], c[64];
  random_uniform(a, 64, 1, 0);
  random_uniform(b, 64, 2, 0);
  random_uniform(c, 64, 1, 1);
  int same = 0;
  for (int i = 0; i < 64; ++i) same += (a[i] == b[i]) + (a[i] == c[i]) + (b[i] == c[i]);
  EXPECT_EQ(same, 0);
}

}  // namespace
}  // namespace whence::cpu
