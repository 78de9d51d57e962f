// ResNet (He et al. 2016, arXiv 1512.03385) with HuggingFace's parameter names.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "whence/nn/layers.h"

namespace whence::models {

struct ResNetConfig {
  int64_t channels = 3, embedding_size = 64;
  std::vector<int64_t> hidden_sizes{256, 512, 1024, 2048}, depths{3, 4, 6, 3};  ///< per stage
  bool bottleneck = true;                                                       ///< three convolutions a block, not two
  bool downsample_in_first_stage = false;
  bool downsample_in_bottleneck = false;  ///< the first convolution of a bottleneck takes the stride, not the second
  std::string activation = "relu";
  /// From the text of HuggingFace's config.json. \throws ValueError
  static ResNetConfig from_json(std::string_view text);
};

/// Convolution of an odd kernel that keeps the size but for its stride, then batch norm.
struct ResNetConv : nn::Module {
  ResNetConv(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride);
  Var operator()(Var x) const { return normalization(convolution(x)); }
  nn::Conv2d convolution;
  nn::BatchNorm normalization;
};

/// act(convolutions(x) + x), with x through a convolution where its size changes.
struct ResNetBlock : nn::Module {
  ResNetBlock(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t stride,
              const ResNetConfig& config);
  Var operator()(Var x) const;
  std::optional<ResNetConv> shortcut;
  nn::ModuleList<ResNetConv> layer;
  nn::FeedForward::Activation activation;
};

struct ResNetStage : nn::Module {
  ResNetStage(Module& parent, const std::string& name, size_t stage, const ResNetConfig& config);
  Var operator()(Var x) const;
  nn::ModuleList<ResNetBlock> layers;
};

/// resnet.* and classifier.1 on the mean over space.
struct ResNet : nn::Module {
  ResNet(const ResNetConfig& config, int64_t classes);
  /// Pixels [B, channels, H, W] -> what goes into each stage, and the output [B, C, H', W'].
  std::vector<Var> encode(Var pixels) const;
  Var pooled(Var hidden) const { return mean(hidden, {2, 3}); }  ///< [B, C]
  Var operator()(Var pixels) const { return classifier(pooled(encode(pixels).back())); }
  ResNetConv embedder;
  nn::ModuleList<ResNetStage> stages;
  nn::Linear classifier;
  nn::FeedForward::Activation activation;
};

}  // namespace whence::models
