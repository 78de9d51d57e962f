// ModernBERT (Warner et al. 2024, arXiv 2412.13663) with HuggingFace's parameter names: rotary positions, gated layers,
// attention that alternates between windows and all tokens.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "whence/models/attention.h"
#include "whence/models/pieces.h"
#include "whence/nn/rotary.h"

namespace whence::models {

struct ModernBertConfig {
  int64_t vocab_size = 50368, hidden_size = 768, layers = 22, heads = 12, intermediate_size = 1152;
  std::string activation = "gelu", head_activation = "gelu";
  double norm_eps = 1e-5;
  int64_t padding_idx = -1;
  int64_t window = 128;     ///< of local layers: half to each side
  std::vector<bool> local;  ///< per layer: a window, not all tokens
  nn::RotaryOptions local_rotary{.theta = 1e4}, global_rotary{.theta = 1.6e5};
  bool bias = false;          ///< of all dense layers but the decoder's and the classifier's
  bool tied = true;           ///< the decoder's weight is the embedding's
  bool mean_pooling = false;  ///< of classifiers: the mean of what may be seen, else the first token
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static ModernBertConfig from_json(std::string_view text);
};

/// x += Wo attention(Wqkv LN x); x += Wo(act(a) b) with a, b = Wi LN x.
struct ModernBertLayer : nn::Module {
  ModernBertLayer(Module& parent, const std::string& name, int64_t index, const ModernBertConfig& config);
  Var operator()(Var x, Var mask, Var angles) const;
  int64_t heads, window;               // window 0: all tokens
  std::optional<ScaleNorm> attn_norm;  // not in the first layer
  nn::Linear Wqkv, attn_Wo;
  ScaleNorm mlp_norm;
  nn::Linear Wi, mlp_Wo;
  nn::FeedForward::Activation activation;
};

/// model.*, head.*, and a decoder over the vocabulary, or a classifier.
struct ModernBert : nn::Module {
  explicit ModernBert(const ModernBertConfig& config, int64_t classes = 0);  ///< classes 0: masked language modelling
  /// Word vectors [B, T, C], mask [B, T] (undefined: all may be seen) -> what goes into each layer, and the output of
  /// the last norm.
  std::vector<Var> encode(Var words, Var mask = {}) const;
  /// [B, T, C] -> [B, T, V], or of a classifier [B, classes].
  Var logits(Var hidden, Var mask = {}) const;
  Var operator()(Var ids, Var mask = {}) const { return logits(encode(tok_embeddings(ids), mask).back(), mask); }
  ModernBertConfig config;
  nn::RotaryEmbedding local_rotary, global_rotary;
  nn::Embedding tok_embeddings;
  ScaleNorm embeddings_norm;
  nn::ModuleList<ModernBertLayer> layers;
  ScaleNorm final_norm;
  nn::Linear head_dense;
  ScaleNorm head_norm;
  std::optional<nn::Linear> classifier;
  nn::Parameter *decoder_weight = nullptr, *decoder_bias = nullptr;  ///< the weight is null when tied
};

}  // namespace whence::models
