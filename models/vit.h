// Vision transformers: ViT (Dosovitskiy et al. 2021, arXiv 2010.11929) and DeiT (Touvron et al. 2021, arXiv 2012.12877)
// with HuggingFace's parameter names.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/attention.h"

namespace whence::models {

struct VitConfig {
  int64_t hidden_size = 768, layers = 12, heads = 12, intermediate_size = 3072;
  int64_t image_size = 224, patch_size = 16, channels = 3;
  std::string activation = "gelu";
  double layer_norm_eps = 1e-12, dropout = 0;
  bool qkv_bias = true;
  bool distilled = false;  ///< DeiT: a second special token, and names that begin with "deit"
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static VitConfig from_json(std::string_view text);
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// x += attention(LN x); x += ffn(LN x).
struct VitLayer : nn::Module {
  VitLayer(Module& parent, const std::string& name, const VitConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  nn::LayerNorm layernorm_before;
  ProjectedAttention attention;
  nn::LayerNorm layernorm_after;
  NamedFeedForward mlp;
  nn::Dropout attention_dropout, output_dropout;
};

struct VitModel : nn::Module {
  VitModel(Module& parent, const std::string& name, const VitConfig& config);
  /// Patches as vectors [B, N, C], without positions. \throws ShapeError for images of another size
  Var patches(Var pixels) const;
  Var placed(Var patches) const;  ///< with their positions
  /// Patches in their places (all or some, [B, M, C]) -> what goes into each layer, and what goes into the last norm:
  /// [B, special tokens + M, C].
  std::vector<Var> encode(Var placed) const;
  Var operator()(Var pixels) const { return layernorm(encode(placed(patches(pixels))).back()); }
  VitConfig config;
  nn::PatchEmbedding patch_embeddings;
  nn::Parameter& cls_token;            ///< [1, 1, C]
  nn::Parameter* distillation_token;   ///< likewise; null: none
  nn::Parameter& position_embeddings;  ///< [1, special tokens + N, C]
  nn::Dropout dropout;
  nn::ModuleList<VitLayer> layers;
  nn::LayerNorm layernorm;
};

/// vit.* (or deit.*), and a classifier on the first token.
struct Vit : nn::Module {
  Vit(const VitConfig& config, int64_t classes);
  Var logits(Var hidden) const { return classifier(select(hidden, 1, 0)); }  ///< [B, T, C] -> [B, classes]
  Var operator()(Var pixels) const { return logits(vit(pixels)); }           ///< [B, channels, H, W] -> [B, classes]
  VitModel vit;
  nn::Linear classifier;
};

/// deit.*, and a classifier on each of the two special tokens; the logits are their mean.
struct DeitWithTeacher : nn::Module {
  DeitWithTeacher(const VitConfig& config, int64_t classes);
  struct Logits {
    Var mean, of_class, of_distillation;  ///< [B, classes]
  };
  Logits logits(Var hidden) const;  ///< [B, T, C]
  Var operator()(Var pixels) const { return logits(deit(pixels)).mean; }
  VitModel deit;
  nn::Linear cls_classifier, distillation_classifier;
};

}  // namespace whence::models
