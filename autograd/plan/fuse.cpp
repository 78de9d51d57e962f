// Third pass: elementwise nodes that can run in one loop over the elements form a group.
//
// Levels keep groups free of cycles. Along an edge between two fusable nodes of one iteration the level may stay equal;
// across any edge that has to go through memory it rises. So whatever leaves a group and comes back would come back at
// a higher level, and all nodes of one level that are joined by such edges can run together. A node whose operands are
// ready early but whose only readers are late may wait for them (that saves a store and a load), when that keeps no
// more memory alive.
#include <algorithm>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

constexpr Id kMaxGroup = 256;  // nodes; keeps the operand table of a tile small
constexpr Id kNear = 32;       // siblings this close in recording order share the load of an operand

class Fusion {
 public:
  explicit Fusion(const Lowered& low) : low_(low), ir_(low.ir), n_(ir_.nodes.size()) {}

  std::vector<Id> run() {
    early();
    late();
    std::vector<Id> group(n_);
    for (Id i = 0; i < n_; ++i) group[i] = i;
    join(group);
    cut(group);
    return group;
  }

 private:
  Id source(Id value) const { return ir_.producer[low_.place[value].root]; }
  int64_t numel(Id node) const { return ir_.types[ir_.nodes[node].out].shape.numel(); }
  // The operand is element i of the same iteration.
  bool flat(Id value, Id reader) const { return low_.whole(value) && ir_.types[value].shape.numel() == numel(reader); }
  bool fusable(Id value, Id reader) const {
    return ir_.nodes[source(value)].tile && ir_.nodes[reader].tile && flat(value, reader);
  }
  bool leaf(Id node) const { return ir_.nodes[node].leaf != kNone; }
  // How much the level has to rise from the producer of `value` to `reader`.
  Id rise(Id value, Id reader) const {
    if (leaf(source(value))) return 0;
    if (!ir_.nodes[reader].tile) return 1;
    return ir_.nodes[source(value)].tile && !flat(value, reader) ? 1 : 0;
  }

  void early() {
    level_.assign(n_, 0);
    for (Id i = 0; i < n_; ++i) {
      if (Id a = ir_.nodes[i].after; a != kNone) level_[i] = level_[a] + 1;
      for (Id v : ir_.in(ir_.nodes[i])) level_[i] = std::max(level_[i], level_[source(v)] + rise(v, i));
    }
  }

  void late() {
    std::vector<Id> bound(n_, kNone), readers(ir_.producer.size());
    std::vector<char> joins(n_);  // some reader at the bound is fusable
    for (Id i = 0; i < n_; ++i)
      for (Id v : ir_.in(ir_.nodes[i])) ++readers[low_.place[v].root];
    for (Id v : low_.output_root) ++readers[v];
    for (Id i = Id(n_); i-- > 0;) {
      const INode& n = ir_.nodes[i];
      if (n.tile && bound[i] != kNone && bound[i] > level_[i] && joins[i]) {
        size_t freed = 0;  // bytes that running early would free
        for (Id v : ir_.in(n)) {
          Id root = low_.place[v].root;
          if (!leaf(ir_.producer[root]) && readers[root] == 1) freed += bytes(root);
        }
        if (freed <= bytes(n.out)) level_[i] = bound[i];
      }
      if (n.after != kNone) {
        bound[n.after] = std::min(bound[n.after], level_[i] - 1);
        joins[n.after] = 0;
      }
      for (Id v : ir_.in(n)) {
        Id p = source(v), at = level_[i] - rise(v, i);
        if (bound[p] == kNone || at < bound[p]) {
          bound[p] = at;
          joins[p] = fusable(v, i);
        } else if (at == bound[p]) {
          joins[p] |= char(fusable(v, i));
        }
      }
    }
  }
  size_t bytes(Id value) const { return size_t(ir_.types[value].shape.numel()) * size_of(ir_.types[value].dtype); }

  static Id find(std::vector<Id>& group, Id i) {
    while (group[i] != i) i = group[i] = group[group[i]];
    return i;
  }
  static void unite(std::vector<Id>& group, Id a, Id b) {
    a = find(group, a);
    b = find(group, b);
    group[std::max(a, b)] = std::min(a, b);
  }

  void join(std::vector<Id>& group) {
    std::vector<Id> sibling(ir_.producer.size(),
                            kNone);  // by root: the last fused node that read it element by element
    for (Id i = 0; i < n_; ++i) {
      if (!ir_.nodes[i].tile) continue;
      for (Id v : ir_.in(ir_.nodes[i])) {
        Id p = source(v);
        if (fusable(v, i) && level_[p] == level_[i]) unite(group, p, i);
        if (leaf(p) || !flat(v, i) || numel(i) < 2) continue;
        Id& s = sibling[low_.place[v].root];
        if (s != kNone && level_[s] == level_[i] && i - s < kNear) unite(group, s, i);
        s = i;
      }
    }
  }

  // Long groups are cut in recording order: edges between the parts go forward only.
  void cut(std::vector<Id>& group) {
    std::vector<Id> head(n_, kNone), count(n_);
    for (Id i = 0; i < n_; ++i) {
      Id g = find(group, i);
      if (head[g] == kNone || count[g] == kMaxGroup) {
        head[g] = i;
        count[g] = 0;
      }
      ++count[g];
      result_.push_back(head[g]);
    }
    group = std::move(result_);
  }

  const Lowered& low_;
  const Ir& ir_;
  const size_t n_;
  std::vector<Id> level_, result_;
};

}  // namespace

std::vector<Id> fuse(const Lowered& low) { return Fusion(low).run(); }

}  // namespace whence::planner
