// Attention with its projections, under whatever names a model gives them.
#pragma once
#include "whence/nn/layers.h"

namespace whence::models {

/// Queries from x, keys and values from x or from a memory.
struct ProjectedAttention : nn::Module {
  struct Options {
    int64_t features = 0, heads = 1;
    int64_t head_size = 0;  ///< 0: features / heads
    const char *q = "q_proj", *k = "k_proj", *v = "v_proj", *out = "out_proj";
    bool q_bias = true, k_bias = true, v_bias = true, out_bias = true;
    nn::Init init = nn::Init::normal(0.02);
  };
  /// \throws ShapeError for features that do not divide into heads
  ProjectedAttention(Module& parent, const std::string& name, const Options& options);
  /// x [B, T, C], memory [B, S, C] -> [B, T, C]. Angles as for nn::rotate turn queries and keys.
  Var operator()(Var x, AttentionOptions options = {}, Var memory = {}, Var angles = {}) const;
  int64_t heads;
  nn::Linear q, k, v, out;
};

/// mask [B, S] as attention's option; undefined: all may be seen.
AttentionOptions visible(Var mask, bool causal = false);

/// down(act(up(x))), under a model's names.
struct NamedFeedForward : nn::Module {
  NamedFeedForward(Module& parent, const std::string& name, const char* up, const char* down, int64_t features,
                   int64_t hidden, const std::string& activation, nn::Init init);
  Var operator()(Var x) const { return down(activation(up(x))); }
  nn::Linear up, down;
  nn::FeedForward::Activation activation;
};

}  // namespace whence::models
