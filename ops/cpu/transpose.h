// Register transposition, shared by GEMM packing and transposing copies. Private to kernel .cpp files.
#pragma once

#include "whence/ops/cpu/simd.h"

namespace whence::cpu {

/// Lanes of a and b taken in turn: first halves, then second halves.
template <class T> void interleave(Vec<T> a, Vec<T> b, Vec<T>& lo, Vec<T>& hi) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    const __m512i l = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i h = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    lo = xsimd::batch<T>(_mm512_permutex2var_ps(a.v, l, b.v));
    hi = xsimd::batch<T>(_mm512_permutex2var_ps(a.v, h, b.v));
  } else {
    const __m512i l = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), h = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    lo = xsimd::batch<T>(_mm512_permutex2var_pd(a.v, l, b.v));
    hi = xsimd::batch<T>(_mm512_permutex2var_pd(a.v, h, b.v));
  }
#elif defined(__AVX__)  // xsimd 8.1's zip_lo and zip_hi stay within 128-bit halves here
  if constexpr (std::is_same_v<T, float>) {
    const __m256 l = _mm256_unpacklo_ps(a.v, b.v), h = _mm256_unpackhi_ps(a.v, b.v);
    lo = xsimd::batch<T>(_mm256_permute2f128_ps(l, h, 0x20));
    hi = xsimd::batch<T>(_mm256_permute2f128_ps(l, h, 0x31));
  } else {
    const __m256d l = _mm256_unpacklo_pd(a.v, b.v), h = _mm256_unpackhi_pd(a.v, b.v);
    lo = xsimd::batch<T>(_mm256_permute2f128_pd(l, h, 0x20));
    hi = xsimd::batch<T>(_mm256_permute2f128_pd(l, h, 0x31));
  }
#else
  lo = xsimd::zip_lo(a.v, b.v);
  hi = xsimd::zip_hi(a.v, b.v);
#endif
}

/// r[i] lane j <-> r[j] lane i. Each stage interleaves register i with register i + W/2; log2(W) stages make a
/// transposition.
template <class T> void transpose(Vec<T> (&r)[Vec<T>::size]) {
  constexpr int W = static_cast<int>(Vec<T>::size);
  Vec<T> s[W];
#pragma GCC unroll 8
  for (int stage = 1; stage < W; stage *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < W / 2; ++i) interleave(r[i], r[i + W / 2], s[2 * i], s[2 * i + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) r[i] = s[i];
  }
}

}  // namespace whence::cpu
