#include "whence/models/vit_mae.h"

#include <cmath>

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

VitMaeConfig VitMaeConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  VitMaeConfig c;
  c.encoder = c.decoder = VitConfig::from_json(text);
  json.read("decoder_hidden_size", c.decoder.hidden_size);
  json.read("decoder_num_hidden_layers", c.decoder.layers);
  json.read("decoder_num_attention_heads", c.decoder.heads);
  json.read("decoder_intermediate_size", c.decoder.intermediate_size);
  json.read("mask_ratio", c.mask_ratio);
  json.read("norm_pix_loss", c.norm_pix_loss);
  return c;
}

namespace {

Init normal(const VitConfig& c) { return Init::normal(c.initializer_range); }

// Sines and cosines of row and column, half the channels each, behind one special token: [1, 1 + n n, channels].
Tensor grid_positions(int64_t n, int64_t channels) {
  Tensor t = Tensor::zeros({1, 1 + n * n, channels}, f64);
  const int64_t quarter = channels / 4;
  for (int64_t i = 0; i < n * n; ++i)
    for (int64_t j = 0; j < quarter; ++j) {
      const double rate = std::pow(1e4, -double(j) / double(quarter));
      double* p = t.data<double>() + (1 + i) * channels + j;
      const double column = double(i % n) * rate, row = double(i / n) * rate;
      p[0] = std::sin(column);
      p[quarter] = std::cos(column);
      p[2 * quarter] = std::sin(row);
      p[3 * quarter] = std::cos(row);
    }
  return t;
}

// Rows of x [B, N, C] at ids [B, M] of each sample.
Var rows_at(Var x, Var ids) {
  return take_along_axis(x, broadcast_to(unsqueeze(ids, -1), {ids.size(0), ids.size(1), x.size(2)}), 1);
}

// [B, C, H, W] -> [B, patches, p p C], channels last.
Var patches_of(Var pixels, int64_t p) {
  const int64_t B = pixels.size(0), C = pixels.size(1), h = pixels.size(2) / p, w = pixels.size(3) / p;
  return reshape(permute(reshape(pixels, {B, C, h, p, w, p}), {0, 2, 4, 3, 5, 1}), {B, h * w, p * p * C});
}

}  // namespace

VitMae::VitMae(const VitMaeConfig& c)
    : config(c),
      vit(*this, "vit", c.encoder),
      decoder_embed(*this, "decoder.decoder_embed", c.encoder.hidden_size, c.decoder.hidden_size, true,
                    normal(c.encoder)),
      mask_token(parameter("decoder.mask_token", {1, 1, c.decoder.hidden_size}, normal(c.decoder))),
      decoder_pos_embed(
          parameter("decoder.decoder_pos_embed", {1, 1 + c.encoder.patches(), c.decoder.hidden_size},
                    Init::values(grid_positions(c.encoder.image_size / c.encoder.patch_size, c.decoder.hidden_size)))),
      decoder_layers(*this, "decoder.decoder_layers", c.decoder.layers, c.decoder),
      decoder_norm(*this, "decoder.decoder_norm", c.decoder.hidden_size, c.decoder.layer_norm_eps),
      decoder_pred(*this, "decoder.decoder_pred", c.decoder.hidden_size,
                   c.encoder.patch_size * c.encoder.patch_size * c.encoder.channels, true, normal(c.decoder)) {
  vit.position_embeddings.set_trainable(false);
  decoder_pos_embed.set_trainable(false);
}

VitMae::Hiding VitMae::hide(Var noise) const {
  Var order = argsort(noise, -1), restore = argsort(order, -1);
  const auto keep = int64_t(double(noise.size(1)) * (1 - config.mask_ratio));
  return {slice(order, 1, 0, keep), restore, greater_equal(restore, double(keep))};
}

std::vector<Var> VitMae::encode(Var placed, const Hiding& hiding) const {
  return vit.encode(rows_at(placed, hiding.kept));
}

Var VitMae::decode(Var hidden, const Hiding& hiding) const {
  Graph& g = hidden.graph();
  Var x = decoder_embed(hidden);
  const int64_t B = x.size(0), N = hiding.restore.size(1), shown = x.size(1) - 1, C = x.size(2);
  Var all = concat({slice(x, 1, 1), broadcast_to(mask_token.in(g), {B, N - shown, C})}, 1);
  x = concat({slice(x, 1, 0, 1), rows_at(all, hiding.restore)}, 1) + decoder_pos_embed.in(g);
  for (const VitLayer& layer : decoder_layers) x = layer(x);
  return slice(decoder_pred(decoder_norm(x)), 1, 1);
}

Var VitMae::loss(Var pixels, Var decoded, const Hiding& hiding) const {
  Var target = patches_of(pixels, config.encoder.patch_size);
  if (config.norm_pix_loss)
    target = (target - mean(target, {-1}, true)) * rsqrt(variance(target, {-1}, true, 1) + 1e-6);
  Var hidden = cast(hiding.hidden, decoded.dtype());
  return sum(mean(square(decoded - target), {-1}) * hidden) / sum(hidden);
}

Var VitMae::operator()(Var pixels, Var noise) const {
  const Hiding hiding = hide(noise);
  Var seen = vit.layernorm(encode(vit.placed(vit.patches(pixels)), hiding).back());
  return loss(pixels, decode(seen, hiding), hiding);
}

}  // namespace whence::models
