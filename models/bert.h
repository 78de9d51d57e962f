// BERT encoders (Devlin et al. 2019) with HuggingFace's parameter names, and their task heads.
#pragma once
#include <optional>
#include <string_view>

#include "whence/models/activation.h"
#include "whence/models/huggingface.h"
#include "whence/nn/layers.h"

namespace whence::models {

struct BertConfig {
  int64_t vocab_size = 30522, hidden_size = 768, layers = 12, heads = 12, intermediate_size = 3072;
  int64_t max_positions = 512, type_vocab_size = 2;
  std::string activation = "gelu";  ///< "gelu" (erf), "gelu_new" (tanh), "relu", "silu"
  double layer_norm_eps = 1e-12, dropout = 0.1;
  int64_t padding_idx = 0;            ///< this word row gets no gradient from look-ups; -1: none
  double initializer_range = 0.02;    ///< standard deviation of embeddings
  double dense_range = 0;             ///< of the dense layers' weights; 0: the same
  int64_t position_padding_idx = -1;  ///< RoBERTa: this position gets no gradient
  /// From the text of HuggingFace's config.json. \throws ValueError
  static BertConfig from_json(std::string_view text);
};

/// What goes into an encoder besides ids or embeddings. Undefined members take their defaults.
struct BertInputs {
  Var positions;    ///< [B, T] integers; default 0 .. T-1
  Var token_types;  ///< [B, T] integers; default 0
  Var mask;         ///< [B, T] u8 or boolean, 1 = may be seen; default all
};

struct BertEmbeddings : nn::Module {
  BertEmbeddings(Module& parent, const std::string& name, const BertConfig& config);
  /// ids [B, T] -> [B, T, C].
  Var operator()(Var ids, const BertInputs& in = {}) const { return embed(word(ids), in); }
  /// Word vectors [B, T, C] -> sum with position and type vectors, layer norm, dropout.
  Var embed(Var words, const BertInputs& in = {}) const;
  nn::Embedding word, position, token_type;
  nn::LayerNorm norm;
  nn::Dropout dropout;
};

/// Post-norm block: x = LN(x + attention(x)); x = LN(x + ffn(x)).
struct BertLayer : nn::Module {
  BertLayer(Module& parent, const std::string& name, const BertConfig& config);
  Var operator()(Var x, const BertInputs& in) const;
  int64_t heads;
  nn::Linear query, key, value, attention_out;
  nn::LayerNorm attention_norm;
  nn::Linear up, down;
  nn::LayerNorm output_norm;
  nn::FeedForward::Activation activation;
  nn::Dropout attention_dropout, output_dropout;
};

struct BertModel : nn::Module {
  BertModel(Module& parent, const std::string& name, const BertConfig& config, bool with_pooler = false);
  /// ids [B, T] -> hidden states of every level, 0 being the embeddings' output; the last is the encoder's.
  std::vector<Var> hidden_states(Var ids, const BertInputs& in = {}) const { return encode(embeddings(ids, in), in); }
  std::vector<Var> encode(Var embedded, const BertInputs& in) const;
  Var operator()(Var ids, const BertInputs& in = {}) const { return hidden_states(ids, in).back(); }
  /// tanh(W h[:, 0] + b) -> [B, C]. \throws ValueError without a pooler.
  Var pool(Var hidden) const;
  BertConfig config;
  BertEmbeddings embeddings;
  nn::ModuleList<BertLayer> layers;
  std::optional<nn::Linear> pooler;
};

/// bert.* and cls.predictions.*; the decoder shares the word vectors when tied.
struct BertForMaskedLM : nn::Module {
  explicit BertForMaskedLM(const BertConfig& config, bool tied = true);
  Var logits(Var hidden) const;  ///< [B, T, C] -> [B, T, V]
  bool tied;
  BertModel bert;
  nn::Linear transform;
  nn::LayerNorm transform_norm;
  nn::Parameter* decoder_weight;  ///< null when tied
  nn::Parameter& bias;
  nn::Parameter* decoder_bias;  ///< null when tied
};

/// bert.* with a pooler, and classifier.*.
struct BertForSequenceClassification : nn::Module {
  BertForSequenceClassification(const BertConfig& config, int64_t classes);
  Var logits(Var hidden) const { return classifier(bert.pool(hidden)); }  ///< [B, T, C] -> [B, classes]
  BertModel bert;
  nn::Linear classifier;
};

/// bert.* and classifier.* on every token.
struct BertForTokenClassification : nn::Module {
  BertForTokenClassification(const BertConfig& config, int64_t classes);
  Var logits(Var hidden) const { return classifier(hidden); }  ///< [B, T, C] -> [B, T, classes]
  BertModel bert;
  nn::Linear classifier;
};

/// Mean of x [B, T, C] over the places where mask [B, T] is set -> [B, C].
Var masked_mean(Var x, Var mask);

}  // namespace whence::models
