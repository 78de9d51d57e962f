#include "whence/models/wav2vec2.h"

#include <cmath>

#include "whence/models/activation.h"
#include "whence/models/config.h"
#include "whence/ops/composite.h"

namespace whence::models {

using nn::Init;

Wav2Vec2Config Wav2Vec2Config::from_json(std::string_view text) {
  ConfigJson json(text);
  if (json.value("feat_extract_norm", std::string("group")) != "group" || json.value("do_stable_layer_norm", false))
    throw ValueError(
        "configuration: a wav2vec 2.0 with layer norms between its convolutions, or norms first, is not known");
  Wav2Vec2Config c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("conv_dim", c.conv_channels);
  json.read("conv_kernel", c.conv_kernels);
  json.read("conv_stride", c.conv_strides);
  json.read("conv_bias", c.conv_bias);
  json.read("num_conv_pos_embeddings", c.position_kernel);
  json.read("num_conv_pos_embedding_groups", c.position_groups);
  json.read("hidden_act", c.activation);
  json.read("feat_extract_activation", c.conv_activation);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("initializer_range", c.initializer_range);
  json.read("hidden_dropout", c.dropout);
  json.read("pad_token_id", c.ctc.blank);
  json.read("ctc_zero_infinity", c.ctc.zero_infinity);
  c.ctc.reduction = json.value("ctc_loss_reduction", std::string("sum")) == "sum" ? Reduction::sum : Reduction::mean;
  if (c.conv_kernels.size() != c.conv_channels.size() || c.conv_strides.size() != c.conv_channels.size())
    throw ValueError("configuration: conv_dim, conv_kernel and conv_stride have different lengths");
  return c;
}

static Init normal(const Wav2Vec2Config& c) { return Init::normal(c.initializer_range); }

Wav2Vec2Conv::Wav2Vec2Conv(Module& parent, const std::string& name, size_t i, const Wav2Vec2Config& c)
    : Module(parent, name),
      conv(*this, "conv", i ? c.conv_channels[i - 1] : 1, c.conv_channels[i], {c.conv_kernels[i]},
           {.stride = {c.conv_strides[i]}}, c.conv_bias),
      activation(activation_named(c.conv_activation)) {
  if (i == 0) layer_norm.emplace(*this, "layer_norm", c.conv_channels[i]);
}

Var Wav2Vec2Conv::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  x = conv(x);
  if (layer_norm)
    x = whence::layer_norm(x, {}, {}, layer_norm->eps) * unsqueeze(layer_norm->weight.in(g), -1) +
        unsqueeze(layer_norm->bias.in(g), -1);
  return activation(x);
}

Wav2Vec2Layer::Wav2Vec2Layer(Module& parent, const std::string& name, const Wav2Vec2Config& c)
    : Module(parent, name),
      attention(*this, "attention", {.features = c.hidden_size, .heads = c.heads, .init = normal(c)}),
      layer_norm(*this, "layer_norm", c.hidden_size, c.layer_norm_eps),
      feed_forward(*this, "feed_forward", "intermediate_dense", "output_dense", c.hidden_size, c.intermediate_size,
                   c.activation, normal(c)),
      final_layer_norm(*this, "final_layer_norm", c.hidden_size, c.layer_norm_eps),
      attention_dropout(*this, "dropout", c.dropout),
      output_dropout(*this, "feed_forward.output_dropout", c.dropout) {}

Var Wav2Vec2Layer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  x = layer_norm(x + attention_dropout(attention(x)));
  return final_layer_norm(x + output_dropout(feed_forward(x)));
}

Wav2Vec2ForCTC::Wav2Vec2ForCTC(const Wav2Vec2Config& c)
    : config(c),
      conv_layers(*this, "wav2vec2.feature_extractor.conv_layers"),
      projection_norm(*this, "wav2vec2.feature_projection.layer_norm", c.conv_channels.back(), c.layer_norm_eps),
      projection(*this, "wav2vec2.feature_projection.projection", c.conv_channels.back(), c.hidden_size),
      position_size(parameter("wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
                              {1, 1, c.position_kernel}, Init::ones())),
      position_direction(parameter("wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
                                   {c.hidden_size, c.hidden_size / c.position_groups, c.position_kernel},
                                   Init::normal(2 / std::sqrt(double(c.position_kernel * c.hidden_size))))),
      position_bias(parameter("wav2vec2.encoder.pos_conv_embed.conv.bias", {c.hidden_size}, Init::zeros())),
      encoder_norm(*this, "wav2vec2.encoder.layer_norm", c.hidden_size, c.layer_norm_eps),
      layers(*this, "wav2vec2.encoder.layers", c.layers, c),
      lm_head(*this, "lm_head", c.hidden_size, c.vocab_size, true, normal(c)) {
  for (size_t i = 0; i < c.conv_channels.size(); ++i) conv_layers.emplace_back(i, c);
}

Var Wav2Vec2ForCTC::positions(Var x) const {
  Graph& g = x.graph();
  Var direction = position_direction.in(g);
  Var weight = position_size.in(g)*direction / norm2(direction, {0, 1}, true);
  Var y = conv(transpose(x), weight, position_bias.in(g),
               {.padding = {config.position_kernel / 2}, .groups = config.position_groups});
  // An even kernel gives one step too many.
  return activation_named(config.conv_activation)(transpose(slice(y, 2, 0, x.size(1))));
}

std::vector<Var> Wav2Vec2ForCTC::encode(Var wave) const {
  Var x = unsqueeze(wave, 1);  // (B, 1, T)
  for (const Wav2Vec2Conv& layer : conv_layers) x = layer(x);
  x = projection(projection_norm(transpose(x)));  // (B, frames, C)
  std::vector<Var> states{encoder_norm(x + positions(x))};
  for (const Wav2Vec2Layer& layer : layers) {
    states.push_back(layer(states.back()));
  }
  return states;
}

Var Wav2Vec2ForCTC::loss(Var logits, Var labels) const {
  Var spoken = greater_equal(labels, 0.0), lengths = sum(cast(spoken, i64), {1});
  Var frames = logits.graph().constant(Tensor::full({logits.size(0)}, double(logits.size(1)), i64));
  return ctc_loss(permute(logits, {1, 0, 2}), where(spoken, labels, 0.0), frames, lengths, config.ctc);
}

}  // namespace whence::models
