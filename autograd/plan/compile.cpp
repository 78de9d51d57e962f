// The driver: compile = snapshot, cache, passes; run = execute.
#include "autograd/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/plan/planner.h"
#include "tensor/parallel.h"

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
  std::vector<char> taken(outputs.size());  // a Var that is an output twice may be bound twice
  for (auto& [v, place] : o.bind) {
    size_t at = 0;
    while (at < outputs.size() && (taken[at] || !(outputs[at] == v))) ++at;
    if (at == outputs.size())
      throw ValueError("bind names a value that is not an output, or one more often than it is an output");
    taken[at] = 1;
    if (!(place.shape() == v.shape()))
      throw ShapeError(fmt::format("bind: the output is {}, the memory {}", v.shape().str(), place.shape().str()));
    if (place.dtype() != v.dtype())
      throw DTypeError(
          fmt::format("bind: the output is {}, the memory {}", name_of(v.dtype()), name_of(place.dtype())));
    if (!place.contiguous()) throw ValueError("bind needs contiguous memory");
    k.bind.emplace_back(Id(at), place.raw());
  }
  return k;
}

std::shared_ptr<Program> build(const Snapshot& s, const Options& o, size_t hash) {
  auto p = std::make_shared<Program>();
  p->hash = hash;
  p->options = o;
  store(s, *p);
  std::vector<Id> key_value;
  Ir ir = merge(*p, o.merge, &key_value);
  fit_budget(*p, ir, key_value);
  return p;
}

std::vector<Var> flatten(std::initializer_list<OutputGroup> groups) {
  std::vector<Var> outputs;
  for (const OutputGroup& g : groups) outputs.insert(outputs.end(), g.vars.begin(), g.vars.end());
  return outputs;
}

void check_outputs(const std::vector<Var>& outputs, const CompileOptions& options) {
  if (outputs.empty()) throw ValueError("compile needs at least one output");
  for (const Var& v : outputs) {
    if (!v.defined()) throw ValueError("an output of compile is undefined");
    if (&v.graph() != &outputs[0].graph()) throw ValueError("the outputs of compile belong to different graphs");
  }
  if (options.device.kind != Device::Kind::cpu)
    throw DeviceError("no kernels for device " + options.device.str() + " in this build");
}

std::shared_ptr<Plan::State> plan_for(const Snapshot& s, const std::vector<Var>& outputs,
                                      const CompileOptions& options) {
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
  state->stats = state->program->stats;
  for (size_t i = 0; i < key.bind.size(); ++i) {
    const Tensor& place = options.bind[i].second;
    state->bound.push_back(place);
    state->instance->results[key.bind[i].first] = {place};
    state->instance->base[state->program->outputs[key.bind[i].first].base] = static_cast<std::byte*>(place.raw());
  }
  for (auto& [name, id] : s.graph->named_inputs())
    if (s.value[id] == kNone) state->ignored.push_back(name);
  return state;
}

}  // namespace

void arrange(Program& p, const Ir& ir, std::vector<Id> key_value) {
  // Budgets try several arrangements: leave nothing of the last one.
  p.steps.clear();
  p.views.clear();
  p.view_refs.clear();
  p.tiles.clear();
  p.outputs.clear();
  p.inputs.clear();
  p.blocks.clear();
  p.block_where.clear();
  p.members.clear();
  p.kept.clear();
  p.fork = {};
  p.stats = {.merged = p.stats.merged, .dead = p.stats.dead};
  p.key_value = std::move(key_value);

  std::vector<char> deferred(ir.outputs.size());
  Lowered low = lower(ir, p, deferred);
  std::vector<Overwrite> overwrites = find_overwrites(low, p);
  Schedule order = schedule(low, fuse(low), overwrites);
  if (order.units.empty()) {  // somebody still reads what an output is bound to: write at the end
    for (const Overwrite& o : overwrites) deferred[o.output] = 1;
    low = lower(ir, p, deferred);
    order = schedule(low, fuse(low), find_overwrites(low, p));
    if (order.units.empty())
      throw ValueError("bind: an output is bound to memory that partly overlaps what it is copied from");
  }
  if (overwrites.empty()) order.fork = find_fork(low, p, order, cpu::num_threads());
  emit(p, low, order);
}

}  // namespace planner

Plan::State::~State() {
  if (!instance) return;
  instance->inputs.clear();
  instance->copies.clear();
  instance->times.clear();
  instance->profiled = 0;
  planner::return_instance(program.get(), std::move(instance));
}

Plan compile(const std::vector<Var>& outputs, const CompileOptions& options) {
  planner::check_outputs(outputs, options);
  return Plan(planner::plan_for(planner::take_snapshot(outputs), outputs, options));
}

Plan compile(std::initializer_list<OutputGroup> groups, const CompileOptions& options) {
  return compile(planner::flatten(groups), options);
}

Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds, const CompileOptions& options) {
  return compile(outputs, options).run(feeds);
}

Results Plan::run(const Feeds& feeds, RunOptions o) {
  State& s = *state_;
  std::vector<Tensor> out;
  if (!s.base) {
    std::lock_guard lock(s.mutex);
    planner::execute(*s.program, *s.instance, feeds, s.ignored, o, s.profile, out);
    s.ran = true;
    return {s.outputs, std::move(out)};
  }
  std::scoped_lock lock(s.mutex, s.base->mutex);
  planner::bind_retained(*s.program, *s.instance, *s.base->instance);
  planner::execute(*s.program, *s.instance, s.with_base(feeds), s.ignored, o, s.profile, out);
  return {s.outputs, std::move(out)};
}

// Inputs that are not fed again keep the tensor that the base plan was fed, where it has kept it.
Feeds Plan::State::with_base(const Feeds& feeds) const {
  Feeds all = feeds;
  const planner::Program& b = *base->program;
  for (size_t i = 0; i < base->instance->inputs.size(); ++i) {
    const std::string& name = b.leaves[b.inputs[i]].name;
    bool wanted = std::any_of(program->inputs.begin(), program->inputs.end(),
                              [&](planner::Id l) { return program->leaves[l].name == name; });
    bool given = std::any_of(feeds.begin(), feeds.end(), [&](auto& f) { return f.first == name; });
    if (wanted && !given && base->instance->inputs[i].defined()) all.emplace_back(name, base->instance->inputs[i]);
  }
  return all;
}

Plan Plan::extend(std::initializer_list<OutputGroup> groups, CompileOptions options) {
  if (state_->base) return Plan(state_->base).extend(groups, std::move(options));
  std::vector<Var> outputs = planner::flatten(groups);
  planner::check_outputs(outputs, options);
  if (&outputs[0].graph() != &(*state_->outputs)[0].graph())
    throw ValueError("extend needs outputs that were recorded on the plan's graph");
  std::lock_guard lock(state_->mutex);
  if (!state_->ran) throw ValueError("extend reads values of the plan's last run: run it first");
  planner::Snapshot base = planner::take_snapshot(*state_->outputs);
  planner::Snapshot s = planner::take_extension(outputs, base, state_->program);
  auto state = planner::plan_for(s, outputs, options);
  state->base = state_;
  planner::count_promises(s, base, state->stats);
  return Plan(state);
}

const PlanStats& Plan::stats() const { return state_->stats; }

}  // namespace whence
