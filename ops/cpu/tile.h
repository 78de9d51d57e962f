// A fused group: a small program of scalar loops that runs tile by tile in the first-level cache. Every value of the
// group is an operand: a pointer that moves with the tile, a scalar, a gathered (broadcast or strided) tile, or a
// register.
#pragma once
#include <array>
#include <cstddef>
#include <vector>

#include <memory>

#include "whence/autograd/plan/group.h"
#include "whence/ops/cpu/unary_binary.h"

namespace whence::cpu {

using planner::FusedGroup;
using planner::IndexMap;

struct TileOperand {
  enum Kind : uint8_t { memory, scalar, gather, reg } kind = reg;
  uint8_t size = 4;    ///< bytes per element
  bool steps = true;   ///< every reader accepts step 0 (one element for the whole tile)
  uint32_t base = 0;   ///< memory, scalar, gather: index in the table of base pointers
  int64_t offset = 0;  ///< bytes from the base; reg and gather's buffer: see slot
  uint32_t slot = 0;   ///< reg, gather: register number
  uint32_t map = 0;    ///< gather: index in TileProgram::maps
};

struct TileMap : IndexMap {
  bool periodic = false;  ///< every tile sees the same elements: gathered once per piece
};

struct TileInstr {
  enum Kind : uint8_t { unary, binary, where, copy, gather } kind = unary;
  uint32_t a = 0, b = 0, c = 0, dst = 0;  ///< operands; where: c ? a : b
  uint32_t params = 0;                    ///< index in TileProgram::params
  union {
    UnaryLoop unary_loop;
    BinaryLoop binary_loop;
    WhereLoop where_loop;
  };
  TileInstr() : unary_loop(nullptr) {}
};

struct TileProgram {
  int64_t numel = 0, tile = 0, grain_tiles = 1;
  uint32_t slots = 0, slot_bytes = 0;
  std::vector<TileOperand> operands;
  std::vector<TileMap> maps;
  std::vector<TileInstr> code;
  std::vector<double> params;

  /// Runs on all cores when that pays.
  void run(std::byte* const* bases) const;
  void run_tiles(std::byte* const* bases, int64_t begin, int64_t end) const;
};

/// Chooses tiles, registers and loops for a fused group.
TileProgram make_tile(const FusedGroup& group);
/// Longest row that a tile can hold (ScalarRow::whole_rows), in elements.
inline constexpr int64_t kMaxTile = 2048;

}  // namespace whence::cpu
