#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

namespace whence::nn {
namespace {
constexpr double kPi = 3.14159265358979323846;
}

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
    auto between = [&](double a, double b, double t) {
      return cosine ? b + (a - b) / 2 * (1 + std::cos(kPi * t)) : a + (b - a) * t;
    };
    return x <= up ? between(1 / div, 1, up > 0 ? x / up : 1)
                   : between(1, 1 / (div * final_div), (x - up) / (down - up));
  };
}
Schedule exponential_schedule(double gamma) {
  return [=](int64_t s) { return std::pow(gamma, double(s)); };
}
Schedule step_schedule(int64_t size, double gamma) {
  return [=](int64_t s) { return std::pow(gamma, double(s / std::max<int64_t>(1, size))); };
}
Schedule multistep_schedule(std::vector<int64_t> milestones, double gamma) {
  std::sort(milestones.begin(), milestones.end());
  return [=](int64_t s) {
    return std::pow(gamma, double(std::upper_bound(milestones.begin(), milestones.end(), s) - milestones.begin()));
  };
}
Schedule polynomial_schedule(int64_t total, double power) {
  return [=](int64_t s) { return s < total ? std::pow(1 - double(s) / double(total), power) : 0.0; };
}

}  // namespace whence::nn
