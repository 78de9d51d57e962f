// Philox: the published known answers, element i a pure function of i, and the shape of the distributions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "whence/autograd/op.h"
#include "whence/autograd/run_op.h"
#include "whence/tensor/philox.h"
#include "whence/tensor/parallel.h"

namespace whence {
namespace {

// n numbers of one stream, drawn by an op's kernel.
template <class T> std::vector<T> draw(const char* op, int64_t n, uint64_t seed, uint64_t key, Attrs attrs = {}) {
  attrs.set({"key", int64_t(key)});
  const Tensor at = Tensor::from(std::vector<int64_t>{int64_t(seed)}, {});
  const TensorType type{{n}, dtype_of<T>::value};
  return run_op(op_named(op), {&at, 1}, {&type, 1}, attrs)[0].to_vector<T>();
}
template <class T> std::vector<T> uniform(int64_t n, uint64_t seed, uint64_t key) {
  return draw<T>("uniform", n, seed, key, {{"low", 0.0}, {"high", 1.0}});
}
template <class T> std::vector<T> normal(int64_t n, uint64_t seed, uint64_t key) {
  return draw<T>("normal", n, seed, key, {{"mean", 0.0}, {"stddev", 1.0}});
}
std::vector<uint8_t> bernoulli(int64_t n, double p, uint64_t seed, uint64_t key) {
  return draw<uint8_t>("bernoulli", n, seed, key, {{"p", p}});
}

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
  std::vector<float> f = uniform<float>(1000, seed, offset);
  std::vector<double> d = uniform<double>(1000, seed, offset);
  for (uint64_t i = 0; i < 1000; ++i) {
    auto w = philox::words(seed, offset, i / 4);
    ASSERT_EQ(f[i], philox::uniform24(w.w[i % 4]));
    auto v = philox::words(seed, offset, i / 2);
    ASSERT_EQ(d[i], philox::uniform53(v.w[2 * (i % 2)], v.w[2 * (i % 2) + 1]));
  }
}

template <class T> void any_split_draws_the_same() {
  const int64_t n = 100003;
  const std::vector<T> whole = normal<T>(n, 9, 3);
  for (int64_t part = 1; part < n; part = part * 3 + 1) {
    std::vector<T> first = normal<T>(part, 9, 3);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), whole.begin())) << part;
  }
  cpu::set_num_threads(1);
  EXPECT_EQ(whole, normal<T>(n, 9, 3));
  cpu::set_num_threads(0);
  cpu::detail::split_everything = true;
  EXPECT_EQ(whole, normal<T>(n, 9, 3));
  cpu::detail::split_everything = false;
}
TEST(Random, AnySplitDrawsTheSame) {
  any_split_draws_the_same<float>();
  any_split_draws_the_same<double>();
}

template <class T> void normal_moments() {
  const int64_t n = 1 << 20;
  const std::vector<T> x = normal<T>(n, 1, 0);
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
  const std::vector<float> x = uniform<float>(n, 4, 0);
  const std::vector<uint8_t> b = bernoulli(n, 0.3, 4, 0);
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
  EXPECT_EQ(bernoulli(100, 0, 4, 0), std::vector<uint8_t>(100, 0));
  EXPECT_EQ(bernoulli(100, 1, 4, 0), std::vector<uint8_t>(100, 1));
}

TEST(Random, StreamsDiffer) {
  const std::vector<float> a = uniform<float>(64, 1, 0), b = uniform<float>(64, 2, 0), c = uniform<float>(64, 1, 1);
  int same = 0;
  for (size_t i = 0; i < 64; ++i) same += (a[i] == b[i]) + (a[i] == c[i]) + (b[i] == c[i]);
  EXPECT_EQ(same, 0);
}

}  // namespace
}  // namespace whence
