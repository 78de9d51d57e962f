// matmul and linear.
#include <algorithm>

#include "ops/cpu/gemm.h"
#include "ops/floats.h"

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

void matmul_kernel(const KernelCall& call) { by_float(call, run_matmul<float>, run_matmul<double>); }
void linear_kernel(const KernelCall& call) { by_float(call, run_linear<float>, run_linear<double>); }

REGISTER_KERNEL(cpu, matmul) = {
    matmul_kernel,
    {.strided = true, .layouts = [](int, const View& v) { return Matrix(v).usable; }, .workspace = offsets},
};
REGISTER_KERNEL(cpu, linear) = linear_kernel;

}  // namespace
}  // namespace whence::cpu
