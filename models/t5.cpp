#include "whence/models/t5.h"

#include <cmath>

#include "whence/models/activation.h"
#include "whence/models/config.h"
#include "whence/nn/windows.h"

namespace whence::models {

using nn::Init;

T5Config T5Config::from_json(std::string_view text) {
  ConfigJson json(text);
  T5Config c;
  json.read("vocab_size", c.vocab_size);
  json.read("d_model", c.hidden_size);
  json.read("d_kv", c.head_size);
  json.read("num_heads", c.heads);
  json.read("d_ff", c.intermediate_size);
  json.read("num_layers", c.layers);
  c.decoder_layers = json.value("num_decoder_layers", c.layers);
  json.read("relative_attention_num_buckets", c.buckets);
  json.read("relative_attention_max_distance", c.furthest);
  json.read("layer_norm_epsilon", c.layer_norm_eps);
  json.read("initializer_factor", c.initializer_factor);
  json.read("dropout_rate", c.dropout);
  json.read("tie_word_embeddings", c.tied);
  c.scale_decoder_outputs = json.value("scale_decoder_outputs", c.tied);
  // "relu", or "gated-gelu", which means the approximation by tanh.
  std::string kind = json.value("feed_forward_proj", std::string("relu"));
  c.gated = kind.starts_with("gated-");
  if (c.gated) kind = kind.substr(6);
  c.activation = json.value("dense_act_fn", c.gated && kind == "gelu" ? std::string("gelu_new") : kind);
  return c;
}

namespace {

Init spread(const T5Config& c, double fan) { return Init::normal(c.initializer_factor / std::sqrt(fan)); }
ScaleNorm::Options norm(const T5Config& c) { return {.eps = c.layer_norm_eps}; }

// One spread for all four; HuggingFace divides that of q by sqrt(head_size) once more, for scores are not scaled.
ProjectedAttention::Options attention_options(const T5Config& c) {
  return {.features = c.hidden_size,
          .heads = c.heads,
          .head_size = c.head_size,
          .q = "q",
          .k = "k",
          .v = "v",
          .out = "o",
          .q_bias = false,
          .k_bias = false,
          .v_bias = false,
          .out_bias = false,
          .init = spread(c, double(c.hidden_size) * std::sqrt(double(c.head_size)))};
}

}  // namespace

T5Block::T5Block(Module& parent, const std::string& name, int64_t i, bool decoder, const T5Config& c)
    : Module(parent, name),
      self(*this, "layer.0.SelfAttention", attention_options(c)),
      self_norm(*this, "layer.0.layer_norm", c.hidden_size, norm(c)),
      activation(activation_named(c.activation)),
      self_dropout(*this, "layer.0.dropout", c.dropout),
      cross_dropout(*this, "layer.1.dropout", c.dropout),
      dense_dropout(*this, "layer.2.dropout", c.dropout) {
  if (i == 0)
    table = &parameter("layer.0.SelfAttention.relative_attention_bias.weight", {c.buckets, c.heads},
                       spread(c, double(c.hidden_size)));
  if (decoder) {
    cross.emplace(*this, "layer.1.EncDecAttention", attention_options(c));
    cross_norm.emplace(*this, "layer.1.layer_norm", c.hidden_size, norm(c));
  }
  const std::string last = decoder ? "layer.2" : "layer.1", dense = last + ".DenseReluDense.";
  auto add = [&](std::optional<nn::Linear>& layer, const char* name, int64_t in, int64_t out) {
    layer.emplace(*this, dense + name, in, out, false, spread(c, double(in)));
  };
  if (c.gated) {
    add(wi_0, "wi_0", c.hidden_size, c.intermediate_size);
    add(wi_1, "wi_1", c.hidden_size, c.intermediate_size);
  } else {
    add(wi, "wi", c.hidden_size, c.intermediate_size);
  }
  add(wo, "wo", c.intermediate_size, c.hidden_size);
  dense_norm.emplace(*this, last + ".layer_norm", c.hidden_size, norm(c));
}

Var T5Block::operator()(Var x, Var bias, Var memory, Var mask) const {
  nn::ModuleScope here(*this, x);
  AttentionOptions own = visible(cross ? Var() : mask, cross.has_value()), others = visible(mask);
  own.scale = others.scale = 1;  // scores are not scaled
  own.bias = bias;
  x = x + self_dropout(self(self_norm(x), own));
  if (cross) x = x + cross_dropout((*cross)((*cross_norm)(x), others, memory));
  Var h = (*dense_norm)(x);
  return x + dense_dropout((*wo)(wi ? activation((*wi)(h)) : activation((*wi_0)(h)) * (*wi_1)(h)));
}

T5Stack::T5Stack(Module& parent, const std::string& name, bool is_decoder, const T5Config& c)
    : Module(parent, name),
      decoder(is_decoder),
      buckets(c.buckets),
      furthest(c.furthest),
      block(*this, "block"),
      final_layer_norm(*this, "final_layer_norm", c.hidden_size, norm(c)) {
  for (int64_t i = 0, n = is_decoder ? c.decoder_layers : c.layers; i < n; ++i) block.emplace_back(i, is_decoder, c);
}

std::vector<Var> T5Stack::operator()(Var words, Var memory, Var mask) const {
  nn::ModuleScope here(*this, words);
  Graph& g = words.graph();
  const int64_t T = words.size(1);
  // One table for the stack, in its first block: (1, H, T, T).
  Var places = g.constant(nn::relative_buckets(T, T, !decoder, buckets, furthest));
  Var bias = unsqueeze(permute(gather(block[0].table->in(g), places, 0), {2, 0, 1}), 0);
  std::vector<Var> states{words};
  for (const T5Block& b : block) {
    states.push_back(b(states.back(), bias, memory, mask));
  }
  states.back() = final_layer_norm(states.back());
  return states;
}

T5::T5(const T5Config& c)
    : config(c),
      shared(*this, "shared", c.vocab_size, c.hidden_size, Init::normal(c.initializer_factor)),
      encoder(*this, "encoder", false, c),
      decoder(*this, "decoder", true, c),
      lm_head(c.tied
                  ? nullptr
                  : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, Init::normal(c.initializer_factor))) {}

std::vector<Var> T5::encode(Var ids, Var mask) const { return encoder(shared(ids), {}, mask); }

std::vector<Var> T5::decode(Var ids, Var memory, Var mask) const { return decoder(shared(ids), memory, mask); }

Var T5::logits(Var x) const {
  if (config.scale_decoder_outputs) x = x * (1 / std::sqrt(double(config.hidden_size)));
  return linear(x, (lm_head ? *lm_head : shared.weight).in(x.graph()));
}

}  // namespace whence::models
