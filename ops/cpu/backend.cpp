// The CPU as a backend: kernels of the registry, scalar loops for elementwise ops, fused groups tile by tile.
#include "autograd/plan/backend.h"

#include <chrono>

#include "autograd/plan/passes.h"
#include "ops/cpu/elementwise.h"
#include "ops/cpu/fork.h"
#include "ops/cpu/stabilise.h"
#include "ops/cpu/tile.h"

namespace whence::cpu {
namespace {

using namespace planner;

double microseconds() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

class CpuExecutable : public Executable {
 public:
  explicit CpuExecutable(std::shared_ptr<const Program> program) : p_(std::move(program)), views_(p_->views) {
    for (const FusedGroup& g : p_->groups) tiles_.push_back(make_tile(g));
    prepared_.resize(p_->steps.size());
    for (size_t i = 0; i < p_->steps.size(); ++i) prepare(p_->steps[i], prepared_[i]);
  }

  void run(const RunCall& call) override {
    const Fork& fork = p_->fork;
    const double zero = call.times ? microseconds() : 0;
    Status second;
    auto steps = [&](Id begin, Id end, int thread) {
      for (Id i = begin; i < end; ++i) {
        double start = call.times ? microseconds() : 0;
        run_step(i, call.base, thread ? second : *call.status);
        if (!call.times) continue;
        double took = microseconds() - start;
        StepTime& t = (*call.times)[i];
        t = {start - zero, took, t.total + took, thread};
      }
    };
    if (!fork.exists()) return steps(0, Id(p_->steps.size()), 0);
    steps(0, fork.begin, 0);
    run_forked([&] { steps(fork.begin, fork.middle, 0); }, [&] { steps(fork.middle, fork.end, 1); });
    steps(fork.end, Id(p_->steps.size()), 0);
    if (call.status->code == Status::fine) *call.status = second;
  }

 private:
  void prepare(const Step& s, std::shared_ptr<const void>& to) {
    if (!s.kernel || !s.kernel->prepare) return;
    std::vector<TensorType> types;
    for (Id k = 0; k < s.n_in + s.n_out; ++k) types.push_back({views_[s.views + k].shape, views_[s.views + k].dtype});
    to = s.kernel->prepare(*s.op, {types.data(), s.n_in}, {types.data() + s.n_in, s.n_out}, *s.attrs);
  }

  void run_step(Id at, std::byte* const* base, Status& status) {
    const Step& s = p_->steps[at];
    if (s.group != kNone) return tiles_[s.group].run(base);
    if (!s.kernel) return;
    View* v = views_.data() + s.views;
    const Ref* r = p_->view_refs.data() + s.views;
    for (Id k = 0; k < s.n_in + s.n_out; ++k) v[k].data = base[r[k].base] + r[k].offset;
    const bool before = status.code != Status::fine;
    s.kernel->run({.op = *s.op,
                   .in = {v, s.n_in},
                   .out = {v + s.n_in, s.n_out},
                   .attrs = *s.attrs,
                   .workspace = s.workspace < 0 ? nullptr : base[0] + s.workspace,
                   .prepared = prepared_[at].get(),
                   .status = &status});
    if (!before && status.code != Status::fine) status.step = at;
  }

  std::shared_ptr<const Program> p_;
  std::vector<View> views_;  // with the addresses of the last run
  std::vector<TileProgram> tiles_;
  std::vector<std::shared_ptr<const void>> prepared_;  // by step
};

class CpuBackend : public Backend {
 public:
  const Kernel* native(const OpDef& op, std::span<const TensorType> in,
                       std::span<const TensorType> out) const override {
    const Kernel* kernel = kernel_of(op, Device::Kind::cpu);
    if (kernel && op.traits.elementwise && !in.empty() && !has_loop(op, in, out[0])) return nullptr;
    return kernel;
  }

  bool fusable(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in,
               const TensorType& out) const override {
    if (int64_t row = row_length(op, attrs, in, out); row > 0 && row <= kMaxTile)
      return find_row_loop(op.loop, in[0].dtype) != nullptr;
    return op.traits.elementwise && has_loop(op, in, out);
  }

  int lanes() const override { return cores(); }
  bool fixed_slots() const override { return false; }
  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) override {
    return std::make_unique<CpuExecutable>(std::move(program));
  }

 private:
  // Halves are cast to f32 before the loop sees them.
  static bool has_loop(const OpDef& op, std::span<const TensorType> in, const TensorType& out) {
    const DType from = in[0].dtype;
    if (op.loop == "copy" || op.loop == "cast") return true;
    const DType wide = accumulate_dtype(from);
    if (in.size() == 1) return find_unary(op.loop, wide) != nullptr;
    if (in.size() == 2) return in[1].dtype == in[0].dtype && find_binary(op.loop, wide) != nullptr;
    return in.size() == 3 && op.loop == "where" && find_where(int(whence::size_of(out.dtype))) != nullptr;
  }
};

[[maybe_unused]] const bool registered = [] {
  static CpuBackend backend;
  return register_backend(Device::Kind::cpu, backend);
}();

}  // namespace
}  // namespace whence::cpu
