// Optimisers over flat arenas, one pass per run of equal hyperparameters; clipping; moving averages of parameters.
//
// Rules, defaults and names of the state are PyTorch's. lr is the learning rate at factor 1. weight_decay adds
// weight_decay * p to the gradient; where it says decoupled it shrinks p by lr * weight_decay instead.
#pragma once
#include <array>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "nn/module.h"

namespace whence::nn {

// In the rules: g the gradient with its decay, t the step from 1, m and v running means of g and g^2 with beta1 and
// beta2, M = m / (1 - beta1^t) and V = v / (1 - beta2^t).

/// Loshchilov and Hutter 2019, decoupled: p -= lr M / (sqrt(V) + eps). amsgrad (Reddi et al. 2018): the largest v so
/// far.
struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool amsgrad = false;
};
/// Kingma and Ba 2015: the same rule, the decay in the gradient.
struct Adam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false;
};
/// Dozat 2016: p -= lr (mu_{t+1} m / (1 - mu_1 .. mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 .. mu_t)) / (sqrt(V) + eps) with
/// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2).
struct NAdam {
  double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, momentum_decay = 4e-3;
};
/// Liu et al. 2020: p -= lr r_t M / (sqrt(v) + eps) sqrt(1 - beta2^t); p -= lr M while the variance is out of reach.
struct RAdam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
/// Kingma and Ba 2015, section 7.1: u = max(beta2 u, |g| + eps), p -= lr M / u.
struct Adamax {
  double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
/// Duchi et al. 2011: s += g^2, p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).
struct Adagrad {
  double lr = 1e-2, lr_decay = 0, eps = 1e-10, weight_decay = 0, initial_accumulator_value = 0;
};
/// Zeiler 2012: v = rho v + (1 - rho) g^2, c = g sqrt(u + eps) / sqrt(v + eps), u = rho u + (1 - rho) c^2, p -= lr c.
struct Adadelta {
  double lr = 1, rho = 0.9, eps = 1e-6, weight_decay = 0;
};
/// Hinton 2012 (lecture 6e): v = alpha v + (1 - alpha) g^2, c = g / (sqrt(v) + eps), p -= lr c, or lr b with
/// b = momentum b + c. centered (Graves 2013): the variance, v less the squared mean of g.
struct RMSprop {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  bool centered = false;
};
/// Sutskever et al. 2013: b = momentum b + (1 - dampening) g (b = g at t = 1), p -= lr b; nesterov: lr (g + momentum
/// b).
struct SGD {
  double lr = 1e-2, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};
/// Chen et al. 2023, decoupled: p -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g.
struct Lion {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
};
using OptimizerConfig = std::variant<AdamW, Adam, SGD, Lion, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop>;

/// Parameters whose full name matches `pattern` ('*' = any run) take these; the last match wins.
struct ParameterGroup {
  std::string pattern;
  double lr_scale = 1;
  double weight_decay = -1;  ///< negative: the optimiser's
};

/// The usual choice for transformers: no decay on biases and norm weights (tensors of rank below two).
std::vector<ParameterGroup> no_decay_on_vectors(const Module& m);

/// Root of the sum of squares.
double gradient_norm(const Tensor& flat);
/// min(1, max_norm / (norm + 1e-6)), PyTorch's clip_grad_norm_; 1 when max_norm is 0.
double clip_factor(double norm, double max_norm);

class Optimizer {
 public:
  Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups = {});
  /// One update from the gradients of the trainable parameters, laid out like model.flat(). `factor` scales the
  /// learning rate (schedules), `gradient_scale` the gradients on their way in (clipping).
  void step(const Tensor& gradients, double factor = 1, double gradient_scale = 1);
  double base_lr() const;
  int64_t steps() const { return steps_; }
  /// For checkpoints: "exp_avg", "momentum_buffer", ... each laid out like model.flat(), and "steps" i64 [1].
  std::map<std::string, Tensor> state() const;
  /// \throws ValueError when names or shapes differ; nothing is changed then.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  struct Run {  // consecutive parameters with equal hyperparameters
    int64_t begin, end;
    double lr_scale, weight_decay;
  };
  Module& model_;
  OptimizerConfig config_;
  std::vector<Run> runs_;
  std::array<std::pair<std::string, Tensor>, 3> slots_;  // by the rule's order; undefined where it needs none
  int64_t steps_ = 0;
};

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
