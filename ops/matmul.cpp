// C[.., m, n] = A[.., m, k] . B[.., k, n], and y = x W^T + b.
#include "autograd/sweep.h"
#include "ops/cpu/gemm.h"
#include "ops/floats.h"
#include "ops/ops.h"

namespace whence {
namespace {

Shape leading(const Shape& s, int keep) {
  Shape r;
  for (int i = 0; i < s.rank() - keep; ++i) r.push_back(s[i]);
  return r;
}

void infer_matmul(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  for (int i : {0, 1})
    if (c.rank(i) < 2)
      c.shape_error(c.op.operand_name(i) + " must have rank 2 or more, got " + c.shape(i).str(), "unsqueeze it");
  if (c.shape(0)[-1] != c.shape(1)[-2]) {
    bool fits = c.shape(0)[-1] == c.shape(1)[-1];
    c.shape_error(
        "inner dimensions differ: " + std::to_string(c.shape(0)[-1]) + " vs " + std::to_string(c.shape(1)[-2]),
        fits ? "transpose(b) would fit" : "");
  }
  Shape s;
  try {
    s = broadcast_shapes(leading(c.shape(0), 2), leading(c.shape(1), 2));
  } catch (const ShapeError& e) {
    c.shape_error(std::string("leading axes: ") + e.what());
  }
  s.push_back(c.shape(0)[-2]);
  s.push_back(c.shape(1)[-1]);
  c.out(s, c.dtype(0));
}

// A matrix as gemm wants it: unit stride along one axis. Anything else is copied first.
struct Operand {
  View view;  // batch axes broadcast to the result's, then two matrix axes
  std::shared_ptr<Buffer> copied;
  bool transposed = false;
  int64_t ld = 0;
};

Operand prepare(const View& v, const Shape& batch) {
  Operand o{v, nullptr};
  auto usable = [](const View& m, bool& transposed, int64_t& ld) {
    int64_t rows = m.shape[-2], cols = m.shape[-1], rs = m.strides[-2], cs = m.strides[-1];
    if ((cs == 1 || cols <= 1) && (rs >= cols || rows <= 1)) {
      transposed = false;
      ld = std::max<int64_t>({1, cols, rows > 1 ? rs : 0});
      return true;
    }
    if ((rs == 1 || rows <= 1) && (cs >= rows || cols <= 1)) {
      transposed = true;
      ld = std::max<int64_t>({1, rows, cols > 1 ? cs : 0});
      return true;
    }
    return false;
  };
  if (!usable(o.view, o.transposed, o.ld)) {
    o.copied = Buffer::allocate(size_t(v.numel()) * size_of(v.dtype));
    View flat{o.copied->data(), v.dtype, v.shape, contiguous_strides(v.shape)};
    copy(v, flat);
    o.view = flat;
    usable(o.view, o.transposed, o.ld);
  }
  Shape full = batch;
  full.push_back(v.shape[-2]);
  full.push_back(v.shape[-1]);
  o.view.strides = broadcast_strides(o.view.shape, o.view.strides, full);
  o.view.shape = full;
  return o;
}

template <class T> void run_matmul(const KernelCall& k) {
  const View& out = k.out[0];
  int64_t m = out.shape[-2], n = out.shape[-1], kk = k.in[0].shape[-1];
  if (out.numel() == 0) return;
  T* c = out.as<T>();
  if (kk == 0) return void(std::fill_n(c, out.numel(), T(0)));
  Shape batch = leading(out.shape, 2);
  Operand a = prepare(k.in[0], batch), b = prepare(k.in[1], batch);
  // One matrix on the right of contiguous rows: fold the batch into the rows.
  bool shared_b = true;
  for (int i = 0; i < batch.rank(); ++i) shared_b = shared_b && (batch[i] == 1 || b.view.strides[i] == 0);
  Shape flat_a = contiguous_strides(a.view.shape);
  if (shared_b && !a.transposed && a.view.strides == flat_a && batch.numel() > 1)
    return cpu::gemm<T>(false, b.transposed, batch.numel() * m, n, kk, T(1), a.view.as<T>(), kk, b.view.as<T>(), b.ld,
                        T(0), c, n);
  std::vector<int64_t> at_a, at_b;
  for (int64_t i = 0; i < batch.numel(); ++i) {
    int64_t rest = i, oa = 0, ob = 0;
    for (int x = batch.rank() - 1; x >= 0; --x) {
      oa += rest % batch[x] * a.view.strides[x];
      ob += rest % batch[x] * b.view.strides[x];
      rest /= batch[x];
    }
    at_a.push_back(oa);
    at_b.push_back(ob);
  }
  cpu::gemm_batched<T>(batch.numel(), a.transposed, b.transposed, m, n, kk, T(1), a.view.as<T>(), a.ld,
                       {.offsets = at_a.data()}, b.view.as<T>(), b.ld, {.offsets = at_b.data()}, T(0), c, n,
                       {.stride = m * n});
}

void matmul_kernel(const KernelCall& k) { by_float(k, run_matmul<float>, run_matmul<double>); }

// [.., rows, cols] -> [rows of everything, cols], keeping `lead` leading axes.
Var flat_rows(Var v, int lead) {
  Shape s;
  for (int i = 0; i < lead; ++i) s.push_back(v.shape()[i]);
  int64_t rows = 1;
  for (int i = lead; i < v.rank() - 1; ++i) rows *= v.shape()[i];
  s.push_back(rows);
  s.push_back(v.shape()[-1]);
  return reshape(v, s);
}

void matmul_vjp(SweepCtx& c) {
  Var a = c.in(0), b = c.in(1), d = c.d();
  if (c.needs(0)) c.give(0, c.reduce_to(matmul(d, transpose(b)), 0));
  if (!c.needs(1)) return;
  if (b.rank() == 2 && a.rank() > 2) c.give(1, matmul(transpose(flat_rows(a, 0)), flat_rows(d, c.lead())));
  else c.give(1, c.reduce_to(matmul(transpose(a), d), 1));
}

std::vector<Sample> matmul_samples() {
  auto two = [](Shape a, Shape b, const char* name) { return Sample{{{.shape = a}, {.shape = b}}, {}, name}; };
  return {two({3, 4}, {4, 5}, "matrix"),
          two({2, 3, 4}, {4, 5}, "shared right"),
          two({2, 1, 3, 4}, {3, 4, 2}, "broadcast"),
          two({2, 2}, {2, 2}, "tiny"),
          two({1, 7}, {7, 1}, "dot"),
          two({0, 3}, {3, 2}, "empty rows"),
          two({2, 0}, {0, 3}, "empty inner")};
}

// ---- linear

void infer_linear(InferCtx& c) {
  c.need_float(0);
  c.need_same_dtype(0, 1);
  c.need_rank(1, 2);
  if (c.rank(0) < 1 || c.shape(0)[-1] != c.shape(1)[1])
    c.shape_error(
        "features differ: x has " + (c.rank(0) ? std::to_string(c.shape(0)[-1]) : "no axis") +
            ", weight [out, in] takes " + std::to_string(c.shape(1)[1]),
        c.rank(0) && c.shape(0)[-1] == c.shape(1)[0] ? "the weight looks transposed: it must be [out, in]" : "");
  if (c.n() == 3) {
    c.need_same_dtype(0, 2);
    c.need_shape(2, {c.shape(1)[0]});
  }
  Shape s = c.shape(0);
  s[-1] = c.shape(1)[0];
  c.out(s, c.dtype(0));
}

template <class T> void run_linear(const KernelCall& k) {
  const View &x = k.in[0], &w = k.in[1], &y = k.out[0];
  int64_t in = w.shape[1], out = w.shape[0], rows = out ? y.numel() / out : 0;
  if (y.numel() == 0) return;
  cpu::linear<T>(rows, out, in, x.as<T>(), w.as<T>(), k.in.size() == 3 ? k.in[2].as<T>() : nullptr, y.as<T>());
}

void linear_vjp(SweepCtx& c) {
  Var x = c.in(0), w = c.in(1), d = c.d();
  if (c.needs(0)) c.give(0, d.rank() > 1 ? matmul(d, w) : reshape(matmul(flat_rows(d, 0), w), x.shape()));
  if (c.needs(1)) c.give(1, matmul(transpose(flat_rows(d, c.lead())), flat_rows(x, 0)));
  if (c.n_in() == 3 && c.needs(2)) c.give(2, sum(flat_rows(d, c.lead()), {c.lead()}));
}

std::vector<Sample> linear_samples() {
  SampleInput w{.shape = {4, 5}, .parameter = true}, b{.shape = {4}, .parameter = true};
  return {{{{.shape = {3, 5}}, w, b}, {}, "bias"},
          {{{.shape = {2, 3, 5}}, w}, {}, "batch"},
          {{{.shape = {5}}, w, b}, {}, "vector"},
          {{{.shape = {2, 2}}, {.shape = {2, 2}}}, {}, "both data"},
          {{{.shape = {0, 5}}, w, b}, {}, "empty"}};
}

}  // namespace

REGISTER_OP(matmul) = {
    .doc = "C[.., m, n] = A[.., m, k] . B[.., k, n], leading axes broadcast",
    .operands = {"a", "b"},
    .infer = infer_matmul,
    .cpu = {matmul_kernel, {.strided = true}},
    .vjp = matmul_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = matmul_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{32, 768}, f32}, {{512, 64}, f32}}, {}, "inner dimensions differ: 768 vs 512"},
              {{{{3, 4}, f32}, {{5, 4}, f32}}, {}, "transpose(b) would fit"},
              {{{{4}, f32}, {{4, 5}, f32}}, {}, "must have rank 2 or more"},
              {{{{2, 3, 4}, f32}, {{3, 4, 5}, f32}}, {}, "leading axes"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

REGISTER_OP(linear) = {
    .doc = "y = x W^T + b: x [.., in], W [out, in], b [out] or absent",
    .operands = {"x", "weight", "bias"},
    .infer = infer_linear,
    .cpu = [](const KernelCall& k) { by_float(k, run_linear<float>, run_linear<double>); },
    .vjp = linear_vjp,
    .relevance = lrp::linear_rule,
    .absorbed = lrp::linear_absorbed,
    .samples = linear_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{3, 4}, f32}, {{4, 5}, f32}}, {}, "looks transposed"},
                                          {{{{3, 5}, f32}, {{4, 5}, f32}, {{5}, f32}}, {}, "bias must have shape [4]"}};
        },
    .traits = {.compute_bound = true, .batched_sweep = true},
};

Var matmul(Arg a, Arg b) { return record(matmul_op, {a, b}); }
Var linear(Arg x, Arg weight, std::optional<Arg> bias) {
  return bias ? record(linear_op, {x, weight, *bias}) : record(linear_op, {x, weight});
}

}  // namespace whence
