// softmax and log_softmax along one axis.
#include "whence/autograd/sweep.h"
#include "whence/ops/floats.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_softmax(InferCtx& c) {
  c.need_float(0);
  c.axis(0, c.attrs.integer("axis"));
  c.out(c.shape(0), c.dtype(0));
}

// The backward ops take y [..] and dy [.., or targets and ..]; the axis counts from the end, so that it fits both.
void infer_backward(InferCtx& c) {
  c.need_float(0);
  need_dtype_beside(c, 0, 1);
  c.axis(0, c.attrs.integer("axis"));
  int extra = c.rank(1) - c.rank(0);
  bool fits = extra >= 0;
  for (int i = 0; fits && i < c.rank(0); ++i) fits = c.shape(1)[i + extra] == c.shape(0)[i];
  if (!fits) c.shape_error("dy must end in " + c.shape(0).str() + ", got " + c.shape(1).str());
  c.out(c.shape(1), accumulate_dtype(c.dtype(0)));
}
int64_t from_end(const SweepCtx& c) { return normalize_axis(c.attrs.integer("axis"), c.in().rank()) - c.in().rank(); }
int64_t axis_from_end(const Attrs& attrs, int rank) { return normalize_axis(attrs.integer("axis"), rank) - rank; }

std::vector<Sample> samples() {
  auto one = [](Shape s, int64_t axis, const char* name) { return Sample{{{.shape = s}}, {{"axis", axis}}, name}; };
  return {one({3, 5}, -1, "rows"), one({5, 3}, 0, "columns"), one({2, 3, 4}, 1, "middle"),
          one({67}, 0, "odd"),     one({2}, 0, "tiny"),       one({0, 3}, 1, "empty")};
}
std::vector<ErrorSample> errors() {
  return {{{{{2, 3}, f32}}, {{"axis", 2}}, "axis 2 is outside"},
          {{{{2, 3}, i32}}, {{"axis", 1}}, "must be floating point"},
          {{{{}, f32}}, {{"axis", -1}}, "axis -1 is outside"}};
}
std::vector<Sample> backward_samples() {
  auto two = [](Shape y, Shape dy, int64_t axis, const char* name) {
    return Sample{{{.shape = y, .low = -2, .high = 0.5}, {.shape = dy}}, {{"axis", axis}}, name};
  };
  return {two({3, 5}, {3, 5}, -1, "rows"), two({5, 3}, {5, 3}, -2, "columns"), two({3, 4}, {2, 3, 4}, -1, "targets"),
          two({33}, {33}, -1, "odd"), two({0, 3}, {0, 3}, -1, "empty")};
}
std::vector<ErrorSample> backward_errors() { return {{{{{2, 3}, f32}, {{3}, f32}}, {{"axis", -1}}, "dy must end in"}}; }

}  // namespace

// ---- softmax ------------------------------------------------------------------------------------------------------

REGISTER_OP(softmax_backward) = {
    .doc = "y (dy - sum(y dy, axis)), y being the softmax",
    .operands = {"y", "dy"},
    .infer = infer_backward,
    .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> {
      Var y = widened(in[0]), dy = widened(in[1]);
      return {y * (dy - sum(y * dy, {axis_from_end(attrs, y.rank())}, true))};
    },
    .samples = backward_samples,
    .errors = backward_errors,
    .traits = {.batched_sweep = true, .backward = true},
};

namespace {

void softmax_vjp(SweepCtx& c) { c.give(0, record(softmax_backward_op, {c.out(), c.d()}, {{"axis", from_end(c)}})); }

// First-order Taylor expansion at x (AttnLRP, proposition 3.1): R_x = x (R - s sum(R)). Not conserving.
void softmax_relevance(SweepCtx& c) {
  Var r = c.d();
  c.give(0, unmasked(c.in()) * (r - c.out() * sum(r, {from_end(c)}, true)));
}

// Independent of the rule: sum_j R_j (1 - x_j + sum_i s_i x_i).
void softmax_absorbed(SweepCtx& c) {
  Var x = unmasked(c.in());
  c.absorb("softmax", c.d() * (1.0 - x + sum(c.out() * x, {from_end(c)}, true)));
}

}  // namespace

REGISTER_OP(softmax) = {
    .doc = "e^x / sum(e^x) along an axis",
    .operands = {"x"},
    .infer = infer_softmax,
    .vjp = softmax_vjp,
    .relevance = softmax_relevance,
    .absorbed = softmax_absorbed,
    .samples = samples,
    .errors = errors,
    .traits = {.batched_sweep = true},
};

Var softmax(Arg x, int64_t axis) { return record(softmax_op, {x}, {{"axis", axis}}); }

// ---- log_softmax --------------------------------------------------------------------------------------------------

REGISTER_OP(log_softmax_backward) = {
    .doc = "dy - e^y sum(dy, axis), y being the log-softmax",
    .operands = {"y", "dy"},
    .infer = infer_backward,
    .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> {
      Var y = widened(in[0]), dy = widened(in[1]);
      return {dy - exp(y) * sum(dy, {axis_from_end(attrs, y.rank())}, true)};
    },
    .samples = backward_samples,
    .errors = backward_errors,
    .traits = {.batched_sweep = true, .backward = true},
};

REGISTER_OP(log_softmax) = {
    .doc = "x - logsumexp(x) along an axis",
    .operands = {"x"},
    .infer = infer_softmax,
    .vjp =
        [](SweepCtx& c) {
          c.give(0, record(log_softmax_backward_op, {c.out(), c.d()}, {{"axis", from_end(c)}}));
        },
    .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> {
      return {cast(widened(in[0]) - logsumexp(in[0], {attrs.integer("axis")}, true), in[0].dtype())};
    },
    .samples = samples,
    .errors = errors,
    .traits = {.batched_sweep = true},
};

Var log_softmax(Arg x, int64_t axis) { return record(log_softmax_op, {x}, {{"axis", axis}}); }

}  // namespace whence
