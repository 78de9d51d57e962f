// Random numbers for data work: the same on every platform, and a pure function of what they are for.
#pragma once
#include <cstdint>
#include <span>
#include <utility>

namespace whence {

/// Scrambles 64 bits (the finaliser of splitmix64): a bijection without visible structure.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// A stream named by a few integers, for example (seed, epoch, sample). Streams with different names share
/// nothing. Copies continue independently.
class RandomStream {
 public:
  template <class... Names> explicit constexpr RandomStream(Names... names) {
    ((key_ = mix64(key_ + kStep + mix64(uint64_t(names) + kStep))), ...);
  }
  /// 64 random bits.
  constexpr uint64_t bits() { return mix64(key_ += kStep); }
  /// Uniform in [0, 1), 53 bits.
  constexpr double uniform() { return double(bits() >> 11) * 0x1p-53; }
  /// Uniform in [lo, hi).
  constexpr double uniform(double lo, double hi) { return lo + (hi - lo) * uniform(); }
  constexpr bool chance(double probability) { return uniform() < probability; }
  /// Uniform in 0..n-1 without bias; n must be positive.
  constexpr int64_t below(int64_t n) {
    uint64_t range = uint64_t(n),
             floor = -range % range;  // 2^64 mod n: draws below it would favour small results
    for (;;) {
      unsigned __int128 product = static_cast<unsigned __int128>(bits()) * range;
      if (uint64_t(product) >= floor) return int64_t(uint64_t(product >> 64));
    }
  }
  template <class T> constexpr void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[size_t(below(int64_t(i)))]);
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;
  uint64_t key_ = 0;
};

}  // namespace whence
