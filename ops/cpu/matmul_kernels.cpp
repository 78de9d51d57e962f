// matmul and linear.
#include <algorithm>

#include "whence/ops/cpu/gemm.h"
#include "whence/ops/cpu/micro.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

// How gemm reads the last two axes: unit stride along one of them.
struct Matrix {
  bool usable = true, transposed = false;
  int64_t ld = 1;
  explicit Matrix(const View& m) {
    int64_t rows = m.shape[-2], cols = m.shape[-1], rs = m.strides[-2], cs = m.strides[-1];
    if ((cs == 1 || cols <= 1) && (rs >= cols || rows <= 1)) {
      ld = std::max<int64_t>({1, cols, rows > 1 ? rs : 0});
    } else if ((rs == 1 || rows <= 1) && (cs >= rows || cols <= 1)) {
      transposed = true;
      ld = std::max<int64_t>({1, rows, cols > 1 ? cs : 0});
    } else {
      usable = false;
    }
  }
};

Shape batch_of(const Shape& s) {
  Shape r;
  for (int i = 0; i < s.rank() - 2; ++i) r.push_back(s[i]);
  return r;
}

// Strides of an operand whose leading axes broadcast to `batch`.
Shape spread(const View& v, Shape batch) {
  batch.push_back(v.shape[-2]);
  batch.push_back(v.shape[-1]);
  return broadcast_strides(v.shape, v.strides, batch);
}

// The offsets of each product's two operands.
size_t offsets(std::span<const TensorType>, std::span<const TensorType> out, const Attrs&) {
  return size_t(2 * batch_of(out[0].shape).numel()) * sizeof(int64_t);
}

template <class T> void run_matmul(const KernelCall& call) {
  const View &a = call.in[0], &b = call.in[1], &out = call.out[0];
  int64_t m = out.shape[-2], n = out.shape[-1], k = a.shape[-1];
  if (out.numel() == 0) return;
  T* c = out.as<T>();
  if (k == 0) return void(std::fill_n(c, out.numel(), T(0)));
  const Shape batch = batch_of(out.shape);
  const Matrix left(a), right(b);
  const Shape at_a = spread(a, batch), at_b = spread(b, batch);
  // One matrix on the right of contiguous rows: fold the batch into the rows.
  bool shared_b = true;
  for (int i = 0; i < batch.rank(); ++i) shared_b = shared_b && (batch[i] == 1 || at_b[i] == 0);
  Shape full = out.shape;
  full[-1] = k;
  bool whole_a = !left.transposed && at_a == contiguous_strides(full);
  if (shared_b && whole_a && batch.numel() > 1)
    return gemm<T>(false, right.transposed, batch.numel() * m, n, k, T(1), a.as<T>(), k, b.as<T>(), right.ld, T(0), c,
                   n);
  int64_t *from_a = reinterpret_cast<int64_t*>(call.workspace), *from_b = from_a + batch.numel();
  for (int64_t i = 0; i < batch.numel(); ++i) {
    int64_t rest = i, oa = 0, ob = 0;
    for (int x = batch.rank() - 1; x >= 0; --x) {
      oa += rest % batch[x] * at_a[x];
      ob += rest % batch[x] * at_b[x];
      rest /= batch[x];
    }
    from_a[i] = oa;
    from_b[i] = ob;
  }
  gemm_batched<T>(batch.numel(), left.transposed, right.transposed, m, n, k, T(1), a.as<T>(), left.ld,
                  {.offsets = from_a}, b.as<T>(), right.ld, {.offsets = from_b}, T(0), c, n, {.stride = m * n});
}

template <class T> void run_linear(const KernelCall& call) {
  const View &x = call.in[0], &w = call.in[1], &y = call.out[0];
  int64_t in = w.shape[1], out = w.shape[0], rows = out ? y.numel() / out : 0;
  if (y.numel() == 0) return;
  linear<T>(rows, out, in, x.as<T>(), w.as<T>(), call.in.size() == 3 ? call.in[2].as<T>() : nullptr, y.as<T>());
}

// ---- t + product: each finished block of the product is added to t, in place where y is t --------------------------

template <class T> struct Sum {
  const T *t, *product;
  T* y;
  int64_t n;
  static void add(void* context, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    const Sum& s = *static_cast<const Sum*>(context);
    for (int64_t i = i0 * s.n; i < i1 * s.n; i += s.n)
      for (int64_t j = i + j0; j < i + j1; ++j) s.y[j] = s.t[j] + s.product[j];
  }
};

// gemm itself adds onto t when it sums k in one go: partial sums added to t one by one would change the bits. (With a
// bias its store is slower than the epilogue.) Otherwise the product has room of its own.
bool in_one_go(int64_t k, bool bias) { return k <= Tile<float>::KC && !bias; }
size_t product_room(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs&) {
  return in_one_go(in[1].shape[-1], in.size() == 4) ? 0 : size_t(out[0].shape.numel()) * size_of(out[0].dtype);
}

template <class T>
void add_product(const KernelCall& call, bool ta, int64_t lda, bool tb, int64_t ldb, int64_t k, const T* bias) {
  const View& y = call.out[0];
  if (y.numel() == 0) return;
  const int64_t n = y.shape[-1], m = y.numel() / n;
  const T *t = call.in[0].as<T>(), *a = call.in[1].as<T>(), *b = call.in[2].as<T>();
  T *to = y.as<T>(), *product = t == to ? reinterpret_cast<T*>(call.workspace) : to;
  if (t == to && in_one_go(k, bias)) return gemm<T>(ta, tb, m, n, k, T(1), a, lda, b, ldb, T(1), to, n);
  Sum<T> sum{t, product, to, n};
  gemm_epilogue<T>(ta, tb, m, n, k, T(1), a, lda, b, ldb, T(0), product, n, bias, sum.add, &sum);
}

template <class T> void run_matmul_add(const KernelCall& call) {
  const View& a = call.in[1];
  const bool flat = a.shape.rank() > 2;  // several matrices, one behind the other
  const int64_t k = a.shape[-1];
  const Matrix left(a), right(call.in[2]);
  add_product<T>(call, !flat && left.transposed, flat ? k : left.ld, right.transposed, right.ld, k, nullptr);
}
template <class T> void run_linear_add(const KernelCall& call) {
  const int64_t k = call.in[2].shape[1];
  add_product<T>(call, false, k, true, k, k, call.in.size() == 4 ? call.in[3].as<T>() : nullptr);
}

void matmul_kernel(const KernelCall& call) { by_float(call, run_matmul<float>, run_matmul<double>); }
void linear_kernel(const KernelCall& call) { by_float(call, run_linear<float>, run_linear<double>); }
void matmul_add_kernel(const KernelCall& call) { by_float(call, run_matmul_add<float>, run_matmul_add<double>); }
void linear_add_kernel(const KernelCall& call) { by_float(call, run_linear_add<float>, run_linear_add<double>); }

REGISTER_KERNEL(cpu, matmul) = {
    matmul_kernel,
    {.strided = true, .layouts = [](int, const View& v) { return Matrix(v).usable; }, .workspace = offsets},
};
REGISTER_KERNEL(cpu, linear) = linear_kernel;
REGISTER_KERNEL(cpu, matmul_add) = {
    matmul_add_kernel,
    {.strided = true,
     .layouts = [](int i, const View& v) { return i > 0 && v.shape.rank() == 2 && Matrix(v).usable; },
     .in_place = 0,
     .workspace = product_room},
};
REGISTER_KERNEL(cpu, linear_add) = {linear_add_kernel, {.in_place = 0, .workspace = product_room}};

}  // namespace
}  // namespace whence::cpu
