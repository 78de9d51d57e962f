// A fused group: elementwise instructions over one iteration space, whatever the device. Operands are values in memory,
// shown through an index map (a plain run, one scalar, a broadcast or strided gather), or local to the group. Tiles,
// registers and grains are the backend's business. A reduction may come to stand at a group's end: it would read a
// local.
#pragma once
#include <array>
#include <vector>

#include "whence/autograd/op.h"

namespace whence::planner {

/// A place relative to one of the run's base pointers; base 0 is the arena.
struct Ref {
  uint32_t base = 0;
  int64_t offset = 0;  ///< bytes
  bool operator==(const Ref&) const = default;
};

/// Extents and strides of an operand over the iteration space, adjacent axes merged; strides in elements.
struct IndexMap {
  int rank = 0;
  std::array<int64_t, Shape::kMaxRank> extent{}, stride{};
  bool operator==(const IndexMap&) const = default;
  bool scalar() const { return rank == 1 && stride[0] == 0; }
  bool run() const { return rank == 1 && (stride[0] == 1 || extent[0] == 1); }
};
IndexMap collapse(const Shape& extents, const Shape& strides);

struct GroupOperand {
  DType dtype = f32;
  bool local = false;  ///< made and read inside the group only
  Ref at{};            ///< memory
  IndexMap map{};      ///< memory; what a group writes is a plain run
};

struct GroupInstr {
  const OpDef* op = nullptr;  ///< nullptr: a copy
  const Attrs* attrs = nullptr;
  std::array<uint32_t, 3> in{};
  uint32_t n_in = 0, out = 0;
  int64_t row = 0;  ///< the op needs whole rows of this length (ScalarRow::whole_rows)
};

struct FusedGroup {
  int64_t numel = 0;
  std::vector<GroupOperand> operands;
  std::vector<GroupInstr> code;  ///< in order; an operand is written at most once
};

}  // namespace whence::planner
