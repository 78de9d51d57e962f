// Whisper (Radford et al. 2022, arXiv 2212.04356) with HuggingFace's parameter names.
#pragma once
#include <string_view>

#include "whence/models/bart.h"
#include "whence/models/pieces.h"

namespace whence::models {

struct WhisperConfig {
  int64_t vocab_size = 51865, mel_bins = 80, padding_idx = 50256;
  int64_t max_source_positions = 1500, max_target_positions = 448;
  Seq2SeqConfig encoder{}, decoder{.decoder = true};
  bool tied = true;  ///< proj_out.weight is the decoder's embedding
  WhisperConfig();   ///< norms first, keys without a bias, no dropout
  /// From the text of HuggingFace's config.json. \throws ValueError
  static WhisperConfig from_json(std::string_view text);
};

/// model.*, and proj_out.weight when that is not tied.
struct Whisper : nn::Module {
  explicit Whisper(const WhisperConfig& config);
  /// Log-mel features [B, mel bins, 2 max_source_positions] -> what goes into each layer, and the output [B, S, C].
  /// \throws ShapeError for another number of frames
  std::vector<Var> encode(Var features) const;
  /// Word vectors [B, T, C] of the decoder and the encoder's output -> likewise.
  std::vector<Var> decode(Var words, Var memory) const;
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var features, Var decoder_ids) const {
    return logits(decode(embed_tokens(decoder_ids), encode(features).back()).back());
  }
  nn::Conv1d conv1, conv2;
  nn::Parameter& encoder_positions;  ///< [max_source_positions, C]
  nn::Embedding embed_tokens;
  nn::Parameter& decoder_positions;  ///< [max_target_positions, C]
  Seq2SeqStack encoder, decoder;
  nn::Parameter* proj_out;  ///< [V, C]; null when tied
};

}  // namespace whence::models
