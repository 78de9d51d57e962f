// T5 (Raffel et al. 2020, arXiv 1910.10683) with HuggingFace's parameter names.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/attention.h"
#include "whence/models/pieces.h"

namespace whence::models {

struct T5Config {
  int64_t vocab_size = 32128, hidden_size = 512, head_size = 64, heads = 8, intermediate_size = 2048;
  int64_t layers = 6, decoder_layers = 6;
  int64_t buckets = 32, furthest = 128;  ///< of relative positions
  std::string activation = "relu";
  bool gated = false;  ///< act(wi_0 x) wi_1 x
  double layer_norm_eps = 1e-6, initializer_factor = 1, dropout = 0.1;
  bool tied = true;                   ///< lm_head.weight is shared.weight
  bool scale_decoder_outputs = true;  ///< by 1 / sqrt(hidden_size), before the head
  /// From the text of HuggingFace's config.json. \throws ValueError
  static T5Config from_json(std::string_view text);
};

/// x += attention(norm x); in a decoder x += attention(norm x, memory); x += ffn(norm x).
struct T5Block : nn::Module {
  T5Block(Module& parent, const std::string& name, int64_t index, bool decoder, const T5Config& config);
  /// bias [1, H, T, T]; mask [B, S]: of x in an encoder, of the memory in a decoder; undefined: all may be seen.
  Var operator()(Var x, Var bias, Var memory, Var mask) const;
  ProjectedAttention self;
  ScaleNorm self_norm;
  nn::Parameter* table = nullptr;  ///< [buckets, H], of the first block
  std::optional<ProjectedAttention> cross;
  std::optional<ScaleNorm> cross_norm;
  std::optional<nn::Linear> wi, wi_0, wi_1, wo;
  std::optional<ScaleNorm> dense_norm;
  nn::FeedForward::Activation activation;
  nn::Dropout self_dropout, cross_dropout, dense_dropout;
};

struct T5Stack : nn::Module {
  T5Stack(Module& parent, const std::string& name, bool decoder, const T5Config& config);
  /// Word vectors [B, T, C] -> what goes into each block, and the output of the last norm.
  std::vector<Var> operator()(Var words, Var memory = {}, Var mask = {}) const;
  bool decoder;
  int64_t buckets, furthest;
  nn::ModuleList<T5Block> block;
  ScaleNorm final_layer_norm;
};

/// shared, encoder.*, decoder.*, and lm_head.weight when that is not tied.
struct T5 : nn::Module {
  explicit T5(const T5Config& config);
  /// ids [B, S], mask [B, S] (undefined: all may be seen) -> what goes into each block, and the output.
  std::vector<Var> encode(Var ids, Var mask = {}) const;
  /// decoder_ids [B, T], the encoder's output [B, S, C] and its mask -> likewise.
  std::vector<Var> decode(Var decoder_ids, Var memory, Var mask = {}) const;
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids, Var decoder_ids, Var mask = {}) const {
    return logits(decode(decoder_ids, encode(ids, mask).back(), mask).back());
  }
  T5Config config;
  nn::Embedding shared;
  T5Stack encoder, decoder;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
