// Fourier transforms against their sums, for every kind of length; padding, cropping, norms, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "tests/thrown.h"
#include "whence/ops/fft.h"
#include "whence/whence.h"

using namespace whence;

namespace {

using Complex = std::complex<double>;
using Line = std::vector<Complex>;

Line transformed(const Line& x, size_t n, bool inverse = false) {
  Line y(n);
  for (size_t k = 0; k < n; ++k)
    for (size_t t = 0; t < std::min(n, x.size()); ++t)
      y[k] += x[t] * std::polar(1.0, (inverse ? 2 : -2) * M_PI * double(k * t % n) / double(n));
  return y;
}
Line line(size_t n, size_t seed) {
  Line x(n);
  for (size_t t = 0; t < n; ++t)
    x[t] = {std::sin(double(3 * t + seed) * 1.7), std::cos(double(t * t % 97 + seed) * 0.9)};
  return x;
}
Tensor pairs(const Line& x, DType dtype = f64) {
  std::vector<double> v;
  for (const Complex& c : x) v.push_back(c.real()), v.push_back(c.imag());
  return Tensor::from(v, {int64_t(x.size()), 2}).to(dtype);
}
double error(const Tensor& got, const Line& want) {
  std::vector<double> v = got.to_vector<double>();
  double worst = v.size() == 2 * want.size() ? 0 : INFINITY, size = 1e-300;
  for (size_t i = 0; i < want.size() && std::isfinite(worst); ++i) {
    worst = std::max(worst, std::abs(Complex(v[2 * i], v[2 * i + 1]) - want[i]));
    size = std::max(size, std::abs(want[i]));
  }
  return worst / size;
}

TEST(Fft, EqualsItsSumForEveryKindOfLength) {
  // Powers of two and four, odd factors, primes with a radix of their own, primes that become convolutions.
  for (size_t n :
       {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 27, 30, 31, 32, 37, 60, 62, 64, 74, 97, 101, 128, 360, 1009, 1024}) {
    SCOPED_TRACE(n);
    Graph g(Graph::Mode::immediate);
    Line x = line(n, n), y = transformed(x, n);
    for (DType t : {f64, f32}) {
      Var v = g.constant(pairs(x, t));
      EXPECT_LT(error(fft(v).value(), y), t == f64 ? 1e-14 * double(n + 50) : 2e-6);
      EXPECT_LT(error(ifft(fft(v)).value(), x), t == f64 ? 1e-14 * double(n + 50) : 2e-6);
      Var re = select(v, -1, 0);
      Line real = x;
      for (Complex& c : real) c = c.real();
      Line half = transformed(real, n);
      half.resize(n / 2 + 1);
      EXPECT_LT(error(rfft(re).value(), half), t == f64 ? 1e-14 * double(n + 50) : 2e-6);
      Var back = irfft(rfft(re), int64_t(n));
      EXPECT_LT(error(stack({back, zeros_like(back)}, -1).value(), real), t == f64 ? 1e-14 * double(n + 50) : 2e-6);
    }
  }
}

TEST(Fft, AnyAxisAndManyLines) {
  // 5 x 12 x 21 lines, more than one block of them; the values of each stand alone.
  Graph g(Graph::Mode::immediate);
  Tensor x = Tensor::randn({5, 12, 21, 2}, 3, f64);
  Var v = g.constant(x);
  Tensor y = fft(v, 0, 1).value(), z = fft(permute(v, {0, 2, 1, 3})).value();
  EXPECT_TRUE(bitwise_equal(y, permute(g.constant(z), {0, 2, 1, 3}).value().contiguous_copy()));
  EXPECT_TRUE(bitwise_equal(y, fft(v, 0, -2).value()));
}

TEST(Fft, PadsCropsAndDivides) {
  Graph g(Graph::Mode::immediate);
  Line x = line(6, 1);
  Var v = g.constant(pairs(x));
  EXPECT_LT(error(fft(v, 10).value(), transformed(x, 10)), 1e-14);
  EXPECT_LT(error(fft(v, 4).value(), transformed(x, 4)), 1e-14);
  auto divided = [](Line y, double by) {
    for (Complex& c : y) c /= by;
    return y;
  };
  Line y = transformed(x, 6), z = transformed(x, 6, true);
  EXPECT_LT(error(fft(v, 0, -1, FftNorm::forward).value(), divided(y, 6)), 1e-14);
  EXPECT_LT(error(fft(v, 0, -1, FftNorm::ortho).value(), divided(y, std::sqrt(6))), 1e-14);
  EXPECT_LT(error(ifft(v).value(), divided(z, 6)), 1e-14);
  EXPECT_LT(error(ifft(v, 0, -1, FftNorm::forward).value(), z), 1e-14);
  // irfft's default is even, and takes nothing from the imaginary parts of its ends.
  EXPECT_EQ(irfft(v).shape(), (Shape{10}));
  Line w = x;
  w[0] = w[0].real(), w[5] = w[5].real();
  EXPECT_TRUE(bitwise_equal(irfft(v).value(), irfft(g.constant(pairs(w))).value()));
}

TEST(Fft, TwoAxes) {
  Graph g(Graph::Mode::immediate);
  Var x = g.constant(Tensor::randn({2, 6, 5}, 5, f64)), z = stack({x, zeros_like(x)}, -1);
  auto close = [](Var a, Var b) { EXPECT_LT(max(abs(a - b)).value().item(), 1e-14 * 30); };
  close(irfft2(rfft2(x), {6, 5}), x);
  close(slice(fft2(z), 2, 0, 3), rfft2(x));
  close(ifft2(fft2(z)), z);
  close(fft2(z, {8, 4}), fft(fft(z, 8, -2), 4, -1));
}

TEST(Fft, RefusesWhatHasNoTransform) {
  Graph g;
  Var x = g.input("x", {4, 3}), z = g.input("z", {4, 2}), one = g.input("one", {1, 2});
  EXPECT_THROW(fft(x), ShapeError);
  EXPECT_THROW(fft(z, 0, 1), ShapeError);
  EXPECT_THROW(rfft(x, -1), ValueError);
  EXPECT_THROW(irfft(one), ValueError);  // 2 (1 - 1) values
  EXPECT_THROW(fft2(g.input("p", {4, 3, 2}), {4}), ValueError);
  EXPECT_THROW(rfft(g.input("i", {4}, i32)), DTypeError);
  EXPECT_THAT(thrown([&] { fft(x); }), testing::HasSubstr("stack({re, im}, -1)"));
}

TEST(Fft, ThreadsChangeNothing) {
  Graph g(Graph::Mode::immediate);
  Var x = g.constant(Tensor::randn({77, 300}, 9));
  Tensor y = rfft(x).value();
  cpu::set_num_threads(1);
  EXPECT_TRUE(bitwise_equal(y, rfft(x).value()));
  cpu::set_num_threads(0);
}

}  // namespace
