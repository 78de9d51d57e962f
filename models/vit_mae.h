// Masked autoencoder of images (He et al. 2022, arXiv 2111.06377) with HuggingFace's parameter names.
#pragma once
#include "whence/models/vit.h"

namespace whence::models {

struct VitMaeConfig {
  VitConfig encoder, decoder{.hidden_size = 512, .layers = 8, .heads = 16, .intermediate_size = 2048};
  double mask_ratio = 0.75;
  bool norm_pix_loss = false;  ///< targets are normalised per patch
  /// From the text of HuggingFace's config.json. \throws ValueError
  static VitMaeConfig from_json(std::string_view text);
};

/// vit.* and decoder.*. Positions of both are fixed sines and cosines.
struct VitMae : nn::Module {
  explicit VitMae(const VitMaeConfig& config);
  struct Hiding {
    Var kept;     ///< [B, M]: the patches that are shown
    Var restore;  ///< [B, N]: where each patch stands, when the shown ones come first
    Var hidden;   ///< [B, N]: 1 where a patch is hidden
  };
  /// The patches with the smallest noise [B, N] are kept.
  Hiding hide(Var noise) const;
  /// Patches in their places [B, N, C] -> encoder's states of what is shown, as VitModel::encode gives them.
  std::vector<Var> encode(Var placed, const Hiding& hiding) const;
  /// The encoder's output behind its norm -> pixels of every patch [B, N, p p channels].
  Var decode(Var hidden, const Hiding& hiding) const;
  /// Mean squared error over hidden patches.
  Var loss(Var pixels, Var decoded, const Hiding& hiding) const;
  Var operator()(Var pixels, Var noise) const;  ///< the loss
  VitMaeConfig config;
  VitModel vit;
  nn::Linear decoder_embed;
  nn::Parameter &mask_token, &decoder_pos_embed;
  nn::ModuleList<VitLayer> decoder_layers;
  nn::LayerNorm decoder_norm;
  nn::Linear decoder_pred;
};

}  // namespace whence::models
