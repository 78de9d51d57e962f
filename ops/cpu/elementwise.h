// Elementwise kernels over broadcast, strided views: the loops of scalar rows applied run by run.
#pragma once
#include "whence/autograd/op.h"
#include "whence/ops/cpu/unary_binary.h"

namespace whence::cpu {

/// What runs a scalar row: one of these.
struct ScalarLoop {
  UnaryLoop unary = nullptr;
  BinaryLoop binary = nullptr;
  WhereLoop where = nullptr;
  explicit operator bool() const { return unary || binary || where; }
};

/// The loop of a row for operands of `from` (where: of any, a condition of bytes before) and a result of `to`; empty
/// when the CPU has none. Halves are for casts and `where` only: the planner casts the others to f32.
ScalarLoop find_loop(const ScalarRow& row, DType from, DType to);

}  // namespace whence::cpu
