#include "whence/autograd/plan/rewrite.h"

#include <algorithm>

namespace whence::planner {

Rewriter::Rewriter(Program& program, const Ir& from)
    : p(program),
      ir(from),
      readers_(from.producer.size()),
      reader_(from.producer.size(), kNone),
      gone_(from.nodes.size()),
      at_(from.nodes.size(), kNone),
      makes_(from.producer.size(), kNone),
      value_(from.producer.size(), kNone) {
  for (Id v : ir.edges) ++readers_[v];
  for (Id v : ir.outputs) ++readers_[v];
  for (Id i = 0; i < ir.nodes.size(); ++i)
    for (Id v : ir.in(ir.nodes[i])) reader_[v] = i;
}

const OpDef& Rewriter::op_of(Id v) const {
  return makes_[v] == kNone ? *made_by(v).op : *replacements_[makes_[v]].nodes.back().op;
}
Id Rewriter::place_of(Id v) const { return makes_[v] == kNone ? ir.producer[v] : replacements_[makes_[v]].at; }

bool Rewriter::may_go(Id value, Id root) const {
  const INode &n = made_by(value), &top = ir.nodes[root];
  const uint8_t pass = p.wheres[n.where].pass;
  return read_once(value) && n.n_out == 1 && pass == p.wheres[top.where].pass && n.recompute == top.recompute &&
         !(p.options.keep && pass == 0);  // forward values are kept for extensions
}

bool Rewriter::has_kernel(const OpDef& op, std::span<const Id> in, const TensorType& out) const {
  std::vector<TensorType> types;
  for (Id v : in) types.push_back(ir.types[v]);
  return p.backend->native(op, types, {&out, 1}) != nullptr;
}

void Rewriter::replace(Id result, Id at, std::vector<Id> gone, std::vector<NewNode> nodes) {
  for (Id node : gone) gone_[node] = 1;
  at_[at] = makes_[result] = Id(replacements_.size());
  replacements_.push_back({result, at, std::move(nodes)});
  ++p.stats.rewrites;
}

Ir Rewriter::run(std::span<const Rule> rules, std::vector<Id>* map) {
  for (Id i = 0; i < ir.nodes.size(); ++i)
    for (const Rule& rule : rules) {
      if (gone_[i] || ir.nodes[i].op->name != rule.root) continue;
      auto in = ir.in(ir.nodes[i]);
      if (std::any_of(in.begin(), in.end(), [&](Id v) { return made_by(v, rule.part); })) rule.apply(*this, rule, i);
    }
  if (replacements_.empty()) return ir;
  for (Id i = 0; i < ir.nodes.size(); ++i) {
    if (at_[i] != kNone) make(replacements_[at_[i]]);
    if (!gone_[i]) copy(ir.nodes[i]);
  }
  for (Id v : ir.outputs) to_.outputs.push_back(value_[v]);
  for (Id& v : *map)
    if (v != kNone) v = value_[v];
  return std::move(to_);
}

void Rewriter::copy(const INode& n) {
  std::vector<Id> in;
  for (Id v : ir.in(n)) in.push_back(value_[v]);
  INode node = n;
  if (n.after != kNone) node.after = to_.producer[value_[ir.nodes[n.after].out]];
  const Id first = to_.add(node, in).out;
  for (Id k = 0; k < n.n_out; ++k) {
    value_[n.out + k] = first + k;
    to_.types.push_back(ir.types[n.out + k]);
  }
}

void Rewriter::make(Replacement& r) {
  const INode& root = made_by(r.result);
  std::vector<Id> made, in;
  for (NewNode& n : r.nodes) {
    in.clear();
    for (Id v : n.in) in.push_back(v >= kNewNode ? made[v - kNewNode] : value_[v]);
    const Attrs& attrs = p.attrs.emplace_back(std::move(n.attrs));
    Where where = p.wheres[root.where];
    where.op = n.op;
    INode node{.op = n.op, .attrs = &attrs, .n_out = 1, .where = Id(p.wheres.size()), .recompute = root.recompute};
    p.wheres.push_back(where);
    if (n.op->traits.leaf) {
      node.leaf = Id(p.leaves.size());
      p.leaves.push_back({.kind = Leaf::constant,
                          .type = n.type,
                          .small = attrs.tensor("tensor"),
                          .strides = contiguous_strides(n.type.shape)});
    }
    made.push_back(to_.add(node, in).out);
    to_.types.push_back(n.type);
  }
  value_[r.result] = made.back();
}

namespace {

// t + product: one node that adds onto t at the store, in t's place. It stands where the product stood: a sum that is
// recorded late must not keep the product's operands.
void accumulate(Rewriter& r, const Rule& rule, Id root) {
  const INode& add = r.ir.nodes[root];
  const TensorType& type = r.ir.types[add.out];
  auto dies = [&](Id t) {
    const INode& n = r.made_by(t);
    const OpDef& op = r.op_of(t);
    if (!r.read_once(t) || op.view) return false;
    if (n.leaf == kNone) return !op.scalar;                                // what a fused group makes would stay in it
    const size_t results = r.ir.outputs.size() - r.p.key.assigned.size();  // a state dies in its next value
    for (size_t k = results; k < r.ir.outputs.size(); ++k)
      if (r.ir.outputs[k] == add.out && r.p.key.nodes[r.p.key.producer[r.p.key.assigned[k - results]]].leaf == n.leaf)
        return true;
    return false;
  };
  for (int k : {1, 0}) {
    const Id product = r.ir.in(add)[size_t(k)], t = r.ir.in(add)[size_t(1 - k)], at = r.ir.producer[product];
    const INode& n = r.ir.nodes[at];
    if (n.op->name != rule.part || r.place_of(t) >= at || !r.may_go(product, root) || !dies(t)) continue;
    if (!(r.ir.types[t] == type) || !(r.ir.types[product] == type) || type.dtype != accumulate_dtype(type.dtype))
      continue;
    // Products in batches are left alone; rows of many matrices are one matrix if they lie row by row.
    const Id left = r.ir.in(n)[0], right = r.ir.in(n)[1];
    const bool row_major = n.op->name != "matmul" || (!r.made_by(left).op->view && r.made_by(left).leaf == kNone);
    if (r.ir.types[right].shape.rank() != 2 || (r.ir.types[left].shape.rank() > 2 && !row_major)) continue;
    std::vector<Id> in{t};
    for (Id v : r.ir.in(n)) in.push_back(v);
    const OpDef& op = op_named(rule.becomes);
    if (!r.has_kernel(op, in, type)) continue;
    return r.replace(add.out, at, {at, root}, {{&op, *n.attrs, in, type}});
  }
}

// Parts of one axis, each among zeros, added up (the gradient of a value that was cut into slices): the parts one after
// the other. Each part gets + 0, as the sum gives it: -0 becomes 0. One more term may be in the sum.
void join(Rewriter& r, const Rule& rule, Id root) {
  struct Part {
    int64_t begin, end;
    Id value;
  };
  const Id sum = r.ir.nodes[root].out;
  const TensorType& type = r.ir.types[sum];
  if (const Id next = r.reader(sum); next != kNone && r.may_go(sum, next) && r.ir.nodes[next].op->name == rule.root) {
    auto in = r.ir.in(r.ir.nodes[next]);
    if (std::any_of(in.begin(), in.end(), [&](Id v) { return r.made_by(v, rule.part); })) return;  // part of that sum
  }
  std::vector<Id> gone{root}, todo;
  for (Id v : r.ir.in(r.ir.nodes[root])) todo.push_back(v);
  std::vector<Part> parts;
  int axis = -1;
  Id rest = kNone;
  auto is_part = [&](Id v) {
    const INode& n = r.made_by(v);
    if (n.op->name != rule.part || n.attrs->integer("step") != 1 || !r.may_go(v, root)) return false;
    const int a = normalize_axis(n.attrs->integer("axis"), type.shape.rank());
    return axis < 0 || a == axis ? (axis = a, true) : false;
  };
  while (!todo.empty()) {
    const Id v = todo.back();
    const INode& n = r.made_by(v);
    auto in = r.ir.in(n);
    todo.pop_back();
    if (!(r.ir.types[v] == type)) return;
    if (is_part(v)) {
      parts.push_back({n.attrs->integer("begin"), n.attrs->integer("end"), in[0]});
    } else if (n.op->name == rule.root && r.may_go(v, root) && std::any_of(in.begin(), in.end(), is_part)) {
      for (Id operand : in) todo.push_back(operand);
    } else if (rest == kNone) {
      rest = v;
      continue;
    } else {
      return;
    }
    gone.push_back(r.ir.producer[v]);
  }
  if (parts.size() < 2) return;
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < parts.size(); ++i)
    if (parts[i].begin < parts[i - 1].end) return;

  static const OpDef &add = op_named("add"), &spread = op_named("broadcast_to"), &pack = op_named("pack");
  std::vector<NewNode> nodes;
  auto make = [&](const OpDef& op, Attrs attrs, std::span<const Id> in, const TensorType& t) {
    nodes.push_back({&op, std::move(attrs), {in.begin(), in.end()}, t});
    return kNewNode + Id(nodes.size() - 1);
  };
  const Id zero = make(op_named("constant"), {{"tensor", Tensor::zeros({}, type.dtype)}}, {}, {{}, type.dtype});
  std::vector<Id> joined;
  int64_t at = 0;
  auto fill = [&](int64_t n) {
    TensorType t = type;
    t.shape[axis] = n;
    return make(spread, {{"shape", t.shape}}, {&zero, 1}, t);
  };
  for (const Part& part : parts) {
    if (part.begin == part.end) continue;
    if (at < part.begin) joined.push_back(fill(part.begin - at));
    at = part.end;
    const Id sum[] = {part.value, fill(part.end - part.begin)};
    joined.push_back(make(add, {}, sum, r.ir.types[part.value]));
  }
  if (at < type.shape[axis]) joined.push_back(fill(type.shape[axis] - at));
  if (joined.empty()) return;
  int64_t before = 1;
  for (int a = 0; a < axis; ++a) before *= type.shape[a];
  Id whole;
  if (before == 1) {  // one behind the other: a plan computes the parts in place
    const Id flat = make(pack, {}, joined, {{type.shape.numel()}, type.dtype});
    whole = make(op_named("reshape"), {{"shape", type.shape}}, {&flat, 1}, type);
  } else {
    whole = make(op_named(rule.becomes), {{"axis", int64_t(axis)}}, joined, type);
  }
  const Id both[] = {rest, whole};
  if (rest != kNone) make(add, {}, both, type);
  r.replace(sum, root, gone, std::move(nodes));
}

}  // namespace

std::span<const Rule> neutral_rules() {
  static constexpr Rule rules[] = {
      {"add", "matmul", "matmul_add", accumulate},
      {"add", "linear", "linear_add", accumulate},
      {"add", "slice_adjoint", "concat", join},
  };
  return rules;
}

Ir rewrite(Program& p, const Ir& ir, std::span<const Rule> rules, std::vector<Id>* value) {
  return Rewriter(p, ir).run(rules, value);
}

}  // namespace whence::planner
