// Hands the scalar loops and the thread pool down to the planner (autograd/loops.h), which may not include ops/.
#include "autograd/loops.h"
#include "ops/cpu/elementwise.h"
#include "ops/cpu/stabilise.h"
#include "tensor/parallel.h"

namespace whence::cpu {
namespace {

[[maybe_unused]] const bool provided = [] {
  set_loop_provider({
      .unary = find_unary,
      .binary = find_binary,
      .rows = find_row_loop,
      .where = find_where,
      .parallel =
          [](int64_t n, int64_t grain, void (*f)(void*, int64_t, int64_t), void* context) {
            parallel_for(n, grain, [&](int64_t begin, int64_t end) { f(context, begin, end); });
          },
  });
  return true;
}();

}  // namespace
}  // namespace whence::cpu
