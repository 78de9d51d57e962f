#include "whence/autograd/body.h"

#include <algorithm>
#include <optional>

#include "whence/autograd/plan/run.h"

namespace whence {

size_t position_of(const Var& v, std::span<const Var> list) {
  size_t at = 0;
  while (at < list.size() && !list[at].same(v)) ++at;
  return at;
}

std::vector<NodeId> needed_nodes(const Graph& from, std::span<const Var> wanted, const Substitution& known) {
  std::vector<char> live(from.node_count());
  std::vector<ValueId> open;
  auto want = [&](ValueId v) {
    if (known.contains(v) || std::exchange(live[from.producer_id(v)], 1)) return;
    for (ValueId in : from.inputs(from.producer(v))) open.push_back(in);
  };
  for (const Var& v : wanted) open.push_back(v.id());
  while (!open.empty()) {
    ValueId v = open.back();
    open.pop_back();
    want(v);
  }
  std::vector<NodeId> nodes;
  for (NodeId n = 0; n < live.size(); ++n)
    if (live[n]) nodes.push_back(n);
  return nodes;
}

void record_again(const Graph& from, std::span<const Var> wanted, Substitution& known, Graph& into) {
  std::optional<ScopeGuard> scope;
  std::string open;
  for (NodeId id : needed_nodes(from, wanted, known)) {
    const Node& n = from.node(id);
    if (const std::string& name = from.scope_name(n); into.current_scope().empty() || (scope && name != open)) {
      scope.reset();
      if (!name.empty()) scope.emplace(into, open = name);
    }
    std::vector<Var> in;
    for (ValueId v : from.inputs(n)) in.push_back(known.at(v));
    Var first = into.record(*n.op, in, from.attrs(n), from.location(n));
    for (uint32_t k = 0; k < n.out_count; ++k) known.try_emplace(n.out_begin + k, into.var(first.id() + k));
  }
}

// ---- Body ---------------------------------------------------------------------------------------------------------

static size_t structure_hash(const Graph& g, std::span<const Var> results) {
  size_t h = g.node_count();
  auto mix = [&](size_t v) { h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2); };
  for (NodeId id = 0; id < g.node_count(); ++id) {
    const Node& n = g.node(id);
    mix(std::hash<std::string>()(n.op->name));
    for (ValueId v : g.inputs(n)) mix(v);
    if (n.op->name != "constant") {
      mix(g.attrs(n).hash());
      continue;
    }
    Tensor t = g.attrs(n).tensor("tensor").contiguous_tensor();
    mix(std::hash<std::string_view>()({static_cast<const char*>(t.raw()), t.nbytes()}));
  }
  for (const Var& v : results) mix(v.id());
  return h;
}

static void append(std::vector<Var>& to, const std::vector<Var>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

Body::Body(const BodyParts& p) : graph_(std::make_unique<Graph>()) {
  Substitution known;
  auto inputs = [&](const std::vector<Var>& values, const char* name) {
    std::vector<Var> made;
    for (const Var& v : values) {
      made.push_back(graph_->input(name + std::to_string(made.size()), v.shape(), v.dtype(), {.carries = false}));
      known[v.id()] = made.back();
    }
    return made;
  };
  parts_.carries = inputs(p.carries, "carry ");
  parts_.per_step = inputs(p.per_step, "per step ");
  parts_.shared = inputs(p.shared, "shared ");
  std::vector<Var> wanted = p.next;
  append(wanted, p.out);
  if (wanted.empty()) throw ValueError("the body of a scan gives nothing");
  record_again(wanted[0].graph(), wanted, known, *graph_);
  for (const Var& v : p.next) parts_.next.push_back(known.at(v.id()));
  for (const Var& v : p.out) parts_.out.push_back(known.at(v.id()));
  for (NodeId id = 0; id < graph_->node_count(); ++id) {
    const Node n = graph_->node(id);
    if (!n.op->traits.compute_bound) continue;
    for (ValueId v = n.out_begin; v < n.out_begin + n.out_count; ++v)
      if (is_float(graph_->type(v).dtype) && position_of(graph_->var(v), parts_.out) == parts_.out.size())
        parts_.out.push_back(graph_->var(v));
  }
  inputs_ = parts_.carries;
  append(inputs_, parts_.per_step);
  append(inputs_, parts_.shared);
  results_ = parts_.next;
  append(results_, parts_.out);
  append(results_, parts_.carries);
  hash_ = structure_hash(*graph_, results_);
}

// Both were recorded by the same constructor, so equal structure has equal numbers.
bool Body::operator==(const Body& o) const {
  const Graph &a = *graph_, &b = *o.graph_;
  auto ids = [](const std::vector<Var>& x, const std::vector<Var>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](Var v, Var w) { return v.id() == w.id(); });
  };
  if (hash_ != o.hash_ || a.node_count() != b.node_count() || !ids(carries(), o.carries()) ||
      !ids(per_step(), o.per_step()) || !ids(results_, o.results_) || next().size() != o.next().size())
    return false;
  for (NodeId id = 0; id < a.node_count(); ++id) {
    const Node &n = a.node(id), &m = b.node(id);
    if (n.op != m.op || n.out_count != m.out_count || !std::ranges::equal(a.inputs(n), b.inputs(m))) return false;
    const Attrs &have = a.attrs(n), &want = b.attrs(m);
    if (n.op->name == "constant" ? !bitwise_equal(have.tensor("tensor"), want.tensor("tensor")) : !(have == want))
      return false;
  }
  return true;
}

std::vector<Var> Body::apply(std::span<const Var> in) const {
  Substitution known;
  for (size_t i = 0; i < in.size(); ++i) known[inputs_[i].id()] = in[i];
  record_again(*graph_, results_, known, in[0].graph());
  std::vector<Var> r;
  for (const Var& v : results_) r.push_back(known.at(v.id()));
  return r;
}

std::shared_ptr<const planner::Program> Body::program() const {
  std::lock_guard lock(mutex_);
  if (!program_) program_ = planner::program_of({results_.begin(), results_.end() - std::ptrdiff_t(carries().size())});
  return program_;
}

}  // namespace whence
