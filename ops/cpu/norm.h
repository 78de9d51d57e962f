// Layer norm and RMS norm over the last axis of [rows, n], forward and backward. T is float or double.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// y = (x - mean) rstd w + b; mean and rstd [rows] are outputs, rstd = 1 / sqrt(var + eps) with the biased variance. w,
/// b [n] may be null. y may be x.
template <class T>
void layer_norm(const T* x, const T* w, const T* b, T* y, T* mean, T* rstd, int64_t rows, int64_t n, double eps);

/// dx [rows, n], dw, db [n]; any of them may be null; dx may be dy. With `freeze_rstd` the spread counts as a constant
/// (the mean does not). dw and db are overwritten; their order of summation depends on the shape only.
template <class T> void layer_norm_backward(const T* x, const T* mean, const T* rstd, const T* w, const T* dy, T* dx,
                                            T* dw, T* db, int64_t rows, int64_t n, bool freeze_rstd);

/// y = x rstd w, rstd = 1 / sqrt(mean(x^2) + eps). w may be null, y may be x.
template <class T> void rms_norm(const T* x, const T* w, T* y, T* rstd, int64_t rows, int64_t n, double eps);

/// As layer_norm_backward, without mean and bias. With `freeze_rstd`, dx = dy w rstd.
template <class T> void rms_norm_backward(const T* x, const T* rstd, const T* w, const T* dy, T* dx, T* dw,
                                          int64_t rows, int64_t n, bool freeze_rstd);

}  // namespace whence::cpu
