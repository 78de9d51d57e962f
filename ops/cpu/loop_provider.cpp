// Hands the scalar loops and the thread pool down to the planner (autograd/loops.h), which may not include ops/.
#include "autograd/loops.h"
#include "ops/cpu/copy.h"
#include "ops/cpu/elementwise.h"
#include "tensor/parallel.h"
#include "ops/cpu/stabilise.h"

namespace whence::cpu {
namespace {

[[maybe_unused]] const bool provided = [] {
  set_loop_provider({
      .unary = [](std::string_view name, DType t) { return find_unary(name, elem_of(t)); },
      .binary = [](std::string_view name, DType t) { return find_binary(name, elem_of(t)); },
      .rows = [](std::string_view name, DType t) { return find_row_loop(name, elem_of(t)); },
      .where = find_where,
      .cast = [](DType from, DType to) { return find_cast(elem_of(from), elem_of(to)); },
      .copy = copy_strided,
      .parallel =
          [](int64_t n, int64_t grain, void (*f)(void*, int64_t, int64_t), void* context) {
            parallel_for(n, grain, [&](int64_t begin, int64_t end) { f(context, begin, end); });
          },
  });
  return true;
}();

}  // namespace
}  // namespace whence::cpu
