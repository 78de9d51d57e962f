#include "whence/autograd/rules.h"

#include <algorithm>
#include <cstdio>

#include "whence/autograd/op.h"

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

std::string RuleSet::Entry::describe() const {
  return op + (scope == "*" ? "" : " in " + scope) + ": " + rule.describe();
}

std::string RuleSet::describe() const {
  std::string s = name_;
  for (const Entry& e : entries_) s += "\n  " + e.describe();
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

RuleSet& RuleSet::general() {
  general_ = entries_.size();
  return *this;
}

size_t RuleSet::find(std::string_view op, std::string_view scope) const {
  for (size_t i = entries_.size(); i-- > 0;)
    if (glob(entries_[i].op, op) && glob(entries_[i].scope, scope)) return i;
  return size();
}

std::vector<std::string> RuleSet::unmatched(const std::vector<char>& decided) const {
  std::vector<std::string> list;
  for (size_t i = general_; i < size(); ++i)
    if (i >= decided.size() || !decided[i]) list.push_back(entries_[i].describe());
  return list;
}

std::vector<std::string> RuleSet::unknown_ops() const {
  std::vector<std::string> list;
  std::vector<const OpDef*> ops = general_ < size() ? all_ops() : std::vector<const OpDef*>();
  for (size_t i = general_; i < size(); ++i)
    if (std::none_of(ops.begin(), ops.end(), [&](const OpDef* op) { return glob(entries_[i].op, op->name); }))
      list.push_back(entries_[i].op);
  return list;
}

}  // namespace whence::lrp
