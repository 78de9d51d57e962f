#include "whence/lrp/ledger.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>

#include "whence/ops/ops.h"

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

template <class Name> std::map<std::string, LedgerRow> LedgerReport::grouped(Name&& name) const {
  std::map<std::string, LedgerRow> rows;
  for (const LedgerRow& r : nodes) merge(rows[name(r.recorded, r.scope)], r);
  for (const LedgerFlow& f : flows) {
    bool seed = f.from.op.empty(), leaf = f.to.op.empty();
    std::string from = name(f.from.op, f.from.scope), to = name(f.to.op, f.to.scope);
    if (!seed && !leaf && from == to) continue;
    if (!seed) rows[from].left += f.amount;
    if (!leaf) rows[to].entered += f.amount;
  }
  return rows;
}

std::map<std::string, LedgerRow> LedgerReport::by_op() const {
  auto rows = grouped([](const std::string& op, const std::string&) { return op; });
  for (auto& [op, row] : rows) row.op = row.recorded = op;
  return rows;
}

std::map<std::string, LedgerRow> LedgerReport::by_scope(int depth) const {
  auto rows = grouped([depth](const std::string&, const std::string& scope) {
    size_t end = scope.npos;
    for (size_t d = 0, from = 0; d < size_t(depth); ++d) {
      end = scope.find('/', from);
      if (end == scope.npos) break;
      from = end + 1;
    }
    return scope.substr(0, end);
  });
  for (auto& [scope, row] : rows) row.scope = scope;
  return rows;
}

std::vector<const LedgerRow*> LedgerReport::offenders(double t) const {
  if (t <= 0) t = tolerance();
  std::vector<const LedgerRow*> bad;
  for (const LedgerRow& r : nodes) {
    double scale = std::max({r.arrived_abs, r.passed_abs, 1e-30});
    for (const auto& [name, v] : r.absorbed) scale = std::max(scale, std::fabs(v));
    if (!(std::fabs(r.residual()) <= t * scale) || !(r.worst <= t)) bad.push_back(&r);
  }
  return bad;
}

bool LedgerReport::holds(double t) const {
  if (t <= 0) t = tolerance();
  double scale = std::fabs(seed);
  for (const LedgerRow& r : nodes) scale = std::max({scale, r.arrived_abs, r.passed_abs});
  return std::fabs(residual()) <= t * scale && offenders(t).empty();
}

std::string LedgerReport::coverage() const {
  return "coverage: " + std::to_string(with_rule) + " of " + std::to_string(with_rule + refused) +
         " nodes have a rule, " + std::to_string(refused) + " refused; " + std::to_string(seeds_refused) +
         " seeds at padding refused";
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
  s += "  " + coverage() + "\n";
  for (const std::string& entry : unmatched) s += "  a rule that matches nothing here: " + entry + "\n";
  put("  %-20s %12s %12s %12s %10s %12s\n", "op", "entered", "left", "absorbed", "residual", "min|z|/eps");
  for (const auto& [name, r] : by_op()) {
    put("  %-20s %12.5g %12.5g %12.5g %10.2g", name.c_str(), r.entered, r.left, r.all_absorbed(), r.residual());
    if (r.min_z >= 0 && r.eps > 0) put(" %12.3g", r.min_z / r.eps);
    s += "\n";
  }
  for (const LedgerRow* r : offenders())
    put("  DOES NOT ADD UP: %.150s, residual %.3g of %.3g\n", r->where.c_str(), r->residual(), r->arrived_abs);
  return s;
}

// ---- recording ----------------------------------------------------------------------------------------------------

static Var total(Var v) { return sum(cast(v, f64)); }  // so that rounding of the sum does not look like a leak

size_t Ledger::book(const SweepCtx& c, Var number) {
  const size_t at = outputs_.size();
  outputs_.emplace_back();
  c.publish(number, [this, at](Var v) { outputs_[at] = v; });
  return at;
}

// The node that the user recorded, for one that the sweep did.
static NodeId recorded(const Graph& g, NodeId n, NodeId begin) {
  while (n >= begin) n = g.node(n).origin;
  return n;
}
static LedgerFlow::End end_of(const Graph& g, NodeId n) { return {g.node(n).op->name, g.scope_name(g.node(n))}; }

void Ledger::observe(const SweepCtx& c) {
  if (c.by_rule() && c.carriers() == 0) return;  // only parameters pass something on here, and theirs is counted apart
  const SweepCtx* outside = &c;                  // what you recorded: a scan for the nodes of its body
  while (outside->pass().within) outside = outside->pass().within;
  const bool in_body = outside != &c;
  Graph& g = outside->graph;
  NodeId self = recorded(g, outside->node_id, begin_);
  LedgerFlow::End here = end_of(g, self);
  Line line{c.op.name, here.op, here.scope, c.graph.describe(c.node_id), {}, {}, {}, {}, {}, SIZE_MAX, 0};
  with_rule_ += !in_body && self == c.node_id;
  for (int k = 0; k < c.n_out(); ++k) {
    if (!in_body) visited_.insert(c.out_id(k));
    if (!c.has(k)) continue;
    line.arrived.push_back(book(c, total(c.d(k))));
    line.arrived_abs.push_back(book(c, total(abs(c.d(k)))));
  }
  for (int i = 0; i < c.n_in(); ++i) {
    if (!c.carries(i) || !c.given(i).defined()) continue;
    size_t at = book(c, total(c.given(i)));
    line.passed.push_back(at);
    line.passed_abs.push_back(book(c, total(abs(c.given(i)))));
    if (in_body) continue;
    edges_.push_back({c.in_id(i), here, end_of(g, recorded(g, g.producer_id(c.in_id(i)), begin_)), at});
  }
  if (line.arrived.empty()) return;  // a fused op, a scan: the nodes of the body have their own lines
  SweepCtx copy = c;
  if (c.by_rule() && c.op.absorbed && c.rule().variant != "identity") c.op.absorbed(copy);
  for (const auto& [category, amount] : copy.absorbed()) {
    line.absorbed.emplace_back(category, book(c, total(amount)));
    if (std::string(category) == "stabiliser" && line.min_z == SIZE_MAX && c.out().numel() > 0) {
      line.min_z = book(c, cast(min(abs(c.out())), f64));
      line.eps = c.rule().eps;
    }
  }
  lines_.push_back(std::move(line));
}

// The seed with zeros at padding. Its leading axes are targets, if any, and then those of y.
Var Ledger::without_padding(Var y, Var seed) {
  int trailing = y.rank() - mask_.rank();
  Shape s = mask_.shape();
  for (int i = 0; i < trailing; ++i) s.push_back(1);
  if (trailing < 0 || !broadcastable_to(s, y.shape()))
    throw ShapeError("only_where " + mask_.shape().str() + " does not fit the leading axes of " + y.shape().str());
  Var data = broadcast_to(reshape(not_equal(mask_, 0.0), s), seed.shape());
  Var bad = logical_and(logical_not(data), not_equal(seed, 0.0));
  Ints features;
  for (int i = 1; i <= trailing; ++i) features.push_back(-i);
  outputs_.push_back(sum(cast(features.empty() ? bad : any(bad, features), f64)));
  seeds_refused_ = outputs_.size() - 1;
  return where(data, seed, 0.0);
}

std::vector<Var> Ledger::relevance(Var y, std::span<const Var> wrt, Var seed, RelevanceOptions options) {
  if (!lines_.empty()) throw ValueError("a ledger books one sweep; make another for the next");
  if (!seed.defined()) {
    if (options.targets) throw ValueError("several targets need a seed with a leading target axis");
    seed = y;
  }
  if (mask_.defined()) seed = without_padding(y, seed);
  dtype_ = accumulate_dtype(y.dtype());
  begin_ = NodeId(y.graph().node_count());
  options.observe = [this, next = options.observe](const SweepCtx& c) {
    observe(c);
    if (next) next(c);
  };
  std::vector<std::string>* wanted = std::exchange(options.unmatched, &unmatched_);
  std::vector<Var> r = whence::relevance(y, wrt, rules_, seed, options);
  if (wanted) *wanted = unmatched_;
  outputs_.push_back(total(seed));
  seed_ = outputs_.size() - 1;
  edges_.push_back({y.id(), {}, end_of(y.graph(), y.graph().producer_id(y.id())), seed_});
  for (Edge& e : edges_)  // leaves were given relevance and passed none of it on
    if (!visited_.count(e.value)) e.to = {};
  return r;
}

Var Ledger::relevance(Var y, Var wrt, Var seed, RelevanceOptions options) {
  return relevance(y, std::span<const Var>(&wrt, 1), seed, std::move(options))[0];
}

// A node of a scan's body adds up at every step.
void Ledger::find_worst_step(const Line& l, const std::function<std::vector<double>(size_t)>& values, LedgerRow& row) {
  row.steps = int64_t(values(l.arrived[0]).size());
  std::vector<double> residual(size_t(row.steps)), arrived = residual, passed = residual, absorbed = residual;
  auto add = [&](size_t at, double sign, std::vector<double>& to) {
    std::vector<double> v = values(at);
    for (size_t t = 0; t < to.size(); ++t) to[t] += sign * v[t];
  };
  for (size_t i : l.arrived) add(i, 1, residual);
  for (size_t i : l.passed) add(i, -1, residual);
  for (size_t i : l.arrived_abs) add(i, 1, arrived);
  for (size_t i : l.passed_abs) add(i, 1, passed);
  for (const auto& [category, i] : l.absorbed) {
    add(i, -1, residual);
    std::vector<double> v = values(i);
    for (size_t t = 0; t < v.size(); ++t) absorbed[t] = std::max(absorbed[t], std::fabs(v[t]));
  }
  for (size_t t = 0; t < residual.size(); ++t)
    row.worst = std::max(row.worst, std::fabs(residual[t]) / std::max({arrived[t], passed[t], absorbed[t], 1e-30}));
}

LedgerReport Ledger::read(const Results& results) const {
  LedgerReport report;
  if (seed_ == SIZE_MAX) throw ValueError("this ledger has not seen a sweep");
  auto values = [&](size_t i) { return results[outputs_[i]].to_vector<double>(); };  // one per step of a scan
  auto value = [&](size_t i) {
    std::vector<double> v = values(i);
    return std::accumulate(v.begin(), v.end(), 0.0);
  };
  auto total = [&](const std::vector<size_t>& list) {
    double s = 0;
    for (size_t i : list) s += value(i);
    return s;
  };
  report.rules = rules_.name();
  report.seed = value(seed_);
  report.dtype = dtype_;
  report.with_rule = with_rule_;
  report.unmatched = unmatched_;
  if (seeds_refused_ != SIZE_MAX) report.seeds_refused = int64_t(value(seeds_refused_));
  for (const Line& l : lines_) {
    LedgerRow row;
    row.op = l.op;
    row.recorded = l.recorded;
    row.scope = l.scope;
    row.where = l.where;
    row.arrived = row.entered = total(l.arrived);
    row.arrived_abs = total(l.arrived_abs);
    row.passed = row.left = total(l.passed);
    row.passed_abs = total(l.passed_abs);
    for (const auto& [category, i] : l.absorbed) row.absorbed[category] += value(i);
    for (const auto& [category, v] : row.absorbed) report.absorbed[category] += v;
    if (l.min_z != SIZE_MAX) {
      std::vector<double> z = values(l.min_z);
      row.min_z = z.empty() ? -1 : *std::min_element(z.begin(), z.end());
      row.eps = l.eps;
    }
    find_worst_step(l, values, row);
    report.nodes.push_back(std::move(row));
  }
  for (const Edge& e : edges_) {
    double amount = value(e.at);
    if (e.to.op.empty()) report.leaves += amount;
    report.flows.push_back({e.from, e.to, amount});
  }
  return report;
}

}  // namespace whence::lrp
