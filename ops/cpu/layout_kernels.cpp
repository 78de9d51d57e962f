// Copies of what the layout ops show, where the planner could not alias it, and concat.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"

namespace whence::cpu {
namespace {

// The same elements in row-major order, shapes may differ.
void reshape_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  copy(x, {call.out[0].data, x.dtype, x.shape, contiguous_strides(x.shape)});
}

void viewed_kernel(const KernelCall& call) {
  View seen;
  call.op.view(call.in[0], call.attrs, seen);
  copy(seen, call.out[0]);
}

void slice_adjoint_kernel(const KernelCall& call) {
  zero(call.out[0]);
  copy(call.in[0], SliceAttrs::of(call.attrs).view(call.out[0]));
}

void concat_kernel(const KernelCall& call) {
  const View& out = call.out[0];
  const int axis = axis_of(call.attrs, out.shape.rank());
  int64_t at = 0;
  for (const View& x : call.in) {
    copy(x, narrowed(out, axis, at, x.shape[axis]));
    at += x.shape[axis];
  }
}

constexpr KernelFacts kMoves{.floats = kAllFloats, .strided = true};

}  // namespace

REGISTER_KERNEL(cpu, reshape) = {reshape_kernel, kMoves};
REGISTER_KERNEL(cpu, permute) = {viewed_kernel, kMoves};
REGISTER_KERNEL(cpu, broadcast_to) = {viewed_kernel, kMoves};
REGISTER_KERNEL(cpu, slice) = {viewed_kernel, kMoves};
REGISTER_KERNEL(cpu, slice_adjoint) = {slice_adjoint_kernel, kMoves};
REGISTER_KERNEL(cpu, concat) = {concat_kernel, kMoves};

}  // namespace whence::cpu
