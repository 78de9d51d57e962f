// Splitting work over the cores, for every CPU op and for users' kernels; knows nothing of tensors.
//
// One team of threads serves the whole process. Any thread may call: the caller works itself, helpers that are free
// join it. Loops inside a loop stay on their thread. What a chunk throws reaches the caller, after the others have run;
// of several the first one's, as in a loop on one thread. A child of fork() has a team of its own.
//
// Nothing here changes a result: a chunk's work must depend on its range only. Where a reduction needs an order, ask
// for fixed-size chunks (`parallel_chunks`) and combine the partial results in chunk order, so that the sum is the same
// for any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

namespace whence::cpu {

/// Threads that a parallel loop started here would use: 1 inside a parallel loop, its share inside run_together.
int num_threads();

/// The number of threads of every later loop of the process, 1 being the caller alone. 0 restores the default, read
/// anew: OMP_NUM_THREADS, or the cores that affinity mask and control groups (container limits) leave.
/// Without OpenMP (WHENCE_OPENMP=OFF) there is one thread.
void set_num_threads(int n);

/// Elements of a memory-bound loop below which a parallel region costs more than it saves.
inline constexpr int64_t kGrain = 32768;

namespace detail {
using ChunkFn = void (*)(void* context, int64_t begin, int64_t end);
void run_split(int64_t n, int64_t pieces, ChunkFn fn, void* context);  // `pieces` contiguous ranges, sizes within one
void run_fixed(int64_t n, int64_t chunk, ChunkFn fn, void* context);   // ranges [i*chunk, min(n, (i+1)*chunk))
void run_each(int64_t n, ChunkFn fn, void* context);  // n functions, each with its share of the threads
int pieces_for(int64_t n, int64_t grain);
double cpu_limit(const std::string& root);  // CPUs that the control groups below `root` grant; 0: no limit
extern bool split_everything;               // tests: split loops below their grain too, so that tiny samples have seams
}  // namespace detail

/// Calls f(begin, end) over contiguous pieces that cover [0, n), a few per thread so that a core that others use slows
/// the loop less, none smaller than about `grain`. Serial, and free of any call overhead, when n <= grain.
template <class F> void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  int pieces = n <= grain && !detail::split_everything ? 1 : detail::pieces_for(n, grain);
  if (pieces <= 1) {
    f(int64_t{0}, n);
    return;
  }
  using Fn = std::remove_reference_t<F>;
  detail::run_split(
      n, pieces, [](void* c, int64_t b, int64_t e) { (*static_cast<Fn*>(c))(b, e); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

/// Calls f(begin, end) for each fixed-size chunk of [0, n), chunks spread over the threads as they become free.
/// The set of ranges is the same for any number of threads.
template <class F> void parallel_chunks(int64_t n, int64_t chunk, F&& f) {
  if (n <= 0) return;
  if (n <= chunk || num_threads() == 1) {
    for (int64_t b = 0; b < n; b += chunk) f(b, b + chunk < n ? b + chunk : n);
    return;
  }
  using Fn = std::remove_reference_t<F>;
  detail::run_fixed(
      n, chunk, [](void* c, int64_t b, int64_t e) { (*static_cast<Fn*>(c))(b, e); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

/// Calls f(0) .. f(n - 1) at the same time, each with its share of the threads for its own loops. Where threads are few
/// or busy they run one after another, begun in order: f(i) may wait for an earlier one, never for a later one.
template <class F> void run_together(int64_t n, F&& f) {
  if (n <= 0) return;
  using Fn = std::remove_reference_t<F>;
  detail::run_each(
      n, [](void* c, int64_t i, int64_t) { (*static_cast<Fn*>(c))(i); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace whence::cpu
