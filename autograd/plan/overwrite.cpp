// States that take their next value in the place of the one that the program reads (an optimiser's new weight over the
// old one): every other reader of those bytes runs before the step that writes, and that step itself may only read what
// it overwrites element by element.
#include <algorithm>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

// Bytes of the leaf that a value shows: [begin, end) from the leaf's first byte.
std::pair<int64_t, int64_t> bytes_shown(const Lowered& low, Id value) {
  View v = low.view(value);
  int64_t last = 0;
  for (int a = 0; a < v.shape.rank(); ++a) last += (v.shape[a] - 1) * v.strides[a];
  int64_t begin = low.offset(value);
  return {begin, v.numel() ? begin + (last + 1) * int64_t(size_of(v.dtype)) : begin};
}

std::vector<TensorType> types_of(const Ir& ir, std::span<const Id> values) {
  std::vector<TensorType> types;
  for (Id v : values) types.push_back(ir.types[v]);
  return types;
}

bool reads(const Lowered& low, const Overwrite& o, Id value) {
  if (low.place[value].root != o.leaf) return false;
  auto [begin, end] = bytes_shown(low, value);
  return begin < o.end && o.begin < end;
}

}  // namespace

std::vector<Overwrite> find_overwrites(const Lowered& low, const Program& p) {
  std::vector<Overwrite> found;
  std::vector<Id> owner_value(p.leaves.size(), kNone);  // by owner: the value that stands for its memory
  for (const INode& n : low.ir.nodes)
    if (n.leaf != kNone && p.leaves[n.leaf].bound()) owner_value[p.leaves[n.leaf].owner] = n.out;
  for (size_t k = 0; k < p.outputs.size(); ++k) {
    if (p.outputs[k].state == kNone) continue;
    const Leaf& l = p.leaves[p.outputs[k].state];
    Id value = owner_value[l.owner];
    if (value == kNone) continue;  // nobody reads it
    int64_t begin = l.offset - p.leaves[low.ir.nodes[low.ir.producer[value]].leaf].offset;
    found.push_back(
        {Id(k), low.output_root[k], value, begin, begin + l.type.shape.numel() * int64_t(size_of(l.type.dtype))});
  }
  return found;
}

bool waits_for(const Lowered& low, const Overwrite& o, const INode& reader) {
  auto in = low.ir.in(reader);
  return std::any_of(in.begin(), in.end(), [&](Id v) { return reads(low, o, v); });
}

bool may_overwrite(const Lowered& low, const Program& p, const Overwrite& o, std::span<const Id> writer) {
  const Ir& ir = low.ir;
  const TensorType& type = ir.types[o.root];
  bool written = false;
  for (Id m : writer) {
    const INode& n = ir.nodes[m];
    for (Id k = 0; k < n.n_in; ++k) {
      Id v = ir.in(n)[k];
      if (!reads(low, o, v)) continue;
      // Element by element, and no later than the write; or by a kernel that says so.
      bool same_place = low.offset(v) == o.begin && low.view(v).contiguous() && ir.types[v].dtype == type.dtype &&
                        ir.types[v].shape.numel() == type.shape.numel();
      const Kernel* kernel = n.tile || is_copy(n.op)
                                 ? nullptr
                                 : p.backend->native(*n.op, types_of(ir, ir.in(n)), {ir.types.data() + n.out, n.n_out});
      if (written || !same_place || (kernel && kernel->in_place != int(k))) return false;
    }
    if (n.out == o.root) written = true;
  }
  return true;
}

}  // namespace whence::planner
