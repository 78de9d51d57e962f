// Mamba (Gu and Dao 2023, arXiv 2312.00752) and Mamba 2 (Dao and Gu 2024, arXiv 2405.21060) with HuggingFace's
// parameter names. The state runs through linear_scan.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/pieces.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct MambaConfig {
  int64_t vocab_size = 50280, hidden_size = 768, layers = 32, state_size = 16, conv_width = 4;
  int64_t expand = 2;          ///< inner channels E are so many times the hidden size
  int64_t time_step_rank = 0;  ///< Mamba; 0: hidden_size / 16, rounded up
  int64_t heads = 0;           ///< Mamba 2 where it is not 0: heads of E / heads channels that share a decay
  int64_t groups = 1;          ///< Mamba 2: of heads that share B and C
  bool bias = false, conv_bias = true, tied = true;
  double layer_norm_eps = 1e-5, initializer_range = 0.1;
  double time_step_min = 1e-3, time_step_max = 0.1;  ///< of steps at the start
  double time_step_low = 0, time_step_high = 0;      ///< Mamba 2: steps are held to this; high 0: no limit
  /// From the text of HuggingFace's config.json. \throws ValueError
  static MambaConfig from_json(std::string_view text);
  int64_t inner() const { return expand * hidden_size; }
  int64_t rank() const { return time_step_rank ? time_step_rank : (hidden_size + 15) / 16; }
};

/// S6, the selective scan: h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t, y_t = C_t h_t + D u_t.
/// u and dt [B, T, E], A [E, N], B and C [B, T, N], D [E] -> [B, T, E].
Var selective_scan(Var u, Var dt, Var A, Var B, Var C, Var D);

/// out(S6(silu(conv(x))) silu(z)), x and z the halves of in(x).
struct MambaMixer : nn::Module {
  MambaMixer(Module& parent, const std::string& name, const MambaConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  nn::Linear in_proj;
  DepthwiseConv conv1d;
  nn::Linear x_proj, dt_proj;
  nn::Parameter &dt_bias, &A_log, &D;  ///< dt_bias: "dt_proj.bias"
  nn::Linear out_proj;
};

/// The same with one decay a head, steps from in(x), and a norm behind the gate.
struct Mamba2Mixer : nn::Module {
  Mamba2Mixer(Module& parent, const std::string& name, const MambaConfig& config);
  Var operator()(Var x) const;  ///< [B, T, C] -> [B, T, C]
  MambaConfig config;
  nn::Linear in_proj;
  DepthwiseConv conv1d;
  nn::Parameter &dt_bias, &A_log, &D;
  ScaleNorm norm;
  nn::Linear out_proj;
};

/// x += mixer(norm x).
struct MambaBlock : nn::Module {
  MambaBlock(Module& parent, const std::string& name, const MambaConfig& config);
  Var operator()(Var x) const;
  ScaleNorm norm;
  std::optional<MambaMixer> mixer;
  std::optional<Mamba2Mixer> mixer2;
};

/// backbone.*, and lm_head.weight when that is not tied.
struct Mamba : nn::Module {
  explicit Mamba(const MambaConfig& config);
  /// Word vectors [B, T, C] -> what comes out of each layer, and the output of the last norm.
  std::vector<Var> encode(Var words) const;
  Var logits(Var hidden) const;                                                     ///< [.., C] -> [.., V]
  Var operator()(Var ids) const { return logits(encode(embeddings(ids)).back()); }  ///< [B, T] -> [B, T, V]
  nn::Embedding embeddings;
  nn::ModuleList<MambaBlock> layers;
  ScaleNorm norm_f;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
