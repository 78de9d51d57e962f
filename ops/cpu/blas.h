// Matrix products over CBLAS, row-major.
#pragma once
#include <cblas.h>

#include <cstdint>
#include <type_traits>

namespace whence::blas {

/// C = alpha op(A) op(B) + beta C; op(A) is m x k, op(B) is k x n.
template <class T>
void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  auto A = ta ? CblasTrans : CblasNoTrans, B = tb ? CblasTrans : CblasNoTrans;
  if constexpr (std::is_same_v<T, float>) cblas_sgemm(CblasRowMajor, A, B, int(m), int(n), int(k), alpha, a, int(lda), b, int(ldb), beta, c, int(ldc));
  else cblas_dgemm(CblasRowMajor, A, B, int(m), int(n), int(k), alpha, a, int(lda), b, int(ldb), beta, c, int(ldc));
}

template <class T>
void gemm_batched(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const int64_t* at_a, const T* b, int64_t ldb,
                  const int64_t* at_b, T beta, T* c, int64_t ldc, int64_t stride_c, int64_t batch) {
  for (int64_t i = 0; i < batch; ++i) gemm(ta, tb, m, n, k, alpha, a + at_a[i], lda, b + at_b[i], ldb, beta, c + i * stride_c, ldc);
}

/// y [rows, out] = x [rows, in] w^T + bias, w [out, in], bias [out] or null.
template <class T> void linear(int64_t rows, int64_t out, int64_t in, const T* x, const T* w, const T* bias, T* y) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o) y[r * out + o] = bias ? bias[o] : T(0);
  if (in) gemm(false, true, rows, out, in, T(1), x, in, w, in, T(1), y, out);
}

}  // namespace whence::blas
