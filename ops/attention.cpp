// Scaled dot-product attention. The definition is the body below; relevance is the vjp at R_O / (2 stab(O)), so that
// neither sweep ever stores a T x S matrix.
#include <cmath>
#include <limits>
#include <numeric>

#include "whence/autograd/sweep.h"
#include "whence/ops/floats.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// The result and the gradients are [B, T, H, E]: a token's heads lie together, as the projections before and after want
// them, so that splitting and merging heads are views. attention() shows the result as [B, H, T, E].
//
// Operands: q [B, H, T, D], k [B, G, S, D], v [B, G, S, E], mask [B or 1, S or 1], bias [.. broadcast to B, H, T, S]. A
// bias has a mask before it. Head h reads k and v of head h / (H / G).

struct Extents {
  int64_t B, H, T, D, G, S, E;
  Extents(const Shape& q, const Shape& k, const Shape& v)
      : B(q[0]), H(q[1]), T(q[2]), D(q[3]), G(k[1]), S(k[2]), E(v[3]) {}
};

// [.., H, T, D] <-> [.., T, H, D].
Shape swapped(Shape s) {
  std::swap(s[-3], s[-2]);
  return s;
}
Var swapped(Var v) {
  Ints axes(size_t(v.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  std::swap(axes[axes.size() - 3], axes[axes.size() - 2]);
  return permute(v, axes);
}

void check_operands(InferCtx& c, int mask) {
  c.need_float(0);
  for (int i = 0; i < 3; ++i) {
    c.need_rank(i, 4);
    c.need_same_dtype(0, i);
  }
  Extents e(c.shape(0), c.shape(1), c.shape(2));
  if (c.shape(1)[3] != e.D) {
    c.shape_error("q and k have different widths: " + std::to_string(e.D) + " vs " + std::to_string(c.shape(1)[3]),
                  "attention takes q [B, H, T, D], k and v [B, Hkv, S, D]");
  }
  if (c.shape(1)[0] != e.B || c.shape(2)[0] != e.B || c.shape(2)[1] != e.G || c.shape(2)[2] != e.S)
    c.shape_error("k and v must agree with each other and with q's batch",
                  "attention takes q [B, H, T, D], k and v [B, Hkv, S, D]");
  if (e.G < 1 || e.H % e.G)
    c.shape_error("the " + std::to_string(e.H) + " heads of q are no multiple of the " + std::to_string(e.G) +
                  " heads of k and v");
  if (c.n() > mask) {
    if (c.dtype(mask) != boolean && c.dtype(mask) != u8)
      c.dtype_error("mask must be bool or u8, got " + std::string(name_of(c.dtype(mask))), "1 = may be seen");
    c.need_rank(mask, 2);
    if (!broadcastable_to(c.shape(mask), {e.B, e.S}))
      c.shape_error("mask must be [B, S] = " + Shape({e.B, e.S}).str() + ", got " + c.shape(mask).str());
  }
  if (c.n() > mask + 1) {
    c.need_same_dtype(0, mask + 1);
    Shape full{e.B, e.H, e.T, e.S};
    if (!broadcastable_to(c.shape(mask + 1), full))
      c.shape_error("bias must broadcast to [B, H, T, S] = " + full.str() + ", got " + c.shape(mask + 1).str());
  }
}

void infer_attention(InferCtx& c) {
  check_operands(c, 3);
  Extents e(c.shape(0), c.shape(1), c.shape(2));
  c.out({e.B, e.T, e.H, e.E}, c.dtype(0));
  c.out({e.B, e.H, e.T}, accumulate_dtype(c.dtype(0)));
}

Shape led(Shape lead, const Shape& s) {
  for (int64_t n : s) lead.push_back(n);
  return lead;
}

void infer_attention_backward(InferCtx& c) {
  check_operands(c, 6);
  Extents e(c.shape(0), c.shape(1), c.shape(2));
  c.need_same_dtype(0, 3);
  need_statistic(c, 0, 4);
  c.need_same_dtype(0, 5);
  DType wide = accumulate_dtype(c.dtype(0));
  c.need_shape(3, {e.B, e.T, e.H, e.E});
  c.need_shape(4, {e.B, e.H, e.T});
  // d, and with it every result, may have one more leading axis: targets.
  Shape lead;
  if (c.rank(5) == 5) lead = {c.shape(5)[0]};
  c.need_shape(5, led(lead, {e.B, e.T, e.H, e.E}));
  for (int i = 0; i < 3; ++i) c.out(led(lead, swapped(c.shape(i))), wide);
  if (!c.attrs.flag("bias_gradient")) return;
  if (c.n() < 8) c.value_error("bias_gradient needs a bias");
  c.out(led(lead, c.shape(7)), wide);
}

// ---- the definition -----------------------------------------------------------------------------------------------

// k or v with each head repeated for its group of query heads: [B, G, S, D] -> [B, H, S, D].
Var repeat_heads(Var v, int64_t heads) {
  int64_t b = v.shape()[0], g = v.shape()[1], s = v.shape()[2], d = v.shape()[3];
  if (g == heads) return v;
  return reshape(broadcast_to(reshape(v, {b, g, 1, s, d}), {b, g, heads / g, s, d}), {b, heads, s, d});
}
// Its adjoint; v may have a target axis in front.
Var sum_heads(Var v, int64_t groups) {
  int64_t h = v.shape()[-3];
  if (groups == h) return v;
  Shape s = v.shape();
  s[-3] = groups;
  s.insert(s.rank() - 2, h / groups);
  return sum(reshape(v, s), {-3});
}

// The operands of the scores by name, halves widened; undefined where absent. What no query may see is zero: a masked
// key or value may be NaN, and a bias of -inf is a mask.
struct Operands {
  Var q, k, v, mask, bias, hidden;
  Operands(std::span<const Var> in, size_t at) : q(widened(in[0])), k(widened(in[1])), v(widened(in[2])) {
    if (in.size() > at) {
      mask = in[at].dtype() == boolean ? in[at] : not_equal(in[at], 0.0);
      mask = broadcast_to(mask, {mask.shape()[0], k.shape()[2]});
      Var row = reshape(mask, {mask.shape()[0], 1, k.shape()[2], 1});
      k = where(row, k, 0.0);
      v = where(row, v, 0.0);
    }
    if (in.size() > at + 1) {
      bias = widened(in[at + 1]);
      hidden = equal(bias, -kInf);
      bias = where(hidden, 0.0, bias);
    }
  }
};

// Which keys each query sees: [B or 1, H or 1, T or 1, S]; undefined when all are seen.
Var visible_keys(const Operands& x, const Attrs& attrs) {
  int64_t T = x.q.shape()[2], S = x.k.shape()[2];
  Var seen;
  auto add = [&](Var v) { seen = seen.defined() ? logical_and(seen, v) : v; };
  if (x.mask.defined()) add(reshape(x.mask, {x.mask.shape()[0], 1, 1, S}));
  if (attrs.flag("causal")) {
    Tensor lower = Tensor::empty({1, 1, T, S}, boolean);
    bool* p = lower.data<bool>();
    for (int64_t i = 0; i < T; ++i)
      for (int64_t j = 0; j < S; ++j) *p++ = j <= i + S - T;
    add(x.q.graph().constant(lower));
  }
  if (x.hidden.defined()) add(logical_not(x.hidden));
  return seen;
}

Var scores_of(Var q, Var k, Var bias, const Attrs& attrs) {
  Var s = matmul(q, transpose(repeat_heads(k, q.shape()[1]))) * attrs.real("scale");
  return bias.defined() ? s + bias : s;
}

std::vector<Var> attention_body(std::span<const Var> in, const Attrs& attrs) {
  Operands x(in, 3);
  Graph& g = x.q.graph();
  int64_t H = x.q.shape()[1];
  auto result = [&](Var p) { return cast(swapped(matmul(p, repeat_heads(x.v, H))), in[0].dtype()); };
  Var s = scores_of(x.q, x.k, x.bias, attrs), seen = visible_keys(x, attrs);
  if (!seen.defined()) return {result(softmax(s)), logsumexp(s, {-1})};
  // A query that sees nothing, by the mask or by a bias of -inf, attends to nothing: scores 0, weights 0, and lse -inf.
  Var none = g.constant(-kInf, s.dtype()), zero = g.constant(0.0, s.dtype());
  s = where(seen, s, none);
  Var some = any(not_equal(s, none), {-1}, true);
  s = where(some, s, zero);
  Var p = where(some, softmax(s), zero), lse = where(some, logsumexp(s, {-1}, true), none);
  return {result(p), squeeze(lse, -1)};
}

// Attention weights from the saved lse; rows that see nothing get none.
Var weights_of(Var s, Var seen, Var lse) {
  Graph& g = s.graph();
  double lowest = s.dtype() == f64 ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
  lse = unsqueeze(lse, -1);
  if (!seen.defined()) return exp(s - lse);
  Var finite = where(less(lse, lowest), g.constant(0.0, s.dtype()), lse);
  return exp(where(seen, s - finite, g.constant(-kInf, s.dtype())));
}

std::vector<Var> attention_backward_body(std::span<const Var> in, const Attrs& attrs) {
  Operands x(in, 6);
  int64_t H = x.q.shape()[1], G = x.k.shape()[1];
  Var o = swapped(widened(in[3])), lse = in[4], d = swapped(widened(in[5]));
  Var s = scores_of(x.q, x.k, x.bias, attrs);
  Var p = weights_of(s, visible_keys(x, attrs), lse);
  Var dp = matmul(d, transpose(repeat_heads(x.v, H)));
  Var db = p * (dp - sum(d * o, {-1}, true)), ds = db * attrs.real("scale");
  std::vector<Var> out{swapped(matmul(ds, repeat_heads(x.k, H))), swapped(sum_heads(matmul(transpose(ds), x.q), G)),
                       swapped(sum_heads(matmul(transpose(p), d), G))};
  if (attrs.flag("bias_gradient")) {
    Shape lead = d.rank() == 5 ? Shape{d.shape()[0]} : Shape{}, full = x.bias.shape();
    while (full.rank() < 4) full.insert(0, 1);
    out.push_back(reshape(sum_to(db, led(lead, full)), led(lead, x.bias.shape())));
  }
  return out;
}

// ---- sweeps -------------------------------------------------------------------------------------------------------

void attention_vjp(SweepCtx& c) {
  if (c.has(1)) return vjp_through_body(c);
  bool bias = c.n_in() > 4 && c.needs(4);
  std::vector<Var> in{c.recorded(0), c.recorded(1), c.recorded(2), c.recorded_out(0), c.out(1), c.narrow_d()};
  for (int i = 3; i < c.n_in(); ++i) in.push_back(c.recorded(i));
  Attrs attrs = c.attrs;
  attrs.set({"bias_gradient", bias});
  std::vector<Var> d = record_all(op_named("attention_backward"), in, attrs, c.graph.location(c.graph.node(c.node_id)));
  for (int i = 0; i < 3; ++i) c.give(i, swapped(d[size_t(i)]));
  if (bias) c.give(4, d[3]);
}

// Shares of the two products: half to each operand that is data.
struct Shares {
  bool weights, values;
  double output, scores;
  explicit Shares(const SweepCtx& c)
      : weights(c.carries(0) || c.carries(1) || (c.n_in() > 4 && c.carries(4))),
        values(c.carries(2)),
        output(weights && values ? 0.5 : 1),
        scores(c.carries(0) && c.carries(1) ? 0.5 : 1) {}
};

// Linear maps telescope: R_q = q dq / 2, R_k = k dk / 2, R_v = v dv with (dq, dk, dv) = vjp(R_O / (2 stab(O))).
void attention_relevance(SweepCtx& c) {
  Shares share(c);
  bool doubled = c.rule().stab_of_double && share.output == 0.5;
  std::vector<Var> g = c.frozen_vjp(doubled ? c.stabilised_share(c.d(), c.out() * 2.0, 1.0)
                                            : c.stabilised_share(c.d(), c.out(), share.output));
  // What passes nothing on takes nothing: a masked key may be NaN, a bias is -inf where it hides.
  auto taken = [](Var x, Var d) { return where(equal(d, 0.0), 0.0, x * d); };
  for (int i = 0; i < c.n_in(); ++i) {
    if (!g[size_t(i)].defined()) continue;
    if (i >= 3) c.give(i, taken(c.in(i), g[size_t(i)]));
    else c.give(i, swapped(taken(swapped(c.in(i)), swapped(g[size_t(i)])) * (i < 2 ? share.scores : 1.0)));
  }
}

// The softmax residual, by the definition (T x S values: ledgers only): what reaches the weights, sum G O, less what
// the Taylor rule passes on, sum S P (G V^T - G O).
void attention_absorbed(SweepCtx& c) {
  Shares share(c);
  bool doubled = c.rule().stab_of_double && share.output == 0.5;
  Var g = doubled ? c.stabilised_share(c.d(), c.out() * 2.0, 1.0) : c.stabilised_share(c.d(), c.out(), share.output),
      arrived = g * c.out();
  c.absorb("stabiliser", c.d() - arrived * ((share.weights ? 1.0 : 0.0) + (share.values ? 1.0 : 0.0)));
  if (!share.weights) return;
  Operands x(c.all_in(), 3);
  Var raw = scores_of(x.q, x.k, {}, c.attrs), s = x.bias.defined() ? raw + x.bias : raw;
  Var p = weights_of(s, visible_keys(x, c.attrs), c.out(1));
  Var ds = p * (matmul(swapped(g), transpose(repeat_heads(x.v, x.q.shape()[1]))) - sum(swapped(arrived), {-1}, true));
  c.absorb("softmax", sum(arrived) - sum(unmasked(s) * ds));
  if (x.bias.defined() && !c.carries(4)) c.absorb("bias", unmasked(x.bias) * ds);
  if (!c.carries(0) && !c.carries(1)) c.absorb("constant", raw * ds);
}

// ---- samples ------------------------------------------------------------------------------------------------------

struct Case {
  int64_t B = 2, H = 2, T = 3, D = 4, G = 2, S = 3, E = 4;
  bool causal = false, mask = false, bias = false, blind = false;
  int64_t targets = 0;  // of the backward op
};
std::vector<SampleInput> inputs(const Case& n, bool backward) {
  std::vector<SampleInput> in{
      {.shape = {n.B, n.H, n.T, n.D}}, {.shape = {n.B, n.G, n.S, n.D}}, {.shape = {n.B, n.G, n.S, n.E}}};
  if (backward) {
    in.push_back({.shape = {n.B, n.T, n.H, n.E}});
    in.push_back({.shape = {n.B, n.H, n.T}, .low = 0.5, .high = 2, .statistic = true});
    in.push_back({.shape = n.targets ? Shape{n.targets, n.B, n.T, n.H, n.E} : Shape{n.B, n.T, n.H, n.E}});
  }
  if (n.mask || n.bias || n.blind)
    in.push_back({.shape = n.mask ? Shape{n.B, n.S} : Shape{1, 1},
                  .dtype = boolean,
                  .low = n.blind  ? 0.0
                         : n.mask ? 0.0
                                  : 1.0,
                  .high = n.blind ? 1.0 : 2.0});
  if (n.bias) in.push_back({.shape = {1, n.H, n.T, n.S}, .parameter = true});
  return in;
}
std::vector<Sample> attention_samples(bool backward) {
  auto one = [&](const Case& n, const char* name) {
    Attrs attrs{{"causal", n.causal}, {"scale", 0.6}};
    if (backward) attrs.set({"bias_gradient", n.bias});
    return Sample{inputs(n, backward), attrs, name};
  };
  std::vector<Sample> all{one({}, "plain"),
                          one({.T = 5, .S = 5, .causal = true}, "causal"),
                          one({.T = 2, .S = 5, .causal = true}, "causal, keys before"),
                          one({.T = 5, .S = 3, .causal = true}, "causal, blind queries"),
                          one({.H = 4, .G = 2, .E = 3}, "grouped"),
                          one({.H = 3, .G = 1, .S = 7, .mask = true}, "masked"),
                          one({.B = 1, .mask = true, .blind = true}, "nothing to see"),
                          one({.T = 4, .S = 4, .causal = true, .bias = true}, "bias"),
                          one({.H = 4, .G = 2, .S = 5, .mask = true, .bias = true}, "bias and mask"),
                          one({.B = 1, .H = 1, .T = 1, .D = 1, .G = 1, .S = 1, .E = 1}, "tiny"),
                          one({.B = 1, .H = 1, .T = 33, .D = 5, .G = 1, .S = 67, .E = 5}, "odd"),
                          one({.T = 0}, "no queries"),
                          one({.S = 0}, "no keys")};
  if (backward) {
    all.push_back(one({.H = 4, .G = 2, .S = 5, .mask = true, .bias = true, .targets = 3}, "targets"));
    all.push_back(one({.T = 5, .S = 3, .causal = true, .targets = 2}, "targets, blind queries"));
  }
  return all;
}
std::vector<ErrorSample> attention_errors() {
  Attrs a{{"causal", 0}, {"scale", 1.0}};
  TensorType q{{2, 4, 3, 8}, f32};
  return {{{q, {{2, 4, 3, 6}, f32}, q}, a, "different widths: 8 vs 6"},
          {{q, {{2, 3, 3, 8}, f32}, {{2, 3, 3, 8}, f32}}, a, "no multiple of the 3 heads"},
          {{q, q, {{2, 4, 5, 8}, f32}}, a, "k and v must agree"},
          {{q, q, q, {{2, 4}, boolean}}, a, "mask must be [B, S]"},
          {{q, q, q, {{2, 3}, f32}}, a, "mask must be bool or u8"},
          {{q, q, q, {{1, 1}, boolean}, {{5, 3}, f32}}, a, "bias must broadcast"},
          {{{{2, 3, 8}, f32}, q, q}, a, "q must have rank 4"}};
}

}  // namespace

REGISTER_OP(attention) = {
    .doc = "softmax(scale q k^T + bias, over visible keys) v, [B, T, H, E]; also lse [B, H, T]",
    .operands = {"q", "k", "v", "mask", "bias"},
    .infer = infer_attention,
    .vjp = attention_vjp,
    .body = attention_body,
    .fast_relevance = attention_relevance,
    .absorbed = attention_absorbed,
    .samples = [] { return attention_samples(false); },
    .errors = attention_errors,
    .traits = {.compute_bound = true, .batched_sweep = true, .sinks = 1u << 3},
};
REGISTER_OP(attention_backward) = {
    .doc = "dq, dk, dv of attention from its output, lse and d",
    .operands = {"q", "k", "v", "o", "lse", "d", "mask", "bias"},
    .infer = infer_attention_backward,
    .body = attention_backward_body,
    .samples = [] { return attention_samples(true); },
    .errors =
        [] {
          TensorType q{{2, 4, 3, 8}, f32}, o{{2, 3, 4, 8}, f32};
          return std::vector<ErrorSample>{
              {{q, q, q, o, q, o}, {{"causal", 0}, {"scale", 1.0}}, "lse must have shape [2, 4, 3]"}};
        },
    .traits = {.compute_bound = true, .sinks = 1u << 6, .backward = true},
};

Var attention(Arg q, Arg k, Arg v, AttentionOptions o) {
  LocationGuard at(q);
  double scale = o.scale != 0 ? o.scale : 1 / std::sqrt(double(q.rank() ? std::max<int64_t>(1, q.shape()[-1]) : 1));
  std::vector<Var> in{q, k, v};
  if (o.mask || o.bias) in.push_back(o.mask ? *o.mask : q.graph().constant(Tensor::full({1, 1}, 1, boolean)));
  if (o.bias) in.push_back(*o.bias);
  return swapped(q.graph().record(attention_op, in, {{"causal", o.causal}, {"scale", scale}}));
}

}  // namespace whence
