#include "whence/models/modernbert.h"

#include "whence/models/activation.h"
#include "whence/models/bert.h"
#include "whence/models/config.h"
#include "whence/nn/windows.h"

namespace whence::models {

using nn::Init;

ModernBertConfig ModernBertConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  ModernBertConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("hidden_activation", c.activation);
  json.read("classifier_activation", c.head_activation);
  json.read("norm_eps", c.norm_eps);
  json.read("pad_token_id", c.padding_idx);
  json.read("local_attention", c.window);
  json.read("tie_word_embeddings", c.tied);
  json.read("initializer_range", c.initializer_range);
  c.mean_pooling = json.value("classifier_pooling", std::string("cls")) == "mean";
  c.bias = json.value("attention_bias", false);
  if (json.value("norm_bias", false) || json.value("mlp_bias", c.bias) != c.bias ||
      json.value("classifier_bias", c.bias) != c.bias)
    throw ValueError("configuration: a ModernBERT with biases in norms, or in some dense layers only, is not known");
  // transformers 5 lists the layers; older files say how often one sees all tokens.
  const auto types = json.value("layer_types", std::vector<std::string>());
  const int64_t every = json.value("global_attn_every_n_layers", int64_t(3));
  for (int64_t i = 0; i < c.layers; ++i)
    c.local.push_back(size_t(i) < types.size() ? types[size_t(i)] == "sliding_attention" : i % every != 0);
  json.read("local_rope_theta", c.local_rotary.theta);
  json.read("global_rope_theta", c.global_rotary.theta);
  ConfigJson rope = json.below("rope_parameters");
  rope.below("sliding_attention").read("rope_theta", c.local_rotary.theta);
  rope.below("full_attention").read("rope_theta", c.global_rotary.theta);
  return c;
}

namespace {

Init normal(const ModernBertConfig& c) { return Init::normal(c.initializer_range); }
ScaleNorm::Options norm(const ModernBertConfig& c) { return {.centred = true, .eps = c.norm_eps}; }

}  // namespace

ModernBertLayer::ModernBertLayer(Module& parent, const std::string& name, int64_t i, const ModernBertConfig& c)
    : Module(parent, name),
      heads(c.heads),
      window(size_t(i) < c.local.size() && c.local[size_t(i)] ? c.window : 0),
      Wqkv(*this, "attn.Wqkv", c.hidden_size, 3 * c.hidden_size, c.bias, normal(c)),
      attn_Wo(*this, "attn.Wo", c.hidden_size, c.hidden_size, c.bias, normal(c)),
      mlp_norm(*this, "mlp_norm", c.hidden_size, norm(c)),
      Wi(*this, "mlp.Wi", c.hidden_size, 2 * c.intermediate_size, c.bias, normal(c)),
      mlp_Wo(*this, "mlp.Wo", c.intermediate_size, c.hidden_size, c.bias, normal(c)),
      activation(activation_named(c.activation)) {
  if (i > 0) attn_norm.emplace(*this, "attn_norm", c.hidden_size, norm(c));
}

Var ModernBertLayer::operator()(Var x, Var mask, Var angles) const {
  nn::ModuleScope here(*this, x);
  auto qkv = chunk(Wqkv(attn_norm ? (*attn_norm)(x) : x), 3);
  AttentionOptions options = visible(mask);
  const double side = double(window / 2 + 1);
  if (window) options.bias = nn::distance_bias(x.graph(), x.size(1), side, side, x.dtype());
  Var seen = attention(nn::rotate(nn::split_heads(qkv[0], heads), angles),
                       nn::rotate(nn::split_heads(qkv[1], heads), angles), nn::split_heads(qkv[2], heads), options);
  x = x + attn_Wo(nn::merge_heads(seen));
  auto wide = chunk(Wi(mlp_norm(x)), 2);
  return x + mlp_Wo(activation(wide[0]) * wide[1]);
}

ModernBert::ModernBert(const ModernBertConfig& c, int64_t classes)
    : config(c),
      local_rotary(c.hidden_size / c.heads, c.local_rotary),
      global_rotary(c.hidden_size / c.heads, c.global_rotary),
      tok_embeddings(*this, "model.embeddings.tok_embeddings", c.vocab_size, c.hidden_size, normal(c), c.padding_idx),
      embeddings_norm(*this, "model.embeddings.norm", c.hidden_size, norm(c)),
      layers(*this, "model.layers"),
      final_norm(*this, "model.final_norm", c.hidden_size, norm(c)),
      head_dense(*this, "head.dense", c.hidden_size, c.hidden_size, c.bias, normal(c)),
      head_norm(*this, "head.norm", c.hidden_size, norm(c)) {
  for (int64_t i = 0; i < c.layers; ++i) layers.emplace_back(i, c);
  if (classes > 0) {
    classifier.emplace(*this, "classifier", c.hidden_size, classes, true, normal(c));
  } else {
    if (!c.tied) decoder_weight = &parameter("decoder.weight", {c.vocab_size, c.hidden_size}, normal(c));
    decoder_bias = &parameter("decoder.bias", {c.vocab_size}, Init::zeros());
  }
}

std::vector<Var> ModernBert::encode(Var words, Var mask) const {
  Graph& g = words.graph();
  Var near = local_rotary.angles(g, words.size(1), words.dtype()),
      far = global_rotary.angles(g, words.size(1), words.dtype());
  std::vector<Var> states{embeddings_norm(words)};
  for (const ModernBertLayer& layer : layers) {
    states.push_back(layer(states.back(), mask, layer.window ? near : far));
  }
  states.back() = final_norm(states.back());
  return states;
}

Var ModernBert::logits(Var x, Var mask) const {
  Graph& g = x.graph();
  if (classifier) {
    if (!config.mean_pooling) x = select(x, 1, 0);
    else x = mask.defined() ? masked_mean(x, mask) : mean(x, {1});
  }
  Var h = head_norm(activation_named(config.head_activation)(head_dense(x)));
  if (classifier) return (*classifier)(h);
  return linear(h, (decoder_weight ? *decoder_weight : tok_embeddings.weight).in(g), decoder_bias->in(g));
}

}  // namespace whence::models
