// Shape: the extents of a tensor, at most eight, stored inline. Also used for strides and axis lists.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace whence {

class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;  ///< [], a scalar's
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  /// \throws ShapeError beyond eight dimensions.
  explicit Shape(std::span<const int64_t> dims);
  static Shape filled(int rank, int64_t value);  ///< \throws ShapeError beyond eight dimensions

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return d_[i < 0 ? i + rank_ : i]; }  ///< negative counts from the end; unchecked
  int64_t& operator[](int i) { return d_[i < 0 ? i + rank_ : i]; }
  /// The product of the extents: 1 for []. Of a shape that check_extents accepts.
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= d_[i];
    return n;
  }
  const int64_t* begin() const { return d_.data(); }
  const int64_t* end() const { return d_.data() + rank_; }
  int64_t* begin() { return d_.data(); }
  int64_t* end() { return d_.data() + rank_; }
  bool empty() const { return rank_ == 0; }     ///< no axes; not: no elements
  int64_t back() const { return (*this)[-1]; }  ///< of a shape with axes
  void push_back(int64_t v);                    ///< \throws ShapeError beyond eight dimensions
  void insert(int at, int64_t v);               ///< before axis `at`, 0 to rank. \throws likewise
  void erase(int at);                           ///< axis `at`, 0 to rank - 1
  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (d_[i] != o.d_[i]) return false;
    return true;
  }
  std::string str() const;  ///< "[32, 768]"

 private:
  std::array<int64_t, kMaxRank> d_{};
  int rank_ = 0;
};

/// Row-major strides in elements.
Shape contiguous_strides(const Shape& shape);
/// NumPy broadcasting of two shapes. \throws ShapeError naming both.
Shape broadcast_shapes(const Shape& a, const Shape& b);
/// True when broadcast_shapes(from, to) is to.
bool broadcastable_to(const Shape& from, const Shape& to);
/// \throws ShapeError for a negative extent, and where the bytes (an extent of 0 counting as 1) are more than 2^50, so
/// that sums and products of a few sizes fit into int64
void check_extents(const Shape& shape, size_t element_bytes = 1);
/// a + b and a b of extents and what is added to them. \throws ShapeError where int64 overflows
int64_t add_extents(int64_t a, int64_t b);
int64_t multiply_extents(int64_t a, int64_t b);
/// How many of [begin, end) are left in steps of `step`, which is 1 or more; begin <= end.
inline int64_t steps_between(int64_t begin, int64_t end, int64_t step) {
  return begin == end ? 0 : (end - begin - 1) / step + 1;
}
/// Maps axis in [-rank, rank) to [0, rank). \throws ShapeError.
int normalize_axis(int64_t axis, int rank);

}  // namespace whence
