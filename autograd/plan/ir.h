// The intermediate forms that the planner's passes rewrite.
#pragma once
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "whence/autograd/plan.h"

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
  enum Kind : uint8_t { input, scalar, state, constant, retained } kind = input;
  std::string name{};
  TensorType type{};
  Tensor small{};  ///< constants of at most kSmallConstant elements: the program's own copy
  Shape strides{};
  Id owner = kNone;    ///< states, large constants: the leaf in whose memory this one lies, or itself
  int64_t offset = 0;  ///< bytes from the owner's beginning
  Id slot = kNone;     ///< retained: value of the base program (promises.cpp)
  bool bound() const { return owner != kNone; }  ///< to memory, when a plan is made
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
  std::vector<Id> outputs;        ///< values, in the order of compile, then those that states take
  std::vector<Id> assigned;       ///< of the key, by output beyond the caller's: the state's value

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
  struct Inside {
    Id pack = kNone;
    int64_t offset = 0;  ///< bytes
  };
  std::vector<Inside> inside;   ///< by root: the packed value in whose memory it is computed
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
struct Schedule {
  std::vector<Unit> units;  ///< in execution order
  std::vector<Id> members;
  std::vector<Id> before, before_begin;  ///< by position: the positions it needs, packed
  std::vector<uint8_t> lane;             ///< by position; empty: one lane
  int lanes = 1;
  std::span<const Id> needs(Id at) const {
    return {before.data() + before_begin[at], before_begin[at + 1] - before_begin[at]};
  }
  uint8_t lane_of(Id at) const { return lane.empty() ? 0 : lane[at]; }
};

/// Output `output` takes the place, when the run ends, of bytes [begin, end) of leaf value `leaf`.
struct Overwrite {
  Id output, root, leaf;
  int64_t begin, end;
};

}  // namespace whence::planner
