// Casts around kernels that do not take a dtype: operands are read, the kernel computes in f32, results are rounded
// once. Casts are nodes like others: equal ones are one, they fuse, and the arena holds them.
#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

class Caster {
 public:
  Caster(Program& p, const Ir& from) : p_(p), from_(from), value_(from.producer.size(), kNone) {}

  Ir run(std::vector<Id>* map) {
    for (const INode& n : from_.nodes) {
      types_.clear();
      for (Id v : from_.in(n)) types_.push_back(type(v));
      const Kernel* kernel = n.op->view || n.leaf != kNone
                                 ? nullptr
                                 : p_.backend->native(*n.op, types_, {from_.types.data() + n.out, n.n_out});
      auto foreign = [&](DType t) { return kernel && is_float(t) && !kernel->floats.has(t); };
      in_.clear();
      for (Id v : from_.in(n)) in_.push_back(foreign(type(v).dtype) ? wide(v, n.where) : value_[v]);
      INode copy = n;
      if (n.after != kNone) copy.after = to_.producer[value_[from_.nodes[n.after].out]];
      const Id first = to_.add(copy, in_).out;
      for (Id k = 0; k < n.n_out; ++k) {
        TensorType t = type(n.out + k);
        if (foreign(t.dtype)) t.dtype = f32;
        to_.types.push_back(t);
      }
      for (Id k = 0; k < n.n_out; ++k) {
        DType want = type(n.out + k).dtype;
        value_[n.out + k] = foreign(want) ? cast(first + k, want, n) : first + k;
      }
    }
    wide_.clear();
    for (Id v : from_.outputs) to_.outputs.push_back(value_[v]);
    for (Id& v : *map)
      if (v != kNone) v = value_[v];
    return std::move(to_);
  }

 private:
  const TensorType& type(Id v) const { return from_.types[v]; }

  Id wide(Id v, Id where) {
    if (wide_.empty()) wide_.assign(value_.size(), kNone);
    if (wide_[v] == kNone) wide_[v] = cast(value_[v], f32, {.where = where});
    return wide_[v];
  }

  Id cast(Id v, DType to, const INode& serves) {
    static const OpDef& op = op_named("cast");
    const Attrs*& attrs = attrs_[size_t(to)];
    if (!attrs) attrs = &p_.attrs.emplace_back(Attrs{{"dtype", to}});
    Shape shape = to_.types[v].shape;
    INode n{.op = &op, .attrs = attrs, .n_out = 1, .where = serves.where, .recompute = serves.recompute};
    const Id made = to_.add(n, {&v, 1}).out;
    to_.types.push_back({shape, to});
    return made;
  }

  Program& p_;
  const Ir& from_;
  Ir to_;
  std::vector<TensorType> types_;
  std::vector<Id> value_, wide_, in_;  // old value -> new value, and -> its f32 twin
  std::array<const Attrs*, 8> attrs_{};
};

}  // namespace

Ir cast_foreign(Program& p, const Ir& ir, std::vector<Id>* value) {
  bool any = false;
  for (const TensorType& t : ir.types) any |= t.dtype == bf16 || t.dtype == f16;
  return any ? Caster(p, ir).run(value) : ir;
}

}  // namespace whence::planner
