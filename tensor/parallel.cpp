// The team: threads that live as long as the process and help with any loop that is posted.
//
// OpenMP starts them, in one parallel region that never ends, so no barrier of its runtime is ever waited at. What
// waits here spins for a moment and then sleeps. A loop is a number of chunks that are claimed one by one, by the
// thread that posted it and by helpers. The poster never waits for a helper that has not come: it runs what is left
// itself, and then waits for the chunks in progress only. So a core that another process holds slows a loop by what one
// thread is late, and does not stop it.
#include "whence/tensor/parallel.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace whence::cpu {
namespace {

// ---- one loop -------------------------------------------------------------------------------------------------------

struct Loop {
  int64_t n, count, base, extra;  // chunk i: [i base + min(i, extra), base or base + 1 further), cut at n
  detail::ChunkFn fn;
  void* context;
  int share;  // threads that loops inside a chunk may use

  void run(int64_t i) const {
    const int64_t begin = i * base + std::min(i, extra);
    fn(context, begin, std::min(n, begin + base + (i < extra)));
  }
};

thread_local int share = 0;  // of the chunk that this thread runs; 0: none

struct Share {
  const int before = share;
  explicit Share(int n) { share = n; }
  ~Share() { share = before; }
};

// Where a loop is posted. One word says how many chunks nobody has claimed, how many helpers may still come and how
// many are inside. Who claims a chunk in it is counted there or is the poster, and the loop cannot end under him: what
// else the slot holds may be read then, and only then.
constexpr int kSeatBits = 12, kLeftBits = 40, kMostThreads = 1 << kSeatBits;
constexpr uint64_t kLeft = (uint64_t{1} << kLeftBits) - 1, kSeat = kLeft + 1, kInside = kSeat << kSeatBits;
int64_t left(uint64_t word) { return static_cast<int64_t>(word & kLeft); }
uint64_t seats(uint64_t word) { return word / kSeat % kMostThreads; }
uint64_t inside(uint64_t word) { return word / kInside; }

struct alignas(64) Slot {
  std::atomic<uint64_t> word{0};
  std::atomic<bool> taken{false};
  alignas(64) Loop loop{};
  std::mutex failing;
  int64_t failed = 0;  // the first chunk that threw, once *error is there
  std::exception_ptr* error = nullptr;

  bool claim(uint64_t& before) {
    before = word.load(std::memory_order_acquire);
    while (left(before))
      if (word.compare_exchange_weak(before, before - 1, std::memory_order_acq_rel)) return true;
    return false;
  }
  bool enter(uint64_t& before) {
    before = word.load(std::memory_order_acquire);
    while (left(before) && seats(before))
      if (word.compare_exchange_weak(before, before + kInside - kSeat - 1, std::memory_order_acq_rel)) return true;
    return false;
  }
  void leave() {
    if (inside(word.fetch_sub(kInside)) == 1) word.notify_one();
  }
  // Runs the chunk claimed from `claimed` and all that can be claimed after it.
  void work(uint64_t claimed) {
    Share within(loop.share);
    do {
      const int64_t i = loop.count - left(claimed);
      try {
        loop.run(i);
      } catch (...) {
        std::lock_guard lock(failing);
        if (!*error || i < failed) *error = std::current_exception(), failed = i;
      }
    } while (claim(claimed));
  }
};

// ---- waiting --------------------------------------------------------------------------------------------------------

constexpr std::chrono::microseconds kMoment{50}, kPatience{1000};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Whether somebody else was given this thread's core lately, while it had work for it.
bool crowded(std::chrono::steady_clock::time_point now) {
  static thread_local int64_t preemptions = 0;
  static thread_local std::chrono::steady_clock::time_point until{};
  if (now < until) return true;
  rusage use;
  getrusage(RUSAGE_THREAD, &use);
  if (use.ru_nivcsw == std::exchange(preemptions, use.ru_nivcsw)) return false;
  until = now + std::chrono::milliseconds(100);
  return true;
}

// True as soon as come() is; false when it is time to sleep. To be woken takes as long as some loops do, so a thread
// that is alone on its core stays awake for what a training step does between its loops. One whose core others want
// gives it up after a moment, which costs little beside a turn on that core.
template <class F> bool spin(F come) {
  using Clock = std::chrono::steady_clock;
  if (come()) return true;
  const auto begin = Clock::now();
  for (auto patience = kMoment;; patience = kPatience) {
    for (auto now = begin; now < begin + patience; now = Clock::now())
      for (int i = 0; i < 16; ++i) {
        relax();
        if (come()) return true;
      }
    if (patience == kPatience || crowded(Clock::now())) return false;
  }
}

// ---- the team -------------------------------------------------------------------------------------------------------

struct Team {
  static constexpr int kSlots = 16;
  Slot slots[kSlots];          // more loops than these at once: the others run on their own threads only
  std::atomic<int> posted{0};  // counts the loops
  std::atomic<int> helpers{0};
  std::mutex growing;

  Slot* take_slot() {
    for (Slot& slot : slots)
      if (!slot.taken.load(std::memory_order_relaxed) && !slot.taken.exchange(true, std::memory_order_acquire))
        return &slot;
    return nullptr;
  }
  bool help() {
    uint64_t seen;
    for (Slot& slot : slots) {
      if (!slot.enter(seen)) continue;
      if (seats(seen) > 1) call(2);  // each wakes two more
      slot.work(seen);
      slot.leave();
      return true;
    }
    return false;
  }
  void call(int sleepers) {
    while (sleepers-- > 0) posted.notify_one();
  }
  void serve() {
    for (;;) {
      const int seen = posted.load(std::memory_order_acquire);
      if (help()) continue;
      if (!spin([&] { return posted.load(std::memory_order_acquire) != seen; }))
        posted.wait(seen, std::memory_order_acquire);
    }
  }
  void grow(int n) {
    std::lock_guard lock(growing);
    const int missing = n - helpers.load(std::memory_order_relaxed);
    if (missing <= 0) return;
    helpers.store(n, std::memory_order_relaxed);
    try {
      std::thread([this, missing] {
#ifdef _OPENMP
#pragma omp parallel num_threads(missing)
#endif
        serve();
      }).detach();
    } catch (const std::system_error&) {  // no thread to be had: loops run without
    }
  }
  void run(const Loop& loop, int64_t threads) {
    const int others = static_cast<int>(std::min<int64_t>({threads, loop.count, kMostThreads})) - 1;
    Slot* slot = others > 0 ? take_slot() : nullptr;
    if (!slot) {
      Share within(loop.share);
      for (int64_t i = 0; i < loop.count; ++i) loop.run(i);
      return;
    }
    if (helpers.load(std::memory_order_relaxed) < others) grow(others);
    std::exception_ptr error;
    slot->loop = loop;
    slot->error = &error;
    slot->word.store(uint64_t(others) * kSeat + uint64_t(loop.count), std::memory_order_release);
    posted.fetch_add(1);
    call(std::min(others, 2));
    uint64_t seen;
    if (slot->claim(seen)) slot->work(seen);
    if (!spin([&] { return !inside(slot->word.load(std::memory_order_acquire)); }))
      while (inside(seen = slot->word.load(std::memory_order_acquire)))
        slot->word.wait(seen, std::memory_order_acquire);
    slot->taken.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
  }
};

std::atomic<int> chosen{0};  // set_num_threads
std::atomic<int> found{0};   // what the machine allows; 0: not looked at yet

// Helpers sleep in it until the process ends. A forked child has none of them and starts its own.
constinit Team team;
[[maybe_unused]] const int for_children = pthread_atfork(nullptr, nullptr, [] {
  new (&team) Team;
  found = 0;
});

#ifdef _OPENMP
int allowed() {
  const int asked = omp_get_max_threads();  // OMP_NUM_THREADS, or the cores when the program began
  if (std::getenv("OMP_NUM_THREADS")) return asked;
  const int cores = std::min(asked, omp_get_num_procs());  // the affinity mask of this thread
  const double limit = detail::cpu_limit("");
  return limit > 0 && limit < cores ? static_cast<int>(std::ceil(limit)) : cores;
}
#endif

}  // namespace

int num_threads() {
#ifdef _OPENMP
  if (share) return share;
  if (omp_in_parallel()) return 1;  // the caller has spread its work already
  if (int n = chosen.load(std::memory_order_relaxed)) return n;
  int n = found.load(std::memory_order_relaxed);
  if (!n) found.store(n = allowed(), std::memory_order_relaxed);
  return n;
#else
  return 1;
#endif
}

void set_num_threads(int n) {
  chosen = n < 0 ? 0 : n;
  found = 0;
}

namespace detail {

bool split_everything = false;

int pieces_for(int64_t n, int64_t grain) {
  if (split_everything) grain = 1;
  int64_t by_grain = grain > 0 ? (n + grain - 1) / grain : n;
  int threads = num_threads(), most = threads == 1 ? 1 : 4 * threads;
  return by_grain < most ? static_cast<int>(by_grain) : most;
}

void run_split(int64_t n, int64_t pieces, ChunkFn fn, void* context) {
  team.run({n, pieces, n / pieces, n % pieces, fn, context, 1}, num_threads());
}

void run_fixed(int64_t n, int64_t chunk, ChunkFn fn, void* context) {
  team.run({n, (n + chunk - 1) / chunk, chunk, 0, fn, context, 1}, num_threads());
}

void run_each(int64_t n, ChunkFn fn, void* context) {
  const int threads = num_threads();
  team.run({n, n, 1, 0, fn, context, static_cast<int>(std::max<int64_t>(1, threads / n))}, threads);
}

double cpu_limit(const std::string& root) {
  double least = 0;
  std::ifstream groups(root + "/proc/self/cgroup");  // lines: number:controllers:/path
  for (std::string line; std::getline(groups, line);) {
    const size_t one = line.find(':'), two = line.find(':', one + 1);
    if (two == std::string::npos) continue;
    const std::string kinds = "," + line.substr(one + 1, two - one - 1) + ",";
    const bool v2 = kinds == ",,";
    if (!v2 && kinds.find(",cpu,") == std::string::npos) continue;
    // From the process's own group up to the root: each one's limit holds.
    for (std::string path = line.substr(two + 1);; path.resize(path.rfind('/'))) {
      if (path == "/") path.clear();
      std::string quota, folder = root + "/sys/fs/cgroup" + (v2 ? "" : "/cpu") + path;
      double period = 0;
      if (v2) {
        std::ifstream(folder + "/cpu.max") >> quota >> period;
      } else {
        std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
        std::ifstream(folder + "/cpu.cfs_period_us") >> period;
      }
      const double cores = period > 0 ? std::atof(quota.c_str()) / period : 0;  // "max" and -1: no limit
      if (cores > 0 && (least == 0 || cores < least)) least = cores;
      if (path.empty() || path[0] != '/') break;
    }
  }
  return least;
}

}  // namespace detail
}  // namespace whence::cpu
