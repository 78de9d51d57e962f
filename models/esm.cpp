#include "whence/models/esm.h"

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

EsmConfig EsmConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  if (json.value("token_dropout", false) || json.value("emb_layer_norm_before", false) ||
      json.value("position_embedding_type", std::string("rotary")) != "rotary")
    throw ValueError("configuration: an ESM with token dropout, a first norm or absolute positions is not known");
  EsmConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("pad_token_id", c.padding_idx);
  json.read("tie_word_embeddings", c.tied);
  json.read("initializer_range", c.initializer_range);
  return c;
}

static Init normal(const EsmConfig& c) { return Init::normal(c.initializer_range); }

EsmLayer::EsmLayer(Module& parent, const std::string& name, const EsmConfig& c)
    : Module(parent, name),
      attention_norm(*this, "attention.LayerNorm", c.hidden_size, c.layer_norm_eps),
      attention(*this, "attention",
                {.features = c.hidden_size,
                 .heads = c.heads,
                 .q = "self.query",
                 .k = "self.key",
                 .v = "self.value",
                 .out = "output.dense",
                 .init = normal(c)}),
      norm(*this, "LayerNorm", c.hidden_size, c.layer_norm_eps),
      intermediate(*this, "intermediate.dense", c.hidden_size, c.intermediate_size, true, normal(c)),
      output(*this, "output.dense", c.intermediate_size, c.hidden_size, true, normal(c)) {}

Var EsmLayer::operator()(Var x, Var mask, Var angles) const {
  nn::ModuleScope here(*this, x);
  x = x + attention(attention_norm(x), visible(mask), {}, angles);
  return x + output(gelu(intermediate(norm(x))));
}

EsmForMaskedLM::EsmForMaskedLM(const EsmConfig& c)
    : rotary(c.hidden_size / c.heads),
      word(*this, "esm.embeddings.word_embeddings", c.vocab_size, c.hidden_size, normal(c), c.padding_idx),
      layers(*this, "esm.encoder.layer", c.layers, c),
      norm_after(*this, "esm.encoder.emb_layer_norm_after", c.hidden_size, c.layer_norm_eps),
      lm_head(*this, "lm_head", c.hidden_size, c.vocab_size, c.layer_norm_eps, c.tied, normal(c)) {}

std::vector<Var> EsmForMaskedLM::encode(Var words, Var mask) const {
  Graph& g = words.graph();
  Var angles = rotary.angles(g, words.size(1), words.dtype());
  std::vector<Var> states{mask.defined() ? words * unsqueeze(cast(mask, words.dtype()), -1) : words};
  for (const EsmLayer& layer : layers) {
    states.push_back(layer(states.back(), mask, angles));
  }
  states.back() = norm_after(states.back());
  return states;
}

}  // namespace whence::models
