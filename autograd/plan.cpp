#include "autograd/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/kernel.h"

namespace whence {

const Tensor& Results::operator[](Var v) const {
  for (size_t i = 0; i < vars_.size(); ++i)
    if (vars_[i] == v) return tensors_[i];
  throw ValueError("this value was not among the outputs of compile");
}

// A first executor: every live node in recording order, each value in its own memory.
struct Plan::State {
  struct Step {
    const OpDef* op;
    Attrs attrs;
    std::vector<uint32_t> in;
    uint32_t out;
    std::vector<TensorType> types;
    std::string where;
  };
  std::vector<Var> outputs;
  std::vector<uint32_t> slots;
  std::vector<Step> steps;
  std::vector<std::pair<Var, Tensor>> bind;
  size_t n_slots = 0;
  PlanStats stats;

  std::vector<Tensor> run(const Feeds& feeds, RunOptions o, std::string* bad) const {
    std::vector<Tensor> values(n_slots);
    for (const Step& s : steps) {
      if (s.op->traits.leaf) {
        if (s.op->name == "input") {
          const std::string& name = s.attrs.text("name");
          auto it = std::find_if(feeds.begin(), feeds.end(), [&](auto& f) { return f.first == name; });
          if (it == feeds.end()) throw ValueError(fmt::format("input '{}' {} was not fed", name, s.types[0].str()));
          const Tensor& t = it->second;
          if (!(t.shape() == s.types[0].shape)) throw ShapeError(fmt::format("input '{}' is {}, fed {}", name, s.types[0].str(), t.shape().str()));
          if (t.dtype() != s.types[0].dtype) throw DTypeError(fmt::format("input '{}' is {}, fed {}", name, s.types[0].str(), name_of(t.dtype())));
          values[s.out] = t;
        } else {
          values[s.out] = s.attrs.tensor("tensor");
        }
      } else {
        std::vector<Tensor> in;
        for (uint32_t i : s.in) in.push_back(values[i]);
        auto out = run_kernel(*s.op, in, s.types, s.attrs, o.seed);
        for (size_t k = 0; k < out.size(); ++k) values[s.out + k] = out[k];
      }
      if (bad)
        for (size_t k = 0; k < s.types.size(); ++k)
          if (is_float(s.types[k].dtype))
            for (double x : values[s.out + k].to_vector<double>())
              if (!std::isfinite(x)) {
                *bad = fmt::format("{} in result {} of {}", std::isnan(x) ? "NaN" : "infinity", k, s.where);
                return {};
              }
    }
    std::vector<Tensor> out;
    for (uint32_t s : slots) out.push_back(values[s]);
    return out;
  }
};

Results Plan::run(const Feeds& feeds, RunOptions o) {
  auto out = state_->run(feeds, o, nullptr);
  for (auto& [v, place] : state_->bind)
    for (size_t i = 0; i < out.size(); ++i)
      if (state_->outputs[i] == v) {
        place.copy_from(out[i]);
        out[i] = place;
      }
  return {state_->outputs, out};
}

Plan Plan::extend(std::initializer_list<OutputGroup> outputs, CompileOptions options) { return compile(outputs, options); }
const PlanStats& Plan::stats() const { return state_->stats; }
std::string Plan::report() const { return fmt::format("{} steps\n", state_->stats.steps); }
void Plan::trace(const std::string&) const {}
std::string Plan::diagnose(const Feeds& feeds, RunOptions o) const {
  std::string bad;
  state_->run(feeds, o, &bad);
  return bad;
}

Plan compile(const std::vector<Var>& outputs, const CompileOptions& options) {
  if (outputs.empty()) throw ValueError("compile needs at least one output");
  auto s = std::make_shared<Plan::State>();
  Graph& g = outputs[0].graph();
  std::vector<char> live(g.node_count());
  for (const Var& v : outputs) live[g.producer_id(v.id())] = 1;
  for (size_t i = g.node_count(); i-- > 0;)
    if (live[i])
      for (ValueId v : g.inputs(g.node(NodeId(i)))) live[g.producer_id(v)] = 1;
  std::vector<uint32_t> slot(g.value_count(), kNone);
  for (size_t i = 0; i < g.node_count(); ++i) {
    if (!live[i]) continue;
    const Node& n = g.node(NodeId(i));
    Plan::State::Step step{n.op, g.attrs(n), {}, uint32_t(s->n_slots), {}, g.describe(NodeId(i))};
    for (ValueId v : g.inputs(n)) step.in.push_back(slot[v]);
    for (uint32_t k = 0; k < n.out_count; ++k) {
      slot[n.out_begin + k] = uint32_t(s->n_slots++);
      step.types.push_back(g.type(n.out_begin + k));
    }
    s->steps.push_back(std::move(step));
  }
  s->outputs = outputs;
  s->bind = options.bind;
  for (const Var& v : outputs) s->slots.push_back(slot[v.id()]);
  s->stats.steps = s->steps.size();
  return Plan(s);
}

Plan compile(std::initializer_list<OutputGroup> groups, const CompileOptions& options) {
  std::vector<Var> outputs;
  for (const OutputGroup& g : groups) outputs.insert(outputs.end(), g.vars.begin(), g.vars.end());
  return compile(outputs, options);
}

Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds, const CompileOptions& options) {
  return compile(outputs, options).run(feeds);
}

}  // namespace whence
