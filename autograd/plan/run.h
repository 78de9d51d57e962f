// Running a program: an instance holds what changes from run to run; binding feeds, states and results is the same for
// every device, and the executable does the rest.
#pragma once
#include <list>
#include <mutex>

#include "whence/autograd/plan/backend.h"
#include "whence/autograd/plan/passes.h"

namespace whence::planner {

/// What changes from run to run. One instance serves one plan at a time.
struct Instance {
  explicit Instance(std::shared_ptr<const Program>);
  std::unique_ptr<Executable> executable;
  std::shared_ptr<Buffer> arena;             ///< its own, when values outlive the run; else the thread's
  std::vector<std::byte*> base;              ///< arena, leaves, outputs
  std::vector<int64_t> scalars;              ///< by Program::scalars: eight bytes each
  Tensor device_scalars;                     ///< the same on a device
  std::vector<Tensor> constants;             ///< small constants on a device
  std::vector<Tensor> slots;                 ///< by input, where feeds go to fixed places or are not row-major
  std::vector<std::vector<Tensor>> results;  ///< by output: buffers that the caller may have given up
  std::vector<uint64_t> fed;                 ///< by input: the run that fed it last
  uint64_t runs = 0;
  std::vector<StepTime> times;  ///< by step, when profiled
  size_t profiled = 0;          ///< runs in `times`
  std::vector<Tensor> inputs;   ///< what was fed, by input; kept for extensions only
};

/// Points the leaves that are bound at their memory, and returns what has to stay alive.
/// \throws DeviceError for a state that lies elsewhere than the plan runs
std::vector<Tensor> bind_leaves(const Program&, Instance&, const Snapshot&);
/// Binds feeds and outputs, runs every step; results in `out`.
void execute(const Program&, Instance&, const Feeds&, std::span<const std::string> ignored, const RunOptions&,
             bool profile, std::vector<Tensor>& out);
/// True when the values of the instance's last run are still where they were; from then on they stay.
bool keep_values(const Program&, Instance&);
/// Extensions: points the retained leaves at the memory of the base plan's last run.
void bind_retained(const Program&, Instance&, const Instance& base);
/// Puts the run's value of a scalar at `to`. \throws ValueError when it was not given
void write_scalar(const Leaf& scalar, const RunOptions& options, void* to);
/// Checks one fed tensor against its input. \throws ValueError, ShapeError, DTypeError
void check_feed(const Leaf& input, const Tensor& fed);

/// Replays the key node by node on the host, every value in its own memory. When \p bad is given, stops at the first
/// NaN or infinity and describes it there.
std::vector<Tensor> replay(const Program&, std::span<const Tensor> held, const Feeds&, const RunOptions&,
                           std::string* bad);

// ---- bodies ------------------------------------------------------------------------------------------------------
// What a kernel runs step by step on the host (autograd/body.h): one lane, no states.

std::shared_ptr<const Program> program_of(const std::vector<Var>& outputs);

// ---- cache -------------------------------------------------------------------------------------------------------

std::shared_ptr<Program> find_cached(size_t hash, const Snapshot&, const Options&);
void put_in_cache(const std::shared_ptr<Program>&);
/// A plan has run: it keeps the results that nobody holds any more, for its next run, and plans that have not run for
/// longest give theirs back when the plans together keep too much. Under its lock.
void keep_results(Plan::State&);
/// The plan goes.
void forget_results(Plan::State&);
/// An instance of a cached program that is free, or nullptr; and giving one back.
std::unique_ptr<Instance> take_instance(const Program*);
void return_instance(const Program*, std::unique_ptr<Instance>);

}  // namespace whence::planner

namespace whence {

struct Plan::State {
  std::shared_ptr<planner::Program> program;
  std::unique_ptr<planner::Instance> instance;
  std::shared_ptr<const std::vector<Var>> outputs;
  std::vector<std::pair<ValueId, ValueId>> assigns;  ///< those of the graph when it was compiled
  std::vector<Tensor> held;                          ///< states and large constants, by leaf: alive while the plan is
  std::vector<std::string> ignored;  ///< inputs of the graph that no output needs: may be fed, are not read
  PlanStats stats;                   ///< the program's, and the promises of an extension
  bool profile = false, ran = false;
  // Of results that nobody may hold; under the lock of the cache.
  std::list<State*> keeper{this};  ///< its entry among those that keep results waits here; moving it takes no memory
  std::list<State*>::iterator place = keeper.begin();
  bool keeps = false;
  size_t kept_bytes = 0;
  std::shared_ptr<State> base;  ///< extensions: the plan whose values are read
  std::mutex mutex;
  Feeds with_base(const Feeds& feeds) const;
  std::vector<Tensor> leaves_to_replay() const;
  ~State();
};

}  // namespace whence
