// Convolutions: three maps that are each other's derivatives:
//   conv(x, w)            y = sum over taps of w x
//   conv_transpose(y, w)  its adjoint in x
//   conv_weight(x, y)     its adjoint in w
#include "whence/ops/conv.h"

#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"

namespace whence {
namespace {

// ---- shapes -------------------------------------------------------------------------------------------------------

void check_attrs(InferCtx& infer, int space) {
  auto [stride, padding, dilation, groups] = ConvAttrs::of(infer.attrs);
  for (auto [name, list] : {std::pair{"stride", &stride}, {"padding", &padding}, {"dilation", &dilation}})
    if (int(list->size()) != space)
      infer.value_error(std::string(name) + " needs " + std::to_string(space) + " values");
  for (size_t i = 0; i < size_t(space); ++i)
    for (auto [v, least] : {std::pair{stride[i], 1}, {dilation[i], 1}, {padding[i], 0}})
      if (v < least || v > INT32_MAX)
        infer.value_error("stride and dilation must be positive, padding not negative, all below 2^31");
  if (groups < 1) infer.value_error("groups must be positive");
}

void check_operands(InferCtx& infer) {
  infer.need_float(0);
  for (int i = 1; i < infer.n(); ++i) infer.need_same_dtype(0, i);
  if (infer.rank(0) < 3 || infer.rank(0) > 5)
    infer.shape_error("x must be [N, C, ...] with one to three axes of space, got " + infer.shape(0).str());
  infer.need_rank(1, infer.rank(0));
  check_attrs(infer, infer.rank(0) - 2);
}

void infer_conv(InferCtx& infer) {
  check_operands(infer);
  const Shape &x = infer.shape(0), &w = infer.shape(1);
  auto [stride, padding, dilation, groups] = ConvAttrs::of(infer.attrs);
  if (x[1] % groups || w[0] % groups || x[1] / groups != w[1])
    infer.shape_error("x has " + std::to_string(x[1]) + " channels, weight [O, C / groups, ...] " + w.str() + " with " +
                      std::to_string(groups) + " groups takes " + std::to_string(w[1]) + " each");
  if (infer.n() > 2) infer.need_shape(2, {w[0]});
  Shape out{x[0], w[0]};
  for (int i = 2; i < x.rank(); ++i) {
    size_t a = size_t(i - 2);
    int64_t room = x[i] + 2 * padding[a] - multiply_extents(dilation[a], w[i] - 1) - 1;
    if (room < 0)
      infer.shape_error("the kernel is larger than axis " + std::to_string(i) + " of x " + x.str() +
                        " with its padding");
    out.push_back(room / stride[a] + 1);
  }
  infer.out(out, infer.dtype(0));
}

void infer_transpose(InferCtx& infer) {
  check_operands(infer);
  const Shape &x = infer.shape(0), &w = infer.shape(1);
  auto [stride, padding, dilation, groups] = ConvAttrs::of(infer.attrs);
  if (x[1] != w[0] || x[1] % groups)
    infer.shape_error("x has " + std::to_string(x[1]) + " channels, weight [C, O / groups, ...] " + w.str() +
                      " takes " + std::to_string(w[0]));
  const int64_t channels = multiply_extents(w[1], groups);
  if (infer.n() > 2) infer.need_shape(2, {channels});
  const Ints& extra = infer.attrs.ints("output_padding");
  if (int(extra.size()) != x.rank() - 2)
    infer.value_error("output_padding needs " + std::to_string(x.rank() - 2) + " values");
  Shape out{x[0], channels};
  for (int i = 2; i < x.rank(); ++i) {
    size_t a = size_t(i - 2);
    if (extra[a] < 0 || extra[a] >= std::max(stride[a], dilation[a]))
      infer.value_error("output_padding must be less than stride or dilation");
    int64_t n = add_extents(multiply_extents(x[i] - 1, stride[a]) - 2 * padding[a] + extra[a] + 1,
                            multiply_extents(dilation[a], w[i] - 1));
    if (n < 0) infer.shape_error("padding leaves nothing of axis " + std::to_string(i));
    out.push_back(n);
  }
  infer.out(out, infer.dtype(0));
}

void infer_weight(InferCtx& infer) {
  infer.need_float(0);
  infer.need_same_dtype(0, 1);
  infer.need_rank(1, infer.rank(0));
  if (infer.rank(0) < 3 || infer.rank(0) > 5) infer.shape_error("x must be [N, C, ...]");
  check_attrs(infer, infer.rank(0) - 2);
  int64_t groups = ConvAttrs::of(infer.attrs).groups;
  if (infer.shape(0)[0] != infer.shape(1)[0] || infer.shape(0)[1] % groups || infer.shape(1)[1] % groups)
    infer.shape_error("batch or channels do not belong together");
  Shape out{infer.shape(1)[1], infer.shape(0)[1] / groups};
  for (int64_t k : infer.attrs.ints("kernel")) out.push_back(k);
  infer.out(out, infer.dtype(0));
}

// ---- derivatives --------------------------------------------------------------------------------------------------

// The narrow shape is known: output padding beyond a stride reaches into cells that conv would see as further windows.
Var call_conv(Var x, Var w, const Attrs& a, const Shape& narrow) {
  Var y = record(op_named("conv"), {x, w}, ConvAttrs::of(a).attrs());
  for (int i = 2; i < narrow.rank(); ++i) y = slice(y, i, 0, narrow[i]);
  return y;
}
// The wide shape is known: whatever the stride skipped at the far end comes back as output padding.
Var call_transpose(Var y, Var w, const Attrs& a, const Shape& wide) {
  auto [stride, padding, dilation, groups] = ConvAttrs::of(a);
  Ints extra;
  for (int i = 2; i < wide.rank(); ++i) {
    size_t k = size_t(i - 2);
    extra.push_back(wide[i] - ((y.shape()[i] - 1) * stride[k] - 2 * padding[k] + dilation[k] * (w.shape()[i] - 1) + 1));
  }
  Attrs t = ConvAttrs::of(a).attrs();
  t.set({"output_padding", extra});
  return record(op_named("conv_transpose"), {y, w}, t);
}
Var call_weight(Var x, Var y, const Attrs& a, const Shape& w) {
  Attrs t = ConvAttrs::of(a).attrs();
  t.set({"kernel", Ints(w.begin() + 2, w.end())});
  return record(op_named("conv_weight"), {x, y}, t);
}

// Several targets are one more axis of samples for the maps that keep samples apart, and one more axis of channels
// inside each group for the sum over samples.

// f of [K N, C, ..] instead of [K, N, C, ..].
template <class F> Var by_samples(const SweepCtx& sweep, Var d, F&& f) {
  if (!sweep.lead()) return f(d);
  Shape flat = d.shape();
  flat[1] *= flat[0];
  flat.erase(0);
  Var y = f(reshape(d, flat));
  Shape led = y.shape();
  led[0] /= sweep.targets();
  led.insert(0, sweep.targets());
  return reshape(y, led);
}

// [K, N, G C', ..] -> [N, G K C', ..], G being the groups.
Var with_targets_inside(Var d, int64_t groups) {
  const Shape s = d.shape();
  int64_t K = s[0], N = s[1], C = s[2];
  Shape split{K, N, groups, C / groups}, joined{N, K * C};
  Ints order{1, 2, 0, 3};
  for (int i = 3; i < s.rank(); ++i) {
    split.push_back(s[i]);
    joined.push_back(s[i]);
    order.push_back(i + 1);
  }
  return reshape(permute(reshape(d, split), order), joined);
}

// The weight's part of a conv from x to y. The targets lie in y, whose channels are the weight's first axis, or in x,
// whose channels of one group are its second.
Var weight_part(const SweepCtx& sweep, Var x, Var y, bool targets_in_y) {
  const Shape w = sweep.in(1).shape();
  if (!sweep.lead()) return call_weight(x, y, sweep.attrs, w);
  int64_t K = sweep.targets(), groups = ConvAttrs::of(sweep.attrs).groups;
  Var& wide = targets_in_y ? y : x;
  wide = with_targets_inside(wide, groups);
  Var d = call_weight(x, y, sweep.attrs, w);
  Shape split = w;  // [G, K, O', ..], or [C, K, O / G, ..]
  if (targets_in_y) split[0] = w[0] / groups;
  split.insert(targets_in_y ? 0 : 1, K);
  if (targets_in_y) split.insert(0, groups);
  Ints order{1, 0};
  for (int i = 2; i < split.rank(); ++i) order.push_back(i);
  return reshape(permute(reshape(d, split), order), sweep.shape_of(1));
}

void give_bias(SweepCtx& sweep) {
  if (sweep.n_in() < 3 || !sweep.needs(2)) return;
  Ints axes{sweep.lead()};  // all but targets and channels
  for (int i = 2; i < sweep.out().rank(); ++i) axes.push_back(i + sweep.lead());
  sweep.give(2, sum(sweep.d(), axes));
}

void conv_vjp(SweepCtx& sweep) {
  if (sweep.needs(0))
    sweep.give(0, by_samples(sweep, sweep.d(), [&](Var d) {
                 Shape x = sweep.in(0).shape();
                 x[0] = d.shape()[0];
                 return call_transpose(d, sweep.in(1), sweep.attrs, x);
               }));
  if (sweep.needs(1)) sweep.give(1, weight_part(sweep, sweep.in(0), sweep.d(), true));
  give_bias(sweep);
}
void transpose_vjp(SweepCtx& sweep) {
  if (sweep.needs(0))
    sweep.give(0, by_samples(sweep, sweep.d(),
                             [&](Var d) { return call_conv(d, sweep.in(1), sweep.attrs, sweep.in(0).shape()); }));
  if (sweep.needs(1)) sweep.give(1, weight_part(sweep, sweep.d(), sweep.in(0), false));
  give_bias(sweep);
}
void weight_vjp(SweepCtx& sweep) {
  if (sweep.needs(0)) sweep.give(0, call_transpose(sweep.in(1), sweep.d(), sweep.attrs, sweep.in(0).shape()));
  if (sweep.needs(1)) sweep.give(1, call_conv(sweep.in(0), sweep.d(), sweep.attrs, sweep.in(1).shape()));
}

// ---- samples ------------------------------------------------------------------------------------------------------

Attrs options(Ints stride, Ints padding, Ints dilation, int64_t groups) {
  return ConvAttrs{stride, padding, dilation, groups}.attrs();
}
Attrs with(Attrs a, const char* name, Ints v) {
  a.set({name, std::move(v)});
  return a;
}
SampleInput weights(Shape s) { return {.shape = s, .parameter = true}; }

std::vector<Sample> conv_samples() {
  return {{{{.shape = {2, 3, 9}}, weights({4, 3, 3}), weights({4})}, options({1}, {1}, {1}, 1), "line"},
          {{{.shape = {2, 4, 6, 5}}, weights({6, 2, 3, 2}), weights({6})}, options({2, 1}, {1, 0}, {1, 2}, 2), "plane"},
          {{{.shape = {1, 3, 5, 5}}, weights({3, 1, 3, 3})}, options({1, 1}, {1, 1}, {1, 1}, 3), "depthwise"},
          {{{.shape = {1, 2, 6, 6}}, weights({3, 2, 1, 1})}, options({2, 2}, {0, 0}, {1, 1}, 1), "skipping"},
          {{{.shape = {1, 2, 3, 4, 3}}, weights({2, 2, 2, 2, 2}), weights({2})},
           options({1, 2, 1}, {0, 1, 1}, {1, 1, 1}, 1),
           "volume"},
          {{{.shape = {0, 3, 5}}, weights({2, 3, 3})}, options({1}, {0}, {1}, 1), "empty"}};
}
std::vector<Sample> transpose_samples() {
  return {{{{.shape = {2, 3, 4}}, weights({3, 2, 3}), weights({2})},
           with(options({2}, {1}, {1}, 1), "output_padding", {1}),
           "line"},
          {{{.shape = {1, 4, 3, 4}}, weights({4, 2, 2, 3})},
           with(options({2, 1}, {0, 1}, {1, 2}, 2), "output_padding", {1, 0}),
           "plane"},
          {{{.shape = {2, 2, 3}}, weights({2, 1, 2})},
           with(options({2}, {1}, {4}, 1), "output_padding", {3}),
           "beyond a stride"}};
}

}  // namespace

REGISTER_OP(conv) = {
    .doc = "y = sum over taps of weight x + bias: x [N, C, ...], weight [O, C / groups, k...], bias [O]",
    .operands = {"x", "weight", "bias"},
    .infer = infer_conv,
    .vjp = conv_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = conv_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}}, options({1}, {0}, {1}, 1), "x has 3 channels"},
              {{{{1, 3, 2}, f32}, {{2, 3, 3}, f32}}, options({1}, {0}, {1}, 1), "kernel is larger"},
              {{{{1, 3, 5}, f32}, {{2, 3, 3}, f32}}, options({0}, {0}, {1}, 1), "must be positive"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};
REGISTER_OP(conv_transpose) = {
    .doc = "the adjoint of conv in its input: x [N, C, ...], weight [C, O / groups, k...], bias [O]",
    .operands = {"x", "weight", "bias"},
    .infer = infer_transpose,
    .vjp = transpose_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = transpose_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}},
                                           with(options({1}, {0}, {1}, 1), "output_padding", {0}),
                                           "takes 2"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};
REGISTER_OP(conv_weight) = {
    .doc = "the adjoint of conv in its weight: x [N, C, ...], y [N, O, ...] -> [O, C / groups, kernel...]",
    .operands = {"x", "y"},
    .infer = infer_weight,
    .vjp = weight_vjp,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {2, 3, 9}}, {.shape = {2, 4, 9}}}, with(options({1}, {1}, {1}, 1), "kernel", {3}), "line"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{1, 3, 5}, f32}, {{2, 4, 3}, f32}},
                                           with(options({1}, {0}, {1}, 1), "kernel", {3}),
                                           "do not belong together"}};
        },
    .traits = {.compute_bound = true, .backward = true},
};

// ---- the public functions -----------------------------------------------------------------------------------------

namespace {

Ints per_axis(const Ints& v, int n, int64_t otherwise) {
  if (v.empty()) return Ints(size_t(n), otherwise);
  return v.size() == 1 ? Ints(size_t(n), v[0]) : v;
}
Attrs attrs_of(const ConvOptions& o, int space) {
  return options(per_axis(o.stride, space, 1), per_axis(o.padding, space, 0), per_axis(o.dilation, space, 1), o.groups);
}

}  // namespace

Var conv(Arg x, Arg weight, OptionalArg bias, const ConvOptions& o) {
  Attrs a = attrs_of(o, std::max(0, x.rank() - 2));
  return bias ? record(conv_op, {x, weight, *bias}, a) : record(conv_op, {x, weight}, a);
}

Var conv_transpose(Arg x, Arg weight, OptionalArg bias, const ConvOptions& o) {
  int space = std::max(0, x.rank() - 2);
  Attrs a = with(attrs_of(o, space), "output_padding", per_axis(o.output_padding, space, 0));
  return bias ? record(conv_transpose_op, {x, weight, *bias}, a) : record(conv_transpose_op, {x, weight}, a);
}

}  // namespace whence
