// Plan: the wanted outputs of a graph as one static program. Common subexpressions merged, elementwise chains fused,
// lifetimes packed into one arena; Plan::run executes it.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

/// compile's outputs: Vars and lists of Vars, in any mix.
struct OutputGroup {
  std::vector<Var> vars;
  std::source_location where;
  OutputGroup(Var v, std::source_location at = std::source_location::current()) : vars{v}, where(at) {}
  OutputGroup(std::vector<Var> vs, std::source_location at = std::source_location::current())
      : vars(std::move(vs)), where(at) {}
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

/// Values of inputs by name, on any device. The names are not copied: they must live until run returns. On the CPU a
/// contiguous tensor is read where it lies.
using Feeds = std::vector<std::pair<std::string_view, Tensor>>;

struct RunOptions {
  uint64_t seed = 0;  ///< key of this run's random numbers: same seed, same numbers
  std::vector<std::pair<std::string_view, double>> scalars{};  ///< values of Graph::scalar, by name
};

/// What a run returns: outputs in the order given to compile, lists flattened. Tensors of the plan's device, which keep
/// their values when the plan runs again.
class Results {
 public:
  Results() = default;
  Results(std::shared_ptr<const std::vector<Var>> vars, std::vector<Tensor> tensors)
      : vars_(std::move(vars)), tensors_(std::move(tensors)) {}
  size_t size() const { return tensors_.size(); }
  const Tensor& operator[](size_t i) const;  ///< \throws ValueError when there are fewer
  const Tensor& operator[](Var v) const;     ///< \throws ValueError when v was not an output
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

/// A handle: copies are the same plan. Runs of one plan, from any threads, take turns, and so do those of a plan and
/// its extensions; different plans run at the same time. \throws ValueError for an undefined plan, in all but defined()
class Plan {
 public:
  Plan() = default;  ///< undefined
  bool defined() const { return state_ != nullptr; }

  /// Runs the program. Every input that the outputs need must be fed, with its shape and dtype, and every scalar given.
  /// Results stay valid when the plan runs again. The plan stays usable after an exception.
  /// \throws ValueError naming a missing or unknown feed or a missing scalar; ShapeError, DTypeError for a feed
  /// \throws ValueError for data that an op refuses, with the line that recorded it: the run has ended then, and states
  ///         have been assigned, but where all_sound guards them
  /// \throws OutOfMemory
  Results run(const Feeds& feeds = {}, const RunOptions& options = {});

  /// The same into results that are used again and again: from the second run on nothing is allocated.
  void run(const Feeds& feeds, const RunOptions& options, Results& into);

  /// Attaches further outputs (a relevance sweep, say) to a program that has run: the new plan reads the values that
  /// this one retains and recomputes the rest (promises); it never reruns the whole forward pass. It reads what this
  /// plan's latest run left; with keep_for_extend, inputs that are not fed to it keep what that run was fed.
  /// \throws ValueError before the first run, for outputs of another graph, for a state that the run has overwritten
  /// \throws as compile
  Plan extend(std::initializer_list<OutputGroup> outputs, CompileOptions options = {});

  /// Counts since compile; runs do not change them.
  /// Structure, names, shapes, attributes and options, no addresses: two processes that plan the same thing agree on
  /// it.
  uint64_t hash() const;
  const PlanStats& stats() const;
  std::string report() const;  ///< memory, largest buffers by scope, fusion, promises, time per op
  /// Writes a Chrome trace of the last profiled run. \throws ValueError when there was none, IoError
  void trace(const std::string& path) const;
  /// Runs node by node, unfused, on the host, and describes the first value that holds NaN or infinity; "" when there
  /// is none. States are read as they are now and not assigned. \throws as run; not while another thread runs the plan.
  std::string diagnose(const Feeds& feeds = {}, const RunOptions& options = {}) const;

  /// The outputs node by node on the host, every value in its own memory: what run() must equal, bit for bit. States
  /// are read and not assigned. \throws as run; not while another thread runs the plan.
  Results reference(const Feeds& feeds = {}, const RunOptions& options = {}) const;

  struct State;
  explicit Plan(std::shared_ptr<State> s) : state_(std::move(s)) {}
  const State* state() const { return state_.get(); }  ///< for tests of the planner

 private:
  State& self() const;  // \throws ValueError
  std::shared_ptr<State> state_;
};

/// Plans the outputs, and what the graph assigns to its states so far. A graph of equal structure shares the cached
/// program, with states of its own; every call gives a plan with memory of its own. Safe from several threads, for
/// graphs that nobody is recording on.
/// \throws MissingKernel naming all ops without a kernel for the device
/// \throws DeviceError for a device that is absent, or a state on another one
/// \throws ValueError without outputs, for an undefined one, for outputs of different graphs, or states that overlap
///         in part
/// \throws OutOfMemory
/// \throws Error when memory_budget cannot be met, with the smallest arena found
Plan compile(std::initializer_list<OutputGroup> outputs, const CompileOptions& options = {});
Plan compile(const std::vector<Var>& outputs, const CompileOptions& options = {},
             std::source_location where = std::source_location::current());

/// Compiled programs are kept, the latest 128; the least recently used go first. Counts since the start of the process.
struct PlanCacheStats {
  size_t programs = 0, hits = 0, misses = 0, idle_bytes = 0;
};
PlanCacheStats plan_cache_stats();  ///< safe from several threads, as clear_plan_cache
/// Forgets all programs and their idle memory. Plans that exist keep theirs.
void clear_plan_cache();

/// Convenience for tests and examples: compile and run once. \throws as compile and Plan::run
Results evaluate(std::initializer_list<OutputGroup> outputs, const Feeds& feeds = {},
                 const CompileOptions& options = {});

}  // namespace whence
