// Convolutions and pools over one to three axes of space, channels second: x [N, C, space..]. What the comments leave
// unsaid is at the head of ops/ops.h.
#pragma once
#include <optional>

#include "whence/ops/ops.h"

namespace whence {

/// Each list has one value per axis of space, or one for all (ValueError: another count). ValueError: one of stride,
/// dilation and groups < 1, or padding < 0.
struct ConvOptions {
  Ints stride{}, padding{}, dilation{};  ///< empty: 1, 0, 1
  int64_t groups = 1;
  Ints output_padding{};  ///< conv_transpose: extra cells at the far end, fewer than stride or dilation; empty: 0
};
/// y = sum over taps of weight x + bias: x [N, C, n..], weight [O, C / groups, k..], bias [O], absent: 0 -> [N, O,
/// floor((n + 2 padding - dilation (k - 1) - 1) / stride) + 1 ..]; float. ShapeError: they do not fit, or k is larger
/// than x. Relevance as for linear. (arXiv 1603.07285)
Var conv(Arg x, Arg weight, OptionalArg bias = {}, const ConvOptions& options = {});
/// The adjoint of conv in its input: x [N, C, n..], weight [C, O / groups, k..], bias [O], absent: 0 -> [N, O, (n - 1)
/// stride - 2 padding + dilation (k - 1) + output_padding + 1 ..]; float. ShapeError: they do not fit; ValueError: too
/// much output_padding. Relevance as for linear. (arXiv 1603.07285)
Var conv_transpose(Arg x, Arg weight, OptionalArg bias = {}, const ConvOptions& options = {});

/// Each list has one value per axis of space, or one for all (ValueError: another count). ValueError: no kernel, a
/// value that makes no window, or padding of more than half a window.
struct PoolOptions {
  Ints kernel{}, stride{}, padding{};  ///< stride empty: the kernel; padding empty: 0
  bool count_include_pad = true;       ///< averages divide by the cells of the window, padding included
  Ints dilation{};                     ///< max-pools; empty: 1
  bool ceil = false;                   ///< keep a last window that reaches beyond the far padding (PyTorch's ceil_mode)
  double divisor = 0;                  ///< averages: divide by this; 0: by the count
};
/// Mean of each window: x [N, C, n..] float -> [N, C, windows..]. ShapeError: a kernel larger than x with its padding;
/// ValueError: a dilation. Relevance: epsilon rule, padding taking none; variants sum, abs, uniform.
Var avg_pool(Arg x, const PoolOptions& options);
/// Mean of each of out[i] windows per axis, window j covering floor(j n / out) .. ceil((j + 1) n / out): x [N, C, n..]
/// float -> [N, C, out..]. ShapeError: not one extent per axis, or a negative one. Relevance as for avg_pool.
Var adaptive_avg_pool(Arg x, const Ints& out);
/// Largest of each window, NaN if one is: x [N, C, n..] float -> [N, C, windows..]. The first in row-major order takes
/// gradient and relevance. ShapeError: the kernel is larger than x with its padding.
Var max_pool(Arg x, const PoolOptions& options);
/// Largest of each window of adaptive_avg_pool; otherwise as max_pool.
Var adaptive_max_pool(Arg x, const Ints& out);
/// Where max_pool's values stand: flat positions (i64) in the space of one channel. Shapes, errors as there. Ends here.
Var max_pool_indices(Arg x, const PoolOptions& options);
/// Where adaptive_max_pool's values stand: flat positions (i64) in the space of one channel. Ends here.
Var adaptive_max_pool_indices(Arg x, const Ints& out);
/// x at such positions of [N, C, space..], zeros elsewhere; what meets at one position adds up: x [N, C, m..] number,
/// indices of its shape (ShapeError). Relevance: epsilon rule.
Var max_unpool(Arg x, Arg indices, const Ints& space);
/// (sum |x|^p)^(1 / p) of each window: x [N, C, n..] float -> [N, C, windows..], padding being 0. Errors as for
/// avg_pool; the gradient at x = 0 is 0. Relevance: R |x|^p / sum |x|^p.
Var lp_pool(Arg x, double p, const PoolOptions& options);

}  // namespace whence
