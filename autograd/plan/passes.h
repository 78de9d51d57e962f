// The planner:
//
//   graph -> snapshot -> merge -> rewrite -> cast -> recompute -> lower (views, copies, outputs) -> fuse -> schedule
//   -> emit (memory, groups)
//
// Every pass is linear or n log n in the nodes and free of recursion.
#pragma once
#include "whence/autograd/plan/backend.h"

namespace whence::planner {

// ---- snapshot: the live part of a graph, numbered in recording order ----------------------------------------------

struct BoundLeaf {
  Tensor tensor{};   ///< undefined: a leaf that is not bound
  Id owner = kNone;  ///< as in Leaf
  int64_t offset = 0;
  uintptr_t begin = 0, end = 0;
};
struct Snapshot {
  Graph* graph = nullptr;
  std::vector<NodeId> live;
  std::vector<std::pair<ValueId, Id>>
      retained;  ///< extensions: graph values that the base program keeps, and their number there
  std::shared_ptr<Program> base;
  std::vector<Id> value;          ///< graph value -> canonical value, kNone when dead; retained ones come first
  std::vector<Id> outputs;        ///< canonical values: the caller's, then what states take
  std::vector<Id> assigned;       ///< canonical values of those states
  std::vector<BoundLeaf> leaves;  ///< by leaf of the program
};
using Assigns = std::span<const std::pair<ValueId, ValueId>>;
Snapshot take_snapshot(const std::vector<Var>& outputs, Assigns assigns);
/// The part that is left when the values `base` retains need no computing. \p kept: its arena is as the run left it.
/// \throws ValueError when it needs a state that the run has overwritten
Snapshot take_extension(const std::vector<Var>& outputs, const Snapshot& base, const std::shared_ptr<Program>& program,
                        bool kept);
/// Counts of promises for an extension.
void count_promises(const Snapshot& extension, const Snapshot& base, PlanStats& stats);
/// Fills Snapshot::leaves.
void collect_leaves(Snapshot&);
size_t hash_of(const Snapshot&, const Options&);
/// Same structure, attributes, leaves and options as the stored program, and its memory is still there.
bool matches(const Snapshot&, const Options&, const Program&);
/// Copies what the program needs from the graph, which may die then.
void store(const Snapshot&, Program&);

// ---- passes ----------------------------------------------------------------------------------------------------

/// Removes duplicates and dead nodes, and inlines fused ops that have no kernel of their own. \p value: value of the
/// key -> value of the result, kNone when it has gone.
Ir merge(Program& program, bool merge_equal, std::vector<Id>* value);
/// Puts casts around kernels that do not take a dtype; composes `value` with old value -> new value.
Ir cast_foreign(Program& program, const Ir& ir, std::vector<Id>* value);
/// By node: runs in a sweep, or needs something from one.
std::vector<char> late_nodes(const Ir& ir, const Program& program);
/// Values of `dropped` nodes are computed again, just before the first late node that reads them.
/// \p value: composed with old value -> new value.
Ir recompute(const Ir& ir, const std::vector<char>& late, const std::vector<char>& dropped, size_t* count,
             std::vector<Id>* value);
/// Removes what no output needs; composes `value` likewise.
Ir without_dead(const Ir& ir, std::vector<Id>* value);
/// Chooses what to drop until the arena fits the budget. \throws Error with the smallest feasible number.
void fit_budget(Program& program, const Ir& ir, const std::vector<Id>& key_value);
/// From the merged form to steps.
void arrange(Program& program, const Ir& ir, std::vector<Id> key_value);
/// \p deferred by output: written by a copy at the very end.
Lowered lower(const Ir& ir, const Program& program, const std::vector<char>& deferred);
/// Group number per node; kernels and leaves have their own.
std::vector<Id> fuse(const Lowered& low);
std::vector<Overwrite> find_overwrites(const Lowered& low, const Program& program);
/// The node reads bytes that the output overwrites.
bool waits_for(const Lowered& low, const Overwrite& o, const INode& reader);
/// True when the unit with these members may write over what it reads.
bool may_overwrite(const Lowered& low, const Program& program, const Overwrite& o, std::span<const Id> writer);
/// No units: the overwrites cannot be honoured, their outputs have to be deferred.
Schedule schedule(const Lowered& low, const Program& program, const std::vector<Id>& group,
                  std::span<const Overwrite> overwrites);
/// Spreads the schedule over the backend's lanes, when that pays.
void find_lanes(const Lowered& low, const Program& program, Schedule& order);
/// What is known to have run before each step of a schedule starts: by step and lane, one more than the last step's
/// number.
std::vector<std::vector<Id>> lane_clocks(const Schedule& order, std::vector<std::vector<Id>>* waits);
void emit(Program& program, const Lowered& low, const Schedule& order);

/// Elements of a row when the op needs whole rows and no more (ScalarRow::whole_rows), else 0.
int64_t row_length(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in, const TensorType& out);
/// The op of planned copies: contiguous output, any input.
const OpDef& copy_op();
bool is_copy(const OpDef* op);
bool is_pack(const OpDef* op);

}  // namespace whence::planner
