// sum.
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/cpu/reduce_axes.h"
#include "whence/ops/scalar.h"

namespace whence::cpu {
namespace {

void sum_kernel(const KernelCall& call) {
  reduce_axes(call, [](const auto* x, auto* y, int64_t outer, int64_t n, int64_t inner) {
    using T = std::remove_pointer_t<decltype(y)>;
    if constexpr (std::is_floating_point_v<T>) {
      reduce_sum(x, y, outer, n, inner);
    } else {
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          T total = 0;
          for (int64_t r = 0; r < n; ++r) total = scalar::add(total, T(x[(o * n + r) * inner + i]));
          y[o * inner + i] = total;
        }
    }
  });
}

REGISTER_KERNEL(cpu, sum) = {sum_kernel, {.workspace = reduce_workspace}};

}  // namespace
}  // namespace whence::cpu
