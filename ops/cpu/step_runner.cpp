#include "whence/ops/cpu/step_runner.h"

namespace whence::cpu {

using namespace planner;

StepRunner::StepRunner(std::shared_ptr<const Program> program) : p_(std::move(program)), views_(p_->views) {
  for (const FusedGroup& g : p_->groups) tiles_.push_back(make_tile(g));
  prepared_.resize(p_->steps.size());
  for (size_t i = 0; i < p_->steps.size(); ++i) {
    const Step& s = p_->steps[i];
    if (!s.kernel || !s.kernel->prepare) continue;
    std::vector<TensorType> types;
    for (Id k = 0; k < s.n_in + s.n_out; ++k) types.push_back({views_[s.views + k].shape, views_[s.views + k].dtype});
    prepared_[i] = s.kernel->prepare(*s.op, {types.data(), s.n_in}, {types.data() + s.n_in, s.n_out}, *s.attrs);
  }
}

void StepRunner::run(Id at, std::byte* const* base, Status& status) {
  const Step& s = p_->steps[at];
  if (s.group != kNone) return tiles_[s.group].run(base);
  if (!s.kernel) return;  // a packed value, whose parts are where they belong, or nothing but empty values
  View* v = views_.data() + s.views;
  const Ref* r = p_->view_refs.data() + s.views;
  for (Id k = 0; k < s.n_in + s.n_out; ++k) v[k].data = base[r[k].base] + r[k].offset;
  s.kernel->run({.op = *s.op,
                 .in = {v, s.n_in},
                 .out = {v + s.n_in, s.n_out},
                 .attrs = *s.attrs,
                 .workspace = s.workspace < 0 ? nullptr : base[0] + s.workspace,
                 .prepared = prepared_[at].get(),
                 .status = &status,
                 .step = at});
}

}  // namespace whence::cpu
