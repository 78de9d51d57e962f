// Rewrites: patterns of ops that have a better form. A rule is data, a row of a table: what it looks for, and what
// comes in its place. Rules keep the bits, and fire only where the nodes that go are read by nobody else.
#pragma once
#include <string_view>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

class Rewriter;

/// A node `root`, one of whose operands is made by `part`, becomes `becomes`.
struct Rule {
  const char *root, *part, *becomes;
  void (*apply)(Rewriter&, const Rule&, Id root);  ///< looks closer, and calls Rewriter::replace when all is well
};

/// A node of a replacement.
struct NewNode {
  const OpDef* op;
  Attrs attrs;
  std::vector<Id> in;  ///< values of the old form; kNewNode + k: of the replacement's k-th node
  TensorType type;
};
inline constexpr Id kNewNode = Id(1) << 31;

/// The pass: roots are looked at in order, then the new form is written in one go.
class Rewriter {
 public:
  Rewriter(Program& p, const Ir& ir);
  Ir run(std::span<const Rule> rules, std::vector<Id>* value);

  // What rules ask.
  Program& p;
  const Ir& ir;
  const INode& made_by(Id value) const { return ir.nodes[ir.producer[value]]; }
  bool made_by(Id value, std::string_view op) const { return made_by(value).op->name == op; }
  /// The op that makes `value` when the replacements so far stand, and the node in whose place.
  const OpDef& op_of(Id value) const;
  Id place_of(Id value) const;
  bool read_once(Id value) const { return readers_[value] == 1; }
  /// A node that reads `value`; kNone: the caller or a state.
  Id reader(Id value) const { return reader_[value]; }
  /// `value` may go, because `root`, its only reader, is replaced.
  bool may_go(Id value, Id root) const;
  bool has_kernel(const OpDef& op, std::span<const Id> in, const TensorType& out) const;

  /// The value `result` is made by `nodes`, which stand where node `at` stood; `gone` are replaced with it.
  void replace(Id result, Id at, std::vector<Id> gone, std::vector<NewNode> nodes);

 private:
  struct Replacement {
    Id result, at;
    std::vector<NewNode> nodes;
  };
  void copy(const INode& n);
  void make(Replacement& r);

  std::vector<Id> readers_, reader_;  // by value: how many, outputs too; one of them
  std::vector<char> gone_;            // by node
  std::vector<Id> at_, makes_;        // by node, by value: the replacement that stands there, that makes it
  std::vector<Replacement> replacements_;
  Ir to_;
  std::vector<Id> value_;  // old value -> new value
};

/// Rules of every backend: a rule fires where the backend has a kernel for what it makes.
std::span<const Rule> neutral_rules();
/// Composes `value` with old value -> new value, kNone when it has gone.
Ir rewrite(Program& p, const Ir& ir, std::span<const Rule> rules, std::vector<Id>* value);

}  // namespace whence::planner
