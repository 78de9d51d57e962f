// Markers, the stabilised division, and the combinators that most ops use as their relevance rule (autograd/rules.h).
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

void infer_same(InferCtx& c) { c.out(c.shape(0), c.dtype(0)); }
bool view_same(const View& in, const Attrs&, View& out) {
  out = in;
  return true;
}
std::vector<Sample> marker_samples() { return {{{{.shape = {3, 4}}}, {}, "matrix"}}; }
std::vector<ErrorSample> no_errors() { return {}; }

}  // namespace

REGISTER_OP(stop_gradient) = {
    .doc = "x; gradients end here, relevance passes",
    .operands = {"x"},
    .infer = infer_same,
    .view = view_same,
    .relevance = lrp::identity,
    .samples = marker_samples,
    .errors = no_errors,
    .traits = {.blocks_gradient = true, .batched_sweep = true},
};
REGISTER_OP(stop_relevance) = {
    .doc = "x; relevance ends here, gradients pass",
    .operands = {"x"},
    .infer = infer_same,
    .view = view_same,
    .vjp = [](SweepCtx& c) { c.give(0, c.d()); },
    .samples = marker_samples,
    .errors = no_errors,
    .traits = {.blocks_relevance = true, .batched_sweep = true},
};

Var stop_gradient(Arg x) { return record(stop_gradient_op, {x}); }
Var stop_relevance(Arg x) { return record(stop_relevance_op, {x}); }

// ---- share * R / stab(z) ------------------------------------------------------------------------------------------

namespace {

using lrp::Stab;

void infer_stabilised(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  // R may have leading axes (targets) that z has not.
  if (!broadcastable_to(c.shape(1), c.shape(0))) c.shape_error("z must broadcast to R");
  c.out(c.shape(0), accumulate_dtype(c.dtype(0)));
}

// The definition, in primitives.
Var stabilised(Var z, Stab mode, double eps) {
  Var zero = z.graph().constant(0.0, z.dtype());
  auto signed_by = [&](Var e) { return where(greater_equal(z, zero), z + e, z - e); };
  auto rms = [&](Ints axes) { return sqrt(mean(square(z), std::move(axes), true)); };
  switch (mode) {
    case Stab::relative: return signed_by(maximum(z.rank() > 1 ? rms({-1}) : abs(z), 1.0) * eps);
    case Stab::sign: return signed_by(z.graph().constant(eps, z.dtype()));
    case Stab::plain: return z + eps;
    case Stab::clip: return where(greater_equal(z, zero), maximum(z, eps), minimum(z, -eps));
    case Stab::rms_sample: {
      Ints axes;
      for (int a = 1; a < z.rank(); ++a) axes.push_back(a);
      return signed_by((axes.empty() ? abs(z) : rms(axes)) * eps);
    }
    case Stab::rms_tensor: return signed_by(maximum(rms({}), 1.0) * eps);
  }
  return z;
}

std::vector<Var> stabilised_body(std::span<const Var> in, const Attrs& attrs) {
  Var r = widened(in[0]), den = stabilised(widened(in[1]), Stab(attrs.integer("stab")), attrs.real("eps"));
  // Nothing is nothing, also of a NaN: of a query, say, that nobody asks about.
  Var none = logical_or(equal(den, 0.0), logical_and(equal(r, 0.0), not_equal(den, den)));
  return {where(none, 0.0, r * attrs.real("share") / where(none, 1.0, den))};
}

Attrs stab_attrs(Stab mode, double eps, double share) {
  return {{"share", share}, {"eps", eps}, {"stab", int64_t(mode)}};
}

// Relative: eps times max(1, rms of z's row) takes the place of eps.
constexpr ScalarRow kStabilisedRow{
    .name = "stabilised_div",
    .operands = {"R", "z"},
    .params = {"share", "eps"},
    .text = "stabilised_div(R, z, share, eps)",
    .whole_rows = [](const Attrs& a) { return Stab(a.integer("stab")) == Stab::relative; },
};

}  // namespace

REGISTER_OP(stabilised_div) = {
    .doc = "share R / stab(z): z [..] broadcasts to R (leading axes)",
    .operands = {"R", "z"},
    .infer = infer_stabilised,
    .body = stabilised_body,
    .scalar = kStabilisedRow,
    .samples =
        [] {
          SampleInput r{.shape = {3, 5}}, z{.shape = {3, 5}, .gap = 0.3}, one{.shape = {}, .low = 0.5};
          std::vector<Sample> s;
          for (Stab m : {Stab::relative, Stab::sign, Stab::plain, Stab::clip, Stab::rms_sample, Stab::rms_tensor})
            s.push_back({{r, z}, stab_attrs(m, 0.05, 0.5), "mode" + std::to_string(int(m))});
          s.push_back({{{.shape = {2, 3, 5}}, z}, stab_attrs(Stab::relative, 0.05, 1), "targets"});
          s.push_back({{one, one}, stab_attrs(Stab::relative, 0.05, 1), "scalar"});
          s.push_back({{{.shape = {7}}, {.shape = {7}, .low = -9, .high = 9, .gap = 0.3}},
                       stab_attrs(Stab::relative, 0.05, 1),
                       "vector"});
          return s;
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{3, 5}, f32}, {{4}, f32}}, stab_attrs(Stab::sign, 1e-6, 1), "z must broadcast to R"}};
        },
    .traits = {.batched_sweep = true, .backward = true},
};

// ---- combinators --------------------------------------------------------------------------------------------------

namespace lrp {

void identity(SweepCtx& c) {
  for (int i = 0; i < c.n_in(); ++i)
    if (c.needs(i)) return c.give(i, c.d());
}

void reindex(SweepCtx& c) { c.op.vjp(c); }

void sink(SweepCtx&) {}

void by_vjp(SweepCtx& c, double share) {
  bool inside = c.rule().stab_of_double && share == 0.5;
  Var t = inside ? c.stabilised_share(c.d(), c.out() * 2.0, 1.0) : c.stabilised_share(c.d(), c.out(), share);
  std::vector<Var> g = c.frozen_vjp(t);
  for (int i = 0; i < c.n_in(); ++i)
    if (g[size_t(i)].defined()) c.give(i, c.in(i)*g[size_t(i)]);
}

void linear_in_carriers(SweepCtx& c) { by_vjp(c, 1.0); }
void multilinear(SweepCtx& c) { by_vjp(c, 1.0 / std::max(1, c.carriers())); }

void absorbed_by_stabiliser(SweepCtx& c) {
  bool inside = c.rule().stab_of_double && c.op.relevance == multilinear && c.carriers() == 2;
  Var t = inside ? c.stabilised_share(c.d(), c.out() * 2.0, 2.0) : c.stabilised_share(c.d(), c.out(), 1.0);
  c.absorb("stabiliser", c.d() - t * c.out());
}

}  // namespace lrp
}  // namespace whence
