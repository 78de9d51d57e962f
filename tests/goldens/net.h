// Models of the golden files: functions over parameters that are looked up by the names in the file.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "whence/nn/module.h"
#include "whence/ops/ops.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

/// The `param.*` tensors of a file as one module with a flat arena. Aliases of tied weights lead to the same parameter.
class Weights : public nn::Module {
 public:
  Weights(const File& file, DType dtype);
  bool has(const std::string& name) const { return list_.contains(canonical(name)); }
  nn::Parameter& at(const std::string& name) const;
  /// The row of an embedding that takes no gradient from look-ups, or -1.
  int64_t padding_idx(const std::string& embedding) const;
  const std::map<std::string, nn::Parameter*>& list() const { return list_; }

 private:
  std::string canonical(const std::string& name) const;
  Json tied_, padding_;
  std::map<std::string, nn::Parameter*> list_;
};

/// The parameters below a prefix, in a graph: net.at("layers.0").linear(x, "in_proj").
struct Net {
  Graph& g;
  const Weights& weights;
  std::string prefix = "";

  Net at(const std::string& name) const { return {g, weights, prefix + name + "."}; }
  Net at(const std::string& name, int64_t i) const { return at(name + "." + std::to_string(i)); }
  bool has(const std::string& name) const { return weights.has(prefix + name); }
  Var operator()(const std::string& name) const { return weights.at(prefix + name).in(g); }
  /// How many members a list of modules has.
  int64_t count(const std::string& list) const;

  Var linear(Var x, const std::string& name) const;  ///< weight [out, in], and the bias if there is one
  Var conv1d(Var x, const std::string& name) const;  ///< causal and depthwise: weight [C, 1, K], x [B, T, C]
  Var embedding(Var ids, const std::string& name) const;
  Var layer_norm(Var x, const std::string& name, double eps) const;
  Var rms_norm(Var x, const std::string& name, double eps) const;
};

/// The model that the parameters' names tell. \throws OpsMissing when no model has such names
ModelOutputs run_model(const Net& net, const Json& config, const ModelInputs& in);

// Encoders (encoders.cpp).
ModelOutputs vit(const Net& net, const Json& config, const ModelInputs& in);  ///< and DeiT, and the masked autoencoder

// Vision in stages (vision.cpp), encoder-decoders (seq2seq.cpp), sound (wav2vec2.cpp).
ModelOutputs resnet(const Net& net, const Json& config, const ModelInputs& in);
ModelOutputs convnextv2(const Net& net, const Json& config, const ModelInputs& in);
ModelOutputs swin(const Net& net, const Json& config, const ModelInputs& in);

// Pieces they share.
double real(const Json& config, const char* key, double otherwise);  ///< `otherwise` when absent or no number
AttentionOptions visible(Var mask, bool causal, double scale = 0);   ///< mask may be undefined
/// Angles [T, dim / 2] of rotary positions 0 .. T - 1 for `rope_theta` and its relatives.
Var rotary_angles(Graph& g, const Json& rope, int64_t T, int64_t dim, DType dtype);
/// x [B, H, T, D]: pairs (i, i + n) of the first 2 n features turn by the angles [T, n], the others stay.
Var rotate(Var x, Var angle);
/// [1, 1, T, T]: 0 where `before` > i - j > -`after`, else minus infinity.
Var window_bias(Graph& g, int64_t T, double before, double after, DType dtype);
}  // namespace whence::goldens
