#include "whence/nn/init.h"

#include <fmt/format.h>

#include <cmath>

#include "whence/nn/data/random_stream.h"
#include "whence/nn/hash.h"

namespace whence::nn {

namespace {

// sqrt(gain / fan); 0 where nothing comes in: such a weight has no elements.
double spread(double gain, int64_t fan) {
  if (fan < 0) throw ValueError(fmt::format("a fan of {} to initialise by", fan));
  return fan > 0 ? std::sqrt(gain / double(fan)) : 0;
}

double deviation(double stddev, double mean) {
  if (!(stddev >= 0 && std::isfinite(stddev) && std::isfinite(mean)))
    throw ValueError(fmt::format("a parameter cannot start normal with mean {} and deviation {}", mean, stddev));
  return stddev;
}

}  // namespace

Init Init::uniform(double low, double high) {
  if (!(low <= high && std::isfinite(high - low)))
    throw ValueError(fmt::format("a parameter cannot start uniform in [{}, {})", low, high));
  return {Kind::uniform, low, high, {}};
}
Init Init::normal(double stddev, double mean) { return {Kind::normal, mean, deviation(stddev, mean), {}}; }
Init Init::truncated_normal(double stddev, double mean) {
  return {Kind::truncated_normal, mean, deviation(stddev, mean), {}};
}
Init Init::kaiming_uniform(int64_t fan_in, double slope) {
  double bound = spread(6.0 / (1 + slope * slope), fan_in);
  return uniform(-bound, bound);
}
Init Init::kaiming_normal(int64_t fan_in, double slope) { return normal(spread(2.0 / (1 + slope * slope), fan_in)); }
Init Init::xavier_uniform(int64_t fan_in, int64_t fan_out) {
  double bound = spread(6.0, fan_in + fan_out);
  return uniform(-bound, bound);
}
Init Init::xavier_normal(int64_t fan_in, int64_t fan_out) { return normal(spread(2.0, fan_in + fan_out)); }

static double standard_normal(RandomStream& random) {  // Box-Muller
  double u = 1 - random.uniform(), v = random.uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586477 * v);
}

void Init::fill(const Tensor& t, uint64_t seed, std::string_view name) const {
  if (kind == Kind::constant) return t.fill(a);
  if (kind == Kind::values) return t.copy_from(given.broadcast_to(t.shape()));
  RandomStream random(seed, fnv1a(name));
  Tensor values = Tensor::empty(t.shape(), f64);
  double* p = values.data<double>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    if (kind == Kind::uniform) {
      p[i] = a + (b - a) * random.uniform();
      continue;
    }
    double z = standard_normal(random);
    while (kind == Kind::truncated_normal && std::fabs(z) > 2) z = standard_normal(random);
    p[i] = a + b * z;
  }
  t.copy_from(values);
}

}  // namespace whence::nn
