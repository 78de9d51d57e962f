// One step of a program on host memory, by the CPU's kernels and tiles. What executes steps in which order:
// backend.cpp.
#pragma once
#include <memory>
#include <vector>

#include "whence/autograd/plan/program.h"
#include "whence/ops/cpu/tile.h"

namespace whence::cpu {

class StepRunner {
 public:
  explicit StepRunner(std::shared_ptr<const planner::Program> program);
  /// Steps that do not touch each other's values may run at the same time.
  void run(planner::Id step, std::byte* const* base, Status& status);

 private:
  std::shared_ptr<const planner::Program> p_;
  std::vector<View> views_;  // with the addresses of the last run
  std::vector<TileProgram> tiles_;
  std::vector<std::shared_ptr<const void>> prepared_;  // by step
};

}  // namespace whence::cpu
