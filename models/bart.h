// BART (Lewis et al. 2019, arXiv 1910.13461) with HuggingFace's parameter names, and the layers it shares with Whisper.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/attention.h"

namespace whence::models {

/// One side of an encoder-decoder model.
struct Seq2SeqConfig {
  int64_t hidden_size = 1024, layers = 12, heads = 16, intermediate_size = 4096;
  std::string activation = "gelu";
  bool decoder = false;                   ///< causal, and attends to a memory
  bool norm_first = false;                ///< norms before attention and ffn, and one behind the stack
  bool k_bias = true;                     ///< keys have a bias
  double init_std = 0.02, dropout = 0.1;  ///< of what attention and ffn give
};

/// x = LN(x + attention(x)), or x + attention(LN x); likewise for the memory and the ffn.
struct Seq2SeqLayer : nn::Module {
  Seq2SeqLayer(Module& parent, const std::string& name, const Seq2SeqConfig& config);
  /// mask [B, S]: of x in an encoder, of the memory in a decoder; undefined: all may be seen.
  Var operator()(Var x, Var memory, Var mask) const;
  bool norm_first;
  ProjectedAttention self_attn;
  nn::LayerNorm self_attn_layer_norm;
  std::optional<ProjectedAttention> encoder_attn;
  std::optional<nn::LayerNorm> encoder_attn_layer_norm;
  nn::Linear fc1, fc2;
  nn::LayerNorm final_layer_norm;
  nn::FeedForward::Activation activation;
  nn::Dropout self_attn_dropout, encoder_attn_dropout, ffn_dropout;
};

struct Seq2SeqStack : nn::Module {
  Seq2SeqStack(Module& parent, const std::string& name, const Seq2SeqConfig& config);
  /// x [B, T, C] -> what goes into each layer, and the output.
  std::vector<Var> operator()(Var x, Var memory = {}, Var mask = {}) const;
  nn::ModuleList<Seq2SeqLayer> layers;
  std::optional<nn::LayerNorm> layer_norm;  // of norm_first
};

struct BartConfig {
  int64_t vocab_size = 50265, max_positions = 1024, padding_idx = 1;
  Seq2SeqConfig encoder{}, decoder{.decoder = true};
  bool scale_embedding = false;  ///< embeddings times sqrt(hidden_size)
  /// From the text of HuggingFace's config.json. \throws ValueError
  static BartConfig from_json(std::string_view text);
};

/// model.* and final_logits_bias; the head shares the word vectors.
struct Bart : nn::Module {
  explicit Bart(const BartConfig& config);
  /// ids [B, S], mask [B, S] (undefined: all may be seen) -> what goes into each layer, and the output.
  std::vector<Var> encode(Var ids, Var mask = {}) const;
  /// decoder_ids [B, T], the encoder's output [B, S, C] and its mask -> likewise.
  std::vector<Var> decode(Var decoder_ids, Var memory, Var mask = {}) const;
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids, Var decoder_ids, Var mask = {}) const {
    return logits(decode(decoder_ids, encode(ids, mask).back(), mask).back());
  }
  BartConfig config;
  nn::Embedding shared;
  nn::Parameter &encoder_positions, &decoder_positions;  ///< [max_positions + 2, C]: the first is row 2
  nn::LayerNorm encoder_norm, decoder_norm;
  Seq2SeqStack encoder, decoder;
  nn::Parameter& final_logits_bias;  ///< [1, V], a buffer

 private:
  Var embed(Var ids, const nn::Parameter& positions, const nn::LayerNorm& norm) const;
};

}  // namespace whence::models
