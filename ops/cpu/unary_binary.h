// Contiguous loops of the elementwise ops, looked up by name once, at plan time.
//
// A loop handles a run of n elements, usually one L1 tile of a fused chain; it starts no threads. Inputs and output may
// be the same array, but may not partly overlap. n may be zero.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace whence::cpu {

/// y[i] = op(x[i]); no threads, x may be y. `params`: the op's scalars (OpDef::loop_params).
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const double* params);
/// y[i] = op(a[i * sa], b[i * sb]), sa and sb being 0 (one scalar for all) or 1. Loops over whole rows (stabilise.h)
/// take one parameter more, the length of a row, of which n is a multiple.
using BinaryLoop = void (*)(const void* a, int sa, const void* b, int sb, void* y, int64_t n, const double* params);
/// y[i] = c[i * sc] ? a[i * sa] : b[i * sb], c being bytes.
using WhereLoop = void (*)(const uint8_t* c, int sc, const void* a, int sa, const void* b, int sb, void* y, int64_t n);

/// Unary loops, f32 and f64 (and neg, abs, square for i32 and i64; logical_not for u8 and bool):
///   neg abs sign exp expm1 log log1p sqrt rsqrt reciprocal square sin cos tanh sigmoid erf relu leaky_relu(slope) gelu
///   gelu_tanh silu softplus(beta) log_sigmoid clamp(lo, hi) floor round.   round goes to the nearest integer, halves
///   to even.
/// nullptr when there is no such loop. Casts: tensor/convert.h.
UnaryLoop find_unary(std::string_view name, DType dtype);

/// Binary loops:
///   add sub mul div maximum minimum pow    result of the operands' type; f32 f64, all but pow also i32 i64, wrapping
///   lt le gt ge eq ne                      result bool; f32 f64 i32 i64 u8 bool
///   logical_and logical_or                 u8 and bool
///   d_tanh d_sigmoid: (y, dy)  d_relu d_leaky_relu(slope) d_clamp(lo, hi) d_gelu d_gelu_tanh d_silu: (x, dy)
///                                          derivative times dy; f32 and f64
BinaryLoop find_binary(std::string_view name, DType dtype);

/// The select loop for elements of 1, 2, 4 or 8 bytes.
WhereLoop find_where(int element_size);

}  // namespace whence::cpu
