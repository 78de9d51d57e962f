// Causal depthwise convolution, x and y [B, n, C], weight [C, K]: y_t = bias + sum_k w[:, k] x_{t - (K-1) + k}. With
// `reverse` it looks ahead, x_{t + (K-1) - k}, which is the adjoint.
#include "whence/autograd/op.h"
#include "whence/ops/attrs.h"
#include "whence/ops/cpu/row.h"
#include "whence/ops/floats.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

// The taps as [K, C].
size_t turned_bytes(std::span<const TensorType> in, std::span<const TensorType>, const Attrs&) {
  return size_t(in[1].shape.numel()) * size_of(in[1].dtype);
}

template <class T> void conv1d(const KernelCall& call) {
  using V = Vec<T>;
  const Shape& shape = call.in[0].shape;
  const int64_t B = shape[0], n = shape[1], C = shape[2], K = call.in[1].shape[1];
  const bool reverse = ConvLineAttrs::of(call.attrs).reverse;
  const T *x = call.in[0].as<T>(), *w = call.in[1].as<T>(), *bias = call.in.size() > 2 ? call.in[2].as<T>() : nullptr;
  T *y = call.out[0].as<T>(), *taps = reinterpret_cast<T*>(call.workspace);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t k = 0; k < K; ++k) taps[k * C + c] = w[c * K + k];
  // Runs of rows of one sequence, all channels: rows that several taps read are still in the first cache.
  constexpr int64_t kRun = 64;
  const int64_t runs = (n + kRun - 1) / kRun;
  parallel_for(B * runs, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, kRun * C)), [&](int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) {
      const int64_t t0 = r % runs * kRun, t1 = std::min(n, t0 + kRun);
      const T* px = x + r / runs * n * C;
      T* py = y + r / runs * n * C;
      each<T>(C, [&](int64_t c, int64_t m) {
        const V b0 = bias ? load_upto(bias + c, m) : V(T(0));
        auto row = [&](int64_t t, int64_t k0, int64_t k1, auto tap) {
          V a = b0;
          for (int64_t k = k0; k < k1; ++k)
            a = fma(tap(k), load_upto(px + (t + ConvLineAttrs::offset(k, K, reverse)) * C + c, m), a);
          store_upto(a, py + t * C + c, m);
        };
        auto from_memory = [&](int64_t k) { return load_upto(taps + k * C + c, m); };
        auto first = [&](int64_t t) {
          return reverse ? std::max<int64_t>(0, t + K - n) : std::max<int64_t>(0, K - 1 - t);
        };
        if (K == 4) {  // the usual width: taps in registers
          const V w4[4] = {from_memory(0), from_memory(1), from_memory(2), from_memory(3)};
          for (int64_t t = t0; t < t1; ++t)
            if (first(t) == 0) row(t, 0, 4, [&](int64_t k) { return w4[k]; });
            else row(t, first(t), 4, from_memory);
        } else {
          for (int64_t t = t0; t < t1; ++t) row(t, std::min(K, first(t)), K, from_memory);
        }
      });
    }
  });
}

// One partial sum [K, C] per sequence, added in their order.
size_t partial_bytes(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs&) {
  return size_t(in[0].shape[0] * in[0].shape[2] * out[0].shape.back()) * size_of(in[0].dtype);
}

// x [B, n, C], d [.., B, n, C] -> dw [.., C, K]: dw[c, k] = sum over b and t of d[b, t, c] x[b, t + offset(k), c]
template <class T> void conv1d_taps(const KernelCall& call) {
  using V = Vec<T>;
  const Shape& shape = call.in[0].shape;
  const int64_t B = shape[0], n = shape[1], C = shape[2], K = call.out[0].shape.back(), width = K * C;
  const bool reverse = ConvLineAttrs::of(call.attrs).reverse;
  const T *x = call.in[0].as<T>(), *d = call.in[1].as<T>();
  T *dw = call.out[0].as<T>(), *part = reinterpret_cast<T*>(call.workspace);
  const int64_t leads = width ? call.out[0].numel() / width : 0;
  for (int64_t lead = 0; lead < leads; ++lead, d += B * n * C, dw += width) {
    parallel_for(B, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n * width)), [&](int64_t b0, int64_t b1) {
      for (int64_t b = b0; b < b1; ++b) {
        const T *px = x + b * n * C, *pd = d + b * n * C;
        each<T>(C, [&](int64_t c, int64_t m) {
          for (int64_t k = 0; k < K; ++k) {
            const int64_t shift = ConvLineAttrs::offset(k, K, reverse);
            const int64_t lo = std::max<int64_t>(0, -shift), hi = std::min(n, n - shift);
            V total(T(0));
            for (int64_t t = lo; t < hi; t += 128) {  // short runs, then their sums
              V s(T(0));
              for (int64_t u = t; u < std::min(hi, t + 128); ++u)
                s = fma(load_upto(pd + u * C + c, m), load_upto(px + (u + shift) * C + c, m), s);
              total += s;
            }
            store_upto(total, part + b * width + k * C + c, m);
          }
        });
      }
    });
    for (int64_t c = 0; c < C; ++c)
      for (int64_t k = 0; k < K; ++k) {
        T s = 0;
        for (int64_t b = 0; b < B; ++b) s += part[b * width + k * C + c];
        dw[c * K + k] = s;
      }
  }
}

}  // namespace

REGISTER_KERNEL(cpu, causal_conv1d) = {[](const KernelCall& call) { by_float(call, conv1d<float>, conv1d<double>); },
                                       {.workspace = turned_bytes}};
REGISTER_KERNEL(cpu, causal_conv1d_taps) = {
    [](const KernelCall& call) { by_float(call, conv1d_taps<float>, conv1d_taps<double>); },
    {.workspace = partial_bytes}};

}  // namespace whence::cpu
