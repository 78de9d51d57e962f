// Tensors made of numbers: random ones, ranges, the identity; and parts by position.
#include <algorithm>
#include <cmath>
#include <ostream>

#include "whence/tensor/philox.h"
#include "whence/tensor/tensor.h"

namespace whence {

namespace {

// The elements as f(0), f(1), .. in f64, converted.
template <class F> Tensor made(const Shape& shape, DType dtype, F&& f) {
  Tensor t = Tensor::empty(shape, f64);
  double* p = t.data<double>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = f(i);
  return t.to(dtype);
}

[[noreturn]] void refuse(const std::string& what) { throw ValueError(what); }

}  // namespace

Tensor Tensor::rand(const Shape& shape, uint64_t seed, DType dtype) {
  if (dtype == f64)
    return made(shape, dtype, [&](int64_t i) {
      const philox::Words w = philox::words(seed, 0, uint64_t(i) / 2);
      return philox::uniform53(w.w[i % 2 * 2], w.w[i % 2 * 2 + 1]);
    });
  return made(shape, dtype,
              [&](int64_t i) { return double(philox::uniform24(philox::words(seed, 0, uint64_t(i) / 4).w[i % 4])); });
}

Tensor Tensor::randn(const Shape& shape, uint64_t seed, DType dtype) {
  return made(shape, dtype, [&](int64_t i) {  // Box-Muller: a block makes a pair
    const philox::Words w = philox::words(seed, 1, uint64_t(i) / 2);
    const double radius = std::sqrt(-2 * std::log(1 - philox::uniform53(w.w[0], w.w[1])));
    const double angle = 6.283185307179586477 * philox::uniform53(w.w[2], w.w[3]);
    return radius * (i % 2 ? std::sin(angle) : std::cos(angle));
  });
}

Tensor Tensor::randint(int64_t low, int64_t high, const Shape& shape, uint64_t seed, DType dtype) {
  if (low >= high) refuse("randint: [" + std::to_string(low) + ", " + std::to_string(high) + ") is empty");
  Tensor t = empty(shape, i64);
  const uint64_t range = uint64_t(high) - uint64_t(low);
  for (int64_t i = 0; i < t.numel(); ++i) {
    const philox::Words w = philox::words(seed, 2, uint64_t(i));
    const uint64_t bits = uint64_t(w.w[0]) << 32 | w.w[1];
    t.data<int64_t>()[i] = int64_t(uint64_t(low) + uint64_t(static_cast<unsigned __int128>(bits) * range >> 64));
  }
  return t.to(dtype);
}

Tensor Tensor::arange(int64_t n, DType dtype) {
  if (n < 0) refuse("arange: " + std::to_string(n) + " elements");
  Tensor t = empty({n}, i64);
  for (int64_t i = 0; i < n; ++i) t.data<int64_t>()[i] = i;
  return t.to(dtype);
}

Tensor Tensor::arange(double begin, double end, double step, DType dtype) {
  const double n = std::ceil((end - begin) / step);
  if (!std::isfinite(n))
    refuse("arange: from " + std::to_string(begin) + " to " + std::to_string(end) + " in steps of " +
           std::to_string(step));
  return made({std::max<int64_t>(0, int64_t(n))}, dtype, [&](int64_t i) { return begin + double(i) * step; });
}

Tensor Tensor::eye(int64_t n, DType dtype) {
  Tensor t = zeros({n, n}, dtype);
  t.reshaped({n * n}).slice(0, 0, n * n, n + 1).fill(1);
  return t;
}

Tensor Tensor::linspace(double begin, double end, int64_t n, DType dtype) {
  return made({n}, dtype, [&](int64_t i) {  // both ends exact, and symmetric
    if (n == 1) return begin;
    const double step = (end - begin) / double(n - 1);
    return 2 * i < n ? begin + double(i) * step : end - double(n - 1 - i) * step;
  });
}

Tensor Tensor::logspace(double begin, double end, int64_t n, double base, DType dtype) {
  Tensor t = linspace(begin, end, n, f64);
  for (int64_t i = 0; i < n; ++i) t.data<double>()[i] = std::pow(base, t.data<double>()[i]);
  return t.to(dtype);
}

Tensor Tensor::at(std::initializer_list<Index> parts) const {
  if (int(parts.size()) > rank())
    throw ShapeError("at: " + std::to_string(parts.size()) + " parts of a tensor with " + std::to_string(rank()) +
                     " axes, " + shape().str());
  Tensor t = *this;
  int axis = 0;
  for (const Index& i : parts) {
    if (!i.position) {
      t = t.slice(axis++, i.part.begin, i.part.end, i.part.step);
      continue;
    }
    const int64_t n = t.shape_[axis], at = i.part.begin < 0 ? i.part.begin + n : i.part.begin;
    if (at < 0 || at >= n)
      throw ShapeError("at: " + std::to_string(i.part.begin) + " is outside axis " + std::to_string(axis) + " of " +
                       t.shape_.str());
    t = t.slice(axis, at, at + 1);
    t.shape_.erase(axis);
    t.strides_.erase(axis);
  }
  return t;
}

std::ostream& operator<<(std::ostream& out, const Tensor& t) { return out << t.str(); }
std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.str(); }

}  // namespace whence
