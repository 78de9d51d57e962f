// Classifiers in stages by their formulas: ResNet in evaluation mode, ConvNeXt V2, Swin.
#include <algorithm>

#include "whence/models/bert.h"
#include "whence/nn/layers.h"
#include "whence/ops/conv.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

Var convolve(const Net& net, Var x, const std::string& name, ConvOptions options) {
  return net.has(name + ".bias") ? conv(x, net(name + ".weight"), Arg(net(name + ".bias")), options)
                                 : conv(x, net(name + ".weight"), {}, options);
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
  bool early = config.value("downsample_in_bottleneck", false),
       first = config.value("downsample_in_first_stage", false);
  ModelOutputs out;
  Var x = max_pool(act(conv_norm(net.at("embedder.embedder"), in.pixels, 2)),
                   {.kernel = {3}, .stride = {2}, .padding = {1}});
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
  Var x = channel_norm(net.at("embeddings"),
                       convolve(net.at("embeddings"), in.pixels, "patch_embeddings", {.stride = {patch}}), "layernorm",
                       1e-6);
  for (int64_t s = 0, stages = net.count("encoder.stages"); s < stages; ++s) {
    out.hidden.push_back(x);
    Net stage = net.at("encoder.stages", s);
    if (s > 0)
      x = convolve(stage, channel_norm(stage, x, "downsampling_layer.0", 1e-6), "downsampling_layer.1",
                   {.stride = {2}});
    for (int64_t i = 0, n = stage.count("layers"); i < n; ++i) {
      Net layer = stage.at("layers", i);
      Var h =
          permute(convolve(layer, x, "dwconv", {.padding = {3}, .groups = x.size(1)}), {0, 2, 3, 1});  // channels last
      h = act(layer.linear(layer.layer_norm(h, "layernorm", 1e-6), "pwconv1"));
      // Global response norm: a channel's norm over space beside the mean of all channels.
      Var size = norm2(h, {1, 2}, true), response = size / (mean(size, {-1}, true) + 1e-6);
      h = layer("grn.weight") * h * response + layer("grn.bias") + h;
      x = x + permute(layer.linear(h, "pwconv2"), {0, 3, 1, 2});
    }
  }
  out.hidden.push_back(out.last = x);
  Var pooled = out.others["pooler_output"] =
      net.layer_norm(mean(x, {2, 3}), "layernorm", config.at("layer_norm_eps").get<double>());
  out.logits = model.linear(pooled, "classifier");
  return out;
}

namespace {

// Windows of w x w cells: [B, H, W, C] -> [B windows, w w, C], and back.
Var to_windows(Var x, int64_t w) {
  int64_t B = x.size(0), h = x.size(1) / w, v = x.size(2) / w, C = x.size(3);
  return reshape(permute(reshape(x, {B, h, w, v, w, C}), {0, 1, 3, 2, 4, 5}), {B * h * v, w * w, C});
}
Var from_windows(Var x, const Shape& grid, int64_t w) {
  int64_t B = grid[0], h = grid[1] / w, v = grid[2] / w;
  return reshape(permute(reshape(x, {B, h, v, w, w, x.size(2)}), {0, 1, 3, 2, 4, 5}), {B, grid[1], grid[2], x.size(2)});
}

// Where in the table of (2 w - 1)^2 offsets the pair of cells (i, j) of a window stands: [w w, w w].
Tensor offsets(int64_t w) {
  Tensor t = Tensor::zeros({w * w, w * w}, i64);
  for (int64_t i = 0; i < w * w; ++i)
    for (int64_t j = 0; j < w * w; ++j)
      t.data<int64_t>()[i * w * w + j] = (i / w - j / w + w - 1) * (2 * w - 1) + i % w - j % w + w - 1;
  return t;
}

// After a shift, windows at the far edge hold cells of up to four regions that must not see one another: [windows, 1, w
// w, w w].
Var regions(Graph& g, int64_t H, int64_t W, int64_t w, int64_t shift, DType dtype) {
  Tensor region = Tensor::zeros({1, H, W, 1}, f64);
  auto part = [&](int64_t i, int64_t n) { return i < n - w ? 0 : i < n - shift ? 1 : 2; };
  for (int64_t i = 0; i < H * W; ++i) region.data<double>()[i] = 3 * part(i / W, H) + part(i % W, W);
  Var r = squeeze(to_windows(g.constant(region.to(dtype)), w), -1);  // [windows, w w]
  return unsqueeze(where(equal(unsqueeze(r, 1), unsqueeze(r, 2)), g.constant(0, dtype), g.constant(-100, dtype)), 1);
}

}  // namespace

ModelOutputs swin(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("swin"), embeddings = net.at("embeddings");
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  double eps = config.at("layer_norm_eps").get<double>();
  int64_t patch = config.at("patch_size").get<int64_t>(), window = config.at("window_size").get<int64_t>();
  ModelOutputs out;
  Var x = permute(convolve(embeddings, in.pixels, "patch_embeddings.projection", {.stride = {patch}}),
                  {0, 2, 3, 1});  // [B, H, W, C]
  x = embeddings.layer_norm(x, "norm", 1e-5);
  auto tokens = [](Var v) { return reshape(v, {v.size(0), v.size(1) * v.size(2), v.size(3)}); };
  for (int64_t s = 0, stages = net.count("encoder.layers"); s < stages; ++s) {
    out.hidden.push_back(tokens(x));
    Net stage = net.at("encoder.layers", s);
    int64_t heads = config.at("num_heads").at(size_t(s)).get<int64_t>(), B = x.size(0), H = x.size(1), W = x.size(2);
    if (H % window || W % window) throw OpsMissing("Swin with padded windows");
    for (int64_t i = 0, n = stage.count("blocks"); i < n; ++i) {
      Net block = stage.at("blocks", i), self = block.at("attention");
      int64_t shift = i % 2 && std::min(H, W) > window ? window / 2 : 0;
      Var h = block.layer_norm(x, "layernorm_before", eps);
      if (shift) h = roll(h, {-shift, -shift}, {1, 2});
      h = to_windows(h, window);
      auto part = [&](const char* name) { return nn::split_heads(self.linear(h, name), heads); };
      Var bias = unsqueeze(permute(gather(self("relative_position_bias.relative_position_bias_table"),
                                          net.g.constant(offsets(window)), 0),
                                   {2, 0, 1}),
                           0);
      if (shift) bias = repeat(bias + regions(net.g, H, W, window, shift, x.dtype()), {B, 1, 1, 1});
      h = nn::merge_heads(attention(part("q_proj"), part("k_proj"), part("v_proj"), {.bias = bias}));
      h = from_windows(self.linear(h, "o_proj"), x.shape(), window);
      x = x + (shift ? roll(h, {shift, shift}, {1, 2}) : h);
      x = x + block.linear(act(block.linear(block.layer_norm(x, "layernorm_after", eps), "mlp.fc1")), "mlp.fc2");
    }
    if (!stage.has("downsample.reduction.weight")) continue;
    auto every_second = [&](int64_t row, int64_t column) { return slice(slice(x, 1, row, H, 2), 2, column, W, 2); };
    x = concat({every_second(0, 0), every_second(1, 0), every_second(0, 1), every_second(1, 1)}, -1);
    x = stage.linear(stage.layer_norm(x, "downsample.norm", 1e-5), "downsample.reduction");
  }
  out.hidden.push_back(tokens(x));
  out.last = net.layer_norm(tokens(x), "layernorm", eps);
  Var pooled = out.others["pooler_output"] = mean(out.last, {1});
  out.logits = model.linear(pooled, "classifier");
  return out;
}

}  // namespace whence::goldens
