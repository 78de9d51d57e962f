#include "whence/models/swin.h"

#include <algorithm>

#include "whence/models/config.h"
#include "whence/nn/windows.h"

namespace whence::models {

using nn::Init;

SwinConfig SwinConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  SwinConfig c;
  if (json.value("use_absolute_embeddings", false))
    throw ValueError("configuration: a Swin with absolute positions is not known");
  json.read("patch_size", c.patch_size);
  json.read("num_channels", c.channels);
  json.read("embed_dim", c.embed_dim);
  json.read("window_size", c.window);
  json.read("depths", c.depths);
  json.read("num_heads", c.heads);
  json.read("mlp_ratio", c.mlp_ratio);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("hidden_dropout_prob", c.dropout);
  json.read("initializer_range", c.initializer_range);
  json.read("qkv_bias", c.qkv_bias);
  json.read("hidden_act", c.activation);
  if (c.depths.size() != c.heads.size()) throw ValueError("configuration: depths and num_heads have different lengths");
  return c;
}

namespace {

Init normal(const SwinConfig& c) { return Init::normal(c.initializer_range); }
constexpr double kEps = 1e-5;  // of the norms beside the blocks

Var tokens(Var x) { return reshape(x, {x.size(0), x.size(1) * x.size(2), x.size(3)}); }

}  // namespace

SwinBlock::SwinBlock(Module& parent, const std::string& name, size_t stage, bool is_shifted, const SwinConfig& c)
    : Module(parent, name),
      window(c.window),
      shifted(is_shifted),
      layernorm_before(*this, "layernorm_before", c.width(stage), c.layer_norm_eps),
      attention(*this, "attention",
                {.features = c.width(stage),
                 .heads = c.heads[stage],
                 .out = "o_proj",
                 .q_bias = c.qkv_bias,
                 .k_bias = c.qkv_bias,
                 .v_bias = c.qkv_bias,
                 .init = normal(c)}),
      table(parameter("attention.relative_position_bias.relative_position_bias_table",
                      {(2 * c.window - 1) * (2 * c.window - 1), c.heads[stage]}, normal(c))),
      layernorm_after(*this, "layernorm_after", c.width(stage), c.layer_norm_eps),
      mlp(*this, "mlp", "fc1", "fc2", c.width(stage), int64_t(double(c.width(stage)) * c.mlp_ratio), c.activation,
          normal(c)),
      attention_dropout(*this, "attention.dropout", c.dropout),
      output_dropout(*this, "mlp.dropout", c.dropout) {}

Var SwinBlock::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  const int64_t B = x.size(0), H = x.size(1), W = x.size(2);
  const int64_t shift = shifted && std::min(H, W) > window ? window / 2 : 0;
  Var h = layernorm_before(x);
  if (shift) h = roll(h, {-shift, -shift}, {1, 2});
  Var bias = gather(table.in(g), g.constant(nn::window_offsets(window)), 0);  // (w w, w w, heads)
  bias = unsqueeze(permute(bias, {2, 0, 1}), 0);
  if (shift) bias = repeat(bias + nn::window_regions(g, H, W, window, shift, x.dtype()), {B, 1, 1, 1});
  h = nn::from_windows(attention(nn::to_windows(h, window), {.bias = bias}), x.shape(), window);
  x = x + attention_dropout(shift ? roll(h, {shift, shift}, {1, 2}) : h);
  return x + output_dropout(mlp(layernorm_after(x)));
}

SwinStage::SwinStage(Module& parent, const std::string& name, size_t stage, const SwinConfig& c)
    : Module(parent, name), blocks(*this, "blocks") {
  for (int64_t i = 0; i < c.depths[stage]; ++i) blocks.emplace_back(stage, i % 2 == 1, c);
  if (stage + 1 == c.depths.size()) return;
  downsample_norm.emplace(*this, "downsample.norm", 4 * c.width(stage), kEps);
  reduction.emplace(*this, "downsample.reduction", 4 * c.width(stage), 2 * c.width(stage), false, normal(c));
}

Var SwinStage::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  for (const SwinBlock& block : blocks) x = block(x);
  if (!reduction) return x;
  auto every_second = [&](int64_t row, int64_t column) {
    return slice(slice(x, 1, row, x.size(1), 2), 2, column, x.size(2), 2);
  };
  x = concat({every_second(0, 0), every_second(1, 0), every_second(0, 1), every_second(1, 1)}, -1);
  return (*reduction)((*downsample_norm)(x));
}

Swin::Swin(const SwinConfig& c, int64_t classes)
    : projection(*this, "swin.embeddings.patch_embeddings.projection", c.channels, c.embed_dim, {c.patch_size},
                 {.stride = {c.patch_size}}),
      norm(*this, "swin.embeddings.norm", c.embed_dim, kEps),
      stages(*this, "swin.encoder.layers"),
      layernorm(*this, "swin.layernorm", c.width(c.depths.size() - 1), c.layer_norm_eps),
      classifier(*this, "classifier", c.width(c.depths.size() - 1), classes, true, normal(c)) {
  for (size_t i = 0; i < c.depths.size(); ++i) stages.emplace_back(i, c);
}

std::vector<Var> Swin::encode(Var pixels) const {
  Var x = norm(permute(projection(pixels), {0, 2, 3, 1}));  // (B, H, W, C)
  std::vector<Var> states;
  for (const SwinStage& stage : stages) {
    states.push_back(tokens(x));
    x = stage(x);
  }
  states.push_back(tokens(x));
  return states;
}

}  // namespace whence::models
