#include "whence/models/llama.h"

#include <cmath>

#include "whence/models/activation.h"
#include "whence/models/config.h"
#include "whence/ops/composite.h"

namespace whence::models {

using nn::Init;

LlamaConfig LlamaConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  LlamaConfig c;
  const std::string type = json.value("model_type", std::string("llama"));
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("num_key_value_heads", c.kv_heads);
  json.read("head_dim", c.head_size);
  json.read("intermediate_size", c.intermediate_size);
  json.read("max_position_embeddings", c.max_positions);
  json.read("hidden_act", c.activation);
  json.read("hidden_activation", c.activation);
  json.read("rms_norm_eps", c.rms_norm_eps);
  c.rotary = rotary_from_json(json);
  c.gemma = type.starts_with("gemma");
  c.tied = c.gemma;
  json.read("tie_word_embeddings", c.tied);
  c.qkv_bias = c.out_bias = json.value("attention_bias", false);
  if (type == "qwen2") c.qkv_bias = true;
  json.read("mlp_bias", c.mlp_bias);
  c.qk_norm = json.value("qk_norm", type == "qwen3");
  json.read("pad_token_id", c.padding_idx);
  json.read("initializer_range", c.initializer_range);
  c.norms_after = type == "gemma2";
  if (json.has("query_pre_attn_scalar")) c.attention_scale = 1 / std::sqrt(json.value("query_pre_attn_scalar", 1.0));
  json.read("attn_logit_softcapping", c.attention_cap);
  json.read("final_logit_softcapping", c.logit_cap);
  if (json.has("sliding_window")) {
    const auto types = json.value("layer_types", std::vector<std::string>());
    const bool all = types.empty() && json.value("use_sliding_window", true);
    for (int64_t i = 0; i < c.layers; ++i) {
      const bool slides = all || (size_t(i) < types.size() && types[size_t(i)] == "sliding_attention");
      c.windows.push_back(slides ? json.value("sliding_window", int64_t(0)) : 0);
    }
  }
  return c;
}

namespace {

Init normal(const LlamaConfig& c) { return Init::normal(c.initializer_range); }

}  // namespace

LlamaLayer::LlamaLayer(Module& parent, const std::string& name, int64_t i, const LlamaConfig& c)
    : Module(parent, name),
      index(size_t(i)),
      heads(c.heads),
      kv_heads(c.key_heads()),
      attention{.scale = c.attention_scale,
                .window = index < c.windows.size() ? c.windows[index] : 0,
                .cap = c.attention_cap},
      input_layernorm(*this, "input_layernorm", c.hidden_size, c.norm()),
      q_proj(*this, "self_attn.q_proj", c.hidden_size, heads * c.key_size(), c.qkv_bias, normal(c)),
      k_proj(*this, "self_attn.k_proj", c.hidden_size, kv_heads * c.key_size(), c.qkv_bias, normal(c)),
      v_proj(*this, "self_attn.v_proj", c.hidden_size, kv_heads * c.key_size(), c.qkv_bias, normal(c)),
      o_proj(*this, "self_attn.o_proj", heads * c.key_size(), c.hidden_size, c.out_bias, normal(c)),
      post_attention_layernorm(*this, "post_attention_layernorm", c.hidden_size, c.norm()),
      gate_proj(*this, "mlp.gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, normal(c)),
      up_proj(*this, "mlp.up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, normal(c)),
      down_proj(*this, "mlp.down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, normal(c)),
      activation(activation_named(c.activation)) {
  auto add = [&](std::optional<ScaleNorm>& norm, bool there, const char* at, int64_t features) {
    if (there) norm.emplace(*this, at, features, c.norm());
  };
  add(q_norm, c.qk_norm, "self_attn.q_norm", c.key_size());
  add(k_norm, c.qk_norm, "self_attn.k_norm", c.key_size());
  add(pre_feedforward_layernorm, c.norms_after, "pre_feedforward_layernorm", c.hidden_size);
  add(post_feedforward_layernorm, c.norms_after, "post_feedforward_layernorm", c.hidden_size);
  if (heads % kv_heads)
    throw ValueError(this->name() + ": " + std::to_string(heads) + " heads do not divide into groups for " +
                     std::to_string(kv_heads) + " key heads");
}

Var LlamaLayer::attended(Var x, Var angles, const DecoderInputs& in) const {
  Var q = nn::split_heads(q_proj(x), heads), k = nn::split_heads(k_proj(x), kv_heads),
      v = nn::split_heads(v_proj(x), kv_heads);
  if (q_norm) q = (*q_norm)(q), k = (*k_norm)(k);
  return o_proj(nn::merge_heads(attend(nn::rotate(q, angles), nn::rotate(k, angles), v, attention, in, index)));
}

Var LlamaLayer::operator()(Var x, Var angles, const DecoderInputs& in) const {
  nn::ModuleScope here(*this, x);
  const bool after = post_feedforward_layernorm.has_value();
  Var h = attended(input_layernorm(x), angles, in);
  x = x + (after ? post_attention_layernorm(h) : h);
  h = after ? (*pre_feedforward_layernorm)(x) : post_attention_layernorm(x);
  h = down_proj(activation(gate_proj(h)) * up_proj(h));
  return x + (after ? (*post_feedforward_layernorm)(h) : h);
}

Llama::Llama(const LlamaConfig& c)
    : config(c),
      rotary(c.key_size(), c.rotary),
      embed_tokens(*this, "model.embed_tokens", c.vocab_size, c.hidden_size, normal(c), c.padding_idx),
      layers(*this, "model.layers"),
      norm(*this, "model.norm", c.hidden_size, c.norm()),
      lm_head(c.tied ? nullptr : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, normal(c))) {
  for (int64_t i = 0; i < c.layers; ++i) layers.emplace_back(i, c);
}

Var Llama::words(Var ids) const {
  Var x = embed_tokens(ids);
  return config.gemma ? x * std::sqrt(double(config.hidden_size)) : x;
}

std::vector<Var> Llama::encode(Var words, const DecoderInputs& in) const {
  Var angles = rotary_angles(rotary, words, in);
  std::vector<Var> states{words};
  for (const LlamaLayer& layer : layers) {
    states.push_back(layer(states.back(), angles, in));
  }
  states.back() = norm(states.back());
  return states;
}

Var Llama::logits(Var hidden) const {
  Var y = linear(hidden, (lm_head ? *lm_head : embed_tokens.weight).in(hidden.graph()));
  return config.logit_cap > 0 ? softcap(y, config.logit_cap) : y;
}

CacheLayout Llama::cache_layout() const {
  return {config.layers, config.key_heads(), config.key_size(), config.key_size(), config.max_positions};
}

}  // namespace whence::models
