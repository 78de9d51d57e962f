// Random arrays. Element i is a pure function of (seed, key, i): any split of an array draws the same numbers, on any
// number of threads, and on CUDA (normals up to the last place of log, sin and cos).
#include <algorithm>
#include <cstring>
#include <numeric>

#include "whence/autograd/op.h"
#include "whence/ops/cpu/lanes.h"
#include "whence/ops/cpu/math.h"
#include "whence/ops/floats.h"
#include "whence/tensor/philox.h"

namespace whence::cpu {
namespace {

constexpr int64_t kLanes = 16;  // indices worked on together
constexpr int64_t kWords = 4 * kLanes;

// Eight 32-bit words in lanes of 64 bits, as their products need. The compiler's own vectors: any processor has these
// operations.
typedef uint64_t Words __attribute__((vector_size(64)));

/// What the call draws from: the last operand is the run's seed, i64 [].
struct Stream {
  uint64_t seed, key;
  static Stream of(const KernelCall& call) {
    return {uint64_t(*call.in.back().as<int64_t>()), uint64_t(call.attrs.integer("key"))};
  }
};

/// out[4 l + w] = word w of Philox4x32-10 at index first + l, for kLanes indices (Salmon et al. 2011).
void block(Stream stream, uint64_t first, uint32_t* out) {
  constexpr int kVectors = kLanes / 8;
  const Words none{}, low = none + 0xFFFFFFFFu, lane{0, 1, 2, 3, 4, 5, 6, 7};
  Words c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    Words i = lane + (first + 8 * static_cast<uint64_t>(v));
    c0[v] = i & low;
    c1[v] = i >> 32;
    c2[v] = none + (stream.key & 0xFFFFFFFFu);
    c3[v] = none + (stream.key >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(stream.seed), k1 = static_cast<uint32_t>(stream.seed >> 32);
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
template <int64_t PER, class T, class Make> void fill(T* y, int64_t n, Stream stream, int64_t first, Make make) {
  parallel_for(n, kGrain / 4, [&](int64_t b, int64_t e) {
    uint32_t words[kWords];
    T made[PER];
    for (int64_t i = first + b; i < first + e;) {
      const int64_t start = i / PER * PER, stop = std::min(start + PER, first + e);
      block(stream, static_cast<uint64_t>(start / PER * kLanes), words);
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

/// Uniform on [0, 1): 24 bits for float, 53 for double.
void draw_uniform(float* y, int64_t n, Stream stream) {
  fill<kWords>(y, n, stream, 0, [](const uint32_t* w, float* out) {
    for (int64_t i = 0; i < kWords; ++i) out[i] = static_cast<float>(static_cast<int32_t>(w[i] >> 8)) * 0x1p-24f;
  });
}
void draw_uniform(double* y, int64_t n, Stream stream) {
  fill<kWords / 2>(y, n, stream, 0, [](const uint32_t* w, double* out) {
    for (int64_t i = 0; i < kWords / 2; ++i) out[i] = philox::uniform53(w[2 * i], w[2 * i + 1]);
  });
}
/// Standard normal by Box-Muller; float reaches 6.6 standard deviations, double 8.5. Four words make two pairs of
/// floats: (w0, w1) and (w2, w3).
void draw_normal(float* y, int64_t n, Stream stream) {
  fill<kWords>(y, n, stream, 0, [](const uint32_t* w, float* out) {
    alignas(64) float u1[kWords / 2], u2[kWords / 2];
    for (int64_t i = 0; i < kWords / 2; ++i) {
      u1[i] = static_cast<float>(w[2 * i]) * 0x1p-32f + 0x1p-33f;
      u2[i] = static_cast<float>(w[2 * i + 1] >> 8) * 0x1p-24f;
    }
    box_muller(u1, u2, kWords / 2, out);
  });
}
// Four words make one pair of doubles.
void draw_normal(double* y, int64_t n, Stream stream) {
  fill<kWords / 2>(y, n, stream, 0, [](const uint32_t* w, double* out) {
    alignas(64) double u1[kLanes], u2[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      u1[i] = philox::uniform53(w[4 * i], w[4 * i + 1]) + 0x1p-54;
      u2[i] = philox::uniform53(w[4 * i + 2], w[4 * i + 3]);
    }
    box_muller(u1, u2, kLanes, out);
  });
}
/// Elements first .. first + n: 1 with probability p, that is uniform (24 bits) < p.
void draw_bits(uint8_t* y, int64_t n, double p, Stream stream, int64_t first) {
  // uniform < p without leaving the integers: word >> 8 < ceil(p 2^24)
  const double scaled = std::ceil(p * 16777216.0);
  const uint32_t limit = !(scaled > 0) ? 0 : scaled >= 16777216.0 ? 16777216u : static_cast<uint32_t>(scaled);
  fill<kWords>(y, n, stream, first, [limit](const uint32_t* w, uint8_t* out) {
    for (int64_t i = 0; i < kWords; ++i) out[i] = (w[i] >> 8) < limit;
  });
}

// ---- kernels ------------------------------------------------------------------------------------------------------

template <class T> void uniform(const KernelCall& call) {
  T* y = call.out[0].as<T>();
  const int64_t n = call.out[0].numel();
  draw_uniform(y, n, Stream::of(call));
  const double low = call.attrs.real("low"), high = call.attrs.real("high");
  if (low == 0 && high == 1) return;
  const T top = std::nextafter(T(high), T(low));  // rounding must not reach `high`
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = std::min(top, T(low + (high - low) * double(y[i])));
  });
}

template <class T> void normal(const KernelCall& call) {
  T* y = call.out[0].as<T>();
  const int64_t n = call.out[0].numel();
  draw_normal(y, n, Stream::of(call));
  const T mean = T(call.attrs.real("mean")), stddev = T(call.attrs.real("stddev"));
  if (mean == 0 && stddev == 1) return;
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = mean + stddev * y[i];
  });
}

/// f(first element, count, bits), bits being 1 with probability p.
template <class F> void over_bits(const KernelCall& call, double p, F&& f) {
  constexpr int64_t kPiece = 4096;
  parallel_chunks(call.out[0].numel(), kPiece, [&](int64_t begin, int64_t end) {
    uint8_t bits[kPiece];
    draw_bits(bits, end - begin, p, Stream::of(call), begin);
    f(begin, end - begin, bits);
  });
}

void bernoulli_kernel(const KernelCall& call) {
  for_numbers(call.out[0].dtype, [&](auto element) {
    auto* y = call.out[0].as<decltype(element)>();
    over_bits(call, call.attrs.real("p"),
              [&](int64_t at, int64_t n, const uint8_t* bits) { std::copy(bits, bits + n, y + at); });
  });
}

template <class T> void dropout(const KernelCall& call) {
  const double keep = 1.0 - call.attrs.real("p");
  const T *x = call.in[0].as<T>(), scale = T(1.0 / keep);
  T* y = call.out[0].as<T>();
  over_bits(call, keep, [&](int64_t at, int64_t n, const uint8_t* bits) {
    for (int64_t i = 0; i < n; ++i) y[at + i] = x[at + i] * (bits[i] ? scale : T(0));
  });
}

// Sorted by 64 random bits each; the index decides between equals.
size_t permutation_bytes(std::span<const TensorType>, std::span<const TensorType> out, const Attrs&) {
  return size_t(out[0].shape[0] + 1) * sizeof(uint64_t);
}
void permutation_kernel(const KernelCall& call) {
  const int64_t n = call.out[0].numel();
  int64_t* p = call.out[0].as<int64_t>();
  uint64_t* order = reinterpret_cast<uint64_t*>(call.workspace);
  const Stream stream = Stream::of(call);
  for (int64_t i = 0; i < n; i += 2) {
    const philox::Words w = philox::words(stream.seed, stream.key, uint64_t(i) / 2);
    order[i] = uint64_t(w.w[0]) << 32 | w.w[1];
    order[i + 1] = uint64_t(w.w[2]) << 32 | w.w[3];
  }
  std::iota(p, p + n, 0);
  std::sort(p, p + n, [&](int64_t a, int64_t b) { return order[a] < order[b] || (order[a] == order[b] && a < b); });
}

}  // namespace

REGISTER_KERNEL(cpu, uniform) = [](const KernelCall& call) { by_float(call, uniform<float>, uniform<double>); };
REGISTER_KERNEL(cpu, normal) = [](const KernelCall& call) { by_float(call, normal<float>, normal<double>); };
REGISTER_KERNEL(cpu, bernoulli) = bernoulli_kernel;
REGISTER_KERNEL(cpu, permutation) = {permutation_kernel, {.workspace = permutation_bytes}};
REGISTER_KERNEL(cpu, dropout) = {[](const KernelCall& call) { by_float(call, dropout<float>, dropout<double>); },
                                 {.in_place = 0}};

}  // namespace whence::cpu
