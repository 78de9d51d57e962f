// Rematerialisation: a dropped forward value is computed again just before the first late node (one that belongs to a
// sweep) that reads it, by the shortest chain from values that are kept. The same kernels run on the same operands, so
// the bits are the same.
#include <algorithm>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

std::vector<char> late_nodes(const Ir& ir, const Program& p) {
  std::vector<char> late(ir.nodes.size());
  for (Id i = 0; i < ir.nodes.size(); ++i) {
    const INode& n = ir.nodes[i];
    if (n.leaf != kNone) continue;
    late[i] = p.wheres[n.where].pass != 0;
    for (Id v : ir.in(n)) late[i] |= late[ir.producer[v]];
  }
  return late;
}

namespace {

class Recomputer {
 public:
  Recomputer(const Ir& from, const std::vector<char>& late, const std::vector<char>& dropped)
      : from_(from), late_(late), dropped_(dropped) {
    value_.assign(from.producer.size(), kNone);
    again_ = value_;
  }

  Ir run(size_t* count, std::vector<Id>* map) {
    for (Id i = 0; i < from_.nodes.size(); ++i) {
      const INode& n = from_.nodes[i];
      in_.clear();
      if (late_[i]) trigger_ = trigger(n);
      for (Id v : from_.in(n)) {
        bool again = late_[i] && dropped_[from_.producer[v]];
        if (again) recompute(from_.producer[v]);
        in_.push_back(again ? again_[v] : value_[v]);
      }
      copy(n, value_, n.after == kNone ? kNone : to_.producer[value_[from_.nodes[n.after].out]]);
      if (late_[i]) last_late_ = Id(to_.nodes.size()) - 1;
    }
    for (Id v : from_.outputs) to_.outputs.push_back(value_[v]);
    for (Id& v : *map)
      if (v != kNone) v = value_[v];
    *count = count_;
    return without_dead(to_, map);  // a value that only sweeps read was dropped before anybody used it
  }

 private:
  // Recomputation must not start before its reader is due: it waits for the reader's latest operand from a sweep.
  Id trigger(const INode& n) const {
    Id t = kNone;
    for (Id v : from_.in(n)) {
      if (!late_[from_.producer[v]]) continue;
      Id p = to_.producer[value_[v]];
      if (t == kNone || p > t) t = p;
    }
    return t == kNone ? last_late_ : t;
  }

  void copy(INode n, std::vector<Id>& map, Id after) {
    n.after = after;
    const Id old = n.out;
    const INode& made = to_.add(n, in_);
    for (Id k = 0; k < made.n_out; ++k) {
      map[old + k] = made.out + k;
      to_.types.push_back(from_.types[old + k]);
    }
  }

  void recompute(Id node) {
    std::vector<Id> saved = in_, todo{node};
    while (!todo.empty()) {
      const INode& n = from_.nodes[todo.back()];
      bool ready = again_[n.out] != kNone;
      if (!ready) {
        ready = true;
        for (Id v : from_.in(n))
          if (Id p = from_.producer[v]; dropped_[p] && again_[v] == kNone) {
            todo.push_back(p);
            ready = false;
          }
        if (!ready) continue;
        in_.clear();
        for (Id v : from_.in(n)) in_.push_back(dropped_[from_.producer[v]] ? again_[v] : value_[v]);
        copy(n, again_, trigger_);
        if (!n.op->view) ++count_;
      }
      todo.pop_back();
    }
    in_ = std::move(saved);
  }

  const Ir& from_;
  const std::vector<char>&late_, &dropped_;
  Ir to_;
  std::vector<Id> value_, again_, in_;  // old value -> new value, and -> its recomputed twin
  Id trigger_ = kNone, last_late_ = kNone;
  size_t count_ = 0;
};

}  // namespace

Ir recompute(const Ir& ir, const std::vector<char>& late, const std::vector<char>& dropped, size_t* count,
             std::vector<Id>* value) {
  return Recomputer(ir, late, dropped).run(count, value);
}

}  // namespace whence::planner
