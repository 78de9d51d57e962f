#include "lrp/ledger.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "ops/ops.h"

namespace whence::lrp {

double LedgerRow::all_absorbed() const {
  double s = 0;
  for (const auto& [name, v] : absorbed) s += v;
  return s;
}

double LedgerReport::all_absorbed() const {
  double s = 0;
  for (const auto& [name, v] : absorbed) s += v;
  return s;
}

static void merge(LedgerRow& into, const LedgerRow& r) {
  into.arrived += r.arrived;
  into.arrived_abs += r.arrived_abs;
  into.passed += r.passed;
  into.passed_abs += r.passed_abs;
  for (const auto& [name, v] : r.absorbed) into.absorbed[name] += v;
  if (r.min_z >= 0) into.min_z = into.min_z < 0 ? r.min_z : std::min(into.min_z, r.min_z);
  into.eps = std::max(into.eps, r.eps);
}

std::map<std::string, LedgerRow> LedgerReport::by_op() const {
  std::map<std::string, LedgerRow> rows;
  for (const LedgerRow& r : nodes) {
    LedgerRow& row = rows[r.op];
    row.op = r.op;
    merge(row, r);
  }
  return rows;
}

std::map<std::string, LedgerRow> LedgerReport::by_scope(int depth) const {
  std::map<std::string, LedgerRow> rows;
  for (const LedgerRow& r : nodes) {
    size_t end = r.scope.npos;
    for (int d = 0, from = 0; d < depth; ++d) {
      end = r.scope.find('/', size_t(from));
      if (end == r.scope.npos) break;
      from = int(end) + 1;
    }
    LedgerRow& row = rows[r.scope.substr(0, end)];
    row.scope = r.scope.substr(0, end);
    merge(row, r);
  }
  return rows;
}

std::vector<const LedgerRow*> LedgerReport::offenders(double t) const {
  if (t <= 0) t = tolerance();
  std::vector<const LedgerRow*> bad;
  for (const LedgerRow& r : nodes) {
    double scale = std::max({r.arrived_abs, r.passed_abs, 1e-30});
    for (const auto& [name, v] : r.absorbed) scale = std::max(scale, std::fabs(v));
    if (!(std::fabs(r.residual()) <= t * scale)) bad.push_back(&r);
  }
  return bad;
}

bool LedgerReport::holds(double t) const {
  if (t <= 0) t = tolerance();
  double scale = std::fabs(seed);
  for (const LedgerRow& r : nodes) scale = std::max({scale, r.arrived_abs, r.passed_abs});
  return std::fabs(residual()) <= t * scale && offenders(t).empty();
}

std::string LedgerReport::text() const {
  std::string s;
  char line[256];
  auto put = [&](const char* format, auto... v) {
    std::snprintf(line, sizeof line, format, v...);
    s += line;
  };
  put("rules %s: seed %.6g = leaves %.6g + absorbed %.6g (residual %.2g)\n", rules.c_str(), seed, leaves,
      all_absorbed(), residual());
  for (const auto& [name, v] : absorbed) put("  absorbed by %-14s %12.5g\n", name.c_str(), v);
  put("  %-20s %12s %12s %12s %10s %12s\n", "op", "arrived", "passed on", "absorbed", "residual", "min|z|/eps");
  for (const auto& [name, r] : by_op()) {
    put("  %-20s %12.5g %12.5g %12.5g %10.2g", name.c_str(), r.arrived, r.passed, r.all_absorbed(), r.residual());
    if (r.min_z >= 0 && r.eps > 0) put(" %12.3g", r.min_z / r.eps);
    s += "\n";
  }
  for (const LedgerRow* r : offenders())
    put("  DOES NOT ADD UP: %.150s, residual %.3g of %.3g\n", r->where.c_str(), r->residual(), r->arrived_abs);
  return s;
}

// ---- recording ----------------------------------------------------------------------------------------------------

size_t Ledger::sum_of(Var v, bool absolute) {
  Var wide = cast(absolute ? abs(v) : v, f64);  // so that rounding of the sum does not look like a leak
  outputs_.push_back(sum(wide));
  return outputs_.size() - 1;
}

void Ledger::observe(const SweepCtx& c) {
  if (c.by_rule() && c.carriers() == 0) return;  // only parameters pass something on here, and theirs is counted apart
  Graph& g = c.graph;
  const Node n = g.node(c.node_id);
  Line line{c.node_id, c.op.name, g.scope_name(n), g.describe(c.node_id), {}, {}, {}, {}, {}, SIZE_MAX, 0};
  for (int k = 0; k < c.n_out(); ++k) {
    visited_.insert(c.out_id(k));
    if (!c.has(k)) continue;
    line.arrived.push_back(sum_of(c.d(k)));
    line.arrived_abs.push_back(sum_of(c.d(k), true));
  }
  for (int i = 0; i < c.n_in(); ++i) {
    if (!c.carries(i) || !c.given(i).defined()) continue;
    size_t at = sum_of(c.given(i));
    line.passed.push_back(at);
    line.passed_abs.push_back(sum_of(c.given(i), true));
    given_.emplace_back(c.in_id(i), at);
  }
  if (line.arrived.empty()) return;  // a fused op: its body's nodes have their own lines
  SweepCtx copy = c;
  if (c.by_rule() && c.op.absorbed && c.rule().variant != "identity") c.op.absorbed(copy);
  for (const auto& [category, amount] : copy.absorbed()) {
    line.absorbed.emplace_back(category, sum_of(amount));
    if (std::string(category) == "stabiliser" && line.min_z == SIZE_MAX && c.out().numel() > 0) {
      outputs_.push_back(cast(min(abs(c.out())), f64));
      line.min_z = outputs_.size() - 1;
      line.eps = c.rule().eps;
    }
  }
  lines_.push_back(std::move(line));
}

std::vector<Var> Ledger::relevance(Var y, std::span<const Var> wrt, Var seed, RelevanceOptions options) {
  if (!lines_.empty()) throw ValueError("a ledger books one sweep; make another for the next");
  if (!seed.defined()) {
    if (options.targets) throw ValueError("several targets need a seed with a leading target axis");
    seed = y;
  }
  dtype_ = accumulate_dtype(y.dtype());
  auto next = options.observe;
  options.observe = [this, next](const SweepCtx& c) {
    observe(c);
    if (next) next(c);
  };
  std::vector<Var> r = whence::relevance(y, wrt, rules_, seed, options);
  seed_ = sum_of(seed);
  // Leaves: values that were given relevance and passed none of it on.
  for (auto [value, at] : given_)
    if (!visited_.count(value)) leaves_.push_back(at);
  if (!visited_.count(y.id())) leaves_.push_back(seed_);
  return r;
}

Var Ledger::relevance(Var y, Var wrt, Var seed, RelevanceOptions options) {
  return relevance(y, std::span<const Var>(&wrt, 1), seed, std::move(options))[0];
}

LedgerReport Ledger::read(const Results& results) const {
  LedgerReport report;
  if (seed_ == SIZE_MAX) throw ValueError("this ledger has not seen a sweep");
  auto value = [&](size_t i) { return results[outputs_[i]].item(); };
  auto total = [&](const std::vector<size_t>& list) {
    double s = 0;
    for (size_t i : list) s += value(i);
    return s;
  };
  report.rules = rules_.name();
  report.seed = value(seed_);
  report.leaves = total(leaves_);
  report.dtype = dtype_;
  for (const Line& l : lines_) {
    LedgerRow row;
    row.op = l.op;
    row.scope = l.scope;
    row.where = l.where;
    row.arrived = total(l.arrived);
    row.arrived_abs = total(l.arrived_abs);
    row.passed = total(l.passed);
    row.passed_abs = total(l.passed_abs);
    for (const auto& [category, i] : l.absorbed) row.absorbed[category] += value(i);
    for (const auto& [category, v] : row.absorbed) report.absorbed[category] += v;
    if (l.min_z != SIZE_MAX) {
      row.min_z = value(l.min_z);
      row.eps = l.eps;
    }
    report.nodes.push_back(std::move(row));
  }
  return report;
}

}  // namespace whence::lrp
