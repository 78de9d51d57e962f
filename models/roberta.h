// RoBERTa (Liu et al. 2019, arXiv 1907.11692): BERT with positions that count what is no padding, and its own head.
#pragma once
#include <string_view>

#include "whence/models/bert.h"

namespace whence::models {

/// dense, gelu, norm, then the vocabulary: lm_head.* of RoBERTa and ESM. The decoder shares the word vectors when tied.
struct MaskedLmHead : nn::Module {
  MaskedLmHead(Module& parent, const std::string& name, int64_t features, int64_t vocab_size, double eps, bool tied,
               nn::Init init);
  Var operator()(Var x, const nn::Embedding& words) const;  ///< [B, T, C] -> [B, T, V]
  nn::Linear dense;
  nn::LayerNorm layer_norm;
  nn::Parameter& bias;
  nn::Parameter* decoder_weight;  ///< null when tied
};

/// Positions [B, T] of ids: padding + 1, padding + 2, .. over what is no padding, and `padding` where ids are it.
Var positions_after_padding(Var ids, int64_t padding);

/// roberta.* and lm_head.*.
struct RobertaForMaskedLM : nn::Module {
  explicit RobertaForMaskedLM(const BertConfig& config, bool tied = true);
  /// ids [B, T] -> hidden states of every level; in.positions default to those after padding.
  std::vector<Var> hidden_states(Var ids, BertInputs in = {}) const;
  Var operator()(Var ids, const BertInputs& in = {}) const { return logits(hidden_states(ids, in).back()); }
  Var logits(Var hidden) const { return lm_head(hidden, roberta.embeddings.word); }  ///< [B, T, C] -> [B, T, V]
  BertModel roberta;
  MaskedLmHead lm_head;
};

}  // namespace whence::models
