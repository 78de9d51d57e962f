// One reverse traversal for gradient and relevance. A pass differs in the field of the op it calls, in the mask of
// values that matter, and in the seed. Contributions at a fan-in add.
//
// Sweeps over halves. Cotangents and relevance of a bf16 or f16 value are f32, from the seed to the result, so that no
// sum and no gradient of an f32 parameter behind a cast is ever rounded to a half. A vjp and a rule see their operands
// and results as f32 too, whatever was recorded. A result that they see is
//   in a gradient pass    what the forward stored, cast;
//   in a relevance pass   the op once more on the cast operands: rounding passes relevance on unchanged, so the ledger
//                         closes as it does over an f32 forward.
// Products alone ask for halves again, where speed is: SweepCtx::recorded.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

enum class PassKind : uint8_t { gradient = 1, relevance = 2 };

struct Pass {
  PassKind kind = PassKind::gradient;
  const lrp::RuleSet* rules = nullptr;             ///< relevance only
  int64_t targets = 0;                             ///< K > 0: seeds have a leading axis of K targets
  bool inline_fused = false;                       ///< ignore fast paths: sweep through every body
  std::function<void(const SweepCtx&)> observe{};  ///< called after each node (ledger)
  std::vector<std::string>* unmatched = nullptr;   ///< filled: see RelevanceOptions
  // In the sweep of a body, which runs once per step of a node (ops/scan.h):
  const SweepCtx* within = nullptr;                ///< that node
  std::span<const std::pair<Var, Var>> carried{};  ///< values of the body: a state, and the same state one step later
  std::function<void(Var, const std::function<void(Var)>&)> publish{};  ///< SweepCtx::publish
  std::vector<char>* decided = nullptr;                                 ///< entries of `rules` that decided somewhere
};

/// Appends the sweep's nodes to the graph of roots[0].
/// \param roots  where cotangents or relevance start
/// \param seeds  one per root, of its shape (with a leading axis of pass.targets when that is set) and dtype, or
///                f32 where the root is a half
/// \param wrt    values to report
/// \returns one Var per wrt, of its shape and accumulate_dtype; zeros where nothing arrives. For an integer wrt (token
///          ids) in a relevance pass: relevance of the looked-up rows, summed over the features.
/// \throws ValueError for an undefined root, seed or wrt and one of another graph; DTypeError for an integer where
///         nothing can flow (a root, a wrt of a gradient pass, a wrt that relevance does not reach); ShapeError,
///         DTypeError for a seed that does not fit; MissingRule naming every op on the way that has no rule, ValueError
///         naming every entry of the rule set that no operation answers to and every node whose rule asks for a
///         variant that its op has not. Nothing is recorded then, and `where` is named.
std::vector<Var> sweep(std::span<const Var> roots, std::span<const Var> seeds, std::span<const Var> wrt,
                       const Pass& pass, std::source_location where = std::source_location::current());

/// The sweep of a body: what arrives at each of wrt, undefined where nothing does. Nothing is checked.
std::vector<Var> sweep_body(std::span<const Var> roots, std::span<const Var> seeds, std::span<const Var> wrt,
                            const Pass& pass);
/// By value of wrt's graph: whether it carries relevance when `wrt` do. wrt is not empty.
std::vector<char> carried_from(std::span<const Var> wrt, const Pass& pass);

/// Which values carry relevance: data inputs and what depends on them; never parameters, constants, masks.
std::vector<char> carries_relevance(const Graph& g, std::span<const Var> extra);

/// What a vjp or a relevance rule sees of its node.
class SweepCtx {
 public:
  Graph& graph;
  const OpDef& op;
  const Attrs& attrs;
  NodeId node_id;

  int n_in() const { return int(in_.size()); }
  int n_out() const { return int(out_.size()); }
  /// Operand and result as values to compute with: halves are cast to f32 (see above).
  Var in(int i = 0) const;
  Var out(int k = 0) const;
  std::span<const Var> all_in() const;
  /// The operand and the result in the graph, as recorded.
  ValueId in_id(int i) const { return graph.inputs(graph.node(node_id))[size_t(i)]; }
  ValueId out_id(int k) const { return graph.node(node_id).out_begin + ValueId(k); }
  /// For the products of a vjp: operand i as recorded, a half where it is one; in relevance passes as in(i).
  Var recorded(int i) const { return is_relevance() ? in(i) : graph.var(in_id(i)); }
  Var recorded_out(int k) const { return is_relevance() ? out(k) : graph.var(out_id(k)); }
  /// d() in the dtype of recorded(0).
  Var narrow_d() const;
  /// True when operand i wants a contribution: skip the work otherwise.
  bool needs(int i) const { return needs_[size_t(i)]; }
  /// True when a cotangent or relevance arrives at output k.
  bool has(int k = 0) const { return d_[size_t(k)].defined(); }
  /// Cotangent (gradient) or relevance at output k, f32 where the output is a half; zeros when none arrives.
  Var d(int k = 0) const;
  /// Adds a contribution to operand i. Its shape must be the operand's (after the target axis, if any).
  void give(int i, Var contribution);
  Var given(int i) const { return give_[size_t(i)]; }

  /// Leading axes that a batched cotangent has and forward values have not: 0 or 1.
  int lead() const { return targets_ > 0 ? 1 : 0; }
  int64_t targets() const { return targets_; }
  /// The operand's shape with the target axis in front when there is one.
  Shape shape_of(int i) const;
  Shape out_shape(int k = 0) const;
  /// Sums broadcast axes of v, which has the (possibly led) shape of the output, down to operand i.
  Var reduce_to(Var v, int i) const;

  // ---- relevance passes
  bool is_relevance() const { return kind_ == PassKind::relevance; }
  const lrp::Rule& rule() const { return *rule_; }
  /// For observers: false when no rule of this op ran, because its body was swept instead or because nothing carries
  /// here. Relevance at d() then ended here, as absorbed() says, or went to an operand that the body returns.
  bool by_rule() const { return rule_ != nullptr; }
  bool carries(int i) const { return carries_[size_t(i)]; }
  int carriers() const;
  /// In a vjp called by a relevance rule: operands that do not carry are constants, and normalising statistics
  /// (rstd, softmax denominators where the body says stop_relevance) are frozen.
  bool frozen() const { return frozen_; }
  /// The op's own vjp at cotangent t (for output 0), with this context's masks and everything else frozen.
  std::vector<Var> frozen_vjp(Var t) const { return frozen_vjp_at(all_in(), t); }
  /// The op applied to other operands of the same shapes (modified inputs and parameters of a rule).
  Var apply(std::span<const Var> operands) const;
  /// Its vjp there.
  std::vector<Var> frozen_vjp_at(std::span<const Var> operands, Var t) const;
  /// share * R / stab(y) with the active rule's stabiliser.
  Var stabilised_share(Var relevance, Var y, double share) const;
  /// The sweep that this node is part of.
  const Pass& pass() const { return *pass_; }
  /// For observers: hands a value of `graph` to `use`. In the body of a scan it is a value per step, and `use` gets all
  /// of them, [steps, ..], in the graph outside; elsewhere it gets `v`. Call it for everything that is to be computed.
  void publish(Var v, const std::function<void(Var)>& use) const {
    if (pass_ && pass_->publish) pass_->publish(v, use);
    else use(v);
  }
  /// For rules that sweep a body: the body's nodes have told the observer what happened to what arrived here.
  void body_tells() { d_.assign(d_.size(), Var()); }
  /// Closed forms (OpDef::absorbed) book here: elementwise or scalar, summed by the ledger.
  void absorb(const char* category, Var amount) { absorbed_.emplace_back(category, amount); }
  const std::vector<std::pair<const char*, Var>>& absorbed() const { return absorbed_; }

  SweepCtx(Graph& g, NodeId id, PassKind kind);

 private:
  friend class Sweeper;
  mutable std::vector<Var> in_, out_;  // halves until they are asked for
  std::vector<Var> d_, give_;
  std::vector<char> needs_, carries_;
  std::vector<std::pair<const char*, Var>> absorbed_;
  const lrp::Rule* rule_ = nullptr;
  const Pass* pass_ = nullptr;
  int64_t targets_ = 0;
  PassKind kind_;
  bool frozen_ = false;
};

// ---- the two passes --------------------------------------------------------------------------------------------

/// d loss / d wrt for a scalar loss (or for sum(seed * y)), f32 where wrt is a half. Nodes are appended; nothing is
/// computed.
std::vector<Var> grad(Var loss, std::span<const Var> wrt, Var seed = {},
                      std::source_location where = std::source_location::current());
Var grad(Var loss, Var wrt, Var seed = {}, std::source_location where = std::source_location::current());

struct RelevanceOptions {
  int64_t targets = 0;
  bool inline_fused = false;
  std::function<void(const SweepCtx&)> observe{};
  /// Filled with the entries of the rule set that decided for no node with data, a preset's own left aside: what a typo
  /// in a scope ends in. A ledger's report has them, too.
  std::vector<std::string>* unmatched = nullptr;
};

/// Relevance of `y` with respect to each of `wrt` under `rules`. The seed defaults to y itself (logit value).
/// \throws DTypeError when y is an integer (argmax, a comparison): there is nothing to explain; MissingRule with the
/// complete list of ops that have no rule.
std::vector<Var> relevance(Var y, std::span<const Var> wrt, const lrp::RuleSet& rules, Var seed = {},
                           const RelevanceOptions& options = {},
                           std::source_location where = std::source_location::current());
Var relevance(Var y, Var wrt, const lrp::RuleSet& rules, Var seed = {}, const RelevanceOptions& options = {},
              std::source_location where = std::source_location::current());

}  // namespace whence
