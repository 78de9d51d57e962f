// Relevance rules as data: which rule parameters apply to which op in which scope, and the combinators that most
// ops use as their rule. Formulas: docs/relevance.md.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {

class SweepCtx;

namespace lrp {

/// How a denominator z is kept away from zero. sigma(z) is the sign with sigma(0) = +1.
enum class Stab : uint8_t {
  relative,    ///< z + sigma(z) eps max(1, rms of z over its last axis; |z| for a vector): scale-free, independent of
               ///< other rows
  sign,        ///< z + sigma(z) eps
  plain,       ///< z + eps (LXT; not safe near z = -eps)
  clip,        ///< sigma(z) max(|z|, eps)
  rms_sample,  ///< z + sigma(z) eps rms of z over all axes but the first (zennit's norm_scale)
  rms_tensor,  ///< z + sigma(z) eps max(1, rms of the whole tensor)
};

/// Parameters of one rule. `variant` selects among the formulas an op offers (OpDef::variants; another name is an error
/// when the sweep is recorded); "" is the op's default (the vjp form). Every op also understands "identity" (all
/// relevance to its first carrying operand, which must have the result's shape or broadcast to it) and "detach" (its
/// result counts as a constant: nothing passes, and other operands of its readers take what would have come this way).
/// Products with the variants "first" and "second" understand "recurrent", too: see autograd/recurrence.h.
struct Rule {
  std::string variant{};
  double eps = 1e-6;
  Stab stab = Stab::relative;
  double gamma = 0.25;
  double alpha = 2, beta = 1;  ///< alphabeta: alpha - beta must be 1
  Tensor low{}, high{};        ///< zbox: bounds, broadcastable to the input
  bool bias = true;            ///< false: the bias takes no part in the denominator (zennit's zero_params)
  bool bias_abs = false;  ///< the bias takes |b| / (|z| + |b|) of R first and the rule runs without it (DynamicLRP)
  bool stab_of_double = false;  ///< bilinear: t = R / stab(2 y) instead of R / (2 stab(y))
  bool keep_zero =
      false;  ///< gamma: z == 0 goes to the negative branch (DynamicLRP) instead of passing nothing (zennit)
  std::string describe() const;  ///< "gamma(0.25), eps 1e-06 relative, bias excluded"
};

/// An ordered list of (op pattern, scope pattern) -> Rule; the last match wins. '*' matches any run of characters.
class RuleSet {
 public:
  explicit RuleSet(std::string name = "custom", Rule fallback = {})
      : name_(std::move(name)), fallback_(std::move(fallback)) {}
  RuleSet& set(std::string op_pattern, Rule rule) { return set(std::move(op_pattern), "*", std::move(rule)); }
  RuleSet& set(std::string op_pattern, std::string scope_pattern, Rule rule);
  /// Says that what was set so far is meant for any graph, as a preset's entries are: it is not missed where it matches
  /// nothing. An entry set later that decides for no node is reported (RelevanceOptions::unmatched, a ledger's report),
  /// and one that names no operation at all is an error of the sweep.
  RuleSet& general();
  const Rule& match(std::string_view op, std::string_view scope) const { return rule(find(op, scope)); }
  /// Number of the entry that decides, in the order of set(); size() when none does.
  size_t find(std::string_view op, std::string_view scope) const;
  const Rule& rule(size_t entry) const { return entry < size() ? entries_[entry].rule : fallback_; }
  size_t size() const { return entries_.size(); }
  /// The entries set after general() that are not in `decided`, as describe() prints them.
  std::vector<std::string> unmatched(const std::vector<char>& decided) const;
  /// Their op patterns that match no registered operation.
  std::vector<std::string> unknown_ops() const;
  const std::string& name() const { return name_; }
  /// True when the op runs under the fallback, so that a fused fast path for its body is allowed.
  bool plain(std::string_view op, std::string_view scope) const { return find(op, scope) == size(); }
  bool has_overrides() const { return !entries_.empty(); }
  bool names_variants() const;  ///< some entry does not use an op's default
  /// The name, then one line per entry and one for everything else: what a report prints.
  std::string describe() const;

 private:
  struct Entry {
    std::string op, scope;
    Rule rule;
    std::string describe() const;
  };
  std::string name_;
  Rule fallback_;
  std::vector<Entry> entries_;
  size_t general_ = 0;  // entries before this one
};

bool glob(std::string_view pattern, std::string_view text);

// ---- combinators: values for OpDef::relevance ------------------------------------------------------------------

/// Elementwise unary ops: R_x = R.
void identity(SweepCtx&);
/// Data movement: the vjp itself. Exact for any R.
void reindex(SweepCtx&);
/// Nothing passes; what arrives is booked as absorbed ("constant").
void sink(SweepCtx&);
/// R_i = x_i * vjp_i(share R / stab(y)); what the next three are made of.
void by_vjp(SweepCtx&, double share);
/// R_x = x * vjp(R / stab(y)): sums, linear maps, convolutions, scans (Euler degree 1 in the carriers).
void linear_in_carriers(SweepCtx&);
/// R_i = x_i * vjp_i(share R / stab(y)), share = 1 / (number of operands that carry relevance).
void multilinear(SweepCtx&);
/// Maps y = f(x, W, b) linear in x and W, operand 2 an optional bias: the epsilon rule by default; variants "gamma",
/// "zplus", "alphabeta", "zbox", "flat", "wsquare" when exactly one of the operands 0 and 1 carries. When both carry (a
/// product of data): half to each; variants "first" and "second" give all to that operand.
void linear_rule(SweepCtx&);
std::vector<std::string> linear_variants();
/// What linear_rule holds back, per category: bias, stabiliser, zero output (gamma). A value for OpDef::absorbed.
void linear_absorbed(SweepCtx&);
/// Closed form of what linear_in_carriers and multilinear hold back: R (1 - y / stab(y)). A value for OpDef::absorbed.
void absorbed_by_stabiliser(SweepCtx&);

}  // namespace lrp
}  // namespace whence
