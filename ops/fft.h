// Discrete Fourier transforms. A complex value is a pair (re, im) on a last axis of extent 2, which the other axes do
// not count: the `axis` of [B, T, 2] is one of [B, T]. What the comments leave unsaid is at the head of ops/ops.h.
//
// All are linear. The gradient is the adjoint transform, relevance the epsilon rule, R_x = x vjp(R / stab(y)). n = 0
// takes the axis as long as it is; a longer n pads with zeros at the end, a shorter one crops. ValueError: n < 0, no
// points at all, or 2^31.
#pragma once
#include "whence/ops/ops.h"

namespace whence {

/// Which direction divides: backward: the inverse by n; ortho: both by sqrt(n); forward: the forward one by n.
enum class FftNorm { backward, ortho, forward };

/// y_k = sum over t of x_t e^(-2 pi i k t / n): x [.., n, .., 2] float -> its shape. ShapeError: no pairs.
Var fft(Arg x, int64_t n = 0, int64_t axis = -1, FftNorm norm = FftNorm::backward);
/// y_t = sum over k of x_k e^(2 pi i k t / n) / n: x [.., n, .., 2] float -> its shape. ShapeError: no pairs.
Var ifft(Arg x, int64_t n = 0, int64_t axis = -1, FftNorm norm = FftNorm::backward);
/// The bins 0 .. n / 2 of fft of a real x [.., n, ..] float -> [.., n / 2 + 1, .., 2]; the others are their conjugates.
Var rfft(Arg x, int64_t n = 0, int64_t axis = -1, FftNorm norm = FftNorm::backward);
/// The real signal of n values with these bins: x [.., m, .., 2] float -> [.., n, ..]; n = 0: 2 (m - 1). The imaginary
/// parts of bin 0 and, for an even n, of bin n / 2 are not looked at. ShapeError: no pairs.
Var irfft(Arg x, int64_t n = 0, int64_t axis = -1, FftNorm norm = FftNorm::backward);

/// fft along the last two axes: x [.., h, w, 2] float -> its shape, or [.., s.., 2]; s: {}, or two values of n (else
/// ValueError).
Var fft2(Arg x, const Ints& s = {}, FftNorm norm = FftNorm::backward);
/// ifft along the last two axes: x [.., h, w, 2] float -> its shape, or [.., s.., 2]; s as for fft2.
Var ifft2(Arg x, const Ints& s = {}, FftNorm norm = FftNorm::backward);
/// rfft along the last axis, then fft along the one before: x [.., h, w] float -> [.., h, w / 2 + 1, 2]; s as for fft2.
Var rfft2(Arg x, const Ints& s = {}, FftNorm norm = FftNorm::backward);
/// ifft along the axis before the last, then irfft: x [.., h, m, 2] float -> [.., h, w]; s {h, w} as for fft2, w being
/// 2 (m - 1) by default.
Var irfft2(Arg x, const Ints& s = {}, FftNorm norm = FftNorm::backward);

}  // namespace whence
