// Layers: small structs with named parameters and operator(). Weight layouts are HuggingFace's.
// Constructors throw ShapeError for extents below 1 and heads that do not divide, ValueError for an eps or a momentum
// out of range; both name the layer and the line that makes it. Applied, they throw what their ops throw, at the line
// that applies them.
#pragma once
#include <optional>
#include <source_location>

#include "whence/nn/conv.h"
#include "whence/nn/module.h"
#include "whence/nn/norm.h"
#include "whence/ops/ops.h"

namespace whence::nn {

/// y = x W^T + b; weight [out, in], bias [out]. Initialised as PyTorch does: uniform(+-1/sqrt(in)). `in` may be 0: y is
/// the bias then, which starts at 0.
struct Linear : Module {
  Linear(Module& parent, const std::string& name, int64_t in, int64_t out, bool bias = true,
         std::optional<Init> init = {}, std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Parameter& weight;
  Parameter* bias;
};

/// weight [rows, features]; ids of any shape -> [.., features]. padding_idx >= 0: that row gets no gradient. ValueError
/// for one beyond the rows.
struct Embedding : Module {
  Embedding(Module& parent, const std::string& name, int64_t rows, int64_t features, Init init = Init::normal(1),
            int64_t padding_idx = -1, std::source_location where = std::source_location::current());
  Var operator()(Arg ids) const;
  Parameter& weight;
  int64_t padding_idx;
};

/// Zeroes with probability p in a training graph (Graph::training) and passes everything else on. The stream of random
/// numbers is that of its full name, so no two share a mask; the run's seed advances it. \throws ValueError for p
/// outside [0, 1). (arXiv 1207.0580)
struct Dropout : Module {
  Dropout(Module& parent, const std::string& name, double p,
          std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  double p;
};

/// q, k, v, out projections around attention(). kv_heads < heads gives grouped-query attention.
struct MultiHeadAttention : Module {
  MultiHeadAttention(Module& parent, const std::string& name, int64_t features, int64_t heads, int64_t kv_heads = 0,
                     bool bias = true, std::source_location where = std::source_location::current());
  /// x [B, T, C] -> [B, T, C]; memory [B, S, C] for cross attention.
  Var operator()(Arg x, AttentionOptions options = {}, std::optional<Var> memory = {}) const;
  int64_t heads, kv_heads;
  Linear q, k, v, out;
};

/// down(act(up(x))).
struct FeedForward : Module {
  using Activation = Var (*)(Arg);
  FeedForward(Module& parent, const std::string& name, int64_t features, int64_t hidden, Activation act = gelu,
              bool bias = true, std::source_location where = std::source_location::current());
  Var operator()(Arg x) const;
  Linear up, down;
  Activation act;
};

/// [B, T, H*D] <-> [B, H, T, D].
Var split_heads(Arg x, int64_t heads);
Var merge_heads(Arg x);

}  // namespace whence::nn
