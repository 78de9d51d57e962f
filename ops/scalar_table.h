// The library's scalar functions, a row each: name, domain (ScalarRow), operands, parameters, expression. The CPU
// compiles the expressions for registers (ops/cpu/unary_binary.cpp); the text in each row is for devices that compile
// at run time. What is stored is converted to the result's dtype, so that a cast is the identity.
#pragma once
#include "whence/ops/scalar_row.h"

#define WHENCE_SCALAR_TABLE(X)                                        \
  X(abs, number, (x), (), magnitude(x))                               \
  X(cast, any, (x), (), x)                                            \
  X(clamp, real, (x), (low, high), clamp(x, low, high))               \
  X(cos, real, (x), (), cos(x))                                       \
  X(erf, real, (x), (), erf(x))                                       \
  X(exp, real, (x), (), exp(x))                                       \
  X(expm1, real, (x), (), expm1(x))                                   \
  X(floor, real, (x), (), floor(x))                                   \
  X(gelu, real, (x), (), gelu(x))                                     \
  X(gelu_tanh, real, (x), (), gelu_tanh(x))                           \
  X(leaky_relu, real, (x), (slope), leaky_relu(x, slope))             \
  X(log, real, (x), (), log(x))                                       \
  X(log1p, real, (x), (), log1p(x))                                   \
  X(log_sigmoid, real, (x), (), log_sigmoid(x))                       \
  X(logical_not, logical, (a), (), a == T(0))                         \
  X(neg, number, (x), (), neg(x))                                     \
  X(reciprocal, real, (x), (), reciprocal(x))                         \
  X(relu, real, (x), (), relu(x))                                     \
  X(round, real, (x), (), rint(x))                                    \
  X(rsqrt, real, (x), (), rsqrt(x))                                   \
  X(sigmoid, real, (x), (), sigmoid(x))                               \
  X(sign, real, (x), (), sign(x))                                     \
  X(silu, real, (x), (), silu(x))                                     \
  X(sin, real, (x), (), sin(x))                                       \
  X(softplus, real, (x), (beta), softplus(x, beta))                   \
  X(sqrt, real, (x), (), sqrt(x))                                     \
  X(square, number, (x), (), square(x))                               \
  X(tanh, real, (x), (), tanh(x))                                     \
                                                                      \
  X(add, number, (a, b), (), add(a, b))                               \
  X(d_clamp, real, (x, dy), (low, high), d_clamp(x, dy, low, high))   \
  X(d_gelu, real, (x, dy), (), d_gelu(x, dy))                         \
  X(d_gelu_tanh, real, (x, dy), (), d_gelu_tanh(x, dy))               \
  X(d_leaky_relu, real, (x, dy), (slope), d_leaky_relu(x, dy, slope)) \
  X(d_relu, real, (x, dy), (), d_relu(x, dy))                         \
  X(d_sigmoid, real, (y, dy), (), d_sigmoid(y, dy))                   \
  X(d_silu, real, (x, dy), (), d_silu(x, dy))                         \
  X(d_tanh, real, (y, dy), (), d_tanh(y, dy))                         \
  X(div, real, (a, b), (), div(a, b))                                 \
  X(equal, comparison, (a, b), (), a == b)                            \
  X(greater, comparison, (a, b), (), a > b)                           \
  X(greater_equal, comparison, (a, b), (), a >= b)                    \
  X(less, comparison, (a, b), (), a < b)                              \
  X(less_equal, comparison, (a, b), (), a <= b)                       \
  X(logaddexp, real, (a, b), (), logaddexp(a, b))                     \
  X(logical_and, logical, (a, b), (), (a != T(0)) & (b != T(0)))      \
  X(logical_or, logical, (a, b), (), (a != T(0)) | (b != T(0)))       \
  X(maximum, number, (a, b), (), maximum(a, b))                       \
  X(minimum, number, (a, b), (), minimum(a, b))                       \
  X(mul, number, (a, b), (), mul(a, b))                               \
  X(not_equal, comparison, (a, b), (), a != b)                        \
  X(pow, real, (a, b), (), pow(a, b))                                 \
  X(sub, number, (a, b), (), sub(a, b))                               \
                                                                      \
  X(where, any, (condition, a, b), (), select(condition, a, b))

namespace whence {
#define WHENCE_ROW(NAME, ...) inline constexpr ScalarRow NAME##_row = WHENCE_SCALAR_ROW(NAME, __VA_ARGS__);
WHENCE_SCALAR_TABLE(WHENCE_ROW)
#undef WHENCE_ROW

namespace scalar {
#define WHENCE_ROW(NAME, DOMAIN, ...) WHENCE_SCALAR_FUNCTOR(NAME, __VA_ARGS__)
WHENCE_SCALAR_TABLE(WHENCE_ROW)
#undef WHENCE_ROW
}  // namespace scalar
}  // namespace whence
