// Operations beside those of ops/ops.h: activations, order, scans, windows, segments. Most are written in other ops, so
// gradient and relevance come with them.
#pragma once
#include <vector>

#include "ops/ops.h"

namespace whence {

// ---- elementwise --------------------------------------------------------------------------------------------------
Var atan(Arg x);
Var atan2(Arg y, Arg x);           ///< angle of the point (x, y), in (-pi, pi]; broadcasting
Var logaddexp(Arg a, Arg b);       ///< log(e^a + e^b), broadcasting
Var logit(Arg x);                  ///< log(x / (1 - x))
Var softplus(Arg x, double beta);  ///< log(1 + e^(beta x)) / beta
Var elu(Arg x, double alpha = 1);
Var relu6(Arg x);
Var hardsigmoid(Arg x);             ///< x / 6 + 1/2 held to [0, 1]
Var hardswish(Arg x);               ///< x hardsigmoid(x)
Var swish(Arg x, double beta = 1);  ///< x sigmoid(beta x)
Var quick_gelu(Arg x);              ///< x sigmoid(1.702 x)
Var mish(Arg x);                    ///< x tanh(softplus(x))
Var softsign(Arg x);                ///< x / (1 + |x|)
Var softshrink(Arg x, double lambda = 0.5);
Var softcap(Arg x, double cap);  ///< cap tanh(x / cap)
Var softmin(Arg x, int64_t axis = -1);
/// x for x > 0, else weight x; weight [] or [C], C being the extent of `axis`.
Var prelu(Arg x, Arg weight, int64_t axis = 1);
/// First half times the activated second half of an axis; geglu and swiglu activate the first half.
Var glu(Arg x, int64_t axis = -1);
Var geglu(Arg x, int64_t axis = -1);
Var swiglu(Arg x, int64_t axis = -1);
/// value where mask holds, x elsewhere.
Var masked_fill(Arg x, Arg mask, double value);

// ---- creation -----------------------------------------------------------------------------------------------------
Var full(Graph& g, Shape shape, double value, DType dtype = f32);
Var zeros_like(Arg x);
Var ones_like(Arg x);

// ---- reductions, norms --------------------------------------------------------------------------------------------
/// Product along one axis; right for zeros, too.
Var prod(Arg x, int64_t axis, bool keepdim = false);
Var standard_deviation(Arg x, Ints axes = {}, bool keepdim = false, int64_t correction = 1);
/// Sum of |x|, or root of the sum of squares.
Var norm1(Arg x, Ints axes = {}, bool keepdim = false);
Var norm2(Arg x, Ints axes = {}, bool keepdim = false);
Var l2_normalize(Arg x, int64_t axis = -1, double eps = 1e-12);  ///< x / max(norm2, eps)

// ---- scans --------------------------------------------------------------------------------------------------------
/// Running maximum along axis and where it stands; the first of equals.
TopK cummax(Arg x, int64_t axis, bool reverse = false);
Var cumprod(Arg x, int64_t axis, bool reverse = false);
Var logcumsumexp(Arg x, int64_t axis, bool reverse = false);  ///< log of the running sum of e^x, without overflow
Var diff(Arg x, int64_t axis = -1);                           ///< x_{t+1} - x_t

// ---- order --------------------------------------------------------------------------------------------------------
/// The k smallest, ascending; ties: lowest index first.
TopK bottomk(Arg x, int64_t k, int64_t axis = -1);
/// Sorted values and where they came from; stable.
TopK sort(Arg x, int64_t axis = -1, bool descending = false);

// ---- indexing -----------------------------------------------------------------------------------------------------
/// out[.., k, ..] = sum of x[.., i.., ..] over index[i..] == k. The index occupies x's axes from `axis`; the result has
/// `count` there. The adjoint of gather; deterministic.
Var segment_sum(Arg x, Arg index, int64_t axis, int64_t count);
Var segment_mean(Arg x, Arg index, int64_t axis, int64_t count);  ///< an empty segment gives 0
/// base with slices src[.., j, ..] added at index[j] of axis.
Var index_add(Arg base, Arg index, Arg src, int64_t axis);
/// base with src[i][j] written at [index[i][j]][j] (axis 0). Positions must differ; what meets at one position adds up.
Var put_along_axis(Arg base, Arg index, Arg src, int64_t axis);

// ---- matrices, windows, images ------------------------------------------------------------------------------------
Var tril(Arg x, int64_t diagonal = 0);  ///< zero above the diagonal of the last two axes
Var triu(Arg x, int64_t diagonal = 0);  ///< zero below it
/// Diagonal of the axes a and b, as a new last axis.
Var diagonal(Arg x, int64_t offset = 0, int64_t a = -2, int64_t b = -1);
/// Windows of an axis: [.., T, ..] -> [.., windows, .., size].
Var unfold(Arg x, int64_t axis, int64_t size, int64_t step = 1);
struct Window {
  Ints kernel, stride = {1, 1}, padding = {0, 0}, dilation = {1, 1};
};
/// x [B, C, H, W] -> [B, C kh kw, L], L windows in row-major order.
Var im2col(Arg x, const Window& window);
/// The adjoint: windows added up into [B, C, height, width].
Var col2im(Arg x, int64_t height, int64_t width, const Window& window);
Var pixel_shuffle(Arg x, int64_t factor);    ///< [.., C r r, H, W] -> [.., C, H r, W r]
Var pixel_unshuffle(Arg x, int64_t factor);  ///< [.., C, H r, W r] -> [.., C r r, H, W]

}  // namespace whence
