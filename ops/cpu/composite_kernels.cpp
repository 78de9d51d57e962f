// The two elementwise primitives of ops/composite.cpp.
#include <cmath>

#include "autograd/op.h"
#include "ops/floats.h"
#include "tensor/parallel.h"

namespace whence::cpu {
namespace {

template <class F> void map(const KernelCall& call, F f) {
  over_floats(call.out[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].numel(), kGrain / 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = f(x[i]);
    });
  });
}

void atan_kernel(const KernelCall& call) {
  map(call, [](auto x) { return std::atan(x); });
}
void hardsigmoid_kernel(const KernelCall& call) {
  map(call, [](auto x) {
    using T = decltype(x);
    return x <= T(-3) ? T(0) : x >= T(3) ? T(1) : x * (T(1) / T(6)) + T(0.5);
  });
}

}  // namespace

REGISTER_KERNEL(cpu, atan) = {atan_kernel, {.in_place = 0}};
REGISTER_KERNEL(cpu, hardsigmoid) = {hardsigmoid_kernel, {.in_place = 0}};

}  // namespace whence::cpu
