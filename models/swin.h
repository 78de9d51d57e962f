// Swin transformer (Liu et al. 2021, arXiv 2103.14030) with HuggingFace's parameter names.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "whence/models/attention.h"

namespace whence::models {

struct SwinConfig {
  int64_t patch_size = 4, channels = 3, embed_dim = 96, window = 7;
  std::vector<int64_t> depths{2, 2, 6, 2}, heads{3, 6, 12, 24};  ///< per stage
  double mlp_ratio = 4, layer_norm_eps = 1e-5, dropout = 0, initializer_range = 0.02;
  bool qkv_bias = true;
  std::string activation = "gelu";
  /// From the text of HuggingFace's config.json. \throws ValueError
  static SwinConfig from_json(std::string_view text);
  int64_t width(size_t stage) const { return embed_dim << stage; }
};

/// x += attention in windows(LN x), shifted in every second block; x += ffn(LN x). x [B, H, W, C].
struct SwinBlock : nn::Module {
  SwinBlock(Module& parent, const std::string& name, size_t stage, bool shifted, const SwinConfig& config);
  Var operator()(Var x) const;  ///< \throws ShapeError unless windows fill the grid
  int64_t window;
  bool shifted;
  nn::LayerNorm layernorm_before;
  ProjectedAttention attention;
  nn::Parameter& table;  ///< [(2 window - 1)^2, heads]: relative position biases
  nn::LayerNorm layernorm_after;
  NamedFeedForward mlp;
  nn::Dropout attention_dropout, output_dropout;
};

/// Blocks, and between stages cells of two by two become one: [B, H, W, C] -> [B, H / 2, W / 2, 2 C].
struct SwinStage : nn::Module {
  SwinStage(Module& parent, const std::string& name, size_t stage, const SwinConfig& config);
  Var operator()(Var x) const;
  nn::ModuleList<SwinBlock> blocks;
  std::optional<nn::LayerNorm> downsample_norm;  // not behind the last stage
  std::optional<nn::Linear> reduction;
};

/// swin.* and a classifier on the mean over all cells.
struct Swin : nn::Module {
  Swin(const SwinConfig& config, int64_t classes);
  /// Pixels [B, channels, H, W] -> what goes into each stage, and what goes into the last norm: [B, H' W', C'].
  std::vector<Var> encode(Var pixels) const;
  Var pooled(Var hidden) const { return mean(layernorm(hidden), {1}); }  ///< [B, N, C] -> [B, C]
  Var operator()(Var pixels) const { return classifier(pooled(encode(pixels).back())); }
  nn::Conv2d projection;
  nn::LayerNorm norm;
  nn::ModuleList<SwinStage> stages;
  nn::LayerNorm layernorm;
  nn::Linear classifier;
};

}  // namespace whence::models
