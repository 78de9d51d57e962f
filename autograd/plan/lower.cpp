// Second pass: layout ops become places in their base's memory, kernels that want row-major operands get copies, and
// every output gets a root of its own.
#include <fmt/format.h>

#include <set>

#include "autograd/plan/planner.h"

namespace whence::planner {

static std::byte* const kPretend = reinterpret_cast<std::byte*>(uintptr_t(1) << 40);

const OpDef& copy_op() {
  static const OpDef op = [] {
    OpDef d{.doc = "row-major copy", .operands = {"x"}, .loop = "copy", .traits = {.elementwise = true}};
    d.name = "copy";
    d.cpu = {[](const KernelCall& k) { copy(k.in[0], k.out[0]); }, {.floats = kAllFloats, .strided = true}};
    return d;
  }();
  return op;
}
bool is_copy(const OpDef* op) { return op == &copy_op(); }

View Lowered::view(Id v) const {
  const TensorType& t = ir.types[v];
  const Layout* l = whole(v) ? nullptr : &layouts[place[v].layout];
  return {kPretend + (l ? l->offset : 0), t.dtype, t.shape, l ? l->strides : contiguous_strides(t.shape)};
}

int64_t row_length(const INode& n, const Ir& ir) {
  if (!n.op->row_loop || !n.op->row_loop(*n.attrs)) return 0;
  const TensorType &out = ir.types[n.out], &second = ir.types[ir.in(n)[1]];
  if (out.shape.rank() == 0 || second.shape.rank() == 0 || out.dtype != second.dtype) return 0;
  if (second.shape[-1] != out.shape[-1] || out.shape[-1] > kMaxTile) return 0;
  return second.shape.rank() > 1 ? out.shape[-1] : 1;  // a vector is a batch of scalars
}

namespace {

bool has_loop(const INode& n, const Ir& ir) {
  const LoopProvider& p = loop_provider();
  auto in = ir.in(n);
  DType from = ir.types[in[0]].dtype, to = ir.types[n.out].dtype;
  if (n.n_out != 1 || !p.unary) return false;
  if (row_length(n, ir)) return p.rows(n.op->loop, from) != nullptr;
  if (!n.op->traits.elementwise) return false;
  if (n.op->loop == "cast") return true;
  if (in.size() == 1) return p.unary(n.op->loop, from) != nullptr;
  if (in.size() == 2) return ir.types[in[1]].dtype == from && p.binary(n.op->loop, from) != nullptr;
  return in.size() == 3 && n.op->loop == "where" && p.where(int(size_of(to))) != nullptr;
}

class Lowering {
 public:
  Lowering(const Ir& from, const Program& p, const std::vector<char>& deferred)
      : from_(from), p_(p), fuse_(p.options.fuse), deferred_(deferred) {}

  Lowered run() {
    value_.assign(from_.producer.size(), kNone);
    std::vector<Id> in;
    for (const INode& n : from_.nodes) {
      in.clear();
      for (Id v : from_.in(n)) in.push_back(value_[v]);
      if (n.op->traits.leaf) leaf(n);
      else if (!n.op->view || !as_view(n, in)) compute(n, in);
    }
    if (!missing_.empty()) {
      std::string text = "no cpu kernel for:";
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
      copies_.push_back(kNone);
    }
    return made.out;
  }
  void map(const INode& n, Id first) {
    for (Id k = 0; k < n.n_out; ++k) value_[n.out + k] = first + k;
  }
  std::span<const TensorType> types(const INode& n) const { return {from_.types.data() + n.out, n.n_out}; }

  void leaf(const INode& n) {
    Id v = new_node(n, {}, types(n));
    const Leaf& l = p_.leaves[n.leaf];
    View have{nullptr, l.type.dtype, l.type.shape, l.strides};
    if (l.kind == Leaf::retained || !have.contiguous()) set_layout(v, v, {0, l.strides});
    map(n, v);
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
      if (kernel_of(*n.op, Device::Kind::cpu)) return false;
      in[0] = row_major(in[0]);
      if (!n.op->view(low_.view(in[0]), *n.attrs, alias)) return false;
    }
    Id v = Id(low_.ir.types.size());
    low_.ir.types.push_back(from_.types[n.out]);
    low_.ir.producer.push_back(low_.ir.producer[in[0]]);
    low_.place.push_back({});
    copies_.push_back(kNone);
    set_layout(v, low_.place[in[0]].root, {static_cast<std::byte*>(alias.data) - kPretend, alias.strides});
    ++low_.views;
    map(n, v);
    return true;
  }

  void compute(INode n, std::span<Id> in) {
    n.tile = !in.empty() && has_loop(n, from_);
    if (n.after != kNone) n.after = low_.ir.producer[value_[from_.nodes[n.after].out]];
    const Kernel* kernel = kernel_of(*n.op, Device::Kind::cpu);
    if (!n.tile && !kernel) missing_.insert(fmt::format("{} {}", p_.describe(n.where), from_.types[n.out].str()));
    if (n.tile && !fuse_ && kernel && !is_copy(n.op)) n.tile = false;
    if (!n.tile && kernel && !kernel->strided)
      for (Id& v : in) v = row_major(v);
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
      if (leaf || !low_.whole(v) || taken[root] || deferred_[k]) {
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
  std::vector<Id> value_;   // merged value -> lowered value
  std::vector<Id> copies_;  // lowered value -> its row-major copy
  std::set<std::string> missing_;
};

}  // namespace

Lowered lower(const Ir& ir, const Program& program, const std::vector<char>& deferred) {
  return Lowering(ir, program, deferred).run();
}

}  // namespace whence::planner
