// Ops for planner tests, registered from outside the library as a user would: a small matrix product, a row sum, a
// permuting view and a draw of random numbers. And random graphs made of them.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "whence/autograd/plan.h"
#include "whence/ops/ops.h"

namespace planner_test {

using namespace whence;

Var mm(Var a, Var b);                         ///< [m, k] . [k, n], row-major operands only
Var row_sum(Var x);                           ///< [m, n] -> [m, 1], any strides
Var swap_axes(Var x);                         ///< [m, n] -> [n, m], a view
Var rows(Var x, int64_t begin, int64_t end);  ///< x[begin:end], a view
Var spread(Var x, const Shape& to);           ///< broadcast_to as a view
Var flatten(Var x);                           ///< [m, n] -> [m n], a view where the layout allows
Var noise(Graph& g, const Shape& shape, int64_t key);
Var twice(Var x);  ///< fused op that has a body only: x + x * 1

Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype = f32);

/// A graph of `nodes` random ops over a few [n, n] inputs and parameters, and some of its values as outputs.
struct RandomGraph {
  Graph g;
  std::vector<Var> outputs;
  std::vector<std::pair<std::string, Tensor>> fed;
  std::vector<Tensor> parameters;
  /// device: where parameters lie; wide: another float dtype that some values pass through
  RandomGraph(uint64_t seed, int nodes, int64_t n, Device device = {}, DType wide = f64);
  Feeds feeds() const { return {fed.begin(), fed.end()}; }
};

/// Planned results equal the plain executor's, bit for bit.
void expect_same_bits(const Results& got, const Results& want);

}  // namespace planner_test
