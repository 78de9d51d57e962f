// cholesky, solve, slogdet and eigh: each matrix is copied to f64 scratch and factored there by one thread; matrices
// of a batch go over the threads. One without a result is filled with NaN.
#include <algorithm>
#include <cmath>
#include <limits>

#include "whence/autograd/op.h"
#include "whence/ops/floats.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

int64_t batch_of(const Shape& a) {
  int64_t n = 1;
  for (int i = 0; i < a.rank() - 2; ++i) n *= a[i];
  return n;
}

/// `per(n, m)` doubles of scratch for every matrix [n, n], m being the columns of the last operand.
template <auto per> size_t scratch(std::span<const TensorType> in, std::span<const TensorType>, const Attrs&) {
  const Shape& a = in[0].shape;
  return size_t(batch_of(a) * per(a[-1], in.back().shape[-1])) * sizeof(double);
}
int64_t square(int64_t n, int64_t) { return n * n; }
int64_t square_and_columns(int64_t n, int64_t m) { return n * (n + m); }
int64_t two_squares(int64_t n, int64_t) { return 2 * n * n; }

/// Calls f(matrix, its scratch) for every matrix of the batch.
template <class F> void each_matrix(const KernelCall& call, WorkspaceFn bytes, F&& f) {
  const Shape& a = call.in[0].shape;
  const int64_t batch = batch_of(a), n = a[-1];
  const TensorType types[] = {{a, f64}, {call.in.back().shape, f64}};
  if (batch == 0) return;
  const size_t room = bytes({types, call.in.size()}, {}, call.attrs) / sizeof(double) / size_t(batch);
  parallel_for(batch, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n * n * n)), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) f(k, reinterpret_cast<double*>(call.workspace) + size_t(k) * room);
  });
}

template <class T> void load(const View& v, int64_t k, int64_t count, double* to) {
  std::copy_n(v.as<T>() + k * count, count, to);
}
template <class T> void symmetric(const View& v, int64_t k, int64_t n, double* to) {
  const T* a = v.as<T>() + k * n * n;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) to[i * n + j] = (double(a[i * n + j]) + double(a[j * n + i])) / 2;
}
template <class T> void store(const View& v, int64_t k, int64_t count, const double* from) {
  std::transform(from, from + count, v.as<T>() + k * count, [](double x) { return T(x); });
}

// ---- cholesky ------------------------------------------------------------------------------------------------------

/// a becomes its lower factor. \returns false for a matrix that is not positive definite
bool factor(double* a, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double *row = a + i * n, *other = a + j * n, s = row[j];
      for (int64_t k = 0; k < j; ++k) s -= row[k] * other[k];
      if (j < i) row[j] = s / other[j];
      else if (s > 0 && std::isfinite(s)) row[i] = std::sqrt(s);
      else return false;
    }
  for (int64_t i = 0; i < n; ++i) std::fill(a + i * n + i + 1, a + (i + 1) * n, 0.0);
  return true;
}

template <class T> void run_cholesky(const KernelCall& call) {
  const int64_t n = call.in[0].shape[-1];
  const double jitter = call.attrs.real("jitter");
  each_matrix(call, scratch<square>, [&](int64_t k, double* a) {
    symmetric<T>(call.in[0], k, n, a);
    for (int64_t i = 0; i < n; ++i) a[i * n + i] += jitter;
    if (!factor(a, n)) std::fill_n(a, n * n, kNaN);
    store<T>(call.out[0], k, n * n, a);
  });
}

// ---- LU ------------------------------------------------------------------------------------------------------------

/// to -= f from
void subtract(double* to, double f, const double* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] -= f * from[i];
}

/// a becomes upper triangular, b [n, m] goes the same way. \returns the sign of the permutation, 0 at a zero pivot
int eliminate(double* a, int64_t n, double* b, int64_t m) {
  int sign = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(a[i * n + k]) > std::fabs(a[pivot * n + k])) pivot = i;
    if (a[pivot * n + k] == 0) return 0;
    if (pivot != k) {
      std::swap_ranges(a + k * n, a + (k + 1) * n, a + pivot * n);
      std::swap_ranges(b + k * m, b + (k + 1) * m, b + pivot * m);
      sign = -sign;
    }
    for (int64_t i = k + 1; i < n; ++i) {
      const double f = a[i * n + k] / a[k * n + k];
      if (f == 0) continue;
      subtract(a + i * n + k, f, a + k * n + k, n - k);
      subtract(b + i * m, f, b + k * m, m);
    }
  }
  return sign;
}

/// b becomes the x of T x = b, T being a's lower or upper triangle. \returns false at a zero on the diagonal
bool substitute(const double* a, int64_t n, double* b, int64_t m, bool lower) {
  for (int64_t step = 0; step < n; ++step) {
    const int64_t i = lower ? step : n - 1 - step;
    for (int64_t k = lower ? 0 : i + 1; k < (lower ? i : n); ++k) subtract(b + i * m, a[i * n + k], b + k * m, m);
    const double d = a[i * n + i];
    if (d == 0) return false;
    for (int64_t j = 0; j < m; ++j) b[i * m + j] /= d;
  }
  return true;
}

template <class T> void run_solve(const KernelCall& call) {
  const int64_t n = call.in[0].shape[-1], m = call.in[1].shape[-1], triangle = call.attrs.integer("triangle");
  each_matrix(call, scratch<square_and_columns>, [&](int64_t k, double* a) {
    double* b = a + n * n;
    load<T>(call.in[0], k, n * n, a);
    load<T>(call.in[1], k, n * m, b);
    const bool regular = triangle != 0 || eliminate(a, n, b, m) != 0;
    if (!regular || !substitute(a, n, b, m, triangle == 1)) std::fill_n(b, n * m, kNaN);
    store<T>(call.out[0], k, n * m, b);
  });
}

template <class T> void run_slogdet(const KernelCall& call) {
  const int64_t n = call.in[0].shape[-1];
  each_matrix(call, scratch<square>, [&](int64_t k, double* a) {
    load<T>(call.in[0], k, n * n, a);
    double sign = eliminate(a, n, nullptr, 0), log = sign == 0 ? -std::numeric_limits<double>::infinity() : 0;
    for (int64_t i = 0; i < n && sign != 0; ++i) {
      const double d = a[i * n + i];
      sign *= d < 0 ? -1 : d == d ? 1 : kNaN;
      log += std::log(std::fabs(d));
    }
    store<T>(call.out[0], k, 1, &log);
    store<T>(call.out[1], k, 1, &sign);
  });
}

// ---- eigh ----------------------------------------------------------------------------------------------------------

constexpr int kSweeps = 60;  // convergence is quadratic: a dozen do

/// The rows x and y become c x - s y and s x + c y.
void rotate(double* x, double* y, int64_t n, int64_t step, double c, double s) {
  for (int64_t i = 0; i < n * step; i += step) {
    const double u = x[i], v = y[i];
    x[i] = c * u - s * v;
    y[i] = s * u + c * v;
  }
}

/// Jacobi's method: a becomes diagonal, the rows of v are the eigenvectors (Golub and Van Loan, Matrix Computations,
/// 8.5). \returns false where it does not converge: NaN
bool diagonalise(double* a, double* v, int64_t n) {
  std::fill_n(v, n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) v[i * n + i] = 1;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    double off = 0, all = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) (i == j ? all : off) += a[i * n + j] * a[i * n + j];
    if (!std::isfinite(all + off)) return false;
    if (off <= 1e-36 * (all + off)) return true;
    for (int64_t p = 0; p < n; ++p)
      for (int64_t q = p + 1; q < n; ++q) {
        const double x = a[p * n + q];
        if (x == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * x);
        const double t = (theta < 0 ? -1 : 1) / (std::fabs(theta) + std::sqrt(theta * theta + 1)),
                     c = 1 / std::sqrt(t * t + 1), s = t * c;
        rotate(a + p * n, a + q * n, n, 1, c, s);
        rotate(a + p, a + q, n, n, c, s);
        a[p * n + q] = a[q * n + p] = 0;
        rotate(v + p * n, v + q * n, n, 1, c, s);
      }
  }
  return false;
}

template <class T> void run_eigh(const KernelCall& call) {
  const int64_t n = call.in[0].shape[-1];
  each_matrix(call, scratch<two_squares>, [&](int64_t k, double* a) {
    double* v = a + n * n;
    T *values = call.out[0].as<T>() + k * n, *vectors = call.out[1].as<T>() + k * n * n;
    symmetric<T>(call.in[0], k, n, a);
    double size = 0;  // squares of what is scaled neither overflow nor vanish
    for (int64_t i = 0; i < n * n; ++i) size = std::fabs(a[i]) <= size ? size : std::fabs(a[i]);
    if (size > 0)
      for (int64_t i = 0; i < n * n; ++i) a[i] /= size;
    if (!diagonalise(a, v, n)) {
      std::fill_n(values, n, T(kNaN));
      std::fill_n(vectors, n * n, T(kNaN));
      return;
    }
    for (int64_t r = 0; r < n; ++r) {  // the r-th smallest; of equals the first
      int64_t least = r;
      for (int64_t i = r + 1; i < n; ++i)
        if (a[i * n + i] < a[least * n + least]) least = i;
      double* row = v + r * n;
      const double value = a[least * n + least];
      a[least * n + least] = a[r * n + r];
      if (least != r) std::swap_ranges(row, row + n, v + least * n);
      values[r] = T(value * size);
      const double largest =
          *std::max_element(row, row + n, [](double x, double y) { return std::fabs(x) < std::fabs(y); });
      for (int64_t i = 0; i < n; ++i) vectors[i * n + r] = T(largest < 0 ? -row[i] : row[i]);
    }
  });
}

void cholesky_kernel(const KernelCall& call) { by_float(call, run_cholesky<float>, run_cholesky<double>); }
void solve_kernel(const KernelCall& call) { by_float(call, run_solve<float>, run_solve<double>); }
void slogdet_kernel(const KernelCall& call) { by_float(call, run_slogdet<float>, run_slogdet<double>); }
void eigh_kernel(const KernelCall& call) { by_float(call, run_eigh<float>, run_eigh<double>); }

}  // namespace

REGISTER_KERNEL(cpu, cholesky) = {cholesky_kernel, {.workspace = scratch<square>}};
REGISTER_KERNEL(cpu, solve) = {solve_kernel, {.workspace = scratch<square_and_columns>}};
REGISTER_KERNEL(cpu, slogdet) = {slogdet_kernel, {.workspace = scratch<square>}};
REGISTER_KERNEL(cpu, eigh) = {eigh_kernel, {.workspace = scratch<two_squares>}};

}  // namespace whence::cpu
