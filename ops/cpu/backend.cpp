// The CPU as a backend: kernels of the registry, scalar loops for elementwise ops, fused groups tile by tile.
#include "whence/autograd/plan/backend.h"

#include <atomic>
#include <chrono>

#include "whence/autograd/plan/passes.h"
#include "whence/ops/cpu/elementwise.h"
#include "whence/ops/cpu/step_runner.h"
#include "whence/ops/cpu/tile.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

using namespace planner;

double microseconds() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

// Two lanes at most: each has half the cores.
class CpuExecutable : public Executable {
 public:
  explicit CpuExecutable(std::shared_ptr<const Program> program) : p_(program), runner_(std::move(program)) {}

  void run(const RunCall& call) override {
    zero_ = call.times ? microseconds() : 0;
    const Id n = Id(p_->steps.size());
    if (p_->lanes == 1) {
      for (Id i = 0; i < n; ++i) run_step(i, call);
      return;
    }
    for (auto& done : done_) done.store(0, std::memory_order_relaxed);
    second_taken_ = false;
    run_together(2, [&](int64_t lane) { run_lane(uint8_t(lane), call); });
  }

 private:
  // Lane 0 has begun when lane 1 does. Where lane 0 would wait for a lane 1 that no thread has begun, it takes that
  // lane over: the steps of both in the program's order need no waiting.
  void run_lane(uint8_t lane, const RunCall& call) {
    if (lane == 1 && second_taken_.exchange(true)) return;
    for (Id i = 0; i < p_->steps.size(); ++i) {
      const Step& s = p_->steps[i];
      if (s.lane != lane) continue;
      if (lane == 0 && s.n_waits && !second_taken_.exchange(true)) {
        for (Id k = 0; k < p_->steps.size(); ++k)
          if (k >= i || p_->steps[k].lane == 1) run_step(k, call);
        return;
      }
      for (Id w = s.waits; w < s.waits + s.n_waits; ++w) wait_for(1 - lane, p_->waits[w]);
      run_step(i, call);
      done_[lane].store(i + 1, std::memory_order_release);
      done_[lane].notify_one();
    }
  }

  // Spins for a moment, then sleeps.
  void wait_for(int lane, Id step) {
    for (int spin = 0; spin < 2000; ++spin)
      if (done_[lane].load(std::memory_order_acquire) > step) return;
    for (Id now; (now = done_[lane].load(std::memory_order_acquire)) <= step;) done_[lane].wait(now);
  }

  void run_step(Id at, const RunCall& call) {
    if (!call.times) return runner_.run(at, call.base, *call.status);
    double start = microseconds();
    runner_.run(at, call.base, *call.status);
    double took = microseconds() - start;
    StepTime& t = (*call.times)[at];
    t = {start - zero_, took, t.total + took, p_->steps[at].lane};
  }

  std::shared_ptr<const Program> p_;
  StepRunner runner_;
  std::atomic<Id> done_[2];  // by lane: one more than its latest step
  std::atomic<bool> second_taken_;
  double zero_ = 0;
};

class CpuBackend : public Backend {
 public:
  const Kernel* native(const OpDef& op, std::span<const TensorType> in,
                       std::span<const TensorType> out) const override {
    const Kernel* kernel = kernel_of(op, Device::Kind::cpu);
    if (!op.cpu && op.elementwise() && !has_loop(op, in, out[0])) return nullptr;
    return kernel;
  }

  bool fusable(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in,
               const TensorType& out) const override {
    if (int64_t row = row_length(op, attrs, in, out); row > 0 && row <= kMaxTile)
      return bool(find_loop(op.scalar, in[0].dtype, out.dtype));
    return op.elementwise() && has_loop(op, in, out);
  }

  int lanes() const override { return num_threads() > 1 ? 2 : 1; }
  // A short step gains nothing from a second core.
  double cost(double work, int lanes) const override { return work < kSplits ? work : work * lanes / num_threads(); }
  double crossing() const override { return kCrossing; }
  bool fixed_slots() const override { return false; }
  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) override {
    return std::make_unique<CpuExecutable>(std::move(program));
  }

 private:
  static constexpr double kSplits = 30, kCrossing = 3;  // us

  static bool has_loop(const OpDef& op, std::span<const TensorType> in, const TensorType& out) {
    if (int(in.size()) != op.scalar.arity()) return false;
    if (op.scalar.domain == ScalarRow::any) return bool(find_loop(op.scalar, in[0].dtype, out.dtype));
    for (const TensorType& t : in)
      if (t.dtype != in[0].dtype) return false;
    // Halves are cast to f32 before the loop sees them.
    return bool(find_loop(op.scalar, accumulate_dtype(in[0].dtype), accumulate_dtype(out.dtype)));
  }
};

[[maybe_unused]] const bool registered = [] {
  static CpuBackend backend;
  return register_backend(Device::Kind::cpu, backend);
}();

}  // namespace
}  // namespace whence::cpu
