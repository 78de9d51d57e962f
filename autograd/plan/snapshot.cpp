// The live part of a graph in canonical numbering: hashed and compared by the plan cache, copied into the program.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

size_t mix(size_t h, size_t v) {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  return h * 0xff51afd7ed558ccdull;
}

size_t mix_text(size_t h, std::string_view s) { return mix(h, std::hash<std::string_view>()(s)); }

bool is_small(const Tensor& t) { return t.numel() <= kSmallConstant; }
Leaf::Kind kind_of(const Node& n, const Attrs& a) {
  if (n.op->name == "parameter") return Leaf::state;
  if (n.op->name == "constant" || a.has("tensor")) return Leaf::constant;
  return a.flag("scalar") ? Leaf::scalar : Leaf::input;
}
// The plan is bound to its memory: states, and constants that are too large to be part of the program.
bool is_bound(const Node& n, const Attrs& a) {
  Leaf::Kind k = kind_of(n, a);
  return k == Leaf::state || (k == Leaf::constant && !is_small(a.tensor("tensor")));
}

size_t hash_shape(size_t h, const Shape& s) {
  for (int64_t d : s) h = mix(h, size_t(d));
  return mix(h, size_t(s.rank()));
}

size_t hash_leaf(size_t h, const Node& n, const Attrs& a, const BoundLeaf& bound) {
  Leaf::Kind kind = kind_of(n, a);
  h = mix(h, size_t(kind));
  if (a.has("name")) h = mix_text(h, a.text("name"));
  if (kind == Leaf::input || kind == Leaf::scalar)
    return hash_shape(mix(h, size_t(a.dtype("dtype"))), a.shape("shape"));
  const Tensor& t = a.tensor("tensor");
  h = hash_shape(mix(h, size_t(t.dtype())), t.shape());
  if (is_bound(n, a)) return hash_shape(mix(mix(h, bound.owner), size_t(bound.offset)), t.strides());
  Tensor c = t.contiguous_tensor();
  return mix_text(h, {static_cast<const char*>(c.raw()), c.nbytes()});
}

bool same_leaf(const Leaf& leaf, const Node& n, const Attrs& a, const TensorType& type, const BoundLeaf& bound) {
  if (leaf.kind != kind_of(n, a) || !(leaf.type == type)) return false;
  if (a.has("name") ? leaf.name != a.text("name") : !leaf.name.empty()) return false;
  if (leaf.kind == Leaf::input || leaf.kind == Leaf::scalar) return true;
  const Tensor& t = a.tensor("tensor");
  if (leaf.small.defined()) return is_small(t) && bitwise_equal(leaf.small, t);
  return !(leaf.kind == Leaf::constant && is_small(t)) && leaf.owner == bound.owner && leaf.offset == bound.offset &&
         leaf.strides == t.strides();
}

// Leaves whose memory lies inside another's become windows on it, so that a program knows without addresses what
// overlaps: a parameter inside the arena that an optimiser updates.
void find_owners(std::vector<BoundLeaf>& leaves, bool assigns) {
  std::vector<Id> order;
  for (Id i = 0; i < leaves.size(); ++i) {
    BoundLeaf& l = leaves[i];
    l.owner = i;
    if (!l.tensor.defined() || l.tensor.numel() == 0) continue;
    auto at = reinterpret_cast<uintptr_t>(l.tensor.raw());
    int64_t last = 0;
    for (int a = 0; a < l.tensor.rank(); ++a) last += (l.tensor.shape()[a] - 1) * l.tensor.strides()[a];
    l.begin = at;
    l.end = at + uintptr_t(last + 1) * size_of(l.tensor.dtype());
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](Id a, Id b) {
    return leaves[a].begin != leaves[b].begin ? leaves[a].begin < leaves[b].begin : leaves[a].end > leaves[b].end;
  });
  Id owner = kNone;
  for (Id i : order) {
    BoundLeaf& l = leaves[i];
    if (owner == kNone || l.begin >= leaves[owner].end) {
      owner = i;
      continue;
    }
    if (l.end > leaves[owner].end) {
      if (!assigns) continue;  // who only reads may overlap
      throw ValueError("two states or constants overlap in part: " + leaves[owner].tensor.shape().str() + " and " +
                       l.tensor.shape().str());
    }
    l.owner = owner;
    l.offset = int64_t(l.begin - leaves[owner].begin);
  }
}

}  // namespace

void collect_leaves(Snapshot& s) {
  const Graph& g = *s.graph;
  s.leaves.resize(s.retained.size());
  for (NodeId id : s.live) {
    const Node& n = g.node(id);
    if (!n.op->traits.leaf) continue;
    s.leaves.push_back({});
    if (is_bound(n, g.attrs(n))) s.leaves.back().tensor = g.attrs(n).tensor("tensor");
  }
  find_owners(s.leaves, !s.assigned.empty());
}

Snapshot take_snapshot(const std::vector<Var>& outputs, Assigns assigns) {
  Snapshot s;
  s.graph = &outputs[0].graph();
  const Graph& g = *s.graph;
  std::vector<char> live(g.node_count());
  size_t top = 0, count = 0;
  auto want = [&](ValueId v) {
    NodeId p = g.producer_id(v);
    count += !live[p];
    live[p] = 1;
    top = std::max<size_t>(top, p + 1);
  };
  for (const Var& v : outputs) want(v.id());
  for (auto& [state, next] : assigns) {
    want(state);
    want(next);
  }
  for (NodeId n = 0; n < g.node_count(); ++n)
    if (g.node(n).op->traits.effect) want(g.node(n).out_begin);
  for (size_t i = top; i-- > 0;)
    if (live[i])
      for (ValueId v : g.inputs(g.node(NodeId(i)))) {
        char& l = live[g.producer_id(v)];
        count += !l;
        l = 1;
      }
  s.live.reserve(count);
  s.value.assign(g.value_count(), kNone);
  Id next = 0;
  for (size_t i = 0; i < top; ++i) {
    if (!live[i]) continue;
    const Node& n = g.node(NodeId(i));
    s.live.push_back(NodeId(i));
    for (uint32_t k = 0; k < n.out_count; ++k) s.value[n.out_begin + k] = next++;
  }
  for (const Var& v : outputs) s.outputs.push_back(s.value[v.id()]);
  for (auto& [state, next] : assigns) {
    s.outputs.push_back(s.value[next]);
    s.assigned.push_back(s.value[state]);
  }
  collect_leaves(s);
  return s;
}

size_t hash_of(const Snapshot& s, const Options& o) {
  const Graph& g = *s.graph;
  size_t h =
      mix(s.live.size(), o.budget * 32 + o.fuse + o.merge * 2 + o.reuse_memory * 4 + o.concurrent * 8 + o.keep * 16);
  h = mix(mix(h, size_t(o.device.kind)), size_t(o.device.index));
  if (s.base) h = mix(h, s.base->hash);
  for (auto& [v, slot] : s.retained) h = mix(h, slot);
  size_t leaf = s.retained.size();
  for (NodeId id : s.live) {
    const Node& n = g.node(id);
    h = mix_text(h, n.op->name);
    if (n.op->traits.leaf) {
      h = hash_leaf(h, n, g.attrs(n), s.leaves[leaf++]);
      continue;
    }
    for (ValueId v : g.inputs(n)) h = mix(h, s.value[v]);
    if (n.attrs != kNone) h = mix(h, g.attrs(n).hash());
  }
  for (Id v : s.outputs) h = mix(h, v);
  for (Id v : s.assigned) h = mix(h, v);
  return h;
}

bool matches(const Snapshot& s, const Options& o, const Program& p) {
  const Graph& g = *s.graph;
  const size_t first = s.retained.size();
  if (s.base != p.base || first + s.live.size() != p.key.nodes.size() || s.outputs != p.key.outputs ||
      s.assigned != p.key.assigned || !(o == p.options))
    return false;
  for (size_t i = 0; i < first; ++i)
    if (const Leaf* l = p.key.nodes[i].leaf == kNone ? nullptr : &p.leaves[p.key.nodes[i].leaf];
        !l || l->kind != Leaf::retained || l->slot != s.retained[i].second)
      return false;
  for (size_t i = 0; i < s.live.size(); ++i) {
    const Node& n = g.node(s.live[i]);
    const INode& k = p.key.nodes[first + i];
    if (n.op != k.op || n.in_count != k.n_in || n.out_count != k.n_out || n.recompute != k.recompute) return false;
    if (n.op->traits.leaf) {
      if (!same_leaf(p.leaves[k.leaf], n, g.attrs(n), g.type(n.out_begin), s.leaves[k.leaf])) return false;
      continue;
    }
    auto in = g.inputs(n);
    auto have = p.key.in(k);
    for (size_t j = 0; j < in.size(); ++j)
      if (s.value[in[j]] != have[j]) return false;
    if (!(g.attrs(n) == *k.attrs)) return false;
  }
  return true;
}

// ---- copying -----------------------------------------------------------------------------------------------------

static Leaf leaf_of(const Node& n, const Attrs& a, const TensorType& type, const BoundLeaf& bound) {
  Leaf leaf{.kind = kind_of(n, a), .type = type, .strides = contiguous_strides(type.shape)};
  if (a.has("name")) leaf.name = a.text("name");
  if (leaf.kind == Leaf::input || leaf.kind == Leaf::scalar) return leaf;
  const Tensor& t = a.tensor("tensor");
  if (is_bound(n, a)) {
    leaf.strides = t.strides();
    leaf.owner = bound.owner;
    leaf.offset = bound.offset;
  } else {
    leaf.small = t.contiguous_copy();  // a copy: later writes to the caller's tensor must not reach a cached program
  }
  return leaf;
}

void store(const Snapshot& s, Program& p) {
  static const Attrs none;
  const Graph& g = *s.graph;
  // Provenance of the live nodes, and of those they serve.
  std::vector<Id> where(g.node_count(), kNone);
  std::vector<NodeId> todo(s.live.rbegin(), s.live.rend());
  std::vector<Id> scope;
  while (!todo.empty()) {
    NodeId id = todo.back();
    const Node& n = g.node(id);
    if (where[id] != kNone) {
      todo.pop_back();
    } else if (n.origin != kNone && where[n.origin] == kNone) {
      todo.push_back(n.origin);
    } else {
      todo.pop_back();
      if (n.scope >= scope.size()) scope.resize(n.scope + 1, kNone);
      if (scope[n.scope] == kNone) {
        scope[n.scope] = Id(p.scopes.size());
        p.scopes.push_back(g.scope_name(n));
      }
      where[id] = Id(p.wheres.size());
      p.wheres.push_back({n.op, g.location(n), scope[n.scope], n.origin == kNone ? kNone : where[n.origin], n.pass});
    }
  }
  p.key.nodes.reserve(s.retained.size() + s.live.size());
  p.base = s.base;
  for (auto& [v, slot] : s.retained) {
    auto kept = std::lower_bound(p.base->kept.begin(), p.base->kept.end(), slot,
                                 [](const Kept& a, Id x) { return a.value < x; });
    p.key.add({.op = &op_named("input"), .attrs = &none, .n_out = 1, .leaf = Id(p.leaves.size())}, {});
    p.key.types.push_back(g.type(v));
    p.leaves.push_back({.kind = Leaf::retained, .type = g.type(v), .strides = kept->strides, .slot = slot});
  }
  std::vector<Id> in;
  for (NodeId id : s.live) {
    const Node& n = g.node(id);
    INode k{.op = n.op, .attrs = &none, .n_out = n.out_count, .where = where[id], .recompute = n.recompute};
    in.clear();
    for (ValueId v : g.inputs(n)) in.push_back(s.value[v]);
    if (n.op->traits.leaf) {
      k.leaf = Id(p.leaves.size());
      p.leaves.push_back(leaf_of(n, g.attrs(n), g.type(n.out_begin), s.leaves[k.leaf]));
    } else if (n.attrs != kNone) {
      p.attrs.push_back(g.attrs(n));
      k.attrs = &p.attrs.back();
    }
    p.key.add(k, in);
    for (uint32_t j = 0; j < n.out_count; ++j) p.key.types.push_back(g.type(n.out_begin + j));
  }
  p.key.outputs = s.outputs;
  p.key.assigned = s.assigned;
}

INode& Ir::add(INode n, std::span<const Id> operands) {
  n.in = Id(edges.size());
  n.n_in = Id(operands.size());
  n.out = Id(producer.size());
  edges.insert(edges.end(), operands.begin(), operands.end());
  producer.insert(producer.end(), n.n_out, Id(nodes.size()));
  nodes.push_back(n);
  return nodes.back();
}

std::string Program::describe(Id id) const {
  std::string s;
  if (id == kNone) return "an internal copy";
  static const char* doing[] = {"inlined from", "while differentiating", "while tracing the relevance of"};
  for (int depth = 0;; ++depth) {
    const Where& w = wheres[id];
    s += w.op->name;
    if (w.origin == kNone || depth == 64) {
      std::string_view file = w.at.file_name();
      if (size_t slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
      s += fmt::format(" recorded at {}:{}", file, w.at.line());
      if (!scopes[w.scope].empty()) s += " in " + scopes[w.scope];
      return s;
    }
    s += fmt::format(" {} ", doing[w.pass]);
    id = w.origin;
  }
}

}  // namespace whence::planner
