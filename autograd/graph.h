// Graph: nodes in one vector, edges as 32-bit indices, no values. Var: a handle into it.
#pragma once
#include <concepts>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "whence/autograd/op.h"
#include "whence/autograd/state.h"
#include "whence/tensor/index.h"

namespace whence {

class Graph;
using ValueId = uint32_t;                       ///< number of a value in its graph, in the order of recording
using NodeId = uint32_t;                        ///< number of a node likewise; a node's results are consecutive values
inline constexpr uint32_t kNone = 0xffffffffu;  ///< no value, no node, no entry

/// An integer and the line that names it.
struct IndexAt {
  int64_t index;
  std::source_location where;
  template <std::integral T> IndexAt(T i, std::source_location at = std::source_location::current())
      : index(int64_t(i)), where(at) {}
};

/// A value in a graph. Cheap to copy; valid while its graph lives. \throws ValueError for an undefined one, in all but
/// defined(), id() and same()
class Var {
 public:
  Var() = default;  ///< undefined
  Var(Graph* graph, ValueId id) : graph_(graph), id_(id) {}
  bool defined() const { return graph_ != nullptr; }
  Graph& graph() const { return graph_ ? *graph_ : undefined(); }
  ValueId id() const { return id_; }
  const Shape& shape() const;  ///< the reference stays valid while the graph lives
  DType dtype() const;
  int rank() const { return shape().rank(); }
  /// The extent along an axis, a negative one counting from the end. \throws ShapeError for an axis outside
  int64_t size(int axis) const { return shape()[normalize_axis(axis, rank())]; }
  int64_t numel() const { return shape().numel(); }  ///< of []: 1
  /// Immediate graphs only: the computed value. \throws ValueError in a recorded graph.
  const Tensor& value() const;
  /// The same value of the same graph; == compares elements, as equal().
  bool same(const Var& o) const { return graph_ == o.graph_ && id_ == o.id_; }
  /// Parts, as select() and slice(): x[0], x.at({0, _, Slice(1, -1)}). Axes that are not named stay whole.
  /// \throws ShapeError for more than the axes, and for a part outside
  Var operator[](IndexAt i) const;
  Var at(std::initializer_list<Index> parts, std::source_location where = std::source_location::current()) const;

 private:
  [[noreturn]] static Graph& undefined();
  Graph* graph_ = nullptr;
  ValueId id_ = kNone;
};

/// " at model.cpp:42", for errors.
std::string at_line(std::source_location where);

/// An op's argument: a Var, a state (a parameter) that is read where the other operands are, or a number that becomes a
/// constant of the other operand's dtype. Converting captures the user's line, through operators too. \throws
/// ValueError with that line for an undefined Var and for an integer that a double cannot hold, and from all but
/// is_number() for what is no Var
struct Arg {
  Var var;
  const State* state = nullptr;
  double number = 0;
  std::source_location where;
  Arg(Var v, std::source_location at = std::source_location::current()) : var(v), where(at) {
    if (!v.defined()) undefined(at);
  }
  Arg(const State& s, std::source_location at = std::source_location::current()) : state(&s), where(at) {}
  template <class T>
  requires std::is_arithmetic_v<T> Arg(T x, std::source_location at = std::source_location::current())
      : number(double(x)), where(at) {
    if constexpr (std::is_integral_v<T> && sizeof(T) > 4)
      check_exact(int64_t(x), uint64_t(x) > uint64_t(INT64_MAX) && x > 0);
  }
  bool is_number() const { return !var.defined() && !state; }
  /// The value in g: a number as a constant of `dtype`.
  Var in(Graph& g, DType dtype) const;
  operator Var() const { return known(); }
  Graph& graph() const { return known().graph(); }
  const Shape& shape() const { return known().shape(); }
  DType dtype() const { return known().dtype(); }
  int rank() const { return known().rank(); }

 private:
  const Var& known() const { return var.defined() ? var : alone(); }
  void check_exact(int64_t x, bool beyond) const;
  [[noreturn]] static void undefined(std::source_location where);
  [[noreturn]] const Var& alone() const;
};

/// An operand that may be absent.
struct OptionalArg : std::optional<Arg> {
  OptionalArg() = default;
  OptionalArg(std::nullopt_t) {}
  OptionalArg(const Arg& a) : optional(a) {}
  OptionalArg(const std::optional<Arg>& a) : optional(a) {}
  OptionalArg(Var v, std::source_location at = std::source_location::current()) : optional(Arg(v, at)) {}
  OptionalArg(const State& s, std::source_location at = std::source_location::current()) : optional(Arg(s, at)) {}
  template <class T>
  requires std::is_arithmetic_v<T> OptionalArg(T x, std::source_location at = std::source_location::current())
      : optional(Arg(x, at)) {}
};

/// One application of an op.
struct Node {
  const OpDef* op = nullptr;
  uint32_t in_begin = 0, in_count = 0;  ///< range in the graph's edge list
  ValueId out_begin = 0;                ///< its first result
  uint32_t out_count = 0;
  uint32_t attrs = kNone;  ///< index in the attribute table, kNone when empty
  uint32_t scope = 0;      ///< see Graph::scope_name
  uint32_t location = 0;   ///< see Graph::location
  NodeId origin = kNone;   ///< for nodes made by a sweep or an inlined body: the node they serve
  uint8_t pass = 0;        ///< 0 forward, 1 gradient, 2 relevance
  bool recompute = false;  ///< inside a checkpoint: later sweeps compute it again instead of keeping it
};

struct InputOptions {
  bool carries = true;  ///< data: receives relevance. Masks and other side inputs: false.
};

/// What forward nodes compute in. Products (Traits::compute_bound) get their f32 and half operands cast to `compute`;
/// other ops follow their operands, a half beside an f32 operand being cast to f32; norms take both. Statistics,
/// losses, cotangents and relevance are f32 anyway. Parameters stay f32: the casts are nodes, equal ones merge. f32,
/// the default, records nothing; f64 operands are left alone.
struct Precision {
  DType compute = f32;
};
/// mixed(bf16)
constexpr Precision mixed(DType compute) { return {compute}; }

struct GraphOptions {
  Precision precision{};
  /// Dropout drops and batch norm takes the batch's own statistics: what layers ask (Graph::training). TrainStep sets
  /// it.
  bool training = false;
};

/// Records ops. One thread at a time may record on it, and none may read it meanwhile; different graphs are
/// independent. A plan does not need its graph any more once it is compiled, but for extend.
class Graph {
 public:
  enum class Mode {
    record,     ///< structure only: compile and run it
    immediate,  ///< each op is computed on the CPU when it is recorded; its data errors are thrown by that call
  };
  /// \throws Error that lists every defect of the registered ops, for the first graph of a program
  explicit Graph(Mode mode = Mode::record, const GraphOptions& options = {});
  /// Graph g({.precision = mixed(bf16), .training = true});
  explicit Graph(const GraphOptions& options) : Graph(Mode::record, options) {}
  const GraphOptions& options() const { return options_; }
  /// Of the graph of a body (ops/scan.h): what it records belongs to the scope and the part that `outer` is recording.
  void inherit_scope(const Graph& outer) {
    scopes_[0] = outer.current_scope();
    part_ = outer.part_;
  }
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // ---- leaves
  /// A value fed at each run, by name. The same name, shape and dtype give the same Var. \throws ValueError when the
  /// name is taken by another shape or dtype, and in an immediate graph
  Var input(const std::string& name, const Shape& shape, DType dtype = f32, InputOptions options = {},
            std::source_location where = std::source_location::current());
  Var input(const std::string& name, std::initializer_list<int64_t> shape, DType dtype = f32, InputOptions options = {},
            std::source_location where = std::source_location::current()) {
    return input(name, Shape(shape), dtype, options, where);
  }
  /// The same, of value's shape and dtype. An immediate graph takes the value; a recorded one does not keep it.
  /// \throws ValueError when the name is taken by another shape or dtype, and for an undefined tensor
  Var input(const std::string& name, Tensor value, InputOptions options = {},
            std::source_location where = std::source_location::current());
  /// A number that changes from run to run (a learning rate), shape []. Given with RunOptions::scalars; all scalars of
  /// a plan travel together. \throws ValueError in an immediate graph
  Var scalar(const std::string& name, DType dtype = f32, std::source_location where = std::source_location::current());
  /// The run's key of random numbers, i64 []: RunOptions::seed; 0 in an immediate graph.
  Var seed();
  /// The state's value when a run begins, read from where it lives. The same memory gives the same Var. Carries no
  /// relevance. \throws ValueError for an undefined tensor
  Var state(const State& state, std::source_location where = std::source_location::current()) {
    return parameter(state.name(), state.tensor(), where);
  }
  /// The same for a tensor that no State holds. \throws ValueError for an undefined tensor
  Var parameter(const std::string& name, const Tensor& value,
                std::source_location where = std::source_location::current());
  /// `next` is the state's value when a run ends: every plan compiled from this graph from now on writes it there. A
  /// later assign of the same state replaces this one. \throws ShapeError, DTypeError; ValueError for a strided state,
  /// for one whose memory another assigned state is, for a value of another graph, and in an immediate graph
  void assign(const State& state, Var next);
  /// What the state has been assigned so far, else its value when the run begins: for what moves a state that may have
  /// been moved before in the same recording.
  Var next(const State& state);
  /// Every assigned value so far becomes where(condition, next, old): `condition` is boolean, shape [].
  void guard_assigns(Var condition);
  /// A fixed tensor: it carries no relevance. Up to 64 elements are copied by compile; a larger one is read where it
  /// lies, so leave it as it is.
  /// \throws ValueError for an undefined tensor
  Var constant(Tensor value, std::source_location where = std::source_location::current());
  /// Shape []. \throws DTypeError for a number that an integer dtype cannot hold exactly
  Var constant(double value, DType dtype, std::source_location where = std::source_location::current());

  // ---- recording (ops call this; users call ops)
  /// Appends a node; shapes and dtypes are checked here. Returns its first result; result k is at id + k.
  /// \throws what the op's infer throws, with op, line and scope; ValueError for an operand that is undefined or of
  /// another graph; ShapeError for a result with too many bytes; OutOfMemory. Nothing is appended then.
  Var record(const OpDef& op, std::span<const Var> in, Attrs attrs = {},
             std::source_location where = std::source_location::current());

  /// \throws ValueError with `what`, unless v is a value of this graph
  void check_own(const Var& v, const std::string& what) const;
  /// Values of nodes [begin, end) are dropped after forward and recomputed for later sweeps, but for `keep`
  /// (checkpoint.h).
  void mark_recompute(NodeId begin, NodeId end, std::span<const Var> keep);

  // ---- structure; numbers are not checked. References to nodes and spans last until the next node is recorded.
  size_t node_count() const { return nodes_.size(); }
  size_t value_count() const { return types_.size(); }
  const Node& node(NodeId n) const { return nodes_[n]; }
  const Node& producer(ValueId v) const { return nodes_[producer_[v]]; }  ///< the node whose result v is
  NodeId producer_id(ValueId v) const { return producer_[v]; }
  /// Operands in order.
  std::span<const ValueId> inputs(const Node& n) const { return {edges_.data() + n.in_begin, n.in_count}; }
  const TensorType& type(ValueId v) const { return types_[v]; }
  const Attrs& attrs(const Node& n) const { return n.attrs == kNone ? kNoAttrs : attrs_[n.attrs]; }
  Var var(ValueId v) { return {this, v}; }
  /// What assign() was told: the state's value and the next one.
  std::span<const std::pair<ValueId, ValueId>> assigns() const { return assigns_; }
  /// Inputs and scalars, in the order of recording; none in an immediate graph.
  std::span<const std::pair<std::string, ValueId>> named_inputs() const { return named_inputs_; }
  const std::string& scope_name(const Node& n) const { return scopes_[n.scope]; }  ///< "encoder/block3"; "" outside
  const std::string& current_scope() const { return scopes_[scope_]; }
  /// The user's line.
  std::source_location location(const Node& n) const { return locations_[n.location]; }
  /// "matmul recorded at model.cpp:42 in block3/attn", with the origin for nodes made by a sweep.
  std::string describe(NodeId n) const;
  /// Graphviz text; values reachable from `roots`, or everything.
  std::string dot(std::span<const Var> roots = {}) const;

  bool immediate() const { return mode_ == Mode::immediate; }
  bool training() const { return options_.training; }
  /// The computed value; the reference stays valid while the graph lives. \throws ValueError in a recorded graph
  const Tensor& value(ValueId v) const;

 private:
  friend class ScopeGuard;
  friend class PartScope;
  friend class OriginGuard;
  friend class LocationGuard;
  Var append(const OpDef& op, std::span<const Var> in, Attrs attrs, uint32_t location);
  std::string in_context(const OpDef& op, uint32_t location, const std::string& text) const;
  [[noreturn]] void rethrow_in_context(const OpDef& op, uint32_t location) const;
  uint32_t intern_location(std::source_location);
  std::vector<Var> as_policy_wants(const OpDef&, std::span<const Var> in, std::source_location);
  void run_immediately(const Node&);

  static const Attrs kNoAttrs;
  Mode mode_;
  GraphOptions options_{};
  std::vector<Node> nodes_;
  std::vector<ValueId> edges_;
  std::deque<TensorType> types_;  // deques: references stay valid while recording
  std::vector<NodeId> producer_;
  std::deque<Attrs> attrs_;
  std::vector<std::string> scopes_{""};
  std::vector<std::source_location> locations_;
  std::vector<std::pair<std::string, ValueId>> named_inputs_;
  std::unordered_multimap<const void*, ValueId> parameters_;  // by memory
  std::vector<std::pair<ValueId, ValueId>> assigns_;
  std::vector<std::string> assigned_;  // the names of those states
  std::deque<Tensor> values_;          // immediate graphs only; a reference from value() outlives later records
  uint32_t scope_ = 0;
  std::string part_;  // full name of the innermost part (PartScope)
  NodeId origin_ = kNone;
  uint8_t pass_ = 0;
  std::optional<std::source_location> location_;
  std::vector<TensorType> scratch_in_;
};

/// Names everything recorded while it lives: `Scope s(g, "block3")` inside "encoder" gives "encoder/block3".
class ScopeGuard {
 public:
  ScopeGuard(Graph& g, std::string_view name);
  ~ScopeGuard() { graph_.scope_ = before_; }
  ScopeGuard(const ScopeGuard&) = delete;

 private:
  Graph& graph_;
  uint32_t before_;
};
using Scope = ScopeGuard;

/// The scope of a part of a model with a full name, "encoder.layer.0.query": inside the part "encoder.layer.0" it is
/// "query", so that scopes, rule patterns and state dicts speak one language.
class PartScope {
 public:
  PartScope(Graph& g, const std::string& full_name);
  ~PartScope();
  PartScope(const PartScope&) = delete;

 private:
  Graph& graph_;
  std::string before_;
  std::optional<ScopeGuard> scope_;  // none for a part without a name, the whole model
};

/// Ops composed of other ops put this first, so that inner nodes carry the user's line, and errors too.
class LocationGuard {
 public:
  explicit LocationGuard(const Arg& a) : LocationGuard(a.graph(), a.where) {}
  LocationGuard(Graph& g, std::source_location where);
  ~LocationGuard();
  LocationGuard(const LocationGuard&) = delete;

 private:
  Graph& graph_;
  std::optional<std::source_location> before_;
  SourceLine line_before_;
};

/// Sweeps and inlined bodies: what is recorded serves node `origin` in pass `pass`.
class OriginGuard {
 public:
  OriginGuard(Graph& g, NodeId origin, uint8_t pass) : graph_(g), origin_(g.origin_), pass_(g.pass_), scope_(g.scope_) {
    g.origin_ = origin;
    g.pass_ = pass;
    g.scope_ = g.nodes_[origin].scope;
  }
  ~OriginGuard() {
    graph_.origin_ = origin_;
    graph_.pass_ = pass_;
    graph_.scope_ = scope_;
  }
  OriginGuard(const OriginGuard&) = delete;

 private:
  Graph& graph_;
  NodeId origin_;
  uint8_t pass_;
  uint32_t scope_;
};

inline const Shape& Var::shape() const { return graph().type(id_).shape; }
inline DType Var::dtype() const { return graph().type(id_).dtype; }
inline const Tensor& Var::value() const { return graph().value(id_); }

/// The graph of an op's list of operands. \throws ValueError with the line for an empty list or an undefined Var
Graph& graph_of(std::string_view op, std::span<const Var> operands, std::source_location where);

/// Records `op` on arguments, numbers becoming constants of the first Var's dtype. Returns result 0.
Var record(const OpDef& op, std::initializer_list<Arg> in, Attrs attrs = {});
/// Same, all results.
std::vector<Var> record_all(const OpDef& op, std::span<const Var> in, Attrs attrs, std::source_location where);

}  // namespace whence
