#include "whence/lrp/presets.h"

namespace whence::lrp {
namespace {

Rule rule(const char* variant, double eps = 1e-6, Stab stab = Stab::sign) {
  Rule r;
  r.variant = variant;
  r.eps = eps;
  r.stab = stab;
  return r;
}

const char* const kConvolutions = "*conv*";

RuleSet with_convolutions(const char* name, const Rule& conv, double eps) {
  return RuleSet(name, rule("", eps)).set(kConvolutions, conv).general();
}

}  // namespace

RuleSet epsilon(double eps, Stab stab) { return RuleSet("epsilon", rule("", eps, stab)); }

RuleSet attn(double eps) { return RuleSet("attn", rule("", eps, Stab::relative)); }

RuleSet cp(double eps) {
  RuleSet s("cp", rule("", eps, Stab::relative));
  s.set("softmax", rule("detach"));
  s.set("mul", rule("second", eps, Stab::relative));
  return s.general();
}

RuleSet dynamic() {
  constexpr double kEps = 1e-11;
  Rule linear = rule("", kEps);
  linear.bias_abs = true;
  RuleSet s("dynamic", linear);
  for (const char* op : {"add", "sub", "mul", "div", "sum", "cumsum", "avg_pool"}) s.set(op, rule("abs"));
  for (const char* op : {"layer_norm", "rms_norm"}) s.set(op, rule("identity"));
  Rule product = rule("", kEps);
  product.stab_of_double = true;
  s.set("matmul", product);
  return s.general();
}

RuleSet dynamic_gamma(double conv_gamma, double linear_gamma) {
  RuleSet s = dynamic();
  Rule g = rule("gamma", 1e-11);
  g.bias_abs = true;
  g.keep_zero = true;
  g.gamma = linear_gamma;
  s.set("linear", g);
  g.gamma = conv_gamma;
  return s.set(kConvolutions, g).general();
}

RuleSet mamba() {
  RuleSet s("mamba", rule("", 1e-6));
  for (const char* op : {"mul", "matmul"}) s.set(op, rule("recurrent", 1e-6));
  return s.general();
}

RuleSet epsilon_plus(double eps) { return with_convolutions("epsilon_plus", rule("zplus"), eps); }

RuleSet epsilon_alpha2_beta1(double eps) { return with_convolutions("epsilon_alpha2_beta1", rule("alphabeta"), eps); }

RuleSet epsilon_gamma_box(Tensor low, Tensor high, std::string first, double gamma, double eps) {
  Rule g = rule("gamma"), box = rule("zbox");
  g.gamma = gamma;
  box.low = std::move(low);
  box.high = std::move(high);
  return with_convolutions("epsilon_gamma_box", g, eps).set(kConvolutions, std::move(first), box);
}

RuleSet epsilon_gamma_box(double low, double high, std::string first, double gamma, double eps) {
  return epsilon_gamma_box(Tensor::scalar(low, f64), Tensor::scalar(high, f64), std::move(first), gamma, eps);
}

RuleSet preset(std::string_view name) {
  struct Named {
    const char* name;
    RuleSet (*make)();
  };
  static const Named all[] = {{"attn", [] { return attn(); }},
                              {"cp", [] { return cp(); }},
                              {"dynamic", [] { return dynamic(); }},
                              {"mamba", [] { return mamba(); }},
                              {"epsilon", [] { return epsilon(); }},
                              {"epsilon_plus", [] { return epsilon_plus(); }},
                              {"epsilon_alpha2_beta1", [] { return epsilon_alpha2_beta1(); }}};
  std::string known;
  for (const Named& n : all) {
    if (name == n.name) return n.make();
    known += std::string(known.empty() ? "" : ", ") + n.name;
  }
  throw ValueError("no relevance preset named '" + std::string(name) + "'; there are " + known);
}

}  // namespace whence::lrp
