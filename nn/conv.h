// Convolutions and pools over one to three axes of space, x [B, C, space..], and over time, x [B, T, C]. Weight layouts
// and first values are PyTorch's. Errors as in nn/layers.h.
#pragma once
#include <source_location>

#include "whence/nn/module.h"
#include "whence/ops/conv.h"

namespace whence::nn {

/// conv(): x [B, in, n..] -> [B, out, m..]; weight [out, in / groups, k..], bias [out]. A kernel, stride, padding or
/// dilation of one value holds for all axes.
template <int Space> struct Conv : Module {
  Conv(Module& parent, const std::string& name, int64_t in, int64_t out, Ints kernel, ConvOptions options = {},
       bool bias = true, std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  ConvOptions options;
  Parameter& weight;
  Parameter* bias;
};
using Conv1d = Conv<1>;
using Conv2d = Conv<2>;
using Conv3d = Conv<3>;

/// conv_transpose(): x [B, in, n..] -> [B, out, m..]; weight [in, out / groups, k..], bias [out].
template <int Space> struct ConvTranspose : Module {
  ConvTranspose(Module& parent, const std::string& name, int64_t in, int64_t out, Ints kernel, ConvOptions options = {},
                bool bias = true, std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  ConvOptions options;
  Parameter& weight;
  Parameter* bias;
};
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose3d = ConvTranspose<3>;

/// Causal depthwise convolution over time: x [B, T, C]; weight [C, width], bias [C].
struct CausalConv1d : Module {
  CausalConv1d(Module& parent, const std::string& name, int64_t channels, int64_t width, bool bias = true,
               std::source_location where = std::source_location::current());
  /// state [B, width - 1, C] precedes x; absent: zeros.
  Var operator()(Arg x, std::optional<Var> state = {}) const;
  Parameter& weight;
  Parameter* bias;
};

/// Patches of an image as tokens: x [B, in, H, W] -> [B, (H / size) (W / size), out], row by row; weight [out, in,
/// size, size]. What does not fill a patch is left out. (arXiv 2010.11929)
struct PatchEmbedding : Module {
  PatchEmbedding(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t size, bool bias = true,
                 std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Conv2d projection;
};

/// max_pool() and avg_pool() with their options, and their like with a fixed size of the result, for Sequential:
/// net.add(max_pool_layer({.kernel = {2}})). kernel, stride and padding as in PoolOptions.
std::function<Var(Arg)> max_pool_layer(PoolOptions options);
std::function<Var(Arg)> avg_pool_layer(PoolOptions options);
/// [B, C, n..] -> [B, C]: the mean over all axes of space.
Var global_avg_pool(Arg x);
/// [B, ..] -> [B, numel]
Var flatten(Arg x);

}  // namespace whence::nn
