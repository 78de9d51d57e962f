// Conversion between the eight element types against exact arithmetic in a wider one: every pair, every bit pattern of
// the small types, and where rounding, overflow and NaN decide in the large ones.
#include "whence/tensor/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {
namespace {

using Wide = long double;  // 64 bits of mantissa or more: holds every element exactly
static_assert(std::numeric_limits<Wide>::digits >= 64);

template <class F> void each_type(F&& f) {
  f(float{}), f(double{}), f(bf16_t{}), f(f16_t{}), f(int32_t{}), f(int64_t{}), f(uint8_t{}), f(bool{});
}
template <class F> void each_pair(F&& f) {
  each_type([&](auto s) { each_type([&](auto d) { f(s, d); }); });
}
template <class T> std::string name() { return std::string(name_of(dtype_of<T>::value)); }

// A binary floating-point format: bits of precision, exponents of the smallest and largest normal powers of two.
struct Format {
  int digits, low, high;
};
template <class T> constexpr Format format() {
  switch (dtype_of<T>::value) {
    case f64: return {53, -1022, 1023};
    case f32: return {24, -126, 127};
    case bf16: return {8, -126, 127};
    default: return {11, -14, 15};
  }
}

// v rounded once, to nearest even.
Wide rounded(Wide v, Format f) {
  if (v == 0 || !std::isfinite(v)) return v;
  const int exponent = std::max(std::ilogb(v), f.low) - f.digits + 1;
  const Wide r = std::ldexp(std::rint(std::ldexp(v, -exponent)), exponent);
  const Wide largest = std::ldexp(2 - std::ldexp(Wide(1), 1 - f.digits), f.high);
  return std::fabs(r) > largest ? std::copysign(std::numeric_limits<Wide>::infinity(), v) : r;
}

// The exact value of an element.
template <class T> Wide exact(T x) {
  if constexpr (std::is_same_v<T, bf16_t> || std::is_same_v<T, f16_t>) {
    const int digits = format<T>().digits, low = format<T>().low, fraction = x.bits & ((1 << (digits - 1)) - 1);
    const int exponent = (x.bits & 0x7fff) >> (digits - 1), top = 0x7fff >> (digits - 1);
    Wide v = exponent == top ? (fraction ? std::nanl("") : std::numeric_limits<Wide>::infinity())
             : exponent      ? std::ldexp(Wide(fraction + (1 << (digits - 1))), exponent - 1 + low - digits + 1)
                             : std::ldexp(Wide(fraction), low - digits + 1);
    return x.bits & 0x8000 ? -v : v;
  } else {
    return Wide(x);
  }
}

// What x is as a D, from the table in convert.h.
template <class D, class S> Wide expected(S x) {
  const Wide v = exact(x);
  if constexpr (std::is_same_v<D, bool>) return v != 0;
  else if constexpr (std::is_integral_v<D> && std::is_integral_v<S>) {
    const uint64_t modulo = uint64_t(int64_t(x)) & (~uint64_t(0) >> (64 - 8 * sizeof(D)));
    const bool minus = std::is_signed_v<D> && modulo >> (8 * sizeof(D) - 1);
    return minus ? Wide(modulo) - std::ldexp(Wide(1), 8 * sizeof(D)) : Wide(modulo);
  } else if constexpr (std::is_integral_v<D>) {
    if (std::isnan(v)) return 0;
    return std::clamp(std::trunc(v), Wide(std::numeric_limits<D>::min()), Wide(std::numeric_limits<D>::max())) + 0.0L;
  } else {
    return rounded(v, format<D>());
  }
}

// Elements of type S at which something is decided.
template <class S> std::vector<S> elements() {
  std::vector<S> out;
  std::mt19937_64 random(3);
  if constexpr (std::is_same_v<S, bool>) {
    out = {false, true};
  } else if constexpr (sizeof(S) <= 2) {
    using Bits = std::conditional_t<sizeof(S) == 1, uint8_t, uint16_t>;
    for (uint32_t bits = 0; bits <= std::numeric_limits<Bits>::max(); ++bits)
      out.push_back(std::bit_cast<S>(Bits(bits)));
  } else if constexpr (std::is_integral_v<S>) {
    for (int shift = 0; shift < int(8 * sizeof(S)); ++shift)
      for (int64_t beside : {-2, -1, 0, 1, 2}) {
        const uint64_t power = (uint64_t(1) << shift) + uint64_t(beside);
        for (uint64_t tie : {uint64_t(0), power >> 8, power >> 9, power >> 11, power >> 12})  // last places of halves
          for (uint64_t more : {-1, 0, 1})
            out.push_back(S(power + tie + more)), out.push_back(S(0 - power - tie - more));
      }
    for (int i = 0; i < 20000; ++i) out.push_back(S(random() >> (random() % (8 * sizeof(S)))));
    out.insert(out.end(), {std::numeric_limits<S>::min(), std::numeric_limits<S>::max()});
  } else {
    using L = std::numeric_limits<S>;
    auto add = [&](Wide v) {  // and its neighbours
      const S x = S(v);
      for (S near : {x, std::nextafter(x, -L::infinity()), std::nextafter(x, L::infinity())})
        out.push_back(near), out.push_back(-near);
    };
    for (S x : {L::quiet_NaN(), L::infinity(), L::max(), L::min(), L::denorm_min(), S(0)}) add(x);
    for (Wide x : {0.5L, 0.999L, 1.0L, 1.5L, 2.5L, 255.0L, 255.5L, 256.0L, 300.0L, 1e10L, 1e20L, 1e30L}) add(x);
    for (int power : {-150, -149, -134, -133, -126, -25, -24, -14, 15, 16, 24, 31, 32, 53, 62, 63, 64, 127, 128})
      add(std::ldexp(1.0L, power));
    // Between two neighbours of a half type: the middle, and as little beside it as S can show.
    for (Format f : {format<bf16_t>(), format<f16_t>()}) {
      add(std::ldexp(2 - std::ldexp(1.0L, -f.digits), f.high));  // the middle between the largest and infinity
      for (int exponent = f.low - f.digits - 2; exponent <= f.high; ++exponent)
        for (int i = 0; i < 20; ++i) {
          const int last = std::max(exponent, f.low) - f.digits + 1, places = std::max(0, exponent - last);
          add(std::ldexp(Wide(random() % (uint64_t(1) << places)) + std::ldexp(1.0L, places) + 0.5L, last));
        }
    }
    for (int i = 0; i < 50000; ++i) {
      using Bits = std::conditional_t<sizeof(S) == 4, uint32_t, uint64_t>;
      out.push_back(std::bit_cast<S>(Bits(random())));
    }
  }
  return out;
}

TEST(Convert, EveryPairMatchesExactArithmetic) {
  each_pair([](auto s, auto d) {
    using S = decltype(s);
    using D = decltype(d);
    int wrong = 0;
    for (S x : elements<S>()) {
      const Wide got = exact(convert<D>(x)), want = expected<D>(x);
      if (std::isnan(want) ? std::isnan(got) : got == want && std::signbit(got) == std::signbit(want)) continue;
      ADD_FAILURE() << name<S>() << " " << double(exact(x)) << " to " << name<D>() << ": " << double(got) << ", want "
                    << double(want);
      if (++wrong == 5) return;
    }
  });
}

TEST(Convert, RunsAgreeWithTheScalarBitForBit) {
  each_pair([](auto s, auto d) {
    using S = decltype(s);
    using D = decltype(d);
    const auto elements_of_s = elements<S>();
    for (size_t n : {size_t(0), size_t(1), size_t(7), size_t(33), elements_of_s.size()}) {
      n = std::min(n, elements_of_s.size());
      std::vector<uint8_t> x(n * sizeof(S)), y(n * sizeof(D) + 1, 0xee), want(y);
      for (size_t i = 0; i < n; ++i) {
        const S one = elements_of_s[i];
        const D made = convert<D>(one);
        std::memcpy(x.data() + i * sizeof(S), &one, sizeof(S));
        std::memcpy(want.data() + i * sizeof(D), &made, sizeof(D));
      }
      convert_run(dtype_of<S>::value, dtype_of<D>::value)(x.data(), y.data(), int64_t(n), nullptr);
      EXPECT_TRUE(y == want) << name<S>() << " to " << name<D>() << ", " << n << " elements";
    }
  });
}

TEST(Convert, TheTableOfTheHeader) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(convert<int32_t>(nan), 0);
  EXPECT_EQ(convert<int32_t>(inf), std::numeric_limits<int32_t>::max());
  EXPECT_EQ(convert<int64_t>(0x1p63), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(convert<int64_t>(-0x1p63), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(convert<uint8_t>(-1.0f), 0);
  EXPECT_EQ(convert<uint8_t>(255.9), 255);
  EXPECT_EQ(convert<uint8_t>(1e9), 255);
  EXPECT_EQ(convert<int32_t>(-1.9), -1);
  EXPECT_EQ(convert<uint8_t>(int64_t(300)), 44);
  EXPECT_EQ(convert<uint8_t>(-1), 255);
  EXPECT_EQ(convert<int32_t>(int64_t(1) << 32), 0);
  EXPECT_EQ(convert<bool>(nan), true);
  EXPECT_EQ(convert<bool>(-0.0), false);
  EXPECT_EQ(convert<bool>(int64_t(1) << 40), true);
  EXPECT_EQ(float(convert<bf16_t>(true)), 1.0f);
  // 1 + 2^-8 is the middle of two neighbours of bf16; what lies 2^-40 above it is not, but is once it is a float.
  EXPECT_EQ(float(convert<bf16_t>(1 + 0x1p-8)), 1.0f);
  EXPECT_EQ(float(convert<bf16_t>(1 + 0x1p-8 + 0x1p-40)), 1 + 0x1p-7f);
  EXPECT_EQ(float(convert<f16_t>(1 + 0x1p-11 + 0x1p-40)), 1 + 0x1p-10f);
  EXPECT_EQ(convert<bf16_t>(1e39).bits, 0x7f80);
  EXPECT_EQ(convert<f16_t>(65519.999999999).bits, 0x7bff);
  EXPECT_EQ(convert<f16_t>(65520.0).bits, 0x7c00);
}

TEST(Convert, BytesOfABooleanOtherThanOneAreTrue) {
  const uint8_t bytes[] = {0, 1, 7, 255};
  float real[4];
  int64_t whole[4];
  convert_run(boolean, f32)(bytes, real, 4, nullptr);
  convert_run(boolean, i64)(bytes, whole, 4, nullptr);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(real[i], i ? 1 : 0);
    EXPECT_EQ(whole[i], i ? 1 : 0);
  }
}

TEST(Convert, TensorsSpeakTheSameLanguage) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Tensor x = Tensor::from<double>({nan, 1e300, -1e300, -1.5, 300});
  EXPECT_EQ(x.to(i32).to_vector<int32_t>(), (std::vector<int32_t>{0, 2147483647, -2147483647 - 1, -1, 300}));
  EXPECT_EQ(x.to(u8).to_vector<int32_t>(), (std::vector<int32_t>{0, 255, 0, 0, 255}));
  EXPECT_EQ(x.to(boolean).to_vector<int32_t>(), (std::vector<int32_t>{1, 1, 1, 1, 1}));
  EXPECT_EQ(Tensor::full({3}, nan, i64).to_vector<int64_t>(), std::vector<int64_t>(3, 0));
  EXPECT_EQ(Tensor::full({2}, 1e30, i64).item(1), 0x1p63);
  EXPECT_EQ(Tensor::full({2, 2}, 1 + 0x1p-8 + 0x1p-40, bf16).item(3), 1 + 0x1p-7);
  Tensor into = Tensor::zeros({5}, u8);
  into.copy_from(x);
  EXPECT_EQ(into.to_vector<int32_t>(), (std::vector<int32_t>{0, 255, 0, 0, 255}));
}

}  // namespace
}  // namespace whence
