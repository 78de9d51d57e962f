// Llama (Touvron et al. 2023) and its relatives Mistral, Qwen 2 and 3, Gemma 1 and 2, with HuggingFace's parameter
// names.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/decoder.h"
#include "whence/models/pieces.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct LlamaConfig {
  int64_t vocab_size = 32000, hidden_size = 4096, layers = 32, heads = 32, intermediate_size = 11008;
  int64_t kv_heads = 0;   ///< keys and values for groups of heads; 0: as many as heads
  int64_t head_size = 0;  ///< 0: hidden_size / heads
  int64_t max_positions = 2048;
  std::string activation = "silu";
  double rms_norm_eps = 1e-6;
  nn::RotaryOptions rotary;
  bool tied = false;  ///< the head's weight is the embedding's
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool qk_norm = false;          ///< Qwen 3: queries and keys are normalised per head
  std::vector<int64_t> windows;  ///< per layer: tokens seen, itself included (0: all); {}: all
  int64_t padding_idx = -1;      ///< this row of the embedding gets no gradient; -1: none
  double initializer_range = 0.02;
  // Gemma.
  bool gemma = false;                       ///< embeddings times sqrt(hidden_size); norms scale by 1 + weight
  bool norms_after = false;                 ///< Gemma 2: norms after attention and ffn too
  double attention_scale = 0;               ///< 0: 1 / sqrt(head_size)
  double attention_cap = 0, logit_cap = 0;  ///< c tanh(s / c) of scores and of logits; 0: as they are
  /// From the text of HuggingFace's config.json. \throws ValueError
  static LlamaConfig from_json(std::string_view text);
  ScaleNorm::Options norm() const { return {.eps = rms_norm_eps, .plus_one = gemma}; }
  int64_t key_heads() const { return kv_heads ? kv_heads : heads; }
  int64_t key_size() const { return head_size ? head_size : hidden_size / heads; }
};

/// x += attention(norm x); x += down(act(gate(norm x)) up(norm x)).
struct LlamaLayer : nn::Module {
  LlamaLayer(Module& parent, const std::string& name, int64_t index, const LlamaConfig& config);
  Var operator()(Var x, Var angles, const DecoderInputs& in) const;  ///< angles as rotary_angles gives them
  size_t index;
  int64_t heads, kv_heads;
  DecoderAttention attention;
  ScaleNorm input_layernorm;
  nn::Linear q_proj, k_proj, v_proj, o_proj;
  std::optional<ScaleNorm> q_norm, k_norm;
  ScaleNorm post_attention_layernorm;
  std::optional<ScaleNorm> pre_feedforward_layernorm, post_feedforward_layernorm;
  nn::Linear gate_proj, up_proj, down_proj;
  nn::FeedForward::Activation activation;

 private:
  Var attended(Var x, Var angles, const DecoderInputs& in) const;
};

/// model.*, and lm_head.weight when that is not tied.
struct Llama : nn::Module {
  explicit Llama(const LlamaConfig& config);
  /// Word vectors [B, T, C] -> what goes into each layer, and the output of the last norm.
  std::vector<Var> encode(Var words, const DecoderInputs& in = {}) const;
  /// ids [B, T] -> word vectors [B, T, C], scaled for Gemma.
  Var words(Var ids) const;
  Var hidden(Var ids, const DecoderInputs& in = {}) const { return encode(words(ids), in).back(); }  ///< [B, T, C]
  Var logits(Var hidden) const;  ///< [.., C] -> [.., V]
  Var operator()(Var ids, const DecoderInputs& in = {}) const { return logits(hidden(ids, in)); }  ///< [B, T, V]
  CacheLayout cache_layout() const;
  LlamaConfig config;
  nn::RotaryEmbedding rotary;
  nn::Embedding embed_tokens;
  nn::ModuleList<LlamaLayer> layers;
  ScaleNorm norm;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
