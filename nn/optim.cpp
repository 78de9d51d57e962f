#include "nn/optim.h"

#include <cmath>

#include "ops/cpu/parallel.h"
#include "ops/cpu/reduce.h"

namespace whence::nn {
namespace {

constexpr double kPi = 3.14159265358979323846;

template <class F> void typed(const Tensor& t, F&& f) {
  if (t.dtype() == f32) f(float{});
  else if (t.dtype() == f64) f(double{});
  else throw DTypeError("optimisers work on f32 and f64, got " + std::string(name_of(t.dtype())));
}

}  // namespace

std::vector<ParameterGroup> no_decay_on_vectors(const Module& m) {
  std::vector<ParameterGroup> groups;
  for (Parameter* p : m.parameters())
    if (p->shape().rank() < 2) groups.push_back({.pattern = p->name(), .weight_decay = 0});
  return groups;
}

double clip_by_norm(const Tensor& flat, double max_norm) {
  double norm = 0;
  typed(flat, [&](auto zero) {
    using T = decltype(zero);
    T* g = flat.data<T>();
    int64_t n = flat.numel();
    norm = std::sqrt(cpu::sum_squares(g, n));
    double scale = max_norm / (norm + 1e-6);
    if (max_norm <= 0 || scale >= 1) return;
    cpu::parallel_for(n, cpu::kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) g[i] *= T(scale);
    });
  });
  return norm;
}

Optimizer::Optimizer(Module& model, OptimizerConfig config, std::vector<ParameterGroup> groups) : model_(model), config_(config) {
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
    bool joins = !runs_.empty() && runs_.back().end == r.begin && runs_.back().lr_scale == r.lr_scale && runs_.back().weight_decay == r.weight_decay;
    if (joins) runs_.back().end = r.end;
    else runs_.push_back(r);
  }
  Tensor flat = model.flat();
  bool adam = std::holds_alternative<AdamW>(config_) || std::holds_alternative<Adam>(config_);
  const SGD* sgd = std::get_if<SGD>(&config_);
  if (!sgd || sgd->momentum != 0) m_ = Tensor::zeros(flat.shape(), flat.dtype());
  if (adam) v_ = Tensor::zeros(flat.shape(), flat.dtype());
}

double Optimizer::base_lr() const {
  return std::visit([](auto& c) { return c.lr; }, config_);
}

void Optimizer::step(const Tensor& gradients, double factor) {
  Tensor flat = model_.flat();
  if (!(gradients.shape() == flat.shape()) || gradients.dtype() != flat.dtype())
    throw ShapeError("gradients are " + gradients.shape().str() + " " + std::string(name_of(gradients.dtype())) + ", the parameters " + flat.shape().str() + " " + std::string(name_of(flat.dtype())));
  ++steps_;
  typed(flat, [&](auto zero) {
    using T = decltype(zero);
    T *p = flat.data<T>(), *m = m_.defined() ? m_.data<T>() : nullptr, *v = v_.defined() ? v_.data<T>() : nullptr;
    const T* g = gradients.data<T>();
    for (const Run& r : runs_) {
      double lr = base_lr() * factor * r.lr_scale, wd = r.weight_decay;
      auto each = [&](auto&& update) {
        cpu::parallel_for(r.end - r.begin, cpu::kGrain, [&](int64_t b, int64_t e) {
          for (int64_t i = r.begin + b; i < r.begin + e; ++i) update(i);
        });
      };
      auto adam = [&](auto& c, bool decoupled) {
        T b1 = T(c.beta1), b2 = T(c.beta2), c1 = T(1 - c.beta1), c2 = T(1 - c.beta2), eps = T(c.eps);
        T step_size = T(lr / (1 - std::pow(c.beta1, double(steps_))));
        T root = T(std::sqrt(1 - std::pow(c.beta2, double(steps_))));
        T keep = decoupled ? T(1 - lr * wd) : T(1), l2 = decoupled ? T(0) : T(wd);
        each([=](int64_t i) {
          T gi = g[i] + l2 * p[i];
          m[i] = b1 * m[i] + c1 * gi;
          v[i] = b2 * v[i] + c2 * gi * gi;
          p[i] = p[i] * keep - step_size * m[i] / (std::sqrt(v[i]) / root + eps);
        });
      };
      if (auto* c = std::get_if<AdamW>(&config_)) adam(*c, true);
      if (auto* c = std::get_if<Adam>(&config_)) adam(*c, false);
      if (auto* c = std::get_if<SGD>(&config_)) {
        T rate = T(lr), l2 = T(wd), mu = T(c->momentum), damp = steps_ == 1 ? T(1) : T(1 - c->dampening);
        bool nesterov = c->nesterov;
        each([=](int64_t i) {
          T gi = g[i] + l2 * p[i];
          if (m) {
            m[i] = mu * m[i] + damp * gi;
            gi = nesterov ? gi + mu * m[i] : m[i];
          }
          p[i] -= rate * gi;
        });
      }
      if (auto* c = std::get_if<Lion>(&config_)) {
        T rate = T(lr), keep = T(1 - lr * wd), b1 = T(c->beta1), b2 = T(c->beta2);
        each([=](int64_t i) {
          T u = b1 * m[i] + (1 - b1) * g[i];
          p[i] = p[i] * keep - rate * T((u > 0) - (u < 0));
          m[i] = b2 * m[i] + (1 - b2) * g[i];
        });
      }
    }
  });
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> s{{"steps", Tensor::from<int64_t>({steps_})}};
  if (m_.defined()) s["exp_avg"] = m_;
  if (v_.defined()) s["exp_avg_sq"] = v_;
  return s;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& state) {
  auto own = this->state();
  for (auto& [name, t] : own)
    if (!state.contains(name) || !(state.at(name).shape() == t.shape()))
      throw ValueError("optimiser state '" + name + "' is missing or does not fit " + t.shape().str());
  if (state.size() != own.size()) throw ValueError("the optimiser state belongs to another optimiser");
  steps_ = state.at("steps").data<int64_t>()[0];
  if (m_.defined()) m_.copy_from(state.at("exp_avg"));
  if (v_.defined()) v_.copy_from(state.at("exp_avg_sq"));
}

// ---- schedules --------------------------------------------------------------------------------------------------

Schedule constant_schedule() {
  return [](int64_t) { return 1.0; };
}
Schedule linear_warmup(int64_t warmup) {
  return [=](int64_t s) { return s < warmup ? double(s + 1) / double(warmup) : 1.0; };
}
Schedule cosine_schedule(int64_t total, int64_t warmup, double floor) {
  return [=](int64_t s) {
    if (s < warmup) return double(s + 1) / double(warmup);
    double t = std::min(1.0, double(s - warmup) / double(std::max<int64_t>(1, total - warmup)));
    return floor + (1 - floor) * 0.5 * (1 + std::cos(kPi * t));
  };
}
Schedule one_cycle(int64_t total, double pct_start, double div, double final_div, bool cosine) {
  return [=](int64_t s) {
    double up = pct_start * double(total) - 1, down = double(total) - 1, x = double(std::min(s, total - 1));
    auto between = [&](double a, double b, double t) { return cosine ? b + (a - b) / 2 * (1 + std::cos(kPi * t)) : a + (b - a) * t; };
    return x <= up ? between(1 / div, 1, up > 0 ? x / up : 1) : between(1, 1 / (div * final_div), (x - up) / (down - up));
  };
}

// ---- EMA --------------------------------------------------------------------------------------------------------

Ema::Ema(Module& model, double decay) : model_(model), decay_(decay), shadow_(model.flat().contiguous_copy()) {}

void Ema::update() {
  Tensor flat = model_.flat();
  typed(flat, [&](auto zero) {
    using T = decltype(zero);
    T* s = shadow_.data<T>();
    const T* p = flat.data<T>();
    T d = T(decay_), c = T(1 - decay_);
    cpu::parallel_for(flat.numel(), cpu::kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) s[i] = d * s[i] + c * p[i];
    });
  });
}

void Ema::swap() {
  Tensor flat = model_.flat(), kept = flat.contiguous_copy();
  flat.copy_from(shadow_);
  shadow_.copy_from(kept);
}

}  // namespace whence::nn
