#include "whence/models/gpt_neox.h"

#include "whence/models/activation.h"
#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

GptNeoxConfig GptNeoxConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  GptNeoxConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("max_position_embeddings", c.max_positions);
  json.read("hidden_act", c.activation);
  json.read("layer_norm_eps", c.layer_norm_eps);
  c.rotary = rotary_from_json(json);
  json.read("rotary_emb_base", c.rotary.theta);
  json.read("rotary_pct", c.rotary_share);
  json.below("rope_parameters").read("partial_rotary_factor", c.rotary_share);
  json.read("use_parallel_residual", c.parallel);
  json.read("attention_bias", c.bias);
  json.read("tie_word_embeddings", c.tied);
  json.read("initializer_range", c.initializer_range);
  return c;
}

static Init normal(const GptNeoxConfig& c) { return Init::normal(c.initializer_range); }

GptNeoxLayer::GptNeoxLayer(Module& parent, const std::string& name, int64_t i, const GptNeoxConfig& c)
    : Module(parent, name),
      index(size_t(i)),
      heads(c.heads),
      parallel(c.parallel),
      input_layernorm(*this, "input_layernorm", c.hidden_size, c.layer_norm_eps),
      post_attention_layernorm(*this, "post_attention_layernorm", c.hidden_size, c.layer_norm_eps),
      query_key_value(*this, "attention.query_key_value", c.hidden_size, 3 * c.hidden_size, c.bias, normal(c)),
      dense(*this, "attention.dense", c.hidden_size, c.hidden_size, c.bias, normal(c)),
      dense_h_to_4h(*this, "mlp.dense_h_to_4h", c.hidden_size, c.intermediate_size, true, normal(c)),
      dense_4h_to_h(*this, "mlp.dense_4h_to_h", c.intermediate_size, c.hidden_size, true, normal(c)),
      activation(activation_named(c.activation)) {}

Var GptNeoxLayer::operator()(Var x, Var angles, const DecoderInputs& in) const {
  nn::ModuleScope here(*this, x);
  auto parts = chunk(nn::split_heads(query_key_value(input_layernorm(x)), heads), 3);  // packed by head: [B, H, T, 3 D]
  Var seen = attend(nn::rotate(parts[0], angles), nn::rotate(parts[1], angles), parts[2], {}, in, index);
  Var attended = dense(nn::merge_heads(seen));
  Var h = post_attention_layernorm(parallel ? x : x + attended);
  return x + attended + dense_4h_to_h(activation(dense_h_to_4h(h)));
}

GptNeox::GptNeox(const GptNeoxConfig& c)
    : config(c),
      rotary(int64_t(double(c.hidden_size / c.heads) * c.rotary_share), c.rotary),
      embed_in(*this, "gpt_neox.embed_in", c.vocab_size, c.hidden_size, normal(c)),
      layers(*this, "gpt_neox.layers"),
      final_layer_norm(*this, "gpt_neox.final_layer_norm", c.hidden_size, c.layer_norm_eps),
      lm_head(c.tied ? nullptr : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, normal(c))) {
  for (int64_t i = 0; i < c.layers; ++i) layers.emplace_back(i, c);
}

std::vector<Var> GptNeox::encode(Var words, const DecoderInputs& in) const {
  Var angles = rotary_angles(rotary, words, in);
  std::vector<Var> states{words};
  for (const GptNeoxLayer& layer : layers) {
    states.push_back(layer(states.back(), angles, in));
  }
  states.back() = final_layer_norm(states.back());
  return states;
}

Var GptNeox::logits(Var hidden) const {
  return linear(hidden, (lm_head ? *lm_head : embed_in.weight).in(hidden.graph()));
}

CacheLayout GptNeox::cache_layout() const {
  const int64_t D = config.hidden_size / config.heads;
  return {config.layers, config.heads, D, D, config.max_positions};
}

}  // namespace whence::models
