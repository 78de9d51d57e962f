// Losses. Cross entropy with integer targets is fused: neither sweep stores probabilities or one-hot rows.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "whence/autograd/sweep.h"
#include "whence/ops/checks.h"
#include "whence/ops/floats.h"
#include "whence/ops/fused.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

Shape led(Shape s, int64_t targets) {
  s.insert(0, targets);
  return s;
}

Shape rows_of(const Shape& s) {
  Shape r = s;
  r.erase(r.rank() - 1);
  return r;
}

void check_labels(InferCtx& c) {
  c.need_float(0);
  if (c.rank(0) < 1 || c.shape(0)[-1] < 1) c.shape_error("logits [.., V] need at least one class");
  if (c.dtype(1) != i32 && c.dtype(1) != i64)
    c.dtype_error("target must be i32 or i64, got " + std::string(name_of(c.dtype(1))));
  if (!(c.shape(1) == rows_of(c.shape(0))))
    c.shape_error("target must have shape " + rows_of(c.shape(0)).str() + ", got " + c.shape(1).str(),
                  c.shape(1) == c.shape(0) ? "soft targets are floating point" : "");
  double s = c.attrs.real("label_smoothing");
  if (s < 0 || s > 1) c.value_error("label_smoothing must be within [0, 1]");
}

void infer_cross_entropy(InferCtx& c) {
  check_labels(c);
  bool none = Reduction(c.attrs.integer("reduction")) == Reduction::none;
  DType statistic = accumulate_dtype(c.dtype(0));
  c.out(none ? c.shape(1) : Shape{}, statistic);
  c.out(c.shape(1), statistic);
}

void infer_cross_entropy_backward(InferCtx& c) {
  check_labels(c);
  bool none = Reduction(c.attrs.integer("reduction")) == Reduction::none;
  need_statistic(c, 0, 2);
  need_statistic(c, 0, 3);
  c.need_shape(2, c.shape(1));
  Shape d = none ? c.shape(1) : Shape{}, x = c.shape(0);
  if (c.rank(3) == d.rank() + 1) {  // several targets
    d = led(d, c.shape(3)[0]);
    x = led(x, c.shape(3)[0]);
  }
  c.need_shape(3, d);
  c.out(x, accumulate_dtype(c.dtype(0)));
}

// w x; an infinite term of weight zero is no term.
Var weighted(Var w, Var x) {
  return w * where(logical_and(equal(w, 0.0), equal(abs(x), std::numeric_limits<double>::infinity())), 0.0, x);
}

Var number(Var like, double v) { return like.graph().constant(v, like.dtype()); }
Var counted(Var target, const Attrs& attrs) { return not_equal(target, double(attrs.integer("ignore_index"))); }
Var label_count(Var valid, DType t) {
  return maximum(sum(cast(valid, t)), 1.0);
}  // no labels: the mean is zero, not 0/0

std::vector<Var> cross_entropy_body(std::span<const Var> in, const Attrs& attrs) {
  Var target = in[1], valid = counted(target, attrs), x = where(unsqueeze(valid, -1), widened(in[0]), 0.0);
  double s = attrs.real("label_smoothing");
  Var logp = log_softmax(x), rows = -pick(logp, where(valid, target, 0));
  if (s == 1) rows = -mean(logp, {-1});
  else if (s != 0) rows = rows * (1 - s) - mean(logp, {-1}) * s;
  rows = where(valid, rows, 0.0);
  Var lse = logsumexp(in[0], {-1});
  switch (Reduction(attrs.integer("reduction"))) {
    case Reduction::none: return {rows, lse};
    case Reduction::sum: return {sum(rows), lse};
    case Reduction::mean: return {sum(rows) / label_count(valid, x.dtype()), lse};
  }
  return {};
}

std::vector<Var> cross_entropy_backward_body(std::span<const Var> in, const Attrs& attrs) {
  Var x = widened(in[0]), target = in[1], lse = in[2], d = in[3], valid = counted(target, attrs);
  double s = attrs.real("label_smoothing");
  int64_t classes = x.shape()[-1];
  Ints ids(static_cast<size_t>(classes));
  std::iota(ids.begin(), ids.end(), 0);
  Var columns = x.graph().constant(Tensor::from(ids).to(target.dtype()));
  Var hit = cast(equal(unsqueeze(target, -1), columns), x.dtype());
  Var g = exp(x - unsqueeze(lse, -1)) - hit * (1 - s) - s / double(classes);
  Reduction r = Reduction(attrs.integer("reduction"));
  if (r == Reduction::mean) d = d / label_count(valid, x.dtype());
  if (r == Reduction::none) d = unsqueeze(d, -1);
  else if (d.rank() == 1) d = reshape(d, led(Shape::filled(x.rank(), 1), d.shape()[0]));  // several targets
  g = g * d;
  return {where(unsqueeze(valid, -1), g, number(x, 0))};
}

void cross_entropy_vjp(SweepCtx& c) {
  if (c.has(1)) return vjp_through_body(c);
  c.give(0, record(op_named("cross_entropy_backward"), {c.recorded(0), c.in(1), c.out(1), c.d()}, c.attrs));
}

Attrs loss_attrs(Reduction r, double smoothing = 0, int64_t ignore = -100) {
  return {{"reduction", int64_t(r)}, {"label_smoothing", smoothing}, {"ignore_index", ignore}};
}

std::vector<Sample> cross_entropy_samples(bool backward) {
  auto one = [&](Shape x, Attrs attrs, const char* name, DType label = i64, int64_t targets = 0) {
    Sample s{
        {{.shape = x, .low = -3, .high = 3}, {.shape = rows_of(x), .dtype = label, .low = 0, .high = double(x[-1])}},
        attrs,
        name};
    if (!backward) return s;
    Shape d = Reduction(attrs.integer("reduction")) == Reduction::none ? rows_of(x) : Shape{};
    s.in.push_back({.shape = rows_of(x), .low = 1, .high = 3, .statistic = true});
    s.in.push_back({.shape = targets ? led(d, targets) : d, .statistic = true});
    return s;
  };
  std::vector<Sample> all{one({4, 5}, loss_attrs(Reduction::mean), "mean"),
                          one({4, 5}, loss_attrs(Reduction::sum), "sum"),
                          one({2, 3, 4}, loss_attrs(Reduction::none), "none"),
                          one({6, 3}, loss_attrs(Reduction::mean, 0, 1), "some ignored"),
                          one({4, 5}, loss_attrs(Reduction::mean, 0.1, 2), "smoothed", i32),
                          one({3, 67}, loss_attrs(Reduction::none, 0.2), "odd"),
                          one({3, 1}, loss_attrs(Reduction::mean, 0, 0), "all ignored"),
                          one({7}, loss_attrs(Reduction::mean), "one row"),
                          one({0, 3}, loss_attrs(Reduction::mean), "no rows")};
  if (backward) {
    all.push_back(one({6, 3}, loss_attrs(Reduction::mean, 0, 1), "targets, mean", i64, 2));
    all.push_back(one({2, 3, 4}, loss_attrs(Reduction::none, 0.1), "targets, none", i64, 3));
  }
  return all;
}
std::vector<ErrorSample> cross_entropy_errors() {
  Attrs a = loss_attrs(Reduction::mean);
  return {{{{{4, 5}, f32}, {{5}, i64}}, a, "target must have shape [4], got [5]"},
          {{{{4, 5}, f32}, {{4, 5}, i64}}, a, "soft targets are floating point"},
          {{{{4, 5}, f32}, {{4}, u8}}, a, "target must be i32 or i64"},
          {{{{4, 0}, f32}, {{4}, i64}}, a, "at least one class"},
          {{{{4, 5}, f32}, {{4}, i64}}, loss_attrs(Reduction::mean, 2), "within [0, 1]"}};
}

}  // namespace

REGISTER_OP(cross_entropy) = {
    .doc = "-log softmax(logits)[target], smoothed and reduced; ignored rows count for nothing; also lse [..]",
    .operands = {"logits", "target"},
    .infer = infer_cross_entropy,
    .vjp = cross_entropy_vjp,
    .body = cross_entropy_body,
    .samples = [] { return cross_entropy_samples(false); },
    .errors = cross_entropy_errors,
    .traits = {.batched_sweep = true, .sinks = 1u << 1},
};
REGISTER_OP(cross_entropy_backward) = {
    .doc = "gradient of cross_entropy's logits from the saved lse",
    .operands = {"logits", "target", "lse", "d"},
    .infer = infer_cross_entropy_backward,
    .body = cross_entropy_backward_body,
    .samples = [] { return cross_entropy_samples(true); },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{4, 5}, f32}, {{4}, i64}, {{4}, f32}, {{2, 4}, f32}},
                                           loss_attrs(Reduction::mean),
                                           "d must have shape []"}};
        },
    .traits = {.sinks = 1u << 1, .backward = true},
};

static Var reduced(Var rows, Reduction r) {
  return r == Reduction::none ? rows : r == Reduction::sum ? sum(rows) : mean(rows);
}

Var cross_entropy(Arg logits, Arg target, CrossEntropyOptions o) {
  LocationGuard at(logits);
  if (!is_float(target.dtype())) {
    // An ignored label may not fit into the labels' dtype.
    bool fits = o.ignore_index == int32_t(o.ignore_index);
    Var labels = target.dtype() == u8 || !fits ? cast(target, fits ? i32 : i64) : target.var;
    return record(cross_entropy_op, {logits, labels}, loss_attrs(o.reduction, o.label_smoothing, o.ignore_index));
  }
  need_float(logits, "cross_entropy", "logits");
  if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
    throw ValueError("[cross_entropy] label_smoothing must be within [0, 1], got " + std::to_string(o.label_smoothing));
  if (!(target.shape() == logits.shape()))
    throw ShapeError("[cross_entropy] soft targets must have the logits' shape " + logits.shape().str() + ", got " +
                     target.shape().str());
  Var x = widened(logits), t = cast(target, x.dtype()), log_p = log_softmax(x);
  if (o.label_smoothing != 0)
    t = t * (1 - o.label_smoothing) + o.label_smoothing / double(std::max<int64_t>(1, x.shape()[-1]));
  return reduced(-sum(weighted(t, log_p), {-1}), o.reduction);
}

// A target that would broadcast is almost always a mistake: [B, 1] against [B] gives B x B differences.
static Var matching(const char* op, Arg x, Arg target) {
  if (target.is_number()) return x.graph().constant(target.number, x.dtype());
  if (!(target.shape() == x.shape()))
    throw ShapeError(std::string("[") + op + "] shapes differ: " + x.shape().str() + " vs " + target.shape().str());
  return cast(target, x.dtype());
}

Var bce_with_logits(Arg logits, Arg target, Reduction reduction) {
  LocationGuard at(logits);
  need_float(logits, "bce_with_logits", "logits");
  Var x = widened(logits), t = matching("bce_with_logits", x, target), positive = greater(x, 0.0);
  // log(1 + e^x) - t x, and for x > 0 the same as log(1 + e^-x) + (1 - t) x: neither is a difference of large numbers.
  Var share = where(positive, 1.0 - t, -t);
  return reduced(softplus(where(positive, -x, x)) + weighted(share, x), reduction);
}

Var mse_loss(Arg prediction, Arg target, Reduction reduction) {
  LocationGuard at(prediction);
  need_float(prediction, "mse_loss", "prediction");
  Var x = widened(prediction);
  return reduced(square(x - matching("mse_loss", x, target)), reduction);
}

Var l1_loss(Arg prediction, Arg target, Reduction reduction) {
  LocationGuard at(prediction);
  need_float(prediction, "l1_loss", "prediction");
  Var x = widened(prediction);
  return reduced(abs(x - matching("l1_loss", x, target)), reduction);
}

Var huber_loss(Arg prediction, Arg target, double delta, Reduction reduction) {
  LocationGuard at(prediction);
  need_float(prediction, "huber_loss", "prediction");
  if (!(delta > 0 && std::isfinite(delta)))
    throw ValueError("[huber_loss] delta must be positive and finite, got " + std::to_string(delta));
  Var x = widened(prediction), e = x - matching("huber_loss", x, target), size = abs(e), near = less(size, delta);
  // The square is taken of what is near alone: that of a far one may overflow.
  return reduced(where(near, square(where(near, e, 0)) * 0.5, (size - 0.5 * delta) * delta), reduction);
}

Var kl_divergence(Arg log_probability, Arg target, Reduction reduction) {
  LocationGuard at(log_probability);
  need_float(log_probability, "kl_divergence", "log_probability");
  Var x = widened(log_probability), t = matching("kl_divergence", x, target);
  if (x.rank() < 1) throw ShapeError("[kl_divergence] a scalar has no classes" + at_line(log_probability.where));
  return reduced(sum(t * log(where(equal(t, 0), 1, t)) - weighted(t, x), -1), reduction);
}

}  // namespace whence
