// Learning rates over time.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace whence::nn {

/// A schedule gives the factor on the base learning rate at step 0, 1, 2, ... Those below throw ValueError for numbers
/// that make no sense: a size below 1, a negative total, warm-up, milestone, gamma or power, a fraction outside [0, 1],
/// a div that is not positive, and all that is not finite.
using Schedule = std::function<double(int64_t step)>;

Schedule constant_schedule();
/// 0 -> 1 over `warmup` steps ((s + 1) / warmup), then constant.
Schedule linear_warmup(int64_t warmup);
/// Warm-up, then half a cosine from 1 to `floor` at `total`.
Schedule cosine_schedule(int64_t total, int64_t warmup = 0, double floor = 0);
/// PyTorch's OneCycleLR as a factor on the peak: start 1/div up to 1 at pct_start, down to 1/(div * final_div).
Schedule one_cycle(int64_t total, double pct_start = 0.3, double div = 25, double final_div = 1e4, bool cosine = true);
/// gamma^s.
Schedule exponential_schedule(double gamma);
/// Times gamma after every `size` steps; or at each milestone.
Schedule step_schedule(int64_t size, double gamma = 0.1);
Schedule multistep_schedule(std::vector<int64_t> milestones, double gamma = 0.1);
/// (1 - s / total)^power, 0 from `total` on.
Schedule polynomial_schedule(int64_t total, double power = 1);

}  // namespace whence::nn
