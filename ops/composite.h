// Operations beside those of ops/ops.h: activations, sums over segments, order, windows. Most are written in other ops.
#pragma once
#include <vector>

#include "ops/ops.h"

namespace whence {

// ---- indexing -----------------------------------------------------------------------------------------------------
/// out[.., k, ..] = sum of x[.., i.., ..] over index[i..] == k. The index occupies x's axes from `axis`; the result has
/// `count` there. The adjoint of gather; deterministic.
Var segment_sum(Arg x, Arg index, int64_t axis, int64_t count);
/// The k smallest, ascending; ties: lowest index first.
TopK bottomk(Arg x, int64_t k, int64_t axis = -1);

}  // namespace whence
