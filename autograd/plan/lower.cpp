// Second pass: layout ops become places in their base's memory, kernels that want row-major operands get copies, and
// every output gets a root of its own.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

// Where every root pretends to lie while views are laid out. An integer: a difference of pointers into no object means
// nothing, and GCC 12 made use of that at -O1 and -O2.
static constexpr uintptr_t kPretend = uintptr_t(1) << 40;

const OpDef& copy_op() {
  static const OpDef op = [] {
    OpDef d{.doc = "row-major copy", .operands = {"x"}};
    d.name = "copy";
    d.cpu = {[](const KernelCall& k) { copy(k.in[0], k.out[0]); }, {.floats = kAllFloats, .strided = true}};
    return d;
  }();
  return op;
}
bool is_copy(const OpDef* op) { return op == &copy_op(); }
bool is_pack(const OpDef* op) {
  static const OpDef* pack = find_op("pack");
  return op == pack;
}

View Lowered::view(Id v) const {
  const TensorType& t = ir.types[v];
  const Layout* l = whole(v) ? nullptr : &layouts[place[v].layout];
  return {reinterpret_cast<void*>(kPretend + uintptr_t(l ? l->offset : 0)), t.dtype, t.shape,
          l ? l->strides : contiguous_strides(t.shape)};
}

int64_t row_length(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in, const TensorType& out) {
  if (!op.scalar.whole_rows || !op.scalar.whole_rows(attrs)) return 0;
  const TensorType& second = in[1];
  if (out.shape.rank() == 0 || second.shape.rank() == 0 || out.dtype != second.dtype) return 0;
  if (second.shape[-1] != out.shape[-1]) return 0;
  return second.shape.rank() > 1 ? out.shape[-1] : 1;  // a vector is a batch of scalars
}

namespace {

class Lowering {
 public:
  Lowering(const Ir& from, const Program& p, const std::vector<char>& deferred)
      : from_(from), p_(p), fuse_(p.options.fuse), deferred_(deferred) {}

  Lowered run() {
    value_.assign(from_.producer.size(), kNone);
    owner_value_.assign(p_.leaves.size(), kNone);
    for (const INode& n : from_.nodes)  // owners first: others are windows on their memory
      if (n.op->traits.leaf && (!p_.leaves[n.leaf].bound() || p_.leaves[n.leaf].owner == n.leaf)) leaf(n);
    for (const INode& n : from_.nodes)
      if (n.op->traits.leaf && value_[n.out] == kNone) leaf(n);
    std::vector<Id> in;
    for (const INode& n : from_.nodes) {
      if (n.op->traits.leaf) continue;
      in.clear();
      for (Id v : from_.in(n)) in.push_back(value_[v]);
      if (is_pack(n.op)) pack(n, in);
      else if (!n.op->view || !as_view(n, in)) compute(n, in);
    }
    if (!missing_.empty()) {
      std::string text = "no kernel for:";
      for (const std::string& m : missing_) text += "\n  " + m;
      throw MissingKernel(text);
    }
    outputs();
    low_.value = std::move(value_);
    return std::move(low_);
  }

 private:
  Id new_node(INode n, std::span<const Id> in, std::span<const TensorType> types) {
    const INode& made = low_.ir.add(n, in);
    for (Id k = 0; k < n.n_out; ++k) {
      low_.ir.types.push_back(types[k]);
      low_.place.push_back({made.out + k, kNone});
      low_.inside.push_back({});
      copies_.push_back(kNone);
    }
    return made.out;
  }
  void map(const INode& n, Id first) {
    for (Id k = 0; k < n.n_out; ++k) value_[n.out + k] = first + k;
  }
  std::span<const TensorType> operand_types(const INode& n) {
    operand_types_.clear();
    for (Id v : from_.in(n)) operand_types_.push_back(from_.types[v]);
    return operand_types_;
  }
  const Kernel* native(const INode& n) { return p_.backend->native(*n.op, operand_types(n), types(n)); }
  std::span<const TensorType> types(const INode& n) const { return {from_.types.data() + n.out, n.n_out}; }

  void leaf(const INode& n) {
    const Leaf& l = p_.leaves[n.leaf];
    if (l.bound() && owner_value_[l.owner] != kNone) {  // a window on memory that is there already
      Id root = owner_value_[l.owner], v = new_value(root, from_.types[n.out]);
      const Leaf& has = p_.leaves[low_.ir.nodes[low_.ir.producer[root]].leaf];
      set_layout(v, root, {l.offset - has.offset, l.strides});
      return map(n, v);
    }
    Id v = new_node(n, {}, types(n));
    if (l.bound()) owner_value_[l.owner] = v;
    View have{nullptr, l.type.dtype, l.type.shape, l.strides};
    if (l.kind == Leaf::retained || !have.contiguous()) set_layout(v, v, {0, l.strides});
    map(n, v);
  }

  // A value without a node of its own, somewhere in the memory of `root`.
  Id new_value(Id root, const TensorType& type) {
    low_.ir.types.push_back(type);
    low_.ir.producer.push_back(low_.ir.producer[root]);
    low_.place.push_back({root, kNone});
    low_.inside.push_back({});
    copies_.push_back(kNone);
    return Id(low_.ir.types.size() - 1);
  }

  void set_layout(Id v, Id root, Layout l) {
    View w{nullptr, low_.ir.types[v].dtype, low_.ir.types[v].shape, l.strides};
    bool whole = l.offset == 0 && w.contiguous() && w.numel() == low_.ir.types[root].shape.numel() && low_.whole(root);
    low_.place[v] = {root, kNone};
    if (whole) return;
    low_.place[v].layout = Id(low_.layouts.size());
    low_.layouts.push_back(std::move(l));
  }

  // A value without a node: it lives where its base lives.
  bool as_view(const INode& n, std::span<Id> in) {
    View alias;
    if (!n.op->view(low_.view(in[0]), *n.attrs, alias)) {
      if (native(n)) return false;
      in[0] = row_major(in[0]);
      if (!n.op->view(low_.view(in[0]), *n.attrs, alias)) return false;
    }
    Id v = new_value(low_.place[in[0]].root, from_.types[n.out]);
    set_layout(v, low_.place[in[0]].root, {int64_t(reinterpret_cast<uintptr_t>(alias.data) - kPretend), alias.strides});
    ++low_.views;
    map(n, v);
    return true;
  }

  // The operands are computed inside the result, one behind the other; what cannot be is copied there.
  void pack(INode n, std::span<Id> in) {
    std::vector<Id> whole;
    for (Id v : in) {
      Id root = low_.place[v].root;
      const INode& from = low_.ir.nodes[low_.ir.producer[root]];
      bool moves = low_.whole(v) && from.leaf == kNone && low_.inside[root].pack == kNone && !is_pack(from.op) &&
                   std::find(whole.begin(), whole.end(), root) == whole.end();
      whole.push_back(moves ? root : copy_of(v));
    }
    n.after = kNone;
    Id packed = new_node(n, whole, types(n));
    int64_t at = 0;
    for (Id root : whole) {
      low_.inside[root] = {packed, at};
      at += low_.ir.types[root].shape.numel() * int64_t(size_of(low_.ir.types[root].dtype));
    }
    map(n, packed);
  }

  void compute(INode n, std::span<Id> in) {
    n.tile = n.n_out == 1 && !in.empty() && p_.backend->fusable(*n.op, *n.attrs, operand_types(n), from_.types[n.out]);
    if (n.after != kNone) n.after = low_.ir.producer[value_[from_.nodes[n.after].out]];
    const Kernel* kernel = native(n);
    if (!n.tile && !kernel) missing_.insert(fmt::format("{} {}", p_.describe(n.where), from_.types[n.out].str()));
    if (n.tile && !fuse_ && kernel && !is_copy(n.op)) n.tile = false;
    for (size_t i = 0; i < in.size() && !n.tile && kernel; ++i)
      if (!kernel->takes(int(i), low_.view(in[i]))) in[i] = row_major(in[i]);
    map(n, new_node(n, in, types(n)));
  }

  Id row_major(Id v) {
    if (low_.view(v).contiguous()) return v;
    if (copies_[v] == kNone) copies_[v] = copy_of(v);
    return copies_[v];
  }
  Id copy_of(Id v) {
    static const Attrs none;
    ++low_.copies;
    TensorType type = low_.ir.types[v];
    INode n{
        .op = &copy_op(), .attrs = &none, .n_out = 1, .where = low_.ir.nodes[low_.ir.producer[v]].where, .tile = true};
    Id c = new_node(n, {&v, 1}, {&type, 1});
    return c;
  }

  // Results are values: no two share memory, none is a leaf.
  void outputs() {
    std::vector<char> taken(low_.ir.types.size() + from_.outputs.size());
    for (size_t k = 0; k < from_.outputs.size(); ++k) {
      Id v = value_[from_.outputs[k]];
      Id root = low_.place[v].root;
      bool leaf = low_.ir.nodes[low_.ir.producer[root]].leaf != kNone;
      if (leaf && deferred_[k]) v = root = copy_of(v);  // out of the way before anything is overwritten
      if (leaf || !low_.whole(v) || taken[root] || low_.inside[root].pack != kNone || deferred_[k]) {
        v = copy_of(v);
        low_.ir.nodes.back().tile = !deferred_[k];  // a step of its own, that can wait until the end
        root = v;
      }
      if (root >= taken.size()) taken.resize(root + 1);
      taken[root] = 1;
      low_.ir.outputs.push_back(v);
      low_.output_root.push_back(root);
    }
  }

  const Ir& from_;
  const Program& p_;
  const bool fuse_;
  const std::vector<char>& deferred_;
  Lowered low_;
  std::vector<Id> owner_value_;  // by leaf that owns memory: the lowered value that stands for it
  std::vector<Id> value_;        // merged value -> lowered value
  std::vector<Id> copies_;       // lowered value -> its row-major copy
  std::vector<TensorType> operand_types_;
  std::set<std::string> missing_;
};

}  // namespace

Lowered lower(const Ir& ir, const Program& program, const std::vector<char>& deferred) {
  return Lowering(ir, program, deferred).run();
}

}  // namespace whence::planner
