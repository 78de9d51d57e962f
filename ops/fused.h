// What fused ops share: the vjp of a body, for the cases that a fast path does not cover.
#pragma once
#include "whence/autograd/sweep.h"

namespace whence {

/// The vjp of op's body at `in`: one Var per operand, undefined where needs[i] is false. Cotangents may be undefined
/// (nothing arrives there). The body is recorded again; operands that depend on one another stay separate.
/// \param targets  K > 0: cotangents and results have a leading axis of K
std::vector<Var> vjp_of_body(const OpDef& op, std::span<const Var> in, const Attrs& attrs,
                             std::span<const Var> cotangents, const std::vector<char>& needs, int64_t targets = 0);

/// The node's vjp through its body: what a fast vjp calls when a cotangent arrives at a saved statistic, say.
void vjp_through_body(SweepCtx& c);

/// x with its masked entries (-inf) at zero: they take no part in the rules of a softmax.
Var unmasked(Var x);

}  // namespace whence
