// Fused groups in their neutral form: operands and instructions.
#include "whence/autograd/plan/group.h"

#include <algorithm>

#include "whence/autograd/plan/emit.h"

namespace whence::planner {

IndexMap collapse(const Shape& extents, const Shape& strides) {
  IndexMap m;
  for (int a = 0; a < extents.rank(); ++a) {
    if (extents[a] == 1) continue;
    size_t last = size_t(m.rank) - 1;
    if (m.rank > 0 && m.stride[last] == strides[a] * extents[a]) {
      m.extent[last] *= extents[a];
      m.stride[last] = strides[a];
    } else {
      m.extent[size_t(m.rank)] = extents[a];
      m.stride[size_t(m.rank++)] = strides[a];
    }
  }
  if (m.rank == 0) m = {.rank = 1, .extent = {1}, .stride = {0}};
  return m;
}

namespace {

class Grouping {
 public:
  Grouping(const Lowered& low, const Storage& storage) : low_(low), ir_(low.ir), storage_(storage) {}

  FusedGroup run(std::span<const Id> members) {
    group_.numel = ir_.types[ir_.nodes[members[0]].out].shape.numel();
    for (Id m : members) {
      const INode& n = ir_.nodes[m];
      GroupInstr i{.op = is_copy(n.op) ? nullptr : n.op, .attrs = n.attrs, .n_in = n.n_in};
      std::vector<TensorType> types;
      for (Id v : ir_.in(n)) types.push_back(ir_.types[v]);
      i.row = row_length(*n.op, *n.attrs, types, ir_.types[n.out]);
      for (Id k = 0; k < n.n_in; ++k) i.in[k] = source(ir_.in(n)[k], ir_.types[n.out].shape);
      i.out = target(n.out);
      group_.code.push_back(i);
    }
    return std::move(group_);
  }

 private:
  uint32_t add(const GroupOperand& o, bool written) {
    group_.operands.push_back(o);
    written_.push_back(written);
    return uint32_t(group_.operands.size() - 1);
  }

  // The operand through which an instruction over `shape` sees `value`.
  uint32_t source(Id value, const Shape& shape) {
    for (size_t m = made_.size(); m-- > 0 && low_.whole(value);)
      if (made_[m].first == low_.place[value].root) return made_[m].second;
    View v = low_.view(value);
    GroupOperand o{.dtype = ir_.types[value].dtype,
                   .at = storage_.at(value),
                   .map = collapse(shape, broadcast_strides(v.shape, v.strides, shape))};
    for (uint32_t k = 0; k < group_.operands.size(); ++k) {
      const GroupOperand& have = group_.operands[k];
      if (!written_[k] && have.dtype == o.dtype && have.at == o.at && have.map == o.map) return k;
    }
    return add(o, false);
  }

  uint32_t target(Id value) {
    GroupOperand o{.dtype = ir_.types[value].dtype, .local = !storage_.in_memory(value)};
    if (!o.local) {
      o.at = storage_.at(value);
      o.map = {.rank = 1, .extent = {group_.numel}, .stride = {1}};
    }
    uint32_t k = add(o, true);
    made_.emplace_back(value, k);
    return k;
  }

  const Lowered& low_;
  const Ir& ir_;
  const Storage& storage_;
  FusedGroup group_;
  std::vector<std::pair<Id, uint32_t>> made_;  // values of the group -> operand
  std::vector<char> written_;                  // by operand: by this group
};

}  // namespace

FusedGroup make_group(const Lowered& low, const Storage& storage, std::span<const Id> members) {
  return Grouping(low, storage).run(members);
}

}  // namespace whence::planner
