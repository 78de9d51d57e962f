// TrainStep: loss, gradients, clipping, accumulation, optimiser and schedule as one call; and its state for resuming.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "autograd/plan.h"
#include "nn/data/loader.h"
#include "nn/optim.h"
#include "nn/schedule.h"

namespace whence::nn {

struct TrainOptions {
  double clip_norm = 0;    ///< 0: no clipping
  int64_t accumulate = 1;  ///< batches per update; gradients are averaged
  Schedule schedule = constant_schedule();
  std::vector<ParameterGroup> groups{};
  uint64_t seed = 0;     ///< dropout and other random ops: a pure function of (seed, step)
  double ema_decay = 0;  ///< 0: no moving average
  CompileOptions compile{};
};

/// \code
///   TrainStep step(model, AdamW{.lr = 3e-4}, [&](Graph& g, const Batch& b) {
///     return cross_entropy(model(g.input("image", b["image"])), g.input("label", b["label"]));
///   });
///   for (Batch& b : loader.epoch()) float loss = step(b);
/// \endcode
/// The function runs once per signature of the batch (names, shapes, dtypes); its plan is kept.
class TrainStep {
 public:
  using Loss = std::function<Var(Graph&, const Batch&)>;
  TrainStep(Module& model, OptimizerConfig optimizer, Loss loss, TrainOptions options = {});
  ~TrainStep();

  /// Runs one batch; updates the parameters after every `accumulate` batches. Returns the loss.
  /// \throws NumericError when the loss is not finite; nothing is updated then and diagnose() names the op.
  float operator()(const Batch& batch);

  double gradient_norm() const { return norm_; }  ///< before clipping, of the last update
  double learning_rate() const;                   ///< of the next update
  int64_t steps() const { return optimizer_.steps(); }
  int64_t batches() const { return batches_; }
  Optimizer& optimizer() { return optimizer_; }
  Ema* ema() { return ema_.get(); }
  const Tensor& gradients() const { return gradients_; }  ///< of the last batch, before clipping; flat, as model.flat()
  /// The plan for the last batch's signature (report, trace).
  Plan& plan();

  /// Everything needed to go on bitwise: parameters, optimiser, accumulated gradients, EMA, counters.
  std::map<std::string, Tensor> state();
  /// \throws ValueError when the state belongs to another model or optimiser; nothing is changed then.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  struct Traced;
  Traced& trace(const Batch& batch);
  Module& model_;
  Loss loss_;
  TrainOptions options_;
  Optimizer optimizer_;
  std::unique_ptr<Ema> ema_;
  Tensor gradients_, sum_;
  std::map<std::string, std::unique_ptr<Traced>> traced_;
  Traced* last_ = nullptr;
  int64_t batches_ = 0;
  double norm_ = 0;
};

}  // namespace whence::nn
