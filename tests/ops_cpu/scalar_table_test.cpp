// Every scalar row: the expression in plain double is what the CPU's loops compute, and its text keeps to the language
// of ops/scalar.h.
#include "whence/ops/scalar_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "whence/ops/cpu/elementwise.h"

namespace whence::cpu {
namespace {

const double kParams[] = {0.3, 0.8};

// The loop over doubles (bytes, for logical rows) against the functor, element by element.
template <class F, class A>
void compare(const ScalarRow& row, F f, DType dtype, std::span<const A> a, std::span<const A> b) {
  const bool arithmetic = row.domain == ScalarRow::real || row.domain == ScalarRow::number;
  ScalarLoop loop = find_loop(row, dtype, arithmetic ? dtype : boolean);
  ASSERT_TRUE(loop) << row.name;
  A p[2] = {A(kParams[0]), A(kParams[1])};
  const int64_t n = int64_t(a.size());
  std::vector<double> reals(a.size());
  std::vector<uint8_t> bytes(a.size());
  void* y = arithmetic ? static_cast<void*>(reals.data()) : bytes.data();
  if (loop.unary) loop.unary(a.data(), y, n, kParams);
  else loop.binary(a.data(), 1, b.data(), 1, y, n, kParams);
  for (size_t i = 0; i < a.size(); ++i) {
    double want = 0, got = arithmetic ? reals[i] : bytes[i];
    if constexpr (F::arity == 1) want = double(f(a[i], p));
    else want = double(f(a[i], b[i], p));
    bool same = std::isfinite(want) ? std::fabs(got - want) <= 1e-14 * (1 + std::fabs(want))
                                    : got == want || (std::isnan(got) && std::isnan(want));
    EXPECT_TRUE(same) << row.name << "(" << +a[i] << ", " << +b[i] << ") is " << got << ", want " << want;
  }
}

template <ScalarRow::Domain D, class F> void check(const ScalarRow& row, F f) {
  SCOPED_TRACE(row.text);
  EXPECT_EQ(row.arity(), F::arity);
  EXPECT_EQ(row.n_params(), F::params);
  EXPECT_EQ(row.domain, D);
  if constexpr (D == ScalarRow::logical) {
    const std::vector<uint8_t> a{0, 0, 1, 1}, b{0, 1, 0, 1};
    compare<F, uint8_t>(row, f, boolean, a, b);
  } else if constexpr (D != ScalarRow::any) {
    const std::vector<double> a{0.1, 0.3, 0.5, 0.75, 0.9, 1.5, 2.5, -0.25, -1.5, -3, 0, 4, 0.5};
    const std::vector<double> b{0.7, 0.3, -2, 0.75, 1.25, -1, 3, 0.5, -2, 2, 1, 4, 0};
    compare<F, double>(row, f, f64, a, b);
  }
}

TEST(ScalarTable, TheExpressionInDoubleIsTheLoop) {
#define WHENCE_CHECK(NAME, DOMAIN, ...) check<ScalarRow::DOMAIN>(NAME##_row, scalar::NAME##_functor{});
  WHENCE_SCALAR_TABLE(WHENCE_CHECK)
#undef WHENCE_CHECK
}

WHENCE_SCALAR(line, (x), (slope, shift), shift + (slope * x));
WHENCE_SCALAR(mixture, (a, b), (share), (share * a) + (T(1) - share) * b);

TEST(ScalarTable, ARowBringsItsOwnLoops) {
  const double x[] = {1, 2, 4}, z[] = {5, 6, 7}, params[] = {2, 0.5};
  double y[3];
  find_loop(line_row, f64, f64).unary(x, y, 3, params);
  EXPECT_EQ(y[2], 8.5);
  const float xs[] = {1, 2, 4};
  float ys[3];
  find_loop(line_row, f32, f32).unary(xs, ys, 3, params);
  EXPECT_EQ(ys[1], 4.5f);
  const double half[] = {0.5};
  for (int sa : {0, 1})
    for (int sb : {0, 1}) {
      find_loop(mixture_row, f64, f64).binary(x, sa, z, sb, y, 3, half);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(y[i], 0.5 * x[i * sa] + 0.5 * z[i * sb]);
    }
  EXPECT_STREQ(line_row.text, "shift + (slope * x)");
  EXPECT_STREQ(line_row.params[1], "shift");
  EXPECT_FALSE(find_loop(line_row, i32, i32));
  EXPECT_FALSE(find_loop(line_row, f64, f32));  // a result of another dtype than the loop writes
}

// What a device that compiles the text at run time must know: the functions of scalar.h.
TEST(ScalarTable, TextsSpeakTheLanguage) {
  const char* root = std::getenv("WHENCE_SOURCE_DIR");
  std::ifstream file(std::string(root ? root : ".") + "/ops/scalar.h");
  std::stringstream read;
  read << file.rdbuf();
  const std::string header = read.str();
  std::set<std::string> language{"T"};
  const std::regex defines(R"(std::(\w+)|WHENCE_FN \S+ (\w+)\()"), word(R"([A-Za-z_]\w*)");
  for (std::sregex_iterator m(header.begin(), header.end(), defines), end; m != end; ++m)
    language.insert((*m)[1].matched ? (*m)[1].str() : (*m)[2].str());
  EXPECT_GT(language.size(), 40u);
  int rows = 0;
  for (const OpDef* op : all_ops()) {
    const ScalarRow& row = op->scalar;
    if (!row) continue;
    ++rows;
    const std::string text = row.text ? row.text : "";
    EXPECT_FALSE(text.empty()) << row.name;
    std::set<std::string> known = language;
    known.insert(row.operands, row.operands + row.arity());
    known.insert(row.params, row.params + row.n_params());
    for (std::sregex_iterator m(text.begin(), text.end(), word), end; m != end; ++m)
      EXPECT_TRUE(known.contains(m->str())) << row.name << ": " << m->str() << " in " << text;
  }
  EXPECT_GE(rows, 51);
}

}  // namespace
}  // namespace whence::cpu
