// The ledger of a relevance sweep: at every node, relevance that arrived = relevance passed on + relevance absorbed,
// where what may be absorbed (bias, stabiliser, softmax residual, constants, padding) is a closed form of the op that
// does not look at its rule. The sum over the leaves and everything absorbed equals the seed.
//
//   lrp::Ledger ledger(rules);
//   std::vector<Var> r = ledger.relevance(y, wrt, seed);
//   Results out = compile({r, ledger.outputs()}).run(feeds);
//   lrp::LedgerReport report = ledger.read(out);
//   if (!report.holds()) std::cerr << report.text();
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "whence/autograd/plan.h"
#include "whence/autograd/sweep.h"

namespace whence::lrp {

/// One node of the graph, or the sum over a group of nodes. Relevance runs through chains of nodes, so the sums of
/// `arrived` and `passed` over a group count it once per node on its way; `entered`, `left` and `absorbed` count it
/// once: entered = left + absorbed.
struct LedgerRow {
  std::string op, scope, where;  ///< where: "matmul recorded at model.cpp:42 in block3/attn"
  std::string recorded;          ///< the op that you recorded: layer_norm for the sub and the mul of its body
  double entered = 0;            ///< what came into the group, from the seed or from nodes outside
  double left = 0;               ///< what went to nodes outside and to leaves
  double arrived = 0;            ///< sum of R at the results
  double arrived_abs = 0;        ///< sum of |R| at the results: the scale of what follows
  double passed = 0;             ///< sum of R given to operands that carry
  double passed_abs = 0;
  std::map<std::string, double> absorbed{};  ///< by category
  double min_z = -1;                         ///< smallest |z| under a stabiliser; negative when there is none
  double eps = 0;
  int64_t steps = 1;  ///< nodes of a scan's body: the rest are sums over this many steps
  double worst = 0;   ///< of the steps: the largest |residual|, as a share of what arrived or left there
  double all_absorbed() const;
  double residual() const { return arrived - passed - all_absorbed(); }  ///< what no category explains
};

/// Relevance that one node passed to another.
struct LedgerFlow {
  struct End {
    std::string op, scope;  ///< as recorded; an empty op: the seed, or a leaf
    bool operator==(const End&) const = default;
  } from, to;
  double amount = 0;
};

struct LedgerReport {
  std::string rules;  ///< name of the rule set
  double seed = 0, leaves = 0;
  DType dtype = f32;
  std::vector<LedgerRow> nodes{};   ///< in the order of the sweep
  std::vector<LedgerFlow> flows{};  ///< from the seed to the leaves
  std::map<std::string, double> absorbed{};
  // Coverage. A node without a rule is refused: the sweep ends in MissingRule, which lists all of them.
  size_t with_rule = 0, refused = 0;     ///< of the nodes that relevance reached
  int64_t seeds_refused = 0;             ///< positions of padding (Ledger::only_where)
  std::vector<std::string> unmatched{};  ///< entries of the rule set that decided nowhere: RelevanceOptions::unmatched

  /// By the op that was recorded: what entered the nodes of this op from others, what their biases, constants and
  /// stabilisers took, what left.
  std::map<std::string, LedgerRow> by_op() const;
  /// By scope, cut to `depth` parts ("block3/attn" to "block3" for 1); 0 keeps all. What crossed the scope's boundary,
  /// and what was absorbed inside. Scopes cut to one depth do not overlap.
  std::map<std::string, LedgerRow> by_scope(int depth = 0) const;
  double all_absorbed() const;
  double residual() const { return seed - leaves - all_absorbed(); }
  /// 1e-10 for f64, 1e-5 for f32: relative to the sum of |R| that arrives.
  double tolerance() const { return dtype == f64 ? 1e-10 : 1e-5; }
  /// "coverage: 43 of 43 nodes have a rule, 0 refused; 0 seeds at padding refused"
  std::string coverage() const;
  /// Nodes whose residual exceeds tolerance * sum |R_arrived|.
  std::vector<const LedgerRow*> offenders(double tolerance = 0) const;
  bool holds(double tolerance = 0) const;
  std::string text() const;

 private:
  template <class Name> std::map<std::string, LedgerRow> grouped(Name&& name) const;
};

class Ledger {
 public:
  explicit Ledger(RuleSet rules) : rules_(std::move(rules)) {}

  /// Which positions hold data: bool or u8, of y's leading axes ((B, T) for scores (B, T, V)). A seed at another
  /// position, padding, is refused: it counts as 0, and the report says how many there were.
  void only_where(Var mask) { mask_ = mask; }

  /// whence::relevance, with a line in the ledger for every node on the way.
  std::vector<Var> relevance(Var y, std::span<const Var> wrt, Var seed = {}, RelevanceOptions options = {});
  Var relevance(Var y, Var wrt, Var seed = {}, RelevanceOptions options = {});

  /// Scalars to compile beside your own outputs.
  const std::vector<Var>& outputs() const { return outputs_; }
  /// From a run that computed outputs().
  LedgerReport read(const Results& results) const;
  const RuleSet& rules() const { return rules_; }

 private:
  struct Line {
    std::string op, recorded, scope, where;
    std::vector<size_t> arrived, arrived_abs, passed, passed_abs;  // indices in outputs_
    std::vector<std::pair<std::string, size_t>> absorbed;
    size_t min_z = SIZE_MAX;
    double eps = 0;
  };
  struct Edge {
    ValueId value;  // a carrying operand of `from`, a result of `to`
    LedgerFlow::End from, to;
    size_t at;  // index in outputs_
  };
  void observe(const SweepCtx& c);
  size_t book(const SweepCtx& c, Var number);
  static void find_worst_step(const Line& l, const std::function<std::vector<double>(size_t)>& values, LedgerRow& row);
  Var without_padding(Var y, Var seed);

  RuleSet rules_;
  Var mask_;
  std::vector<Line> lines_;
  std::vector<Var> outputs_;
  std::vector<Edge> edges_;
  std::set<ValueId> visited_;  // results of observed nodes
  size_t with_rule_ = 0;
  std::vector<std::string> unmatched_;
  NodeId begin_ = 0;  // of what the sweep records
  size_t seed_ = SIZE_MAX, seeds_refused_ = SIZE_MAX;
  DType dtype_ = f32;
};

}  // namespace whence::lrp
