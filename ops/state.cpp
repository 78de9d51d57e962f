// Ops of states: many values as one arena and the norm of one, and a slice at a position that is data.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_pack(InferCtx& c) {
  int64_t n = 0;
  for (int i = 0; i < c.n(); ++i) {
    c.need_same_dtype(0, i);
    n += c.shape(i).numel();
  }
  c.out({n}, c.dtype(0));
}

// The part of a packed cotangent that belongs to operand i, in its shape.
void give_parts(SweepCtx& c) {
  int64_t at = 0;
  for (int i = 0; i < c.n_in(); ++i) {
    const int64_t n = c.in(i).numel();
    if (c.needs(i)) c.give(i, reshape(slice(c.d(), c.lead(), at, at + n), c.shape_of(i)));
    at += n;
  }
}

void absorbed_pack(SweepCtx& c) {
  int64_t at = 0;
  for (int i = 0; i < c.n_in(); ++i) {
    const int64_t n = c.in(i).numel();
    if (!c.carries(i)) c.absorb("constant", slice(c.d(), c.lead(), at, at + n));
    at += n;
  }
}

int axis_of(const SweepCtx& c) { return normalize_axis(c.attrs.integer("axis"), c.in(0).rank()) + c.lead(); }
void need_position(InferCtx& c, int i) {
  if (c.dtype(i) != i64) c.dtype_error("position must be i64, got " + std::string(name_of(c.dtype(i))));
  c.need_rank(i, 0);
}

// x [.., n, ..] and update [.., m, ..] with m <= n.
void infer_update(InferCtx& c) {
  c.need_same_dtype(0, 1);
  c.need_rank(1, c.rank(0));
  need_position(c, 2);
  Shape want = c.shape(0);
  const int axis = c.axis(0, c.attrs.integer("axis"));
  want[axis] = c.shape(1)[axis];
  c.need_shape(1, want);
  if (want[axis] > c.shape(0)[axis]) c.shape_error("update is longer than x along axis " + std::to_string(axis));
  c.out(c.shape(0), c.dtype(0));
}

void infer_slice_at(InferCtx& c) {
  need_position(c, 1);
  Shape s = c.shape(0);
  const int axis = c.axis(0, c.attrs.integer("axis"));
  const int64_t length = c.attrs.integer("length");
  if (length < 0 || length > s[axis])
    c.shape_error("a slice of " + std::to_string(length) + " does not fit axis " + std::to_string(axis));
  s[axis] = length;
  c.out(s, c.dtype(0));
}

Var zeros(Var like, const Shape& shape) { return broadcast_to(like.graph().constant(0.0, like.dtype()), shape); }

void give_update(SweepCtx& c) {
  const int axis = axis_of(c);
  if (c.needs(0)) c.give(0, update_slice(c.d(), zeros(c.d(), c.shape_of(1)), c.in(2), axis));
  if (c.needs(1)) c.give(1, slice_at(c.d(), c.in(2), c.in(1).shape()[axis - c.lead()], axis));
}
void give_slice_at(SweepCtx& c) { c.give(0, update_slice(zeros(c.d(), c.shape_of(0)), c.d(), c.in(1), axis_of(c))); }
void absorbed_update(SweepCtx& c) {
  const int axis = axis_of(c);
  if (!c.carries(0)) c.absorb("constant", update_slice(c.d(), zeros(c.d(), c.shape_of(1)), c.in(2), axis));
  if (!c.carries(1)) c.absorb("constant", slice_at(c.d(), c.in(2), c.in(1).shape()[axis - c.lead()], axis));
}

SampleInput position(int64_t at) { return {.shape = {}, .dtype = i64, .low = double(at), .high = double(at) + 1}; }

}  // namespace

REGISTER_OP(pack) = {
    .doc = "all operands row by row, one behind the other: [n0 + n1 + ..]. A plan computes them in place",
    .operands = {"x..."},
    .infer = infer_pack,
    .vjp = give_parts,
    .relevance = lrp::reindex,
    .absorbed = absorbed_pack,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {2, 3}}, {.shape = {4}}, {.shape = {}}}, {}, "three"},
                                     {{{.shape = {5}}}, {}, "one"},
                                     {{{.shape = {0, 2}}, {.shape = {3}}}, {}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, f32}, {{2}, f64}}, {}, "dtypes differ"}};
        },
    .traits = {.batched_sweep = true},
};

REGISTER_OP(update_slice) = {
    .doc = "x with x[.., position .. position + m, ..] = update, m = update's extent along axis",
    .operands = {"x", "update", "position"},
    .infer = infer_update,
    .vjp = give_update,
    .relevance = lrp::reindex,
    .absorbed = absorbed_update,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {4, 3}}, {.shape = {2, 3}}, position(1)}, {{"axis", 0}}, "rows"},
              {{{.shape = {2, 5, 2}}, {.shape = {2, 1, 2}}, position(4)}, {{"axis", -2}}, "last"},
              {{{.shape = {3}}, {.shape = {0}}, position(0)}, {{"axis", 0}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}, {{2, 2}, f32}, {{}, i64}}, {{"axis", 0}}, "update must have shape [2, 3]"},
              {{{{4}, f32}, {{5}, f32}, {{}, i64}}, {{"axis", 0}}, "longer than x"},
              {{{{4}, f32}, {{2}, f32}, {{}, i32}}, {{"axis", 0}}, "position must be i64"}};
        },
    .traits = {.batched_sweep = true, .sinks = 4},
};

REGISTER_OP(slice_at) = {
    .doc = "x[.., position .. position + length, ..] along axis; the position is data",
    .operands = {"x", "position"},
    .infer = infer_slice_at,
    .vjp = give_slice_at,
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {4, 3}}, position(1)}, {{"axis", 0}, {"length", 2}}, "rows"},
                                     {{{.shape = {2, 5, 2}}, position(2)}, {{"axis", 1}, {"length", 3}}, "middle"},
                                     {{{.shape = {3}}, position(0)}, {{"axis", 0}, {"length", 0}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4}, f32}, {{}, i64}}, {{"axis", 0}, {"length", 5}}, "does not fit axis 0"}};
        },
    .traits = {.batched_sweep = true, .sinks = 2},
};

REGISTER_OP(sum_squares) = {
    .doc = "sum of x^2 over all elements, f64 []: what a gradient's norm is made of",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.need_float(0);
          c.out({}, f64);
        },
    .vjp = [](SweepCtx& c) { vjp_through_body(c); },
    .body = [](std::span<const Var> in, const Attrs&) -> std::vector<Var> { return {sum(square(cast(in[0], f64)))}; },
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 5}}}, {}, "matrix"}, {{{.shape = {0}}}, {}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, i32}}, {}, "x must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

REGISTER_OP(all_sound) = {
    .doc = "bool []: every element of every operand is finite, and no kernel of the run has refused its data so far",
    .operands = {"x..."},
    .infer =
        [](InferCtx& c) {
          for (int i = 0; i < c.n(); ++i) c.need_float(i);
          c.out({}, boolean);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 5}}, {.shape = {}}}, {}, "two"}, {{{.shape = {0}}}, {}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2}, i32}}, {}, "x0 must be floating point"}};
        },
    .traits = {.nondifferentiable = true},
};

Var all_sound(const std::vector<Var>& values, std::source_location where) {
  return graph_of("all_sound", values, where).record(all_sound_op, values, {}, where);
}
Var sum_squares(Arg x) { return record(sum_squares_op, {x}); }

Var pack(const std::vector<Var>& values, std::source_location where) {
  return graph_of("pack", values, where).record(pack_op, values, {}, where);
}
Var update_slice(Arg x, Arg update, Arg at, int64_t axis) {
  return record(update_slice_op, {x, update, at}, {{"axis", axis}});
}
Var slice_at(Arg x, Arg at, int64_t length, int64_t axis) {
  return record(slice_at_op, {x, at}, {{"axis", axis}, {"length", length}});
}

}  // namespace whence
