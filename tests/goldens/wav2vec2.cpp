// wav2vec 2.0 with a CTC head by its formulas.
#include "whence/models/bert.h"
#include "whence/nn/layers.h"
#include "whence/ops/conv.h"
#include "whence/ops/ctc.h"
#include "tests/goldens/net.h"

namespace whence::goldens {

namespace {

// Waveform [B, T] -> features [B, frames, C]; the first convolution's channels are normalised over time.
Var extract(const Net& net, const Json& config, Var wave) {
  auto act = models::activation_named(config.at("feat_extract_activation").get<std::string>());
  if (config.at("feat_extract_norm") != "group")
    throw OpsMissing("wav2vec 2.0 with layer norms between its convolutions");
  Var x = unsqueeze(wave, 1);
  for (int64_t i = 0, n = net.count("conv_layers"); i < n; ++i) {
    Net layer = net.at("conv_layers", i);
    ConvOptions options{.stride = {config.at("conv_stride").at(size_t(i)).get<int64_t>()}};
    x = layer.has("conv.bias") ? conv(x, layer("conv.weight"), Arg(layer("conv.bias")), options)
                               : conv(x, layer("conv.weight"), {}, options);
    if (layer.has("layer_norm.weight"))
      x = layer_norm(x, {}, {}, 1e-5) * unsqueeze(layer("layer_norm.weight"), -1) +
          unsqueeze(layer("layer_norm.bias"), -1);
    x = act(x);
  }
  return transpose(x);
}

// A grouped convolution over time whose weight [out, in, K] has a direction and, for each k, a size.
Var convolutional_positions(const Net& net, const Json& config, Var x) {
  auto act = models::activation_named(config.at("feat_extract_activation").get<std::string>());
  Var v = net("conv.parametrizations.weight.original1"),
      weight = net("conv.parametrizations.weight.original0") * v / norm2(v, {0, 1}, true);
  int64_t K = v.size(2), T = x.size(1);
  Var y = conv(transpose(x), weight, Arg(net("conv.bias")),
               {.padding = {K / 2}, .groups = config.at("num_conv_pos_embedding_groups").get<int64_t>()});
  return act(transpose(slice(y, 2, 0, T)));  // an even K gives one step too many
}

}  // namespace

ModelOutputs wav2vec2(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("wav2vec2");
  if (config.value("do_stable_layer_norm", false)) throw OpsMissing("wav2vec 2.0 with norms first");
  auto act = models::activation_named(config.at("hidden_act").get<std::string>());
  double eps = config.at("layer_norm_eps").get<double>();
  int64_t heads = config.at("num_attention_heads").get<int64_t>();
  ModelOutputs out;
  Var features =
      net.layer_norm(extract(net.at("feature_extractor"), config, in.wave), "feature_projection.layer_norm", eps);
  Var x = net.linear(features, "feature_projection.projection");
  x = net.layer_norm(x + convolutional_positions(net.at("encoder.pos_conv_embed"), config, x), "encoder.layer_norm",
                     eps);
  for (int64_t i = 0, n = net.count("encoder.layers"); i < n; ++i) {
    out.hidden.push_back(x);
    Net layer = net.at("encoder.layers", i), self = layer.at("attention");
    auto part = [&](const char* name) { return nn::split_heads(self.linear(x, name), heads); };
    Var seen = self.linear(nn::merge_heads(attention(part("q_proj"), part("k_proj"), part("v_proj"))), "out_proj");
    x = layer.layer_norm(x + seen, "layer_norm", eps);
    Var wide = act(layer.linear(x, "feed_forward.intermediate_dense"));
    x = layer.layer_norm(x + layer.linear(wide, "feed_forward.output_dense"), "final_layer_norm", eps);
  }
  out.hidden.push_back(out.last = x);
  out.logits = model.linear(x, "lm_head");
  // Negative labels are padding.
  Var spoken = greater_equal(in.labels, 0.0), lengths = sum(cast(spoken, i64), {1});
  Var frames = model.g.constant(Tensor::full({x.size(0)}, double(x.size(1)), i64));
  bool total = config.value("ctc_loss_reduction", "sum") == "sum";
  out.loss = ctc_loss(permute(out.logits, {1, 0, 2}), where(spoken, in.labels, 0.0), frames, lengths,
                      {.blank = config.at("pad_token_id").get<int64_t>(),
                       .zero_infinity = config.value("ctc_zero_infinity", false),
                       .reduction = total ? Reduction::sum : Reduction::mean});
  return out;
}

}  // namespace whence::goldens
