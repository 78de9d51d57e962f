// EvalStep: what a model gives for batches, without training it.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "whence/autograd/plan.h"
#include "whence/autograd/signature_cache.h"
#include "whence/nn/data/loader.h"
#include "whence/nn/module.h"

namespace whence::nn {

struct EvalOptions {
  GraphOptions graph{};      ///< precision, ...; `training` as it stands here
  CompileOptions compile{};  ///< device: the model moves there
  uint64_t seed = 0;         ///< of random operations
};

/// \code
///   EvalStep eval(model, [&](Graph& g, const Batch& b) -> EvalStep::Named {
///     Var scores = model(g.input("image", b["image"]));
///     return {{"accuracy", mean(cast(argmax(scores) == g.input("label", b["label"]), f32))}, {"scores", scores}};
///   });
///   double accuracy = eval.over(loader)["accuracy"].item();
/// \endcode
/// The function runs once per signature of the batch; plans of the latest kMaxSignatures are kept.
class EvalStep {
 public:
  static constexpr size_t kMaxSignatures = 32;
  using Named = std::vector<std::pair<std::string, Var>>;
  using Results = std::map<std::string, Tensor>;
  using Fn = std::function<Named(Graph&, const Batch&)>;
  /// \throws ValueError for an empty function
  EvalStep(Module& model, Fn fn, EvalOptions options = {});

  /// One batch. \throws what the function throws; ValueError when it gives nothing or a value of another graph
  Results operator()(const Batch& batch);
  /// What is left of the loader's epoch (all of the next one if nothing is), in its order: values of shape [] are
  /// averaged, each batch counting by its samples, all others are put one behind the other along axis 0.
  /// \throws also ShapeError for values that do not fit together
  Results over(DataLoader& loader);
  size_t signatures() const { return traced_.size(); }  ///< plans kept

 private:
  struct Traced;
  Module& model_;
  Fn fn_;
  EvalOptions options_;
  SignatureCache<Traced> traced_{kMaxSignatures};
};

/// A whole dataset in its own order, for predictions: batches of `size`, the last one as large as it is.
DataLoader in_order(Dataset dataset, int64_t size = 64);

}  // namespace whence::nn
