// Body: a graph of its own that one node of another graph runs once per step (ops/scan.h). Recorded once, then fixed.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

namespace planner {
struct Program;
}

/// Values of a body's graph by their part in a step.
struct BodyParts {
  std::vector<Var> carries;   ///< states when the step begins
  std::vector<Var> per_step;  ///< what differs from step to step
  std::vector<Var> shared;    ///< what all steps read
  std::vector<Var> next;      ///< states when the step ends, by carry and of its type
  std::vector<Var> out;       ///< what each step gives
};

/// Operands of the node are carries, stacked per-step values and shared ones; its results are the final carries, the
/// stacked `out`, and the stacked carries as each step began with them.
class Body {
 public:
  /// Copies what `parts.next` and `parts.out` need to a graph of its own. The other parts become its inputs: they may
  /// be any values, and what they are computed from is left out. Results of products (Traits::compute_bound) go to the
  /// end of `out`, so that a sweep of the body need not compute them again.
  explicit Body(const BodyParts& parts);
  Body(const Body&) = delete;

  Graph& graph() const { return *graph_; }
  const std::vector<Var>& carries() const { return parts_.carries; }
  const std::vector<Var>& per_step() const { return parts_.per_step; }
  const std::vector<Var>& shared() const { return parts_.shared; }
  const std::vector<Var>& next() const { return parts_.next; }
  const std::vector<Var>& out() const { return parts_.out; }
  const std::vector<Var>& inputs() const { return inputs_; }    ///< carries, per_step, shared
  const std::vector<Var>& results() const { return results_; }  ///< next, out, carries
  size_t hash() const { return hash_; }                         ///< of structure, without addresses
  bool operator==(const Body& other) const;                     ///< equal structure

  /// Records one step on another graph, with `in` in the place of inputs(). \returns results()
  std::vector<Var> apply(std::span<const Var> in) const;
  /// How the host runs one step: compiled at the first call, equal bodies share it.
  std::shared_ptr<const planner::Program> program() const;

 private:
  std::unique_ptr<Graph> graph_;
  BodyParts parts_;
  std::vector<Var> inputs_, results_;
  size_t hash_ = 0;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const planner::Program> program_;
};

/// Where v stands in the list; its size when it does not.
size_t position_of(const Var& v, std::span<const Var> list);
/// Values of one graph in the place of another's.
using Substitution = std::map<ValueId, Var>;
/// The nodes of `from` that `wanted` needs, in order, looking no further than `known`.
std::vector<NodeId> needed_nodes(const Graph& from, std::span<const Var> wanted, const Substitution& known);
/// Records those nodes again on `into`, with their lines and scopes, and adds their values to `known`.
void record_again(const Graph& from, std::span<const Var> wanted, Substitution& known, Graph& into);

}  // namespace whence
