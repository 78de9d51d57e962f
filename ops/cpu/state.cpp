// Kernels of ops/state.cpp.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "whence/autograd/op.h"
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

void pack(const KernelCall& call) {
  auto* to = call.out[0].as<std::byte>();
  for (const View& x : call.in) {
    const size_t bytes = size_t(x.numel()) * size_of(x.dtype);
    if (x.data != to) std::memcpy(to, x.data, bytes);
    to += bytes;
  }
}

// The window [begin, begin + length) of x's axis, or nothing when it does not fit.
bool window(const KernelCall& call, int operand, const View& x, int64_t length, View& seen) {
  const int axis = normalize_axis(call.attrs.integer("axis"), x.shape.rank());
  const int64_t begin = *call.in[size_t(operand)].as<int64_t>(), last = x.shape[axis] - length;
  if (begin < 0 || begin > last) {
    call.out_of_range(operand, 0, begin, last + 1);
    return false;
  }
  seen = x;
  seen.shape[axis] = length;
  seen.data = x.as<std::byte>() + begin * x.strides[axis] * int64_t(size_of(x.dtype));
  return true;
}

void update_slice(const KernelCall& call) {
  const View &x = call.in[0], &update = call.in[1], &y = call.out[0];
  if (x.data != y.data) copy(x, y);
  const int axis = normalize_axis(call.attrs.integer("axis"), x.shape.rank());
  if (View seen; window(call, 2, y, update.shape[axis], seen)) copy(update, seen);
}

void slice_at(const KernelCall& call) {
  const View& y = call.out[0];
  View seen;
  if (window(call, 1, call.in[0], call.attrs.integer("length"), seen)) copy(seen, y);
  else if (y.numel()) std::memset(y.data, 0, size_t(y.numel()) * size_of(y.dtype));
}

void sum_squares_of(const KernelCall& call) {
  const View& x = call.in[0];
  *call.out[0].as<double>() =
      x.dtype == f64 ? sum_squares(x.as<const double>(), x.numel()) : sum_squares(x.as<const float>(), x.numel());
}

void all_sound(const KernelCall& call) {
  bool sound = call.fine_so_far();
  for (const View& x : call.in)
    over_floats(x.dtype, [&](auto zero) {
      const auto* p = x.as<decltype(zero)>();
      sound = sound && std::all_of(p, p + x.numel(), [](auto v) { return std::isfinite(v); });
    });
  *call.out[0].as<bool>() = sound;
}

}  // namespace

REGISTER_KERNEL(cpu, all_sound) = {all_sound};
REGISTER_KERNEL(cpu, sum_squares) = {sum_squares_of};
REGISTER_KERNEL(cpu, pack) = {pack, {.floats = kAllFloats}};
REGISTER_KERNEL(cpu, update_slice) = {update_slice, {.floats = kAllFloats, .strided = true, .in_place = 0}};
REGISTER_KERNEL(cpu, slice_at) = {slice_at, {.floats = kAllFloats, .strided = true}};

}  // namespace whence::cpu
