#include "whence/tensor/shape.h"

#include <algorithm>

#include "whence/tensor/error.h"

namespace whence {

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > size_t(kMaxRank))
    throw ShapeError("a tensor has at most 8 dimensions, got " + std::to_string(dims.size()));
  std::copy(dims.begin(), dims.end(), d_.begin());
  rank_ = int(dims.size());
}

Shape Shape::filled(int rank, int64_t value) {
  Shape s;
  for (int i = 0; i < rank; ++i) s.push_back(value);
  return s;
}

void Shape::push_back(int64_t v) { insert(rank_, v); }

void Shape::insert(int at, int64_t v) {
  if (rank_ == kMaxRank) throw ShapeError("a tensor has at most 8 dimensions, " + str() + " cannot take another");
  std::copy_backward(d_.begin() + at, d_.begin() + rank_, d_.begin() + rank_ + 1);
  d_[at] = v;
  ++rank_;
}

void Shape::erase(int at) {
  std::copy(d_.begin() + at + 1, d_.begin() + rank_, d_.begin() + at);
  d_[--rank_] = 0;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(d_[i]);
  return s + "]";
}

Shape contiguous_strides(const Shape& shape) {
  Shape s = shape;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    s[i] = step;
    step *= shape[i];
  }
  return s;
}

void check_extents(const Shape& shape, size_t element_bytes) {
  int64_t bytes = int64_t(element_bytes);
  for (int64_t d : shape) {
    if (d < 0) throw ShapeError("negative extent in " + shape.str());
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(d, 1), &bytes) || bytes > int64_t(1) << 50)
      throw ShapeError("a tensor " + shape.str() + " has more bytes than an address space");
  }
}

int64_t add_extents(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  throw ShapeError("extents " + std::to_string(a) + " and " + std::to_string(b) +
                   " add up to more than an integer holds");
}
int64_t multiply_extents(int64_t a, int64_t b) {
  int64_t product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return product;
  throw ShapeError(std::to_string(a) + " times an extent of " + std::to_string(b) + " is more than an integer holds");
}

bool broadcastable_to(const Shape& from, const Shape& to) {
  if (from.rank() > to.rank()) return false;
  for (int i = 1; i <= from.rank(); ++i)
    if (from[-i] != to[-i] && from[-i] != 1) return false;
  return true;
}

Shape broadcast_shapes(const Shape& a, const Shape& b) {
  Shape r = a.rank() >= b.rank() ? a : b;
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i) {
    if (a[-i] != b[-i] && a[-i] != 1 && b[-i] != 1)
      throw ShapeError("cannot broadcast " + a.str() + " with " + b.str());
    r[-i] = a[-i] == 1 ? b[-i] : a[-i];
  }
  return r;
}

int normalize_axis(int64_t axis, int rank) {
  if (axis < -rank || axis >= rank)
    throw ShapeError("axis " + std::to_string(axis) + " is outside a tensor of rank " + std::to_string(rank));
  return int(axis < 0 ? axis + rank : axis);
}

}  // namespace whence
