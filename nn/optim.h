// Optimisers record the update as ops of the step's graph: the plan fuses each into one pass over parameter, gradient
// and moments. A rule is a plain struct with `lr`, `weight_decay` and `Var update(Update&) const`; a user's own is as
// good as the ones here (docs/adding-an-optimiser.md).
//
// Rules, defaults and names of the state are PyTorch's. lr is the learning rate at factor 1. weight_decay adds
// weight_decay * p to the gradient; where it says decoupled it shrinks p by lr * weight_decay instead.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "whence/autograd/plan.h"
#include "whence/nn/module.h"

namespace whence::nn {

/// What a rule sees: a run of consecutive parameters with equal hyperparameters, as vectors [n] of the model's dtype.
class Update {
 public:
  Var p;                ///< the parameters
  Var g;                ///< their gradients, clipped
  double weight_decay;  ///< of this run

  /// g + weight_decay p.
  Var decayed_gradient() const;
  /// p (1 - lr weight_decay).
  Var shrunk_parameter();
  /// A number that changes from step to step, shape []: f(lr, t) is asked on the host before each step, lr being the
  /// learning rate of this run and t the update of these parameters, from 1 (steps in which they were frozen do not
  /// count).
  Var number(const std::string& name, std::function<double(double lr, int64_t t)> f);
  Var lr() {
    return number("lr", [](double lr, int64_t) { return lr; });
  }
  /// What the rule remembers per element, [n]; `initial` before the first step. The name is the one in checkpoints.
  Var remembered(const std::string& name, double initial = 0);
  /// Its value after this step.
  void remember(const std::string& name, Var next);

 private:
  friend class Optimizer;
  State place(const std::string& name, double initial);
  class Optimizer* owner_ = nullptr;
  int64_t begin_ = 0, end_ = 0;
  double lr_scale_ = 1;
  int64_t behind_ = 0;
};

// In the rules: g the gradient with its decay, t the step from 1, m and v running means of g and g^2 with beta1 and
// beta2, M = m / (1 - beta1^t) and V = v / (1 - beta2^t). check() throws ValueError for numbers that make no sense: lr,
// weight_decay and other decays must be finite and not negative, eps positive, betas and alpha in [0, 1), momentum,
// dampening and rho in [0, 1].

/// Loshchilov and Hutter 2019, decoupled: p -= lr M / (sqrt(V) + eps). amsgrad (Reddi et al. 2018): the largest v so
/// far.
struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool amsgrad = false;
  void check() const;
  Var update(Update& u) const;
};
/// Kingma and Ba 2015: the same rule, the decay in the gradient.
struct Adam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false;
  void check() const;
  Var update(Update& u) const;
};
/// Dozat 2016: p -= lr (mu_{t+1} m / (1 - mu_1 .. mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 .. mu_t)) / (sqrt(V) + eps) with
/// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2).
struct NAdam {
  double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, momentum_decay = 4e-3;
  void check() const;
  Var update(Update& u) const;
};
/// Liu et al. 2020: p -= lr r_t M / (sqrt(v) + eps) sqrt(1 - beta2^t); p -= lr M while the variance is out of reach.
struct RAdam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  void check() const;
  Var update(Update& u) const;
};
/// Kingma and Ba 2015, section 7.1: u = max(beta2 u, |g| + eps), p -= lr M / u.
struct Adamax {
  double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  void check() const;
  Var update(Update& u) const;
};
/// Duchi et al. 2011: s += g^2, p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).
struct Adagrad {
  double lr = 1e-2, lr_decay = 0, eps = 1e-10, weight_decay = 0, initial_accumulator_value = 0;
  void check() const;
  Var update(Update& u) const;
};
/// Zeiler 2012: v = rho v + (1 - rho) g^2, c = g sqrt(u + eps) / sqrt(v + eps), u = rho u + (1 - rho) c^2, p -= lr c.
struct Adadelta {
  double lr = 1, rho = 0.9, eps = 1e-6, weight_decay = 0;
  void check() const;
  Var update(Update& u) const;
};
/// Hinton 2012 (lecture 6e): v = alpha v + (1 - alpha) g^2, c = g / (sqrt(v) + eps), p -= lr c, or lr b with
/// b = momentum b + c. centered (Graves 2013): the variance, v less the squared mean of g.
struct RMSprop {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  bool centered = false;
  void check() const;
  Var update(Update& u) const;
};
/// Sutskever et al. 2013: b = momentum b + (1 - dampening) g (b = g at t = 1), p -= lr b; nesterov: lr (g + momentum
/// b).
struct SGD {
  double lr = 1e-2, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  void check() const;
  Var update(Update& u) const;
};
/// Chen et al. 2023, decoupled: p -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g.
struct Lion {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
  void check() const;
  Var update(Update& u) const;
};

/// Any rule; `check()` is optional, and called by the Optimizer.
class OptimizerConfig {
 public:
  template <class Rule>
  requires requires(const Rule& r, Update& u) {
    r.update(u);
    r.lr + r.weight_decay;
  }
  OptimizerConfig(Rule rule) : lr(rule.lr), weight_decay(rule.weight_decay) {
    if constexpr (requires { rule.check(); }) check = [rule] { rule.check(); };
    update = [rule = std::move(rule)](Update& u) { return rule.update(u); };
  }
  double lr, weight_decay;
  std::function<void()> check;
  std::function<Var(Update&)> update;
};

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
/// min(1, max_norm / (norm + 1e-6)), PyTorch's clip_grad_norm_; 1 when max_norm is 0. \throws ValueError when max_norm
/// is negative or NaN
double clip_factor(double norm, double max_norm);

/// Moves the trainable parameters of a model by a rule. Whom it moves is asked whenever an update is recorded
/// (State::set_trainable): a parameter that is frozen later keeps its value and what the rule remembers of it, and one
/// that is freed later begins with its own t = 1.
class Optimizer {
 public:
  /// \throws ValueError for hyperparameters that make no sense, and for a group that matches no parameter; DTypeError
  ///         for a model that is neither f32 nor f64
  Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups = {});
  Optimizer(const Optimizer&) = delete;

  /// Records one update: the states' next values, from the gradients of the trainable parameters in order, packed [n].
  void record(Graph& g, Var gradients);
  /// Takes notice of set_trainable and load_state. The number changes whenever record() would record another update:
  /// plans of the old one are to be dropped then. \throws ValueError when the model has moved to another device
  int64_t follow();
  /// The numbers of the next step (RunOptions::scalars); `factor` scales the learning rate. \throws ValueError for a
  /// factor that is negative or not finite, and when the recorded update is no longer the one to make (follow)
  void numbers(double factor, RunOptions& options);
  /// A recorded update has run.
  void advance(int64_t steps = 1) { steps_ += steps; }
  /// One update by itself, from packed gradients; `gradient_scale` multiplies them on their way in (clipping).
  /// \throws NumericError when the norm of the scaled gradients is not finite: nothing is changed then
  void step(const Tensor& gradients, double factor = 1, double gradient_scale = 1);

  double base_lr() const { return config_.lr; }
  int64_t steps() const { return steps_; }
  /// For checkpoints: "exp_avg", "momentum_buffer", ... each laid out like model.flat(), "steps" i64 [1], and where
  /// some parameters have been frozen for a while "updates", how many each has had, i64 [parameters].
  std::map<std::string, Tensor> state() const;
  /// \throws ValueError when names, shapes or counts do not fit, or a value is NaN; nothing is changed then.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  friend class Update;
  struct Place {  // a parameter in model.flat()
    const Parameter* parameter;
    int64_t begin, end;
    double lr_scale, weight_decay;
    bool trained;
    int64_t mark = 0;  // the updates it has had while it is frozen; steps_ less those while it is trained
    int64_t updates(int64_t steps) const { return trained ? steps - mark : mark; }
  };
  struct Run {  // consecutive trainable parameters with equal hyperparameters
    int64_t begin, end;
    double lr_scale, weight_decay;
    int64_t behind;  // steps they were frozen for
    bool operator==(const Run&) const = default;
  };
  struct Number {
    std::string name;
    double lr_scale;
    int64_t behind;
    std::function<double(double lr, int64_t t)> value;
  };
  struct Alone {  // the plan of step()
    Graph graph;
    Plan plan;
    Results norm;
  };
  State window(const std::string& name, const Tensor& flat, int64_t begin, int64_t end) const;
  std::vector<Run> runs(bool all) const;
  void arrange();

  Module& model_;
  OptimizerConfig config_;
  const void* home_ = nullptr;  // where the parameters were
  std::vector<Place> places_;
  std::vector<Run> runs_;
  std::map<std::string, Tensor> slots_;  // laid out like model.flat()
  std::map<std::string, Number> numbers_;
  std::unique_ptr<Alone> alone_;
  int64_t steps_ = 0, version_ = 0;
};

/// The count that a saved state holds under `name`. \throws ValueError when it is none: negative, a fraction, NaN
int64_t count_in(const std::string& name, const Tensor& t, int64_t at = 0);

/// Exponential moving average of a model's parameters: shadow = decay shadow + (1 - decay) parameter.
class Ema {
 public:
  Ema(Module& model, double decay);  ///< \throws ValueError for a decay outside [0, 1)
  /// Records the average of what the states assigned so far will be, and of the parameters that nobody assigns as they
  /// are. Call it after Optimizer::record.
  void record(Graph& g);
  void swap();  ///< exchanges shadow and parameters: evaluate with the average, then swap back
  const Tensor& shadow() const { return shadow_; }

 private:
  Module& model_;
  double decay_;
  Tensor shadow_;
};

}  // namespace whence::nn
