#include "tensor/parallel.h"

#include <atomic>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace whence::cpu {
namespace {
std::atomic<int> thread_cap{0};

// An exception must not leave a parallel region: keep the first one and rethrow it on the calling thread.
struct Rethrow {
  std::exception_ptr first;
  template <class F> void guard(F&& f) {
    try {
      f();
    } catch (...) {
#ifdef _OPENMP
#pragma omp critical(whence_parallel_rethrow)
#endif
      if (!first) first = std::current_exception();
    }
  }
  void raise() const {
    if (first) std::rethrow_exception(first);
  }
};
}  // namespace

int num_threads() {
#ifdef _OPENMP
  if (omp_in_parallel()) return 1;
  int n = omp_get_max_threads();
  const int cap = thread_cap.load(std::memory_order_relaxed);
  return cap > 0 && cap < n ? cap : n;
#else
  return 1;
#endif
}

void set_num_threads(int n) { thread_cap = n < 0 ? 0 : n; }

namespace detail {

bool split_everything = false;

int pieces_for(int64_t n, int64_t grain) {
  if (split_everything) grain = 1;
  int64_t by_grain = grain > 0 ? (n + grain - 1) / grain : n;
  int threads = num_threads(), most = threads == 1 ? 1 : 4 * threads;
  return by_grain < most ? static_cast<int>(by_grain) : most;
}

void run_split(int64_t n, int64_t pieces, ChunkFn fn, void* context) {
  Rethrow error;
  const int64_t base = n / pieces, extra = n % pieces;
#ifdef _OPENMP
  const int threads = num_threads() < pieces ? num_threads() : static_cast<int>(pieces);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
#endif
  for (int64_t i = 0; i < pieces; ++i) {
    int64_t begin = i * base + (i < extra ? i : extra);
    error.guard([&] { fn(context, begin, begin + base + (i < extra ? 1 : 0)); });
  }
  error.raise();
}

void run_fixed(int64_t n, int64_t chunk, ChunkFn fn, void* context) {
  Rethrow error;
  const int64_t count = (n + chunk - 1) / chunk;
#ifdef _OPENMP
  const int threads = num_threads() < count ? num_threads() : static_cast<int>(count);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
#endif
  for (int64_t i = 0; i < count; ++i) {
    int64_t begin = i * chunk, end = begin + chunk < n ? begin + chunk : n;
    error.guard([&] { fn(context, begin, end); });
  }
  error.raise();
}

}  // namespace detail
}  // namespace whence::cpu
