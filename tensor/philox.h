// Philox-4x32-10 (Salmon et al. 2011): random words as a pure function of (seed, offset, index). One text for CPU and
// CUDA, so the two draw the same numbers. No standard header is used under NVRTC.
#pragma once

#ifdef __CUDACC__
#define WHENCE_PHILOX __host__ __device__ inline
#else
#define WHENCE_PHILOX inline
#endif

namespace whence::philox {

using u32 = unsigned int;
using u64 = unsigned long long;

struct Words {
  u32 w[4];
};

WHENCE_PHILOX Words words(u64 seed, u64 offset, u64 index) {
  u32 c0 = static_cast<u32>(index), c1 = static_cast<u32>(index >> 32), c2 = static_cast<u32>(offset),
      c3 = static_cast<u32>(offset >> 32);
  u32 k0 = static_cast<u32>(seed), k1 = static_cast<u32>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    u64 a = u64(0xD2511F53u) * c0, b = u64(0xCD9E8D57u) * c2;
    c0 = static_cast<u32>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<u32>(b);
    c2 = static_cast<u32>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<u32>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Element i of an f32 draw takes word i % 4 of index i / 4; element i of an f64 draw takes words 2 (i % 2) and the next
// of index i / 2.
WHENCE_PHILOX float uniform24(u32 w) { return static_cast<float>(w >> 8) * 0x1p-24f; }  // [0, 1)
WHENCE_PHILOX double uniform53(u32 hi, u32 lo) {
  return (static_cast<double>(hi >> 5) * 67108864.0 + static_cast<double>(lo >> 6)) * 0x1p-53;
}

}  // namespace whence::philox
