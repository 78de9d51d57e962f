// Tensor: a plain value (shared buffer + layout) with no autograd state.
#pragma once
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "whence/tensor/index.h"
#include "whence/tensor/memory.h"

namespace whence {

/// A handle: copies share the buffer, and const speaks of the layout, not of the elements. An undefined tensor can be
/// copied, asked for defined(), device(), raw(), buffer() and str(); all else is a ValueError.
class Tensor {
 public:
  Tensor() = default;  ///< undefined: defined() is false
  /// Not initialised. \throws ShapeError for a negative extent or too many bytes (check_extents), OutOfMemory,
  /// DeviceError
  static Tensor empty(const Shape& shape, DType dtype = f32, Device device = {});
  /// On the CPU, as full and scalar. \throws as empty
  static Tensor zeros(const Shape& shape, DType dtype = f32);
  static Tensor full(const Shape& shape, double value, DType dtype = f32);  ///< value is converted (tensor/convert.h)
  static Tensor scalar(double value, DType dtype = f32) { return full({}, value, dtype); }  ///< shape []
  // Random ones are a function of seed and position alone, equal on every machine.
  static Tensor rand(const Shape& shape, uint64_t seed = 0, DType dtype = f32);   ///< uniform in [0, 1)
  static Tensor randn(const Shape& shape, uint64_t seed = 0, DType dtype = f32);  ///< normal, mean 0, deviation 1
  /// Uniform in low .. high - 1. \throws ValueError for an empty range
  static Tensor randint(int64_t low, int64_t high, const Shape& shape, uint64_t seed = 0, DType dtype = i64);
  static Tensor arange(int64_t n, DType dtype = i64);  ///< 0, 1, .., n - 1
  /// begin, begin + step, .. before end; empty when there is none. \throws ValueError for a step of 0
  static Tensor arange(double begin, double end, double step = 1, DType dtype = f32);
  static Tensor eye(int64_t n, DType dtype = f32);                                             ///< the identity, [n, n]
  static Tensor linspace(double begin, double end, int64_t n, DType dtype = f32);              ///< both ends included
  static Tensor logspace(double begin, double end, int64_t n, double base = 10, DType = f32);  ///< base^linspace
  /// Copies values in row-major order. \throws ShapeError when the count differs from the shape.
  template <class T> static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T> static Tensor from(const std::vector<T>& values) { return from(values, {int64_t(values.size())}); }
  /// A row-major window on an existing buffer, offset in bytes. \throws ShapeError when it reaches beyond the buffer
  static Tensor wrap(std::shared_ptr<Buffer> buffer, size_t offset, const Shape& shape, DType dtype);

  /// A strided window on base's own memory: what a view op made of base.view(). Bounds are not checked.
  static Tensor window(const Tensor& base, const View& seen);

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return defined() ? shape_ : undefined("shape()"); }
  const Shape& strides() const { return defined() ? strides_ : undefined("strides()"); }
  DType dtype() const { return check_defined("dtype()"), dtype_; }
  Device device() const { return buffer_ ? buffer_->device() : Device{}; }
  int64_t numel() const { return shape().numel(); }
  int rank() const { return shape().rank(); }
  int64_t size(int axis) const { return shape()[normalize_axis(axis, rank())]; }  ///< \throws ShapeError
  size_t nbytes() const { return size_t(numel()) * size_of(dtype_); }
  bool contiguous() const { return view().contiguous(); }
  View view() const { return {raw(), dtype_, shape(), strides_}; }
  /// The first element's address, on whatever device; nullptr when undefined.
  void* raw() const { return buffer_ ? buffer_->data() + offset_ : nullptr; }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }

  /// Typed pointer to the first element. \throws DTypeError when T is not the dtype, DeviceError when the memory is a
  /// device's: to_vector(), item() and str() download it
  template <class T> T* data() const {
    check_readable(dtype_of<T>::value);
    return static_cast<T*>(raw());
  }
  /// One element of a one-element tensor, or of a flat row-major index, converted to double. On a device: one copy.
  /// \throws ShapeError for an index outside
  double item(int64_t flat = 0) const;
  /// All elements in row-major order, converted. \throws OutOfMemory
  template <class T> std::vector<T> to_vector() const;

  // Views: share memory, cost nothing.
  Tensor transposed(int a = -2, int b = -1) const;  ///< axes a and b exchanged. \throws ShapeError
  Tensor permuted(const Shape& axes) const;         ///< axis i is axes[i] of this. \throws ShapeError: no permutation
  /// [begin, end) in steps along an axis; negatives count from the end, an end beyond is the end. \throws ShapeError
  Tensor slice(int axis, int64_t begin, int64_t end, int64_t step = 1) const;
  /// t.at({0, _, Slice(1, -1)}) is t[0, :, 1:-1]; axes that are not named stay whole. \throws ShapeError
  Tensor at(std::initializer_list<Index> parts) const;
  Tensor operator[](int64_t i) const { return at({i}); }
  Tensor broadcast_to(const Shape& shape) const;  ///< NumPy's rules, stride 0 where repeated. \throws ShapeError
  /// The same elements in row-major order; copies when the layout needs it; one extent may be -1. \throws ShapeError
  Tensor reshaped(const Shape& shape) const;

  Tensor contiguous_copy() const;  ///< row-major, on the same device
  Tensor contiguous_tensor() const { return contiguous() ? *this : contiguous_copy(); }
  Tensor to(DType dtype) const;    ///< itself when it has the dtype, else a contiguous copy (tensor/convert.h)
  Tensor to(Device device) const;  ///< itself when it is there already, else a contiguous copy. \throws DeviceError
  /// Writes src's elements, of any dtype, layout and device, into this memory. \throws ShapeError when shapes differ
  void copy_from(const Tensor& src) const;
  void fill(double value) const;                    ///< all elements, converted
  std::string str(int64_t max_per_axis = 6) const;  ///< printed as NumPy would

 private:
  void check_readable(DType want) const;
  void check_defined(const char* what) const {
    if (!defined()) undefined(what);
  }
  [[noreturn]] static const Shape& undefined(const char* what);         // \throws ValueError
  [[noreturn]] static void no_memory(const Shape& shape, DType dtype);  // \throws OutOfMemory
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;  // bytes
  Shape shape_, strides_;
  DType dtype_ = f32;
};

std::ostream& operator<<(std::ostream& out, const Tensor& t);  ///< t.str()
std::ostream& operator<<(std::ostream& out, const Shape& s);

/// max |a - b| in f64, infinity when either holds a NaN the other has not; 0 over nothing.
/// \throws ShapeError when shapes differ
double max_abs_diff(const Tensor& a, const Tensor& b);
/// Same shape, dtype and bits.
bool bitwise_equal(const Tensor& a, const Tensor& b);

template <class T> Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  check_extents(shape, size_of(dtype_of<T>::value));
  if (int64_t(values.size()) != shape.numel())
    throw ShapeError("shape " + shape.str() + " holds " + std::to_string(shape.numel()) + " elements, got " +
                     std::to_string(values.size()));
  Tensor t = empty(shape, dtype_of<T>::value);
  T* p = static_cast<T*>(t.raw());
  for (size_t i = 0; i < values.size(); ++i) p[i] = values[i];
  return t;
}

template <class T> std::vector<T> Tensor::to_vector() const {
  Tensor t = to(Device{}).to(dtype_of<T>::value).contiguous_tensor();
  const T* p = static_cast<const T*>(t.raw());
  return or_out_of_memory("to_vector", [&] { return std::vector<T>(p, p + t.numel()); });
}

}  // namespace whence
