#include "whence/models/bert.h"

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

BertConfig BertConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  BertConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("max_position_embeddings", c.max_positions);
  json.read("type_vocab_size", c.type_vocab_size);
  json.read("hidden_act", c.activation);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("hidden_dropout_prob", c.dropout);
  json.read("initializer_range", c.initializer_range);
  c.padding_idx = json.value("pad_token_id", int64_t(-1));
  return c;
}

static Init dense_init(const BertConfig& c) {
  return Init::normal(c.dense_range > 0 ? c.dense_range : c.initializer_range);
}

BertEmbeddings::BertEmbeddings(Module& parent, const std::string& name, const BertConfig& c)
    : Module(parent, name),
      word(*this, "word_embeddings", c.vocab_size, c.hidden_size, Init::normal(c.initializer_range), c.padding_idx),
      position(*this, "position_embeddings", c.max_positions, c.hidden_size, Init::normal(c.initializer_range),
               c.position_padding_idx),
      token_type(*this, "token_type_embeddings", c.type_vocab_size, c.hidden_size, Init::normal(c.initializer_range)),
      norm(*this, "LayerNorm", c.hidden_size, c.layer_norm_eps),
      dropout(*this, "dropout", c.dropout) {}

Var BertEmbeddings::embed(Var words, const BertInputs& in) const {
  nn::ModuleScope here(*this, words);
  Graph& g = words.graph();
  int64_t T = words.size(1);
  if (T > position.weight.shape()[0] && !in.positions.defined())
    throw ShapeError("a sequence of " + std::to_string(T) + " tokens is longer than the " +
                     std::to_string(position.weight.shape()[0]) + " positions of '" + name() + "'");
  Var where =
      in.positions.defined() ? position(in.positions) : slice(position.weight.in(g), 0, 0, T);  // (T, C) or (B, T, C)
  Var type = in.token_types.defined() ? token_type(in.token_types)
                                      : slice(token_type.weight.in(g), 0, 0, 1);  // (1, C) or (B, T, C)
  return dropout(norm(words + type + where));
}

BertLayer::BertLayer(Module& parent, const std::string& name, const BertConfig& c)
    : Module(parent, name),
      heads(c.heads),
      query(*this, "attention.self.query", c.hidden_size, c.hidden_size, true, dense_init(c)),
      key(*this, "attention.self.key", c.hidden_size, c.hidden_size, true, dense_init(c)),
      value(*this, "attention.self.value", c.hidden_size, c.hidden_size, true, dense_init(c)),
      attention_out(*this, "attention.output.dense", c.hidden_size, c.hidden_size, true, dense_init(c)),
      attention_norm(*this, "attention.output.LayerNorm", c.hidden_size, c.layer_norm_eps),
      up(*this, "intermediate.dense", c.hidden_size, c.intermediate_size, true, dense_init(c)),
      down(*this, "output.dense", c.intermediate_size, c.hidden_size, true, dense_init(c)),
      output_norm(*this, "output.LayerNorm", c.hidden_size, c.layer_norm_eps),
      activation(activation_named(c.activation)),
      attention_dropout(*this, "attention.output.dropout", c.dropout),
      output_dropout(*this, "output.dropout", c.dropout) {
  if (c.hidden_size % c.heads)
    throw ValueError(this->name() + ": hidden size " + std::to_string(c.hidden_size) + " does not divide into " +
                     std::to_string(c.heads) + " heads");
}

Var BertLayer::operator()(Var x, const BertInputs& in) const {
  nn::ModuleScope here(*this, x);
  AttentionOptions options;
  if (in.mask.defined()) options.mask = in.mask;
  Var seen = attention(nn::split_heads(query(x), heads), nn::split_heads(key(x), heads),
                       nn::split_heads(value(x), heads), options);
  x = attention_norm(x + attention_dropout(attention_out(nn::merge_heads(seen))));
  return output_norm(x + output_dropout(down(activation(up(x)))));
}

BertModel::BertModel(Module& parent, const std::string& name, const BertConfig& c, bool with_pooler)
    : Module(parent, name), config(c), embeddings(*this, "embeddings", c), layers(*this, "encoder.layer", c.layers, c) {
  if (with_pooler) pooler.emplace(*this, "pooler.dense", c.hidden_size, c.hidden_size, true, dense_init(c));
}

std::vector<Var> BertModel::encode(Var embedded, const BertInputs& in) const {
  std::vector<Var> states{embedded};
  nn::ModuleScope here(*this, embedded);
  for (const BertLayer& layer : layers) states.push_back(layer(states.back(), in));
  return states;
}

Var BertModel::pool(Var hidden) const {
  if (!pooler) throw ValueError("'" + name() + "' was made without a pooler");
  nn::ModuleScope here(*this, hidden);
  return tanh((*pooler)(select(hidden, 1, 0)));
}

BertForMaskedLM::BertForMaskedLM(const BertConfig& c, bool is_tied)
    : tied(is_tied),
      bert(*this, "bert", c),
      transform(*this, "cls.predictions.transform.dense", c.hidden_size, c.hidden_size, true, dense_init(c)),
      transform_norm(*this, "cls.predictions.transform.LayerNorm", c.hidden_size, c.layer_norm_eps),
      decoder_weight(is_tied ? nullptr
                             : &parameter("cls.predictions.decoder.weight", {c.vocab_size, c.hidden_size},
                                          Init::normal(c.initializer_range))),
      bias(parameter("cls.predictions.bias", {c.vocab_size}, Init::zeros())),
      decoder_bias(is_tied ? nullptr : &parameter("cls.predictions.decoder.bias", {c.vocab_size}, Init::zeros())) {}

Var BertForMaskedLM::logits(Var hidden) const {
  Graph& g = hidden.graph();
  Scope scope(g, "predictions");
  Var h = transform_norm(bert.layers[0].activation(transform(hidden)));
  return tied ? linear(h, bert.embeddings.word.weight.in(g), bias.in(g))
              : linear(h, decoder_weight->in(g), decoder_bias->in(g));
}

BertForSequenceClassification::BertForSequenceClassification(const BertConfig& c, int64_t classes)
    : bert(*this, "bert", c, true), classifier(*this, "classifier", c.hidden_size, classes, true, dense_init(c)) {}
BertForTokenClassification::BertForTokenClassification(const BertConfig& c, int64_t classes)
    : bert(*this, "bert", c), classifier(*this, "classifier", c.hidden_size, classes, true, dense_init(c)) {}

Var masked_mean(Var x, Var mask) {
  Var m = unsqueeze(cast(mask, x.dtype()), -1);  // (B, T, 1)
  return sum(x * m, {1}) / maximum(sum(m, {1}), 1.0);
}

}  // namespace whence::models
