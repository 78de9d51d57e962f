// op/unary, op/binary and op/complex.
#include "tests/goldens/complex.h"
#include "tests/goldens/hf_ops.h"

namespace whence::goldens {
namespace {

Builder unary(Var (*f)(Arg)) {
  return [f](OpCase& o) { return y(f(o("x"))); };
}
Builder binary(Var (*f)(Arg, Arg)) {
  return [f](OpCase& o) { return y(f(o("a"), o("b"))); };
}

Builder complex(Complex (*f)(Complex, Complex)) {
  return [f](OpCase& o) { return y(f(Complex(o("a")), Complex(o("b"))).pair()); };
}

}  // namespace

const Table& elementwise_cases() {
  static const Table t{
      {"unary/abs", unary(abs)},
      {"unary/atan", unary(atan)},
      {"unary/cos", unary(cos)},
      {"unary/erf", unary(erf)},
      {"unary/exp", unary(exp)},
      {"unary/expm1", unary(expm1)},
      {"unary/gelu_erf", unary(gelu)},
      {"unary/gelu_tanh", unary(gelu_tanh)},
      {"unary/hardsigmoid", unary(hardsigmoid)},
      {"unary/hardswish", unary(hardswish)},
      {"unary/log", unary(log)},
      {"unary/log1p", unary(log1p)},
      {"unary/logit", unary(logit)},
      {"unary/logsigmoid", unary(log_sigmoid)},
      {"unary/mish", unary(mish)},
      {"unary/quick_gelu", unary(quick_gelu)},
      {"unary/reciprocal", unary(reciprocal)},
      {"unary/relu", unary(relu)},
      {"unary/relu6", unary(relu6)},
      {"unary/rsqrt", unary(rsqrt)},
      {"unary/sigmoid", unary(sigmoid)},
      {"unary/silu", unary(silu)},
      {"unary/sin", unary(sin)},
      {"unary/softplus", unary(softplus)},
      {"unary/softsign", unary(softsign)},
      {"unary/sqrt", unary(sqrt)},
      {"unary/square", unary(square)},
      {"unary/tanh", unary(tanh)},
      {"unary/clamp", of_x([](OpCase&, Var x) { return clamp(x, -0.7, 0.9); })},
      {"unary/elu", of_x([](OpCase&, Var x) { return elu(x, 1.3); })},
      {"unary/leaky_relu", of_x([](OpCase&, Var x) { return leaky_relu(x, 0.1); })},
      {"unary/log_abs_exp_chain", of_x([](OpCase&, Var x) { return log(abs(exp(x) + exp(-x))); })},
      {"unary/softcap", of_x([](OpCase&, Var x) { return softcap(x, 5); })},
      {"unary/softplus_beta2", of_x([](OpCase&, Var x) { return softplus(x, 2); })},
      {"unary/softshrink", of_x([](OpCase&, Var x) { return softshrink(x, 0.5); })},
      {"unary/swish_beta", of_x([](OpCase&, Var x) { return swish(x, 1.5); })},
      {"unary/pow3", of_x([](OpCase&, Var x) { return square(x) * x; })},
      {"unary/pow_2p5", of_x([](OpCase&, Var x) { return pow(x, 2.5); })},
      {"unary/geglu", of_x([](OpCase&, Var x) { return geglu(x); })},
      {"unary/swiglu", of_x([](OpCase&, Var x) { return swiglu(x); })},
      {"unary/glu_sigmoid", of_x([](OpCase&, Var x) { return glu(x); })},
      {"unary/prelu", of_x([](OpCase& o, Var x) { return prelu(x, o("weight")); })},

      {"binary/add", binary(add)},
      {"binary/atan2", binary(atan2)},
      {"binary/div", binary(div)},
      {"binary/logaddexp", binary(logaddexp)},
      {"binary/maximum", binary(maximum)},
      {"binary/minimum", binary(minimum)},
      {"binary/mul", binary(mul)},
      {"binary/pow", binary(pow)},
      {"binary/sub", binary(sub)},
      {"binary/where", just([](OpCase& o) { return where(greater(o("a"), o("b")), o("a") * 2.0, o("b") * 3.0); })},

      {"complex/mul", complex([](Complex a, Complex b) { return a * b; })},
      {"complex/conj_mul", complex([](Complex a, Complex b) { return conjugate(a) * b; })},
      {"complex/div", complex([](Complex a, Complex b) { return a / b; })},
      {"complex/exp", complex([](Complex a, Complex) { return complex_exp(a); })},
      {"complex/abs", just([](OpCase& o) { return norm2(o("a"), {-1}); })},
  };
  return t;
}

}  // namespace whence::goldens
