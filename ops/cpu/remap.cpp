#include "ops/cpu/remap.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace whence::cpu {
namespace {

constexpr int64_t kNowhere = std::numeric_limits<int64_t>::min();  // offset of a filled element
constexpr int64_t kRow = 256, kLongestTable = 1 << 16;

// Part of a row whose sources are equally spaced; step kNowhere: filled.
struct Run {
  int64_t to, n, from, step;
};

std::vector<Run> runs_of(const std::vector<int64_t>& at) {
  std::vector<Run> runs;
  for (size_t i = 0; i < at.size(); ++i) {
    if (!runs.empty()) {
      Run& r = runs.back();
      bool filled = at[i] == kNowhere;
      if (filled && r.step == kNowhere) {
        ++r.n;
        continue;
      }
      if (!filled && r.step != kNowhere && (r.n == 1 || at[i] - at[i - 1] == r.step)) {
        r.step = at[i] - at[i - 1];
        ++r.n;
        continue;
      }
    }
    runs.push_back({int64_t(i), 1, at[i], at[i] == kNowhere ? kNowhere : 1});
  }
  return runs;
}

template <class T> void copy_row(const T* x, T* out, const std::vector<Run>& runs, T fill) {
  for (const Run& r : runs) {
    T* to = out + r.to;
    if (r.step == kNowhere) std::fill(to, to + r.n, fill);
    else if (r.step == 1) std::memcpy(to, x + r.from, size_t(r.n) * sizeof(T));
    else
      for (int64_t i = 0; i < r.n; ++i) to[i] = x[r.from + i * r.step];
  }
}

template <class T> void run(const View& x, const View& out, const std::vector<std::vector<int64_t>>& at, T fill) {
  const std::vector<int64_t>& row = at.back();
  std::vector<Run> runs = runs_of(row);
  bool by_runs = runs.size() * 4 <= row.size() || runs.size() == 1;
  int64_t n = int64_t(row.size()), rows = out.numel() / n;
  const T* from = x.as<T>();
  parallel_for(rows, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t offset = 0, rest = r;
      for (size_t a = at.size() - 1; a-- > 0 && offset != kNowhere;) {
        int64_t size = int64_t(at[a].size()), here = at[a][size_t(rest % size)];
        offset = here == kNowhere ? kNowhere : offset + here;
        rest /= size;
      }
      T* to = out.as<T>() + r * n;
      if (offset == kNowhere) std::fill(to, to + n, fill);
      else if (by_runs) copy_row(from + offset, to, runs, fill);
      else
        for (int64_t i = 0; i < n; ++i) to[i] = row[size_t(i)] == kNowhere ? fill : from[offset + row[size_t(i)]];
    }
  });
}

template <class T>
void run(const View& x, const View& out, const std::vector<std::vector<int64_t>>& at, const Tensor& fill) {
  run(x, out, at, *static_cast<const T*>(fill.raw()));
}

template <class T> void adjoint(const View& dy, const View& dx, const AxisMaps& maps) {
  const T* from = dy.as<T>();
  Shape s = dy.shape;
  std::vector<T> held, next;
  for (int a = 0; a < s.rank(); ++a) {
    const std::vector<int64_t>& map = maps[size_t(a)];
    if (map.empty()) continue;
    int64_t outer = 1, inner = 1, n = s[a], m = dx.shape[a];
    for (int b = 0; b < a; ++b) outer *= s[b];
    for (int b = a + 1; b < s.rank(); ++b) inner *= s[b];
    next.assign(size_t(outer * m * inner), T(0));
    parallel_for(outer, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n * inner)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t o = begin; o < end; ++o)
                     for (int64_t j = 0; j < n; ++j) {
                       if (map[size_t(j)] == kFill) continue;
                       const T* src = from + (o * n + j) * inner;
                       T* dst = next.data() + (o * m + map[size_t(j)]) * inner;
                       for (int64_t i = 0; i < inner; ++i) dst[i] += src[i];
                     }
                 });
    held.swap(next);
    from = held.data();
    s[a] = m;
  }
  if (dx.numel()) std::copy(from, from + dx.numel(), dx.as<T>());
}

}  // namespace

void remap(const View& x, const View& out, const AxisMaps& maps, double fill) {
  if (out.numel() == 0) return;
  std::vector<std::vector<int64_t>> at;  // offsets in elements, per axis
  for (int a = 0; a < out.shape.rank(); ++a) {
    std::vector<int64_t> offsets(size_t(out.shape[a]));
    const std::vector<int64_t>& map = maps[size_t(a)];
    for (size_t i = 0; i < offsets.size(); ++i) {
      int64_t from = map.empty() ? int64_t(i) : map[i];
      offsets[i] = from == kFill ? kNowhere : from * x.strides[a];
    }
    at.push_back(std::move(offsets));
  }
  if (at.empty()) at.push_back({0});
  // Short rows are joined with the axis before them: the sum of two offsets is again a table.
  while (at.size() > 1 && int64_t(at.back().size()) < kRow) {
    std::vector<int64_t> last = std::move(at.back()), joined;
    if (int64_t(last.size() * at[at.size() - 2].size()) > kLongestTable) {
      at.back() = std::move(last);
      break;
    }
    at.pop_back();
    joined.reserve(last.size() * at.back().size());
    for (int64_t i : at.back())
      for (int64_t j : last) joined.push_back(i == kNowhere || j == kNowhere ? kNowhere : i + j);
    at.back() = std::move(joined);
  }
  Tensor value = Tensor::full({}, fill, out.dtype);
  switch (size_of(out.dtype)) {
    case 8: return run<uint64_t>(x, out, at, value);
    case 4: return run<uint32_t>(x, out, at, value);
    case 2: return run<uint16_t>(x, out, at, value);
    default: return run<uint8_t>(x, out, at, value);
  }
}

void remap_adjoint(const View& dy, const View& dx, const AxisMaps& maps) {
  dy.dtype == f64 ? adjoint<double>(dy, dx, maps) : adjoint<float>(dy, dx, maps);
}

}  // namespace whence::cpu
