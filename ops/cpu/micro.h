// The register-blocked heart of matrix products, shared by gemm and attention. Private to kernel .cpp files.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "whence/ops/cpu/simd.h"
#include "whence/ops/cpu/transpose.h"

namespace whence::cpu {

template <class T> struct Tile {
  using V = Vec<T>;
#if defined(__AVX512F__)
  static constexpr int64_t MR = 14, NV = 2;  // 28 accumulators, 2 registers of B, 1 of A, of 32
#else
  static constexpr int64_t MR = 6, NV = 2;  // 12 + 2 + 1 of 16
#endif
  static constexpr int64_t W = V::size, NR = NV * W;
  static constexpr int64_t AS =
      (MR + W - 1) / W *
      W;  // a packed strip's stride: whole registers, so that packing stores never cross a cache line
  static constexpr int64_t KC = 384;                                        // strip of A: 16 * 384 * 4 = 24 KB
  static constexpr int64_t NC = 768 * 4 / static_cast<int64_t>(sizeof(T));  // panel of B: 1.2 MB
};

/// Computes C[0..rows)[0..n) = alpha sum_p a[p * AS + i] b[p * bs + j] + beta C + bias[j]. `a` is a packed strip of
/// `rows` <= MR rows, `b` has whole registers of columns at each p (n <= NR; what lies beyond n is read but not used).
/// C is not read when beta is 0.
template <class T> using Kernel = void (*)(int64_t k, const T* a, const T* b, int64_t bs, T* c, int64_t ldc, int64_t n,
                                           T alpha, T beta, const T* bias);
template <class T> Kernel<T> kernel_for(int64_t rows, int64_t columns);  // instantiated in gemm.cpp

/// Scratch that a thread keeps; grows, never shrinks. gemm uses slots 0 and 1, attention 2 to 7
/// and 10 to 12, partial sums of reductions and norms 8, stabilised rows 9.
template <class T> T* scratch(int slot, int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory[13];
  thread_local size_t size[13] = {};
  size_t want = (static_cast<size_t>(count) * sizeof(T) + 4095) / 4096 * 4096;
  if (size[slot] < want) {
    memory[slot].reset();
    size[slot] = 0;
    memory[slot].reset(std::aligned_alloc(4096, want));
    if (!memory[slot]) throw std::bad_alloc();
    size[slot] = want;
  }
  return static_cast<T*>(memory[slot].get());
}

/// dst[p * stride + i] = src[i * ld + p] for i < rows, p < k; rows > 0. Whole registers are stored (stride is a
/// multiple of W and at least rows): lanes beyond `rows` repeat the last row and mean nothing.
template <class T> void pack_transposed(const T* src, int64_t ld, int64_t rows, int64_t k, T* dst, int64_t stride) {
  using V = Vec<T>;
  constexpr int W = static_cast<int>(V::size);
  for (int64_t block = 0; block < rows; block += W) {
    const T* row[W];
    for (int i = 0; i < W; ++i) row[i] = src + std::min(block + i, rows - 1) * ld;
    T* to = dst + block;
    int64_t p = 0;
    for (; p + W <= k; p += W) {
      V r[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) r[i] = V::load(row[i] + p);
      transpose(r);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) r[i].store(to + (p + i) * stride);
    }
    if (p < k) {
      V r[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) r[i] = V::load(row[i] + p, k - p);
      transpose(r);
      for (int i = 0; i < k - p; ++i) r[i].store(to + (p + i) * stride);
    }
  }
}

/// dst[p * stride + i] = src[p * ld + i] for i < width, zero up to `stride`, a multiple of W.
template <class T> void pack_straight(const T* src, int64_t ld, int64_t width, int64_t k, T* dst, int64_t stride) {
  using V = Vec<T>;
  constexpr int64_t W = V::size;
  int64_t full = width / W * W, rest = width - full;
  for (int64_t p = 0; p < k; ++p) {
    const T* s = src + p * ld;
    T* d = dst + p * stride;
    int64_t i = 0;
    for (; i < full; i += W) V::load(s + i).store(d + i);
    if (rest) {
      V::load(s + i, rest).store(d + i);
      i += W;
    }
    for (; i + W <= stride; i += W) V(T(0)).store(d + i);
  }
}

}  // namespace whence::cpu
