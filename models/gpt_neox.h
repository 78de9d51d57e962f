// GPT-NeoX and Pythia (Black et al. 2022, arXiv 2204.06745) with HuggingFace's parameter names.
#pragma once
#include <string_view>

#include "whence/models/decoder.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct GptNeoxConfig {
  int64_t vocab_size = 50432, hidden_size = 6144, layers = 44, heads = 64, intermediate_size = 24576;
  int64_t max_positions = 2048;
  std::string activation = "gelu";
  double layer_norm_eps = 1e-5;
  nn::RotaryOptions rotary;
  double rotary_share = 0.25;  ///< of a head's features, that turn
  bool parallel = true;        ///< attention and ffn read the same x
  bool bias = true;            ///< of the attention's layers
  bool tied = false;
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static GptNeoxConfig from_json(std::string_view text);
};

/// x + attention(LN x) + ffn(LN' x), or in turn.
struct GptNeoxLayer : nn::Module {
  GptNeoxLayer(Module& parent, const std::string& name, int64_t index, const GptNeoxConfig& config);
  Var operator()(Var x, Var angles, const DecoderInputs& in) const;
  size_t index;
  int64_t heads;
  bool parallel;
  nn::LayerNorm input_layernorm, post_attention_layernorm;
  nn::Linear query_key_value, dense, dense_h_to_4h, dense_4h_to_h;
  nn::FeedForward::Activation activation;
};

/// gpt_neox.*, and lm_head.weight (embed_out.weight in files) when that is not tied.
struct GptNeox : nn::Module {
  explicit GptNeox(const GptNeoxConfig& config);
  /// Word vectors [B, T, C] -> what goes into each layer, and the output of the last norm.
  std::vector<Var> encode(Var words, const DecoderInputs& in = {}) const;
  Var hidden(Var ids, const DecoderInputs& in = {}) const { return encode(embed_in(ids), in).back(); }  ///< [B, T, C]
  Var logits(Var hidden) const;  ///< [.., C] -> [.., V]
  Var operator()(Var ids, const DecoderInputs& in = {}) const { return logits(hidden(ids, in)); }  ///< [B, T, V]
  CacheLayout cache_layout() const;
  GptNeoxConfig config;
  nn::RotaryEmbedding rotary;
  nn::Embedding embed_in;
  nn::ModuleList<GptNeoxLayer> layers;
  nn::LayerNorm final_layer_norm;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
