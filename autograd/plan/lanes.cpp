// Two branches of a program that do not need each other (the gradient sweep and the relevance sweep after one forward
// pass) may run on two threads, each with half the cores. This pass finds the branches and estimates whether that pays:
// two threads win when the steps are too small to be split themselves.
#include <algorithm>

#include "autograd/plan/passes.h"

namespace whence::planner {

namespace {

constexpr double kSplits = 30;  // us: a step shorter than this gains nothing from a second thread
constexpr double kFork = 30;    // us: waking the other thread and waiting for it
constexpr double kGain = 0.85;  // the estimate must promise at least this,
constexpr double kLeast = 100;  // us: and at least this much less (measured: below, busy neighbours eat the gain)

double elements(const Ir& ir, Id v) { return double(ir.types[v].shape.numel()); }

// A rough time on one core: 3 elements of a simple loop per ns, 20 products per ns, 5 bytes per ns through memory.
double microseconds(const Lowered& low, const Schedule& s, const Unit& u) {
  const Ir& ir = low.ir;
  double ns = 50;
  for (Id m = u.begin; m < u.end; ++m) {
    const INode& n = ir.nodes[s.members[m]];
    if (u.tile) {
      ns += elements(ir, n.out) * (n.n_in == 1 ? 1.0 : 0.3);
      continue;
    }
    for (Id v : ir.in(n)) ns += elements(ir, v) * double(size_of(ir.types[v].dtype)) / 5;
    for (Id k = 0; k < n.n_out; ++k) ns += elements(ir, n.out + k) * double(size_of(ir.types[n.out + k].dtype)) / 5;
    if (n.op->traits.compute_bound && n.n_in > 0 && n.n_out > 0) {
      const Shape& a = ir.types[ir.in(n)[0]].shape;
      ns += elements(ir, n.out) * double(a.rank() ? a.back() : 1) / 20;
    }
  }
  return ns / 1000;
}

}  // namespace

Fork find_fork(const Lowered& low, const Program& p, Schedule& s, int threads) {
  if (!p.options.concurrent || threads < 2) return {};
  const Ir& ir = low.ir;
  enum : uint8_t { forward = 0, gradient = 1, relevance = 2, both = 3 };
  std::vector<uint8_t> needs(ir.nodes.size()), lane(s.units.size());
  double alone[4] = {}, shared[4] = {};
  for (size_t u = 0; u < s.units.size(); ++u) {
    const Unit& unit = s.units[u];
    uint8_t l = forward, own = 0;
    bool serves_all = false;  // a group with a forward node in it belongs to the forward pass
    for (Id m = unit.begin; m < unit.end; ++m) {
      const INode& n = ir.nodes[s.members[m]];
      uint8_t pass = n.where == kNone ? 0 : p.wheres[n.where].pass;
      own |= pass;
      serves_all |= pass == 0 && !is_copy(n.op);
      if (n.after != kNone) l |= needs[n.after];
      for (Id v : ir.in(n)) l |= needs[ir.producer[low.place[v].root]];
    }
    if (!serves_all) l |= own;
    for (Id m = unit.begin; m < unit.end; ++m) needs[s.members[m]] = l;
    lane[u] = l;
    double t = microseconds(low, s, unit);
    alone[l] += t;
    shared[l] += t < kSplits ? t : t / threads;
  }
  double half = std::max(1, threads / 2);
  auto halved = [&](int l) { return alone[l] / half + shared[l] * (1 - 1 / half); };  // a guess between the two
  double apart = shared[gradient] + shared[relevance], together = std::max(halved(gradient), halved(relevance)) + kFork;
  if (alone[gradient] == 0 || alone[relevance] == 0 || together > kGain * apart || apart - together < kLeast) return {};

  std::vector<Unit> order;
  Fork f;
  for (int l = 0; l < 4; ++l) {
    for (size_t u = 0; u < s.units.size(); ++u)
      if (lane[u] == l) order.push_back(s.units[u]);
    (l == forward ? f.begin : l == gradient ? f.middle : f.end) = Id(order.size());
  }
  f.end = f.middle + Id(std::count(lane.begin(), lane.end(), uint8_t(relevance)));
  s.units = std::move(order);
  return f;
}

}  // namespace whence::planner
