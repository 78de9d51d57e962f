#include "ops/cpu/random.h"

#include <algorithm>
#include <cstring>

#include "ops/cpu/math.h"
#include "tensor/parallel.h"
#include "ops/philox.h"

namespace whence::cpu {
namespace {

constexpr int64_t kLanes = 16;  // indices worked on together
constexpr int64_t kWords = 4 * kLanes;

// Eight 32-bit words in lanes of 64 bits, as their products need. The compiler's own vectors: any processor has these
// operations.
typedef uint64_t Words __attribute__((vector_size(64)));

/// out[4 l + w] = word w of Philox4x32-10 at index first + l, for kLanes indices (Salmon et al. 2011).
void block(uint64_t seed, uint64_t offset, uint64_t first, uint32_t* out) {
  constexpr int kVectors = kLanes / 8;
  const Words none{}, low = none + 0xFFFFFFFFu, lane{0, 1, 2, 3, 4, 5, 6, 7};
  Words c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    Words i = lane + (first + 8 * static_cast<uint64_t>(v));
    c0[v] = i & low;
    c1[v] = i >> 32;
    c2[v] = none + (offset & 0xFFFFFFFFu);
    c3[v] = none + (offset >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      Words a = c0[v] * 0xD2511F53u, b = c2[v] * 0xCD9E8D57u;
      c0[v] = (b >> 32) ^ c1[v] ^ k0;
      c1[v] = b & low;
      c2[v] = (a >> 32) ^ c3[v] ^ k1;
      c3[v] = a & low;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int v = 0; v < kVectors; ++v) {
    Words w01 = c0[v] | (c1[v] << 32), w23 = c2[v] | (c3[v] << 32);
    Words front = __builtin_shufflevector(w01, w23, 0, 8, 1, 9, 2, 10, 3, 11),
          back = __builtin_shufflevector(w01, w23, 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(out + 32 * v, &front, 64);
    std::memcpy(out + 32 * v + 16, &back, 64);
  }
}

/// Fills y[0..n) = elements first .. first + n of a stream in which PER elements share one block; `make(words, out)`
/// makes PER elements.
template <int64_t PER, class T, class Make>
void fill(T* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first, Make make) {
  parallel_for(n, kGrain / 4, [&](int64_t b, int64_t e) {
    uint32_t words[kWords];
    T made[PER];
    for (int64_t i = first + b; i < first + e;) {
      const int64_t start = i / PER * PER, stop = std::min(start + PER, first + e);
      block(seed, offset, static_cast<uint64_t>(start / PER * kLanes), words);
      if (i == start && stop == start + PER) {
        make(words, y + (i - first));
      } else {
        make(words, made);
        std::copy(made + (i - start), made + (stop - start), y + (i - first));
      }
      i = stop;
    }
  });
}

constexpr double kTwoPi = 6.283185307179586476925;

// Pairs (u1, u2) -> sqrt(-2 ln u1) (cos, sin)(2 pi u2), u1 in (0, 1].
template <class T> void box_muller(const T* u1, const T* u2, int64_t pairs, T* out) {
  using V = Vec<T>;
  alignas(64) T c[V::size], s[V::size];
  for (int64_t i = 0; i < pairs; i += V::size) {
    V r = sqrt(log(V::load(u1 + i)) * V(T(-2))), angle = V::load(u2 + i) * V(static_cast<T>(kTwoPi));
    (r * cos(angle)).store(c);
    (r * sin(angle)).store(s);
    for (int64_t l = 0; l < V::size; ++l) {
      out[2 * (i + l)] = c[l];
      out[2 * (i + l) + 1] = s[l];
    }
  }
}

}  // namespace

template <> void random_uniform<float>(float* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first) {
  fill<kWords>(y, n, seed, offset, first, [](const uint32_t* w, float* out) {
    for (int64_t i = 0; i < kWords; ++i) out[i] = static_cast<float>(static_cast<int32_t>(w[i] >> 8)) * 0x1p-24f;
  });
}
template <> void random_uniform<double>(double* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first) {
  fill<kWords / 2>(y, n, seed, offset, first, [](const uint32_t* w, double* out) {
    for (int64_t i = 0; i < kWords / 2; ++i) out[i] = philox::uniform53(w[2 * i], w[2 * i + 1]);
  });
}
// Four words make two pairs of floats: (w0, w1) and (w2, w3).
template <> void random_normal<float>(float* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first) {
  fill<kWords>(y, n, seed, offset, first, [](const uint32_t* w, float* out) {
    alignas(64) float u1[kWords / 2], u2[kWords / 2];
    for (int64_t i = 0; i < kWords / 2; ++i) {
      u1[i] = static_cast<float>(w[2 * i]) * 0x1p-32f + 0x1p-33f;
      u2[i] = static_cast<float>(w[2 * i + 1] >> 8) * 0x1p-24f;
    }
    box_muller(u1, u2, kWords / 2, out);
  });
}
// Four words make one pair of doubles.
template <> void random_normal<double>(double* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first) {
  fill<kWords / 2>(y, n, seed, offset, first, [](const uint32_t* w, double* out) {
    alignas(64) double u1[kLanes], u2[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      u1[i] = philox::uniform53(w[4 * i], w[4 * i + 1]) + 0x1p-54;
      u2[i] = philox::uniform53(w[4 * i + 2], w[4 * i + 3]);
    }
    box_muller(u1, u2, kLanes, out);
  });
}
void random_bernoulli(uint8_t* y, int64_t n, double p, uint64_t seed, uint64_t offset, int64_t first) {
  // uniform < p without leaving the integers: word >> 8 < ceil(p 2^24)
  const double scaled = std::ceil(p * 16777216.0);
  const uint32_t limit = !(scaled > 0) ? 0 : scaled >= 16777216.0 ? 16777216u : static_cast<uint32_t>(scaled);
  fill<kWords>(y, n, seed, offset, first, [limit](const uint32_t* w, uint8_t* out) {
    for (int64_t i = 0; i < kWords; ++i) out[i] = (w[i] >> 8) < limit;
  });
}

}  // namespace whence::cpu
