// Compiled programs by structural hash, compared in full on a hit; the least recently used go. An entry also keeps one
// idle instance (arena and output buffers), so that recording the same graph every step allocates nothing large.
#include <list>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unordered_map>

#include "whence/autograd/plan/run.h"

namespace whence::planner {

namespace {

constexpr size_t kMaxPrograms = 128;
constexpr size_t kMaxIdleBytes = size_t(256) << 20;  // of idle instances; the one returned last is kept in any case
constexpr size_t kMaxKeptBytes = size_t(256) << 20;  // of results that plans keep; the last two to run keep theirs
constexpr size_t kFewBytes = size_t(1) << 20;        // results that need no counting: a short run takes no lock

struct Entry {
  std::shared_ptr<Program> program;
  std::unique_ptr<Instance> idle;
};

struct Cache {
  std::mutex mutex;
  std::list<Entry> entries;  // most recently used first
  std::unordered_multimap<size_t, std::list<Entry>::iterator> by_hash;
  std::unordered_map<const Program*, std::list<Entry>::iterator> by_program;
  std::list<Plan::State*> keepers;  // plans that keep results; the last to run first
  size_t hits = 0, misses = 0;
};
Cache& cache() {
  static Cache* c = new Cache;  // never destroyed: plans may outlive static destructors
  return *c;
}

void erase(Cache& c, std::list<Entry>::iterator e) {
  auto [begin, end] = c.by_hash.equal_range(e->program->hash);
  for (auto i = begin; i != end; ++i)
    if (i->second == e) {
      c.by_hash.erase(i);
      break;
    }
  c.by_program.erase(e->program.get());
  c.entries.erase(e);
}

size_t idle_bytes(const Entry& e) { return e.idle ? e.program->arena_bytes + e.program->stats.output_bytes : 0; }

// Drops the results that nobody holds; returns their bytes.
size_t drop_results(Instance& x) {
  size_t bytes = 0;
  for (auto& pool : x.results)
    std::erase_if(pool, [&](const Tensor& t) {
      if (t.buffer().use_count() > 1) return false;
      bytes += t.buffer()->bytes();
      return true;
    });
  return bytes;
}

void forget(Cache& c, Plan::State& s) {
  if (std::exchange(s.keeps, false)) s.keeper.splice(s.keeper.begin(), c.keepers, s.place);
}

// Freed memory lies in the allocator until it is told.
void give_back(size_t bytes) {
#ifdef __GLIBC__
  if (bytes > size_t(8) << 20) ::malloc_trim(0);
#endif
}

}  // namespace

void keep_results(Plan::State& s) {
  if (s.program->backend->fixed_slots()) return;
  size_t kept = 0, dropped = 0, total = 0, plans = 0;
  for (auto& pool : s.instance->results)
    for (const Tensor& t : pool) kept += t.buffer()->bytes();
  if (kept < kFewBytes) return;
  {
    Cache& c = cache();
    std::lock_guard lock(c.mutex);
    s.kept_bytes = kept;
    if (!c.keepers.empty() && c.keepers.front() == &s) return;
    c.keepers.splice(c.keepers.begin(), s.keeps ? c.keepers : s.keeper, s.place);
    s.keeps = true;
    for (auto at = c.keepers.begin(); at != c.keepers.end();) {
      Plan::State& other = **at++;
      total += other.kept_bytes;
      if (++plans <= 2 || total <= kMaxKeptBytes) continue;
      std::unique_lock idle(other.mutex, std::try_to_lock);
      if (!idle) continue;
      total -= other.kept_bytes;
      dropped += drop_results(*other.instance);
      forget(c, other);
    }
  }
  give_back(dropped);
}

void forget_results(Plan::State& s) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  forget(c, s);
}

std::shared_ptr<Program> find_cached(size_t hash, const Snapshot& s, const Options& o) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  auto [begin, end] = c.by_hash.equal_range(hash);
  for (auto i = begin; i != end; ++i)
    if (matches(s, o, *i->second->program)) {
      ++c.hits;
      c.entries.splice(c.entries.begin(), c.entries, i->second);
      return c.entries.front().program;
    }
  ++c.misses;
  return nullptr;
}

void put_in_cache(const std::shared_ptr<Program>& p) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.entries.push_front({p, nullptr});
  c.by_hash.emplace(p->hash, c.entries.begin());
  c.by_program.emplace(p.get(), c.entries.begin());
  while (c.entries.size() > kMaxPrograms) erase(c, std::prev(c.entries.end()));
}

std::unique_ptr<Instance> take_instance(const Program* p) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  auto e = c.by_program.find(p);
  return e == c.by_program.end() ? nullptr : std::move(e->second->idle);
}

void return_instance(const Program* p, std::unique_ptr<Instance> x) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  auto e = c.by_program.find(p);
  if (e == c.by_program.end()) return;
  e->second->idle = std::move(x);
  size_t total = 0;
  for (Entry& other : c.entries) {
    total += idle_bytes(other);
    if (total > kMaxIdleBytes && &other != &*e->second) {
      total -= idle_bytes(other);
      other.idle = nullptr;
    }
  }
}

}  // namespace whence::planner

namespace whence {

PlanCacheStats plan_cache_stats() {
  auto& c = planner::cache();
  std::lock_guard lock(c.mutex);
  PlanCacheStats s{.programs = c.entries.size(), .hits = c.hits, .misses = c.misses};
  for (auto& e : c.entries) s.idle_bytes += planner::idle_bytes(e);
  return s;
}

void clear_plan_cache() {
  auto& c = planner::cache();
  std::list<planner::Entry> gone;
  {
    std::lock_guard lock(c.mutex);
    c.by_hash.clear();
    c.by_program.clear();
    gone.swap(c.entries);
  }
  size_t bytes = 0;
  for (const planner::Entry& e : gone) bytes += planner::idle_bytes(e);
  gone.clear();
  planner::give_back(bytes);
}

}  // namespace whence
