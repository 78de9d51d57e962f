// What the ops at computed positions share. Positions count from 0; where the attribute "low" is -n, negative ones
// count from the end. One outside the range is an error of the run.
#pragma once
#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/composite.h"

namespace whence {

/// x, integer, whose values must lie in [low, high): one that does not is a ValueError of the run that names it `what`.
Var in_range(Arg x, int64_t low, int64_t high, const std::string& what);

/// Sample of an index with values in [low, bound).
inline SampleInput positions(Shape s, int64_t bound, DType t = i64, int64_t low = 0) {
  return {.shape = s, .dtype = t, .low = double(low), .high = double(bound)};
}

/// \p attrs for positions that may be as low as `low`.
inline Attrs with_low(Attrs attrs, int64_t low) {
  if (low) attrs.set({"low", low});
  return attrs;
}
inline Attrs segment_attrs(int64_t axis, int64_t count) { return {{"axis", axis}, {"count", count}}; }

/// Checks an index that picks in lanes: x's rank, and on the other axes at most x's extents.
inline void need_lanes(InferCtx& infer, int x, int index, int axis) {
  std::string name = infer.op.operand_name(x);
  const Shape &have = infer.shape(x), &wanted = infer.shape(index);
  if (wanted.rank() != have.rank())
    infer.shape_error("index must have " + name + "'s rank " + std::to_string(have.rank()) + ", got " + wanted.str());
  for (int a = 0; a < have.rank(); ++a)
    if (a != axis && wanted[a] > have[a])
      infer.shape_error("index has extent " + std::to_string(wanted[a]) + " on axis " + std::to_string(a) + ", " +
                        name + " only " + std::to_string(have[a]));
}

inline void need_summable(InferCtx& infer, int i) {
  if (DType t = infer.dtype(i); t == u8 || t == boolean)
    infer.dtype_error(
        infer.op.operand_name(i) + " must be a number that can be added up, got " + std::string(name_of(t)),
        "cast it to i32");
}

inline Var zeros(Var like, const Shape& shape) { return broadcast_to(like.graph().constant(0.0, like.dtype()), shape); }

/// The index for a cotangent that has a target axis in front.
inline Var with_targets(Var index, const SweepCtx& sweep) {
  if (!sweep.lead()) return index;
  Shape s = index.shape();
  s.insert(0, sweep.targets());
  return broadcast_to(index, s);
}

// ---- ops that give values of x along an axis, and their positions as result 1 ----

/// The gradient goes to those positions; a cotangent of the positions ends here.
inline void sweep_positions(SweepCtx& sweep) {
  if (!sweep.has(0)) return;
  Var d = sweep.d(), index = with_targets(sweep.out(1), sweep);
  int axis = axis_of(sweep.attrs, sweep.in().rank());
  sweep.give(0, scatter_add(zeros(d, sweep.shape_of(0)), index, d, axis + sweep.lead()));
}
inline void absorb_positions(SweepCtx& sweep) {
  if (sweep.has(1)) sweep.absorb("index", sweep.d(1));
}

}  // namespace whence
