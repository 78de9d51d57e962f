// op/fft and op/linalg.
#include "tests/goldens/complex.h"
#include "tests/goldens/hf_ops.h"

namespace whence::goldens {
namespace {

FftNorm norm_of(const OpCase& o) {
  const std::string name = o.given("norm") ? o.config.at("norm").get<std::string>() : "backward";
  return name == "ortho" ? FftNorm::ortho : name == "forward" ? FftNorm::forward : FftNorm::backward;
}
Builder transform(Var (*f)(Arg, int64_t, int64_t, FftNorm)) {
  return just([f](OpCase& o) { return f(o("x"), o.integer("n", 0), -1, norm_of(o)); });
}
Builder transform2(Var (*f)(Arg, const Ints&, FftNorm)) {
  return just([f](OpCase& o) { return f(o("x"), o.given("s") ? o.ints("s", 2, 0) : Ints(), norm_of(o)); });
}

// The first u.size(-1) values of the circular convolution with period n.
Var convolution(Var u, Var k, int64_t n) {
  Var y = irfft((Complex(rfft(u, n)) * Complex(rfft(k, n))).pair(), n);
  return slice(y, -1, 0, u.size(-1));
}

}  // namespace

const Table& algebra_cases() {
  static const Table t{
      {"fft/fft_*", transform(fft)},
      {"fft/ifft_*", transform(ifft)},
      {"fft/rfft_*", transform(rfft)},
      {"fft/irfft_*", transform(irfft)},
      {"fft/rfft2", transform2(rfft2)},
      {"fft/irfft2", transform2(irfft2)},
      {"fft/fnet_mix", of_x([](OpCase&, Var x) {
         return Complex(fft2(stack({x, zeros_like(x)}, -1))).re;
       })},
      {"fft/circular_conv", just([](OpCase& o) { return convolution(o("u"), o("k"), o("u").size(-1)); })},
      {"fft/causal_long_conv", just([](OpCase& o) {
         Var u = o("u");
         return convolution(u, o("k"), 2 * u.size(-1)) + u * unsqueeze(o("D"), -1);
       })},
      {"linalg/cholesky", just([](OpCase& o) { return cholesky(o("a")); })},
      {"linalg/solve", just([](OpCase& o) { return solve(o("a"), o("b")); })},
      {"linalg/logdet", just([](OpCase& o) { return logdet(o("a")); })},
      {"linalg/eigvalsh", just([](OpCase& o) { return eigvalsh(o("a")); })},
  };
  return t;
}

}  // namespace whence::goldens
