// Learning rates over time.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
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

/// Times `factor` when a figure has not become better for more than `patience` observations, as PyTorch's
/// ReduceLROnPlateau (relative threshold). Give schedule() to the TrainStep and observe() after each epoch; state()
/// goes into a checkpoint.
struct PlateauOptions {
  double factor = 0.1;
  int64_t patience = 10;
  bool larger_is_better = false;
  double threshold = 1e-4;  ///< better is better by this share
  double floor = 0;         ///< of the factor on the base learning rate
};
class ReduceOnPlateau {
 public:
  /// \throws ValueError for numbers that make no sense
  explicit ReduceOnPlateau(PlateauOptions options = {});
  void observe(double figure);
  double scale() const { return state_->scale; }
  /// `inner` times what observe() has made of it; follows this object and its copies.
  Schedule schedule(Schedule inner = constant_schedule()) const;
  std::vector<double> state() const { return {state_->scale, state_->best, state_->waited}; }
  void load_state(const std::vector<double>& state);  ///< \throws ValueError for another one's

 private:
  struct State {
    double scale = 1, best = 0, waited = -1;  // waited < 0: nothing has been seen
  };
  PlateauOptions options_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace whence::nn
