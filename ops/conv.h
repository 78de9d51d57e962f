// Convolutions and pools over one to three axes of space, channels second: x [N, C, ...].
#pragma once
#include <optional>

#include "ops/ops.h"

namespace whence {

/// Each list has one value per axis of space, or one for all; empty means stride 1, padding 0, dilation 1, output
/// padding 0.
struct ConvOptions {
  Ints stride{}, padding{}, dilation{};
  int64_t groups = 1;
  Ints output_padding{};  ///< conv_transpose: extra cells at the far end, less than the stride
};
/// weight [O, C / groups, k...], bias [O].
Var conv(Arg x, Arg weight, std::optional<Arg> bias = {}, const ConvOptions& options = {});
/// The adjoint of conv in its input: weight [C, O / groups, k...], bias [O].
Var conv_transpose(Arg x, Arg weight, std::optional<Arg> bias = {}, const ConvOptions& options = {});

struct PoolOptions {
  Ints kernel{}, stride{}, padding{};  ///< one value serves all axes; an empty stride is the kernel
  bool count_include_pad = true;       ///< averages divide by the cells of the window, padding included
  Ints dilation{};                     ///< max-pools
  bool ceil = false;                   ///< keep a last window that reaches beyond the far padding (PyTorch's ceil_mode)
  double divisor = 0;                  ///< averages: divide by this instead of counting
};
/// Mean of each window. Relevance: epsilon rule on the means; variants "sum" (on the sums), "abs", "uniform"; padding
/// takes nothing.
Var avg_pool(Arg x, const PoolOptions& options);
/// Means of out[i] windows per axis: window j covers floor(j n / out) .. ceil((j + 1) n / out).
Var adaptive_avg_pool(Arg x, const Ints& out);
/// The first maximum of each window, in row-major order, takes gradient and relevance.
Var max_pool(Arg x, const PoolOptions& options);
Var adaptive_max_pool(Arg x, const Ints& out);
/// Where the maxima stand: flat positions (i64) in one channel's space.
Var max_pool_indices(Arg x, const PoolOptions& options);
Var adaptive_max_pool_indices(Arg x, const Ints& out);
/// x at those positions of [N, C, space..], zeros elsewhere; what meets at one position adds up.
Var max_unpool(Arg x, Arg indices, const Ints& space);
/// (sum |x|^p)^(1/p) of each window.
Var lp_pool(Arg x, double p, const PoolOptions& options);

}  // namespace whence
