// Contiguous loops of the elementwise ops, looked up by name once, at plan time.
//
// A loop handles a run of n elements, usually one L1 tile of a fused chain; it starts no threads. Inputs and output may
// be the same array, but may not partly overlap. n may be zero.
#pragma once

#include <cstdint>
#include <string_view>

#include "whence/autograd/scalar_row.h"
#include "whence/tensor/dtype.h"

namespace whence::cpu {

/// y[i] = c[i * sc] ? a[i * sa] : b[i * sb], c being bytes.
using WhereLoop = void (*)(const uint8_t* c, int sc, const void* a, int sa, const void* b, int sb, void* y, int64_t n);

/// The loops of a row of ops/scalar_table.h, by name: f32 and f64 for the real ones, also i32 and i64 for numbers
/// (which wrap round), also u8 and bool for comparisons, only these two for logical ones. nullptr when there is no such
/// loop. Casts: tensor/convert.h.
UnaryLoop find_unary(std::string_view name, DType dtype);
BinaryLoop find_binary(std::string_view name, DType dtype);

/// The select loop for elements of 1, 2, 4 or 8 bytes.
WhereLoop find_where(int element_size);

}  // namespace whence::cpu
