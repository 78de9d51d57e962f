// Fourth pass: the order of execution. Recording order is always valid; a second order that prefers steps which free at
// least as much as they allocate (weight gradients as soon as their inputs are there, sums of contributions early) is
// taken when its peak is lower. Both are deterministic.
#include <algorithm>
#include <queue>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

// Lists by number, packed.
struct Lists {
  std::vector<Id> begin, items;
  std::span<const Id> operator[](Id i) const { return {items.data() + begin[i], begin[i + 1] - begin[i]}; }
};

class Scheduler {
 public:
  Scheduler(const Lowered& low, const Program& p, const std::vector<Id>& group, std::span<const Overwrite> overwrites)
      : p_(p), low_(low), ir_(low.ir) {
    make_units(group);
    make_edges();
    possible_ = make_waits(overwrites);
  }

  Schedule run() {
    if (!possible_) return {};
    std::vector<Id> recorded = order(false), saving = order(true);
    if (recorded.size() != units_.size()) return {};
    const std::vector<Id>& best = peak(saving) < peak(recorded) ? saving : recorded;
    Schedule s;
    s.members = std::move(members_);
    std::vector<Id> position(units_.size());
    for (Id at = 0; at < best.size(); ++at) position[best[at]] = at;
    std::vector<std::vector<Id>> first(units_.size());  // what comes before without handing over data
    for (Id u = 0; u < units_.size(); ++u)
      for (Id next : then_[u]) first[next].push_back(u);
    s.before_begin.push_back(0);
    for (Id u : best) {
      s.units.push_back(units_[u]);
      for (Id root : reads_[u]) s.before.push_back(position[unit_of_[ir_.producer[root]]]);
      for (Id other : first[u]) s.before.push_back(position[other]);
      s.before_begin.push_back(Id(s.before.size()));
    }
    return s;
  }

 private:
  // Units in order of their first member.
  void make_units(const std::vector<Id>& group) {
    const Id n = Id(ir_.nodes.size());
    std::vector<Id> unit(n, kNone), size;
    unit_of_.assign(n, kNone);
    for (Id i = 0; i < n; ++i) {
      if (ir_.nodes[i].leaf != kNone) continue;
      Id g = group[i];
      if (unit[g] == kNone) {
        unit[g] = Id(units_.size());
        units_.push_back({.tile = ir_.nodes[i].tile});
        size.push_back(0);
      }
      unit_of_[i] = unit[g];
      ++size[unit[g]];
    }
    Id at = 0;
    for (size_t u = 0; u < units_.size(); ++u) {
      units_[u].begin = units_[u].end = at;
      at += size[u];
    }
    members_.resize(at);
    for (Id i = 0; i < n; ++i)
      if (unit_of_[i] != kNone) members_[units_[unit_of_[i]].end++] = i;
  }

  // Roots read and written by each unit, each once; reads of leaves and of the unit's own values left out.
  void make_edges() {
    std::vector<Id> seen(ir_.producer.size(), kNone);
    reads_.begin.push_back(0);
    for (Id u = 0; u < units_.size(); ++u) {
      for (Id m = units_[u].begin; m < units_[u].end; ++m)
        for (Id v : ir_.in(ir_.nodes[members_[m]])) {
          Id root = low_.place[v].root, from = unit_of_[ir_.producer[root]];
          if (from == kNone || from == u || seen[root] == u) continue;
          seen[root] = u;
          reads_.items.push_back(root);
        }
      reads_.begin.push_back(Id(reads_.items.size()));
    }
    readers_.begin.assign(ir_.producer.size() + 2, 0);
    for (Id root : reads_.items) ++readers_.begin[root + 2];
    for (size_t r = 2; r < readers_.begin.size(); ++r) readers_.begin[r] += readers_.begin[r - 1];
    readers_.items.resize(reads_.items.size());
    for (Id u = 0; u < units_.size(); ++u)
      for (Id root : reads_[u]) readers_.items[readers_.begin[root + 1]++] = u;
    readers_.begin.pop_back();

    bytes_.assign(ir_.producer.size(), 0);
    for (Id v = 0; v < ir_.producer.size(); ++v)
      if (low_.place[v].root == v && unit_of_[ir_.producer[v]] != kNone && outlives(v))
        bytes_[v] = int64_t(ir_.types[v].shape.numel()) * int64_t(size_of(ir_.types[v].dtype));
    for (Id v : low_.output_root) bytes_[v] = 0;
  }
  // Order without data: readers of a leaf run before the unit that writes over it, nodes with `after` after that node.
  bool make_waits(std::span<const Overwrite> overwrites) {
    std::vector<std::pair<Id, Id>> waits;  // first, then
    for (const Overwrite& o : overwrites) {
      Id writer = unit_of_[ir_.producer[o.root]];
      if (!may_overwrite(low_, p_, o,
                         {members_.data() + units_[writer].begin, units_[writer].end - units_[writer].begin}))
        return false;
      for (Id i = 0; i < ir_.nodes.size(); ++i)
        if (unit_of_[i] != kNone && unit_of_[i] != writer && waits_for(low_, o, ir_.nodes[i]))
          waits.emplace_back(unit_of_[i], writer);
    }
    for (Id i = 0; i < ir_.nodes.size(); ++i)
      if (Id a = ir_.nodes[i].after; a != kNone && unit_of_[i] != unit_of_[a] && unit_of_[a] != kNone)
        waits.emplace_back(unit_of_[a], unit_of_[i]);
    std::sort(waits.begin(), waits.end());
    waits.erase(std::unique(waits.begin(), waits.end()), waits.end());
    waiting_.assign(units_.size(), 0);
    then_.begin.assign(units_.size() + 1, 0);
    for (auto& [first, next] : waits) {
      ++then_.begin[first + 1];
      ++waiting_[next];
      then_.items.push_back(next);
    }
    for (size_t u = 1; u < then_.begin.size(); ++u) then_.begin[u] += then_.begin[u - 1];
    return true;
  }

  // Values of a group that only the group reads stay in registers.
  bool outlives(Id v) const { return !ir_.nodes[ir_.producer[v]].tile || !readers_[v].empty(); }

  template <class F> void written(Id u, F f) const {
    for (Id m = units_[u].begin; m < units_[u].end; ++m) {
      const INode& n = ir_.nodes[members_[m]];
      for (Id v = n.out; v < n.out + n.n_out; ++v) f(v);
    }
  }

  std::vector<Id> order(bool save) const {
    const Id n = Id(units_.size());
    std::vector<Id> waiting = waiting_, left(ir_.producer.size()), result;
    std::vector<uint64_t> reader_sum(
        ir_.producer.size());  // the sum of those still to read: the last one's number, at the end
    std::vector<char> ready(n), done(n);
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue;  // class, then recording order
    auto frees = [&](Id u) {
      int64_t delta = 0;
      written(u, [&](Id v) { delta += bytes_[v]; });
      for (Id r : reads_[u])
        if (left[r] == 1) delta -= bytes_[r];
      return delta <= 0;
    };
    auto push = [&](Id u) { queue.push((uint64_t(save && !frees(u)) << 32) | u); };
    for (Id r = 0; r < left.size(); ++r)
      for (Id u : readers_[r]) {
        ++left[r];
        reader_sum[r] += u;
      }
    auto arrive = [&](Id u, Id count) {
      if ((waiting[u] -= count) > 0) return;
      ready[u] = 1;
      push(u);
    };
    for (Id u = 0; u < n; ++u) waiting[u] += Id(reads_[u].size());
    for (Id u = 0; u < n; ++u)
      if (waiting[u] == 0) arrive(u, 0);
    result.reserve(n);
    while (!queue.empty()) {
      Id u = Id(queue.top());
      queue.pop();
      if (done[u]) continue;
      done[u] = 1;
      result.push_back(u);
      for (Id r : reads_[u]) {
        reader_sum[r] -= u;
        if (--left[r] == 1 && save && ready[reader_sum[r]]) push(Id(reader_sum[r]));
      }
      written(u, [&](Id v) {
        for (Id reader : readers_[v]) arrive(reader, 1);
      });
      for (Id next : then_[u]) arrive(next, 1);
    }
    return result;
  }

  int64_t peak(const std::vector<Id>& order) const {
    std::vector<Id> left(ir_.producer.size());
    for (Id r = 0; r < left.size(); ++r) left[r] = Id(readers_[r].size());
    int64_t now = 0, top = 0;
    for (Id u : order) {
      written(u, [&](Id v) { now += bytes_[v]; });
      top = std::max(top, now);
      for (Id r : reads_[u])
        if (--left[r] == 0) now -= bytes_[r];
      written(u, [&](Id v) {
        if (readers_[v].empty()) now -= bytes_[v];
      });
    }
    return top;
  }

  const Program& p_;
  const Lowered& low_;
  const Ir& ir_;
  std::vector<Unit> units_;
  std::vector<Id> members_, unit_of_;
  Lists reads_, readers_, then_;
  std::vector<Id> waiting_;  // by unit: how many units of then_ come before it
  bool possible_ = true;
  std::vector<int64_t> bytes_;  // by root: arena bytes
};

}  // namespace

Schedule schedule(const Lowered& low, const Program& p, const std::vector<Id>& group,
                  std::span<const Overwrite> overwrites) {
  return Scheduler(low, p, group, overwrites).run();
}

}  // namespace whence::planner
