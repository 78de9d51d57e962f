#include "whence/nn/optim.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "whence/ops/ops.h"

namespace whence::nn {

// ---- what a rule sees ---------------------------------------------------------------------------------------------

Var Update::decayed_gradient() const { return weight_decay == 0 ? g : g + weight_decay * p; }

Var Update::shrunk_parameter() {
  if (weight_decay == 0) return p;
  double decay = weight_decay;
  return p * number(fmt::format("keep {}", decay), [decay](double lr, int64_t) { return 1 - lr * decay; });
}

Var Update::number(const std::string& name, std::function<double(double lr, int64_t t)> f) {
  std::string full = "optimizer." + name;
  if (lr_scale_ != 1) full += fmt::format(" x {}", lr_scale_);
  if (behind_ != 0) full += fmt::format(", {} behind", behind_);
  auto [at, fresh] = owner_->numbers_.try_emplace(full);
  if (fresh) at->second = {full, lr_scale_, behind_, std::move(f)};
  return p.graph().scalar(full, p.dtype());
}

State Update::place(const std::string& name, double initial) {
  Tensor flat = owner_->model_.flat();
  Tensor& slot = owner_->slots_[name];
  if (!slot.defined()) slot = Tensor::full(flat.shape(), initial, flat.dtype()).to(flat.device());
  return owner_->window(name, slot, begin_, end_);
}

Var Update::remembered(const std::string& name, double initial) { return p.graph().state(place(name, initial)); }

void Update::remember(const std::string& name, Var next) { p.graph().assign(place(name, 0), next); }

// ---- the rules ----------------------------------------------------------------------------------------------------

namespace {

// One hyperparameter after the other; NaN lies in no range.
struct Check {
  const char* rule;
  const Check& require(bool holds, const char* name, double x, const char* range) const {
    if (!holds) throw ValueError(fmt::format("{}: {} must be {}, got {}", rule, name, range, x));
    return *this;
  }
  const Check& decay(const char* name, double x) const {
    return require(x >= 0 && std::isfinite(x), name, x, "finite and not negative");
  }
  // Without it a gradient of zero divides by zero.
  const Check& eps(double x) const { return require(x > 0 && std::isfinite(x), "eps", x, "finite and positive"); }
  const Check& below_one(const char* name, double x) const { return require(x >= 0 && x < 1, name, x, "in [0, 1)"); }
  const Check& fraction(const char* name, double x) const { return require(x >= 0 && x <= 1, name, x, "in [0, 1]"); }
};

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

void AdamW::check() const { Check{"AdamW"}.below_one("beta1", beta1).below_one("beta2", beta2).eps(eps); }
void Adam::check() const { Check{"Adam"}.below_one("beta1", beta1).below_one("beta2", beta2).eps(eps); }
void NAdam::check() const {
  Check{"NAdam"}.below_one("beta1", beta1).below_one("beta2", beta2).eps(eps).decay("momentum_decay", momentum_decay);
}
void RAdam::check() const { Check{"RAdam"}.below_one("beta1", beta1).below_one("beta2", beta2).eps(eps); }
void Adamax::check() const { Check{"Adamax"}.below_one("beta1", beta1).below_one("beta2", beta2).eps(eps); }
void Adagrad::check() const {
  Check{"Adagrad"}.decay("lr_decay", lr_decay).decay("initial_accumulator_value", initial_accumulator_value).eps(eps);
}
void Adadelta::check() const { Check{"Adadelta"}.fraction("rho", rho).eps(eps); }
void RMSprop::check() const { Check{"RMSprop"}.below_one("alpha", alpha).fraction("momentum", momentum).eps(eps); }
void SGD::check() const {
  Check{"SGD"}.fraction("momentum", momentum).fraction("dampening", dampening);
  if (nesterov && momentum == 0) throw ValueError("SGD: nesterov looks ahead along the momentum, which is 0");
}
void Lion::check() const { Check{"Lion"}.below_one("beta1", beta1).below_one("beta2", beta2); }

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
  if (!(max_norm >= 0)) throw ValueError(fmt::format("a norm cannot be clipped to {}", max_norm));
  double factor = max_norm / (norm + 1e-6);
  return max_norm == 0 || factor >= 1 ? 1 : factor;
}

// ---- the optimiser ------------------------------------------------------------------------------------------------

Optimizer::Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups)
    : model_(model), config_(std::move(config)) {
  Check{"optimiser"}.decay("lr", config_.lr).decay("weight_decay", config_.weight_decay);
  if (config_.check) config_.check();
  DType dtype = model.flat().dtype();
  if (dtype != f32 && dtype != f64)
    throw DTypeError("optimisers work on f32 and f64, got " + std::string(name_of(dtype)));
  home_ = model.flat().raw();
  std::vector<bool> matched(groups.size());
  int64_t at = 0;
  for (const Parameter* p : model.states()) {
    Place place{p, at, at + p->shape().numel(), 1, config_.weight_decay, p->trainable()};
    at = place.end;
    for (size_t i = 0; i < groups.size(); ++i) {
      const ParameterGroup& g = groups[i];
      if (p->is_buffer() || !lrp::glob(g.pattern, p->name())) continue;
      matched[i] = true;
      place.lr_scale = g.lr_scale;
      place.weight_decay = g.weight_decay < 0 ? config_.weight_decay : g.weight_decay;
    }
    places_.push_back(place);
  }
  for (size_t i = 0; i < groups.size(); ++i) {
    Check{"ParameterGroup"}
        .decay("lr_scale", groups[i].lr_scale)
        .require(std::isfinite(groups[i].weight_decay), "weight_decay", groups[i].weight_decay, "finite");
    if (!matched[i]) throw ValueError("ParameterGroup '" + groups[i].pattern + "' matches no parameter of the model");
  }
  runs_ = runs(true);
  Graph scratch;  // says what the rule remembers, of frozen parameters too
  record(scratch, scratch.input("gradients", {at}, dtype));
  arrange();
}

std::vector<Optimizer::Run> Optimizer::runs(bool all) const {
  std::vector<Run> out;
  for (const Place& p : places_) {
    if ((!p.trained && !all) || p.begin == p.end) continue;
    Run r{p.begin, p.end, p.lr_scale, p.weight_decay, steps_ - p.updates(steps_)};
    const bool joins =
        !out.empty() && out.back() == Run{out.back().begin, r.begin, r.lr_scale, r.weight_decay, r.behind};
    if (joins) out.back().end = r.end;
    else out.push_back(r);
  }
  return out;
}

void Optimizer::arrange() {
  std::vector<Run> now = runs(false);
  if (now == runs_) return;
  runs_ = std::move(now);
  numbers_.clear();
  alone_.reset();
  ++version_;
}

int64_t Optimizer::follow() {
  if (model_.flat().raw() != home_)
    throw ValueError("the model has moved since its optimiser was made: call Module::to before");
  bool changed = false;
  for (Place& p : places_) {
    if (p.trained == p.parameter->trainable()) continue;
    p.mark = p.updates(steps_);
    p.trained = !p.trained;
    if (p.trained) p.mark = steps_ - p.mark;
    changed = true;
  }
  if (changed) arrange();
  return version_;
}

State Optimizer::window(const std::string& name, const Tensor& flat, int64_t begin, int64_t end) const {
  return State(fmt::format("{}[{}:{}]", name, begin, end), flat.slice(0, begin, end));
}

void Optimizer::record(Graph& g, Var gradients) {
  follow();
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
    u.behind_ = r.behind;
    at += r.end - r.begin;
    g.assign(p, config_.update(u));
  }
  if (at != gradients.numel())
    throw ShapeError(
        fmt::format("the model has {} trainable parameters, the gradients are {}", at, gradients.shape().str()));
}

void Optimizer::numbers(double factor, RunOptions& options) {
  if (!(factor >= 0) || !std::isfinite(factor))
    throw ValueError(fmt::format("the learning rate of step {} cannot be {} times {}: check the schedule", steps_,
                                 config_.lr, factor));
  for (const Place& p : places_)
    if (p.trained != p.parameter->trainable())
      throw ValueError("'" + p.parameter->name() + "' is " + (p.trained ? "frozen" : "trainable") +
                       " now, but was not when the update was recorded: record it again");
  for (auto& [name, n] : numbers_) {
    const double x = n.value(config_.lr * factor * n.lr_scale, steps_ + 1 - n.behind);
    if (!std::isfinite(x)) throw ValueError(fmt::format("{} is {} at step {}", name, x, steps_));
    options.scalars.emplace_back(name, x);
  }
}

void Optimizer::step(const Tensor& gradients, double factor, double gradient_scale) {
  follow();
  DType dtype = model_.flat().dtype();
  if (!alone_) {
    auto alone = std::make_unique<Alone>();
    Graph& g = alone->graph;
    int64_t n = 0;
    for (const Run& r : runs_) n += r.end - r.begin;
    Var x = g.input("gradients", {n}, dtype) * g.scalar("gradient scale", dtype), norm = sqrt(sum_squares(x));
    record(g, x);
    g.guard_assigns(all_sound({norm}));
    alone->plan = compile({norm}, {.device = model_.flat().device()});
    alone_ = std::move(alone);
  }
  RunOptions options;
  options.scalars.emplace_back("gradient scale", gradient_scale);
  numbers(factor, options);
  alone_->plan.run({{"gradients", gradients}}, options, alone_->norm);
  if (double norm = alone_->norm[0].item(); !std::isfinite(norm))
    throw NumericError(fmt::format("the norm of the gradient is {} at step {}: nothing is updated",
                                   std::isnan(norm) ? "NaN" : "infinite", steps_));
  advance();
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> s = slots_;
  s["steps"] = Tensor::from<int64_t>({steps_});
  std::vector<int64_t> updates;
  for (const Place& p : places_) updates.push_back(p.updates(steps_));
  if (std::any_of(updates.begin(), updates.end(), [&](int64_t n) { return n != steps_; }))
    s["updates"] = Tensor::from(updates);
  return s;
}

int64_t count_in(const std::string& name, const Tensor& t, int64_t at) {
  const double x = t.item(at);
  if (!(x >= 0 && x < 0x1p53 && x == std::floor(x)))
    throw ValueError(fmt::format("'{}' of the state is {}, which is no count", name, x));
  return int64_t(x);
}

static bool has_nan(const Tensor& flat) {
  constexpr int64_t kPiece = 1 << 16;
  for (int64_t at = 0; at < flat.numel(); at += kPiece)
    for (double x : flat.slice(0, at, at + kPiece).to_vector<double>())
      if (std::isnan(x)) return true;
  return false;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& state) {
  std::map<std::string, Tensor> given = state;
  // SGD's buffer was once written under the name of Adam's.
  if (slots_.contains("momentum_buffer") && given.contains("exp_avg"))
    given["momentum_buffer"] = given.extract("exp_avg").mapped();
  std::map<std::string, Shape> wanted{{"steps", {1}}};
  for (auto& [name, t] : slots_) wanted[name] = t.shape();
  if (given.contains("updates")) wanted["updates"] = {int64_t(places_.size())};
  for (auto& [name, shape] : wanted)
    if (!given.contains(name) || !given.at(name).defined() || !(given.at(name).shape() == shape))
      throw ValueError("optimiser state '" + name + "' is missing or does not fit " + shape.str());
  if (given.size() != wanted.size()) throw ValueError("the optimiser state belongs to another optimiser");
  for (auto& [name, slot] : slots_)
    if (has_nan(given.at(name))) throw ValueError("optimiser state '" + name + "' holds NaN");
  const int64_t steps = count_in("steps", given.at("steps"), 0);
  std::vector<int64_t> updates(places_.size(), steps);
  for (size_t i = 0; i < updates.size() && given.contains("updates"); ++i) {
    updates[i] = count_in("updates", given.at("updates"), int64_t(i));
    if (updates[i] > steps)
      throw ValueError(fmt::format("the optimiser state has {} updates of '{}' in {} steps", updates[i],
                                   places_[i].parameter->name(), steps));
  }
  steps_ = steps;
  for (size_t i = 0; i < updates.size(); ++i) places_[i].mark = places_[i].trained ? steps - updates[i] : updates[i];
  for (auto& [name, t] : slots_) t.copy_from(given.at(name));
  arrange();
}

// ---- moving averages ----------------------------------------------------------------------------------------------

Ema::Ema(Module& model, double decay) : model_(model), decay_(decay), shadow_(model.flat().contiguous_copy()) {
  Check{"moving average"}.below_one("the decay", decay);
}

void Ema::record(Graph& g) {
  // Each assigned piece of the parameters has its piece of the shadow.
  const Tensor flat = model_.flat();
  const auto* first = static_cast<const std::byte*>(flat.raw());
  auto piece = [&](int64_t begin, int64_t end, const Shape& shape) {
    return State(fmt::format("ema[{}:{}]", begin, end), shadow_.slice(0, begin, end).reshaped(shape));
  };
  std::vector<std::pair<int64_t, int64_t>> moved;
  const std::vector<std::pair<ValueId, ValueId>> assigns(g.assigns().begin(), g.assigns().end());
  for (auto& [leaf, next] : assigns) {
    const Tensor& t = g.attrs(g.producer(leaf)).tensor("tensor");
    const auto* at = static_cast<const std::byte*>(t.raw());
    if (at < first || at >= first + flat.nbytes()) continue;
    const int64_t begin = (at - first) / int64_t(size_of(t.dtype())), end = begin + t.numel();
    State shadow = piece(begin, end, t.shape());
    g.assign(shadow, decay_ * g.state(shadow) + (1 - decay_) * g.var(next));
    moved.emplace_back(begin, end);
  }
  // The shadow of what stands still goes on towards it, and is not touched by rounding once it is there.
  int64_t at = 0;
  for (const Parameter* p : model_.states()) {
    const int64_t begin = at, end = at += p->shape().numel();
    auto touches = [&](auto& m) { return m.first < end && begin < m.second; };
    if (begin == end || std::any_of(moved.begin(), moved.end(), touches)) continue;
    State shadow = piece(begin, end, p->shape());
    Var before = g.state(shadow);
    g.assign(shadow, before + (1 - decay_) * (p->in(g)-before));
  }
}

void Ema::swap() {
  Tensor flat = model_.flat(), kept = flat.contiguous_copy();
  flat.copy_from(shadow_);
  shadow_.copy_from(kept);
}

}  // namespace whence::nn
