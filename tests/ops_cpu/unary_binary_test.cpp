// Elementwise loops against the C library in the next wider type: every op, odd lengths, special values, broadcast
// operands.
#include "whence/ops/cpu/unary_binary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace whence::cpu {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
using Wide = long double;

template <class T> constexpr DType dtype_for();
template <> constexpr DType dtype_for<float>() { return f32; }
template <> constexpr DType dtype_for<double>() { return f64; }

struct UnaryCase {
  const char* name;
  std::function<Wide(Wide)> want;
  double lo, hi;   // domain for the random values
  double ulp;      // allowed relative error in units of epsilon
  double abs = 0;  // and an absolute term for functions that subtract
  std::vector<double> params = {};
};

Wide sig(Wide x) { return 1 / (1 + expl(-x)); }
Wide gelu(Wide x) { return x * 0.5L * erfcl(-x * M_SQRT1_2l); }
Wide gelu_tanh(Wide x) { return 0.5L * x * (1 + tanhl(sqrtl(2 / M_PIl) * (x + 0.044715L * x * x * x))); }
Wide softplus(Wide x) { return x > 0 ? x + log1pl(expl(-x)) : log1pl(expl(x)); }

const std::vector<UnaryCase>& unary_cases() {
  static const std::vector<UnaryCase> cases = {
      {"neg", [](Wide x) { return -x; }, -9, 9, 0},
      {"abs", [](Wide x) { return fabsl(x); }, -9, 9, 0},
      {"sign", [](Wide x) { return x > 0   ? 1.0L
                                   : x < 0 ? -1.0L
                                           : x; }, -1, 1, 0},
      {"exp", [](Wide x) { return expl(x); }, -80, 80, 2},
      {"expm1", [](Wide x) { return expm1l(x); }, -20, 20, 2},
      {"expm1", [](Wide x) { return expm1l(x); }, -0.01, 0.01, 2},
      {"log", [](Wide x) { return logl(x); }, 1e-30, 50, 2},
      {"log", [](Wide x) { return logl(x); }, 0.5, 2, 2},
      {"log1p", [](Wide x) { return log1pl(x); }, -0.9, 3, 3},
      {"log1p", [](Wide x) { return log1pl(x); }, -1e-3, 1e-3, 3},
      {"sqrt", [](Wide x) { return sqrtl(x); }, 0, 100, 1},
      {"rsqrt", [](Wide x) { return 1 / sqrtl(x); }, 1e-3, 100, 2},
      {"reciprocal", [](Wide x) { return 1 / x; }, 0.01, 100, 1},
      {"square", [](Wide x) { return x * x; }, -9, 9, 1},
      {"sin", [](Wide x) { return sinl(x); }, -60, 60, 2, 1e-7},
      {"cos", [](Wide x) { return cosl(x); }, -60, 60, 2, 1e-7},
      {"tanh", [](Wide x) { return tanhl(x); }, -10, 10, 3},
      {"tanh", [](Wide x) { return tanhl(x); }, -0.1, 0.1, 3},
      {"sigmoid", sig, -60, 60, 3},
      {"erf", [](Wide x) { return erfl(x); }, -6, 6, 2},
      {"erf", [](Wide x) { return erfl(x); }, -0.1, 0.1, 2},
      {"relu", [](Wide x) { return x < 0 ? 0 : x; }, -9, 9, 0},
      {"leaky_relu", [](Wide x) { return x < 0 ? 0.25L * x : x; }, -9, 9, 1, 0, {0.25}},
      {"gelu", gelu, -3, 9, 4, 2},
      {"gelu_tanh", gelu_tanh, -3, 9, 8, 2},
      {"silu", [](Wide x) { return x * sig(x); }, -20, 20, 4},
      {"softplus", softplus, -40, 40, 4, 0, {1}},
      {"softplus", [](Wide x) { return softplus(4 * x) / 4; }, -5, 5, 4, 0, {4}},
      {"log_sigmoid", [](Wide x) { return -softplus(-x); }, -40, 40, 4},
      {"clamp", [](Wide x) { return x < -1  ? -1
                                    : x > 2 ? 2
                                            : x; }, -9, 9, 0, 0, {-1, 2}},
      {"floor", [](Wide x) { return floorl(x); }, -9, 9, 0},
      {"round", [](Wide x) { return rintl(x); }, -9, 9, 0},
  };
  return cases;
}

template <class T> void check_unary() {
  constexpr double eps = std::numeric_limits<T>::epsilon();
  for (const UnaryCase& c : unary_cases()) {
    UnaryLoop loop = find_unary(c.name, dtype_for<T>());
    ASSERT_TRUE(loop) << c.name;
    std::mt19937_64 rng(7);
    for (int64_t n : {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 100, 4099}) {
      std::vector<T> x(n + 2, T(1)), y(n + 2, T(-77)), z;
      for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(std::uniform_real_distribution<double>(c.lo, c.hi)(rng));
      loop(x.data(), y.data(), n, c.params.data());
      ASSERT_EQ(y[n], T(-77)) << c.name << " wrote beyond its " << n << " elements";
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        Wide want = c.want(x[i]);
        double err = std::fabs(static_cast<double>(y[i] - want));
        double allowed = eps * (c.ulp * 0.5 * std::fabs(static_cast<double>(want)) * 2 + c.abs) +
                         std::numeric_limits<T>::denorm_min();
        worst = std::max(worst, err / (eps * std::fabs(static_cast<double>(want)) + 1e-300));
        ASSERT_LE(err, allowed) << c.name << "(" << x[i] << ") = " << y[i] << ", want " << static_cast<double>(want)
                                << " n=" << n << " i=" << i;
      }
      if (n == 4099 && std::getenv("WHENCE_SHOW_ULP")) std::printf("%-12s %.2f eps\n", c.name, worst);
      z = x;  // in place
      loop(z.data(), z.data(), n, c.params.data());
      ASSERT_EQ(0, std::memcmp(z.data(), y.data(), n * sizeof(T))) << c.name << " in place";
      if (n > 20) {  // an element's result does not depend on its place
        std::vector<T> one(1);
        loop(x.data() + n - 3, one.data(), 1, c.params.data());
        ASSERT_EQ(one[0], y[n - 3]) << c.name;
      }
    }
  }
}

TEST(Unary, MatchesLibraryF32) { check_unary<float>(); }
TEST(Unary, MatchesLibraryF64) { check_unary<double>(); }

template <class T> void check_special() {
  struct Special {
    const char* name;
    double x, want;
    std::vector<double> params = {};
  };
  const double big = sizeof(T) == 4 ? 1e30 : 1e300, tiny = sizeof(T) == 4 ? 1e-40 : 1e-310;
  const std::vector<Special> cases = {{"exp", kInf, kInf},
                                      {"exp", -kInf, 0},
                                      {"exp", big, kInf},
                                      {"exp", -big, 0},
                                      {"exp", 0, 1},
                                      {"expm1", kInf, kInf},
                                      {"expm1", -kInf, -1},
                                      {"expm1", -big, -1},
                                      {"expm1", big, kInf},
                                      {"expm1", tiny, tiny},
                                      {"log", 0, -kInf},
                                      {"log", kInf, kInf},
                                      {"log", -1, kNan},
                                      {"log", 1, 0},
                                      {"log1p", -1, -kInf},
                                      {"log1p", kInf, kInf},
                                      {"log1p", -2, kNan},
                                      {"log1p", tiny, tiny},
                                      {"log1p", 0, 0},
                                      {"tanh", kInf, 1},
                                      {"tanh", -kInf, -1},
                                      {"tanh", big, 1},
                                      {"tanh", tiny, tiny},
                                      {"tanh", -big, -1},
                                      {"erf", kInf, 1},
                                      {"erf", -kInf, -1},
                                      {"erf", big, 1},
                                      {"erf", 0, 0},
                                      {"sigmoid", kInf, 1},
                                      {"sigmoid", -kInf, 0},
                                      {"sigmoid", -big, 0},
                                      {"sigmoid", 0, 0.5},
                                      {"gelu", kInf, kInf},
                                      {"gelu_tanh", kInf, kInf},
                                      {"silu", kInf, kInf},
                                      {"silu", -30000, 0},
                                      {"gelu", -30000, 0},
                                      {"softplus", big, big, {1}},
                                      {"softplus", -big, 0, {1}},
                                      {"softplus", kInf, kInf, {1}},
                                      {"softplus", -kInf, 0, {1}},
                                      {"log_sigmoid", -big, -big},
                                      {"log_sigmoid", kInf, 0},
                                      {"log_sigmoid", -kInf, -kInf},
                                      {"round", 0.5, 0},
                                      {"round", 1.5, 2},
                                      {"round", -2.5, -2},
                                      {"floor", -0.5, -1},
                                      {"sqrt", -1, kNan},
                                      {"rsqrt", 0, kInf},
                                      {"reciprocal", 0, kInf},
                                      {"sign", -kInf, -1},
                                      {"clamp", kInf, 2, {-1, 2}},
                                      {"clamp", -kInf, -1, {-1, 2}},
                                      {"sin", kInf, kNan},
                                      {"cos", 0, 1}};
  for (const Special& c : cases) {
    for (int64_t n : {1, 16, 35}) {
      std::vector<T> x(n, static_cast<T>(c.x)), y(n);
      find_unary(c.name, dtype_for<T>())(x.data(), y.data(), n, c.params.data());
      for (T v : y) {
        if (std::isnan(c.want)) EXPECT_TRUE(std::isnan(v)) << c.name << "(" << c.x << ") = " << v;
        else EXPECT_EQ(v, static_cast<T>(c.want)) << c.name << "(" << c.x << ")";
      }
    }
  }
  for (const UnaryCase& c : unary_cases()) {
    T x = static_cast<T>(kNan), y = 0;
    find_unary(c.name, dtype_for<T>())(&x, &y, 1, c.params.data());
    if (std::string_view(c.name) == "sign") EXPECT_EQ(y, 0);
    else EXPECT_TRUE(std::isnan(y)) << c.name << "(nan) = " << y;
  }
  // exp reaches into the subnormals, log comes back from there
  T x = sizeof(T) == 4 ? T(-95) : T(-720), y;
  find_unary("exp", dtype_for<T>())(&x, &y, 1, nullptr);
  EXPECT_NEAR(y / std::exp(x), 1, 1e-3);
  EXPECT_GT(y, 0);
  T w;
  find_unary("log", dtype_for<T>())(&y, &w, 1, nullptr);
  EXPECT_NEAR(w, std::log(y), std::fabs(x) * std::numeric_limits<T>::epsilon());
}
TEST(Unary, SpecialValuesF32) { check_special<float>(); }
TEST(Unary, SpecialValuesF64) { check_special<double>(); }

TEST(Unary, HugeAngles) {
  for (double v : {1e3, 1e5, 1e8, -3e9}) {
    double x = v, y;
    find_unary("sin", f64)(&x, &y, 1, nullptr);
    EXPECT_NEAR(y, std::sin(v), 1e-12);
    float xf = static_cast<float>(v), yf;
    find_unary("cos", f32)(&xf, &yf, 1, nullptr);
    EXPECT_NEAR(yf, std::cos(static_cast<double>(xf)), 1e-5);
  }
}

struct BinaryCase {
  const char* name;
  std::function<double(double, double)> want;
  double lo, hi, tolerance;
  std::vector<double> params = {};
};

// The derivative of a unary op by central differences in long double, times dy.
std::function<double(double, double)> slope(std::function<Wide(Wide)> f) {
  return [f](double x, double dy) {
    const Wide h = 1e-6L;
    return static_cast<double>((f(x + h) - f(x - h)) / (2 * h) * dy);
  };
}

const std::vector<BinaryCase>& binary_cases() {
  static const std::vector<BinaryCase> cases = {
      {"add", [](double a, double b) { return a + b; }, -4, 4, 1e-6},
      {"sub", [](double a, double b) { return a - b; }, -4, 4, 1e-6},
      {"mul", [](double a, double b) { return a * b; }, -4, 4, 1e-5},
      {"div", [](double a, double b) { return a / b; }, 0.1, 4, 1e-5},
      {"maximum", [](double a, double b) { return a > b ? a : b; }, -4, 4, 0},
      {"minimum", [](double a, double b) { return a < b ? a : b; }, -4, 4, 0},
      {"pow", [](double a, double b) { return std::pow(a, b); }, 0.1, 4, 1e-4},
      {"d_tanh", [](double y, double dy) { return dy * (1 - y * y); }, -1, 1, 1e-6},
      {"d_sigmoid", [](double y, double dy) { return dy * y * (1 - y); }, 0, 1, 1e-6},
      {"d_relu", [](double x, double dy) { return x > 0 ? dy : 0; }, -4, 4, 0},
      {"d_leaky_relu", [](double x, double dy) { return x > 0 ? dy : 0.25 * dy; }, -4, 4, 1e-6, {0.25}},
      {"d_clamp", [](double x, double dy) { return x < -1 || x > 2 ? 0 : dy; }, -4, 4, 0, {-1, 2}},
      {"d_gelu", slope(gelu), -4, 4, 3e-6},
      {"d_gelu_tanh", slope(gelu_tanh), -4, 4, 3e-6},
      {"d_silu", slope([](Wide x) { return x * sig(x); }), -4, 4, 3e-6},
  };
  return cases;
}

template <class T> void check_binary() {
  for (const BinaryCase& c : binary_cases()) {
    BinaryLoop loop = find_binary(c.name, dtype_for<T>());
    ASSERT_TRUE(loop) << c.name;
    std::mt19937_64 rng(11);
    std::uniform_real_distribution<double> u(c.lo, c.hi);
    for (int64_t n : {0, 1, 3, 16, 17, 33, 70})
      for (int sa : {0, 1})
        for (int sb : {0, 1}) {
          std::vector<T> a(n + 1), b(n + 1), y(n + 1, T(-77));
          for (T& v : a) v = static_cast<T>(u(rng));
          for (T& v : b) v = static_cast<T>(u(rng));
          loop(a.data(), sa, b.data(), sb, y.data(), n, c.params.data());
          EXPECT_EQ(y[n], T(-77));
          for (int64_t i = 0; i < n; ++i) {
            double want = static_cast<double>(static_cast<T>(c.want(a[i * sa], b[i * sb])));
            ASSERT_NEAR(y[i], want, c.tolerance * (1 + std::fabs(want)))
                << c.name << "(" << a[i * sa] << ", " << b[i * sb] << ") " << sa << sb;
          }
        }
  }
}
TEST(Binary, MatchesDefinitionF32) { check_binary<float>(); }
TEST(Binary, MatchesDefinitionF64) { check_binary<double>(); }

TEST(Binary, MaximumKeepsNan) {
  float a[] = {float(kNan), 1, float(kNan)}, b[] = {1, float(kNan), float(kNan)}, y[3];
  for (const char* name : {"maximum", "minimum"}) {
    find_binary(name, f32)(a, 1, b, 1, y, 3, nullptr);
    for (float v : y) EXPECT_TRUE(std::isnan(v)) << name;
  }
}

TEST(Binary, PowOfAnElementIgnoresItsNeighbours) {
  float base[32], power[32], all[32], alone;
  for (int i = 0; i < 32; ++i) base[i] = 0.37f * float(i) + 0.1f, power[i] = 1.7f - 0.2f * float(i % 9);
  base[3] = -2, power[3] = 3, base[20] = 1e20f, power[25] = float(kNan);
  find_binary("pow", f32)(base, 1, power, 1, all, 32, nullptr);
  for (int i = 0; i < 32; ++i) {
    find_binary("pow", f32)(base + i, 1, power + i, 1, &alone, 1, nullptr);
    EXPECT_EQ(std::memcmp(&alone, all + i, 4), 0) << i;
    if (i != 25) {
      EXPECT_NEAR(all[i] / std::pow(double(base[i]), double(power[i])), 1, 1e-6) << i;
    }
  }
}

TEST(Binary, Comparisons) {
  struct {
    const char* name;
    int less, equal, more, nan;
  } rows[] = {{"less", 1, 0, 0, 0},          {"less_equal", 1, 1, 0, 0}, {"greater", 0, 0, 1, 0},
              {"greater_equal", 0, 1, 1, 0}, {"equal", 0, 1, 0, 0},      {"not_equal", 1, 0, 1, 1}};
  for (auto& r : rows) {
    float a[] = {1, 2, 3, float(kNan)}, b[] = {2, 2, 2, 2};
    uint8_t y[4];
    find_binary(r.name, f32)(a, 1, b, 1, y, 4, nullptr);
    EXPECT_EQ((std::vector<int>{y[0], y[1], y[2], y[3]}), (std::vector<int>{r.less, r.equal, r.more, r.nan})) << r.name;
    int64_t ai[] = {1, 2, 3}, two = 2;
    find_binary(r.name, i64)(ai, 1, &two, 0, y, 3, nullptr);
    EXPECT_EQ((std::vector<int>{y[0], y[1], y[2]}), (std::vector<int>{r.less, r.equal, r.more})) << r.name;
  }
  uint8_t p[] = {0, 0, 1, 7}, q[] = {0, 1, 0, 2}, y[4];
  find_binary("logical_and", boolean)(p, 1, q, 1, y, 4, nullptr);
  EXPECT_EQ((std::vector<int>{y[0], y[1], y[2], y[3]}), (std::vector<int>{0, 0, 0, 1}));
  find_binary("logical_or", u8)(p, 1, q, 1, y, 4, nullptr);
  EXPECT_EQ((std::vector<int>{y[0], y[1], y[2], y[3]}), (std::vector<int>{0, 1, 1, 1}));
  find_unary("logical_not", boolean)(p, y, 4, nullptr);
  EXPECT_EQ((std::vector<int>{y[0], y[1], y[2], y[3]}), (std::vector<int>{1, 1, 0, 0}));
}

TEST(Binary, IntegersWrap) {
  int32_t a[] = {2147483647, -2147483647 - 1, 7, -7}, b[] = {1, -1, 0, 2}, y[4];
  find_binary("add", i32)(a, 1, b, 1, y, 4, nullptr);
  EXPECT_EQ(y[0], -2147483647 - 1);
  find_binary("mul", i32)(a, 1, b, 1, y, 4, nullptr);
  EXPECT_EQ(y[1], -2147483647 - 1);
  EXPECT_FALSE(find_binary("div", i32));  // a quotient is no integer
}

TEST(Where, AllStrides) {
  for (int sc : {0, 1})
    for (int sa : {0, 1})
      for (int sb : {0, 1})
        for (int64_t n : {0, 1, 40}) {
          std::vector<uint8_t> c(41);
          std::vector<float> a(41), b(41), y(41, -1);
          for (int i = 0; i < 41; ++i) {
            c[i] = i % 3 == 1;
            a[i] = i;
            b[i] = -i;
          }
          find_where(4)(c.data(), sc, a.data(), sa, b.data(), sb, y.data(), n);
          for (int64_t i = 0; i < n; ++i) EXPECT_EQ(y[i], c[i * sc] ? a[i * sa] : b[i * sb]);
        }
  EXPECT_FALSE(find_where(3));
}

TEST(Lookup, UnknownNames) {
  EXPECT_FALSE(find_unary("nothing", f32));
  EXPECT_FALSE(find_unary("exp", i32));
  EXPECT_FALSE(find_binary("zzz", f32));
}

}  // namespace
}  // namespace whence::cpu
