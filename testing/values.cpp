#include "whence/testing/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "whence/testing/op_suite.h"

namespace whence::suite {

static std::atomic<int64_t> compared{0};
int64_t comparisons() { return compared; }
void count_comparison(int64_t n) { compared += n; }

Rng::Rng(std::string_view text, uint64_t salt) : state_(0xcbf29ce484222325ull + salt * 0x9e3779b97f4a7c15ull) {
  for (char c : text) state_ = (state_ ^ uint8_t(c)) * 0x100000001b3ull;
}

uint64_t Rng::next() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

static Tensor from_doubles(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return Tensor::from(values, shape).to(dtype).contiguous_copy();
}

Tensor random_tensor(const Shape& shape, DType dtype, Rng& rng) {
  std::vector<double> v(size_t(shape.numel()));
  for (double& x : v) x = rng.uniform();
  return from_doubles(v, shape, dtype);
}

static void shuffle(std::vector<double>& v, Rng& rng) {
  for (size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[size_t(rng.below(int64_t(i)))]);
}

static Tensor draw(const SampleInput& s, DType dtype, Rng& rng) {
  size_t n = size_t(s.shape.numel());
  std::vector<double> v(n);
  if (!is_float(s.dtype)) {
    if (s.distinct) {
      std::vector<double> all;
      for (double x = std::ceil(s.low); x < s.high; ++x) all.push_back(x);
      shuffle(all, rng);
      if (all.size() < n) throw ValueError("a sample asks for more distinct integers than [low, high) holds");
      std::copy_n(all.begin(), n, v.begin());
    } else {
      for (double& x : v) x = std::floor(rng.uniform(s.low, s.high));
    }
    return from_doubles(v, s.shape, s.dtype);
  }
  if (s.distinct) {
    for (size_t i = 0; i < n; ++i) v[i] = s.low + (s.high - s.low) * (double(i) + rng.uniform(0.3, 0.7)) / double(n);
    shuffle(v, rng);
  } else {
    for (double& x : v) x = rng.uniform(s.low, s.high);
  }
  for (double& x : v)
    if (std::abs(x) < s.gap) {
      if (s.distinct) x += x < 0 ? -s.gap : s.gap;
      else {
        for (int i = 0; i < 200 && std::abs(x) < s.gap; ++i) x = rng.uniform(s.low, s.high);
        if (std::abs(x) < s.gap) throw ValueError("a sample's gap leaves nothing of [low, high)");
      }
    }
  return from_doubles(v, s.shape, s.dtype == f64 ? dtype : s.dtype);
}

std::vector<Tensor> draw(const OpDef& op, const Sample& sample, DType dtype) {
  std::vector<Tensor> in;
  for (size_t i = 0; i < sample.in.size(); ++i) {
    Rng rng(op.name + "/" + sample.name, i + 1);
    in.push_back(draw(sample.in[i], sample.in[i].statistic ? accumulate_dtype(dtype) : dtype, rng));
  }
  return in;
}

// ---- layouts ------------------------------------------------------------------------------------------------------

const char* name_of(Layout layout) {
  static const char* names[] = {"contiguous",
                                "transposed",
                                "offset",
                                "strided",
                                "broadcast along the first axis",
                                "broadcast along the last axis",
                                "mixed"};
  return names[int(layout)];
}

static Tensor poisoned(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  t.fill(is_float(dtype) ? std::numeric_limits<double>::quiet_NaN() : dtype == boolean || dtype == u8 ? 1 : 1e6);
  return t;
}

Tensor laid_out(const Tensor& x, Layout layout) {
  int rank = x.rank();
  Tensor t;
  switch (layout) {
    case Layout::contiguous:
    case Layout::mixed: return x.contiguous_copy();
    case Layout::transposed: {
      if (rank < 2) return laid_out(x, Layout::strided);
      Shape axes = x.shape(), shape = x.shape();
      for (int a = 0, from = rank - 1; a < rank && from >= 0; ++a, --from) {
        axes[a] = from;
        shape[a] = x.shape()[from];
      }
      t = poisoned(shape, x.dtype()).permuted(axes);
      break;
    }
    case Layout::offset:
    case Layout::strided: {
      Shape shape = x.shape();
      bool skip = layout == Layout::strided;
      for (int a = 0; a < rank; ++a) shape[a] += 3;
      if (rank && skip) shape[rank - 1] = 2 * x.shape()[rank - 1] + 3;
      if (!rank) {  // a scalar in the middle of a vector
        Tensor base = poisoned({3}, x.dtype());
        t = base.slice(0, 1, 2).reshaped({});
        break;
      }
      t = poisoned(shape, x.dtype());
      for (int a = 0; a < rank; ++a) {
        bool last = skip && a == rank - 1;
        int64_t n = x.shape()[a];
        t = t.slice(a, 1, last ? 1 + 2 * n : 1 + n, last ? 2 : 1);
      }
      break;
    }
    case Layout::broadcast_first:
    case Layout::broadcast_last: {
      int a = layout == Layout::broadcast_first ? 0 : rank - 1;
      if (rank == 0 || x.shape()[a] < 2 || x.numel() == 0) return x.contiguous_copy();
      return x.slice(a, 0, 1).contiguous_copy().broadcast_to(x.shape());
    }
  }
  t.copy_from(x);
  return t;
}

std::vector<Tensor> laid_out(std::span<const Tensor> in, const Sample& sample, Layout layout) {
  static constexpr Layout cycle[] = {Layout::transposed, Layout::contiguous, Layout::broadcast_first, Layout::strided};
  std::vector<Tensor> out;
  for (size_t i = 0; i < in.size(); ++i) {
    Layout l = layout == Layout::mixed ? cycle[i % 4] : layout;
    bool distinct = i < sample.in.size() && sample.in[i].distinct;
    if (distinct && (l == Layout::broadcast_first || l == Layout::broadcast_last)) l = Layout::contiguous;
    out.push_back(laid_out(in[i], l));
  }
  return out;
}

std::vector<Tensor> copies(std::span<const Tensor> in) {
  std::vector<Tensor> out;
  for (const Tensor& t : in) out.push_back(t.contiguous_copy());
  return out;
}

// ---- numbers ------------------------------------------------------------------------------------------------------

double sum(const Tensor& x) {
  double s = 0;
  for (double v : x.to_vector<double>()) s += v;
  return s;
}
double sum_abs(const Tensor& x) {
  double s = 0;
  for (double v : x.to_vector<double>()) s += std::abs(v);
  return s;
}
double max_abs(const Tensor& x) {
  double m = 0;
  for (double v : x.to_vector<double>())
    if (!(std::abs(v) <= m)) m = std::abs(v);
  return m;
}
double dot(const Tensor& a, const Tensor& b) {
  std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double s = 0;
  for (size_t i = 0; i < x.size(); ++i) s += x[i] * y[i];
  return s;
}

std::string differ(const Tensor& got, const Tensor& want, double relative, double scale) {
  if (!got.defined() || !want.defined())
    return got.defined() == want.defined() ? "" : got.defined() ? "a value where none is expected" : "no value";
  if (!(got.shape() == want.shape()))
    return fmt::format("shape {} instead of {}", got.shape().str(), want.shape().str());
  std::vector<double> a = got.to_vector<double>(), b = want.to_vector<double>();
  count_comparison(int64_t(a.size()));
  if (scale < 0) {
    scale = 0;
    for (double v : b)
      if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  }
  double worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    double d = std::abs(a[i] - b[i]);
    if (!std::isfinite(d)) d = std::numeric_limits<double>::infinity();
    if (d > worst) {
      worst = d;
      at = i;
    }
  }
  if (worst <= relative * scale) return "";
  return fmt::format("element {} of {}: {:.17g} instead of {:.17g}, {:.3g} of the scale {:.3g}, allowed {:.1g}", at,
                     got.shape().str(), a[at], b[at], worst / (scale > 0 ? scale : 1), scale, relative);
}

}  // namespace whence::suite
