// op/loss and op/ctc.
#include "tests/goldens/hf_ops.h"

namespace whence::goldens {
namespace {

Reduction reduction(const OpCase& o) {
  std::string r = o.config.value("reduction", o.file.tensor("output.y", f64).shape().rank() ? "none" : "mean");
  return r == "sum" ? Reduction::sum : r == "none" ? Reduction::none : Reduction::mean;
}
Var cross_entropy_case(OpCase& o, Var logits) {
  return cross_entropy(logits, o("target"),
                       {.ignore_index = o.integer("ignore_index", -100),
                        .label_smoothing = o.real("label_smoothing", 0),
                        .reduction = reduction(o)});
}
Var ctc(OpCase& o, Var x) {
  return ctc_loss(x, o("targets"), o("input_lengths"), o("target_lengths"),
                  {.blank = o.integer("blank", 0),
                   .zero_infinity = o.config.value("zero_infinity", false),
                   .reduction = reduction(o)});
}

Var picked(OpCase& o) { return pick(log_softmax(o("x"), -1), o("target")); }

Var class_weighted(OpCase& o) {
  Var w = gather(o("weight"), o("target"), 0);
  return sum(-picked(o) * w) / sum(w);
}
Var focal(OpCase& o) {
  Var lp = picked(o);
  return mean(-(pow(1.0 - exp(lp), o.real("gamma", 2)) * lp));
}
Var huber(OpCase& o) {
  return huber_loss(o("x"), o("target"), o.real("delta", 1));
}
Var smooth_l1(OpCase& o) {
  double b = o.real("beta", 1);
  Var e = abs(o("x") - o("target"));
  return mean(where(less(e, b), square(e) * (0.5 / b), e - 0.5 * b));
}
Outputs contrastive(OpCase& o) {
  Var s = matmul(l2_normalize(o("a")), transpose(l2_normalize(o("b")))) * exp(o("logit_scale"));
  Var i = arange(o.g, s.shape()[0]);
  return {{"logits", s}, {"loss", (cross_entropy(s, i) + cross_entropy(transpose(s), i)) * 0.5}};
}
Var dice_bce(OpCase& o) {
  Var x = o("x"), t = o("target"), p = sigmoid(x);
  return bce_with_logits(x, t) + 1.0 - (sum(p * t) * 2.0 + 1.0) / (sum(p) + sum(t) + 1.0);
}
Var positive_weight(OpCase& o) {
  Var x = o("x"), t = o("target");
  return -sum(o("pos_weight") * t * log_sigmoid(x) + (1.0 - t) * log_sigmoid(-x));
}
Var kl(OpCase& o) {
  return kl_divergence(log_softmax(o("x"), -1), o("target"));
}
Var weibull(OpCase& o) {
  Var gamma = exp(o("log_shape")), eta = squeeze(matmul(o("x"), unsqueeze(o("beta"), 1)), -1), t = o("time");
  Var log_hazard = eta + o("log_shape") + (gamma - 1.0) * log(t), cumulative = exp(eta) * pow(t, gamma);
  return -sum(o("event") * log_hazard - cumulative);
}

}  // namespace

const Table& loss_cases() {
  static const Table t{
      {"loss/ce_*", of_x(cross_entropy_case)},
      {"loss/ce_class_weight", just(class_weighted)},
      {"loss/ce_spatial", of_x([](OpCase& o, Var x) {
         return cross_entropy_case(o, permute(x, {0, 2, 3, 1}));
       })},
      {"loss/lm_shifted",
       just([](OpCase& o) { return cross_entropy(slice(o("x"), 1, 0, -1), slice(o("labels"), 1, 1)); })},
      {"loss/nll", just([](OpCase& o) { return -mean(picked(o)); })},
      {"loss/focal", just(focal)},
      {"loss/bce_logits_mean", just([](OpCase& o) { return bce_with_logits(o("x"), o("target")); })},
      {"loss/bce_logits_pos_weight", just(positive_weight)},
      {"loss/dice_bce", just(dice_bce)},
      {"loss/mse", just([](OpCase& o) { return mse_loss(o("x"), o("target")); })},
      {"loss/l1", just([](OpCase& o) { return mean(abs(o("x") - o("target"))); })},
      {"loss/huber", just(huber)},
      {"loss/smooth_l1", just(smooth_l1)},
      {"loss/kl_batchmean", just(kl)},
      {"loss/cosine_similarity",
       just([](OpCase& o) { return sum(l2_normalize(o("a"), -1, 1e-8) * l2_normalize(o("b"), -1, 1e-8), {-1}); })},
      {"loss/contrastive_clip", contrastive},
      {"ctc/*", of_x(ctc)},
      {"loss/weibull_censored_nll", just(weibull)},
  };
  return t;
}

}  // namespace whence::goldens
