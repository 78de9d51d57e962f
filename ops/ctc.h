// Connectionist temporal classification (Graves et al., ICML 2006). Written in other ops, a scan over time. What the
// comments leave unsaid is at the head of ops/ops.h.
#pragma once
#include "whence/ops/ops.h"

namespace whence {

struct CtcOptions {
  int64_t blank = 0;           ///< the class between labels
  bool zero_infinity = false;  ///< a target that does not fit into its input costs nothing instead of infinity
  Reduction reduction = Reduction::mean;  ///< mean: over the batch, each loss divided by its target's length, or 1
};
/// -log of the probability that softmax(logits) spells the target, over all alignments: logits [T >= 1, B, classes]
/// float, targets [B, S >= 1], input_lengths and target_lengths [B], each any -> [], or [B] for Reduction::none.
/// Sequence b has its first input_lengths[b] rows (at least one) and target_lengths[b] labels; what lies behind is not
/// looked at, and a target too long for its rows has no gradient. ShapeError: no fit; ValueError: blank is no class, at
/// the run a label that is none, or a length outside 1 .. T, 0 .. S.
Var ctc_loss(Arg logits, Arg targets, Arg input_lengths, Arg target_lengths, const CtcOptions& options = {});

}  // namespace whence
