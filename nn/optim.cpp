#include "nn/optim.h"

#include <fmt/format.h>

#include <cmath>

#include "ops/ops.h"

namespace whence::nn {

// ---- what a rule sees ---------------------------------------------------------------------------------------------

Var Update::decayed_gradient() const { return weight_decay == 0 ? g : g + weight_decay * p; }

Var Update::shrunk_parameter() {
  if (weight_decay == 0) return p;
  double decay = weight_decay;
  return p * number(fmt::format("keep {}", decay), [decay](double lr, int64_t) { return 1 - lr * decay; });
}

Var Update::number(const std::string& name, std::function<double(double lr, int64_t t)> f) {
  std::string full = lr_scale_ == 1 ? "optimizer." + name : fmt::format("optimizer.{} x {}", name, lr_scale_);
  auto [at, fresh] = owner_->numbers_.try_emplace(full);
  if (fresh) at->second = {full, lr_scale_, std::move(f)};
  return p.graph().scalar(full, p.dtype());
}

Var Update::remembered(const std::string& name, double initial) {
  Tensor flat = owner_->model_.flat();
  Tensor& slot = owner_->slots_[name];
  if (!slot.defined()) slot = Tensor::full(flat.shape(), initial, flat.dtype()).to(flat.device());
  return p.graph().state(owner_->window(name, slot, begin_, end_));
}

void Update::remember(const std::string& name, Var next) {
  p.graph().assign(owner_->window(name, owner_->slots_.at(name), begin_, end_), next);
}

// ---- the rules ----------------------------------------------------------------------------------------------------

namespace {

// 1 - beta^t: what a mean that began at zero has seen of its weights.
double seen(double beta, int64_t t) { return 1 - std::pow(beta, double(t)); }

// The running mean of x under `name`.
Var running_mean(Update& u, const char* name, double beta, Var x) {
  Var next = beta * u.remembered(name) + (1 - beta) * x;
  u.remember(name, next);
  return next;
}

struct Moments {
  Var m, v;  // means of g and g^2
};
template <class C> Moments moments(Update& u, const C& c, Var g) {
  Var m = running_mean(u, "exp_avg", c.beta1, g);
  return {m, running_mean(u, "exp_avg_sq", c.beta2, g * g)};
}
// sqrt(V) + eps
template <class C> Var spread(Update& u, const C& c, Var v) {
  Var root = u.number("root", [b = c.beta2](double, int64_t t) { return 1 / std::sqrt(seen(b, t)); });
  return sqrt(v) * root + c.eps;
}

template <class C> Var adam(Update& u, const C& c, Var p, Var g) {
  auto [m, v] = moments(u, c, g);
  if (c.amsgrad) {
    v = maximum(v, u.remembered("max_exp_avg_sq"));
    u.remember("max_exp_avg_sq", v);
  }
  Var rate = u.number("rate", [b = c.beta1](double lr, int64_t t) { return lr / seen(b, t); });
  return p - rate * m / spread(u, c, v);
}

}  // namespace

Var AdamW::update(Update& u) const { return adam(u, *this, u.shrunk_parameter(), u.g); }
Var Adam::update(Update& u) const { return adam(u, *this, u.p, u.decayed_gradient()); }

Var NAdam::update(Update& u) const {
  auto mu = [b = beta1, decay = momentum_decay](int64_t t) {
    return b * (1 - 0.5 * std::pow(0.96, double(t) * decay));
  };
  auto product = [mu](int64_t steps) {  // mu_1 .. mu_t, rounded as PyTorch's, a float; beside 1 it is soon nothing
    double x = 1;
    for (int64_t t = 1; t <= steps && x > 1e-20; ++t) x = float(x) * float(mu(t));
    return x;
  };
  Var direct = u.number("direct", [=](double lr, int64_t t) { return lr * (1 - mu(t)) / (1 - product(t)); });
  Var rate = u.number("rate", [=](double lr, int64_t t) { return lr * mu(t + 1) / (1 - product(t) * mu(t + 1)); });
  Var g = u.decayed_gradient();
  auto [m, v] = moments(u, *this, g);
  return u.p - (direct * g + rate * m) / spread(u, *this, v);
}

Var RAdam::update(Update& u) const {
  // The variance is out of reach until the average is long enough.
  auto length = [b = beta2](int64_t t) {
    double longest = 2 / (1 - b) - 1, left = seen(b, t);
    return longest - 2 * double(t) * (1 - left) / left;
  };
  Var rate = u.number("rate", [length, b1 = beta1, b2 = beta2](double lr, int64_t t) {
    double l = length(t), longest = 2 / (1 - b2) - 1, plain = lr / seen(b1, t);
    if (l <= 5) return plain;
    return plain * std::sqrt((l - 4) * (l - 2) * longest / ((longest - 4) * (longest - 2) * l)) *
           std::sqrt(seen(b2, t));
  });
  Var root = u.number("root", [length](double, int64_t t) { return length(t) > 5 ? 1.0 : 0.0; });
  Var add = u.number("eps", [length, e = eps](double, int64_t t) { return length(t) > 5 ? e : 1.0; });
  auto [m, v] = moments(u, *this, u.decayed_gradient());
  return u.p - rate * m / (sqrt(v) * root + add);
}

Var Adamax::update(Update& u) const {
  Var g = u.decayed_gradient(), m = running_mean(u, "exp_avg", beta1, g);
  Var largest = maximum(abs(g) + eps, beta2 * u.remembered("exp_inf"));
  u.remember("exp_inf", largest);
  Var rate = u.number("rate", [b = beta1](double lr, int64_t t) { return lr / seen(b, t); });
  return u.p - rate * m / largest;
}

Var Adagrad::update(Update& u) const {
  Var g = u.decayed_gradient(), sum = u.remembered("sum", initial_accumulator_value) + g * g;
  u.remember("sum", sum);
  Var rate = u.number("rate", [d = lr_decay](double lr, int64_t t) { return lr / (1 + double(t - 1) * d); });
  return u.p - rate * (g / (sqrt(sum) + eps));
}

Var RMSprop::update(Update& u) const {
  Var g = u.decayed_gradient(), v = running_mean(u, "square_avg", alpha, g * g);
  if (centered) {
    Var m = running_mean(u, "grad_avg", alpha, g);
    v = v - m * m;
  }
  Var change = g / (sqrt(v) + eps);
  if (momentum != 0) {
    change = momentum * u.remembered("momentum_buffer") + change;
    u.remember("momentum_buffer", change);
  }
  return u.p - u.lr() * change;
}

Var Adadelta::update(Update& u) const {
  Var g = u.decayed_gradient(), v = running_mean(u, "square_avg", rho, g * g), before = u.remembered("acc_delta");
  Var change = sqrt(before + eps) / sqrt(v + eps) * g;
  u.remember("acc_delta", rho * before + (1 - rho) * (change * change));
  return u.p - u.lr() * change;
}

Var SGD::update(Update& u) const {
  Var g = u.decayed_gradient();
  if (momentum == 0) return u.p - u.lr() * g;
  // The first step fills the buffer with g alone.
  Var keep = u.number("momentum", [m = momentum](double, int64_t t) { return t == 1 ? 0 : m; });
  Var gain = u.number("gain", [d = dampening](double, int64_t t) { return t == 1 ? 1 : 1 - d; });
  Var b = keep * u.remembered("momentum_buffer") + gain * g;
  u.remember("momentum_buffer", b);
  return u.p - u.lr() * (nesterov ? g + momentum * b : b);
}

Var Lion::update(Update& u) const {
  Var m = u.remembered("exp_avg"), g = u.g;
  u.remember("exp_avg", beta2 * m + (1 - beta2) * g);
  return u.shrunk_parameter() - u.lr() * sign(beta1 * m + (1 - beta1) * g);
}

// ---- groups and clipping ------------------------------------------------------------------------------------------

std::vector<ParameterGroup> no_decay_on_vectors(const Module& m) {
  std::vector<ParameterGroup> groups;
  for (Parameter* p : m.parameters())
    if (p->shape().rank() < 2) groups.push_back({.pattern = p->name(), .weight_decay = 0});
  return groups;
}

double gradient_norm(const Tensor& flat) {
  Graph g(Graph::Mode::immediate);
  return std::sqrt(sum_squares(g.constant(flat)).value().item());
}

double clip_factor(double norm, double max_norm) {
  double factor = max_norm / (norm + 1e-6);
  return max_norm <= 0 || factor >= 1 ? 1 : factor;
}

// ---- the optimiser ------------------------------------------------------------------------------------------------

Optimizer::Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups)
    : model_(model), config_(std::move(config)) {
  DType dtype = model.flat().dtype();
  if (dtype != f32 && dtype != f64)
    throw DTypeError("optimisers work on f32 and f64, got " + std::string(name_of(dtype)));
  int64_t at = 0, trained = 0;
  for (Parameter* p : model.parameters()) {
    Run r{at, at + p->shape().numel(), 1, config_.weight_decay};
    at = r.end;
    for (const ParameterGroup& g : groups)
      if (lrp::glob(g.pattern, p->name())) {
        r.lr_scale = g.lr_scale;
        r.weight_decay = g.weight_decay < 0 ? config_.weight_decay : g.weight_decay;
      }
    if (!p->trainable()) continue;
    trained += r.end - r.begin;
    bool joins = !runs_.empty() && runs_.back().end == r.begin && runs_.back().lr_scale == r.lr_scale &&
                 runs_.back().weight_decay == r.weight_decay;
    if (joins) runs_.back().end = r.end;
    else runs_.push_back(r);
  }
  Graph scratch;  // says what the rule remembers and which numbers it needs
  record(scratch, scratch.input("gradients", {trained}, dtype));
}

State Optimizer::window(const std::string& name, const Tensor& flat, int64_t begin, int64_t end) const {
  return State(fmt::format("{}[{}:{}]", name, begin, end), flat.slice(0, begin, end));
}

void Optimizer::record(Graph& g, Var gradients) {
  int64_t at = 0;
  for (const Run& r : runs_) {
    State p = window("parameters", model_.flat(), r.begin, r.end);
    Update u;
    u.p = g.state(p);
    u.g = slice(gradients, 0, at, at + r.end - r.begin);
    u.weight_decay = r.weight_decay;
    u.owner_ = this;
    u.begin_ = r.begin;
    u.end_ = r.end;
    u.lr_scale_ = r.lr_scale;
    at += r.end - r.begin;
    g.assign(p, config_.update(u));
  }
  if (at != gradients.numel())
    throw ShapeError(
        fmt::format("the model has {} trainable parameters, the gradients are {}", at, gradients.shape().str()));
}

void Optimizer::numbers(double factor, RunOptions& options) {
  for (auto& [name, n] : numbers_)
    options.scalars.emplace_back(name, n.value(config_.lr * factor * n.lr_scale, steps_ + 1));
}

void Optimizer::step(const Tensor& gradients, double factor, double gradient_scale) {
  DType dtype = model_.flat().dtype();
  if (!alone_) {
    alone_ = std::make_unique<Alone>();
    Graph& g = alone_->graph;
    int64_t n = 0;
    for (const Run& r : runs_) n += r.end - r.begin;
    Var x = g.input("gradients", {n}, dtype);
    record(g, x * g.scalar("gradient scale", dtype));
    alone_->plan = compile({x}, {.device = model_.flat().device()});
  }
  RunOptions options;
  options.scalars.emplace_back("gradient scale", gradient_scale);
  numbers(factor, options);
  alone_->plan.run({{"gradients", gradients}}, options);
  advance();
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> s = slots_;
  s["steps"] = Tensor::from<int64_t>({steps_});
  return s;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& state) {
  std::map<std::string, Tensor> given = state;
  // SGD's buffer was once written under the name of Adam's.
  if (slots_.contains("momentum_buffer") && given.contains("exp_avg"))
    given["momentum_buffer"] = given.extract("exp_avg").mapped();
  auto own = this->state();
  for (auto& [name, t] : own)
    if (!given.contains(name) || !(given.at(name).shape() == t.shape()))
      throw ValueError("optimiser state '" + name + "' is missing or does not fit " + t.shape().str());
  if (given.size() != own.size()) throw ValueError("the optimiser state belongs to another optimiser");
  steps_ = int64_t(given.at("steps").item());
  for (auto& [name, t] : slots_) t.copy_from(given.at(name));
}

// ---- moving averages ----------------------------------------------------------------------------------------------

Ema::Ema(Module& model, double decay) : model_(model), decay_(decay), shadow_(model.flat().contiguous_copy()) {}

void Ema::record(Graph& g) {
  // Each assigned piece of the parameters has its piece of the shadow; what nobody assigns stays as it is.
  const Tensor flat = model_.flat();
  const auto* first = static_cast<const std::byte*>(flat.raw());
  const std::vector<std::pair<ValueId, ValueId>> assigns(g.assigns().begin(), g.assigns().end());
  for (auto& [leaf, next] : assigns) {
    const Tensor& t = g.attrs(g.producer(leaf)).tensor("tensor");
    const auto* at = static_cast<const std::byte*>(t.raw());
    if (at < first || at >= first + flat.nbytes()) continue;
    const int64_t begin = (at - first) / int64_t(size_of(t.dtype()));
    State piece(fmt::format("ema[{}:{}]", begin, begin + t.numel()),
                shadow_.slice(0, begin, begin + t.numel()).reshaped(t.shape()));
    g.assign(piece, decay_ * g.state(piece) + (1 - decay_) * g.var(next));
  }
}

void Ema::swap() {
  Tensor flat = model_.flat(), kept = flat.contiguous_copy();
  flat.copy_from(shadow_);
  shadow_.copy_from(kept);
}

}  // namespace whence::nn
