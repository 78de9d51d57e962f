// The scalar loops and threads that fused groups run on. They live in ops/, above this room, and are handed down once
// by a static initialiser there.
#pragma once
#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace whence {

/// y[i] = op(x[i]); no threads, x may be y. `params`: the op's scalars (OpDef::loop_params).
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const double* params);
/// y[i] = op(a[i * sa], b[i * sb]), sa and sb being 0 (one scalar for all) or 1.
using BinaryLoop = void (*)(const void* a, int sa, const void* b, int sb, void* y, int64_t n, const double* params);
/// y[i] = c[i * sc] ? a[i * sa] : b[i * sb], c being bytes.
using WhereLoop = void (*)(const uint8_t* c, int sc, const void* a, int sa, const void* b, int sb, void* y, int64_t n);

struct LoopProvider {
  UnaryLoop (*unary)(std::string_view name, DType dtype) = nullptr;  ///< nullptr when there is no such loop
  BinaryLoop (*binary)(std::string_view name, DType dtype) = nullptr;
  /// Loops over whole rows: one more parameter, the length of a row; n is a multiple of it.
  BinaryLoop (*rows)(std::string_view name, DType dtype) = nullptr;
  WhereLoop (*where)(int element_size) = nullptr;
  /// Calls f(context, begin, end) over contiguous pieces of [0, n), one per thread, none smaller than `grain`.
  void (*parallel)(int64_t n, int64_t grain, void (*f)(void*, int64_t, int64_t), void* context) = nullptr;
};

void set_loop_provider(const LoopProvider&);
const LoopProvider& loop_provider();

}  // namespace whence
