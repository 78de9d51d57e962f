// Which forward values to drop. Checkpoints say so themselves. Under a memory budget the forward pass is cut into
// segments: what crosses a cut is kept, what lies between is dropped. Cheap values go first (costly kernels keep their
// results), then all; the first choice whose arena fits is taken.
#include <fmt/format.h>

#include <algorithm>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

class Chooser {
 public:
  Chooser(const Ir& ir, const std::vector<char>& late) : ir_(ir), late_(late) {
    const size_t n = ir.producer.size();
    root_.resize(n);
    last_early_.assign(n, 0);
    read_late_.assign(n, 0);
    for (Id i = 0; i < ir.nodes.size(); ++i) {
      const INode& node = ir.nodes[i];
      for (Id k = 0; k < node.n_out; ++k) root_[node.out + k] = node.op->view ? root_[ir.in(node)[0]] : node.out + k;
      for (Id v : ir.in(node)) {
        if (late[i]) read_late_[root_[v]] = 1;
        else last_early_[root_[v]] = i;
      }
    }
  }

  // Bytes that dropping everything allowed would free.
  size_t droppable(bool all) const {
    size_t sum = 0;
    for (Id i = 0; i < ir_.nodes.size(); ++i)
      if (may_drop(i, all)) sum += bytes(i);
    return sum;
  }

  // Drops values between cuts; a cut comes whenever `segment` bytes have been dropped.
  std::vector<char> drop(bool all, size_t segment) const {
    std::vector<char> dropped(ir_.nodes.size());
    std::vector<Id> open;  // dropped since the last cut
    size_t sum = 0;
    for (Id i = 0; i < ir_.nodes.size(); ++i) {
      const INode& n = ir_.nodes[i];
      if (n.op->view && !late_[i]) dropped[i] = dropped[ir_.producer[ir_.in(n)[0]]];
      if (!may_drop(i, all)) continue;
      dropped[i] = 1;
      open.push_back(i);
      if ((sum += bytes(i)) <= segment) continue;
      for (Id d : open)
        for (Id v = ir_.nodes[d].out; v < ir_.nodes[d].out + ir_.nodes[d].n_out; ++v)
          if (last_early_[v] > i || d == i) dropped[d] = 0;
      open.clear();
      sum = 0;
    }
    for (Id v : ir_.outputs) dropped[ir_.producer[root_[v]]] = 0;
    for (Id i = 0; i < ir_.nodes.size(); ++i)
      if (ir_.nodes[i].op->view) dropped[i] = !late_[i] && dropped[ir_.producer[ir_.in(ir_.nodes[i])[0]]];
    return dropped;
  }

 private:
  bool may_drop(Id i, bool all) const {
    const INode& n = ir_.nodes[i];
    return n.leaf == kNone && !late_[i] && !n.op->view && (all || !n.op->traits.compute_bound);
  }
  size_t bytes(Id i) const {
    size_t sum = 0;
    for (Id v = ir_.nodes[i].out; v < ir_.nodes[i].out + ir_.nodes[i].n_out; ++v)
      if (read_late_[v]) sum += size_t(ir_.types[v].shape.numel()) * size_of(ir_.types[v].dtype);
    return sum;
  }

  const Ir& ir_;
  const std::vector<char>& late_;
  std::vector<Id> root_, last_early_;
  std::vector<char> read_late_;
};

}  // namespace

void fit_budget(Program& p, const Ir& ir, const std::vector<Id>& key_value) {
  std::vector<char> late = late_nodes(ir, p), marked(ir.nodes.size());
  bool any = false;
  for (Id i = 0; i < ir.nodes.size(); ++i) any |= marked[i] = ir.nodes[i].recompute && !late[i];
  for (Id v : ir.outputs) marked[ir.producer[v]] = 0;
  auto attempt = [&](const std::vector<char>& dropped) {
    size_t count = 0;
    std::vector<Id> value = key_value;
    Ir changed = recompute(ir, late, dropped, &count, &value);
    arrange(p, changed, std::move(value));
    p.stats.recomputed = count;
    return p.arena_bytes;
  };
  size_t best = any ? attempt(marked) : (arrange(p, ir, key_value), p.arena_bytes);
  if (p.options.budget == 0 || best <= p.options.budget) return;
  Chooser chooser(ir, late);
  for (bool all : {false, true}) {
    const size_t total = chooser.droppable(all);
    if (total == 0) continue;
    for (int k = 8; k >= 0; --k) {
      std::vector<char> dropped = chooser.drop(all, k ? total >> k : total);
      for (Id i = 0; i < dropped.size(); ++i) dropped[i] |= marked[i];
      best = std::min(best, attempt(dropped));
      if (p.arena_bytes <= p.options.budget) return;
    }
  }
  throw Error(fmt::format("the memory budget of {} bytes cannot be met: the smallest arena found needs {} bytes",
                          p.options.budget, best));
}

}  // namespace whence::planner
