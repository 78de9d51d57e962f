#include "whence/tensor/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace whence {

// ---- View -----------------------------------------------------------------------------------------------------

Shape broadcast_strides(const Shape& from, const Shape& strides, const Shape& to) {
  Shape s = Shape::filled(to.rank(), 0);
  for (int i = 1; i <= from.rank(); ++i) s[-i] = from[-i] == 1 && to[-i] != 1 ? 0 : strides[-i];
  return s;
}

bool reshape_strides(const Shape& from, const Shape& strides, const Shape& to, Shape* out) {
  *out = contiguous_strides(to);
  if (from.numel() == 0) return true;
  // Walk both shapes from the end; a group of source axes maps to a group of target axes with equal extent, and
  // the source group must be contiguous in itself.
  int i = from.rank() - 1, j = to.rank() - 1;
  while (j >= 0) {
    while (i >= 0 && from[i] == 1) --i;
    if (to[j] == 1) {
      --j;
      continue;
    }
    if (i < 0) return false;
    int64_t have = from[i], stride = strides[i], want = to[j];
    int last = j;
    while (have != want) {
      if (have < want) {
        do {
          if (--i < 0) return false;
        } while (from[i] == 1);
        if (strides[i] != stride * (have)) return false;
        have *= from[i];
      } else {
        if (--j < 0) return false;
        want *= to[j];
      }
    }
    int64_t step = stride;
    for (int k = last; k >= j; --k) {
      (*out)[k] = step;
      step *= to[k];
    }
    --i;
    --j;
  }
  return true;
}

// ---- Tensor ---------------------------------------------------------------------------------------------------

Tensor Tensor::wrap(std::shared_ptr<Buffer> buffer, size_t offset, const Shape& shape, DType dtype) {
  if (!buffer) throw ValueError("a tensor " + shape.str() + " cannot lie in no buffer");
  check_extents(shape, size_of(dtype));
  size_t need = offset + size_t(shape.numel()) * size_of(dtype);
  if (need < offset || need > buffer->bytes())
    throw ShapeError("a tensor " + shape.str() + " needs " + std::to_string(need) + " bytes, the buffer has " +
                     std::to_string(buffer->bytes()));
  Tensor t;
  t.buffer_ = std::move(buffer);
  t.offset_ = offset;
  t.shape_ = shape;
  t.strides_ = contiguous_strides(shape);
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::window(const Tensor& base, const View& seen) {
  base.check_defined("window()");
  Tensor t = base;
  t.offset_ = size_t(static_cast<std::byte*>(seen.data) - base.buffer_->data());
  t.shape_ = seen.shape;
  t.strides_ = seen.strides;
  t.dtype_ = seen.dtype;
  return t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  check_extents(shape, size_of(dtype));
  std::shared_ptr<Buffer> buffer;
  try {
    buffer = Buffer::allocate(size_t(shape.numel()) * size_of(dtype), device);
  } catch (const OutOfMemory&) {
    no_memory(shape, dtype);
  }
  return wrap(std::move(buffer), 0, shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  std::memset(t.raw(), 0, t.nbytes());
  return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype) {
  Tensor t = empty(shape, dtype);
  t.fill(value);
  return t;
}

void Tensor::fill(double value) const {
  check_defined("fill()");
  copy_from(wrap(Buffer::borrow(&value, sizeof value, nullptr), 0, {}, f64).broadcast_to(shape_));
}

const Shape& Tensor::undefined(const char* what) { throw ValueError(std::string(what) + " of an undefined tensor"); }
void Tensor::no_memory(const Shape& shape, DType dtype) {
  throw OutOfMemory("a tensor " + shape.str() + " of " + std::string(name_of(dtype)) + " needs " +
                    std::to_string(size_t(shape.numel()) * size_of(dtype)) + " bytes, which are not to be had");
}

void Tensor::check_readable(DType want) const {
  check_defined("data()");
  if (want != dtype_)
    throw DTypeError("the tensor holds " + std::string(name_of(dtype_)) + ", asked for " + std::string(name_of(want)));
  if (!device().host())
    throw DeviceError("the tensor lies on " + device().str() + ": bring it to the host with to(Device{})");
}

double Tensor::item(int64_t flat) const {
  check_defined("item()");
  if (flat < 0 || flat >= numel()) throw ShapeError("item " + std::to_string(flat) + " of a tensor " + shape_.str());
  int64_t at = 0;
  for (int k = rank() - 1; k >= 0; --k) {
    at += flat % shape_[k] * strides_[k];
    flat /= shape_[k];
  }
  double out = 0;
  std::byte element[8];
  std::byte* p = static_cast<std::byte*>(raw()) + at * int64_t(size_of(dtype_));
  if (!device().host()) {
    memory_of(device()).copy(element, {}, p, device(), size_of(dtype_), nullptr);
    p = element;
  }
  copy({p, dtype_, {}, {}}, {&out, f64, {}, {}});
  return out;
}

Tensor Tensor::permuted(const Shape& axes) const {
  check_defined("permuted()");
  if (axes.rank() != rank()) throw ShapeError("permuted: axes " + axes.str() + " for a tensor " + shape_.str());
  Tensor t = *this;
  unsigned seen = 0;
  for (int i = 0; i < rank(); ++i) {
    int a = normalize_axis(axes[i], rank());
    if (seen >> a & 1) throw ShapeError("permuted: axis " + std::to_string(a) + " occurs twice in " + axes.str());
    seen |= 1u << a;
    t.shape_[i] = shape_[a];
    t.strides_[i] = strides_[a];
  }
  return t;
}

Tensor Tensor::transposed(int a, int b) const {
  check_defined("transposed()");
  Shape axes = Shape::filled(rank(), 0);
  for (int i = 0; i < rank(); ++i) axes[i] = i;
  std::swap(axes[normalize_axis(a, rank())], axes[normalize_axis(b, rank())]);
  return permuted(axes);
}

Tensor Tensor::slice(int axis, int64_t begin, int64_t end, int64_t step) const {
  check_defined("slice()");
  int a = normalize_axis(axis, rank());
  int64_t n = shape_[a];
  if (begin < 0) begin += n;
  if (end < 0) end += n;
  end = std::min(end, n);
  if (begin < 0 || begin > end || step < 1)
    throw ShapeError("slice [" + std::to_string(begin) + ", " + std::to_string(end) + ") step " + std::to_string(step) +
                     " of axis " + std::to_string(a) + " of " + shape_.str());
  Tensor t = *this;
  t.offset_ += size_t(begin * strides_[a]) * size_of(dtype_);
  t.shape_[a] = steps_between(begin, end, step);
  if (t.shape_[a] > 1) t.strides_[a] *= step;
  return t;
}

Tensor Tensor::broadcast_to(const Shape& shape) const {
  check_defined("broadcast_to()");
  if (!broadcastable_to(shape_, shape)) throw ShapeError("cannot broadcast " + shape_.str() + " to " + shape.str());
  check_extents(shape, size_of(dtype_));
  Tensor t = *this;
  t.strides_ = broadcast_strides(shape_, strides_, shape);
  t.shape_ = shape;
  return t;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  check_defined("reshaped()");
  Shape want = shape;
  auto open = std::find(want.begin(), want.end(), -1);
  if (open != want.end()) *open = 1;
  check_extents(want, size_of(dtype_));
  if (int64_t known = want.numel(); open != want.end()) *open = known ? numel() / known : 0;
  if (want.numel() != numel()) throw ShapeError("cannot reshape " + shape_.str() + " to " + shape.str());
  Tensor t = *this;
  if (!reshape_strides(shape_, strides_, want, &t.strides_)) {
    t = contiguous_copy();
    t.strides_ = contiguous_strides(want);
  }
  t.shape_ = want;
  return t;
}

Tensor Tensor::contiguous_copy() const {
  check_defined("a copy");
  Tensor t = empty(shape_, dtype_, device());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(DType dtype) const {
  check_defined("to()");
  if (dtype == dtype_) return *this;
  Tensor t = empty(shape_, dtype, device());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Device device) const {
  check_defined("to()");
  if (device == this->device()) return *this;
  Tensor t = empty(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}

void Tensor::copy_from(const Tensor& src) const {
  check_defined("copy_from()");
  src.check_defined("copy_from()");
  if (!(src.shape_ == shape_)) throw ShapeError("copy: " + src.shape_.str() + " into " + shape_.str());
  if (src.device() == device()) return memory_of(device()).copy(src.view(), view(), device());
  // Between devices: contiguous bytes of one dtype, converted and laid out where they come from and where they go.
  Tensor sent = src.to(dtype_).contiguous_tensor();
  if (!contiguous()) {
    Tensor there = empty(shape_, dtype_, device());
    there.copy_from(sent);
    return copy_from(there);
  }
  memory_of(device().host() ? src.device() : device())
      .copy(raw(), device(), sent.raw(), src.device(), nbytes(), nullptr);
}

std::string Tensor::str(int64_t max_per_axis) const {
  if (!defined()) return "undefined";
  if (!device().host()) return to(Device{}).str(max_per_axis);
  std::string out;
  auto walk = [&](auto&& self, const Tensor& t) -> void {
    if (t.rank() == 0) {
      char text[32];
      std::snprintf(text, sizeof text, is_float(dtype_) ? "%.6g" : "%.0f", t.item());
      out += text;
      return;
    }
    out += '[';
    for (int64_t i = 0; i < t.shape_[0]; ++i) {
      if (i) out += ", ";
      if (t.shape_[0] > max_per_axis && i == max_per_axis / 2) {
        out += "..., ";
        i = t.shape_[0] - (max_per_axis - max_per_axis / 2);
      }
      Tensor row = t;
      row.offset_ += size_t(i * t.strides_[0]) * size_of(dtype_);
      row.shape_.erase(0);
      row.strides_.erase(0);
      self(self, row);
    }
    out += ']';
  };
  walk(walk, *this);
  return out + " " + std::string(name_of(dtype_)) + shape_.str();
}

double max_abs_diff(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) throw ShapeError("max_abs_diff: " + a.shape().str() + " and " + b.shape().str());
  auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    double d = std::fabs(x[i] - y[i]);
    worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
  }
  return worst;
}

bool bitwise_equal(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  Tensor x = a.to(Device{}).contiguous_tensor(), y = b.to(Device{}).contiguous_tensor();
  return std::memcmp(x.raw(), y.raw(), x.nbytes()) == 0;
}

}  // namespace whence
