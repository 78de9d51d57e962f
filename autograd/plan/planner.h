// Inside the planner: the intermediate form its passes rewrite, and the program they leave for the executor.
//
//   graph -> snapshot (cache.cpp) -> merge -> lower (views, copies, outputs) -> fuse -> schedule -> emit (memory,
//   tiles)
//
// Every pass is linear or n log n in the nodes and free of recursion.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "autograd/plan.h"
#include "autograd/plan/tile.h"

namespace whence::planner {

using Id = uint32_t;

/// Where a node came from; text is made only when somebody asks.
struct Where {
  const OpDef* op = nullptr;
  std::source_location at;
  Id scope = 0, origin = kNone;
  uint8_t pass = 0;
};

/// A value that is there before the program starts.
struct Leaf {
  enum Kind : uint8_t { input, parameter, constant, retained } kind = input;
  std::string name{};
  TensorType type{};
  Tensor small{};             ///< constants of at most kSmallConstant elements: the program's own copy
  const void* raw = nullptr;  ///< parameters and large constants: identity; the plan handle keeps them alive
  std::weak_ptr<Buffer> buffer{};
  Shape strides{};
  Id slot = kNone;  ///< retained: value of the base program (promises.cpp)
};
inline constexpr int64_t kSmallConstant = 64;

struct INode {
  const OpDef* op = nullptr;
  const Attrs* attrs = nullptr;
  Id in = 0, n_in = 0;    ///< range in Ir::edges
  Id out = 0, n_out = 0;  ///< values out .. out + n_out
  Id leaf = kNone;        ///< leaves: index in Program::leaves
  Id where = kNone;
  Id after = kNone;        ///< runs after this node, and not in its group (recomputation waits for its reader)
  bool recompute = false;  ///< marked by checkpoint
  bool tile = false;       ///< runs inside a fused group (set by lower)
};

struct Ir {
  std::vector<INode> nodes;  ///< in topological order
  std::vector<Id> edges;
  std::vector<TensorType> types;  ///< by value
  std::vector<Id> producer;       ///< by value: node
  std::vector<Id> outputs;        ///< values, in the order of compile

  std::span<const Id> in(const INode& n) const { return {edges.data() + n.in, n.n_in}; }
  /// Appends a node whose results get fresh values; types must be pushed by the caller.
  INode& add(INode n, std::span<const Id> in);
};

/// How a value lies in its root's memory. layout kNone: the whole root, row-major.
struct Place {
  Id root = kNone;
  Id layout = kNone;
};
struct Layout {
  int64_t offset = 0;  ///< bytes
  Shape strides;
};

/// The lowered form: leaves, fused nodes and kernels; layout ops are gone into places.
struct Lowered {
  Ir ir;
  std::vector<Place> place;  ///< by value
  std::vector<Layout> layouts;
  std::vector<Id> output_root;  ///< by output: the root that is written into the output's own memory
  std::vector<Id> value;        ///< value of the merged form -> value here
  size_t views = 0, copies = 0;

  View view(Id value) const;  ///< data is a pretended address: only offsets from kPretend mean anything
  int64_t offset(Id value) const { return place[value].layout == kNone ? 0 : layouts[place[value].layout].offset; }
  bool whole(Id value) const { return place[value].layout == kNone; }
};

/// One thing the executor does: a kernel, or a fused group of nodes.
struct Unit {
  Id begin = 0, end = 0;  ///< range in Schedule::members (nodes, in order)
  bool tile = false;
};
/// Steps [begin, middle) and [middle, end) run on two threads.
struct Fork {
  Id begin = 0, middle = 0, end = 0;
  bool exists() const { return end > begin; }
  bool second(Id step) const { return step >= middle && step < end; }
};
struct Schedule {
  std::vector<Unit> units;  ///< in execution order
  std::vector<Id> members;
  Fork fork{};
};

/// Output `output` is bound to memory that leaf value `leaf` reads.
struct Overwrite {
  Id output, root, leaf;
  bool same_start;
};

// ---- memory ----------------------------------------------------------------------------------------------------

/// A piece of arena that is in use from step `first` to step `last`, both included.
struct Block {
  size_t bytes = 0;
  Id first = 0, last = 0;
  size_t offset = 0;
  bool second = false;  ///< belongs to the second branch of a fork, which has a part of the arena to itself
};
inline constexpr size_t kAlign = 256;
/// Sets offsets by best fit in order of time; returns the arena's size. \p reuse false: every block has its own place.
size_t place_blocks(std::vector<Block>& blocks, bool reuse = true);
/// "" or a description of two blocks that are live together and overlap.
std::string find_overlap(std::span<const Block> blocks);

// ---- the program -----------------------------------------------------------------------------------------------

struct Ref {
  Id base = 0;  ///< index in Instance::base; 0 is the arena
  int64_t offset = 0;
};

struct Step {
  const OpDef* op = nullptr;  ///< nullptr: a fused group
  const Attrs* attrs = nullptr;
  Id views = 0, n_in = 0, n_out = 0;  ///< kernels: range in Program::views
  Id tile = kNone;                    ///< fused groups: index in Program::tiles
  Id members = 0, n_members = 0;      ///< fused groups: range in Program::members
  int64_t workspace = -1;             ///< arena offset
  Id where = kNone;
};

/// Where a value of the key lies. The memory of a block may have gone to others by the end of the run.
struct Kept {
  Id value = kNone;  ///< of the key
  Ref at{};
  Id block = kNone;  ///< kNone: not in the arena
  Shape strides;
};

struct OutputSlot {
  TensorType type;
  Id base = 0;
  bool bound = false;  ///< CompileOptions::bind gave the memory
};

/// Options that change the program; part of the cache key.
struct Options {
  bool fuse, merge, reuse_memory, concurrent, keep;
  size_t budget;
  std::vector<std::pair<Id, const void*>> bind;  ///< output index -> memory
  bool operator==(const Options&) const = default;
};

struct Program {
  // What was asked: the live part of the graph, canonically numbered. Also what diagnosis replays.
  Ir key;
  std::vector<Leaf> leaves;
  std::deque<Attrs> attrs;
  std::vector<Where> wheres;
  std::vector<std::string> scopes;
  size_t hash = 0;
  Options options{};
  std::shared_ptr<const Program> base;  ///< extensions: the program whose memory the retained leaves lie in

  // What runs.
  std::vector<Step> steps;
  Fork fork{};
  std::vector<View> views;
  std::vector<Ref> view_refs;
  std::deque<TileProgram> tiles;
  std::vector<OutputSlot> outputs;
  std::vector<Id> inputs;  ///< leaves that are fed, in order of their bases
  Id n_bases = 1;          ///< arena, leaves, outputs
  size_t arena_bytes = 0;

  // What can be said about it.
  std::vector<Block> blocks;
  std::vector<Id> block_where;  ///< by block: what it was made for
  std::vector<Id> members;      ///< provenance of the nodes of fused groups, Step::members
  std::vector<Id> key_value;    ///< value of the key -> value of the merged form
  std::vector<Kept> kept;       ///< the values that are stored at all, in order
  PlanStats stats;

  std::string describe(Id where) const;
  const std::string& scope(Id where) const { return scopes[wheres[where].scope]; }
};

// ---- snapshot: the live part of a graph, numbered in recording order ----------------------------------------------

struct Snapshot {
  Graph* graph = nullptr;
  std::vector<NodeId> live;
  std::vector<std::pair<ValueId, Id>>
      retained;  ///< extensions: graph values that the base program keeps, and their number there
  std::shared_ptr<Program> base;
  std::vector<Id> value;    ///< graph value -> canonical value, kNone when dead; retained ones come first
  std::vector<Id> outputs;  ///< canonical values
};
Snapshot take_snapshot(const std::vector<Var>& outputs);
/// The part that is left when the values `base` retains need no computing.
Snapshot take_extension(const std::vector<Var>& outputs, const Snapshot& base, const std::shared_ptr<Program>& program);
/// Counts of promises for an extension.
void count_promises(const Snapshot& extension, const Snapshot& base, PlanStats& stats);
size_t hash_of(const Snapshot&, const Options&);
/// Same structure, attributes, leaves and options as the stored program, and its memory is still there.
bool matches(const Snapshot&, const Options&, const Program&);
/// Copies what the program needs from the graph, which may die then.
void store(const Snapshot&, Program&);
/// The tensors of parameters and large constants, by leaf: what a plan keeps alive.
std::vector<Tensor> leaf_tensors(const Snapshot&);

// ---- execution ---------------------------------------------------------------------------------------------------

/// What changes from run to run. One instance serves one plan at a time.
struct Instance {
  explicit Instance(const Program&);
  std::shared_ptr<Buffer> arena;             ///< allocated by the first run
  std::vector<std::byte*> base;              ///< arena, leaves, outputs
  std::vector<View> views;                   ///< Program::views with this run's addresses
  std::vector<std::vector<Tensor>> results;  ///< by output: buffers that the caller may have given up
  std::vector<Tensor> copies;                ///< row-major copies of strided feeds
  std::vector<uint64_t> fed;                 ///< by input: the run that fed it last
  uint64_t runs = 0;
  struct Span {
    double start = 0, last = 0, total = 0;
    int thread = 0;
  };                           ///< microseconds
  std::vector<Span> times;     ///< by step, when profiled
  size_t profiled = 0;         ///< runs in `times`
  std::vector<Tensor> inputs;  ///< what was fed, by input; kept for extensions only
};

/// Binds feeds and outputs, runs every step; results in `out`.
void execute(const Program&, Instance&, const Feeds&, std::span<const std::string> ignored, RunOptions, bool profile,
             std::vector<Tensor>& out);
/// Extensions: points the retained leaves at the memory of the base plan's last run.
void bind_retained(const Program&, Instance&, const Instance& base);
/// Checks one fed tensor against its input. \throws ShapeError, DTypeError
void check_feed(const Leaf& input, const Tensor& fed);

/// Replays the key node by node, every value in its own memory. When \p bad is given, stops at the first NaN or
/// infinity and describes it there.
std::vector<Tensor> replay(const Program&, std::span<const Tensor> held, const Feeds&, RunOptions, std::string* bad);

// ---- cache -------------------------------------------------------------------------------------------------------

std::shared_ptr<Program> find_cached(size_t hash, const Snapshot&, const Options&);
void put_in_cache(const std::shared_ptr<Program>&);
/// An instance of a cached program that is free, or nullptr; and giving one back.
std::unique_ptr<Instance> take_instance(const Program*);
void return_instance(const Program*, std::unique_ptr<Instance>);

// ---- passes ----------------------------------------------------------------------------------------------------

/// Removes duplicates and dead nodes, and inlines fused ops that have no kernel of their own. \p value: value of the
/// key -> value of the result, kNone when it has gone.
Ir merge(Program& program, bool merge_equal, std::vector<Id>* value);
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
/// True when the unit with these members may write over what it reads.
bool may_overwrite(const Lowered& low, const Overwrite& o, std::span<const Id> writer);
/// No units: the overwrites cannot be honoured, their outputs have to be deferred.
Schedule schedule(const Lowered& low, const std::vector<Id>& group, std::span<const Overwrite> overwrites);
/// Brings the two branches of a schedule together, when running them at the same time pays.
Fork find_fork(const Lowered& low, const Program& program, Schedule& order, int threads);
void emit(Program& program, const Lowered& low, const Schedule& order);

inline constexpr int64_t kMaxTile = 2048;  // elements
/// Elements of a row when a fused group can run the node row by row (OpDef::row_loop), else 0.
int64_t row_length(const INode& n, const Ir& ir);
/// The op of planned copies: contiguous output, any input.
const OpDef& copy_op();
bool is_copy(const OpDef* op);

}  // namespace whence::planner

namespace whence {

struct Plan::State {
  std::shared_ptr<planner::Program> program;
  std::unique_ptr<planner::Instance> instance;
  std::shared_ptr<const std::vector<Var>> outputs;
  std::vector<Tensor> held;          ///< parameters and large constants, by leaf: alive while the plan is
  std::vector<Tensor> bound;         ///< memory that outputs are written to
  std::vector<std::string> ignored;  ///< inputs of the graph that no output needs: may be fed, are not read
  PlanStats stats;                   ///< the program's, and the promises of an extension
  bool profile = false, ran = false;
  std::shared_ptr<State> base;  ///< extensions: the plan whose values are read
  std::mutex mutex;
  Feeds with_base(const Feeds& feeds) const;
  std::vector<Tensor> leaves_to_replay() const;
  ~State();
};

}  // namespace whence
