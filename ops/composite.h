// Operations beside those of ops/ops.h, whose head says what the comments leave unsaid. Most are written in other ops,
// so gradient and relevance come with them.
#pragma once
#include <vector>

#include "whence/ops/ops.h"

namespace whence {

// ---- elementwise --------------------------------------------------------------------------------------------------
// Relevance passes as it is, R, unless said.
Var atan(Arg x);  ///< inverse tangent; float
/// Angle of the point (x, y), in (-pi, pi], 0 at the origin; broadcasting, float. Two infinities are a diagonal; their
/// gradient is 0. Relevance: to the smaller of |x| and
/// |y|; the constant of the quadrant absorbs its share.
Var atan2(Arg y, Arg x);
/// log(e^a + e^b), without overflow; broadcasting, float. Relevance: R e^a / (e^a + e^b) to a, and so for b, as the
/// gradient.
Var logaddexp(Arg a, Arg b);
Var logit(Arg x);                   ///< log(x / (1 - x)), NaN outside [0, 1]; float
Var softplus(Arg x, double beta);   ///< log(1 + e^(beta x)) / beta, without overflow; float
Var elu(Arg x, double alpha = 1);   ///< x for x > 0, else alpha (e^x - 1); float (arXiv 1511.07289)
Var relu6(Arg x);                   ///< x held to [0, 6]; float; gradient 0 at 0 and 6
Var hardsigmoid(Arg x);             ///< x / 6 + 1/2 held to [0, 1]; float
Var hardswish(Arg x);               ///< x hardsigmoid(x); float (arXiv 1905.02244)
Var swish(Arg x, double beta = 1);  ///< x sigmoid(beta x); float (arXiv 1710.05941)
Var quick_gelu(Arg x);              ///< x sigmoid(1.702 x); float (arXiv 1606.08415)
Var mish(Arg x);                    ///< x tanh(softplus(x)); float (arXiv 1908.08681)
Var softsign(Arg x);                ///< x / (1 + |x|); float
/// x - lambda for x > lambda, x + lambda for x < -lambda, else 0; float. ValueError: lambda < 0
Var softshrink(Arg x, double lambda = 0.5);
Var softcap(Arg x, double cap);         ///< cap tanh(x / cap); float (Gemma 2, arXiv 2408.00118)
Var softmin(Arg x, int64_t axis = -1);  ///< softmax(-x) along axis, with its relevance; float
/// x for x > 0, else weight x: x [..], weight [] or [C], C being the extent of `axis`; float. ShapeError: they do not
/// fit. (arXiv 1502.01852)
Var prelu(Arg x, Arg weight, int64_t axis = 1);
/// a sigmoid(b), a and b the halves of an axis; float. ShapeError: odd extent. Relevance: half each. (arXiv 1612.08083)
Var glu(Arg x, int64_t axis = -1);
/// gelu(a) b, a and b the halves of an axis; float. ShapeError: odd extent. Relevance: half each. (arXiv 2002.05202)
Var geglu(Arg x, int64_t axis = -1);
/// silu(a) b, a and b the halves of an axis; float. ShapeError: odd extent. Relevance: half each. (arXiv 2002.05202)
Var swiglu(Arg x, int64_t axis = -1);
/// mask ? value : x, broadcasting; mask bool or u8, x any. DTypeError: x's dtype cannot hold value. What is filled
/// absorbs its R.
Var masked_fill(Arg x, Arg mask, double value);

// ---- creation -----------------------------------------------------------------------------------------------------
/// value everywhere: shape, of any dtype. DTypeError: it cannot hold value; ShapeError: a negative extent. A constant:
/// it carries nothing.
Var full(Graph& g, Shape shape, double value, DType dtype = f32,
         std::source_location where = std::source_location::current());
Var zeros_like(Arg x);  ///< 0 in x's shape and dtype; any. A constant: nothing of x
Var ones_like(Arg x);   ///< 1 in x's shape and dtype; any. A constant: nothing of x

// ---- reductions, norms --------------------------------------------------------------------------------------------
/// Product along one axis, 1 over nothing; float; the gradient is right for zeros, too. Relevance: the factors take
/// equal shares.
Var prod(Arg x, int64_t axis, bool keepdim = false);
/// sqrt(variance(x, axes, keepdim, correction)), in f64; float; its gradient where it is 0 is 0. axes {}: all.
Var standard_deviation(Arg x, Axes axes = {}, bool keepdim = false, int64_t correction = 1);
/// sum(|x|) over axes, {} being all; number. Relevance: R |x| / sum(|x|).
Var norm1(Arg x, Axes axes = {}, bool keepdim = false);
/// sqrt(sum(x^2)) over axes, {} being all, in f64; float; the gradient at x = 0 is 0. Relevance: R x^2 / sum(x^2).
Var norm2(Arg x, Axes axes = {}, bool keepdim = false);
/// x / max(norm2 along axis, eps); float. Relevance: R, the norm is a normaliser.
Var l2_normalize(Arg x, int64_t axis = -1, double eps = 1e-12);

// ---- scans --------------------------------------------------------------------------------------------------------
// Along one axis; reverse: from the end.
/// values: max(x_0, .., x_t), NaN from the first one on; indices: where along axis it first stood; number. Gradient and
/// relevance go to that element.
TopK cummax(Arg x, int64_t axis, bool reverse = false);
/// x_0 x_1 .. x_t; float. Relevance: the factors of each prefix take equal shares of what arrives there.
Var cumprod(Arg x, int64_t axis, bool reverse = false);
/// log(e^x_0 + .. + e^x_t), without overflow; float. Relevance: sum over t of R_t e^(x_s - y_t), as the gradient.
Var logcumsumexp(Arg x, int64_t axis, bool reverse = false);
/// x_{t+1} - x_t, one element less, none of none; number.
Var diff(Arg x, int64_t axis = -1);

// ---- order --------------------------------------------------------------------------------------------------------
/// The k smallest along axis, ascending, NaN last, of equals the lowest index; any. ValueError: not 0 <= k <= extent.
TopK bottomk(Arg x, int64_t k, int64_t axis = -1);
/// values: x in order along axis; indices: where each came from; stable, NaN is the largest; any.
TopK sort(Arg x, int64_t axis = -1, bool descending = false);

// ---- indexing -----------------------------------------------------------------------------------------------------
/// out[.., k, ..] = sum of x[.., i.., ..] over index[i..] == k, the adjoint of gather: index [i..] occupies x's axes
/// from `axis`, which become one of extent `count`; number. ShapeError: it does not fit; ValueError: count < 0.
/// Relevance: epsilon rule.
Var segment_sum(Arg x, Arg index, int64_t axis, int64_t count);
/// segment_sum divided by how many met, 0 where none did; float, otherwise alike.
Var segment_mean(Arg x, Arg index, int64_t axis, int64_t count);
/// base with slices src[.., j, ..] added at index[j] of axis: index [J], src base's shape but for J on axis; number.
/// ShapeError: they do not fit.
Var index_add(Arg base, Arg index, Arg src, int64_t axis);
/// base with src[i][j] written at [index[i][j]][j] for axis 0; what meets at one position adds up. Shapes, dtypes and
/// errors as for scatter_add.
Var put_along_axis(Arg base, Arg index, Arg src, int64_t axis);

// ---- matrices, windows, images ------------------------------------------------------------------------------------
/// x [.., m, n], 0 where column - row > diagonal; any. ShapeError: rank < 2.
Var tril(Arg x, int64_t diagonal = 0);
/// x [.., m, n], 0 where column - row < diagonal; any. ShapeError: rank < 2.
Var triu(Arg x, int64_t diagonal = 0);
/// Elements whose position on b is that on a + offset; both axes become one, the last; any. ShapeError: a is b.
Var diagonal(Arg x, int64_t offset = 0, int64_t a = -2, int64_t b = -1);
/// Windows along an axis, each `step` behind the one before: [.., T, ..] -> [.., windows, .., size]; any. ShapeError:
/// size > T; ValueError: size or step < 1.
Var unfold(Arg x, int64_t axis, int64_t size, int64_t step = 1);
/// {rows, columns} each. ValueError: another count of entries, or one of kernel, stride and dilation < 1.
struct Window {
  Ints kernel, stride = {1, 1}, padding = {0, 0}, dilation = {1, 1};
};
/// x [B, C, H, W] any -> [B, C kh kw, L], L windows in row-major order, padded with 0. ShapeError: x has another rank,
/// or is smaller than a window.
Var im2col(Arg x, const Window& window);
/// The adjoint of im2col: windows [B, C kh kw, L] added up into [B, C, height, width]; number. ShapeError: no fit.
Var col2im(Arg x, int64_t height, int64_t width, const Window& window);
/// [.., C r r, H, W] -> [.., C, H r, W r], r being factor; any. ShapeError: r r does not divide the channels;
/// ValueError: r < 1. (arXiv 1609.05158)
Var pixel_shuffle(Arg x, int64_t factor);
/// [.., C, H r, W r] -> [.., C r r, H, W], its inverse; any. ShapeError: r does not divide H and W; ValueError: r < 1.
Var pixel_unshuffle(Arg x, int64_t factor);

}  // namespace whence
