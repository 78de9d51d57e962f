// The layout of xLSTM 7B (Beck et al. 2025, arXiv 2503.13427) with HuggingFace's parameter names: mLSTM only, RMS
// norms, capped gates and logits, a gated feed-forward part.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/pieces.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct XlstmLargeConfig {
  int64_t vocab_size = 50304, hidden_size = 4096, layers = 32, heads = 8;
  double qk_factor = 0.5, v_factor = 1;  ///< widths of q and k, and of v, over the hidden size
  int64_t feed_forward_size = 10944;
  int64_t chunk_size = 64;  ///< whole chunks run in parallel, the rest step by step; 0: all steps
  bool fused = false;       ///< q, k, v and the output gate are one matrix, so are the gates, and the feed-forward's
  bool out_norm = true, bias = false, tied = false;
  double norm_eps = 1e-6, eps = 1e-6, gate_cap = 15, logit_cap = 30;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static XlstmLargeConfig from_json(std::string_view text);
  int64_t qk_size() const { return int64_t(double(hidden_size) * qk_factor); }
  int64_t v_size() const { return int64_t(double(hidden_size) * v_factor); }
};

struct XlstmLargeMixer : nn::Module {
  XlstmLargeMixer(Module& parent, const std::string& name, const XlstmLargeConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  XlstmLargeConfig config;
  std::optional<nn::Linear> q, k, v, ogate_preact, igate_preact, fgate_preact;  // apart
  std::optional<nn::Linear> qkv_opreact, ifgate_preact;                         // fused
  nn::Parameter& multihead_norm;                                                ///< [v_size]
  nn::Linear out_proj;
};

/// x += mixer(norm x); x += down(silu(gate(norm x)) up(norm x)).
struct XlstmLargeBlock : nn::Module {
  XlstmLargeBlock(Module& parent, const std::string& name, const XlstmLargeConfig& config);
  Var operator()(Var x) const;
  ScaleNorm norm_mlstm;
  XlstmLargeMixer mlstm_layer;
  ScaleNorm norm_ffn;
  std::optional<nn::Linear> proj_up_gate, proj_up, proj_up_gate_z;  // apart, or fused
  nn::Linear proj_down;
};

/// backbone.*, and lm_head.weight when that is not tied.
struct XlstmLarge : nn::Module {
  explicit XlstmLarge(const XlstmLargeConfig& config);
  /// Word vectors [B, T, C] -> what goes into each block, and the output of the last norm.
  std::vector<Var> encode(Var words) const;
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids) const { return logits(encode(embeddings(ids)).back()); }
  XlstmLargeConfig config;
  nn::Embedding embeddings;
  nn::ModuleList<XlstmLargeBlock> blocks;
  std::optional<ScaleNorm> out_norm;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
