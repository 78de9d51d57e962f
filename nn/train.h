// TrainStep: loss, gradients, clipping, accumulation, optimiser and schedule as one call; and its state for resuming.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "whence/autograd/plan.h"
#include "whence/autograd/signature_cache.h"
#include "whence/nn/data/loader.h"
#include "whence/nn/optim.h"
#include "whence/nn/schedule.h"

namespace whence::nn {

struct TrainOptions {
  double clip_norm = 0;    ///< 0: no clipping
  int64_t accumulate = 1;  ///< batches per update; gradients are averaged
  Schedule schedule = constant_schedule();
  std::vector<ParameterGroup> groups{};
  uint64_t seed = 0;         ///< dropout and other random ops: a pure function of (seed, step)
  double ema_decay = 0;      ///< 0: no moving average
  GraphOptions graph{};      ///< precision, ...; `training` is true whatever stands here
  CompileOptions compile{};  ///< device: the model moves there
};

/// What a step's function returns: the loss, and whatever else is to be seen, by name.
///   return {loss, {{"accuracy", mean(cast(argmax(scores) == labels, f32))}}};
struct StepOutputs {
  using Named = std::vector<std::pair<std::string, Var>>;
  StepOutputs(Var l, Named m = {}) : loss(l), more(std::move(m)) {}
  Var loss;
  Named more;
};

/// What a step returns: the loss and the other outputs, read when somebody asks. Valid until the next step.
class StepResult {
 public:
  /// \throws NumericError when loss or gradient norm are not finite (TrainStep::operator())
  operator float() const { return float(loss()); }
  double loss() const;
  /// An output by its name. \throws as loss(), ValueError for a name that the step's function did not give
  Tensor operator[](const std::string& name) const;

 private:
  friend class TrainStep;
  explicit StepResult(class TrainStep* step) : step_(step) {}
  class TrainStep* step_;
};

/// \code
///   TrainStep step(model, AdamW{.lr = 3e-4}, [&](Graph& g, const Batch& b) {
///     return cross_entropy(model(g.input("image", b["image"])), g.input("label", b["label"]));
///   });
///   for (Batch& b : loader.epoch()) float loss = step(b);
/// \endcode
/// The function runs once per signature of the batch (names, shapes, dtypes); forward, gradient, clipping,
/// accumulation, optimiser, moving average and running statistics are one plan, which is kept for the latest
/// kMaxSignatures signatures.
class TrainStep {
 public:
  static constexpr size_t kMaxSignatures = 32;
  using Loss = std::function<StepOutputs(Graph&, const Batch&)>;
  /// \throws ValueError for options or hyperparameters that make no sense
  TrainStep(Module& model, OptimizerConfig optimizer, Loss loss, TrainOptions options = {});
  ~TrainStep();

  /// Runs one batch; updates the parameters after every `accumulate` batches.
  /// Parameters that have been frozen or freed since the last batch are honoured: the step is recorded again.
  /// \throws NumericError when the loss, the norm of the gradient or a running statistic is not finite: nothing is
  ///         updated then, and the message names the op. On a device it comes when the host next reads: from StepResult
  ///         or the next step.
  /// \throws ShapeError, DTypeError, ValueError for a loss that is no floating-point scalar of this graph, or that
  ///         depends on no trainable parameter
  StepResult operator()(const Batch& batch);

  double gradient_norm();        ///< before clipping, of the last batch
  double learning_rate() const;  ///< of the next update
  int64_t steps() const { return optimizer_.steps(); }
  int64_t batches() const { return batches_; }
  size_t signatures() const { return traced_.size(); }  ///< plans kept
  Module& model() { return model_; }
  Optimizer& optimizer() { return optimizer_; }
  Ema* ema() { return ema_.get(); }
  /// Gradients of the last batch before clipping: the trainable parameters in order, packed; a copy. Undefined before
  /// the first.
  Tensor gradients() const;
  /// The part of p in them, in its shape. \throws ValueError when p was not trained, or no batch has run
  Tensor gradient(const Parameter& p) const;
  /// The plan for the last batch's signature (report, trace).
  Plan& plan();

  /// Everything needed to go on bitwise: parameters, optimiser, accumulated gradients, EMA, counters.
  std::map<std::string, Tensor> state();
  /// \throws ValueError when the state belongs to another model or optimiser; nothing is changed then.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  friend class StepResult;
  struct Traced;
  Traced& trace(const Batch& batch, bool updates);
  void record(Traced& into, const Batch& batch);
  void follow();
  void settle();
  Tensor output(const std::string& name) const;
  Module& model_;
  Loss loss_;
  TrainOptions options_;
  Optimizer optimizer_;
  std::unique_ptr<Ema> ema_;
  int64_t version_ = -1;                   // of the optimiser's update that the plans hold
  std::vector<const Parameter*> trained_;  // in the order of packed gradients
  Tensor gradients_;                       // of the last batch: one memory for all plans
  Tensor sum_;                             // of the gradients since the last update
  int64_t pending_ = 0;                    // batches in it
  SignatureCache<Traced> traced_{kMaxSignatures};
  // The last step, until somebody has looked at it.
  Traced* last_ = nullptr;
  Results results_;
  RunOptions run_;
  Feeds feeds_;
  bool settled_ = true;
  int64_t batches_ = 0;
  double loss_value_ = 0, norm_ = 0;
};

}  // namespace whence::nn
