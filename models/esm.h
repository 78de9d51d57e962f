// ESM-2 (Lin et al. 2023, doi 10.1126/science.ade2574), a language model of proteins, with HuggingFace's parameter
// names: rotary positions, norms first. Token dropout, absolute positions and the contact head are not here.
#pragma once
#include <string_view>

#include "whence/models/attention.h"
#include "whence/models/roberta.h"
#include "whence/nn/rotary.h"

namespace whence::models {

struct EsmConfig {
  int64_t vocab_size = 33, hidden_size = 320, layers = 6, heads = 20, intermediate_size = 1280;
  double layer_norm_eps = 1e-5;
  int64_t padding_idx = 1;
  bool tied = true;  ///< the head's decoder is the embedding
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError, also for what is not here
  static EsmConfig from_json(std::string_view text);
};

/// x += attention(LN x); x += ffn(LN x).
struct EsmLayer : nn::Module {
  EsmLayer(Module& parent, const std::string& name, const EsmConfig& config);
  Var operator()(Var x, Var mask, Var angles) const;
  nn::LayerNorm attention_norm;
  ProjectedAttention attention;
  nn::LayerNorm norm;
  nn::Linear intermediate, output;
};

/// esm.* and lm_head.*.
struct EsmForMaskedLM : nn::Module {
  explicit EsmForMaskedLM(const EsmConfig& config);
  /// Word vectors [B, T, C], mask [B, T] (undefined: all may be seen) -> what goes into each layer, and the output of
  /// the last norm.
  std::vector<Var> encode(Var words, Var mask = {}) const;
  Var logits(Var hidden) const { return lm_head(hidden, word); }  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids, Var mask = {}) const { return logits(encode(word(ids), mask).back()); }
  nn::RotaryEmbedding rotary;
  nn::Embedding word;
  nn::ModuleList<EsmLayer> layers;
  nn::LayerNorm norm_after;
  MaskedLmHead lm_head;
};

}  // namespace whence::models
