// Convolutional classifiers by their formulas: ResNet in evaluation mode, ConvNeXt V2.
#include "models/bert.h"
#include "ops/conv.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

Var convolve(const Net& net, Var x, const std::string& name, ConvOptions options) {
  return net.has(name + ".bias") ? conv(x, net(name + ".weight"), Arg(net(name + ".bias")), options) : conv(x, net(name + ".weight"), {}, options);
}

// Convolution that keeps the size (but for its stride), batch norm with running statistics.
Var conv_norm(const Net& net, Var x, int64_t stride) {
  auto per_channel = [](Var v) { return reshape(v, {v.numel(), 1, 1}); };
  int64_t k = net("convolution.weight").size(-1);
  x = convolve(net, x, "convolution", {.stride = {stride}, .padding = {k / 2}});
  Var scale = net("normalization.weight") * rsqrt(net("normalization.running_var") + 1e-5);
  return x * per_channel(scale) + per_channel(net("normalization.bias") - net("normalization.running_mean") * scale);
}

// Layer norm over the channels of [B, C, H, W].
Var channel_norm(const Net& net, Var x, const std::string& name, double eps) {
  return permute(net.layer_norm(permute(x, {0, 2, 3, 1}), name, eps), {0, 3, 1, 2});
}

}  // namespace

ModelOutputs resnet(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("resnet");
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  bool early = config.value("downsample_in_bottleneck", false), first = config.value("downsample_in_first_stage", false);
  ModelOutputs out;
  Var x = max_pool(act(conv_norm(net.at("embedder.embedder"), in.pixels, 2)), {.kernel = {3}, .stride = {2}, .padding = {1}});
  for (int64_t s = 0, stages = net.count("encoder.stages"); s < stages; ++s) {
    out.hidden.push_back(x);
    Net stage = net.at("encoder.stages", s);
    for (int64_t i = 0, n = stage.count("layers"); i < n; ++i) {
      Net block = stage.at("layers", i);
      int64_t stride = i == 0 && (s > 0 || first) ? 2 : 1, depth = block.count("layer");
      int64_t strided = depth == 3 && !early ? 1 : 0;  // which convolution of the block takes the stride
      Var h = x;
      for (int64_t k = 0; k < depth; ++k) {
        h = conv_norm(block.at("layer", k), h, k == strided ? stride : 1);
        if (k + 1 < depth) h = act(h);
      }
      x = act(h + (block.has("shortcut.convolution.weight") ? conv_norm(block.at("shortcut"), x, stride) : x));
    }
  }
  out.hidden.push_back(out.last = x);
  Var pooled = out.others["pooler_output"] = mean(x, {2, 3});
  out.logits = model.linear(pooled, "classifier.1");
  return out;
}

ModelOutputs convnextv2(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("convnextv2");
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  int64_t patch = config.at("patch_size").get<int64_t>();
  ModelOutputs out;
  Var x = channel_norm(net.at("embeddings"), convolve(net.at("embeddings"), in.pixels, "patch_embeddings", {.stride = {patch}}), "layernorm", 1e-6);
  for (int64_t s = 0, stages = net.count("encoder.stages"); s < stages; ++s) {
    out.hidden.push_back(x);
    Net stage = net.at("encoder.stages", s);
    if (s > 0) x = convolve(stage, channel_norm(stage, x, "downsampling_layer.0", 1e-6), "downsampling_layer.1", {.stride = {2}});
    for (int64_t i = 0, n = stage.count("layers"); i < n; ++i) {
      Net layer = stage.at("layers", i);
      Var h = permute(convolve(layer, x, "dwconv", {.padding = {3}, .groups = x.size(1)}), {0, 2, 3, 1});  // channels last
      h = act(layer.linear(layer.layer_norm(h, "layernorm", 1e-6), "pwconv1"));
      // Global response norm: a channel's norm over space beside the mean of all channels.
      Var size = norm2(h, {1, 2}, true), response = size / (mean(size, {-1}, true) + 1e-6);
      h = layer("grn.weight") * h * response + layer("grn.bias") + h;
      x = x + permute(layer.linear(h, "pwconv2"), {0, 3, 1, 2});
    }
  }
  out.hidden.push_back(out.last = x);
  Var pooled = out.others["pooler_output"] = net.layer_norm(mean(x, {2, 3}), "layernorm", config.at("layer_norm_eps").get<double>());
  out.logits = model.linear(pooled, "classifier");
  return out;
}

}  // namespace whence::goldens
