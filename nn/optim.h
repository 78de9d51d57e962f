// Optimisers over flat arenas, one pass per run of equal hyperparameters; schedules; clipping; EMA.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "nn/module.h"

namespace whence::nn {

/// Loshchilov and Hutter 2019: decoupled weight decay.
struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};
/// Kingma and Ba 2015; weight_decay is an L2 term in the gradient.
struct Adam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
struct SGD {
  double lr = 1e-2, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};
/// Chen et al. 2023: sign of an interpolated momentum, decoupled weight decay.
struct Lion {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
};
using OptimizerConfig = std::variant<AdamW, Adam, SGD, Lion>;

/// Parameters whose full name matches `pattern` ('*' = any run) take these; the last match wins.
struct ParameterGroup {
  std::string pattern;
  double lr_scale = 1;
  double weight_decay = -1;  ///< negative: the optimiser's
};

/// The usual choice for transformers: no decay on biases and norm weights (tensors of rank below two).
std::vector<ParameterGroup> no_decay_on_vectors(const Module& m);

/// Multiplies x by min(1, max_norm / (norm + 1e-6)). Returns the norm before. PyTorch's clip_grad_norm_.
double clip_by_norm(const Tensor& flat, double max_norm);

class Optimizer {
 public:
  Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups = {});
  /// One update from the gradients of the trainable parameters, laid out like model.flat(). `factor` scales the learning
  /// rate (schedules).
  void step(const Tensor& gradients, double factor = 1);
  double base_lr() const;
  int64_t steps() const { return steps_; }
  /// Moments and step count, for checkpoints: "exp_avg", ... each laid out like model.flat(), and "steps" i64 [1].
  std::map<std::string, Tensor> state() const;
  /// \throws ValueError when names or shapes differ.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  struct Run {  // consecutive parameters with equal hyperparameters
    int64_t begin, end;
    double lr_scale, weight_decay;
  };
  Module& model_;
  OptimizerConfig config_;
  std::vector<Run> runs_;
  Tensor m_, v_;
  int64_t steps_ = 0;
};

/// A schedule gives the factor on the base learning rate at step 0, 1, 2, ...
using Schedule = std::function<double(int64_t step)>;
Schedule constant_schedule();
/// 0 -> 1 over `warmup` steps ((s + 1) / warmup), then constant.
Schedule linear_warmup(int64_t warmup);
/// Warm-up, then half a cosine from 1 to `floor` at `total`.
Schedule cosine_schedule(int64_t total, int64_t warmup = 0, double floor = 0);
/// PyTorch's OneCycleLR as a factor on the peak: start 1/div up to 1 at pct_start, down to 1/(div * final_div).
Schedule one_cycle(int64_t total, double pct_start = 0.3, double div = 25, double final_div = 1e4, bool cosine = true);

/// Exponential moving average of a model's parameters: shadow = decay shadow + (1 - decay) parameter.
class Ema {
 public:
  Ema(Module& model, double decay);
  void update();
  void swap();  ///< exchanges shadow and parameters: evaluate with the average, then swap back
  const Tensor& shadow() const { return shadow_; }

 private:
  Module& model_;
  double decay_;
  Tensor shadow_;
};

}  // namespace whence::nn
