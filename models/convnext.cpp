#include "whence/models/convnext.h"

#include "whence/models/activation.h"
#include "whence/models/config.h"
#include "whence/ops/composite.h"

namespace whence::models {

using nn::Init;

ConvNextConfig ConvNextConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  ConvNextConfig c;
  json.read("num_channels", c.channels);
  json.read("patch_size", c.patch_size);
  json.read("hidden_sizes", c.hidden_sizes);
  json.read("depths", c.depths);
  json.read("hidden_act", c.activation);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("initializer_range", c.initializer_range);
  if (c.depths.size() != c.hidden_sizes.size())
    throw ValueError("configuration: depths and hidden_sizes have different lengths");
  return c;
}

namespace {

constexpr double kEps = 1e-6;
Init normal(const ConvNextConfig& c) { return Init::normal(c.initializer_range); }

Var channels_last(Var x) { return permute(x, {0, 2, 3, 1}); }
Var channels_first(Var x) { return permute(x, {0, 3, 1, 2}); }

}  // namespace

ConvNextLayer::ConvNextLayer(Module& parent, const std::string& name, int64_t channels, const ConvNextConfig& c)
    : Module(parent, name),
      dwconv(*this, "dwconv", channels, channels, {7}, {.padding = {3}, .groups = channels}),
      layernorm(*this, "layernorm", channels, kEps),
      pwconv1(*this, "pwconv1", channels, 4 * channels, true, normal(c)),
      pwconv2(*this, "pwconv2", 4 * channels, channels, true, normal(c)),
      grn_weight(parameter("grn.weight", {1, 1, 1, 4 * channels}, Init::zeros())),
      grn_bias(parameter("grn.bias", {1, 1, 1, 4 * channels}, Init::zeros())),
      activation(activation_named(c.activation)) {}

Var ConvNextLayer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  Var h = activation(pwconv1(layernorm(channels_last(dwconv(x)))));  // (B, H, W, 4 C)
  // Global response norm: a channel's norm over space beside the mean of all channels'.
  Var size = norm2(h, {1, 2}, true), response = size / (mean(size, {-1}, true) + 1e-6);
  h = grn_weight.in(g)*h * response + grn_bias.in(g) + h;
  return x + channels_first(pwconv2(h));
}

ConvNextStage::ConvNextStage(Module& parent, const std::string& name, size_t stage, const ConvNextConfig& c)
    : Module(parent, name), layers(*this, "layers", c.depths[stage], c.hidden_sizes[stage], c) {
  if (stage == 0) return;
  downsampling_norm.emplace(*this, "downsampling_layer.0", c.hidden_sizes[stage - 1], kEps);
  downsampling.emplace(*this, "downsampling_layer.1", c.hidden_sizes[stage - 1], c.hidden_sizes[stage], Ints{2},
                       ConvOptions{.stride = {2}});
}

Var ConvNextStage::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  if (downsampling) x = (*downsampling)(channels_first((*downsampling_norm)(channels_last(x))));
  for (const ConvNextLayer& layer : layers) x = layer(x);
  return x;
}

ConvNext::ConvNext(const ConvNextConfig& c, int64_t classes)
    : patch_embeddings(*this, "convnextv2.embeddings.patch_embeddings", c.channels, c.hidden_sizes[0], {c.patch_size},
                       {.stride = {c.patch_size}}),
      embeddings_norm(*this, "convnextv2.embeddings.layernorm", c.hidden_sizes[0], kEps),
      stages(*this, "convnextv2.encoder.stages"),
      layernorm(*this, "convnextv2.layernorm", c.hidden_sizes.back(), c.layer_norm_eps),
      classifier(*this, "classifier", c.hidden_sizes.back(), classes, true, normal(c)) {
  for (size_t i = 0; i < c.depths.size(); ++i) stages.emplace_back(i, c);
}

std::vector<Var> ConvNext::encode(Var pixels) const {
  std::vector<Var> states{channels_first(embeddings_norm(channels_last(patch_embeddings(pixels))))};
  for (const ConvNextStage& stage : stages) states.push_back(stage(states.back()));
  return states;
}

}  // namespace whence::models
