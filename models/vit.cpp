#include "whence/models/vit.h"

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

VitConfig VitConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  VitConfig c;
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("num_attention_heads", c.heads);
  json.read("intermediate_size", c.intermediate_size);
  json.read("image_size", c.image_size);
  json.read("patch_size", c.patch_size);
  json.read("num_channels", c.channels);
  json.read("hidden_act", c.activation);
  json.read("layer_norm_eps", c.layer_norm_eps);
  json.read("hidden_dropout_prob", c.dropout);
  json.read("qkv_bias", c.qkv_bias);
  json.read("initializer_range", c.initializer_range);
  c.distilled = json.value("model_type", std::string()) == "deit";
  return c;
}

static Init normal(const VitConfig& c) { return Init::normal(c.initializer_range); }

VitLayer::VitLayer(Module& parent, const std::string& name, const VitConfig& c)
    : Module(parent, name),
      layernorm_before(*this, "layernorm_before", c.hidden_size, c.layer_norm_eps),
      attention(*this, "attention",
                {.features = c.hidden_size,
                 .heads = c.heads,
                 .out = "o_proj",
                 .q_bias = c.qkv_bias,
                 .k_bias = c.qkv_bias,
                 .v_bias = c.qkv_bias,
                 .init = normal(c)}),
      layernorm_after(*this, "layernorm_after", c.hidden_size, c.layer_norm_eps),
      mlp(*this, "mlp", "fc1", "fc2", c.hidden_size, c.intermediate_size, c.activation, normal(c)),
      attention_dropout(*this, "attention.dropout", c.dropout),
      output_dropout(*this, "mlp.dropout", c.dropout) {}

Var VitLayer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  x = x + attention_dropout(attention(layernorm_before(x)));
  return x + output_dropout(mlp(layernorm_after(x)));
}

VitModel::VitModel(Module& parent, const std::string& name, const VitConfig& c)
    : Module(parent, name),
      config(c),
      patch_embeddings(*this, "embeddings.patch_embeddings", c.channels, c.hidden_size, c.patch_size),
      cls_token(parameter("embeddings.cls_token", {1, 1, c.hidden_size}, normal(c))),
      distillation_token(c.distilled ? &parameter("embeddings.distillation_token", {1, 1, c.hidden_size}, normal(c))
                                     : nullptr),
      position_embeddings(parameter("embeddings.position_embeddings",
                                    {1, c.patches() + (c.distilled ? 2 : 1), c.hidden_size}, normal(c))),
      dropout(*this, "embeddings.dropout", c.dropout),
      layers(*this, "layers", c.layers, c),
      layernorm(*this, "layernorm", c.hidden_size, c.layer_norm_eps) {}

Var VitModel::patches(Var pixels) const {
  nn::ModuleScope here(*this, pixels);
  Var x = patch_embeddings(pixels);
  if (x.size(1) != config.patches())
    throw ShapeError("'" + name() + "' takes images of " + std::to_string(config.image_size) + " x " +
                     std::to_string(config.image_size) + " pixels, got " + pixels.shape().str());
  return x;
}

Var VitModel::placed(Var patches) const {
  nn::ModuleScope here(*this, patches);
  return patches + slice(position_embeddings.in(patches.graph()), 1, distillation_token ? 2 : 1);
}

std::vector<Var> VitModel::encode(Var placed) const {
  nn::ModuleScope here(*this, placed);
  Graph& g = placed.graph();
  Var special = cls_token.in(g);
  if (distillation_token) special = concat({special, distillation_token->in(g)}, 1);
  const int64_t n = special.size(1);
  special = special + slice(position_embeddings.in(g), 1, 0, n);
  std::vector<Var> states{dropout(concat({broadcast_to(special, {placed.size(0), n, config.hidden_size}), placed}, 1))};
  for (const VitLayer& layer : layers) states.push_back(layer(states.back()));
  return states;
}

Vit::Vit(const VitConfig& c, int64_t classes)
    : vit(*this, c.distilled ? "deit" : "vit", c),
      classifier(*this, "classifier", c.hidden_size, classes, true, normal(c)) {}

static VitConfig distilled(VitConfig c) {
  c.distilled = true;
  return c;
}

DeitWithTeacher::DeitWithTeacher(const VitConfig& c, int64_t classes)
    : deit(*this, "deit", distilled(c)),
      cls_classifier(*this, "cls_classifier", c.hidden_size, classes, true, normal(c)),
      distillation_classifier(*this, "distillation_classifier", c.hidden_size, classes, true, normal(c)) {}

DeitWithTeacher::Logits DeitWithTeacher::logits(Var hidden) const {
  Var a = cls_classifier(select(hidden, 1, 0)), b = distillation_classifier(select(hidden, 1, 1));
  return {(a + b) * 0.5, a, b};
}

}  // namespace whence::models
