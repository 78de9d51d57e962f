// DistilBERT (Sanh et al. 2019, arXiv 1910.01108) with HuggingFace's parameter names.
#pragma once
#include <string_view>

#include "whence/models/attention.h"

namespace whence::models {

struct DistilBertConfig {
  int64_t vocab_size = 30522, hidden_size = 768, layers = 6, heads = 12, intermediate_size = 3072, max_positions = 512;
  std::string activation = "gelu";
  int64_t padding_idx = 0;
  bool tied = true;  ///< vocab_projector.weight is the embedding's
  double initializer_range = 0.02, dropout = 0.1;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static DistilBertConfig from_json(std::string_view text);
};

/// x = LN(x + attention(x)); x = LN(x + ffn(x)).
struct DistilBertLayer : nn::Module {
  DistilBertLayer(Module& parent, const std::string& name, const DistilBertConfig& config);
  Var operator()(Var x, Var mask) const;
  ProjectedAttention attention;
  nn::LayerNorm sa_layer_norm;
  NamedFeedForward ffn;
  nn::LayerNorm output_layer_norm;
  nn::Dropout dropout;
};

/// distilbert.*, vocab_transform, vocab_layer_norm, vocab_projector.
struct DistilBertForMaskedLM : nn::Module {
  explicit DistilBertForMaskedLM(const DistilBertConfig& config);
  /// Word vectors [B, T, C], mask [B, T] (undefined: all may be seen) -> what goes into each layer, and the last
  /// output.
  std::vector<Var> encode(Var words, Var mask = {}) const;
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids, Var mask = {}) const { return logits(encode(word(ids), mask).back()); }
  DistilBertConfig config;
  nn::Embedding word, position;
  nn::LayerNorm norm;
  nn::Dropout dropout;
  nn::ModuleList<DistilBertLayer> layers;
  nn::Linear vocab_transform;
  nn::LayerNorm vocab_layer_norm;
  nn::Parameter* projector_weight;  ///< null when tied
  nn::Parameter& projector_bias;
};

}  // namespace whence::models
