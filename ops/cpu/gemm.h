// Matrix products, row-major, by packed kernels.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// C = alpha op(A) op(B) + beta C, with op(A) [m,k], op(B) [k,n], C [m,n] and leading dimensions as stored: A is [m,k]
/// or, when ta, [k,m]; B is [k,n] or, when tb, [n,k]. C is not read when beta is 0. C must not overlap A or B. The
/// order of summation depends on the shape only, never on the number of threads.
template <class T> void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                             const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

/// A block of C that is complete and still in cache: rows [i0, i1), columns [j0, j1). Called once for every element,
/// from several threads at a time on disjoint blocks.
using BlockFn = void (*)(void* context, int64_t i0, int64_t i1, int64_t j0, int64_t j1);

/// As gemm, adding bias[j] (may be null) to column j, then calling `done` (may be null) on each finished block.
template <class T> void gemm_epilogue(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
                                      int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc, const T* bias,
                                      BlockFn done, void* context);

/// y = x W^T + bias: x [m,in], W [out,in], bias [out] or null, y [m,out], all contiguous; then done(context, i0, i1,
/// j0, j1).
template <class T> void linear(int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias, T* y,
                               BlockFn done = nullptr, void* context = nullptr) {
  gemm_epilogue<T>(false, true, m, out, in, T(1), x, in, w, in, T(0), y, out, bias, done, context);
}

/// `batch` products of one shape: the i-th uses a + a_offset(i) and so on, where offset(i) is i * stride, or offsets[i]
/// when the array is given. A stride of 0 shares an operand. Outputs must not overlap.
struct BatchOffsets {
  int64_t stride = 0;
  const int64_t* offsets = nullptr;
  int64_t operator()(int64_t i) const { return offsets ? offsets[i] : i * stride; }
};
template <class T> void gemm_batched(int64_t batch, bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha,
                                     const T* a, int64_t lda, BatchOffsets oa, const T* b, int64_t ldb, BatchOffsets ob,
                                     T beta, T* c, int64_t ldc, BatchOffsets oc);

}  // namespace whence::cpu
