// Reductions over the middle of (outer, n, inner), the layout to which any reduction of a contiguous tensor collapses.
//
// T is float or double. x is [outer, n, inner], results are [outer, inner], all contiguous. The order of summation
// depends on the shape alone: runs are bitwise equal for any number of threads. Sums are blocked (error grows with log
// n, not n).
#pragma once

#include <cstdint>

namespace whence::cpu {

/// y = scale * sum of x over n. scale = 1/n gives the mean; n = 0 gives zero.
template <class T> void reduce_sum(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, double scale = 1.0);
/// Largest or smallest; a NaN anywhere is the answer; n = 0 gives -inf or +inf.
template <class T> void reduce_max(const T* x, T* y, int64_t outer, int64_t n, int64_t inner);
template <class T> void reduce_min(const T* x, T* y, int64_t outer, int64_t n, int64_t inner);
/// Position (0..n-1) of the first largest or smallest, or of the first NaN; n = 0 gives -1.
template <class T> void reduce_argmax(const T* x, int64_t* y, int64_t outer, int64_t n, int64_t inner);
template <class T> void reduce_argmin(const T* x, int64_t* y, int64_t outer, int64_t n, int64_t inner);
/// log(sum(exp(x))), shifted by the largest; n = 0 gives -inf.
template <class T> void reduce_logsumexp(const T* x, T* y, int64_t outer, int64_t n, int64_t inner);

/// y = exp(x - lse(x)) over n. x may be y. A row of -inf only gives NaN, as 0/0.
template <class T> void softmax(const T* x, T* y, int64_t outer, int64_t n, int64_t inner);
/// y = x - lse(x) over n. x may be y.
template <class T> void log_softmax(const T* x, T* y, int64_t outer, int64_t n, int64_t inner);
/// dx = y (dy - sum(y dy)), y being the softmax. dx may be dy or y.
template <class T> void softmax_vjp(const T* y, const T* dy, T* dx, int64_t outer, int64_t n, int64_t inner);
/// dx = dy - exp(y) sum(dy), y being the log-softmax. dx may be dy or y.
template <class T> void log_softmax_vjp(const T* y, const T* dy, T* dx, int64_t outer, int64_t n, int64_t inner);

/// Sum of squares of a flat array in fixed chunks, accumulated in double (gradient clipping).
template <class T> double sum_squares(const T* x, int64_t n);
/// Dot product, the same way.
template <class T> double dot(const T* x, const T* y, int64_t n);

}  // namespace whence::cpu
