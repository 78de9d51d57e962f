#include "whence/autograd/graph.h"

#include <fmt/format.h>

#include "whence/autograd/run_op.h"

namespace whence {

const Attrs Graph::kNoAttrs;

// ---- inference errors -----------------------------------------------------------------------------------------

std::string at_line(std::source_location where) { return SourceLine{where.file_name(), where.line()}.str(); }

LocationGuard::LocationGuard(Graph& g, std::source_location where)
    : graph_(g), before_(g.location_), line_before_(users_line) {
  if (!before_) g.location_ = where;
  if (!users_line.file) users_line = {where.file_name(), where.line()};
}
LocationGuard::~LocationGuard() {
  graph_.location_ = before_;
  users_line = line_before_;
}

Graph& Var::undefined() { throw ValueError("the Var is undefined: nothing was assigned to it"); }

void Arg::undefined(std::source_location where) {
  throw ValueError("an operand is an undefined Var: nothing was assigned to it\n  recorded" + at_line(where));
}
const Var& Arg::alone() const {
  const std::string what =
      state ? fmt::format("the parameter '{}' stands where a Var is needed: read it first, as Graph::state does",
                          state->name())
            : fmt::format("the number {} stands where a Var is needed: one operand at least is a Var", number);
  throw ValueError(what + "\n  recorded" + at_line(where));
}

void Arg::check_exact(int64_t x, bool beyond) const {
  if (!beyond && int64_t(double(x)) == x && double(x) < 9223372036854775808.0) return;
  throw ValueError(
      fmt::format("the integer {} is not exact as a double: make it a constant tensor of its own\n  recorded{}",
                  beyond ? std::to_string(uint64_t(x)) : std::to_string(x), at_line(where)));
}

Var Arg::in(Graph& g, DType dtype) const {
  return state ? g.state(*state, where) : is_number() ? g.constant(number, dtype, where) : var;
}

static std::string complaint(const InferCtx& c, const std::string& what, const std::string& hint) {
  std::string s = what + "\n  operands: ";
  for (int i = 0; i < c.n(); ++i) s += (i ? ", " : "") + c.op.operand_name(i) + " " + c.in[size_t(i)].str();
  if (!hint.empty()) s += "\n  hint: " + hint;
  return s;
}
void InferCtx::shape_error(const std::string& what, const std::string& hint) const {
  throw ShapeError(complaint(*this, what, hint));
}
void InferCtx::dtype_error(const std::string& what, const std::string& hint) const {
  throw DTypeError(complaint(*this, what, hint));
}
void InferCtx::value_error(const std::string& what, const std::string& hint) const {
  throw ValueError(complaint(*this, what, hint));
}

void InferCtx::need_float(int i) const {
  if (!is_float(dtype(i)))
    dtype_error(op.operand_name(i) + " must be floating point, got " + std::string(name_of(dtype(i))), "cast it first");
}
void InferCtx::need_integer(int i) const {
  if (!is_integer(dtype(i)))
    dtype_error(op.operand_name(i) + " must be integer, got " + std::string(name_of(dtype(i))));
}
void InferCtx::need_same_dtype(int i, int j) const {
  if (dtype(i) != dtype(j))
    dtype_error(fmt::format("dtypes differ: {} vs {}", name_of(dtype(i)), name_of(dtype(j))),
                fmt::format("cast {} to {}", op.operand_name(j), name_of(dtype(i))));
}
// A number of C++ takes the dtype of what it meets; nothing is promoted and nothing is lost.
static std::string not_held(DType t, double x) { return fmt::format("{} cannot hold the number {}", name_of(t), x); }
static const char* const kCastFirst = "cast the operand to a float, or give an integer of its range";
void InferCtx::need_holds(DType t, double number) const {
  if (!holds(t, number)) dtype_error(not_held(t, number), kCastFirst);
}
void InferCtx::need_rank(int i, int r) const {
  if (rank(i) != r) shape_error(fmt::format("{} must have rank {}, got {}", op.operand_name(i), r, shape(i).str()));
}
void InferCtx::need_shape(int i, const Shape& s) const {
  if (!(shape(i) == s))
    shape_error(fmt::format("{} must have shape {}, got {}", op.operand_name(i), s.str(), shape(i).str()));
}
int InferCtx::axis(int i, int64_t a) const {
  if (a < -rank(i) || a >= rank(i))
    shape_error(fmt::format("axis {} is outside {} of rank {}", a, op.operand_name(i), rank(i)));
  return int(a < 0 ? a + rank(i) : a);
}

// ---- leaves ---------------------------------------------------------------------------------------------------

static void infer_leaf(InferCtx& c) {
  if (c.attrs.has("tensor")) {
    const Tensor& t = c.attrs.tensor("tensor");
    c.out(t.shape(), t.dtype());
  } else {
    c.out(c.attrs.shape("shape"), c.attrs.dtype("dtype"));
  }
}
REGISTER_OP(input) = {
    .doc = "A value fed at each run.",
    .infer = infer_leaf,
    .traits = {.leaf = true},
};
REGISTER_OP(parameter) = {
    .doc = "A trained tensor, read where it lives.",
    .infer = infer_leaf,
    .traits = {.leaf = true},
};
REGISTER_OP(constant) = {
    .doc = "A fixed tensor.",
    .infer = infer_leaf,
    .traits = {.leaf = true},
};

Graph::Graph(Mode mode, const GraphOptions& options) : mode_(mode), options_(options) { validate_registry(); }
Graph::~Graph() = default;

Var Graph::input(const std::string& name, const Shape& shape, DType dtype, InputOptions options,
                 std::source_location where) {
  if (immediate()) throw ValueError("an immediate graph computes at once: give input '" + name + "' its value");
  for (auto& [have, id] : named_inputs_)
    if (have == name) {
      if (types_[id] == TensorType{shape, dtype}) return var(id);
      throw ValueError(fmt::format("input '{}' is already {}, asked for {}", name, types_[id].str(),
                                   TensorType{shape, dtype}.str()));
    }
  Attrs attrs{{"name", name}, {"shape", shape}, {"dtype", dtype}, {"carries", options.carries}};
  Var v = record(input_op, {}, std::move(attrs), where);
  named_inputs_.emplace_back(name, v.id());
  return v;
}

Var Graph::input(const std::string& name, Tensor value, InputOptions options, std::source_location where) {
  if (!value.defined()) throw ValueError("input '" + name + "' is an undefined tensor\n  recorded" + at_line(where));
  if (!immediate()) return input(name, value.shape(), value.dtype(), options, where);
  Attrs attrs{{"name", name},
              {"shape", value.shape()},
              {"dtype", value.dtype()},
              {"carries", options.carries},
              {"tensor", value}};
  return record(input_op, {}, std::move(attrs), where);
}

Var Graph::scalar(const std::string& name, DType dtype, std::source_location where) {
  if (immediate()) throw ValueError("an immediate graph computes at once: use a constant for scalar '" + name + "'");
  for (auto& [have, id] : named_inputs_)
    if (have == name) return input(name, Shape{}, dtype, {.carries = false}, where);
  Attrs attrs{{"name", name}, {"shape", Shape{}}, {"dtype", dtype}, {"carries", false}, {"scalar", true}};
  Var v = record(input_op, {}, std::move(attrs), where);
  named_inputs_.emplace_back(name, v.id());
  return v;
}

Var Graph::seed() {
  if (immediate()) return constant(0.0, i64);
  return scalar("seed", i64);
}

Var Graph::parameter(const std::string& name, const Tensor& value, std::source_location where) {
  if (!value.defined())
    throw ValueError("parameter '" + name + "' is an undefined tensor\n  recorded" + at_line(where));
  auto [begin, end] = parameters_.equal_range(value.raw());
  for (auto at = begin; at != end; ++at) {
    const Tensor& have = attrs(producer(at->second)).tensor("tensor");
    if (have.shape() == value.shape() && have.dtype() == value.dtype() && have.strides() == value.strides())
      return var(at->second);
  }
  Var v = record(parameter_op, {}, {{"name", name}, {"tensor", value}}, where);
  parameters_.emplace(value.raw(), v.id());
  return v;
}

void Graph::assign(const State& state, Var next) {
  if (immediate())
    throw ValueError("an immediate graph has no end of a run: assign '" + state.name() + "' in a recorded one");
  check_own(next, "the next value of '" + state.name() + "'");
  Var now = this->state(state);
  if (!(next.shape() == now.shape()))
    throw ShapeError("state '" + state.name() + "' is " + now.shape().str() + ", assigned " + next.shape().str());
  if (next.dtype() != now.dtype())
    throw DTypeError(
        fmt::format("state '{}' is {}, assigned {}", state.name(), name_of(now.dtype()), name_of(next.dtype())));
  if (!state.tensor().contiguous()) throw ValueError("state '" + state.name() + "' is strided and cannot be assigned");
  for (size_t i = 0; i < assigns_.size(); ++i)
    if (assigns_[i].first == now.id()) {
      if (assigned_[i] != state.name())
        throw ValueError("states '" + assigned_[i] + "' and '" + state.name() + "' are one memory: it takes one value");
      assigns_[i].second = next.id();
      return;
    }
  assigns_.emplace_back(now.id(), next.id());
  assigned_.push_back(state.name());
}

Var Graph::next(const State& state) {
  Var now = this->state(state);
  for (auto& [leaf, value] : assigns_)
    if (leaf == now.id()) return var(value);
  return now;
}

void Graph::guard_assigns(Var condition) {
  static const OpDef& where = op_named("where");
  for (auto& [leaf, value] : assigns_) {
    Var operands[] = {condition, var(value), var(leaf)};
    value = record(where, operands).id();
  }
}

Var Graph::constant(Tensor value, std::source_location where) {
  if (!value.defined()) throw ValueError("a constant is an undefined tensor\n  recorded" + at_line(where));
  return record(constant_op, {}, {{"tensor", std::move(value)}}, where);
}
Var Graph::constant(double value, DType dtype, std::source_location where) {
  LocationGuard at(*this, where);
  if (!holds(dtype, value)) throw DTypeError(not_held(dtype, value) + "\n  hint: " + kCastFirst);
  return constant(Tensor::scalar(value, dtype), where);
}

// ---- recording ------------------------------------------------------------------------------------------------

uint32_t Graph::intern_location(std::source_location at) {
  if (location_) at = *location_;
  if (!locations_.empty()) {
    const auto& last = locations_.back();
    if (last.line() == at.line() && last.column() == at.column() && last.file_name() == at.file_name())
      return uint32_t(locations_.size() - 1);
  }
  locations_.push_back(at);
  return uint32_t(locations_.size() - 1);
}

// The operands with the casts of the policy. An f64 among them leaves all as they are.
std::vector<Var> Graph::as_policy_wants(const OpDef& op, std::span<const Var> in, std::source_location where) {
  bool product = op.traits.compute_bound, casts = product;
  std::vector<Var> out(in.begin(), in.end());
  for (const Var& v : in) {
    if (v.dtype() == f64) return out;
    casts |= v.dtype() == f32;
  }
  DType want = product ? options_.precision.compute : f32;
  for (Var& v : out)
    if (casts && is_float(v.dtype()) && v.dtype() != want)
      v = record(op_named("cast"), {&v, 1}, {{"dtype", want}}, where);
  return out;
}

void Graph::check_own(const Var& v, const std::string& what) const {
  if (!v.defined()) throw ValueError(what + " is undefined");
  if (&v.graph() != this) throw ValueError(what + " belongs to another graph");
}

std::string Graph::in_context(const OpDef& op, uint32_t location, const std::string& text) const {
  std::string s = fmt::format("[{}] {}", op.name, text), line = "\n  recorded" + at_line(locations_[location]);
  if (!scopes_[scope_].empty()) line += " in " + scopes_[scope_];
  if (origin_ != kNone) line += "\n  while serving " + describe(origin_);
  size_t hint = s.find("\n  hint: ");
  return hint == s.npos ? s + line : s.substr(0, hint) + line + s.substr(hint);
}

Var Graph::record(const OpDef& op, std::span<const Var> in, Attrs attrs, std::source_location where) {
  const uint32_t location = intern_location(where);
  for (const Var& v : in)
    if (!v.defined() || &v.graph() != this)
      throw ValueError(in_context(
          op, location,
          op.operand_name(int(&v - in.data())) + (v.defined() ? " belongs to another graph" : " is undefined")));
  std::vector<Var> cast;
  if (options_.precision.compute != f32 && pass_ == 0 && in.size() > 1 && !op.traits.mixed_floats) {
    cast = as_policy_wants(op, in, where);
    in = cast;
  }
  const size_t nodes = nodes_.size(), edges = edges_.size(), values = types_.size(), lists = attrs_.size();
  const SourceLine line = std::exchange(users_line, {});  // the line is told with the op and its scope
  try {
    Var first = append(op, in, std::move(attrs), location);
    users_line = line;
    return first;
  } catch (...) {
    users_line = line;
    nodes_.resize(nodes);
    edges_.resize(edges);
    types_.resize(values);
    producer_.resize(values);
    attrs_.resize(lists);
    if (immediate()) values_.resize(values);
    rethrow_in_context(op, location);
  }
}

// What append throws, with op, line and scope.
void Graph::rethrow_in_context(const OpDef& op, uint32_t location) const {
  auto text = [&](const std::exception& e) { return in_context(op, location, e.what()); };
  const char* no_memory = "memory to record it is not to be had";
  try {
    try {
      throw;
    } catch (const ShapeError& e) {
      throw ShapeError(text(e));
    } catch (const DTypeError& e) {
      throw DTypeError(text(e));
    } catch (const ValueError& e) {
      throw ValueError(text(e));
    } catch (const MissingKernel& e) {
      throw MissingKernel(text(e));
    } catch (const OutOfMemory& e) {
      throw OutOfMemory(text(e));
    } catch (const std::bad_alloc&) {
      throw OutOfMemory(in_context(op, location, no_memory));
    } catch (const std::length_error&) {
      throw OutOfMemory(in_context(op, location, no_memory));
    }
  } catch (const std::bad_alloc&) {  // not even for the text
    out_of_memory("recording");
  }
}

Var Graph::append(const OpDef& op, std::span<const Var> in, Attrs attrs, uint32_t location) {
  scratch_in_.clear();
  for (const Var& v : in) scratch_in_.push_back(types_[v.id()]);
  const ValueId first = ValueId(types_.size());
  InferCtx c(op, scratch_in_, attrs, types_);
  op.infer(c);
  for (size_t v = first; v < types_.size(); ++v) check_extents(types_[v].shape, size_of(types_[v].dtype));
  Node n{.op = &op,
         .in_begin = uint32_t(edges_.size()),
         .in_count = uint32_t(in.size()),
         .out_begin = first,
         .out_count = uint32_t(types_.size()) - first,
         .scope = scope_,
         .location = location,
         .origin = origin_,
         .pass = pass_};
  for (const Var& v : in) edges_.push_back(v.id());
  if (!attrs.list().empty()) {
    n.attrs = uint32_t(attrs_.size());
    attrs_.push_back(std::move(attrs));
  }
  producer_.resize(types_.size(), NodeId(nodes_.size()));
  nodes_.push_back(n);
  if (immediate()) run_immediately(n);
  return {this, first};
}

void Graph::run_immediately(const Node& n) {
  values_.resize(types_.size());
  if (n.op->traits.leaf) {
    values_[n.out_begin] = attrs(n).tensor("tensor");
    return;
  }
  std::vector<Tensor> in;
  for (ValueId v : inputs(n)) in.push_back(values_[v]);
  std::vector<TensorType> out(types_.begin() + n.out_begin, types_.begin() + n.out_begin + n.out_count);
  std::vector<Tensor> results = run_op(*n.op, in, out, attrs(n));
  for (uint32_t k = 0; k < n.out_count; ++k) values_[n.out_begin + k] = std::move(results[k]);
}

const Tensor& Graph::value(ValueId v) const {
  if (!immediate())
    throw ValueError("a recorded graph holds no values: compile and run it, or use Graph(Graph::Mode::immediate)");
  return values_[v];
}

Var record(const OpDef& op, std::initializer_list<Arg> in, Attrs attrs) {
  Var anchor;
  const Arg* first = in.begin();
  for (const Arg& a : in)
    if (a.var.defined() && !anchor.defined()) anchor = a.var;
  if (!anchor.defined())
    throw ValueError("[" + op.name + "] needs at least one Var among its operands\n  recorded" +
                     (first == in.end() ? "" : at_line(first->where)));
  Graph& g = anchor.graph();
  std::array<Var, 8> vars;
  std::vector<Var> many;
  if (in.size() > vars.size()) many.resize(in.size());
  std::span<Var> out = in.size() > vars.size() ? std::span<Var>(many) : std::span<Var>(vars.data(), in.size());
  size_t i = 0;
  for (const Arg& a : in) out[i++] = a.in(g, anchor.dtype());
  return g.record(op, out, std::move(attrs), first->where);
}

Graph& graph_of(std::string_view op, std::span<const Var> operands, std::source_location where) {
  if (operands.empty())
    throw ValueError(fmt::format("[{}] needs at least one operand\n  recorded{}", op, at_line(where)));
  for (const Var& v : operands)
    if (!v.defined())
      throw ValueError(
          fmt::format("[{}] operand {} is undefined\n  recorded{}", op, &v - operands.data(), at_line(where)));
  return operands[0].graph();
}

std::vector<Var> record_all(const OpDef& op, std::span<const Var> in, Attrs attrs, std::source_location where) {
  Graph& g = graph_of(op.name, in, where);
  Var first = g.record(op, in, std::move(attrs), where);
  std::vector<Var> out;
  for (uint32_t k = 0; k < g.producer(first.id()).out_count; ++k) out.push_back({&g, first.id() + k});
  return out;
}

void Graph::mark_recompute(NodeId begin, NodeId end, std::span<const Var> keep) {
  for (const Var& v : keep) check_own(v, "a result of the checkpoint");
  for (NodeId i = begin; i < end; ++i) nodes_[i].recompute = !nodes_[i].op->traits.leaf;
  for (const Var& v : keep) nodes_[producer_[v.id()]].recompute = false;
}

// ---- description ----------------------------------------------------------------------------------------------

PartScope::PartScope(Graph& g, const std::string& full_name) : graph_(g), before_(std::exchange(g.part_, full_name)) {
  const bool inside = !before_.empty() && full_name.starts_with(before_ + ".");
  const std::string name = inside ? full_name.substr(before_.size() + 1) : full_name;
  if (!name.empty() && full_name != before_) scope_.emplace(g, name);
}
PartScope::~PartScope() { graph_.part_ = std::move(before_); }

ScopeGuard::ScopeGuard(Graph& g, std::string_view name) : graph_(g), before_(g.scope_) {
  std::string full = g.scopes_[g.scope_].empty() ? std::string(name) : g.scopes_[g.scope_] + "/" + std::string(name);
  g.scopes_.push_back(std::move(full));
  g.scope_ = uint32_t(g.scopes_.size() - 1);
}

std::string Graph::describe(NodeId id) const {
  const Node& n = nodes_[id];
  if (n.origin != kNone) {
    static const char* doing[] = {"inlined from", "while differentiating", "while tracing the relevance of"};
    return fmt::format("{} {} {}", n.op->name, doing[n.pass], describe(n.origin));
  }
  std::string s = n.op->name + " recorded" + at_line(locations_[n.location]);
  if (!scopes_[n.scope].empty()) s += " in " + scopes_[n.scope];
  return s;
}

std::string Graph::dot(std::span<const Var> roots) const {
  std::vector<char> live(nodes_.size(), roots.empty());
  for (const Var& r : roots) {
    check_own(r, "a root of dot");
    live[producer_[r.id()]] = 1;
  }
  if (!roots.empty())
    for (size_t i = nodes_.size(); i-- > 0;)
      if (live[i])
        for (ValueId v : inputs(nodes_[i])) live[producer_[v]] = 1;
  static const char* colours[] = {"#dbe9ff", "#ffe2cc", "#d9f2d9"};
  std::string s = "digraph whence {\n  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n";
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!live[i]) continue;
    const Node& n = nodes_[i];
    std::string label = n.op->name;
    if (n.op->traits.leaf && attrs(n).has("name")) label += " " + attrs(n).text("name");
    label += "\\n" + (n.out_count ? types_[n.out_begin].str() : std::string());
    if (!scopes_[n.scope].empty()) label += "\\n" + scopes_[n.scope];
    s += fmt::format("  n{} [label=\"{}\", fillcolor=\"{}\"];\n", i, label, colours[n.pass]);
    for (ValueId v : inputs(n)) s += fmt::format("  n{} -> n{};\n", producer_[v], i);
  }
  return s + "}\n";
}

}  // namespace whence
