#include "ops/cpu/index.h"

#include <algorithm>
#include <vector>

#include "tensor/parallel.h"
#include "ops/cpu/row.h"

namespace whence::cpu {

template <class T, class I> void scatter_add_rows(T* table, int64_t count, int64_t width, const I* index, int64_t n,
                                                  const T* rows, bool zero_first, int64_t skip) {
  auto add = [&](int64_t at, int64_t i) {
    T* to = table + at * width;
    const T* from = rows + i * width;
    each<T>(width, [&](int64_t c, int64_t m) { store_upto(load_upto(to + c, m) + load_upto(from + c, m), to + c, m); });
  };
  auto valid = [&](int64_t at) { return at >= 0 && at < count && at != skip; };
  if (n * width + (zero_first ? count * width : 0) <= 2 * kGrain || num_threads() == 1) {
    if (zero_first) std::fill(table, table + count * width, T(0));
    for (int64_t i = 0; i < n; ++i)
      if (valid(static_cast<int64_t>(index[i]))) add(static_cast<int64_t>(index[i]), i);
    return;
  }
  // Positions sorted by row of the table (counting sort: stable), so that a thread owns whole rows and adds in the
  // order of i.
  std::vector<int64_t> start(static_cast<size_t>(count) + 1), order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    if (valid(static_cast<int64_t>(index[i]))) ++start[static_cast<size_t>(index[i]) + 1];
  for (size_t r = 1; r < start.size(); ++r) start[r] += start[r - 1];
  std::vector<int64_t> next(start.begin(), start.end() - 1);
  for (int64_t i = 0; i < n; ++i)
    if (valid(static_cast<int64_t>(index[i]))) order[static_cast<size_t>(next[static_cast<size_t>(index[i])]++)] = i;
  parallel_for(count, std::max<int64_t>(1, kGrain / 2 / std::max<int64_t>(1, width)), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      if (zero_first) std::fill(table + r * width, table + (r + 1) * width, T(0));
      for (int64_t k = start[static_cast<size_t>(r)]; k < start[static_cast<size_t>(r) + 1]; ++k)
        add(r, order[static_cast<size_t>(k)]);
    }
  });
}

#define WHENCE_INSTANTIATE(T, I) \
  template void scatter_add_rows<T, I>(T*, int64_t, int64_t, const I*, int64_t, const T*, bool, int64_t);
WHENCE_INSTANTIATE(float, int32_t)
WHENCE_INSTANTIATE(float, int64_t)
WHENCE_INSTANTIATE(double, int32_t)
WHENCE_INSTANTIATE(double, int64_t)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
