#include "whence/nn/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "whence/tensor/error.h"

namespace whence::nn {
namespace {
constexpr double kPi = 3.14159265358979323846;

void require(bool holds, const char* schedule, const char* name, double x, const char* range) {
  if (!holds) throw ValueError(fmt::format("{}: {} must be {}, got {}", schedule, name, range, x));
}
void at_least(int64_t least, const char* schedule, const char* name, int64_t x) {
  if (x < least) throw ValueError(fmt::format("{}: {} must be at least {}, got {}", schedule, name, least, x));
}
void not_negative(const char* schedule, const char* name, double x) {
  require(x >= 0 && std::isfinite(x), schedule, name, x, "finite and not negative");
}
void positive(const char* schedule, const char* name, double x) {
  require(x > 0 && std::isfinite(x), schedule, name, x, "finite and positive");
}
void fraction(const char* schedule, const char* name, double x) {
  require(x >= 0 && x <= 1, schedule, name, x, "in [0, 1]");
}

}  // namespace

Schedule constant_schedule() {
  return [](int64_t) { return 1.0; };
}
Schedule linear_warmup(int64_t warmup) {
  at_least(0, "linear_warmup", "warmup", warmup);
  return [=](int64_t s) { return s < warmup ? double(s + 1) / double(warmup) : 1.0; };
}
Schedule cosine_schedule(int64_t total, int64_t warmup, double floor) {
  at_least(0, "cosine_schedule", "total", total);
  at_least(0, "cosine_schedule", "warmup", warmup);
  fraction("cosine_schedule", "floor", floor);
  return [=](int64_t s) {
    if (s < warmup) return double(s + 1) / double(warmup);
    double t = std::min(1.0, double(s - warmup) / double(std::max<int64_t>(1, total - warmup)));
    return floor + (1 - floor) * 0.5 * (1 + std::cos(kPi * t));
  };
}
Schedule one_cycle(int64_t total, double pct_start, double div, double final_div, bool cosine) {
  at_least(0, "one_cycle", "total", total);
  fraction("one_cycle", "pct_start", pct_start);
  positive("one_cycle", "div", div);
  positive("one_cycle", "final_div", final_div);
  return [=](int64_t s) {
    double up = pct_start * double(total) - 1, down = double(total) - 1, x = double(std::min(s, total - 1));
    auto between = [&](double a, double b, double t) {
      return cosine ? b + (a - b) / 2 * (1 + std::cos(kPi * t)) : a + (b - a) * t;
    };
    return x <= up ? between(1 / div, 1, up > 0 ? x / up : 1)
                   : between(1, 1 / (div * final_div), (x - up) / (down - up));
  };
}
Schedule exponential_schedule(double gamma) {
  not_negative("exponential_schedule", "gamma", gamma);
  return [=](int64_t s) { return std::pow(gamma, double(s)); };
}
Schedule step_schedule(int64_t size, double gamma) {
  at_least(1, "step_schedule", "size", size);
  not_negative("step_schedule", "gamma", gamma);
  return [=](int64_t s) { return std::pow(gamma, double(s / size)); };
}
Schedule multistep_schedule(std::vector<int64_t> milestones, double gamma) {
  for (int64_t m : milestones) at_least(0, "multistep_schedule", "a milestone", m);
  not_negative("multistep_schedule", "gamma", gamma);
  std::sort(milestones.begin(), milestones.end());
  return [=](int64_t s) {
    return std::pow(gamma, double(std::upper_bound(milestones.begin(), milestones.end(), s) - milestones.begin()));
  };
}
Schedule polynomial_schedule(int64_t total, double power) {
  at_least(0, "polynomial_schedule", "total", total);
  not_negative("polynomial_schedule", "power", power);
  return [=](int64_t s) { return s < total ? std::pow(1 - double(s) / double(total), power) : 0.0; };
}

ReduceOnPlateau::ReduceOnPlateau(PlateauOptions options) : options_(options) {
  not_negative("ReduceOnPlateau", "factor", options.factor);
  not_negative("ReduceOnPlateau", "threshold", options.threshold);
  not_negative("ReduceOnPlateau", "floor", options.floor);
  at_least(0, "ReduceOnPlateau", "patience", options.patience);
  if (options.factor >= 1) throw ValueError("ReduceOnPlateau: a factor of 1 or more does not reduce");
}

void ReduceOnPlateau::observe(double figure) {
  State& s = *state_;
  const double edge = options_.threshold * std::fabs(s.best);
  const bool better = s.waited < 0 || (options_.larger_is_better ? figure > s.best + edge : figure < s.best - edge);
  if (better) {
    s.best = figure;
    s.waited = 0;
  } else if (++s.waited > double(options_.patience)) {
    s.scale = std::max(options_.floor, s.scale * options_.factor);
    s.waited = 0;
  }
}

Schedule ReduceOnPlateau::schedule(Schedule inner) const {
  return [inner = std::move(inner), state = state_](int64_t s) { return inner(s) * state->scale; };
}

void ReduceOnPlateau::load_state(const std::vector<double>& state) {
  if (state.size() != 3)
    throw ValueError("ReduceOnPlateau: its state has three numbers, got " + std::to_string(state.size()));
  *state_ = {state[0], state[1], state[2]};
}

}  // namespace whence::nn
