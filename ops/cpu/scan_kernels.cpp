// Scans along one axis: cumsum, cumprod, cummax, logcumsumexp, linear_scan.
#include <cmath>

#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/lanes.h"
#include "whence/ops/cpu/row.h"
#include "whence/ops/cpu/transpose.h"
#include "whence/ops/floats.h"
#include "whence/ops/scalar.h"

namespace whence::cpu {
namespace {

/// x, or the last result, seen along the scan's axis, and the way the scan runs.
struct Scan {
  Lanes lanes;
  bool reverse;
  Scan(const KernelCall& call, const View& v)
      : lanes(v.shape, axis_of(call.attrs, v.shape.rank())), reverse(ScanAttrs::of(call.attrs).reverse) {}
  int64_t time(int64_t step) const { return reverse ? lanes.n - 1 - step : step; }
  int64_t row(int64_t o, int64_t step) const { return (o * lanes.n + time(step)) * lanes.inner; }
  /// f(o, first, last), at most Lanes::kMost lanes each.
  template <class F> void each(F&& f) const {
    if (lanes.n) lanes.each(lanes.n, Lanes::kMost, f);
  }
  /// f(o, j, w): a register's width of lanes, from j.
  template <class T, class F> void registers(F&& f) const {
    constexpr int64_t W = Vec<T>::size;
    const int64_t tiles = (lanes.inner + W - 1) / W, work = lanes.n * std::min(W, lanes.inner);
    if (lanes.n == 0) return;
    parallel_for(lanes.outer * tiles, std::max<int64_t>(1, kGrain / 2 / std::max<int64_t>(1, work)),
                 [&](int64_t b, int64_t e) {
                   for (int64_t t = b; t < e; ++t)
                     f(t / tiles, t % tiles * W, std::min(W, lanes.inner - t % tiles * W));
                 });
  }
};

// ---- cumsum -------------------------------------------------------------------------------------------------------

// Compensated (Kahan), so that the error does not grow along the axis: `lost` is what the last addition dropped.
template <class T> void cumsum_floats(const Scan& scan, const T* x, T* y) {
  using V = Vec<T>;
  scan.registers<T>([&](int64_t o, int64_t j, int64_t w) {
    V sum(T(0)), lost(T(0));
    for (int64_t s = 0; s < scan.lanes.n; ++s) {
      const int64_t at = scan.row(o, s) + j;
      const V add = load_upto(x + at, w) - lost, next = sum + add;
      lost = select(abs(next) < V(inf<T>()), (next - sum) - add, V(T(0)));
      sum = next;
      store_upto(sum, y + at, w);
    }
  });
}
template <class T> void cumsum_integers(const Scan& scan, const T* x, T* y) {
  scan.each([&](int64_t o, int64_t first, int64_t last) {
    T sum[Lanes::kMost] = {};
    for (int64_t s = 0; s < scan.lanes.n; ++s)
      for (int64_t row = scan.row(o, s), i = first; i < last; ++i)
        y[row + i] = sum[i - first] = scalar::add(sum[i - first], x[row + i]);
  });
}
void cumsum_kernel(const KernelCall& call) {
  const Scan scan(call, call.in[0]);
  for_numbers(call.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_floating_point_v<T>) cumsum_floats(scan, call.in[0].as<T>(), call.out[0].as<T>());
    else cumsum_integers(scan, call.in[0].as<T>(), call.out[0].as<T>());
  });
}

// ---- cumprod ------------------------------------------------------------------------------------------------------

template <class T> void cumprod(const KernelCall& call) {
  using V = Vec<T>;
  const Scan scan(call, call.in[0]);
  const T* x = call.in[0].as<T>();
  T* y = call.out[0].as<T>();
  scan.registers<T>([&](int64_t o, int64_t j, int64_t w) {
    V product(T(1));
    for (int64_t s = 0; s < scan.lanes.n; ++s) {
      const int64_t at = scan.row(o, s) + j;
      product = product * load_upto(x + at, w);
      store_upto(product, y + at, w);
    }
  });
}

// ---- linear_scan --------------------------------------------------------------------------------------------------

// inner = 1: W sequences side by side, turned so that a register holds one step of each.
template <class T> void linear_scan_turned(const Scan& scan, const T* a, const T* b, T* h) {
  using V = Vec<T>;
  constexpr int64_t W = V::size;
  const int64_t n = scan.lanes.n, outer = scan.lanes.outer, blocks = (n + W - 1) / W;
  parallel_for((outer + W - 1) / W, std::max<int64_t>(1, kGrain / 2 / (n * W)), [&](int64_t g0, int64_t g1) {
    for (int64_t o = g0 * W; o < std::min(outer, g1 * W); o += W) {
      const int64_t rows = std::min(W, outer - o);
      V state(T(0));
      for (int64_t k = 0; k < blocks; ++k) {
        const int64_t t0 = (scan.reverse ? blocks - 1 - k : k) * W, tw = std::min(W, n - t0);
        V at[W], bt[W], ht[W];
        for (int64_t i = 0; i < W; ++i) {
          at[i] = i < rows ? load_upto(a + (o + i) * n + t0, tw) : V(T(0));
          bt[i] = i < rows ? load_upto(b + (o + i) * n + t0, tw) : V(T(0));
        }
        transpose(at);
        transpose(bt);
        for (int64_t s = 0; s < tw; ++s) {
          const int64_t q = scan.reverse ? tw - 1 - s : s;
          ht[q] = state = fma(at[q], state, bt[q]);
        }
        for (int64_t q = tw; q < W; ++q) ht[q] = V(T(0));
        transpose(ht);
        for (int64_t i = 0; i < rows; ++i) store_upto(ht[i], h + (o + i) * n + t0, tw);
      }
    }
  });
}

template <class T> void linear_scan_rows(const Scan& scan, const T* a, const T* b, T* h) {
  using V = Vec<T>;
  scan.registers<T>([&](int64_t o, int64_t j, int64_t w) {
    V state(T(0));
    for (int64_t s = 0; s < scan.lanes.n; ++s) {
      const int64_t at = scan.row(o, s) + j;
      state = fma(load_upto(a + at, w), state, load_upto(b + at, w));
      store_upto(state, h + at, w);
    }
  });
}

// An operand of any strides, with axes that repeat (stride 0).
template <class T> void linear_scan_strided(const KernelCall& call, const Scan& scan, const T* a, const T* b, T* h) {
  const Shape& shape = call.out[0].shape;
  const int axis = axis_of(call.attrs, shape.rank());
  const Shape a_strides = broadcast_strides(call.in[0].shape, call.in[0].strides, shape),
              b_strides = broadcast_strides(call.in[1].shape, call.in[1].strides, shape);
  scan.each([&](int64_t o, int64_t first, int64_t last) {
    T state[Lanes::kMost] = {};
    int64_t a_at[Lanes::kMost], b_at[Lanes::kMost];
    const int64_t a_base = offset_of(o, shape, a_strides, 0, axis), b_base = offset_of(o, shape, b_strides, 0, axis);
    for (int64_t i = first; i < last; ++i) {
      a_at[i - first] = a_base + offset_of(i, shape, a_strides, axis + 1, shape.rank());
      b_at[i - first] = b_base + offset_of(i, shape, b_strides, axis + 1, shape.rank());
    }
    bool adjacent = true;  // both, lane by lane
    for (int64_t i = 1; i < last - first; ++i) adjacent &= a_at[i] == a_at[0] + i && b_at[i] == b_at[0] + i;
    for (int64_t s = 0; s < scan.lanes.n; ++s) {
      const T *at = a + scan.time(s) * a_strides[axis], *bt = b + scan.time(s) * b_strides[axis];
      T* ht = h + scan.row(o, s) + first;
      if (adjacent) {
        at += a_at[0];
        bt += b_at[0];
        for (int64_t i = 0; i < last - first; ++i) ht[i] = state[i] = at[i] * state[i] + bt[i];
      } else {
        for (int64_t i = 0; i < last - first; ++i) ht[i] = state[i] = at[a_at[i]] * state[i] + bt[b_at[i]];
      }
    }
  });
}

template <class T> void linear_scan(const KernelCall& call) {
  const View& out = call.out[0];
  const Scan scan(call, out);
  if (out.numel() == 0) return;
  const T *a = call.in[0].as<T>(), *b = call.in[1].as<T>();
  T* h = out.as<T>();
  if (!(call.in[0].shape == out.shape && call.in[0].contiguous() && call.in[1].contiguous()))
    return linear_scan_strided(call, scan, a, b, h);
  if (scan.lanes.inner == 1 && scan.lanes.outer > 1) return linear_scan_turned(scan, a, b, h);
  linear_scan_rows(scan, a, b, h);
}

// ---- logcumsumexp, cummax -----------------------------------------------------------------------------------------

// y = m + log(s) with the running maximum m and s = sum of e^(x - m), in double.
template <class T> void logcumsumexp(const KernelCall& call) {
  const T* x = call.in[0].as<T>();
  T* y = call.out[0].as<T>();
  const Scan scan(call, call.in[0]);
  scan.each([&](int64_t o, int64_t first, int64_t last) {
    double most[Lanes::kMost], sum[Lanes::kMost];
    for (int64_t s = 0; s < scan.lanes.n; ++s)
      for (int64_t row = scan.row(o, s), i = first; i < last; ++i) {
        double v = double(x[row + i]), &m = most[i - first], &e = sum[i - first];
        if (s == 0) m = v, e = 1;
        else if (v == m) e += 1;  // infinities too
        else if (v > m) e = e * std::exp(m - v) + 1, m = v;
        else e += std::exp(v - m);
        y[row + i] = T(m + std::log(e));
      }
  });
}

void cummax_kernel(const KernelCall& call) {
  const Scan scan(call, call.in[0]);
  int64_t* where = call.out[1].as<int64_t>();
  for_numbers(call.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    scan.each([&](int64_t o, int64_t first, int64_t last) {
      for (int64_t s = 0; s < scan.lanes.n; ++s) {
        const int64_t row = scan.row(o, s), before = s ? scan.row(o, s - 1) : row;
        for (int64_t i = first; i < last; ++i) {
          const T v = x[row + i], best = s ? y[before + i] : v;
          const bool wins = s == 0 || v > best || (v != v && best == best);
          y[row + i] = wins ? v : best;
          where[row + i] = wins ? scan.time(s) : where[before + i];
        }
      }
    });
  });
}

}  // namespace

REGISTER_KERNEL(cpu, cumsum) = cumsum_kernel;
REGISTER_KERNEL(cpu, cumprod) = [](const KernelCall& call) { by_float(call, cumprod<float>, cumprod<double>); };
REGISTER_KERNEL(cpu, cummax) = cummax_kernel;
REGISTER_KERNEL(cpu, linear_scan) = {
    [](const KernelCall& call) { by_float(call, linear_scan<float>, linear_scan<double>); }, {.strided = true}};
REGISTER_KERNEL(cpu, logcumsumexp) = [](const KernelCall& call) {
  by_float(call, logcumsumexp<float>, logcumsumexp<double>);
};

}  // namespace whence::cpu
