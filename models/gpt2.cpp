#include "whence/models/gpt2.h"

#include <cmath>

#include "whence/models/activation.h"
#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

Gpt2Config Gpt2Config::from_json(std::string_view text) {
  ConfigJson json(text);
  Gpt2Config c;
  json.read("vocab_size", c.vocab_size);
  json.read("n_positions", c.max_positions);
  json.read("n_embd", c.hidden_size);
  json.read("n_layer", c.layers);
  json.read("n_head", c.heads);
  json.read("n_inner", c.intermediate_size);
  json.read("activation_function", c.activation);
  json.read("layer_norm_epsilon", c.layer_norm_eps);
  json.read("resid_pdrop", c.dropout);
  json.read("tie_word_embeddings", c.tied);
  json.read("scale_attn_by_inverse_layer_idx", c.scale_by_inverse_layer);
  json.read("initializer_range", c.initializer_range);
  return c;
}

Gpt2Dense::Gpt2Dense(Module& parent, const std::string& name, int64_t in, int64_t out, double stddev)
    : Module(parent, name),
      weight(parameter("weight", {in, out}, Init::normal(stddev))),
      bias(parameter("bias", {out}, Init::zeros())) {}

namespace {

int64_t wide(const Gpt2Config& c) { return c.intermediate_size ? c.intermediate_size : 4 * c.hidden_size; }
// Layers that write into the residual stream start smaller (Radford et al. 2019, section 2.3).
double into_residual(const Gpt2Config& c) { return c.initializer_range / std::sqrt(2.0 * double(c.layers)); }

}  // namespace

Gpt2Block::Gpt2Block(Module& parent, const std::string& name, int64_t i, const Gpt2Config& c)
    : Module(parent, name),
      index(size_t(i)),
      heads(c.heads),
      scale(1 / std::sqrt(double(c.hidden_size / c.heads)) / (c.scale_by_inverse_layer ? double(i + 1) : 1.0)),
      ln_1(*this, "ln_1", c.hidden_size, c.layer_norm_eps),
      c_attn(*this, "attn.c_attn", c.hidden_size, 3 * c.hidden_size, c.initializer_range),
      c_proj(*this, "attn.c_proj", c.hidden_size, c.hidden_size, into_residual(c)),
      ln_2(*this, "ln_2", c.hidden_size, c.layer_norm_eps),
      c_fc(*this, "mlp.c_fc", c.hidden_size, wide(c), c.initializer_range),
      mlp_c_proj(*this, "mlp.c_proj", wide(c), c.hidden_size, into_residual(c)),
      activation(activation_named(c.activation)),
      attention_dropout(*this, "attn.resid_dropout", c.dropout),
      output_dropout(*this, "mlp.dropout", c.dropout) {}

Var Gpt2Block::operator()(Var x, const DecoderInputs& in) const {
  nn::ModuleScope here(*this, x);
  auto qkv = chunk(c_attn(ln_1(x)), 3);
  Var seen = attend(nn::split_heads(qkv[0], heads), nn::split_heads(qkv[1], heads), nn::split_heads(qkv[2], heads),
                    {.scale = scale}, in, index);
  x = x + attention_dropout(c_proj(nn::merge_heads(seen)));
  return x + output_dropout(mlp_c_proj(activation(c_fc(ln_2(x)))));
}

Gpt2::Gpt2(const Gpt2Config& c)
    : config(c),
      wte(*this, "transformer.wte", c.vocab_size, c.hidden_size, Init::normal(c.initializer_range)),
      wpe(*this, "transformer.wpe", c.max_positions, c.hidden_size, Init::normal(c.initializer_range)),
      drop(*this, "transformer.drop", c.dropout),
      h(*this, "transformer.h"),
      ln_f(*this, "transformer.ln_f", c.hidden_size, c.layer_norm_eps),
      lm_head(c.tied ? nullptr
                     : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, Init::normal(c.initializer_range))) {
  for (int64_t i = 0; i < c.layers; ++i) h.emplace_back(i, c);
}

std::vector<Var> Gpt2::encode(Var words, const DecoderInputs& in) const {
  Graph& g = words.graph();
  const int64_t T = words.size(1);
  if (T > config.max_positions && !in.positions.defined())
    throw ShapeError("a sequence of " + std::to_string(T) + " tokens is longer than GPT-2's " +
                     std::to_string(config.max_positions) + " positions");
  Var where = in.positions.defined() ? wpe(in.positions) : slice(wpe.weight.in(g), 0, 0, T);  // (T, C) or (B, T, C)
  std::vector<Var> states{drop(words + where)};
  for (const Gpt2Block& block : h) {
    states.push_back(block(states.back(), in));
  }
  states.back() = ln_f(states.back());
  return states;
}

Var Gpt2::logits(Var hidden) const { return linear(hidden, (lm_head ? *lm_head : wte.weight).in(hidden.graph())); }

CacheLayout Gpt2::cache_layout() const {
  const int64_t D = config.hidden_size / config.heads;
  return {config.layers, config.heads, D, D, config.max_positions};
}

}  // namespace whence::models
