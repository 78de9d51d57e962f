// Causal depthwise convolution over [B, T, C], channels innermost: y_t = bias + sum_k weight[:, k] x_{t - (K-1) + k}.
// `reverse` looks ahead instead of back; each direction is the other's adjoint.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_conv(InferCtx& infer) {
  infer.need_float(0);
  infer.need_rank(0, 3);
  infer.need_rank(1, 2);
  for (int i = 1; i < infer.n(); ++i) infer.need_same_dtype(0, i);
  int64_t channels = infer.shape(0)[2];
  if (infer.shape(1)[0] != channels)
    infer.shape_error("x [B, T, C] has " + std::to_string(channels) + " channels, weight [C, K] has " +
                          std::to_string(infer.shape(1)[0]),
                      infer.shape(0)[1] == infer.shape(1)[0] ? "x looks like [B, C, T]: transpose it" : "");
  if (infer.shape(1)[1] < 1) infer.shape_error("weight [C, K] needs at least one tap");
  if (infer.n() > 2) infer.need_shape(2, {channels});
  infer.out(infer.shape(0), infer.dtype(0));
}

// ---- gradient of the taps: dw[c, k] = sum over b and t of d[b, t, c] x[b, t + offset(k), c] -----------------------

void infer_taps(InferCtx& infer) {
  infer.need_float(0);
  infer.need_same_dtype(0, 1);
  infer.need_rank(0, 3);
  int extra = infer.rank(1) - 3;
  bool fits = extra >= 0;
  for (int i = 0; fits && i < 3; ++i) fits = infer.shape(1)[i + extra] == infer.shape(0)[i];
  if (!fits) infer.shape_error("d must end in " + infer.shape(0).str() + ", got " + infer.shape(1).str());
  Shape s;
  for (int i = 0; i < extra; ++i) s.push_back(infer.shape(1)[i]);
  s.push_back(infer.shape(0)[2]);
  s.push_back(infer.attrs.integer("taps"));
  infer.out(s, infer.dtype(0));
}

std::vector<Var> taps_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = in[0], d = in[1];
  int64_t taps = attrs.integer("taps"), len = x.shape()[1];
  int lead = d.rank() - 3;
  std::vector<Var> columns;
  for (int64_t k = 0; k < taps; ++k) {
    int64_t at = ConvLineAttrs::offset(k, taps, ConvLineAttrs::of(attrs).reverse),
            back = std::min(len, std::max<int64_t>(0, -at)), ahead = std::min(len, std::max<int64_t>(0, at));
    Var pairs = slice(d, lead + 1, back, len - ahead) * slice(x, 1, ahead, len - back);
    columns.push_back(cast(sum(pairs, {lead, lead + 1}), x.dtype()));
  }
  return {stack(columns, lead + 1)};
}

// ---- sweeps -------------------------------------------------------------------------------------------------------

void conv_vjp(SweepCtx& sweep) {
  Var x = sweep.in(0), w = sweep.in(1), d = sweep.d();
  bool reverse = ConvLineAttrs::of(sweep.attrs).reverse;
  if (sweep.needs(0)) {
    Shape s = sweep.shape_of(0), flat = x.shape();
    if (sweep.lead()) flat[0] *= s[0];  // targets are a longer batch
    sweep.give(0,
               reshape(record(op_named("causal_conv1d"), {reshape(d, flat), w}, ConvLineAttrs{!reverse}.attrs()), s));
  }
  if (sweep.needs(1))
    sweep.give(1, record(op_named("causal_conv1d_taps"), {x, d}, {{"taps", w.shape()[1]}, {"reverse", reverse}}));
  if (sweep.n_in() > 2 && sweep.needs(2)) sweep.give(2, sum(d, {sweep.lead(), sweep.lead() + 1}));
}

std::vector<Sample> conv_samples() {
  auto one = [](Shape x, int64_t taps, bool bias, bool reverse, const char* name) {
    Sample s{{{.shape = x}, {.shape = {x[2], taps}, .parameter = true}}, ConvLineAttrs{reverse}.attrs(), name};
    if (bias) s.in.push_back({.shape = {x[2]}, .parameter = true});
    return s;
  };
  std::vector<Sample> all{one({2, 9, 5}, 4, true, false, "mamba"),         one({2, 5, 3}, 3, false, false, "no bias"),
                          one({1, 7, 4}, 4, true, true, "reverse"),        one({1, 2, 3}, 4, true, false, "short"),
                          one({2, 3, 67}, 1, true, false, "one tap, odd"), one({1, 1, 1}, 1, false, false, "tiny"),
                          one({0, 4, 3}, 2, true, false, "empty"),         one({2, 0, 3}, 2, true, false, "no steps")};
  all.push_back({{{.shape = {2, 5, 3}}, {.shape = {3, 2}}}, ConvLineAttrs{false}.attrs(), "both data"});
  return all;
}
std::vector<Sample> taps_samples() {
  auto one = [](Shape x, Shape d, int64_t taps, bool reverse, const char* name) {
    return Sample{{{.shape = x}, {.shape = d}}, {{"taps", taps}, {"reverse", reverse}}, name};
  };
  return {one({2, 9, 5}, {2, 9, 5}, 4, false, "mamba"), one({1, 7, 4}, {1, 7, 4}, 3, true, "reverse"),
          one({1, 2, 3}, {1, 2, 3}, 4, false, "short"), one({2, 5, 3}, {2, 2, 5, 3}, 2, false, "targets"),
          one({1, 3, 67}, {1, 3, 67}, 2, false, "odd"), one({2, 0, 3}, {2, 0, 3}, 2, false, "no steps")};
}

}  // namespace

REGISTER_OP(causal_conv1d) = {
    .doc = "y_t = bias + sum_k weight[:, k] x_{t-(K-1)+k}; x [B, T, C], weight [C, K]; reverse: x_{t+(K-1)-k}",
    .operands = {"x", "weight", "bias"},
    .infer = infer_conv,
    .vjp = conv_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = conv_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 9, 5}, f32}, {{9, 4}, f32}}, ConvLineAttrs{false}.attrs(), "x looks like [B, C, T]"},
              {{{{2, 9, 5}, f32}, {{5, 0}, f32}}, ConvLineAttrs{false}.attrs(), "needs at least one tap"},
              {{{{9, 5}, f32}, {{5, 4}, f32}}, ConvLineAttrs{false}.attrs(), "x must have rank 3"},
              {{{{2, 9, 5}, f32}, {{5, 4}, f32}, {{4}, f32}},
               ConvLineAttrs{false}.attrs(),
               "bias must have shape [5]"}};
        },
    .traits = {.batched_sweep = true},
};
REGISTER_OP(causal_conv1d_taps) = {
    .doc = "gradient of causal_conv1d's weight: x [B, T, C], d [.., B, T, C] -> [.., C, K]",
    .operands = {"x", "d"},
    .infer = infer_taps,
    .body = taps_body,
    .samples = taps_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 9, 5}, f32}, {{2, 8, 5}, f32}}, {{"taps", 4}, {"reverse", 0}}, "d must end in"}};
        },
    .traits = {.backward = true},
};

Var causal_conv1d(Arg x, Arg weight, OptionalArg bias, OptionalArg state) {
  LocationGuard at(x);
  auto conv = [&](Var v) {
    return bias ? record(causal_conv1d_op, {v, weight, *bias}, ConvLineAttrs{false}.attrs())
                : record(causal_conv1d_op, {v, weight}, ConvLineAttrs{false}.attrs());
  };
  if (!state) return conv(x);
  // What came before is convolved along, and its own results dropped.
  int64_t before = weight.rank() == 2 ? weight.shape()[1] - 1 : 0;
  Shape want = x.shape();
  if (want.rank() == 3) want[1] = before;
  if (!(state->shape() == want))
    throw ShapeError("[causal_conv1d] state must be [B, K-1, C] = " + want.str() + ", got " + state->shape().str());
  return slice(conv(concat({*state, x}, 1)), 1, before);
}

}  // namespace whence
