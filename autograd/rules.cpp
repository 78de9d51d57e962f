#include "autograd/rules.h"

namespace whence::lrp {

bool glob(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = pattern.npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') { star = p++; mark = t; }
    else if (p < pattern.size() && pattern[p] == text[t]) { ++p; ++t; }
    else if (star != pattern.npos) { p = star + 1; t = ++mark; }
    else return false;
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
