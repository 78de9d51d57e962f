// A small OpenMP runtime for the thread-sanitizer build only.
//
// GCC turns OpenMP pragmas into calls of GOMP_* and omp_*. The sanitizer cannot see the barriers of the usual runtime,
// which is not instrumented, and reports races that are none. This one is built from std::thread, mutexes and condition
// variables, which it does see: what it reports here is a race in a kernel. A pragma whose entry point is missing here
// fails to link; add it then. Nested regions run on one thread, tasks run at once.
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// Iterations of one `for schedule(dynamic | guided)`, handed out in chunks.
struct Loop {
  long next = 0, end = 0, step = 1, chunk = 1;
  int left = 0;  // threads that have seen the end
};

struct Team {
  explicit Team(int n) : size(n) {}

  const int size;
  std::mutex mutex;
  std::condition_variable all_here;
  int waiting = 0;
  long barriers = 0;
  long singles_taken = 0;
  std::map<long, Loop> loops;  // by position in the program text as each thread runs it

  void barrier() {
    std::unique_lock lock(mutex);
    const long mine = barriers;
    if (++waiting == size) {
      waiting = 0;
      ++barriers;
      all_here.notify_all();
    } else {
      all_here.wait(lock, [&] { return barriers != mine; });
    }
  }
};

thread_local Team* team = nullptr;
thread_local int thread_num = 0;
thread_local long singles_seen = 0;
thread_local long loops_seen = 0;

std::mutex critical_mutex, atomic_mutex, names_mutex;

int threads_from_environment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int n = text ? std::atoi(text) : 0;
  return n > 0 ? n : 3;  // odd and more than one: work never divides evenly
}

thread_local int max_threads =
    threads_from_environment();  // per thread, as OpenMP has it: fork.cpp gives each half its share

void run_as(Team* t, int num, long first_loop, void (*fn)(void*), void* data) {
  Team* const old_team = team;
  const int old_num = thread_num;
  const long old_singles = singles_seen, old_loops = loops_seen;
  team = t;
  thread_num = num;
  singles_seen = 0;
  loops_seen = first_loop;
  fn(data);
  team = old_team;
  thread_num = old_num;
  singles_seen = old_singles;
  loops_seen = old_loops;
}

void parallel(void (*fn)(void*), void* data, unsigned wanted, const Loop* loop) {
  int n = wanted ? static_cast<int>(wanted) : max_threads;
  if (team) n = 1;
  Team t(n);
  if (loop) t.loops[1] = *loop;
  // Combined `parallel for` has its first loop started already.
  const long first_loop = loop ? 1 : 0;
  std::vector<std::thread> threads;
  for (int i = 1; i < n; ++i) threads.emplace_back(run_as, &t, i, first_loop, fn, data);
  run_as(&t, 0, first_loop, fn, data);
  for (auto& thread : threads) thread.join();
}

bool take(long* from, long* to) {
  if (!team) return false;
  std::lock_guard lock(team->mutex);
  auto it = team->loops.find(loops_seen);
  if (it == team->loops.end()) return false;
  Loop& loop = it->second;
  const bool done = loop.step > 0 ? loop.next >= loop.end : loop.next <= loop.end;
  if (done) {
    if (++loop.left == team->size) team->loops.erase(it);
    return false;
  }
  *from = loop.next;
  long end = loop.next + loop.step * loop.chunk;
  if (loop.step > 0 ? end > loop.end : end < loop.end) end = loop.end;
  *to = loop.next = end;
  return true;
}

// Outside a parallel region (an orphaned loop) the one thread takes everything.
bool start(long from, long to, long step, long chunk, long* first, long* last) {
  if (!team) {
    *first = from;
    *last = to;
    return step > 0 ? from < to : from > to;
  }
  ++loops_seen;
  {
    std::lock_guard lock(team->mutex);
    team->loops.try_emplace(loops_seen, Loop{from, to, step, chunk < 1 ? 1 : chunk, 0});
  }
  return take(first, last);
}

bool start_unsigned(bool up, unsigned long long from, unsigned long long to, unsigned long long step,
                    unsigned long long chunk, unsigned long long* first, unsigned long long* last) {
  long a = 0, b = 0;
  const long signed_step = up ? static_cast<long>(step) : -static_cast<long>(-step);
  const bool some =
      start(static_cast<long>(from), static_cast<long>(to), signed_step, static_cast<long>(chunk), &a, &b);
  *first = static_cast<unsigned long long>(a);
  *last = static_cast<unsigned long long>(b);
  return some;
}

bool take_unsigned(unsigned long long* first, unsigned long long* last) {
  long a = 0, b = 0;
  const bool some = take(&a, &b);
  *first = static_cast<unsigned long long>(a);
  *last = static_cast<unsigned long long>(b);
  return some;
}

}  // namespace

extern "C" {

void GOMP_parallel(void (*fn)(void*), void* data, unsigned n, unsigned) { parallel(fn, data, n, nullptr); }
void GOMP_barrier() {
  if (team) team->barrier();
}
bool GOMP_single_start() {
  if (!team) return true;
  std::lock_guard lock(team->mutex);
  if (++singles_seen <= team->singles_taken) return false;
  team->singles_taken = singles_seen;
  return true;
}
void GOMP_critical_start() { critical_mutex.lock(); }
void GOMP_critical_end() { critical_mutex.unlock(); }
void GOMP_critical_name_start(void** name) {
  std::unique_lock lock(names_mutex);
  if (!*name) *name = new std::mutex;  // lives as long as the program, like the name
  auto* mutex = static_cast<std::mutex*>(*name);
  lock.unlock();
  mutex->lock();
}
void GOMP_critical_name_end(void** name) { static_cast<std::mutex*>(*name)->unlock(); }
void GOMP_atomic_start() { atomic_mutex.lock(); }
void GOMP_atomic_end() { atomic_mutex.unlock(); }

#define WHENCE_LOOP(kind)                                                                                              \
  bool GOMP_loop_##kind##_start(long from, long to, long step, long chunk, long* first, long* last) {                  \
    return start(from, to, step, chunk, first, last);                                                                  \
  }                                                                                                                    \
  bool GOMP_loop_##kind##_next(long* first, long* last) { return take(first, last); }                                  \
  void GOMP_parallel_loop_##kind(void (*fn)(void*), void* data, unsigned n, long from, long to, long step, long chunk, \
                                 unsigned) {                                                                           \
    const Loop loop{from, to, step, chunk < 1 ? 1 : chunk, 0};                                                         \
    parallel(fn, data, n, &loop);                                                                                      \
  }                                                                                                                    \
  bool GOMP_loop_ull_##kind##_start(bool up, unsigned long long from, unsigned long long to, unsigned long long step,  \
                                    unsigned long long chunk, unsigned long long* first, unsigned long long* last) {   \
    return start_unsigned(up, from, to, step, chunk, first, last);                                                     \
  }                                                                                                                    \
  bool GOMP_loop_ull_##kind##_next(unsigned long long* first, unsigned long long* last) {                              \
    return take_unsigned(first, last);                                                                                 \
  }
WHENCE_LOOP(dynamic)
WHENCE_LOOP(guided)
WHENCE_LOOP(nonmonotonic_dynamic)
WHENCE_LOOP(nonmonotonic_guided)
#undef WHENCE_LOOP
void GOMP_loop_end() { GOMP_barrier(); }
void GOMP_loop_end_nowait() {}

void GOMP_task(void (*fn)(void*), void* data, void (*copy)(void*, void*), long size, long align, bool, unsigned, void**,
               int) {
  if (!copy) return fn(data);
  std::vector<char> storage(static_cast<std::size_t>(size + align));
  void* place = storage.data();
  std::size_t space = storage.size();
  place = std::align(static_cast<std::size_t>(align), static_cast<std::size_t>(size), place, space);
  copy(place, data);
  fn(place);
}
void GOMP_taskwait() {}
void GOMP_taskyield() {}
void GOMP_taskgroup_start() {}
void GOMP_taskgroup_end() {}

int omp_get_thread_num() { return thread_num; }
int omp_get_num_threads() { return team ? team->size : 1; }
int omp_get_max_threads() { return team ? 1 : max_threads; }
int omp_get_thread_limit() { return 1 << 16; }
int omp_get_num_procs() { return static_cast<int>(std::thread::hardware_concurrency()); }
int omp_in_parallel() { return team && team->size > 1; }
int omp_get_level() { return team ? 1 : 0; }
int omp_get_active_level() { return omp_in_parallel(); }
int omp_get_max_active_levels() { return 1; }
int omp_get_dynamic() { return 0; }
void omp_set_num_threads(int n) { max_threads = n > 0 ? n : 1; }
void omp_set_dynamic(int) {}
void omp_set_nested(int) {}
void omp_set_max_active_levels(int) {}
double omp_get_wtime() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // extern "C"
