// Along a sequence: linear recurrences, cumulative sums, short causal convolutions. T is float or double. Layout
// (outer, n, inner).
#pragma once

#include <cstdint>

namespace whence::cpu {

/// h[t] = a[t] h[t-1] + b[t] along n, starting from h0 [outer, inner] (null: zero). With `reverse`, h[t] = a[t] h[t+1]
/// + b[t].
template <class T>
void linear_scan(const T* a, const T* b, const T* h0, T* h, int64_t outer, int64_t n, int64_t inner, bool reverse);

/// y[t] = x[0] + .. + x[t] (from the end with `reverse`; without x[t] itself with `exclusive`); compensated, so the
/// error does not grow with n.
template <class T>
void cumsum(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, bool reverse = false, bool exclusive = false);

/// Causal depthwise convolution, x and y [B, n, C], w [C, K]: y_t = bias + sum_k w[:, k] x_{t - (K-1) + k}. With
/// `reverse` it looks ahead, x_{t + (K-1) - k}, which is the adjoint. bias [C] may be null.
template <class T>
void conv1d(const T* x, const T* w, const T* bias, T* y, int64_t B, int64_t n, int64_t C, int64_t K, bool reverse);

/// dw [C, K] and dbias [C] (null: not wanted) of conv1d for dy; overwritten. One partial sum per sequence, added in
/// order.
template <class T>
void conv1d_taps(const T* x, const T* dy, T* dw, T* dbias, int64_t B, int64_t n, int64_t C, int64_t K, bool reverse);

}  // namespace whence::cpu
