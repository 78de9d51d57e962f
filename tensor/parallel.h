// Splitting work over the cores. Public to every CPU op; knows nothing of tensors.
//
// Nothing here changes a result: a chunk's work must depend on its range only. Where a reduction needs an order, ask
// for fixed-size chunks (`parallel_chunks`) and combine the partial results in chunk order, so that the sum is the same
// for any number of threads.
#pragma once

#include <cstdint>
#include <type_traits>

namespace whence::cpu {

/// Threads that a parallel loop started here would use (1 inside a parallel loop).
int num_threads();

/// Caps the threads used by every later loop; 0 restores the default (OMP_NUM_THREADS or all cores).
void set_num_threads(int n);

/// Elements of a memory-bound loop below which a parallel region costs more than it saves.
inline constexpr int64_t kGrain = 32768;

namespace detail {
using ChunkFn = void (*)(void* context, int64_t begin, int64_t end);
void run_split(int64_t n, int64_t pieces, ChunkFn fn, void* context);  // `pieces` contiguous ranges, sizes within one
void run_fixed(int64_t n, int64_t chunk, ChunkFn fn, void* context);   // ranges [i*chunk, min(n, (i+1)*chunk))
int pieces_for(int64_t n, int64_t grain);
extern bool split_everything;  // tests: split loops below their grain too, so that tiny samples have seams
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

}  // namespace whence::cpu
