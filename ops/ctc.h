// Connectionist temporal classification (Graves et al. 2006). Written in other ops, unrolled over time.
#pragma once
#include "ops/ops.h"

namespace whence {

struct CtcOptions {
  int64_t blank = 0;
  bool zero_infinity = false;  ///< a target that does not fit into its input costs nothing instead of infinity
  Reduction reduction = Reduction::mean;  ///< mean: over the batch, each loss divided by its target's length
};
/// -log of the probability that the rows of logits [T, B, classes] spell the targets [B, S], over all alignments. Of
/// sequence b count the first input_lengths[b] rows (at least one) and target_lengths[b] labels. A target that does not
/// fit has no gradient.
Var ctc_loss(Arg logits, Arg targets, Arg input_lengths, Arg target_lengths, const CtcOptions& options = {});

}  // namespace whence
