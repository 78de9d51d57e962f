// What the planner did, as text; what a profiled run took, as a Chrome trace.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "whence/autograd/plan/run.h"

namespace whence {

namespace {

using namespace planner;

std::string bytes_text(size_t n) {
  const char* unit[] = {"B", "KiB", "MiB", "GiB"};
  double x = double(n);
  int k = 0;
  for (; x >= 1024 && k < 3; ++k) x /= 1024;
  return k ? fmt::format("{:.1f} {}", x, unit[k]) : fmt::format("{} B", n);
}

std::string place_text(const Program& p, Id where) {
  return where == kNone || p.scope(where).empty() ? "(no scope)" : p.scope(where);
}
std::string op_text(const Program& p, Id where) { return where == kNone ? "copy" : p.wheres[where].op->name; }

// "mul+add+tanh x3": the ops of a fused group in order, repeats counted.
std::string group_text(const Program& p, const Step& s) {
  std::vector<std::pair<std::string, int>> ops;
  for (Id m = s.members; m < s.members + s.n_members; ++m) {
    std::string name = op_text(p, p.members[m]);
    if (!ops.empty() && ops.back().first == name) ++ops.back().second;
    else ops.emplace_back(name, 1);
  }
  std::string text;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (i == 12) return text + fmt::format(" ... ({} nodes)", s.n_members);
    text += (i ? " " : "") + ops[i].first + (ops[i].second > 1 ? fmt::format("*{}", ops[i].second) : "");
  }
  return text;
}
std::string step_text(const Program& p, const Step& s) { return s.op ? s.op->name : "[" + group_text(p, s) + "]"; }

void largest_buffers(const Program& p, std::string& text) {
  std::map<std::string, size_t> scopes;
  std::vector<Id> order(p.blocks.size());
  for (Id i = 0; i < order.size(); ++i) {
    order[i] = i;
    scopes[place_text(p, p.block_where[i])] += p.blocks[i].bytes;
  }
  std::stable_sort(order.begin(), order.end(), [&](Id a, Id b) { return p.blocks[a].bytes > p.blocks[b].bytes; });
  if (order.empty()) return;
  text += "largest buffers (steps in use):\n";
  for (size_t i = 0; i < std::min<size_t>(order.size(), 10); ++i) {
    const Block& b = p.blocks[order[i]];
    text += fmt::format("  {:>10}  {:<16} {} [{}, {}]\n", bytes_text(b.bytes), op_text(p, p.block_where[order[i]]),
                        place_text(p, p.block_where[order[i]]), b.first, b.last);
  }
  std::vector<std::pair<size_t, std::string>> by_scope;
  for (auto& [name, n] : scopes) by_scope.emplace_back(n, name);
  std::sort(by_scope.rbegin(), by_scope.rend());
  text += "buffers by scope (before reuse):\n";
  for (size_t i = 0; i < std::min<size_t>(by_scope.size(), 10); ++i)
    text += fmt::format("  {:>10}  {}\n", bytes_text(by_scope[i].first), by_scope[i].second);
}

void groups(const Program& p, std::string& text) {
  std::vector<const Step*> fused;
  for (const Step& s : p.steps)
    if (!s.op && s.n_members > 1) fused.push_back(&s);
  if (fused.empty()) return;
  std::stable_sort(fused.begin(), fused.end(), [](auto a, auto b) { return a->n_members > b->n_members; });
  text += "fused groups:\n";
  for (size_t i = 0; i < std::min<size_t>(fused.size(), 10); ++i) {
    const FusedGroup& g = p.groups[fused[i]->group];
    text += fmt::format("  {:>3} nodes, {} elements: {}\n", fused[i]->n_members, g.numel, group_text(p, *fused[i]));
  }
}

void times(const Program& p, const Instance& x, std::string& text) {
  struct Row {
    double total = 0;
    size_t count = 0;
  };
  std::map<std::string, Row> rows;
  double sum = 0;
  for (size_t i = 0; i < x.times.size(); ++i) {
    const Step& s = p.steps[i];
    Row& r = rows[s.op ? s.op->name : s.n_members > 1 ? "fused" : op_text(p, s.where)];
    r.total += x.times[i].total;
    ++r.count;
    sum += x.times[i].total;
  }
  std::vector<std::pair<double, std::string>> order;
  for (auto& [name, r] : rows) order.emplace_back(r.total, name);
  std::sort(order.rbegin(), order.rend());
  text += fmt::format("time per op, {} profiled run{}:\n", x.profiled, x.profiled == 1 ? "" : "s");
  for (size_t i = 0; i < std::min<size_t>(order.size(), 20); ++i)
    text += fmt::format("  {:>10.1f} us  {:>5.1f}%  {:>4} x {}\n", order[i].first / double(x.profiled),
                        sum > 0 ? 100 * order[i].first / sum : 0, rows[order[i].second].count, order[i].second);
}

std::string quoted(const std::string& s) {
  std::string q = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') q += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) q += c;
  }
  return q + "\"";
}

}  // namespace

std::string Plan::report() const {
  State& plan = self();
  const Program& p = *plan.program;
  const PlanStats& s = plan.stats;
  std::lock_guard lock(plan.mutex);
  std::string text = fmt::format(
      "{} steps: {} nodes in {} fused groups, {} views, {} merged, {} dead, {} rewrites, {} in place, "
      "{} recomputed\n",
      s.steps, s.fused_nodes, s.fused_groups, s.views, s.merged, s.dead, s.rewrites, s.in_place, s.recomputed);
  text += fmt::format("memory: arena {}, without reuse {}, results {}\n", bytes_text(s.arena_bytes),
                      bytes_text(s.unplanned_bytes), bytes_text(s.output_bytes));
  if (p.lanes > 1) {
    std::vector<size_t> steps(size_t(p.lanes), 0);
    for (const Step& step : p.steps) ++steps[step.lane];
    text += fmt::format("{} lanes of {} steps, {} crossings\n", p.lanes, fmt::join(steps, ", "), p.waits.size());
  }
  if (p.base)
    text += fmt::format("promises: {}, nodes recomputed {}, total depth {}, density {:.3f}\n", s.promises,
                        s.promise_nodes, s.promise_depth, s.promise_density);
  largest_buffers(p, text);
  groups(p, text);
  if (plan.instance->profiled) times(p, *plan.instance, text);
  return text;
}

void Plan::trace(const std::string& path) const {
  State& plan = self();
  const Program& p = *plan.program;
  std::lock_guard lock(plan.mutex);
  const Instance& x = *plan.instance;
  if (!x.profiled) throw ValueError("trace needs a profiled run: compile with {.profile = true}, then run");
  std::ofstream file(path);
  file << "{\"traceEvents\":[\n";
  for (size_t i = 0; i < x.times.size(); ++i) {
    const Step& s = p.steps[i];
    file << fmt::format(
        "{}{{\"name\":{},\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f},\"args\":{{\"where\":{}}}}}",
        i ? ",\n" : "", quoted(step_text(p, s)), 1 + x.times[i].thread, x.times[i].start, x.times[i].last,
        quoted(p.describe(s.where)));
  }
  file << "\n]}\n";
  file.close();
  if (!file) throw IoError("cannot write the trace to " + path);
}

}  // namespace whence
