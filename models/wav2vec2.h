// wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477) with a CTC head and HuggingFace's parameter names: the layout of
// the base model (a group norm behind the first convolution, norms after attention and ffn).
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "whence/models/attention.h"
#include "whence/models/pieces.h"
#include "whence/ops/ctc.h"

namespace whence::models {

struct Wav2Vec2Config {
  int64_t vocab_size = 32, hidden_size = 768, layers = 12, heads = 12, intermediate_size = 3072;
  std::vector<int64_t> conv_channels{512, 512, 512, 512, 512, 512, 512}, conv_kernels{10, 3, 3, 3, 3, 2, 2},
      conv_strides{5, 2, 2, 2, 2, 2, 2};
  bool conv_bias = false;
  int64_t position_kernel = 128, position_groups = 16;  ///< of the convolution that gives positions
  std::string activation = "gelu", conv_activation = "gelu";
  double layer_norm_eps = 1e-5, initializer_range = 0.02, dropout = 0.1;
  CtcOptions ctc{.reduction = Reduction::sum};
  /// From the text of HuggingFace's config.json. \throws ValueError, also for the layout of the large models
  static Wav2Vec2Config from_json(std::string_view text);
};

/// act(norm(conv(x))) over sound [B, C, T]; only the first has a norm, over time.
struct Wav2Vec2Conv : nn::Module {
  Wav2Vec2Conv(Module& parent, const std::string& name, size_t index, const Wav2Vec2Config& config);
  Var operator()(Var x) const;
  nn::Conv1d conv;
  std::optional<nn::LayerNorm> layer_norm;  // its weights are per channel
  nn::FeedForward::Activation activation;
};

/// x = LN(x + attention(x)); x = LN(x + ffn(x)).
struct Wav2Vec2Layer : nn::Module {
  Wav2Vec2Layer(Module& parent, const std::string& name, const Wav2Vec2Config& config);
  Var operator()(Var x) const;
  ProjectedAttention attention;
  nn::LayerNorm layer_norm;
  NamedFeedForward feed_forward;
  nn::LayerNorm final_layer_norm;
  nn::Dropout attention_dropout, output_dropout;
};

/// wav2vec2.* and lm_head.
struct Wav2Vec2ForCTC : nn::Module {
  explicit Wav2Vec2ForCTC(const Wav2Vec2Config& config);
  /// Sound [B, T] (mean 0, variance 1) -> what goes into each layer, and the output [B, frames, C].
  std::vector<Var> encode(Var wave) const;
  Var logits(Var hidden) const { return lm_head(hidden); }  ///< [B, frames, C] -> [B, frames, V]
  Var operator()(Var wave) const { return logits(encode(wave).back()); }
  /// CTC loss for labels [B, S], negative ones being padding.
  Var loss(Var logits, Var labels) const;
  Wav2Vec2Config config;
  nn::ModuleList<Wav2Vec2Conv> conv_layers;
  nn::LayerNorm projection_norm;
  nn::Linear projection;
  /// The weight [C, C / groups, K] of the positions' convolution is a direction times a size per tap.
  nn::Parameter &position_size, &position_direction, &position_bias;
  nn::LayerNorm encoder_norm;
  nn::ModuleList<Wav2Vec2Layer> layers;
  nn::Linear lm_head;

 private:
  Var positions(Var x) const;  // [B, frames, C] -> the same
};

}  // namespace whence::models
