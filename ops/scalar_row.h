// WHENCE_SCALAR: the function of an elementwise op, written once, as a row that OpDef::scalar takes.
//
//   WHENCE_SCALAR(softsign, (x), (), x / (T(1) + abs(x)));                   // ScalarRow softsign_row
//   WHENCE_SCALAR(scaled_sum, (a, b), (alpha), a + alpha * b);
//
// operands, parameters (real attributes of the op) and an expression in the language of ops/scalar.h, T being the type
// it computes in. The row holds the expression as text, for devices that compile it, and plain loops in f32 and f64,
// compiled where the macro stands; operands of halves are cast around them. Any namespace scope.
#pragma once
#include <cstdint>

#include "whence/autograd/scalar_row.h"
#include "whence/ops/scalar.h"

#if defined(__clang__)
#define WHENCE_ELEMENTS_ _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define WHENCE_ELEMENTS_ _Pragma("GCC ivdep")
#else
#define WHENCE_ELEMENTS_
#endif

namespace whence::scalar {

/// y[i] = f(x[i]) from A to R; F is a struct that WHENCE_SCALAR_FUNCTOR made.
template <class A, class R, class F> void plain_unary(const void* xv, void* yv, int64_t n, const double* params) {
  auto x = static_cast<const A*>(xv);
  auto y = static_cast<R*>(yv);
  A p[F::params + 1];
  for (int k = 0; k < F::params; ++k) p[k] = A(params[k]);
  WHENCE_ELEMENTS_
  for (int64_t i = 0; i < n; ++i) y[i] = R(F{}(x[i], p));
}

/// y[i] = f(a[i * sa], b[i * sb]).
template <class A, class R, class F>
void plain_binary(const void* av, int sa, const void* bv, int sb, void* yv, int64_t n, const double* params) {
  auto a = static_cast<const A*>(av), b = static_cast<const A*>(bv);
  auto y = static_cast<R*>(yv);
  A p[F::params + 1];
  for (int k = 0; k < F::params; ++k) p[k] = A(params[k]);
  if (n <= 0) return;
  const A first = *a, second = *b;
  if (sa && sb) {
    WHENCE_ELEMENTS_
    for (int64_t i = 0; i < n; ++i) y[i] = R(F{}(a[i], b[i], p));
  } else if (sa) {
    WHENCE_ELEMENTS_
    for (int64_t i = 0; i < n; ++i) y[i] = R(F{}(a[i], second, p));
  } else if (sb) {
    WHENCE_ELEMENTS_
    for (int64_t i = 0; i < n; ++i) y[i] = R(F{}(first, b[i], p));
  } else {
    const R all = R(F{}(first, second, p));
    for (int64_t i = 0; i < n; ++i) y[i] = all;
  }
}

/// The row with plain loops of F.
template <class F> constexpr ScalarRow with_loops(ScalarRow row) {
  static_assert(F::arity == 1 || F::arity == 2, "a scalar function of one's own takes one or two operands");
  if constexpr (F::arity == 1) {
    row.unary_f32 = plain_unary<float, float, F>;
    row.unary_f64 = plain_unary<double, double, F>;
  } else {
    row.binary_f32 = plain_binary<float, float, F>;
    row.binary_f64 = plain_binary<double, double, F>;
  }
  return row;
}

}  // namespace whence::scalar

// Lists in parentheses, of up to four names: how many, as strings, as function parameters, as values from an array.
#define WHENCE_PICK_(_0, _1, _2, _3, _4, NAME, ...) NAME
#define WHENCE_BY_COUNT_(M, ...) WHENCE_PICK_(0 __VA_OPT__(, ) __VA_ARGS__, M##4, M##3, M##2, M##1, M##0, )(__VA_ARGS__)
#define WHENCE_COUNT_(...) WHENCE_BY_COUNT_(WHENCE_COUNT_, __VA_ARGS__)
#define WHENCE_COUNT_0() 0
#define WHENCE_COUNT_1(a) 1
#define WHENCE_COUNT_2(a, b) 2
#define WHENCE_COUNT_3(a, b, c) 3
#define WHENCE_COUNT_4(a, b, c, d) 4
#define WHENCE_NAMES_(...) WHENCE_BY_COUNT_(WHENCE_NAMES_, __VA_ARGS__)
#define WHENCE_NAMES_0()
#define WHENCE_NAMES_1(a) #a
#define WHENCE_NAMES_2(a, b) #a, #b
#define WHENCE_NAMES_3(a, b, c) #a, #b, #c
#define WHENCE_NAMES_4(a, b, c, d) #a, #b, #c, #d
#define WHENCE_TAKES_(...) WHENCE_BY_COUNT_(WHENCE_TAKES_, __VA_ARGS__)
#define WHENCE_TAKES_1(a) T a
#define WHENCE_TAKES_2(a, b) T a, T b
#define WHENCE_TAKES_3(a, b, c) bool a, T b, T c
#define WHENCE_VALUES_(...) WHENCE_BY_COUNT_(WHENCE_VALUES_, __VA_ARGS__)
#define WHENCE_VALUES_0()
#define WHENCE_VALUES_1(a) const T a = params_[0];
#define WHENCE_VALUES_2(a, b) WHENCE_VALUES_1(a) const T b = params_[1];
#define WHENCE_VALUES_3(a, b, c) WHENCE_VALUES_2(a, b) const T c = params_[2];
#define WHENCE_VALUES_4(a, b, c, d) WHENCE_VALUES_3(a, b, c) const T d = params_[3];

/// struct NAME_functor: the expression for any T.
#define WHENCE_SCALAR_FUNCTOR(NAME, OPERANDS, PARAMS, ...)                                                \
  struct NAME##_functor {                                                                                 \
    static constexpr int arity = WHENCE_COUNT_ OPERANDS, params = WHENCE_COUNT_ PARAMS;                   \
    template <class T> auto operator()(WHENCE_TAKES_ OPERANDS, [[maybe_unused]] const T* params_) const { \
      using namespace ::whence::scalar;                                                                   \
      WHENCE_VALUES_ PARAMS return __VA_ARGS__;                                                           \
    }                                                                                                     \
  };

/// The row without loops: a constant expression.
#define WHENCE_SCALAR_ROW(NAME, DOMAIN, OPERANDS, PARAMS, ...)                                  \
  ::whence::ScalarRow {                                                                         \
    .name = #NAME, .domain = ::whence::ScalarRow::DOMAIN, .operands = {WHENCE_NAMES_ OPERANDS}, \
    .params = {WHENCE_NAMES_ PARAMS}, .text = #__VA_ARGS__                                      \
  }

#define WHENCE_SCALAR(NAME, OPERANDS, PARAMS, ...)           \
  WHENCE_SCALAR_FUNCTOR(NAME, OPERANDS, PARAMS, __VA_ARGS__) \
  static constexpr ::whence::ScalarRow NAME##_row =          \
      ::whence::scalar::with_loops<NAME##_functor>(WHENCE_SCALAR_ROW(NAME, real, OPERANDS, PARAMS, __VA_ARGS__))
