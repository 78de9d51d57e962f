// Losses.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {

Reduction reduction_of(const Call& call, int place) {
  std::string name = call.word(place, "reduction", "mean");
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  if (name == "none") return Reduction::none;
  throw ValueError("unknown reduction '" + name + "'");
}

namespace {

constexpr int kKeyword = Call::kKeyword;

Var reduced(Reduction how, Var loss) {
  return how == Reduction::none ? loss : how == Reduction::sum ? sum(loss) : mean(loss);
}
Var reduced(Call& call, Var loss) { return reduced(reduction_of(call, kKeyword), loss); }

Var at_least_zero(Arg x) { return maximum(x, 0); }

// f(x, target), broadcast and reduced.
template <class F> Builder of_pairs(F f) {
  return [f](Call& call) {
    Var x = call.var(0), target = call.var(1);
    Shape both = broadcast_shapes(x.shape(), target.shape());
    return Outputs(reduced(call, f(call, broadcast_to(x, both), broadcast_to(target, both))));
  };
}

Var weighted(Call& call, Var loss) {
  return call.given(kKeyword, "weight") ? loss * call.var(kKeyword, "weight") : loss;
}

// ---- classes -------------------------------------------------------------------------------------------------------
// [N, C, ..] or [C] -> [N, .., C] or [C]
Var classes_last(Var x) { return x.rank() < 2 ? x : with_axes_moved(x, {1}, {-1}); }

// -log probability of the label, weighted by its class; ignored labels count for nothing.
Var label_loss(Call& call, Var log_p, Var target, double smoothing) {
  int64_t ignored = call.integer(kKeyword, "ignore_index", -100);
  Var counts = not_equal(target, double(ignored)), label = where(counts, target, 0);
  int64_t classes = log_p.shape()[-1];
  Var none = full(call.g, {}, 0, log_p.dtype());
  Var weights =
      call.given(kKeyword, "weight") ? call.var(kKeyword, "weight") : full(call.g, {classes}, 1, log_p.dtype());
  Var weight = where(counts, gather(weights, label), none);
  Var loss = -(where(counts, pick(log_p, label), none) * weight);
  if (smoothing > 0) {
    Var even = where(counts, -sum(log_p * weights, {-1}), none);
    loss = loss * (1 - smoothing) + even * (smoothing / double(classes));
  }
  Reduction how = reduction_of(call, kKeyword);
  return how == Reduction::mean ? sum(loss) / sum(weight) : reduced(how, loss);
}

Var class_loss(Call& call, Var logits, Var target) {
  double smoothing = call.real(kKeyword, "label_smoothing", 0);
  Var last = classes_last(logits);
  bool soft = is_float(target.dtype()) && target.shape() == logits.shape();
  if (soft && call.given(kKeyword, "ignore_index"))
    throw ValueError("cross_entropy: probabilities have no label to ignore");
  if (soft) target = classes_last(target);
  if (!call.given(kKeyword, "weight")) {
    CrossEntropyOptions options{call.integer(kKeyword, "ignore_index", -100), smoothing, reduction_of(call, kKeyword)};
    return cross_entropy(last, target, options);
  }
  Var log_p = log_softmax(last);
  if (!soft) return label_loss(call, log_p, target, smoothing);
  Var even = target * (1 - smoothing) + smoothing / double(log_p.shape()[-1]);
  return reduced(call, -sum(log_p * even * call.var(kKeyword, "weight"), {-1}));
}

// x [N, K] or [K], weight [C, .., K] -> [N, C, ..] or [C, ..]
Var linear_class_loss(Call& call) {
  Var x = call.var(0), weight = call.var(1), target = call.var(2);
  if (x.rank() < 1 || x.rank() > 2 || weight.rank() < 2 || (x.rank() == 1 && weight.rank() > 2))
    throw ShapeError("linear_cross_entropy of " + x.shape().str());
  Shape result = weight.shape();
  int64_t features = result[-1], classes = weight.numel() / std::max<int64_t>(features, 1);
  result.erase(result.rank() - 1);
  Var rows = x.rank() == 1 ? unsqueeze(x, 0) : x;
  std::optional<Arg> bias = call.maybe(kKeyword, "linear_bias");
  if (bias) bias = Arg(reshape(*bias, {classes}));
  Var logits = linear(rows, reshape(weight, {classes, features}), bias);
  if (x.rank() == 2) result.insert(0, x.shape()[0]);
  logits = reshape(logits, result);
  if (x.rank() == 1 && result.rank() > 1) logits = unsqueeze(logits, 0), target = unsqueeze(target, 0);
  return class_loss(call, logits, target);
}

Var margin_between_classes(Call& call) {
  Var x = call.var(0), target = call.var(1);
  int64_t p = call.integer(2, "p", 1);
  if (p != 1 && p != 2) throw ValueError("multi_margin_loss: p is 1 or 2");
  if (x.rank() > 2) throw ShapeError("multi_margin_loss of " + x.shape().str());
  Var rows = x.rank() == 2 ? x : reshape(x, {1, -1}), label = reshape(target, {-1});
  int64_t classes = rows.shape()[1];
  Var others = logical_not(one_hot(label, classes, boolean));
  Var excess = at_least_zero(rows - unsqueeze(pick(rows, label), -1) + call.real(3, "margin", 1));
  if (p == 2) excess = square(excess);
  if (call.given(4, "weight")) {
    Var weight = call.var(4, "weight");
    if (weight.rank() != 1 || weight.numel() != classes)
      throw ShapeError("multi_margin_loss: weight " + weight.shape().str());
    excess = excess * unsqueeze(gather(weight, label), -1);
  }
  Var loss = mean(where(others, excess, 0), {-1});
  if (x.rank() < 2) loss = reshape(loss, target.shape());
  return reduced(call, loss);
}

// ---- distances -----------------------------------------------------------------------------------------------------
Var between_three(Call& call) {
  Var anchor = call.var(0), near = call.var(1), far = call.var(2);
  if (anchor.rank() != near.rank() || anchor.rank() != far.rank())
    throw ShapeError("triplet_margin_loss: ranks differ");
  double margin = call.real(3, "margin", 1), order = call.real(4, "p", 2), eps = call.real(5, "eps", 1e-6);
  if (margin <= 0) throw ValueError("triplet_margin_loss: the margin is not positive");
  auto distance = [&](Var a, Var b) { return vector_norm(a - b + eps, order, {-1}, false); };
  Var to_far = distance(anchor, far);
  if (call.flag(6, "swap", false)) to_far = minimum(to_far, distance(near, far));
  return reduced(call, at_least_zero(distance(anchor, near) - to_far + margin));
}

Var cosine_margin(Call& call) {
  Var a = call.var(0), b = call.var(1), target = call.var(2);
  auto squares = [](Var x) { return sum(square(x), {-1}) + 1e-12; };
  Var cosine = sum(a * b, {-1}) / sqrt(squares(a) * squares(b));
  return reduced(call, where(equal(target, 1), 1 - cosine, 0) +
                           where(equal(target, -1), at_least_zero(cosine - call.real(3, "margin", 0)), 0));
}

Var gaussian(Call& call) {
  Var x = call.var(0), target = call.var(1), variance = call.var(2);
  double eps = call.real(4, "eps", 1e-6);
  if (variance.rank() == x.rank() - 1 && x.rank() > 1) variance = unsqueeze(variance, -1);
  Var held = variance + stop_gradient(maximum(variance, eps) - variance);  // the bound lets the gradient through
  Var loss = (log(held) + square(x - target) / held) * 0.5;
  if (call.flag(3, "full", false)) loss = loss + 0.5 * std::log(2 * M_PI);
  return reduced(call, loss);
}

Var poisson(Call& call, Var x, Var target) {
  bool log_input = call.flag(2, "log_input", true);
  Var loss = log_input ? exp(x) - target * x : x - target * log(x + call.real(5, "eps", 1e-8));
  if (!call.flag(3, "full", false)) return loss;
  Var large = greater(target, 1), t = where(large, target, 1);
  return loss + where(large, t * log(t) - t + log(t * (2 * M_PI)) * 0.5, 0);
}

}  // namespace

Table loss_rows() {
  return {
      {"nn.functional.l1_loss", of_pairs([](Call&, Var x, Var t) { return l1_loss(x, t, Reduction::none); })},
      {"nn.functional.mse_loss", of_pairs([](Call&, Var x, Var t) { return mse_loss(x, t, Reduction::none); })},
      {"nn.functional.smooth_l1_loss", of_pairs([](Call& call, Var x, Var t) {
         double beta = call.real(kKeyword, "beta", 1);
         Var e = abs(x - t);
         if (beta < 0) throw ValueError("smooth_l1_loss: beta is negative");
         return beta == 0 ? e : where(less(e, beta), square(e) * (0.5 / beta), e - 0.5 * beta);
       })},
      {"nn.functional.huber_loss", of_pairs([](Call& call, Var x, Var t) {
         return huber_loss(x, t, call.real(3, "delta", 1), Reduction::none);
       })},
      {"nn.functional.binary_cross_entropy", of_pairs([](Call& call, Var x, Var t) {
         return weighted(call, -(t * maximum(log(x), -100) + (1 - t) * maximum(log1p(-x), -100)));
       })},
      {"nn.functional.binary_cross_entropy_with_logits", of_pairs([](Call& call, Var x, Var t) {
         if (!call.given(kKeyword, "pos_weight")) return weighted(call, bce_with_logits(x, t, Reduction::none));
         Var positive = (call.var(kKeyword, "pos_weight") - 1) * t + 1;
         return weighted(call, (1 - t) * x + positive * softplus(-x));
       })},
      {"nn.functional.soft_margin_loss", of_pairs([](Call&, Var x, Var t) { return softplus(-t * x); })},
      {"nn.functional.multilabel_soft_margin_loss",
       [](Call& call) {
         Var x = call.var(0), t = call.var(1);
         return reduced(call, mean(weighted(call, -(t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))), {-1}));
       }},
      {"nn.functional.kl_div",
       [](Call& call) {
         Var x = call.var(0), t = call.var(1), zero = equal(t, 0);
         bool logarithms = call.flag(kKeyword, "log_target", false);
         Var loss = logarithms ? exp(t) * (t - x) : where(zero, 0, t * log(where(zero, 1, t))) - t * x;
         if (call.word(kKeyword, "reduction", "mean") == "batchmean")
           return sum(loss) / double(x.rank() ? x.size(0) : 1);
         return reduced(call, loss);
       }},
      {"nn.functional.poisson_nll_loss", of_pairs(poisson)},
      {"nn.functional.gaussian_nll_loss", gaussian},
      {"nn.functional.hinge_embedding_loss", of_pairs([](Call& call, Var x, Var t) {
         Var below = at_least_zero(call.real(2, "margin", 1) - x);
         return where(not_equal(t, 1), below, 0) + where(not_equal(t, -1), x, 0);
       })},
      {"nn.functional.margin_ranking_loss",
       [](Call& call) {
         if (call.var(0).rank() != call.var(1).rank() || call.var(0).rank() != call.var(2).rank())
           throw ShapeError("margin_ranking_loss: ranks differ");
         Var d = call.var(0) - call.var(1);
         return reduced(call, at_least_zero(-call.var(2) * d + call.real(3, "margin", 0)));
       }},
      {"nn.functional.cosine_embedding_loss", cosine_margin},
      {"nn.functional.triplet_margin_loss", between_three},

      {"nn.functional.nll_loss",
       [](Call& call) { return label_loss(call, classes_last(call.var(0)), call.var(1), 0); }},
      {"nn.functional.cross_entropy", [](Call& call) { return class_loss(call, call.var(0), call.var(1)); }},
      {"nn.functional.linear_cross_entropy", linear_class_loss},
      {"nn.functional.multi_margin_loss", margin_between_classes},
  };
}

}  // namespace whence::opinfo
