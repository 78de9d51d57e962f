// Random arrays. Element i is a pure function of (seed, offset, first + i): any split of an array draws the same
// numbers, on any number of threads, and on CUDA (normals up to the last place of log, sin and cos). T is float or
// double.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// Uniform on [0, 1): 24 bits for float, 53 for double.
template <class T> void random_uniform(T* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first = 0);
/// Standard normal by Box-Muller; float reaches 6.6 standard deviations, double 8.5.
template <class T> void random_normal(T* y, int64_t n, uint64_t seed, uint64_t offset, int64_t first = 0);
/// 1 with probability p: uniform (24 bits) < p.
void random_bernoulli(uint8_t* y, int64_t n, double p, uint64_t seed, uint64_t offset, int64_t first = 0);

}  // namespace whence::cpu
