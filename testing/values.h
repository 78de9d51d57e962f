// Values, layouts and comparisons for the op suite. Private to testing/.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "whence/autograd/op.h"

namespace whence::suite {

/// Splitmix64: small, seedable, the same everywhere.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  Rng(std::string_view text, uint64_t salt);
  uint64_t next();
  double uniform(double low = -1, double high = 1) { return low + (high - low) * (double(next() >> 11) * 0x1p-53); }
  int64_t below(int64_t n) { return int64_t(next() % uint64_t(n)); }

 private:
  uint64_t state_;
};

/// Uniform in [-1, 1), contiguous.
Tensor random_tensor(const Shape& shape, DType dtype, Rng& rng);

enum class Layout { contiguous, transposed, offset, strided, broadcast_first, broadcast_last, mixed };
inline constexpr Layout kStridedLayouts[] = {Layout::transposed,      Layout::offset,         Layout::strided,
                                             Layout::broadcast_first, Layout::broadcast_last, Layout::mixed};
const char* name_of(Layout layout);
/// The tensor's values in another layout; the memory in between holds NaN (or an index far out of range). The broadcast
/// layouts repeat the first row along an axis, so their values differ from x's; tensors that cannot be shown that way
/// come back contiguous.
Tensor laid_out(const Tensor& x, Layout layout);
/// Every input in that layout. Inputs with distinct values are not broadcast.
std::vector<Tensor> laid_out(std::span<const Tensor> in, const Sample& sample, Layout layout);
/// Contiguous copies that own their memory.
std::vector<Tensor> copies(std::span<const Tensor> in);

double sum(const Tensor& x);
double sum_abs(const Tensor& x);
double max_abs(const Tensor& x);
double dot(const Tensor& a, const Tensor& b);

/// Empty when every |got - want| <= relative * scale; else a text with the worst element. A negative scale means
/// max|want|.
std::string differ(const Tensor& got, const Tensor& want, double relative, double scale = -1);

void count_comparison(int64_t n = 1);

}  // namespace whence::suite
