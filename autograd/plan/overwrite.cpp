// Outputs that are bound to memory which the program also reads (an optimiser's new weight over the old one): every
// other reader has to run before the step that writes, and that step itself may only read what it overwrites element by
// element.
#include <algorithm>

#include "autograd/plan/planner.h"

namespace whence::planner {

namespace {

struct Range {
  const std::byte *begin, *end;
  bool meets(const Range& o) const { return begin < o.end && o.begin < end; }
};
Range range_of(const void* raw, const TensorType& t, const Shape& strides) {
  int64_t last = 0;
  for (int a = 0; a < t.shape.rank(); ++a) last += (t.shape[a] - 1) * strides[a];
  auto begin = static_cast<const std::byte*>(raw);
  return {begin, t.shape.numel() ? begin + (last + 1) * int64_t(size_of(t.dtype)) : begin};
}

// The group computes the output from the same elements of the leaf, and reads them no later than it writes.
bool element_by_element(const Lowered& low, std::span<const Id> members, Id leaf, Id output) {
  const Ir& ir = low.ir;
  bool written = false;
  for (Id m : members) {
    const INode& n = ir.nodes[m];
    for (Id v : ir.in(n)) {
      if (low.place[v].root != leaf) continue;
      if (written || !(n.tile || is_copy(n.op)) || !low.whole(v) ||
          ir.types[v].shape.numel() != ir.types[output].shape.numel() || ir.types[v].dtype != ir.types[output].dtype)
        return false;
    }
    if (n.out == output) written = true;
  }
  return true;
}

}  // namespace

std::vector<Overwrite> find_overwrites(const Lowered& low, const Program& p) {
  std::vector<Overwrite> found;
  for (auto& [k, raw] : p.options.bind) {
    Id root = low.output_root[k];
    const TensorType& t = low.ir.types[root];
    Range place = range_of(raw, t, contiguous_strides(t.shape));
    for (const INode& n : low.ir.nodes) {
      if (n.leaf == kNone) continue;
      const Leaf& l = p.leaves[n.leaf];
      if (l.raw && place.meets(range_of(l.raw, l.type, l.strides))) found.push_back({k, root, n.out, l.raw == raw});
    }
  }
  return found;
}

bool may_overwrite(const Lowered& low, const Overwrite& o, std::span<const Id> writer) {
  if (o.same_start && element_by_element(low, writer, o.leaf, o.root)) return true;
  for (Id m : writer)
    for (Id v : low.ir.in(low.ir.nodes[m]))
      if (low.place[v].root == o.leaf) return false;
  return true;
}

}  // namespace whence::planner
