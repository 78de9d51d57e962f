// Joining and splitting along an axis: concat, stack, split, chunk.
#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_concat(InferCtx& infer) {
  int a = infer.axis(0, infer.attrs.integer("axis"));
  Shape s = infer.shape(0);
  for (int i = 1; i < infer.n(); ++i) {
    infer.need_same_dtype(0, i);
    infer.need_rank(i, s.rank());
    for (int k = 0; k < s.rank(); ++k)
      if (k != a && infer.shape(i)[k] != s[k])
        infer.shape_error("extents differ on axis " + std::to_string(k) + ": " + std::to_string(s[k]) + " vs " +
                          std::to_string(infer.shape(i)[k]));
    s[a] = add_extents(s[a], infer.shape(i)[a]);
  }
  infer.out(s, infer.dtype(0));
}
void sweep_concat(SweepCtx& sweep) {
  int64_t a = axis_of(sweep.attrs, sweep.out().rank()), at = 0;
  for (int i = 0; i < sweep.n_in(); ++i) {
    int64_t n = sweep.in(i).shape()[int(a)];
    if (sweep.needs(i)) sweep.give(i, slice(sweep.d(), a + sweep.lead(), at, at + n));
    at += n;
  }
}
void absorbed_concat(SweepCtx& sweep) {
  int64_t a = axis_of(sweep.attrs, sweep.out().rank()), at = 0;
  for (int i = 0; i < sweep.n_in(); ++i) {
    int64_t n = sweep.in(i).shape()[int(a)];
    if (!sweep.carries(i)) sweep.absorb("constant", slice(sweep.d(), a + sweep.lead(), at, at + n));
    at += n;
  }
}

}  // namespace

REGISTER_OP(concat) = {
    .doc = "operands one after the other along an axis",
    .operands = {"x..."},
    .infer = infer_concat,
    .vjp = sweep_concat,
    .relevance = lrp::reindex,
    .absorbed = absorbed_concat,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {2, 3}}, {.shape = {2, 1}}, {.shape = {2, 2}}}, axis_attrs(1), "three"},
              {{{.shape = {2}}, {.shape = {0}}}, axis_attrs(0), "empty"},
              {{{.shape = {2, 2}}}, axis_attrs(-1), "one"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}, {{3, 3}, f32}}, axis_attrs(1), "extents differ on axis 0"}};
        },
    .traits = {.batched_sweep = true},
};

Var concat(const std::vector<Var>& xs, int64_t axis, std::source_location where) {
  return graph_of("concat", xs, where).record(concat_op, xs, axis_attrs(axis), where);
}

Var stack(const std::vector<Var>& xs, int64_t axis, std::source_location where) {
  LocationGuard at(graph_of("stack", xs, where), where);
  int a = normalize_axis(axis, xs[0].rank() + 1);
  std::vector<Var> rows;
  for (const Var& x : xs) {
    if (!(x.shape() == xs[0].shape()))
      throw ShapeError("[stack] shapes differ: " + xs[0].shape().str() + " vs " + x.shape().str());
    rows.push_back(unsqueeze(x, a));
  }
  return concat(rows, a, where);
}

std::vector<Var> split(Arg x, Ints sizes, int64_t axis) {
  LocationGuard at(x);
  int a = normalize_axis(axis, x.rank());
  int64_t total = 0, begin = 0;
  for (int64_t n : sizes) total = add_extents(total, n);
  if (total != x.shape()[a])
    throw ShapeError("[split] sizes add up to " + std::to_string(total) + ", axis " + std::to_string(a) + " of " +
                     x.shape().str() + " has " + std::to_string(x.shape()[a]));
  std::vector<Var> parts;
  for (int64_t n : sizes) {
    if (n < 0 || n > total - begin) throw ShapeError("[split] size " + std::to_string(n) + " leaves the axis");
    parts.push_back(slice(x, a, begin, begin + n));
    begin += n;
  }
  return parts;
}

std::vector<Var> chunk(Arg x, int64_t parts, int64_t axis) {
  LocationGuard at(x);
  int64_t n = x.shape()[normalize_axis(axis, x.rank())];
  if (parts < 1 || n % parts)
    throw ShapeError("[chunk] an extent of " + std::to_string(n) + " does not divide into " + std::to_string(parts) +
                     " parts");
  return or_out_of_memory("[chunk]", [&] { return split(x, Ints(size_t(parts), n / parts), axis); });
}

}  // namespace whence
