// The driver: compile = snapshot, cache, passes; run = execute.
#include "autograd/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/planner.h"

namespace whence {

const Tensor& Results::operator[](Var v) const {
  for (size_t i = 0; i < tensors_.size(); ++i)
    if ((*vars_)[i] == v) return tensors_[i];
  throw ValueError("this value was not among the outputs of compile");
}

namespace planner {
namespace {

Options key_options(const std::vector<Var>& outputs, const CompileOptions& o) {
  Options k{o.fuse, o.merge, o.reuse_memory, o.concurrent, o.keep_for_extend, o.memory_budget, {}};
  for (auto& [v, place] : o.bind) {
    auto at = std::find(outputs.begin(), outputs.end(), v);
    if (at == outputs.end()) throw ValueError("bind names a value that is not an output");
    if (!(place.shape() == v.shape())) throw ShapeError(fmt::format("bind: the output is {}, the memory {}", v.shape().str(), place.shape().str()));
    if (place.dtype() != v.dtype()) throw DTypeError(fmt::format("bind: the output is {}, the memory {}", name_of(v.dtype()), name_of(place.dtype())));
    if (!place.contiguous()) throw ValueError("bind needs contiguous memory");
    k.bind.emplace_back(Id(at - outputs.begin()), place.raw());
  }
  return k;
}

std::shared_ptr<Program> build(const Snapshot& s, const Options& o, size_t hash) {
  auto p = std::make_shared<Program>();
  p->hash = hash;
  p->options = o;
  store(s, *p);
  Ir ir = merge(*p, o.merge);
  Lowered low = lower(ir, *p, o.fuse);
  emit(*p, low, schedule(low, fuse(low)));
  return p;
}

}  // namespace
}  // namespace planner

Plan::State::~State() {
  if (instance) planner::return_instance(program.get(), std::move(instance));
}

Plan compile(const std::vector<Var>& outputs, const CompileOptions& options) {
  using namespace planner;
  if (outputs.empty()) throw ValueError("compile needs at least one output");
  for (const Var& v : outputs) {
    if (!v.defined()) throw ValueError("an output of compile is undefined");
    if (&v.graph() != &outputs[0].graph()) throw ValueError("the outputs of compile belong to different graphs");
  }
  if (options.device.kind != Device::Kind::cpu) throw DeviceError("no kernels for device " + options.device.str() + " in this build");
  Snapshot s = take_snapshot(outputs);
  Options key = key_options(outputs, options);
  size_t hash = hash_of(s, key);
  auto state = std::make_shared<Plan::State>();
  state->program = find_cached(hash, s, key);
  if (!state->program) {
    state->program = build(s, key, hash);
    put_in_cache(state->program);
  }
  state->instance = take_instance(state->program.get());
  if (!state->instance) state->instance = std::make_unique<Instance>(*state->program);
  state->outputs = std::make_shared<std::vector<Var>>(outputs);
  state->held = leaf_tensors(s);
  state->profile = options.profile;
  for (auto& [v, place] : options.bind) {
    state->held.push_back(place);
    size_t k = size_t(std::find(outputs.begin(), outputs.end(), v) - outputs.begin());
    state->instance->results[k] = {place};
    state->instance->base[state->program->outputs[k].base] = static_cast<std::byte*>(place.raw());
  }
  for (auto& [name, id] : s.graph->named_inputs())
    if (s.value[id] == kNone) state->ignored.push_back(name);
  return Plan(state);
}

Plan compile(std::initializer_list<OutputGroup> groups, const CompileOptions& options) {
  std::vector<Var> outputs;
  for (const OutputGroup& g : groups) outputs.insert(outputs.end(), g.vars.begin(), g.vars.end());
  return compile(outputs, options);
}

Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds, const CompileOptions& options) {
  return compile(outputs, options).run(feeds);
}

Results Plan::run(const Feeds& feeds, RunOptions o) {
  State& s = *state_;
  std::vector<Tensor> out;
  std::lock_guard lock(s.mutex);
  planner::execute(*s.program, *s.instance, feeds, s.ignored, o, s.profile, out);
  return {s.outputs, std::move(out)};
}

Plan Plan::extend(std::initializer_list<OutputGroup> outputs, CompileOptions options) { return compile(outputs, options); }
const PlanStats& Plan::stats() const { return state_->program->stats; }
std::string Plan::report() const { return fmt::format("{} steps\n", state_->program->stats.steps); }
void Plan::trace(const std::string&) const {}

}  // namespace whence
