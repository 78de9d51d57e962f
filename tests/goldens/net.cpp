#include "tests/goldens/net.h"

#include <algorithm>

namespace whence::goldens {

Weights::Weights(const File& file, DType dtype) : tied_(file.json("tied")), padding_(file.json("embedding_padding_idx")) {
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
  return has(name + ".bias") ? whence::linear(x, (*this)(name + ".weight"), Arg((*this)(name + ".bias"))) : whence::linear(x, (*this)(name + ".weight"));
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

Var Net::rms_norm(Var x, const std::string& name, double eps) const { return whence::rms_norm(x, Arg((*this)(name + ".weight")), eps); }

Var next_token_loss(Var logits, Var labels) { return cross_entropy(slice(logits, 1, 0, -1), slice(labels, 1, 1)); }

Decoded language_model(const Net& net, const Json& config, Var ids, Var mask) {
  if (net.has("transformer.wte.weight")) return gpt2(net, config, ids, mask);
  if (net.has("model.embed_tokens.weight")) return llama(net, config, ids, mask);
  if (net.has("gpt_neox.embed_in.weight")) return gpt_neox(net, config, ids, mask);
  if (net.has("backbone.layers.0.mixer.A_log")) return mamba(net, config, ids);
  if (net.has("token_embedding.weight")) return xlstm(net, config, ids);
  if (net.has("backbone.blocks.0.norm_mlstm.weight")) return xlstm_large(net, config, ids);
  throw OpsMissing("model with parameters such as " + net.weights.list().begin()->first);
}

}  // namespace whence::goldens
