// xLSTM (Beck et al. 2024, arXiv 2405.04517): blocks of mLSTM and of sLSTM, with the parameter names of the xlstm
// package. (recurrent_kernel and bias of an sLSTM cell are [H, in, gate, out] and [H, gate, out].)
#pragma once
#include <optional>
#include <vector>

#include "whence/models/pieces.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct XlstmConfig {
  int64_t vocab_size = 50304, hidden_size = 128;
  std::vector<bool> slstm = {false, true};  ///< per block: an sLSTM with a feed-forward part, not an mLSTM
  int64_t inner_size = 256;                 ///< of an mLSTM block
  int64_t mlstm_heads = 4, slstm_heads = 4;
  int64_t projection_block = 4;  ///< q, k and v are made by blocks of so many channels
  int64_t conv_width = 4;
  int64_t feed_forward_size = 192;  ///< of an sLSTM block
  double eps = 1e-6;                ///< of the mLSTM's normaliser
  int64_t blocks() const { return int64_t(slstm.size()); }
};

/// x += down((norm(mLSTM(q, k, v)) + skip c) silu(z)), with [x', z] = up(x), c = silu(conv(x')), q and k from c, v from
/// x'.
struct MlstmLayer : nn::Module {
  MlstmLayer(Module& parent, const std::string& name, const XlstmConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  int64_t heads;
  double eps;
  nn::Linear proj_up;
  DepthwiseConv conv;
  nn::Parameter &q_proj, &k_proj, &v_proj;                               ///< [blocks, out, in]
  nn::Parameter &igate_weight, &igate_bias, &fgate_weight, &fgate_bias;  ///< [H, 3 inner], [H]
  nn::Parameter& outnorm;                                                ///< [inner], stored as weight - 1
  nn::Parameter& learnable_skip;                                         ///< [inner]
  nn::Linear proj_down;
};

/// norm(sLSTM(..)): gates i and f from silu(conv(x)), z and o from x.
struct SlstmLayer : nn::Module {
  SlstmLayer(Module& parent, const std::string& name, int64_t block, const XlstmConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  DepthwiseConv conv;
  /// [H, out, in]. The module named fgate feeds the slot of the input gate, igate that of the forget gate.
  nn::Parameter &fgate, &igate, &zgate, &ogate;
  nn::Parameter &recurrent_kernel, &bias;
  nn::Parameter& group_norm;  ///< [C], stored as weight - 1
};

struct XlstmBlock : nn::Module {
  XlstmBlock(Module& parent, const std::string& name, int64_t index, const XlstmConfig& config);
  Var operator()(Var x) const;
  ScaleNorm xlstm_norm;
  std::optional<MlstmLayer> mlstm;
  std::optional<SlstmLayer> slstm;
  std::optional<ScaleNorm> ffn_norm;  // beside an sLSTM
  std::optional<nn::Linear> ffn_up, ffn_down;
};

/// token_embedding, xlstm_block_stack.*, lm_head.
struct Xlstm : nn::Module {
  explicit Xlstm(const XlstmConfig& config);
  /// Word vectors [B, T, C] -> what goes into each block, and what goes into the last norm.
  std::vector<Var> encode(Var words) const;
  Var logits(Var hidden) const { return lm_head(post_blocks_norm(hidden)); }  ///< [B, T, C] -> [B, T, V]
  Var operator()(Var ids) const { return logits(encode(token_embedding(ids)).back()); }
  nn::Embedding token_embedding;
  nn::ModuleList<XlstmBlock> blocks;
  ScaleNorm post_blocks_norm;
  nn::Linear lm_head;
};

}  // namespace whence::models
