// Tensor: a plain value (shared buffer + layout) with no autograd state.
#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "tensor/memory.h"

namespace whence {

class Tensor {
 public:
  Tensor() = default;  ///< undefined: defined() is false
  /// Not initialised. \throws ShapeError for a negative extent or one whose bytes overflow, std::bad_alloc, DeviceError
  static Tensor empty(const Shape& shape, DType dtype = f32, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype = f32);
  static Tensor full(const Shape& shape, double value, DType dtype = f32);
  static Tensor scalar(double value, DType dtype = f32) { return full({}, value, dtype); }
  /// Copies values in row-major order. \throws ShapeError when the count differs from the shape.
  template <class T> static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T> static Tensor from(const std::vector<T>& values) { return from(values, {int64_t(values.size())}); }
  /// A window on an existing buffer, offset in bytes.
  static Tensor wrap(std::shared_ptr<Buffer> buffer, size_t offset, const Shape& shape, DType dtype);

  /// A strided window on base's own memory: what a view op made of base.view().
  static Tensor window(const Tensor& base, const View& seen);

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  DType dtype() const { return dtype_; }
  Device device() const { return buffer_ ? buffer_->device() : Device{}; }
  int64_t numel() const { return shape_.numel(); }
  int rank() const { return shape_.rank(); }
  int64_t size(int axis) const { return shape_[normalize_axis(axis, rank())]; }
  size_t nbytes() const { return size_t(numel()) * size_of(dtype_); }
  bool contiguous() const { return view().contiguous(); }
  View view() const { return {raw(), dtype_, shape_, strides_}; }
  void* raw() const { return buffer_ ? buffer_->data() + offset_ : nullptr; }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }

  /// Typed pointer to the first element. \throws DTypeError when T is not the dtype, DeviceError when the memory is a
  /// device's: to_vector(), item() and str() download it.
  template <class T> T* data() const {
    check_readable(dtype_of<T>::value);
    return static_cast<T*>(raw());
  }
  /// One element of a one-element tensor, or of a flat row-major index, converted to double.
  double item(int64_t flat = 0) const;
  /// All elements in row-major order, converted.
  template <class T> std::vector<T> to_vector() const;

  // Views: share memory, cost nothing.
  Tensor transposed(int a = -2, int b = -1) const;
  Tensor permuted(const Shape& axes) const;
  Tensor slice(int axis, int64_t begin, int64_t end, int64_t step = 1) const;
  Tensor broadcast_to(const Shape& shape) const;
  Tensor reshaped(const Shape& shape) const;  ///< copies when the layout needs it; one extent may be -1

  Tensor contiguous_copy() const;
  Tensor contiguous_tensor() const { return contiguous() ? *this : contiguous_copy(); }
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;           ///< itself when it is there already; else a contiguous copy
  void copy_from(const Tensor& src) const;  ///< same shape, any dtype and device
  void fill(double value) const;
  std::string str(int64_t max_per_axis = 6) const;  ///< printed as NumPy would

 private:
  void check_readable(DType want) const;
  void check_defined(const char* what) const;
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;  // bytes
  Shape shape_, strides_;
  DType dtype_ = f32;
};

/// max |a - b|, infinity when either holds a NaN the other has not. Shapes must be equal.
double max_abs_diff(const Tensor& a, const Tensor& b);
/// Same shape, dtype and bits.
bool bitwise_equal(const Tensor& a, const Tensor& b);

template <class T> Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
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
  return std::vector<T>(p, p + numel());
}

}  // namespace whence
