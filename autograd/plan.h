// Plan: the wanted outputs of a graph as one static program. Common subexpressions merged, elementwise chains fused,
// lifetimes packed into one arena; Plan::run executes it.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph.h"

namespace whence {

/// compile's outputs: Vars and lists of Vars, in any mix.
struct OutputGroup {
  std::vector<Var> vars;
  OutputGroup(Var v) : vars{v} {}
  OutputGroup(std::vector<Var> vs) : vars(std::move(vs)) {}
};

struct CompileOptions {
  Device device = {};
  size_t memory_budget = 0;  ///< bytes for intermediate values; above it, values are recomputed. 0: no limit
  bool fuse = true;
  bool merge = true;             ///< common subexpressions
  bool reuse_memory = true;      ///< off: every value has its own place (debugging)
  bool concurrent = true;        ///< independent branches may run at the same time when that pays
  bool profile = false;          ///< time each step; report() shows it
  bool keep_for_extend = false;  ///< keep what fits so that extend() recomputes little
};

using Feeds = std::vector<std::pair<std::string_view, Tensor>>;

struct RunOptions {
  uint64_t seed = 0;  ///< key of this run's random numbers: same seed, same numbers
  std::vector<std::pair<std::string_view, double>> scalars{};  ///< values of Graph::scalar, by name
};

/// What a run returns: outputs in the order given to compile, lists flattened.
class Results {
 public:
  Results() = default;
  Results(std::shared_ptr<const std::vector<Var>> vars, std::vector<Tensor> tensors)
      : vars_(std::move(vars)), tensors_(std::move(tensors)) {}
  size_t size() const { return tensors_.size(); }
  const Tensor& operator[](size_t i) const { return tensors_.at(i); }
  const Tensor& operator[](Var v) const;  ///< \throws ValueError when v was not an output
  auto begin() const { return tensors_.begin(); }
  auto end() const { return tensors_.end(); }

 private:
  friend class Plan;
  std::shared_ptr<const std::vector<Var>> vars_;
  std::vector<Tensor> tensors_;
};

/// What the planner did; counts for the report and for tests.
struct PlanStats {
  size_t steps = 0, fused_groups = 0, fused_nodes = 0, merged = 0, dead = 0, views = 0, in_place = 0, recomputed = 0;
  size_t rewrites = 0;         ///< patterns of ops that gave way to a better form
  size_t arena_bytes = 0;      ///< intermediates after reuse
  size_t unplanned_bytes = 0;  ///< the same values without reuse
  size_t output_bytes = 0;
  // Promises of an extension (DynamicLRP, table 4): forward values that its nodes read and the plan has not kept.
  size_t promises = 0;
  size_t promise_nodes = 0;    ///< internal nodes: recomputed on the way, their results read by no rule directly
  size_t promise_depth = 0;    ///< sum over the promises of the longest chain of recomputed nodes (one at least)
  double promise_density = 0;  ///< promises per forward node of the plan
};

class Plan {
 public:
  Plan() = default;
  bool defined() const { return state_ != nullptr; }

  /// Runs the program. Every input that the outputs need must be fed, with its shape and dtype.
  /// Results stay valid when the plan runs again. \throws ValueError naming a missing or unknown feed.
  Results run(const Feeds& feeds = {}, const RunOptions& options = {});

  /// The same into results that are used again and again: from the second run on nothing is allocated.
  void run(const Feeds& feeds, const RunOptions& options, Results& into);

  /// Attaches further outputs (a relevance sweep, say) to a program that has run: the new plan reads the values that
  /// this one retains and recomputes the rest (promises); it never reruns the whole forward pass.
  Plan extend(std::initializer_list<OutputGroup> outputs, CompileOptions options = {});

  const PlanStats& stats() const;
  std::string report() const;                 ///< memory, largest buffers by scope, fusion, promises, time per op
  void trace(const std::string& path) const;  ///< Chrome trace of the last profiled run
  /// Runs node by node, unfused, and describes the first value that holds NaN or infinity; "" when there is none.
  std::string diagnose(const Feeds& feeds = {}, const RunOptions& options = {}) const;

  /// Node by node, every value in its own memory: what run() must equal, bit for bit.
  Results reference(const Feeds& feeds = {}, const RunOptions& options = {}) const;

  struct State;
  explicit Plan(std::shared_ptr<State> s) : state_(std::move(s)) {}
  const State* state() const { return state_.get(); }  ///< for tests of the planner

 private:
  std::shared_ptr<State> state_;
};

/// Plans the outputs. A graph of equal structure (same parameters) returns the cached program.
/// \throws MissingKernel naming ops without a kernel for the device.
Plan compile(std::initializer_list<OutputGroup> outputs, const CompileOptions& options = {});
Plan compile(const std::vector<Var>& outputs, const CompileOptions& options = {});

/// Compiled programs are kept, the least recently used go first. Counts since the start of the process.
struct PlanCacheStats {
  size_t programs = 0, hits = 0, misses = 0, idle_bytes = 0;
};
PlanCacheStats plan_cache_stats();
void clear_plan_cache();

/// Convenience for tests and examples: compile and run once.
Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds = {},
                 const CompileOptions& options = {});

}  // namespace whence
