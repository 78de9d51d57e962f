// The node that a scan is: its operands by part, and how it is recorded. Not for users: ops/scan.h.
#pragma once
#include "whence/autograd/body.h"

namespace whence {

/// Of a node `scan`. Operands and results lie as Body says.
struct LoopAttrs {
  std::shared_ptr<const Body> body;
  int64_t steps;
  bool reverse;
  static LoopAttrs of(const Attrs& attrs, std::span<const TensorType> in);
  Attrs attrs() const { return {{"body", body}, {"steps", steps}, {"reverse", reverse}}; }
  int64_t carries() const { return std::ssize(body->carries()); }
  int64_t per_step() const { return std::ssize(body->per_step()); }
  int64_t out() const { return std::ssize(body->out()); }
};

/// Operands, values of the graph outside, each beside the part of the body that it stands for.
struct LoopOperands {
  std::vector<Var> carries, per_step, shared;
};
struct Looped {
  std::vector<Var> carries, out;
};
/// Records the node: parts of a graph that was recorded for this become its body. Leaves of that graph become shared
/// operands, and operands that nothing needs are left out.
Looped record_loop(Graph& g, BodyParts parts, LoopOperands operands, int64_t steps, bool reverse,
                   std::source_location where = std::source_location::current());

/// The vjp and the relevance rule.
void sweep_loop(SweepCtx& sweep);

/// s with n in front.
inline Shape stacked(int64_t n, Shape s) {
  s.insert(0, n);
  return s;
}

}  // namespace whence
