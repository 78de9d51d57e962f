#include "nn/optim.h"

#include <cmath>

#include "ops/cpu/optim.h"
#include "ops/cpu/reduce.h"

namespace whence::nn {
namespace {

template <class F> void typed(const Tensor& t, F&& f) {
  if (t.dtype() == f32) f(float{});
  else if (t.dtype() == f64) f(double{});
  else throw DTypeError("optimisers work on f32 and f64, got " + std::string(name_of(t.dtype())));
}

// ---- the rules ----------------------------------------------------------------------------------------------------
// slots() says what a rule remembers of each parameter, update() computes its coefficients and makes one pass.

struct Slot {
  const char* name = "";
  bool used = false;
  double initial = 0;
  Slot() = default;
  Slot(const char* name, bool used = true, double initial = 0) : name(name), used(used), initial(initial) {}
};
using Slots = std::array<Slot, 3>;

template <class T> struct Piece {
  T* p;
  const T* g;
  std::array<T*, 3> slot;
  int64_t n, t;  // t: the step, from 1
  double lr, weight_decay, scale;
  cpu::Intake coupled() const { return {scale, weight_decay, 1}; }
  cpu::Intake decoupled() const { return {scale, 0, 1 - lr * weight_decay}; }
};

// 1 - beta^t: what a mean that began at zero has seen of its weights.
double seen(double beta, int64_t t) { return 1 - std::pow(beta, double(t)); }

template <class C, class T> cpu::AdamStep adam(const C& c, const Piece<T>& x) {
  return {.beta1 = c.beta1,
          .beta2 = c.beta2,
          .eps = c.eps,
          .rate = x.lr / seen(c.beta1, x.t),
          .root = 1 / std::sqrt(seen(c.beta2, x.t))};
}
template <class T> void adam_pass(const Piece<T>& x, const cpu::Intake& in, const cpu::AdamStep& a) {
  cpu::adam_step(x.p, x.g, x.slot[0], x.slot[1], x.slot[2], x.n, in, a);
}

Slots slots(const AdamW& c) { return {Slot("exp_avg"), Slot("exp_avg_sq"), Slot("max_exp_avg_sq", c.amsgrad)}; }
template <class T> void update(const AdamW& c, const Piece<T>& x) { adam_pass(x, x.decoupled(), adam(c, x)); }

Slots slots(const Adam& c) { return {Slot("exp_avg"), Slot("exp_avg_sq"), Slot("max_exp_avg_sq", c.amsgrad)}; }
template <class T> void update(const Adam& c, const Piece<T>& x) { adam_pass(x, x.coupled(), adam(c, x)); }

Slots slots(const NAdam&) { return {Slot("exp_avg"), Slot("exp_avg_sq")}; }
template <class T> void update(const NAdam& c, const Piece<T>& x) {
  auto mu = [&](int64_t t) { return c.beta1 * (1 - 0.5 * std::pow(0.96, double(t) * c.momentum_decay)); };
  double product = 1;  // mu_1 .. mu_t, rounded as PyTorch's, a float; beside 1 it is soon nothing
  for (int64_t t = 1; t <= x.t && product > 1e-20; ++t) product = float(product) * float(mu(t));
  cpu::AdamStep a = adam(c, x);
  a.direct = x.lr * (1 - mu(x.t)) / (1 - product);
  a.rate = x.lr * mu(x.t + 1) / (1 - product * mu(x.t + 1));
  adam_pass(x, x.coupled(), a);
}

Slots slots(const RAdam&) { return {Slot("exp_avg"), Slot("exp_avg_sq")}; }
template <class T> void update(const RAdam& c, const Piece<T>& x) {
  double longest = 2 / (1 - c.beta2) - 1, left = seen(c.beta2, x.t),
         length = longest - 2 * double(x.t) * (1 - left) / left;
  cpu::AdamStep a = adam(c, x);
  if (length > 5) {
    a.rate *=
        std::sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) * std::sqrt(left);
    a.root = 1;
  } else {
    a.root = 0, a.eps = 1;
  }
  adam_pass(x, x.coupled(), a);
}

Slots slots(const Adamax&) { return {Slot("exp_avg"), Slot("exp_inf")}; }
template <class T> void update(const Adamax& c, const Piece<T>& x) {
  cpu::adamax_step(x.p, x.g, x.slot[0], x.slot[1], x.n, x.coupled(),
                   {.beta1 = c.beta1, .beta2 = c.beta2, .eps = c.eps, .rate = x.lr / seen(c.beta1, x.t)});
}

Slots slots(const Adagrad& c) { return {Slot("sum", true, c.initial_accumulator_value)}; }
template <class T> void update(const Adagrad& c, const Piece<T>& x) {
  double rate = x.lr / (1 + double(x.t - 1) * c.lr_decay);
  cpu::rms_step<T>(x.p, x.g, x.slot[0], nullptr, nullptr, x.n, x.coupled(),
                   {.alpha = 1, .gain = 1, .eps = c.eps, .rate = rate});
}

Slots slots(const RMSprop& c) {
  return {Slot("square_avg"), Slot("grad_avg", c.centered), Slot("momentum_buffer", c.momentum != 0)};
}
template <class T> void update(const RMSprop& c, const Piece<T>& x) {
  cpu::RmsStep r{.alpha = c.alpha, .gain = 1 - c.alpha, .eps = c.eps, .rate = x.lr, .momentum = c.momentum};
  cpu::rms_step(x.p, x.g, x.slot[0], x.slot[1], x.slot[2], x.n, x.coupled(), r);
}

Slots slots(const Adadelta&) { return {Slot("square_avg"), Slot("acc_delta")}; }
template <class T> void update(const Adadelta& c, const Piece<T>& x) {
  cpu::adadelta_step(x.p, x.g, x.slot[0], x.slot[1], x.n, x.coupled(), {.rho = c.rho, .eps = c.eps, .rate = x.lr});
}

Slots slots(const SGD& c) { return {Slot("momentum_buffer", c.momentum != 0)}; }
template <class T> void update(const SGD& c, const Piece<T>& x) {
  cpu::SgdStep s{
      .rate = x.lr, .momentum = c.momentum, .dampening = c.dampening, .nesterov = c.nesterov, .first = x.t == 1};
  cpu::sgd_step(x.p, x.g, x.slot[0], x.n, x.coupled(), s);
}

Slots slots(const Lion&) { return {Slot("exp_avg")}; }
template <class T> void update(const Lion& c, const Piece<T>& x) {
  cpu::lion_step(x.p, x.g, x.slot[0], x.n, x.decoupled(), {.rate = x.lr, .beta1 = c.beta1, .beta2 = c.beta2});
}

}  // namespace

// ---- groups and clipping ------------------------------------------------------------------------------------------

std::vector<ParameterGroup> no_decay_on_vectors(const Module& m) {
  std::vector<ParameterGroup> groups;
  for (Parameter* p : m.parameters())
    if (p->shape().rank() < 2) groups.push_back({.pattern = p->name(), .weight_decay = 0});
  return groups;
}

double gradient_norm(const Tensor& flat) {
  double norm = 0;
  typed(flat, [&](auto zero) { norm = std::sqrt(cpu::sum_squares(flat.data<decltype(zero)>(), flat.numel())); });
  return norm;
}

double clip_factor(double norm, double max_norm) {
  double factor = max_norm / (norm + 1e-6);
  return max_norm <= 0 || factor >= 1 ? 1 : factor;
}

// ---- the optimiser ------------------------------------------------------------------------------------------------

Optimizer::Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups)
    : model_(model), config_(config) {
  double decay = std::visit([](auto& c) { return c.weight_decay; }, config_);
  int64_t at = 0;
  for (Parameter* p : model.parameters()) {
    Run r{at, at + p->shape().numel(), 1, decay};
    at = r.end;
    for (const ParameterGroup& g : groups)
      if (lrp::glob(g.pattern, p->name())) {
        r.lr_scale = g.lr_scale;
        r.weight_decay = g.weight_decay < 0 ? decay : g.weight_decay;
      }
    if (!p->trainable()) continue;
    bool joins = !runs_.empty() && runs_.back().end == r.begin && runs_.back().lr_scale == r.lr_scale &&
                 runs_.back().weight_decay == r.weight_decay;
    if (joins) runs_.back().end = r.end;
    else runs_.push_back(r);
  }
  Tensor flat = model.flat();
  Slots wanted = std::visit([](auto& c) { return slots(c); }, config_);
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i].used) slots_[i] = {wanted[i].name, Tensor::full(flat.shape(), wanted[i].initial, flat.dtype())};
}

double Optimizer::base_lr() const {
  return std::visit([](auto& c) { return c.lr; }, config_);
}

void Optimizer::step(const Tensor& gradients, double factor, double gradient_scale) {
  Tensor flat = model_.flat();
  if (!(gradients.shape() == flat.shape()) || gradients.dtype() != flat.dtype())
    throw ShapeError("gradients are " + gradients.shape().str() + " " + std::string(name_of(gradients.dtype())) +
                     ", the parameters " + flat.shape().str() + " " + std::string(name_of(flat.dtype())));
  ++steps_;
  typed(flat, [&](auto zero) {
    using T = decltype(zero);
    for (const Run& r : runs_) {
      Piece<T> x{flat.data<T>() + r.begin,
                 gradients.data<T>() + r.begin,
                 {},
                 r.end - r.begin,
                 steps_,
                 base_lr() * factor * r.lr_scale,
                 r.weight_decay,
                 gradient_scale};
      for (size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i].second.defined()) x.slot[i] = slots_[i].second.data<T>() + r.begin;
      std::visit([&](auto& c) { update(c, x); }, config_);
    }
  });
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> s{{"steps", Tensor::from<int64_t>({steps_})}};
  for (const auto& [name, t] : slots_)
    if (t.defined()) s[name] = t;
  return s;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& state) {
  std::map<std::string, Tensor> given = state;
  // SGD's buffer was once written under the name of Adam's.
  if (std::holds_alternative<SGD>(config_) && given.contains("exp_avg"))
    given["momentum_buffer"] = given.extract("exp_avg").mapped();
  auto own = this->state();
  for (auto& [name, t] : own)
    if (!given.contains(name) || !(given.at(name).shape() == t.shape()))
      throw ValueError("optimiser state '" + name + "' is missing or does not fit " + t.shape().str());
  if (given.size() != own.size()) throw ValueError("the optimiser state belongs to another optimiser");
  steps_ = given.at("steps").data<int64_t>()[0];
  for (auto& [name, t] : slots_)
    if (t.defined()) t.copy_from(given.at(name));
}

// ---- moving averages ----------------------------------------------------------------------------------------------

Ema::Ema(Module& model, double decay) : model_(model), decay_(decay), shadow_(model.flat().contiguous_copy()) {}

void Ema::update() {
  Tensor flat = model_.flat();
  typed(flat, [&](auto zero) {
    using T = decltype(zero);
    cpu::blend_array(shadow_.data<T>(), decay_, flat.data<T>(), 1 - decay_, flat.numel());
  });
}

void Ema::swap() {
  Tensor flat = model_.flat(), kept = flat.contiguous_copy();
  flat.copy_from(shadow_);
  shadow_.copy_from(kept);
}

}  // namespace whence::nn
