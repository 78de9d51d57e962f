// Steps that do not need each other may run at the same time, on lanes. A list scheduler gives every step to the lane
// where it ends first, by a rough estimate of its time; the lanes are taken when the whole then ends clearly earlier.
#include <algorithm>

#include "whence/autograd/plan/backend.h"
#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

constexpr double kFork = 30;    // us: waking the other lanes and waiting for them
constexpr double kGain = 0.85;  // the estimate must promise at least this,
constexpr double kLeast = 100;  // us: and at least this much less (measured: below, busy neighbours eat the gain)

double elements(const Ir& ir, Id v) { return double(ir.types[v].shape.numel()); }

// A rough time on one core: 3 elements of a simple loop per ns, 20 products per ns, 5 bytes per ns through memory.
double microseconds(const Lowered& low, const Schedule& s, const Unit& u) {
  const Ir& ir = low.ir;
  double ns = 50;
  for (Id m = u.begin; m < u.end; ++m) {
    const INode& n = ir.nodes[s.members[m]];
    if (is_pack(n.op)) return 0;
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

void find_lanes(const Lowered& low, const Program& p, Schedule& s) {
  const int lanes = p.backend->lanes();
  if (!p.options.concurrent || lanes < 2) return;
  const double crossing = p.backend->crossing();
  std::vector<uint8_t> lane(s.units.size());
  std::vector<double> end(s.units.size()), free(size_t(lanes), kFork);
  double apart = 0;
  for (Id at = 0; at < s.units.size(); ++at) {
    const double work = microseconds(low, s, s.units[at]);
    apart += p.backend->cost(work, 1);
    double best = 0;
    for (int l = 0; l < lanes; ++l) {
      double start = free[size_t(l)];
      for (Id b : s.needs(at)) start = std::max(start, end[b] + (lane[b] == l ? 0 : crossing));
      if (l && start >= best) continue;  // of equals the first lane, so that a chain stays together
      best = start;
      lane[at] = uint8_t(l);
    }
    end[at] = free[lane[at]] = best + p.backend->cost(work, lanes);
  }
  const double together = *std::max_element(free.begin(), free.end());
  if (together > kGain * apart || apart - together < kLeast) return;
  s.lane = std::move(lane);
  s.lanes = lanes;
}

std::vector<std::vector<Id>> lane_clocks(const Schedule& s, std::vector<std::vector<Id>>* waits) {
  const size_t lanes = size_t(s.lanes);
  std::vector<std::vector<Id>> clock(s.units.size());
  std::vector<Id> last(lanes, kNone);  // by lane: its latest step so far
  if (waits) waits->assign(s.units.size(), {});
  for (Id at = 0; at < s.units.size(); ++at) {
    const size_t own = s.lane_of(at);
    std::vector<Id>& c = clock[at];
    if (last[own] == kNone) {
      c.assign(lanes, 0);
    } else {
      c = clock[last[own]];
      c[own] = last[own] + 1;
    }
    last[own] = at;
    std::vector<Id> needs(s.needs(at).begin(), s.needs(at).end());
    std::sort(needs.rbegin(), needs.rend());  // a later step of a lane has seen more
    for (Id b : needs) {
      const size_t other = s.lane_of(b);
      if (other == own || c[other] > b) continue;
      if (waits) (*waits)[at].push_back(b);
      for (size_t l = 0; l < lanes; ++l) c[l] = std::max(c[l], clock[b][l]);
      c[other] = b + 1;
    }
  }
  return clock;
}

}  // namespace whence::planner
