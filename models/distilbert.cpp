#include "whence/models/distilbert.h"

#include "whence/models/activation.h"
#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

constexpr double kEps = 1e-12;

DistilBertConfig DistilBertConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  DistilBertConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("dim", c.hidden_size);
  json.read("n_layers", c.layers);
  json.read("n_heads", c.heads);
  json.read("hidden_dim", c.intermediate_size);
  json.read("max_position_embeddings", c.max_positions);
  json.read("activation", c.activation);
  json.read("pad_token_id", c.padding_idx);
  json.read("tie_word_embeddings", c.tied);
  json.read("initializer_range", c.initializer_range);
  json.read("dropout", c.dropout);
  return c;
}

static Init normal(const DistilBertConfig& c) { return Init::normal(c.initializer_range); }

DistilBertLayer::DistilBertLayer(Module& parent, const std::string& name, const DistilBertConfig& c)
    : Module(parent, name),
      attention(*this, "attention",
                {.features = c.hidden_size,
                 .heads = c.heads,
                 .q = "q_lin",
                 .k = "k_lin",
                 .v = "v_lin",
                 .out = "out_lin",
                 .init = normal(c)}),
      sa_layer_norm(*this, "sa_layer_norm", c.hidden_size, kEps),
      ffn(*this, "ffn", "lin1", "lin2", c.hidden_size, c.intermediate_size, c.activation, normal(c)),
      output_layer_norm(*this, "output_layer_norm", c.hidden_size, kEps),
      dropout(*this, "ffn.dropout", c.dropout) {}

Var DistilBertLayer::operator()(Var x, Var mask) const {
  nn::ModuleScope here(*this, x);
  x = sa_layer_norm(x + attention(x, visible(mask)));
  return output_layer_norm(x + dropout(ffn(x)));
}

DistilBertForMaskedLM::DistilBertForMaskedLM(const DistilBertConfig& c)
    : config(c),
      word(*this, "distilbert.embeddings.word_embeddings", c.vocab_size, c.hidden_size, normal(c), c.padding_idx),
      position(*this, "distilbert.embeddings.position_embeddings", c.max_positions, c.hidden_size, normal(c)),
      norm(*this, "distilbert.embeddings.LayerNorm", c.hidden_size, kEps),
      dropout(*this, "distilbert.embeddings.dropout", c.dropout),
      layers(*this, "distilbert.transformer.layer", c.layers, c),
      vocab_transform(*this, "vocab_transform", c.hidden_size, c.hidden_size, true, normal(c)),
      vocab_layer_norm(*this, "vocab_layer_norm", c.hidden_size, kEps),
      projector_weight(c.tied ? nullptr
                              : &parameter("vocab_projector.weight", {c.vocab_size, c.hidden_size}, normal(c))),
      projector_bias(parameter("vocab_projector.bias", {c.vocab_size}, Init::zeros())) {}

std::vector<Var> DistilBertForMaskedLM::encode(Var words, Var mask) const {
  Graph& g = words.graph();
  std::vector<Var> states{dropout(norm(words + slice(position.weight.in(g), 0, 0, words.size(1))))};
  for (const DistilBertLayer& layer : layers) {
    states.push_back(layer(states.back(), mask));
  }
  return states;
}

Var DistilBertForMaskedLM::logits(Var hidden) const {
  Graph& g = hidden.graph();
  Var h = vocab_layer_norm(activation_named(config.activation)(vocab_transform(hidden)));
  return linear(h, (projector_weight ? *projector_weight : word.weight).in(g), projector_bias.in(g));
}

}  // namespace whence::models
