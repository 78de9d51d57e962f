// A program: what the passes leave for a backend, and what can be said about it afterwards.
#pragma once
#include <deque>
#include <memory>

#include "whence/autograd/plan/group.h"
#include "whence/autograd/plan/ir.h"

namespace whence::planner {

class Backend;

/// A piece of arena that is in use from step `first` to step `last`, both included.
struct Block {
  size_t bytes = 0;
  Id first = 0, last = 0;
  size_t offset = 0;
  uint8_t lane = 0;  ///< of the step that writes it; each lane has a part of the arena to itself
};
inline constexpr size_t kAlign = 256;
/// Sets offsets by best fit in order of time; returns the arena's size. \p reuse false: every block has its own place.
size_t place_blocks(std::vector<Block>& blocks, bool reuse = true);
/// "" or a description of two blocks that are live together and overlap.
std::string find_overlap(std::span<const Block> blocks);

struct Step {
  const OpDef* op = nullptr;  ///< nullptr: a fused group
  const Attrs* attrs = nullptr;
  const Kernel* kernel = nullptr;
  Id views = 0, n_in = 0, n_out = 0;  ///< kernels: range in Program::views
  Id group = kNone;                   ///< fused groups: index in Program::groups
  Id members = 0, n_members = 0;      ///< fused groups: range in Program::members
  int64_t workspace = -1;             ///< arena offset
  Id where = kNone;
  uint8_t lane = 0;
  Id waits = 0, n_waits = 0;  ///< range in Program::waits: steps of other lanes that must have run
};

/// Where a value of the key lies. The memory of a block may have gone to others by the end of the run.
struct Kept {
  Id value = kNone;  ///< of the key
  Ref at{};
  Id block = kNone;  ///< kNone: not in the arena
  Shape strides;
};

/// Microseconds of a step in a profiled run.
struct StepTime {
  double start = 0, last = 0, total = 0;
  int thread = 0;
};

struct OutputSlot {
  TensorType type;
  Id base = 0;
  Id state = kNone;  ///< the leaf whose next value this is
};

/// Options that change the program; part of the cache key.
struct Options {
  bool fuse, merge, reuse_memory, concurrent, keep;
  size_t budget;
  Device device;
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
  Backend* backend = nullptr;
  Options options{};
  std::shared_ptr<const Program> base;  ///< extensions: the program whose memory the retained leaves lie in

  // What runs.
  std::vector<Step> steps;
  std::vector<Id> waits;  ///< Step::waits
  int lanes = 1;
  std::vector<View> views;
  std::vector<Ref> view_refs;
  std::vector<FusedGroup> groups;
  std::vector<OutputSlot> outputs;
  std::vector<Id> scalars;  ///< leaves whose values travel together, in order of their slots
  std::vector<Id> inputs;   ///< leaves that are fed, in order of their bases
  Id n_bases = 1;           ///< arena, leaves, outputs, nowhere
  Id nowhere = kNone;       ///< a base that is always null: of results that nobody reads (KernelFacts::skips_unread)
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

}  // namespace whence::planner
