// What scans along an axis share.
#pragma once
#include "whence/ops/ops.h"

namespace whence {

/// x moved by one step along axis, away from (`later`) or towards the beginning; `entering` fills the gap.
inline Var shifted(Var x, int axis, bool later, double entering = 0) {
  if (x.shape()[axis] == 0) return x;
  Ints pads(size_t(2 * x.rank()), 0);
  pads[size_t(2 * axis)] = later ? 1 : -1;
  pads[size_t(2 * axis + 1)] = later ? -1 : 1;
  return pad(x, std::move(pads), PadMode::constant, entering);
}

}  // namespace whence
