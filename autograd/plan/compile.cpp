// The driver: compile = snapshot, cache, passes; run = execute.
#include "whence/autograd/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "whence/autograd/plan/rewrite.h"
#include "whence/autograd/plan/run.h"

namespace whence {

const Tensor& Results::operator[](size_t i) const {
  if (i >= tensors_.size()) throw ValueError(fmt::format("result {} of {}", i, tensors_.size()));
  return tensors_[i];
}

const Tensor& Results::operator[](Var v) const {
  for (size_t i = 0; i < tensors_.size(); ++i)
    if ((*vars_)[i].same(v)) return tensors_[i];
  throw ValueError("this value was not among the outputs of compile");
}

namespace planner {
namespace {

Options key_options(const CompileOptions& o) {
  return {o.fuse, o.merge, o.reuse_memory, o.concurrent, o.keep_for_extend, o.memory_budget, o.device};
}

std::shared_ptr<Program> build(const Snapshot& s, const Options& o, size_t hash) {
  auto p = std::make_shared<Program>();
  p->hash = hash;
  p->options = o;
  p->backend = &backend_of(o.device);
  store(s, *p);
  std::vector<Id> key_value;
  Ir ir = merge(*p, o.merge, &key_value);
  ir = rewrite(*p, ir, neutral_rules(), &key_value);
  ir = rewrite(*p, ir, p->backend->rules(), &key_value);
  ir = cast_foreign(*p, ir, &key_value);
  fit_budget(*p, ir, key_value);
  return p;
}

std::vector<Var> flatten(std::initializer_list<OutputGroup> groups) {
  std::vector<Var> outputs;
  for (const OutputGroup& g : groups)
    for (const Var& v : g.vars) {
      if (!v.defined()) throw ValueError("an output of compile is undefined\n  given" + at_line(g.where));
      if (!outputs.empty() && &v.graph() != &outputs[0].graph())
        throw ValueError("the outputs of compile belong to different graphs\n  given" + at_line(g.where));
      outputs.push_back(v);
    }
  if (outputs.empty()) throw ValueError("compile needs at least one output");
  return outputs;
}

std::shared_ptr<Program> program_for(const Snapshot& s, const Options& key) {
  size_t hash = hash_of(s, key);
  std::shared_ptr<Program> program = find_cached(hash, s, key);
  if (program) return program;
  program = build(s, key, hash);
  put_in_cache(program);
  return program;
}

std::shared_ptr<Plan::State> plan_for(const Snapshot& s, const std::vector<Var>& outputs,
                                      const CompileOptions& options) {
  auto state = std::make_shared<Plan::State>();
  state->program = program_for(s, key_options(options));
  state->instance = take_instance(state->program.get());
  if (!state->instance) state->instance = std::make_unique<Instance>(state->program);
  state->outputs = std::make_shared<std::vector<Var>>(outputs);
  state->held = bind_leaves(*state->program, *state->instance, s);
  state->profile = options.profile;
  state->stats = state->program->stats;
  for (auto& [name, id] : s.graph->named_inputs())
    if (s.value[id] == kNone) state->ignored.push_back(name);
  return state;
}

// Results of the caller have places of their own; the next value of a state goes where the state lies.
void make_output_slots(Program& p, const Ir& ir) {
  const size_t results = ir.outputs.size() - p.key.assigned.size();
  p.n_bases = 1 + Id(p.leaves.size());
  for (size_t k = 0; k < ir.outputs.size(); ++k) {
    OutputSlot o{.type = ir.types[ir.outputs[k]]};
    if (k < results) {
      o.base = p.n_bases++;
    } else {
      o.state = p.key.nodes[p.key.producer[p.key.assigned[k - results]]].leaf;
      o.base = 1 + o.state;
    }
    p.stats.output_bytes += k < results ? size_t(o.type.shape.numel()) * size_of(o.type.dtype) : 0;
    p.outputs.push_back(o);
  }
  p.nowhere = p.n_bases++;
}

}  // namespace

std::shared_ptr<const Program> program_of(const std::vector<Var>& outputs) {
  return program_for(take_snapshot(outputs, {}), key_options({.concurrent = false}));
}

void arrange(Program& p, const Ir& ir, std::vector<Id> key_value) {
  // Budgets try several arrangements: leave nothing of the last one.
  p.steps.clear();
  p.views.clear();
  p.view_refs.clear();
  p.groups.clear();
  p.outputs.clear();
  p.inputs.clear();
  p.scalars.clear();
  p.blocks.clear();
  p.block_where.clear();
  p.members.clear();
  p.kept.clear();
  p.waits.clear();
  p.lanes = 1;
  p.stats = {.merged = p.stats.merged, .dead = p.stats.dead, .rewrites = p.stats.rewrites};
  p.key_value = std::move(key_value);

  make_output_slots(p, ir);

  std::vector<char> deferred(ir.outputs.size());
  Lowered low = lower(ir, p, deferred);
  std::vector<Overwrite> overwrites = find_overwrites(low, p);
  Schedule order = schedule(low, p, fuse(low), overwrites);
  if (order.units.empty()) {  // somebody still reads what a state takes: write at the end
    for (const Overwrite& o : overwrites) deferred[o.output] = 1;
    low = lower(ir, p, deferred);
    order = schedule(low, p, fuse(low), find_overwrites(low, p));
    if (order.units.empty()) throw Error("internal: the next values of the states cannot be put in an order");
  }
  find_lanes(low, p, order);
  emit(p, low, order);
}

}  // namespace planner

Plan::State::~State() {
  if (!instance) return;
  planner::forget_results(*this);
  instance->inputs.clear();
  instance->times.clear();
  instance->profiled = 0;
  planner::return_instance(program.get(), std::move(instance));
}

Plan compile(std::initializer_list<OutputGroup> groups, const CompileOptions& options) {
  return or_out_of_memory("compile", [&] {
    std::vector<Var> outputs = planner::flatten(groups);
    auto assigns = outputs[0].graph().assigns();
    auto state = planner::plan_for(planner::take_snapshot(outputs, assigns), outputs, options);
    state->assigns.assign(assigns.begin(), assigns.end());
    return Plan(state);
  });
}

Plan compile(const std::vector<Var>& outputs, const CompileOptions& options, std::source_location where) {
  return or_out_of_memory("compile", [&] { return compile({OutputGroup(outputs, where)}, options); });
}

Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds, const CompileOptions& options) {
  return compile(outputs, options).run(feeds);
}

Results Plan::run(const Feeds& feeds, const RunOptions& o) {
  Results r;
  run(feeds, o, r);
  return r;
}

void Plan::run(const Feeds& feeds, const RunOptions& o, Results& into) {
  State& s = self();
  into.vars_ = s.outputs;
  into.tensors_.clear();  // their memory serves again
  or_out_of_memory("run", [&] {
    if (!s.base) {
      std::lock_guard lock(s.mutex);
      planner::execute(*s.program, *s.instance, feeds, s.ignored, o, s.profile, into.tensors_);
      s.ran = true;
      planner::keep_results(s);
      return;
    }
    std::scoped_lock lock(s.mutex, s.base->mutex);
    planner::bind_retained(*s.program, *s.instance, *s.base->instance);
    planner::execute(*s.program, *s.instance, s.with_base(feeds), s.ignored, o, s.profile, into.tensors_);
    planner::keep_results(s);
  });
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
  State& from = self();
  if (from.base) return Plan(from.base).extend(groups, std::move(options));
  return or_out_of_memory("extend", [&] {
    std::vector<Var> outputs = planner::flatten(groups);
    if (&outputs[0].graph() != &(*from.outputs)[0].graph())
      throw ValueError("extend needs outputs that were recorded on the plan's graph");
    std::lock_guard lock(from.mutex);
    if (!from.ran) throw ValueError("extend reads values of the plan's last run: run it first");
    planner::Snapshot base = planner::take_snapshot(*from.outputs, from.assigns);
    bool kept = planner::keep_values(*from.program, *from.instance);
    planner::Snapshot s = planner::take_extension(outputs, base, from.program, kept);
    auto state = planner::plan_for(s, outputs, options);
    state->base = state_;
    planner::count_promises(s, base, state->stats);
    return Plan(state);
  });
}

Plan::State& Plan::self() const {
  if (!state_) throw ValueError("the plan is undefined: compile gives one");
  return *state_;
}

uint64_t Plan::hash() const { return self().program->hash; }

const PlanStats& Plan::stats() const { return self().stats; }

}  // namespace whence
