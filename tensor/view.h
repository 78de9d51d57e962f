// View: a borrowed, typed, strided window on memory. What kernels see.
#pragma once
#include "whence/tensor/dtype.h"
#include "whence/tensor/shape.h"

namespace whence {

struct View {
  void* data = nullptr;  ///< the first element; of a device's memory only that device may follow it
  DType dtype = f32;
  Shape shape;
  Shape strides;  ///< in elements; 0 repeats

  /// The first element; T is not checked against dtype.
  template <class T> T* as() const { return static_cast<T*>(data); }
  int64_t numel() const { return shape.numel(); }
  /// Row-major without gaps (extents of one may have any stride).
  bool contiguous() const {
    int64_t step = 1;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != step) return shape.numel() == 0;
      step *= shape[i];
    }
    return true;
  }
};

/// Strides that show `from` as `to` by broadcasting; \p from must be broadcastable to \p to.
Shape broadcast_strides(const Shape& from, const Shape& strides, const Shape& to);
/// Strides of a reshape without copy. Returns false when the layout needs one.
bool reshape_strides(const Shape& from, const Shape& strides, const Shape& to, Shape* out);

/// dst = src, converted by the rules of tensor/convert.h, on all cores when large. Any strides: those of src may be
/// negative or 0, those of dst negative, its elements being distinct. The two may be one view, else they must not
/// overlap. \throws ShapeError when the shapes differ.
void copy(const View& src, const View& dst);

}  // namespace whence
