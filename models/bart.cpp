#include "whence/models/bart.h"

#include <cmath>

#include "whence/models/activation.h"
#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

namespace {

Init normal(const Seq2SeqConfig& c) { return Init::normal(c.init_std); }
constexpr double kEps = 1e-5;

ProjectedAttention::Options attention_options(const Seq2SeqConfig& c) {
  return {.features = c.hidden_size, .heads = c.heads, .k_bias = c.k_bias, .init = normal(c)};
}

}  // namespace

Seq2SeqLayer::Seq2SeqLayer(Module& parent, const std::string& name, const Seq2SeqConfig& c)
    : Module(parent, name),
      norm_first(c.norm_first),
      self_attn(*this, "self_attn", attention_options(c)),
      self_attn_layer_norm(*this, "self_attn_layer_norm", c.hidden_size, kEps),
      fc1(*this, "fc1", c.hidden_size, c.intermediate_size, true, normal(c)),
      fc2(*this, "fc2", c.intermediate_size, c.hidden_size, true, normal(c)),
      final_layer_norm(*this, "final_layer_norm", c.hidden_size, kEps),
      activation(activation_named(c.activation)),
      self_attn_dropout(*this, "self_attn.dropout", c.dropout),
      encoder_attn_dropout(*this, "encoder_attn.dropout", c.dropout),
      ffn_dropout(*this, "dropout", c.dropout) {
  if (!c.decoder) return;
  encoder_attn.emplace(*this, "encoder_attn", attention_options(c));
  encoder_attn_layer_norm.emplace(*this, "encoder_attn_layer_norm", c.hidden_size, kEps);
}

Var Seq2SeqLayer::operator()(Var x, Var memory, Var mask) const {
  nn::ModuleScope here(*this, x);
  auto step = [&](const nn::LayerNorm& norm, const nn::Dropout& dropout, auto&& f) {
    x = norm_first ? x + dropout(f(norm(x))) : norm(x + dropout(f(x)));
  };
  const bool decoder = encoder_attn.has_value();
  step(self_attn_layer_norm, self_attn_dropout,
       [&](Var h) { return self_attn(h, visible(decoder ? Var() : mask, decoder)); });
  if (decoder)
    step(*encoder_attn_layer_norm, encoder_attn_dropout,
         [&](Var h) { return (*encoder_attn)(h, visible(mask), memory); });
  step(final_layer_norm, ffn_dropout, [&](Var h) { return fc2(activation(fc1(h))); });
  return x;
}

Seq2SeqStack::Seq2SeqStack(Module& parent, const std::string& name, const Seq2SeqConfig& c)
    : Module(parent, name), layers(*this, "layers", c.layers, c) {
  if (c.norm_first) layer_norm.emplace(*this, "layer_norm", c.hidden_size, kEps);
}

std::vector<Var> Seq2SeqStack::operator()(Var x, Var memory, Var mask) const {
  nn::ModuleScope here(*this, x);
  std::vector<Var> states{x};
  for (const Seq2SeqLayer& layer : layers) {
    states.push_back(layer(states.back(), memory, mask));
  }
  if (layer_norm) states.back() = (*layer_norm)(states.back());
  return states;
}

BartConfig BartConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  BartConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("max_position_embeddings", c.max_positions);
  json.read("pad_token_id", c.padding_idx);
  json.read("scale_embedding", c.scale_embedding);
  for (Seq2SeqConfig* side : {&c.encoder, &c.decoder}) {
    const std::string which = side->decoder ? "decoder" : "encoder";
    json.read("d_model", side->hidden_size);
    json.read((which + "_layers").c_str(), side->layers);
    json.read((which + "_attention_heads").c_str(), side->heads);
    json.read((which + "_ffn_dim").c_str(), side->intermediate_size);
    json.read("activation_function", side->activation);
    json.read("init_std", side->init_std);
    json.read("dropout", side->dropout);
  }
  return c;
}

Bart::Bart(const BartConfig& c)
    : config(c),
      shared(*this, "model.shared", c.vocab_size, c.encoder.hidden_size, normal(c.encoder), c.padding_idx),
      encoder_positions(parameter("model.encoder.embed_positions.weight", {c.max_positions + 2, c.encoder.hidden_size},
                                  normal(c.encoder))),
      decoder_positions(parameter("model.decoder.embed_positions.weight", {c.max_positions + 2, c.decoder.hidden_size},
                                  normal(c.decoder))),
      encoder_norm(*this, "model.encoder.layernorm_embedding", c.encoder.hidden_size, kEps),
      decoder_norm(*this, "model.decoder.layernorm_embedding", c.decoder.hidden_size, kEps),
      encoder(*this, "model.encoder", c.encoder),
      decoder(*this, "model.decoder", c.decoder),
      final_logits_bias(buffer("final_logits_bias", {1, c.vocab_size}, Init::zeros())) {}

Var Bart::embed(Var ids, const nn::Parameter& positions, const nn::LayerNorm& norm) const {
  Var x = shared(ids);
  if (config.scale_embedding) x = x * std::sqrt(double(config.encoder.hidden_size));
  return norm(x + slice(positions.in(x.graph()), 0, 2, ids.size(1) + 2));
}

std::vector<Var> Bart::encode(Var ids, Var mask) const {
  return encoder(embed(ids, encoder_positions, encoder_norm), {}, mask);
}

std::vector<Var> Bart::decode(Var ids, Var memory, Var mask) const {
  return decoder(embed(ids, decoder_positions, decoder_norm), memory, mask);
}

Var Bart::logits(Var hidden) const {
  Graph& g = hidden.graph();
  return linear(hidden, shared.weight.in(g)) + final_logits_bias.in(g);
}

}  // namespace whence::models
