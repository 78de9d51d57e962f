// How a parameter starts. Numbers depend on (seed, parameter name, element) alone: the same on every platform and in
// whatever order layers are made.
#pragma once
#include <cstdint>
#include <string_view>

#include "whence/tensor/tensor.h"

namespace whence::nn {

struct Init {
  enum class Kind { constant, uniform, normal, truncated_normal, values } kind = Kind::constant;
  double a = 0, b = 0;  ///< constant a; uniform [a, b); normal mean a, standard deviation b (cut at two of them)
  Tensor given = {};    ///< values

  static Init constant(double value) { return {Kind::constant, value, 0, {}}; }
  /// These numbers, which broadcast to the parameter.
  static Init values(Tensor numbers) { return {Kind::values, 0, 0, std::move(numbers)}; }
  static Init zeros() { return constant(0); }
  static Init ones() { return constant(1); }
  /// \throws ValueError, as all below, for bounds that are no interval, a negative deviation or fan, and what is not
  ///         finite
  static Init uniform(double low, double high);
  static Init normal(double stddev, double mean = 0);
  static Init truncated_normal(double stddev, double mean = 0);
  /// uniform(+-sqrt(6 / ((1 + slope^2) fan_in))), He et al. 2015; slope sqrt(5) is PyTorch's default for linear layers.
  static Init kaiming_uniform(int64_t fan_in, double slope = 0);
  static Init kaiming_normal(int64_t fan_in, double slope = 0);
  /// Glorot and Bengio 2010.
  static Init xavier_uniform(int64_t fan_in, int64_t fan_out);
  static Init xavier_normal(int64_t fan_in, int64_t fan_out);

  void fill(const Tensor& t, uint64_t seed, std::string_view name) const;
};

}  // namespace whence::nn
