// pad, and the adjoint of its modes that repeat elements.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

Shape padded(InferCtx& infer, Shape s) {
  const PadAttrs attrs = PadAttrs::of(infer.attrs);
  if (int(attrs.pads.size()) != 2 * s.rank())
    infer.value_error("pads has " + std::to_string(attrs.pads.size()) + " entries, rank " + std::to_string(s.rank()) +
                          " needs " + std::to_string(2 * s.rank()),
                      "give {before, after} for every axis, axis 0 first");
  const PadMode mode = attrs.mode;
  for (int a = 0; a < s.rank(); ++a) {
    int64_t before = attrs.before(a), after = attrs.after(a), n = s[a];
    std::string where = "axis " + std::to_string(a) + " of extent " + std::to_string(n) + " cannot take pads " +
                        std::to_string(before) + " and " + std::to_string(after);
    if (mode != PadMode::constant && (before < 0 || after < 0))
      infer.value_error(where, "only constant padding may crop");
    if (mode == PadMode::reflect && (before || after) && std::max(before, after) >= n)
      infer.shape_error(where, "reflection shows at most extent - 1 elements");
    if (mode == PadMode::replicate && (before || after) && n == 0)
      infer.shape_error(where, "there is no edge to repeat");
    if (mode == PadMode::circular && std::max(before, after) > n)
      infer.shape_error(where, "wrapping shows at most extent elements");
    s[a] = add_extents(add_extents(n, before), after);
    if (s[a] < 0 || std::min(before, after) < -n) infer.shape_error(where);
  }
  return s;
}

Ints lead_pads(const Ints& pads, int lead) {
  Ints p(size_t(2 * lead), 0);
  p.insert(p.end(), pads.begin(), pads.end());
  return p;
}

// `shape` is what is left when the pads are folded in.
Attrs adjoint_attrs(Ints pads, PadMode mode, const Shape& shape) {
  Attrs attrs = PadAttrs::make(std::move(pads), mode, 0);
  attrs.set({"shape", shape});
  return attrs;
}

void vjp_pad(SweepCtx& sweep) {
  const PadAttrs attrs = PadAttrs::of(sweep.attrs);
  Ints pads = lead_pads(attrs.pads, sweep.lead());
  if (attrs.mode != PadMode::constant)
    return sweep.give(0,
                      record(op_named("pad_adjoint"), {sweep.d()}, adjoint_attrs(pads, attrs.mode, sweep.shape_of(0))));
  for (int64_t& p : pads) p = -p;  // cropping what was added; what was cropped gets zero
  sweep.give(0, pad(sweep.d(), pads));
}

// Relevance on padding: an indicator of the filled places times R.
void absorbed_pad(SweepCtx& sweep) {
  const PadAttrs attrs = PadAttrs::of(sweep.attrs);
  if (attrs.mode != PadMode::constant) return;
  Var zeros = broadcast_to(sweep.graph.constant(0.0, sweep.d().dtype()), sweep.in().shape());
  sweep.absorb("padding", sweep.d() * pad(zeros, attrs.pads, PadMode::constant, 1.0));
}

std::vector<Sample> pad_samples() {
  auto at = PadAttrs::make;
  return {{{{.shape = {3, 2}}}, at({1, 2, 0, 1}, PadMode::constant, 0.5), "constant"},
          {{{.shape = {5}}}, at({-1, -2}, PadMode::constant, 0), "crop"},
          {{{.shape = {2, 3}}}, at({0, 0, -1, 1}, PadMode::constant, 0), "shift"},
          {{{.shape = {0, 3}}}, at({1, 1, 0, 0}, PadMode::constant, 2), "empty"},
          {{{.shape = {2, 0}}}, at({0, 0, 0, 0}, PadMode::constant, 0), "nothing"},
          {{{.shape = {}}}, at({}, PadMode::constant, 0), "scalar"},
          {{{.shape = {3, 4}}}, at({2, 1, 1, 3}, PadMode::reflect, 0), "reflect"},
          {{{.shape = {2, 3}}}, at({1, 0, 2, 1}, PadMode::replicate, 0), "replicate"},
          {{{.shape = {4, 2}}}, at({3, 4, 0, 1}, PadMode::circular, 0), "circular"},
          {{{.shape = {3, 5, 67}}}, at({1, 0, 0, 0, 3, 2}, PadMode::reflect, 0), "odd"},
          {{{.shape = {9, 8, 3}}}, at({0, 1, 0, 0, 1, 2}, PadMode::constant, 0.5), "short runs"}};
}

}  // namespace

REGISTER_OP(pad) = {
    .doc =
        "x with `before` and `after` elements added at both ends of each axis; constant pads may be negative and crop",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.need_holds(infer.dtype(0), PadAttrs::of(infer.attrs).value);
          infer.out(padded(infer, infer.shape(0)), infer.dtype(0));
        },
    .vjp = vjp_pad,
    .relevance = lrp::reindex,
    .absorbed = absorbed_pad,
    .samples = pad_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, PadAttrs::make({1, 1}, PadMode::constant, 0), "pads has 2 entries, rank 2 needs 4"},
              {{{{3}, f32}},
               PadAttrs::make({3, 0}, PadMode::reflect, 0),
               "axis 0 of extent 3 cannot take pads 3 and 0"},
              {{{{3}, f32}}, PadAttrs::make({-1, 0}, PadMode::replicate, 0), "only constant padding may crop"},
              {{{{0}, f32}}, PadAttrs::make({1, 0}, PadMode::replicate, 0), "there is no edge to repeat"},
              {{{{3}, f32}}, PadAttrs::make({0, 4}, PadMode::circular, 0), "wrapping shows at most extent elements"},
              {{{{3}, f32}},
               PadAttrs::make({-2, -2}, PadMode::constant, 0),
               "axis 0 of extent 3 cannot take pads -2 and -2"}};
        },
    .traits = {.batched_sweep = true},
};

// dx of reflect, replicate and circular padding: every copy of an element adds to it.
REGISTER_OP(pad_adjoint) = {
    .doc = "Adjoint of pad: the copies of each element added up",
    .operands = {"d"},
    .infer =
        [](InferCtx& infer) {
          infer.need_float(0);
          Shape x = infer.attrs.shape("shape"), want = padded(infer, x);
          if (!(want == infer.shape(0)))
            infer.shape_error("x " + x.str() + " padded has shape " + want.str() + ", d " + infer.shape(0).str());
          infer.out(x, infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          const PadAttrs attrs = PadAttrs::of(sweep.attrs);
          sweep.give(0, pad(sweep.d(), lead_pads(attrs.pads, sweep.lead()), attrs.mode));
        },
    .samples =
        [] {
          auto at = adjoint_attrs;
          return std::vector<Sample>{{{{.shape = {5, 4}}}, at({2, 0, 1, 1}, PadMode::reflect, {3, 2}), "reflect"},
                                     {{{.shape = {4, 3}}}, at({1, 1, 0, 0}, PadMode::replicate, {2, 3}), "replicate"},
                                     {{{.shape = {7}}}, at({3, 1}, PadMode::circular, {3}), "circular"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4}, i32}}, adjoint_attrs({1, 1}, PadMode::reflect, {2}), "d must be floating point"},
              {{{{4}, f32}}, adjoint_attrs({1, 1}, PadMode::reflect, {3}), "x [3] padded has shape [5], d [4]"}};
        },
    .traits = {.batched_sweep = true, .backward = true},
};

Var pad(Arg x, Ints pads, PadMode mode, double value) {
  Ints added = pads, cropped = pads;
  for (int64_t& p : added) p = std::max<int64_t>(p, 0);
  for (int64_t& p : cropped) p = std::min<int64_t>(p, 0);
  if (mode != PadMode::constant && added != pads) {
    LocationGuard at(x);
    if (mode == PadMode::circular) return pad(pad(x, cropped), added, mode);
    return pad(pad(x, added, mode), cropped);
  }
  return record(pad_op, {x}, PadAttrs::make(std::move(pads), mode, value));
}

}  // namespace whence
