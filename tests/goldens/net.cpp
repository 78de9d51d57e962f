#include "tests/goldens/net.h"

#include <algorithm>
#include <cmath>

namespace whence::goldens {

Weights::Weights(const File& file, DType dtype)
    : tied_(file.json("tied")), padding_(file.json("embedding_padding_idx")) {
  for (const auto& e : file.data.entries()) {
    if (!e.name.starts_with("param.") || e.dtype.find('F') == e.dtype.npos) continue;
    std::string name = e.name.substr(6);
    if (canonical(name) != name) continue;
    list_[name] = &parameter(name, e.shape, nn::Init::zeros());
  }
  init(0, dtype);
  for (const auto& [name, p] : list_) p->tensor().copy_from(file.tensor("param." + name, dtype));
}

std::string Weights::canonical(const std::string& name) const {
  return tied_.is_object() && tied_.contains(name) ? tied_.at(name).get<std::string>() : name;
}

nn::Parameter& Weights::at(const std::string& name) const {
  auto it = list_.find(canonical(name));
  if (it == list_.end()) throw OpsMissing("parameter " + name);
  return *it->second;
}

int64_t Weights::padding_idx(const std::string& embedding) const {
  return padding_.is_object() && padding_.contains(embedding) ? padding_.at(embedding).get<int64_t>() : -1;
}

int64_t Net::count(const std::string& list) const {
  for (int64_t n = 0;; ++n) {
    std::string member = prefix + list + "." + std::to_string(n) + ".";
    auto it = weights.list().lower_bound(member);
    if (it == weights.list().end() || !it->first.starts_with(member)) return n;
  }
}

Var Net::linear(Var x, const std::string& name) const {
  return has(name + ".bias") ? whence::linear(x, (*this)(name + ".weight"), Arg((*this)(name + ".bias")))
                             : whence::linear(x, (*this)(name + ".weight"));
}

Var Net::conv1d(Var x, const std::string& name) const {
  Var w = squeeze((*this)(name + ".weight"), 1);
  return has(name + ".bias") ? causal_conv1d(x, w, Arg((*this)(name + ".bias"))) : causal_conv1d(x, w);
}

Var Net::embedding(Var ids, const std::string& name) const {
  return whence::embedding(ids, (*this)(name + ".weight"), weights.padding_idx(prefix + name));
}

Var Net::layer_norm(Var x, const std::string& name, double eps) const {
  if (!has(name + ".bias")) return whence::layer_norm(x, Arg((*this)(name + ".weight")), {}, eps);
  return whence::layer_norm(x, Arg((*this)(name + ".weight")), Arg((*this)(name + ".bias")), eps);
}

Var Net::rms_norm(Var x, const std::string& name, double eps) const {
  return whence::rms_norm(x, Arg((*this)(name + ".weight")), eps);
}

double real(const Json& config, const char* key, double otherwise) {
  return config.contains(key) && config.at(key).is_number() ? config.at(key).get<double>() : otherwise;
}

AttentionOptions visible(Var mask, bool causal, double scale) {
  AttentionOptions a{.causal = causal, .scale = scale};
  if (mask.defined()) a.mask = mask;
  return a;
}

// "llama3" slows the low frequencies down.
Var rotary_angles(Graph& g, const Json& rope, int64_t T, int64_t dim, DType dtype) {
  double theta = real(rope, "rope_theta", 1e4);
  Tensor rates = Tensor::empty({dim / 2}, f64);
  for (int64_t i = 0; i < dim / 2; ++i) {
    double rate = std::pow(theta, -2.0 * double(i) / double(dim));
    if (rope.value("rope_type", "default") == "llama3") {
      double factor = real(rope, "factor", 1), low = real(rope, "low_freq_factor", 1),
             high = real(rope, "high_freq_factor", 4);
      double turns = real(rope, "original_max_position_embeddings", 8192) * rate / (2 * std::acos(-1.0));
      double fast = std::clamp((turns - low) / (high - low), 0.0, 1.0);
      rate *= (1 - fast) / factor + fast;
    }
    rates.data<double>()[i] = rate;
  }
  return unsqueeze(arange(g, T, dtype), -1) * g.constant(rates.to(dtype));
}

Var rotate(Var x, Var angle) {
  int64_t half = angle.size(-1);
  Var a = slice(x, -1, 0, half), b = slice(x, -1, half, 2 * half), c = cos(angle), s = sin(angle);
  std::vector<Var> parts{a * c - b * s, b * c + a * s};
  if (2 * half < x.size(-1)) parts.push_back(slice(x, -1, 2 * half));
  return concat(parts, -1);
}

Var window_bias(Graph& g, int64_t T, double before, double after, DType dtype) {
  Var distance = unsqueeze(arange(g, T, dtype), 1) - unsqueeze(arange(g, T, dtype), 0);
  Var seen = logical_and(less(distance, before), greater(distance, -after));
  return reshape(where(seen, g.constant(0, dtype), g.constant(-INFINITY, dtype)), {1, 1, T, T});
}

ModelOutputs run_model(const Net& net, const Json& config, const ModelInputs& in) {
  using Model = ModelOutputs (*)(const Net&, const Json&, const ModelInputs&);
  static const std::pair<const char*, Model> models[] = {
      {"resnet.embedder.embedder.convolution.weight", resnet},
      {"convnextv2.embeddings.layernorm.weight", convnextv2},
      {"swin.embeddings.norm.weight", swin},
      {"vit.embeddings.cls_token", vit},
      {"deit.embeddings.cls_token", vit},
  };
  for (const auto& [parameter, model] : models)
    if (net.has(parameter)) return model(net, config, in);
  throw OpsMissing("model with parameters such as " + net.weights.list().begin()->first);
}

}  // namespace whence::goldens
