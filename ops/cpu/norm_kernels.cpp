// layer_norm, rms_norm and their backward ops.
#include "whence/ops/cpu/norm.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

template <class T> const T* operand(const KernelCall& call, size_t i) {
  return i < call.in.size() ? call.in[i].as<T>() : nullptr;
}

// x, weight, bias -> y, mean, rstd
void layer_norm_kernel(const KernelCall& call) {
  int64_t n = call.in[0].shape[-1], rows = call.out[1].numel();
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    layer_norm(call.in[0].as<T>(), operand<T>(call, 1), operand<T>(call, 2), call.out[0].as<T>(), call.out[1].as<T>(),
               call.out[2].as<T>(), rows, n, call.attrs.real("eps"));
  });
}

// x, weight -> y, rstd
void rms_norm_kernel(const KernelCall& call) {
  int64_t n = call.in[0].shape[-1], rows = call.out[1].numel();
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    rms_norm(call.in[0].as<T>(), operand<T>(call, 1), call.out[0].as<T>(), call.out[1].as<T>(), rows, n,
             call.attrs.real("eps"));
  });
}

struct Targets {
  int64_t n, rows, size, count;
  bool params, frozen;
  Targets(const KernelCall& call, const View& dy)
      : n(call.in[0].shape[-1]),
        rows(call.in[1].numel()),
        size(rows * n),
        params(call.attrs.flag("params")),
        frozen(call.attrs.flag("frozen")) {
    count = params && n ? call.out[1].numel() / n : size ? dy.numel() / size : 0;
  }
};

// x, mean, rstd, dy, weight -> dx, dweight, dbias; once per target, whose results lie behind one another.
void layer_norm_backward_kernel(const KernelCall& call) {
  Targets t(call, call.in[3]);
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t l = 0; l < t.count; ++l)
      layer_norm_backward(call.in[0].as<T>(), call.in[1].as<T>(), call.in[2].as<T>(), operand<T>(call, 4),
                          call.in[3].as<T>() + l * t.size, call.out[0].as<T>() + l * t.size,
                          t.params ? call.out[1].as<T>() + l * t.n : nullptr,
                          t.params ? call.out[2].as<T>() + l * t.n : nullptr, t.rows, t.n, t.frozen);
  });
}

// x, rstd, dy, weight -> dx, dweight
void rms_norm_backward_kernel(const KernelCall& call) {
  Targets t(call, call.in[2]);
  over_floats(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t l = 0; l < t.count; ++l)
      rms_norm_backward(call.in[0].as<T>(), call.in[1].as<T>(), operand<T>(call, 3), call.in[2].as<T>() + l * t.size,
                        call.out[0].as<T>() + l * t.size, t.params ? call.out[1].as<T>() + l * t.n : nullptr, t.rows,
                        t.n, t.frozen);
  });
}

REGISTER_KERNEL(cpu, layer_norm) = layer_norm_kernel;
REGISTER_KERNEL(cpu, rms_norm) = rms_norm_kernel;
REGISTER_KERNEL(cpu, layer_norm_backward) = layer_norm_backward_kernel;
REGISTER_KERNEL(cpu, rms_norm_backward) = rms_norm_backward_kernel;

}  // namespace
}  // namespace whence::cpu
