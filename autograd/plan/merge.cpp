// First pass: equal nodes become one, fused ops without a kernel give way to their bodies, dead nodes go.
#include <cstring>
#include <utility>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

size_t mix(size_t h, size_t v) {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  return h * 0xff51afd7ed558ccdull;
}

class Merger {
 public:
  Merger(Program& p, bool equal) : p_(p), equal_(equal) {}

  Ir run(std::vector<Id>* map) {
    const Ir& key = p_.key;
    std::vector<Id>& value = *map;  // key value -> merged value
    value.assign(key.producer.size(), kNone);
    std::vector<Id> in;
    for (const INode& n : key.nodes) {
      in.clear();
      for (Id v : key.in(n)) in.push_back(value[v]);
      place(n, in, {key.types.data() + n.out, n.n_out}, {value.data() + n.out, n.n_out});
    }
    for (Id v : key.outputs) ir_.outputs.push_back(value[v]);
    Ir lean = without_dead(ir_, map);
    p_.stats.dead = ir_.nodes.size() - lean.nodes.size();
    return lean;
  }

 private:
  // Puts the node (or its twin, or its body) into the result; writes the numbers of its values to `out`.
  void place(INode n, std::span<const Id> in, std::span<const TensorType> types, std::span<Id> out) {
    if (!n.op->traits.leaf && n.op->body && !n.op->view && !native(n, in, types)) return inline_body(n, in, out);
    if (n.op->traits.effect) n.after = std::exchange(last_effect_, Id(ir_.nodes.size()));
    size_t h = 0, slot = 0;
    if (equal_) {
      h = hash(n, in);
      if (twins_.size() < 2 * (ir_.nodes.size() + 1)) grow();
      for (slot = h & (twins_.size() - 1); twins_[slot] != kNone; slot = (slot + 1) & (twins_.size() - 1))
        if (hashes_[twins_[slot]] == h && same(ir_.nodes[twins_[slot]], n, in)) {
          ++p_.stats.merged;
          for (Id k = 0; k < n.n_out; ++k) out[k] = ir_.nodes[twins_[slot]].out + k;
          return;
        }
      twins_[slot] = Id(ir_.nodes.size());
      hashes_.push_back(h);
    }
    const INode& made = ir_.add(n, in);
    for (Id k = 0; k < n.n_out; ++k) out[k] = made.out + k;
    ir_.types.insert(ir_.types.end(), types.begin(), types.end());
  }

  bool native(const INode& n, std::span<const Id> in, std::span<const TensorType> out) {
    types_.clear();
    for (Id v : in) types_.push_back(ir_.types[v]);
    return p_.backend->native(*n.op, types_, out);
  }

  void inline_body(const INode& n, std::span<const Id> in, std::span<Id> out) {
    Graph scratch;
    std::vector<Var> vars;
    for (size_t i = 0; i < in.size(); ++i)
      vars.push_back(scratch.input(std::to_string(i), ir_.types[in[i]].shape, ir_.types[in[i]].dtype));
    NodeId begin = NodeId(scratch.node_count());
    std::vector<Var> results = n.op->body(vars, *n.attrs);
    std::vector<Id> value(scratch.value_count(), kNone);
    for (size_t i = 0; i < in.size(); ++i) value[vars[i].id()] = in[i];
    for (NodeId id = begin; id < scratch.node_count(); ++id) {
      const Node& inner = scratch.node(id);
      p_.attrs.push_back(scratch.attrs(inner));
      INode m{.op = inner.op,
              .attrs = &p_.attrs.back(),
              .n_out = inner.out_count,
              .where = Id(p_.wheres.size()),
              .recompute = n.recompute};
      p_.wheres.push_back(
          {inner.op, p_.wheres[n.where].at, p_.wheres[n.where].scope, n.where, p_.wheres[n.where].pass});
      if (inner.op->traits.leaf) {  // a constant of the body
        const Tensor& t = m.attrs->tensor("tensor");
        m.leaf = Id(p_.leaves.size());
        p_.leaves.push_back({.kind = Leaf::constant,
                             .type = scratch.type(inner.out_begin),
                             .small = t.contiguous_tensor(),
                             .strides = contiguous_strides(t.shape())});
      }
      std::vector<Id> operands;
      for (ValueId v : scratch.inputs(inner)) operands.push_back(value[v]);
      std::vector<TensorType> types;
      for (uint32_t k = 0; k < inner.out_count; ++k) types.push_back(scratch.type(inner.out_begin + k));
      place(m, operands, types, {value.data() + inner.out_begin, inner.out_count});
    }
    for (size_t k = 0; k < out.size(); ++k) out[k] = value[results[k].id()];
  }

  size_t hash(const INode& n, std::span<const Id> in) const {
    size_t h = std::hash<const void*>()(n.op);
    if (n.leaf != kNone) {
      const Leaf& l = p_.leaves[n.leaf];
      if (!l.small.defined()) return mix(mix(mix(h, l.owner), size_t(l.offset)), std::hash<std::string>()(l.name));
      return mix(h, std::hash<std::string_view>()({static_cast<const char*>(l.small.raw()), l.small.nbytes()}));
    }
    for (Id v : in) h = mix(h, v);
    return n.attrs->list().empty() ? h : mix(h, n.attrs->hash());
  }

  bool same(const INode& a, const INode& b, std::span<const Id> in) const {
    if (a.op->traits.effect || a.op != b.op || a.n_in != b.n_in || a.n_out != b.n_out) return false;
    if (a.leaf != kNone) return same_leaf(p_.leaves[a.leaf], p_.leaves[b.leaf]);
    auto have = ir_.in(a);
    return std::equal(have.begin(), have.end(), in.begin(), in.end()) && *a.attrs == *b.attrs;
  }

  static bool same_leaf(const Leaf& a, const Leaf& b) {
    if (a.kind != b.kind || !(a.type == b.type)) return false;
    if (a.kind == Leaf::input || a.kind == Leaf::scalar) return a.name == b.name;
    if (a.kind == Leaf::retained) return a.slot == b.slot;
    if (a.small.defined() && b.small.defined()) return bitwise_equal(a.small, b.small);
    return a.bound() && a.owner == b.owner && a.offset == b.offset && a.strides == b.strides;
  }

  void grow() {
    twins_.assign(twins_.empty() ? 64 : twins_.size() * 2, kNone);
    for (Id i = 0; i < hashes_.size(); ++i) {
      size_t slot = hashes_[i] & (twins_.size() - 1);
      while (twins_[slot] != kNone) slot = (slot + 1) & (twins_.size() - 1);
      twins_[slot] = i;
    }
  }

  Program& p_;
  const bool equal_;
  Ir ir_;
  Id last_effect_ = kNone;  // effects keep the order of recording
  std::vector<TensorType> types_;
  std::vector<Id> twins_;       // open addressing: node numbers
  std::vector<size_t> hashes_;  // by node
};

}  // namespace

Ir without_dead(const Ir& ir, std::vector<Id>* map) {
  std::vector<char> live(ir.nodes.size());
  for (Id v : ir.outputs) live[ir.producer[v]] = 1;
  for (size_t i = 0; i < ir.nodes.size(); ++i) live[i] |= char(ir.nodes[i].op->traits.effect);
  for (size_t i = ir.nodes.size(); i-- > 0;)
    if (live[i])
      for (Id v : ir.in(ir.nodes[i])) live[ir.producer[v]] = 1;
  Ir r;
  std::vector<Id> value(ir.producer.size(), kNone), in;
  for (size_t i = 0; i < ir.nodes.size(); ++i) {
    if (!live[i]) continue;
    INode n = ir.nodes[i];
    in.clear();
    for (Id v : ir.in(n)) in.push_back(value[v]);
    if (n.after != kNone) n.after = live[n.after] ? r.producer[value[ir.nodes[n.after].out]] : kNone;
    for (Id k = 0; k < n.n_out; ++k) {
      value[n.out + k] = Id(r.producer.size()) + k;
      r.types.push_back(ir.types[n.out + k]);
    }
    r.add(n, in);
  }
  for (Id v : ir.outputs) r.outputs.push_back(value[v]);
  for (Id& v : *map)
    if (v != kNone) v = value[v];
  return r;
}

Ir merge(Program& program, bool merge_equal, std::vector<Id>* value) { return Merger(program, merge_equal).run(value); }

}  // namespace whence::planner
