// Factorisations: what they promise, and what a matrix without one gives.
#include <gtest/gtest.h>

#include <cmath>

#include "whence/ops/linalg.h"
#include "whence/whence.h"

using namespace whence;

namespace {

double largest(Var v) { return max(abs(v)).value().item(); }

TEST(Linalg, FactorsGiveTheMatrixBack) {
  Graph g(Graph::Mode::immediate);
  for (int64_t n : {1, 2, 7, 40}) {
    SCOPED_TRACE(n);
    Var x = g.constant(Tensor::randn({2, n, n}, uint64_t(n), f64)),
        a = matmul(x, transpose(x)) + g.constant(Tensor::eye(n, f64));
    const double allowed = 1e-14 * double(n + 4) * largest(a);
    Var L = cholesky(a);
    EXPECT_LT(largest(matmul(L, transpose(L)) - a), allowed);
    EXPECT_EQ(largest(triu(L, 1)), 0);
    auto [values, V] = eigh(a);
    EXPECT_LT(largest(matmul(V * unsqueeze(values, -2), transpose(V)) - a), allowed);
    EXPECT_LT(largest(matmul(transpose(V), V) - g.constant(Tensor::eye(n, f64))), 1e-14 * double(n + 4));
    EXPECT_EQ(largest(max(V, {-2}) - max(abs(V), {-2})), 0);  // signs
    EXPECT_EQ(sum(minimum(diff(values), 0.0)).value().item(), 0);
    EXPECT_LT(largest(matmul(x, solve(x, x)) - x), 1e-10);
    EXPECT_LT(largest(solve_triangular(L, L) - g.constant(Tensor::eye(n, f64))), 1e-12);
    EXPECT_LT(largest(solve_triangular(transpose(L), transpose(L), false) - g.constant(Tensor::eye(n, f64))), 1e-12);
    EXPECT_LT(largest(logdet(a) - sum(log(values), {-1})), 1e-11 * double(n));
    EXPECT_LT(largest(logdet(a) - sum(log(diagonal(L)), {-1}) * 2.0), 1e-11 * double(n));
  }
}

TEST(Linalg, EigenvaluesOfAnySize) {
  Graph g(Graph::Mode::immediate);
  for (double size : {1e-200, 1.0, 1e200}) {
    Var a = g.constant(Tensor::from<double>({2, 1, 1, 2}, {2, 2})) * size;
    std::vector<double> w = eigvalsh(a).value().to_vector<double>();
    EXPECT_NEAR(w[0] / size, 1, 1e-15);
    EXPECT_NEAR(w[1] / size, 3, 1e-15);
  }
  // Equal eigenvalues: the gradient of the values stands, that of a sum is the unit matrix.
  Var one = g.input("a", Tensor::eye(3, f64)), d = grad(sum(eigvalsh(one)), one);
  EXPECT_EQ(largest(d - g.constant(Tensor::eye(3, f64))), 0);
}

TEST(Linalg, AMatrixWithoutAResultGivesNaNInItsPlace) {
  Graph g(Graph::Mode::immediate);
  Var a = g.constant(Tensor::from<double>({1, 2, 2, 4, 4, 1, 1, 3}, {2, 2, 2}));  // the first has rank one
  auto nans = [](Var v) {
    int n = 0;
    for (double x : v.value().to_vector<double>()) n += std::isnan(x);
    return n;
  };
  EXPECT_EQ(nans(solve(a, a)), 4);
  EXPECT_EQ(nans(inverse(a)), 4);
  EXPECT_EQ(nans(cholesky(a)), 4);
  EXPECT_EQ(nans(cholesky(a, 1)), 0);
  auto [sign, log] = slogdet(concat({a, -a}, 0));
  EXPECT_EQ(sign.value().to_vector<double>(), (std::vector<double>{0, 1, 0, 1}));
  EXPECT_EQ(log.value().item(0), -INFINITY);
  EXPECT_NEAR(log.value().item(1), std::log(11), 1e-15);
  Var swapped = flip(a, {-1});
  EXPECT_EQ(nans(logdet(swapped)), 1);
  Var bad = g.constant(Tensor::from<double>({NAN, 1, 1, 2, 2, 1, 1, 2}, {2, 2, 2}));
  EXPECT_EQ(nans(eigvalsh(bad)), 2);
}

TEST(Linalg, SolveBroadcastsAndNamesWhatDoesNotFit) {
  Graph g(Graph::Mode::immediate);
  Var a = g.constant(Tensor::randn({3, 3}, 1, f64)), b = g.constant(Tensor::randn({4, 3, 2}, 2, f64));
  EXPECT_LT(largest(matmul(a, solve(a, b)) - b), 1e-12);
  Var da = grad(sum(solve(a, b)), a);
  EXPECT_EQ(da.shape(), a.shape());
  EXPECT_THROW(solve(a, select(b, 0, 0)[0]), ShapeError);
  EXPECT_THROW(solve(b, b), ShapeError);
  EXPECT_THROW(cholesky(b), ShapeError);
}

// A Gaussian's log-density explains its observations: what arrives leaves through x.
TEST(Linalg, RelevanceThroughSolve) {
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from<double>({1, 2, 3}, {3, 1}));
  Var a = g.constant(Tensor::from<double>({4, 1, 0, 1, 3, 1, 0, 1, 5}, {3, 3}));
  Var y = sum(square(solve_triangular(cholesky(a), x)));
  Var R = relevance(y, x, lrp::RuleSet());
  EXPECT_NEAR(sum(R).value().item(), y.value().item(), 1e-4 * y.value().item());
}

}  // namespace
