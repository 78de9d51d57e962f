// A reduction over any axes (attribute "axes", sorted) as a few reductions over the middle of (outer, n, inner).
#pragma once
#include <algorithm>
#include <array>

#include "whence/autograd/kernel.h"

namespace whence::cpu {

/// The runs of neighbouring reduced axes, the last one first: each is the middle of what the runs before it have left
/// of x. Axes of extent one lie in no one's way. A batch norm's sum over {0, 2, 3} is a sum over rows, then over
/// columns.
class ReductionRuns {
 public:
  struct Run {
    int64_t outer = 1, n = 1, inner = 1;
    int64_t results() const { return outer * inner; }
  };
  ReductionRuns(const Shape& x, const Ints& axes) {
    auto cut = [&](int a) { return std::binary_search(axes.begin(), axes.end(), int64_t(a)); };
    int64_t inner = 1;  // of the axes behind that stay
    for (int a = x.rank() - 1; a >= 0;) {
      if (!cut(a)) {
        inner *= x[a--];
        continue;
      }
      Run run{.inner = inner};
      for (; a >= 0 && (cut(a) || x[a] == 1); --a) run.n *= x[a];
      for (int before = 0; before <= a; ++before) run.outer *= x[before];
      runs_[size_t(count_++)] = run;
    }
    if (count_ == 0) runs_[size_t(count_++)] = {.outer = x.numel()};
  }
  const Run* begin() const { return runs_.data(); }
  const Run* end() const { return runs_.data() + count_; }
  /// Elements between the runs.
  int64_t between() const {
    int64_t n = 0;
    for (int i = 0; i + 1 < count_; ++i) n += runs_[size_t(i)].results();
    return n;
  }

 private:
  std::array<Run, Shape::kMaxRank / 2> runs_{};
  int count_ = 0;
};

/// KernelFacts::workspace of a reduction in several runs.
inline size_t reduce_workspace(std::span<const TensorType> in, std::span<const TensorType>, const Attrs& attrs) {
  const TensorType& x = in[0];
  return size_t(ReductionRuns(x.shape, attrs.ints("axes")).between()) * size_of(x.dtype);
}

/// Calls f(x, y, outer, n, inner) with typed pointers (float, double, int32_t or int64_t) for each run: f reduces what
/// may be reduced in parts.
template <class F> void reduce_axes(const KernelCall& call, F&& f) {
  const View& x = call.in[0];
  const ReductionRuns runs(x.shape, call.attrs.ints("axes"));
  auto typed = [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.as<const T>();
    T* space = reinterpret_cast<T*>(call.workspace);
    for (const ReductionRuns::Run& run : runs) {
      const bool last = &run + 1 == runs.end();
      T* to = last ? call.out[0].as<T>() : space;
      f(from, to, run.outer, run.n, run.inner);
      from = to;
      space += run.results();
    }
  };
  switch (x.dtype) {
    case DType::f64: return typed(double{});
    case DType::i32: return typed(int32_t{});
    case DType::i64: return typed(int64_t{});
    default: return typed(float{});
  }
}

}  // namespace whence::cpu
