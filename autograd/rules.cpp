#include "autograd/rules.h"

#include <cstdio>

namespace whence::lrp {

static std::string brief(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", v);
  return text;
}

std::string Rule::describe() const {
  static const char* const forms[] = {"relative", "signed", "unsigned", "clip", "rms per sample", "rms of tensor"};
  std::string s = variant.empty() ? "default" : variant;
  if (variant == "gamma") s += "(" + brief(gamma) + ")" + (keep_zero ? ", z = 0 counts as negative" : "");
  if (variant == "alphabeta") s += "(" + brief(alpha) + ", " + brief(beta) + ")";
  if (variant == "zbox" && low.defined() && high.defined())
    s += low.numel() == 1 && high.numel() == 1 ? "(" + brief(low.item()) + ", " + brief(high.item()) + ")"
                                               : "(bounds " + low.shape().str() + ")";
  if (variant == "identity" || variant == "detach" || variant == "abs" || variant == "pass") return s;
  s += ", eps " + brief(eps) + " " + forms[size_t(stab)];
  if (bias_abs) s += ", bias by absolute ratio";
  if (!bias) s += ", bias excluded";
  if (stab_of_double) s += ", stab(2y)";
  return s;
}

std::string RuleSet::describe() const {
  std::string s = name_;
  for (const Entry& e : entries_)
    s += "\n  " + e.op + (e.scope == "*" ? "" : " in " + e.scope) + ": " + e.rule.describe();
  return s + "\n  everything else: " + fallback_.describe() + "\n";
}

bool RuleSet::names_variants() const {
  bool any = !fallback_.variant.empty();
  for (const Entry& e : entries_) any |= !e.rule.variant.empty();
  return any;
}

bool glob(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = pattern.npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++mark;
    } else return false;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

RuleSet& RuleSet::set(std::string op_pattern, std::string scope_pattern, Rule rule) {
  entries_.push_back({std::move(op_pattern), std::move(scope_pattern), std::move(rule)});
  return *this;
}

const Rule& RuleSet::match(std::string_view op, std::string_view scope) const {
  for (size_t i = entries_.size(); i-- > 0;)
    if (glob(entries_[i].op, op) && glob(entries_[i].scope, scope)) return entries_[i].rule;
  return fallback_;
}

}  // namespace whence::lrp
