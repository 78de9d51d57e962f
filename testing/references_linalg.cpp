// Relevance of the factorisations in ops/linalg.h, from the derivatives of each entry in plain loops.
#include <cmath>
#include <utility>

#include "whence/testing/references.h"

namespace whence::suite {
namespace {

using Doubles = std::vector<double>;

// The k-th matrix [n, m] of a tensor.
Doubles matrix(const Tensor& t, int64_t k, int64_t count) {
  Doubles all = t.to_vector<double>();
  return {all.begin() + k * count, all.begin() + (k + 1) * count};
}
int64_t batch_of(const Tensor& a) {
  int64_t n = 1;
  for (int i = 0; i < a.rank() - 2; ++i) n *= a.shape()[i];
  return n;
}

// Gauss and Jordan's.
Doubles inverse(Doubles a, size_t n) {
  Doubles b(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) b[i * n + i] = 1;
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < n; ++i)
      if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k])) pivot = i;
    for (size_t j = 0; j < n; ++j) std::swap(a[k * n + j], a[pivot * n + j]), std::swap(b[k * n + j], b[pivot * n + j]);
    const double d = a[k * n + k];
    for (size_t j = 0; j < n; ++j) a[k * n + j] /= d, b[k * n + j] /= d;
    for (size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double f = a[i * n + k];
      for (size_t j = 0; j < n; ++j) a[i * n + j] -= f * a[k * n + j], b[i * n + j] -= f * b[k * n + j];
    }
  }
  return b;
}

// R_a = 2 a dL/da R / stab(L). Of a change dA of the symmetric matrix, dL = L Phi(L^-1 dA L^-T).
std::vector<Tensor> cholesky(const RelevanceCase& c) {
  std::vector<Tensor> in{Tensor::zeros(c.in[0].shape(), f64)};
  const size_t n = size_t(c.in[0].shape()[-1]);
  Doubles z = stabilised(c.rule, c.out[0]), R = c.R[0].to_vector<double>();
  for (int64_t k = 0; k < batch_of(c.in[0]); ++k) {
    const size_t at = size_t(k) * n * n;
    Doubles a = matrix(c.in[0], k, int64_t(n * n)), L = matrix(c.out[0], k, int64_t(n * n)), V = inverse(L, n);
    for (size_t p = 0; p < n; ++p)
      for (size_t q = 0; q < n; ++q) {
        double total = 0;
        for (size_t i = 0; i < n; ++i)
          for (size_t j = 0; j <= i; ++j) {
            double change = 0;  // of L_ij, when a_pq grows and with it half of (p, q) and (q, p)
            for (size_t r = j; r <= i; ++r)
              change +=
                  L[i * n + r] * (r == j ? 0.5 : 1.0) * (V[r * n + p] * V[j * n + q] + V[r * n + q] * V[j * n + p]) / 2;
            total += change * R[at + i * n + j] / z[at + i * n + j];
          }
        in[0].data<double>()[at + p * n + q] = 2 * a[p * n + q] * total;
      }
  }
  return in;
}

// dx = a^-1 (db - da x): all to b, to a when it carries alone.
std::vector<Tensor> solve(const RelevanceCase& c) {
  std::vector<Tensor> in(2);
  for (size_t i : {0, 1})
    if (c.carries[i]) in[i] = Tensor::zeros(c.in[i].shape(), f64);
  const size_t n = size_t(c.in[1].shape()[-2]), m = size_t(c.in[1].shape()[-1]);
  const int64_t triangle = c.attrs.integer("triangle");
  auto read = [&](size_t i, size_t j) { return triangle == 1 ? j <= i : triangle == 2 ? i <= j : true; };
  Doubles z = stabilised(c.rule, c.out[0]), R = c.R[0].to_vector<double>(), x = c.out[0].to_vector<double>();
  for (int64_t k = 0; k < batch_of(c.in[0]); ++k) {
    const size_t to_a = size_t(k) * n * n, to_b = size_t(k) * n * m;
    Doubles a = matrix(c.in[0], k, int64_t(n * n)), b = matrix(c.in[1], k, int64_t(n * m));
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        if (!read(i, j)) a[i * n + j] = 0;
    Doubles V = inverse(a, n);
    for (size_t col = 0; col < m; ++col)
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) {
          const size_t o = to_b + i * m + col;
          const double t = V[i * n + j] * R[o] / z[o];  // of a change of b_j
          if (c.carries[1]) in[1].data<double>()[to_b + j * m + col] += b[j * m + col] * t;
          for (size_t q = 0; q < n && c.carries[0] && !c.carries[1]; ++q)
            in[0].data<double>()[to_a + j * n + q] += a[j * n + q] * x[to_b + q * m + col] * t;
        }
  }
  return in;
}

// R_ij = R a_ij (a^-1)_ji / n
std::vector<Tensor> slogdet(const RelevanceCase& c) {
  std::vector<Tensor> in{Tensor::zeros(c.in[0].shape(), f64)};
  const size_t n = size_t(c.in[0].shape()[-1]);
  Doubles R = c.R[0].to_vector<double>();
  for (int64_t k = 0; k < batch_of(c.in[0]); ++k) {
    Doubles a = matrix(c.in[0], k, int64_t(n * n)), V = inverse(a, n);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        in[0].data<double>()[(size_t(k) * n + i) * n + j] = R[size_t(k)] * a[i * n + j] * V[j * n + i] / double(n);
  }
  return in;
}

// R_ij = a_ij sum over eigenvalues of v_i v_j R / stab(w); vectors pass nothing.
std::vector<Tensor> eigh(const RelevanceCase& c) {
  std::vector<Tensor> in{Tensor::zeros(c.in[0].shape(), f64)};
  const size_t n = size_t(c.in[0].shape()[-1]);
  Doubles z = stabilised(c.rule, c.out[0]), R = c.R[0].to_vector<double>(), V = c.out[1].to_vector<double>(),
          a = c.in[0].to_vector<double>();
  for (size_t k = 0; k < size_t(batch_of(c.in[0])); ++k)
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        for (size_t e = 0; e < n; ++e)
          in[0].data<double>()[(k * n + i) * n + j] +=
              a[(k * n + i) * n + j] * V[(k * n + i) * n + e] * V[(k * n + j) * n + e] * R[k * n + e] / z[k * n + e];
  return in;
}

}  // namespace

std::map<std::string, RelevanceReference, std::less<>> linalg_references() {
  return {{"cholesky", cholesky}, {"solve", solve}, {"slogdet", slogdet}, {"eigh", eigh}};
}

}  // namespace whence::suite
