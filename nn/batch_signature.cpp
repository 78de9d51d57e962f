#include "whence/nn/batch_signature.h"

#include <algorithm>

namespace whence::nn {

BatchSignature::BatchSignature(const Batch& batch, const char* who) {
  for (auto& [name, t] : batch.tensors) {
    if (!t.defined()) throw ValueError(std::string(who) + ": the batch's tensor '" + name + "' is undefined");
    entries_.push_back({name, {t.shape(), t.dtype()}});
  }
}

bool BatchSignature::operator==(const Batch& batch) const {
  return std::equal(entries_.begin(), entries_.end(), batch.tensors.begin(), batch.tensors.end(),
                    [](const Entry& a, const auto& b) {
                      return a.name == b.first && b.second.defined() && a.type.dtype == b.second.dtype() &&
                             a.type.shape == b.second.shape();
                    });
}

std::vector<std::string> fed_names(const Graph& g) {
  std::vector<std::string> names;
  for (auto& [name, id] : g.named_inputs())
    if (!g.attrs(g.producer(id)).flag("scalar")) names.push_back(name);
  return names;
}

}  // namespace whence::nn
