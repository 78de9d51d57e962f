// layer_norm and rms_norm over the last axis. The reciprocal spread is a normaliser: in relevance sweeps it is frozen,
// which leaves the epsilon rule over (x - mu) rstd w + b (AttnLRP's detach-eps).
#include "whence/autograd/sweep.h"
#include "whence/ops/floats.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

Shape rows_of(const Shape& x) {  // all but the last axis
  Shape s = x;
  s.erase(s.rank() - 1);
  return s;
}

void infer_norm(InferCtx& c, bool with_mean) {
  c.need_float(0);
  if (c.rank(0) < 1) c.shape_error("x must have an axis to normalise");
  for (int i = 1; i < c.n(); ++i) {
    need_dtype_beside(c, 0, i);
    c.need_shape(i, {c.shape(0)[-1]});
  }
  if (c.attrs.real("eps") < 0) c.value_error("eps must not be negative");
  Shape rows = rows_of(c.shape(0));
  DType statistic = accumulate_dtype(c.dtype(0));
  c.out(c.shape(0), c.dtype(0));
  if (with_mean) c.out(rows, statistic);
  c.out(rows, statistic);
}

// Backward ops: dy may have leading target axes that x has not.
void infer_norm_backward(InferCtx& c, int dy, int weight, bool has_bias) {
  c.need_float(0);
  for (int i = 1; i < c.n(); ++i) i < dy ? need_statistic(c, 0, i) : need_dtype_beside(c, 0, i);
  for (int i = 1; i < dy; ++i) c.need_shape(i, rows_of(c.shape(0)));
  int extra = c.rank(dy) - c.rank(0);
  Shape tail;
  for (int i = std::max(extra, 0); i < c.rank(dy); ++i) tail.push_back(c.shape(dy)[i]);
  if (extra < 0 || !(tail == c.shape(0)))
    c.shape_error("dy must end in " + c.shape(0).str() + ", got " + c.shape(dy).str());
  if (c.n() > weight) c.need_shape(weight, {c.shape(0)[-1]});
  DType wide = accumulate_dtype(c.dtype(0));
  c.out(c.shape(dy), wide);
  if (!c.attrs.flag("params")) return;
  Shape s;
  for (int i = 0; i < extra; ++i) s.push_back(c.shape(dy)[i]);
  s.push_back(c.shape(0)[-1]);
  c.out(s, wide);
  if (has_bias) c.out(s, wide);
}

Var column(Var v) { return unsqueeze(v, -1); }
Var row_mean(Var v) { return mean(v, {-1}, true); }
Var per_feature(Var v, int lead) {  // sums all axes between the leading ones and the last
  Ints axes;
  for (int a = lead; a < v.rank() - 1; ++a) axes.push_back(a);
  return axes.empty() ? v : sum(v, axes);
}

// 1 / sqrt(mean(x^2) + eps), in f64: the squares of f32 would leave its range.
Var reciprocal_spread(Var x, double eps) { return cast(rsqrt(row_mean(square(cast(x, f64))) + eps), x.dtype()); }

std::vector<Var> layer_norm_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = widened(in[0]), mu = row_mean(x), centred = x - mu, rstd = reciprocal_spread(centred, attrs.real("eps"));
  Var y = centred * stop_relevance(rstd);
  if (in.size() > 1) y = y * widened(in[1]);
  if (in.size() > 2) y = y + widened(in[2]);
  return {cast(y, in[0].dtype()), squeeze(mu, -1), squeeze(rstd, -1)};
}

std::vector<Var> layer_norm_backward_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = widened(in[0]), rstd = column(in[2]), dy = widened(in[3]), unit = (x - column(in[1])) * rstd;
  Var g = in.size() > 4 ? dy * widened(in[4]) : dy;
  Var spread = g - row_mean(g);
  if (!attrs.flag("frozen")) spread = spread - unit * row_mean(g * unit);
  std::vector<Var> out{spread * rstd};
  if (attrs.flag("params")) {
    int lead = dy.rank() - x.rank();
    out.push_back(per_feature(dy * unit, lead));
    out.push_back(per_feature(dy, lead));
  }
  return out;
}

std::vector<Var> rms_norm_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = widened(in[0]), rstd = reciprocal_spread(x, attrs.real("eps"));
  Var y = x * stop_relevance(rstd);
  if (in.size() > 1) y = y * widened(in[1]);
  return {cast(y, in[0].dtype()), squeeze(rstd, -1)};
}

std::vector<Var> rms_norm_backward_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = widened(in[0]), rstd = column(in[1]), dy = widened(in[2]), unit = x * rstd;
  Var g = in.size() > 3 ? dy * widened(in[3]) : dy;
  Var spread = attrs.flag("frozen") ? g : g - unit * row_mean(g * unit);
  std::vector<Var> out{spread * rstd};
  if (attrs.flag("params")) out.push_back(per_feature(dy * unit, dy.rank() - x.rank()));
  return out;
}

// ---- sweeps, shared: op's inputs are x, weight, bias; STATS saved statistics follow output 0 ----------------------

template <int STATS> void norm_vjp(SweepCtx& c) {
  for (int k = 1; k < c.n_out(); ++k)
    if (c.has(k)) return vjp_through_body(c);
  bool params = (c.n_in() > 1 && c.needs(1)) || (c.n_in() > 2 && c.needs(2));
  std::vector<Var> in{c.recorded(0)};
  for (int k = 1; k <= STATS; ++k) in.push_back(c.out(k));
  in.push_back(c.d());
  if (c.n_in() > 1) in.push_back(c.recorded(1));
  std::vector<Var> d = record_all(op_named(c.op.name + "_backward"), in, {{"frozen", c.frozen()}, {"params", params}},
                                  c.graph.location(c.graph.node(c.node_id)));
  for (int i = 0; i < c.n_in(); ++i)
    if (i == 0 || params) c.give(i, d[size_t(i)]);
}

void norm_relevance(SweepCtx& c) {
  std::vector<Var> g = c.frozen_vjp(c.stabilised_share(c.d(), c.out(), 1.0));
  bool halves = c.n_in() > 1 && c.carries(0) && c.carries(1);  // x times a weight that is data
  for (int i = 0; i < c.n_in(); ++i)
    if (g[size_t(i)].defined()) c.give(i, c.in(i)*g[size_t(i)] * (halves && i < 2 ? 0.5 : 1.0));
}

void norm_absorbed(SweepCtx& c) {
  Var t = c.stabilised_share(c.d(), c.out(), 1.0);
  if (c.n_in() > 2 && !c.carries(2)) c.absorb("bias", t * c.in(2));
  if (!c.carries(0) && !(c.n_in() > 1 && c.carries(1)))
    c.absorb("constant", t * (c.n_in() > 2 ? c.out() - c.in(2) : c.out()));  // only a bias carries
  c.absorb("stabiliser", c.d() - t * c.out());
}

// ---- samples ------------------------------------------------------------------------------------------------------

std::vector<Sample> norm_samples(int params) {
  auto one = [&](Shape s, int n, const char* name, bool data = false) {
    Sample r{{{.shape = s}}, {{"eps", 1e-5}}, name};
    for (int i = 0; i < n; ++i) r.in.push_back({.shape = {s[-1]}, .parameter = !data});
    return r;
  };
  std::vector<Sample> all{
      one({3, 5}, params, "affine"),        one({2, 3, 7}, 1, "weight"), one({4, 6}, 0, "plain"),
      one({33}, params, "one row"),         one({2, 2}, params, "tiny"), one({0, 4}, params, "no rows"),
      one({3, 5}, params, "all data", true)};
  all.push_back({{{.shape = {3, 8}, .low = 99, .high = 101}}, {{"eps", 1e-5}}, "big mean"});
  return all;
}

std::vector<Sample> backward_samples(int stats) {
  auto one = [&](Shape s, Shape dy, bool weight, bool frozen, bool params, const char* name) {
    Sample r{{{.shape = s}}, {{"frozen", frozen}, {"params", params}}, name};
    for (int k = 0; k < stats; ++k) r.in.push_back({.shape = rows_of(s), .low = 0.5, .high = 2, .statistic = true});
    r.in.push_back({.shape = dy});
    if (weight) r.in.push_back({.shape = {s[-1]}});
    return r;
  };
  return {one({3, 5}, {3, 5}, true, false, true, "affine"),
          one({2, 3, 7}, {2, 3, 7}, true, false, false, "no parameters"),
          one({4, 6}, {4, 6}, false, false, true, "plain"),
          one({3, 5}, {3, 5}, true, true, true, "frozen"),
          one({3, 5}, {2, 3, 5}, true, false, true, "targets"),
          one({9}, {9}, true, false, true, "one row"),
          one({0, 4}, {0, 4}, true, false, true, "no rows")};
}
std::vector<ErrorSample> norm_errors() {
  Attrs eps{{"eps", 1e-5}};
  return {{{{{2, 3}, f32}, {{4}, f32}}, eps, "weight must have shape [3]"},
          {{{{}, f32}}, eps, "x must have an axis"},
          {{{{2, 3}, i32}}, eps, "must be floating point"},
          {{{{2, 3}, f32}, {{3}, f64}}, eps, "dtypes differ"},
          {{{{2, 3}, f32}}, {{"eps", -1.0}}, "eps must not be negative"}};
}

}  // namespace

REGISTER_OP(layer_norm) = {
    .doc = "y = (x - mean) rstd weight + bias over the last axis; also mean and rstd = 1 / sqrt(var + eps)",
    .operands = {"x", "weight", "bias"},
    .infer = [](InferCtx& c) { infer_norm(c, true); },
    .vjp = norm_vjp<2>,
    .body = layer_norm_body,
    .fast_relevance = norm_relevance,
    .absorbed = norm_absorbed,
    .samples = [] { return norm_samples(2); },
    .errors = norm_errors,
    .traits = {.mixed_floats = true, .batched_sweep = true},
};
REGISTER_OP(layer_norm_backward) = {
    .doc = "dx, and dweight and dbias when `params`; `frozen` holds rstd constant",
    .operands = {"x", "mean", "rstd", "dy", "weight"},
    .infer = [](InferCtx& c) { infer_norm_backward(c, 3, 4, true); },
    .body = layer_norm_backward_body,
    .samples = [] { return backward_samples(2); },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}, {{2}, f32}, {{2}, f32}, {{3, 2}, f32}},
                                           {{"frozen", 0}, {"params", 0}},
                                           "dy must end in"}};
        },
    .traits = {.backward = true},
};
REGISTER_OP(rms_norm) = {
    .doc = "y = x rstd weight over the last axis; also rstd = 1 / sqrt(mean(x^2) + eps)",
    .operands = {"x", "weight"},
    .infer = [](InferCtx& c) { infer_norm(c, false); },
    .vjp = norm_vjp<1>,
    .body = rms_norm_body,
    .fast_relevance = norm_relevance,
    .absorbed = norm_absorbed,
    .samples = [] { return norm_samples(1); },
    .errors = norm_errors,
    .traits = {.mixed_floats = true, .batched_sweep = true},
};
REGISTER_OP(rms_norm_backward) = {
    .doc = "dx, and dweight when `params`; `frozen` holds rstd constant",
    .operands = {"x", "rstd", "dy", "weight"},
    .infer = [](InferCtx& c) { infer_norm_backward(c, 2, 3, false); },
    .body = rms_norm_backward_body,
    .samples = [] { return backward_samples(1); },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}, {{2}, f32}, {{3, 2}, f32}}, {{"frozen", 0}, {"params", 0}}, "dy must end in"}};
        },
    .traits = {.backward = true},
};

Var layer_norm(Arg x, OptionalArg weight, OptionalArg bias, double eps) {
  LocationGuard at(x);
  if (!weight && bias) return layer_norm(x, {}, {}, eps) + *bias;
  if (weight && bias) return record(layer_norm_op, {x, *weight, *bias}, {{"eps", eps}});
  if (weight) return record(layer_norm_op, {x, *weight}, {{"eps", eps}});
  return record(layer_norm_op, {x}, {{"eps", eps}});
}

Var rms_norm(Arg x, OptionalArg weight, double eps) {
  if (weight) return record(rms_norm_op, {x, *weight}, {{"eps", eps}});
  return record(rms_norm_op, {x}, {{"eps", eps}});
}

}  // namespace whence
