// Extensions. A plan that has run still holds some forward values; a relevance sweep recorded later reads those, and
// each of its reads that is not held is a promise, kept by recomputing the chain from values that are. A value has one
// producer, so that chain is determined: it stops at the first held value in every direction, and chains share their
// nodes.
#include <algorithm>
#include <map>

#include "whence/autograd/plan/run.h"

namespace whence::planner {

namespace {

// By block: nothing was placed over it later.
std::vector<char> surviving(const std::vector<Block>& blocks) {
  std::vector<Id> order(blocks.size());
  for (Id i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](Id a, Id b) { return blocks[a].first > blocks[b].first; });
  std::vector<char> survives(blocks.size());
  std::map<size_t, size_t> taken;  // begin -> end of what later blocks cover, disjoint
  for (Id i : order) {
    size_t begin = blocks[i].offset, end = begin + std::max<size_t>(blocks[i].bytes, 1);
    auto next = taken.upper_bound(begin);
    bool clash = next != taken.end() && next->first < end;
    if (next != taken.begin() && std::prev(next)->second > begin) clash = true;
    survives[i] = !clash;
    next = taken.lower_bound(begin);  // cover [begin, end)
    if (next != taken.begin() && std::prev(next)->second >= begin) {
      --next;
      begin = next->first;
    }
    while (next != taken.end() && next->first <= end) {
      end = std::max(end, next->second);
      next = taken.erase(next);
    }
    taken.emplace(begin, end);
  }
  return survives;
}

}  // namespace

Snapshot take_extension(const std::vector<Var>& outputs, const Snapshot& base, const std::shared_ptr<Program>& program,
                        bool kept) {
  Snapshot s;
  s.graph = base.graph;
  s.base = program;
  const Graph& g = *s.graph;
  std::vector<char> held(g.value_count()), need(g.value_count()), live(g.node_count());
  std::vector<char> survives = surviving(program->blocks), held_key(program->key.producer.size());
  for (const Kept& k : program->kept) held_key[k.value] = k.block == kNone || (kept && survives[k.block]);
  for (ValueId v = 0; v < base.value.size(); ++v) held[v] = base.value[v] != kNone && held_key[base.value[v]];

  for (const Var& v : outputs) need[v.id()] = 1;
  for (size_t i = g.node_count(); i-- > 0;) {
    const Node& n = g.node(NodeId(i));
    for (ValueId v = n.out_begin; v < n.out_begin + n.out_count; ++v) live[i] |= char(need[v] && !held[v]);
    if (live[i])
      for (ValueId v : g.inputs(n)) need[v] = 1;
  }
  s.value.assign(g.value_count(), kNone);
  Id next = 0;
  for (ValueId v = 0; v < need.size(); ++v)
    if (need[v] && held[v]) {
      s.retained.emplace_back(v, base.value[v]);
      s.value[v] = next++;
    }
  for (size_t i = 0; i < live.size(); ++i) {
    if (!live[i]) continue;
    const Node& n = g.node(NodeId(i));
    s.live.push_back(NodeId(i));
    for (ValueId v = n.out_begin; v < n.out_begin + n.out_count; ++v, ++next)
      if (s.value[v] == kNone) s.value[v] = next;
  }
  for (const Var& v : outputs) s.outputs.push_back(s.value[v.id()]);
  for (Id v : base.assigned)
    for (NodeId id : s.live)
      if (const Node& n = g.node(id); n.op->traits.leaf && base.value[n.out_begin] == v)
        throw ValueError("extend needs state '" + g.attrs(n).text("name") +
                         "' as it was before the run, and the run has overwritten it: compile both together");
  collect_leaves(s);
  return s;
}

void count_promises(const Snapshot& s, const Snapshot& base, PlanStats& stats) {
  const Graph& g = *s.graph;
  std::vector<Id> depth(
      g.value_count());  // recomputed nodes on the longest chain; 0: held, or a view of something held
  std::vector<char> promised(g.value_count()), forward(g.node_count());
  for (NodeId id : base.live) forward[id] = g.node(id).pass == 0;
  size_t recomputed = 0, nodes = 0, direct = 0;
  for (NodeId id : base.live) nodes += forward[id] && !g.node(id).op->traits.leaf;
  for (NodeId id : s.live) {
    const Node& n = g.node(id);
    if (n.op->traits.leaf) continue;
    if (forward[id]) {
      Id d = 0;
      for (ValueId v : g.inputs(n)) d = std::max(d, depth[v]);
      for (ValueId v = n.out_begin; v < n.out_begin + n.out_count; ++v) depth[v] = d + (n.op->view ? 0 : 1);
      recomputed += !n.op->view;
      continue;
    }
    for (ValueId v : g.inputs(n)) promised[v] |= char(depth[v] > 0);
  }
  std::vector<char> counted(g.node_count());
  for (ValueId v = 0; v < promised.size(); ++v) {
    if (!promised[v]) continue;
    ++stats.promises;
    stats.promise_depth += depth[v];
    NodeId p = g.producer_id(v);
    while (g.node(p).op->view) p = g.producer_id(g.inputs(g.node(p))[0]);
    direct += !counted[p];
    counted[p] = 1;
  }
  stats.recomputed = recomputed;
  stats.promise_nodes = recomputed - direct;
  stats.promise_density = nodes ? double(stats.promises) / double(nodes) : 0;
}

void bind_retained(const Program& p, Instance& x, const Instance& base) {
  for (size_t l = 0; l < p.leaves.size(); ++l) {
    if (p.leaves[l].kind != Leaf::retained) continue;
    const Kept& k = *std::lower_bound(p.base->kept.begin(), p.base->kept.end(), p.leaves[l].slot,
                                      [](const Kept& a, Id v) { return a.value < v; });
    x.base[1 + l] = base.base[k.at.base] + k.at.offset;
  }
}

}  // namespace whence::planner
