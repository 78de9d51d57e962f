// GPT-2 (Radford et al. 2019) with HuggingFace's parameter names.
#pragma once
#include <string_view>

#include "whence/models/decoder.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct Gpt2Config {
  int64_t vocab_size = 50257, max_positions = 1024, hidden_size = 768, layers = 12, heads = 12;
  int64_t intermediate_size = 0;  ///< 0: four times the hidden size
  std::string activation = "gelu_new";
  double layer_norm_eps = 1e-5, dropout = 0.1;  ///< of embeddings and of what enters the residual stream
  bool tied = true;                     ///< the head's weight is the embedding's
  bool scale_by_inverse_layer = false;  ///< scores of layer i are divided by i + 1 too
  double initializer_range = 0.02;
  /// From the text of HuggingFace's config.json. \throws ValueError
  static Gpt2Config from_json(std::string_view text);
};

/// x W + b; weight [in, out], bias [out], as HuggingFace stores GPT-2's dense layers.
struct Gpt2Dense : nn::Module {
  Gpt2Dense(Module& parent, const std::string& name, int64_t in, int64_t out, double stddev);
  Var operator()(Var x) const { return matmul(x, weight.in(x.graph())) + bias.in(x.graph()); }
  nn::Parameter &weight, &bias;
};

/// x += attention(LN x); x += ffn(LN x).
struct Gpt2Block : nn::Module {
  Gpt2Block(Module& parent, const std::string& name, int64_t index, const Gpt2Config& config);
  Var operator()(Var x, const DecoderInputs& in) const;
  size_t index;
  int64_t heads;
  double scale;
  nn::LayerNorm ln_1;
  Gpt2Dense c_attn, c_proj;
  nn::LayerNorm ln_2;
  Gpt2Dense c_fc, mlp_c_proj;
  nn::FeedForward::Activation activation;
  nn::Dropout attention_dropout, output_dropout;
};

/// transformer.*, and lm_head.weight when that is not tied.
struct Gpt2 : nn::Module {
  explicit Gpt2(const Gpt2Config& config);
  /// Word vectors [B, T, C] -> what goes into each block, and the output of the last norm.
  /// \throws ShapeError for more tokens than positions
  std::vector<Var> encode(Var words, const DecoderInputs& in = {}) const;
  Var hidden(Var ids, const DecoderInputs& in = {}) const { return encode(wte(ids), in).back(); }  ///< [B, T, C]
  Var logits(Var hidden) const;  ///< [.., C] -> [.., V]
  Var operator()(Var ids, const DecoderInputs& in = {}) const { return logits(hidden(ids, in)); }  ///< [B, T, V]
  CacheLayout cache_layout() const;
  Gpt2Config config;
  nn::Embedding wte, wpe;
  nn::Dropout drop;
  nn::ModuleList<Gpt2Block> h;
  nn::LayerNorm ln_f;
  nn::Parameter* lm_head;  ///< [V, C]; null when tied
};

}  // namespace whence::models
