// ConvNeXt V2 (Woo et al. 2023, arXiv 2301.00808) with HuggingFace's parameter names.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "whence/nn/layers.h"

namespace whence::models {

struct ConvNextConfig {
  int64_t channels = 3, patch_size = 4;
  std::vector<int64_t> hidden_sizes{96, 192, 384, 768}, depths{3, 3, 9, 3};  ///< per stage
  std::string activation = "gelu";
  double layer_norm_eps = 1e-12;  ///< of the last norm; the others have 1e-6
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static ConvNextConfig from_json(std::string_view text);
};

/// x += pw2(GRN(act(pw1(LN(dw(x)))))): a depthwise convolution of 7 x 7, then two dense layers per cell with a global
/// response norm between them.
struct ConvNextLayer : nn::Module {
  ConvNextLayer(Module& parent, const std::string& name, int64_t channels, const ConvNextConfig& config);
  Var operator()(Var x) const;  ///< [B, C, H, W]
  nn::Conv2d dwconv;
  nn::LayerNorm layernorm;
  nn::Linear pwconv1, pwconv2;
  nn::Parameter &grn_weight, &grn_bias;  ///< [1, 1, 1, 4 C]
  nn::FeedForward::Activation activation;
};

/// A norm and a convolution of 2 x 2 with stride 2 (not before the first stage), then layers.
struct ConvNextStage : nn::Module {
  ConvNextStage(Module& parent, const std::string& name, size_t stage, const ConvNextConfig& config);
  Var operator()(Var x) const;
  std::optional<nn::LayerNorm> downsampling_norm;
  std::optional<nn::Conv2d> downsampling;
  nn::ModuleList<ConvNextLayer> layers;
};

/// convnextv2.* and a classifier on the mean over space.
struct ConvNext : nn::Module {
  ConvNext(const ConvNextConfig& config, int64_t classes);
  /// Pixels [B, channels, H, W] -> what goes into each stage, and the output [B, C, H', W'].
  std::vector<Var> encode(Var pixels) const;
  Var pooled(Var hidden) const { return layernorm(mean(hidden, {2, 3})); }  ///< [B, C]
  Var operator()(Var pixels) const { return classifier(pooled(encode(pixels).back())); }
  nn::Conv2d patch_embeddings;
  nn::LayerNorm embeddings_norm;
  nn::ModuleList<ConvNextStage> stages;
  nn::LayerNorm layernorm;
  nn::Linear classifier;
};

}  // namespace whence::models
