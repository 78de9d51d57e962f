#include "whence/models/resnet.h"

#include "whence/models/activation.h"
#include "whence/models/config.h"
#include "whence/ops/conv.h"

namespace whence::models {

ResNetConfig ResNetConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  ResNetConfig c;
  json.read("num_channels", c.channels);
  json.read("embedding_size", c.embedding_size);
  json.read("hidden_sizes", c.hidden_sizes);
  json.read("depths", c.depths);
  c.bottleneck = json.value("layer_type", std::string("bottleneck")) == "bottleneck";
  json.read("downsample_in_first_stage", c.downsample_in_first_stage);
  json.read("downsample_in_bottleneck", c.downsample_in_bottleneck);
  json.read("hidden_act", c.activation);
  if (c.depths.size() != c.hidden_sizes.size())
    throw ValueError("configuration: depths and hidden_sizes have different lengths");
  return c;
}

ResNetConv::ResNetConv(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride)
    : Module(parent, name),
      convolution(*this, "convolution", in, out, {kernel}, {.stride = {stride}, .padding = {kernel / 2}}, false),
      normalization(*this, "normalization", out) {}

ResNetBlock::ResNetBlock(Module& parent, const std::string& name, int64_t in, int64_t out, int64_t stride,
                         const ResNetConfig& c)
    : Module(parent, name), layer(*this, "layer"), activation(activation_named(c.activation)) {
  if (in != out || stride != 1) shortcut.emplace(*this, "shortcut", in, out, 1, stride);
  if (!c.bottleneck) {
    layer.emplace_back(in, out, 3, stride);
    layer.emplace_back(out, out, 3, 1);
    return;
  }
  const int64_t narrow = out / 4;
  const bool early = c.downsample_in_bottleneck;
  layer.emplace_back(in, narrow, 1, early ? stride : 1);
  layer.emplace_back(narrow, narrow, 3, early ? 1 : stride);
  layer.emplace_back(narrow, out, 1, 1);
}

Var ResNetBlock::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Var h = x;
  for (const ResNetConv& conv : layer) h = &conv == &layer[layer.size() - 1] ? conv(h) : activation(conv(h));
  return activation(h + (shortcut ? (*shortcut)(x) : x));
}

ResNetStage::ResNetStage(Module& parent, const std::string& name, size_t stage, const ResNetConfig& c)
    : Module(parent, name), layers(*this, "layers") {
  int64_t in = stage ? c.hidden_sizes[stage - 1] : c.embedding_size;
  int64_t stride = stage || c.downsample_in_first_stage ? 2 : 1;
  for (int64_t i = 0; i < c.depths[stage]; ++i) {
    layers.emplace_back(in, c.hidden_sizes[stage], stride, c);
    in = c.hidden_sizes[stage];
    stride = 1;
  }
}

Var ResNetStage::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  for (const ResNetBlock& block : layers) x = block(x);
  return x;
}

ResNet::ResNet(const ResNetConfig& c, int64_t classes)
    : embedder(*this, "resnet.embedder.embedder", c.channels, c.embedding_size, 7, 2),
      stages(*this, "resnet.encoder.stages"),
      classifier(*this, "classifier.1", c.hidden_sizes.back(), classes),
      activation(activation_named(c.activation)) {
  for (size_t i = 0; i < c.depths.size(); ++i) stages.emplace_back(i, c);
}

std::vector<Var> ResNet::encode(Var pixels) const {
  std::vector<Var> states{max_pool(activation(embedder(pixels)), {.kernel = {3}, .stride = {2}, .padding = {1}})};
  for (const ResNetStage& stage : stages) states.push_back(stage(states.back()));
  return states;
}

}  // namespace whence::models
