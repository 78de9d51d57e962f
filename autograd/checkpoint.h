// Checkpoint: inside it, forward values are not kept for the sweeps but computed again.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

/// Records fn(inputs) and marks its inner values: they are dropped after forward and recomputed, from the inputs, when
/// a gradient or relevance sweep reads them. Results are bitwise those without. Its results themselves are kept.
///
///     Var h = checkpoint([&](Var x) { return block(x); }, h);
std::vector<Var> checkpoint(const std::function<std::vector<Var>(std::span<const Var>)>& fn,
                            std::span<const Var> inputs);
Var checkpoint(const std::function<Var(Var)>& fn, Var input);

}  // namespace whence
