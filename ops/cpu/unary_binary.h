// Contiguous loops of the elementwise ops, looked up by name once, at plan time.
//
// A loop handles a run of n elements, usually one L1 tile of a fused chain; it starts no threads. Inputs and output may
// be the same array, but may not partly overlap. n may be zero.
#pragma once

#include <cstdint>
#include <string_view>

namespace whence::cpu {

/// Element types of the loops. The half types exist as storage only: arithmetic happens after a cast to f32.
enum class Elem : uint8_t { f32, f64, bf16, f16, i32, i64, u8, b8 };

/// y[i] = op(x[i]); `params` holds the op's scalars in the order of its name's signature, below.
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const double* params);
/// y[i] = op(a[i * sa], b[i * sb]), sa and sb being 0 (one scalar for all) or 1.
using BinaryLoop = void (*)(const void* a, int sa, const void* b, int sb, void* y, int64_t n, const double* params);
/// y[i] = c[i * sc] ? a[i * sa] : b[i * sb], c being bytes.
using WhereLoop = void (*)(const uint8_t* c, int sc, const void* a, int sa, const void* b, int sb, void* y, int64_t n);

/// Unary loops, f32 and f64 (and neg, abs, sign, square, add_scalar, mul_scalar for i32 and i64; logical_not for u8 and
/// b8):
///   neg abs sign exp expm1 log log1p sqrt rsqrt reciprocal square pow(p) sin cos tanh sigmoid erf relu
///   leaky_relu(slope) gelu gelu_tanh silu softplus(beta) log_sigmoid clamp(lo, hi) floor round add_scalar(s)
///   mul_scalar(s) rsub_scalar(s): s - x, rdiv_scalar(s): s / x.   round goes to the nearest integer, halves to even.
/// nullptr when there is no such loop.
UnaryLoop find_unary(std::string_view name, Elem elem);

/// Binary loops:
///   add sub mul div maximum minimum pow                     result of the operands' type (f32 f64; all but pow also
///   i32 i64, wrapping) lt le gt ge eq ne                                       result u8 0 or 1 (f32 f64 i32 i64 u8
///   b8) logical_and logical_or logical_xor                      u8 and b8 d_exp(y,dy) d_tanh(y,dy) d_sigmoid(y,dy)
///   d_sqrt(y,dy) d_log d_abs d_relu d_leaky_relu(slope) d_clamp(lo,hi) d_gelu d_gelu_tanh d_silu d_softplus(beta)
///   d_log_sigmoid d_erf: (x, dy)    derivative times dy, f32 and f64
BinaryLoop find_binary(std::string_view name, Elem elem);

/// The select loop for elements of 1, 2, 4 or 8 bytes.
WhereLoop find_where(int element_size);

/// y = x converted. To bf16 and f16: round to nearest even, overflow to infinity, NaN kept. Real to integer: towards
/// zero, saturating, NaN to zero. To b8: x != 0. The same type gives a copy.
UnaryLoop find_cast(Elem from, Elem to);

/// How many parameters the named op reads (unary and binary names share this), or -1 when there is no such op.
int param_count(std::string_view name);

int64_t size_of(Elem elem);

}  // namespace whence::cpu
