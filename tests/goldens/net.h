// Models of the golden files: functions over parameters that are looked up by the names in the file.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "nn/module.h"
#include "tests/goldens/runner.h"

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

/// What a language model gives. `hidden` counts as the file does: what goes into each layer (Mamba: what comes out), and
/// `last` (the xlstm package: what goes into the last norm).
struct Decoded {
  Var embeds;
  std::vector<Var> hidden;
  Var last;    ///< after the final norm
  Var logits;  ///< [B, T, V]
};
/// The model that the parameters' names tell. \param mask  [B, T], 1 = may be seen; undefined: all
/// \throws OpsMissing when no model has such names
Decoded language_model(const Net& net, const Json& config, Var ids, Var mask = {});
/// Mean cross entropy between the logits at t and the label at t + 1; labels of -100 do not count.
Var next_token_loss(Var logits, Var labels);

Decoded gpt2(const Net& net, const Json& config, Var ids, Var mask);
Decoded llama(const Net& net, const Json& config, Var ids, Var mask);    ///< and Mistral, Qwen 2 and 3, Gemma 1 and 2
Decoded gpt_neox(const Net& net, const Json& config, Var ids, Var mask);
Decoded mamba(const Net& net, const Json& config, Var ids);              ///< and Mamba 2
Decoded xlstm(const Net& net, const Json& config, Var ids);              ///< mLSTM and sLSTM blocks, names of the xlstm package
Decoded xlstm_large(const Net& net, const Json& config, Var ids);        ///< the layout of xLSTM 7B

/// S6: u and dt [B, T, E], A [E, N], B and C [B, T, N], D [E] -> [B, T, E].
Var selective_scan(Var u, Var dt, Var A, Var B, Var C, Var D);

}  // namespace whence::goldens
