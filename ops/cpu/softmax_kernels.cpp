// softmax, log_softmax and their backward ops.
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

struct Fold {
  int64_t outer = 1, n = 1, inner = 1;
  Fold(const Shape& s, int64_t axis) {
    int a = normalize_axis(axis, s.rank());
    n = s[a];
    for (int i = 0; i < s.rank(); ++i)
      if (i != a) (i < a ? outer : inner) *= s[i];
  }
};

template <bool LOG> void forward(const KernelCall& call) {
  Fold f(call.in[0].shape, call.attrs.integer("axis"));
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    LOG ? log_softmax(x, y, f.outer, f.n, f.inner) : softmax(x, y, f.outer, f.n, f.inner);
  });
}

// dy may have leading target axes that y has not.
template <bool LOG> void backward(const KernelCall& call) {
  Fold f(call.in[0].shape, call.attrs.integer("axis"));
  int64_t n = call.in[0].numel(), total = call.in[1].numel();
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *y = call.in[0].as<T>(), *dy = call.in[1].as<T>();
    T* dx = call.out[0].as<T>();
    for (int64_t at = 0; at < total; at += n)
      LOG ? log_softmax_vjp(y, dy + at, dx + at, f.outer, f.n, f.inner)
          : softmax_vjp(y, dy + at, dx + at, f.outer, f.n, f.inner);
  });
}

REGISTER_KERNEL(cpu, softmax) = {forward<false>, {.in_place = 0}};
REGISTER_KERNEL(cpu, log_softmax) = {forward<true>, {.in_place = 0}};
REGISTER_KERNEL(cpu, softmax_backward) = backward<false>;
REGISTER_KERNEL(cpu, log_softmax_backward) = backward<true>;

}  // namespace
}  // namespace whence::cpu
