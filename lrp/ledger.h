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

#include "autograd/plan.h"
#include "autograd/sweep.h"

namespace whence::lrp {

/// One node of the graph, or the sum over several.
struct LedgerRow {
  std::string op, scope, where;  ///< where: "matmul recorded at model.cpp:42 in block3/attn"
  double arrived = 0;            ///< sum of R at the results
  double arrived_abs = 0;        ///< sum of |R| at the results: the scale of what follows
  double passed = 0;             ///< sum of R given to operands that carry
  double passed_abs = 0;
  std::map<std::string, double> absorbed{};  ///< by category
  double min_z = -1;                         ///< smallest |z| under a stabiliser; negative when there is none
  double eps = 0;
  double all_absorbed() const;
  double residual() const { return arrived - passed - all_absorbed(); }  ///< what no category explains
};

struct LedgerReport {
  std::string rules;  ///< name of the rule set
  double seed = 0, leaves = 0;
  DType dtype = f32;
  std::vector<LedgerRow> nodes{};  ///< in the order of the sweep
  std::map<std::string, double> absorbed{};

  std::map<std::string, LedgerRow> by_op() const;
  /// By scope, cut to `depth` parts ("block3/attn" to "block3" for 1); 0 keeps all.
  std::map<std::string, LedgerRow> by_scope(int depth = 0) const;
  double all_absorbed() const;
  double residual() const { return seed - leaves - all_absorbed(); }
  /// 1e-10 for f64, 1e-5 for f32: relative to the sum of |R| that arrives.
  double tolerance() const { return dtype == f64 ? 1e-10 : 1e-5; }
  /// Nodes whose residual exceeds tolerance * sum |R_arrived|.
  std::vector<const LedgerRow*> offenders(double tolerance = 0) const;
  bool holds(double tolerance = 0) const;
  std::string text() const;
};

class Ledger {
 public:
  explicit Ledger(RuleSet rules) : rules_(std::move(rules)) {}

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
    NodeId node;
    std::string op, scope, where;
    std::vector<size_t> arrived, arrived_abs, passed, passed_abs;  // indices in outputs_
    std::vector<std::pair<std::string, size_t>> absorbed;
    size_t min_z = SIZE_MAX;
    double eps = 0;
  };
  void observe(const SweepCtx& c);
  size_t sum_of(Var v, bool absolute = false);

  RuleSet rules_;
  std::vector<Line> lines_;
  std::vector<Var> outputs_;
  std::vector<std::pair<ValueId, size_t>> given_;  // every contribution to a carrying operand
  std::set<ValueId> visited_;                      // results of observed nodes
  size_t seed_ = SIZE_MAX;
  std::vector<size_t> leaves_;
  DType dtype_ = f32;
};

}  // namespace whence::lrp
