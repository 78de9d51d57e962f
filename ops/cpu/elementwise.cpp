#include "whence/ops/cpu/elementwise.h"

#include <algorithm>
#include <array>

#include "whence/ops/cpu/stabilise.h"
#include "whence/tensor/convert.h"
#include "whence/tensor/parallel.h"
#include "whence/tensor/run.h"

namespace whence::cpu {

namespace {

constexpr int kMaxOperands = 3;
constexpr int64_t kRun = 2048;  // elements of a gathered run: three operands of doubles stay in L1

// The iteration space, adjacent axes merged where every operand allows it.
struct Space {
  int rank = 0;
  std::array<int64_t, Shape::kMaxRank> extent{};
  std::array<std::array<int64_t, Shape::kMaxRank>, kMaxOperands> stride{};
};

Space collapse(const View& out, std::span<const View> in) {
  Space s;
  std::array<Shape, kMaxOperands> strides;
  for (size_t k = 0; k < in.size(); ++k) strides[k] = broadcast_strides(in[k].shape, in[k].strides, out.shape);
  for (int a = 0; a < out.shape.rank(); ++a) {
    if (out.shape[a] == 1) continue;
    bool merge = s.rank > 0;
    for (size_t k = 0; merge && k < in.size(); ++k)
      merge = s.stride[k][size_t(s.rank - 1)] == strides[k][a] * out.shape[a];
    if (!merge) {
      s.extent[size_t(s.rank)] = out.shape[a];
      ++s.rank;
    } else {
      s.extent[size_t(s.rank - 1)] *= out.shape[a];
    }
    for (size_t k = 0; k < in.size(); ++k) s.stride[k][size_t(s.rank - 1)] = strides[k][a];
  }
  if (s.rank == 0) {
    s.rank = 1;
    s.extent[0] = out.numel();
  }
  return s;
}

void gather_run(size_t size, const void* x, int64_t step, void* y, int64_t n) {
  with_bits(size, [&](auto u) {
    using U = decltype(u);
    copy_run(static_cast<const U*>(x), step, static_cast<U*>(y), n);
  });
}

// What is looked up by name: once, when a program is loaded.
struct Chosen {
  ScalarLoop loop;
  std::array<double, ScalarRow::kMaxParams> params{};
};
std::shared_ptr<const void> choose(const OpDef& op, std::span<const TensorType> in, std::span<const TensorType> out,
                                   const Attrs& attrs) {
  auto chosen = std::make_shared<Chosen>();
  chosen->loop = find_loop(op.scalar, in[0].dtype, out[0].dtype);
  if (!chosen->loop) throw MissingKernel("[" + op.name + "] has no cpu loop for " + std::string(name_of(in[0].dtype)));
  for (int i = 0; i < op.scalar.n_params(); ++i) chosen->params[size_t(i)] = attrs.real(op.scalar.params[i]);
  return chosen;
}

void elementwise(const KernelCall& call) {
  const auto& [loop, params] = *static_cast<const Chosen*>(call.prepared);
  const View& out = call.out[0];
  size_t arity = call.in.size();
  if (out.numel() == 0) return;

  Space s = collapse(out, call.in);
  int64_t inner = s.extent[size_t(s.rank - 1)];
  int64_t rows = out.numel() / inner;
  int64_t pieces = (inner + kRun - 1) / kRun;  // long rows are cut so that work splits and gathers stay small
  int64_t piece = (inner + pieces - 1) / pieces;
  size_t out_size = size_of(out.dtype);

  auto body = [&, &loop = loop, &params = params](int64_t begin, int64_t end) {
    alignas(64) std::byte scratch[kMaxOperands][kRun * 8];
    for (int64_t job = begin; job < end; ++job) {
      int64_t row = job / pieces, from = job % pieces * piece, n = std::min(piece, inner - from);
      if (n <= 0) continue;
      const void* p[kMaxOperands];
      int step[kMaxOperands];
      for (size_t k = 0; k < arity; ++k) {
        int64_t at = 0, rest = row;
        for (int a = s.rank - 2; a >= 0; --a) {
          at += rest % s.extent[size_t(a)] * s.stride[k][size_t(a)];
          rest /= s.extent[size_t(a)];
        }
        int64_t stride = s.stride[k][size_t(s.rank - 1)];
        size_t size = size_of(call.in[k].dtype);
        p[k] = static_cast<const std::byte*>(call.in[k].data) + (at + from * stride) * int64_t(size);
        step[k] = stride == 0 ? 0 : 1;
        bool gather = stride != 0 && stride != 1;
        if (gather || (loop.unary && stride == 0)) {
          gather_run(size, p[k], stride, scratch[k], n);
          p[k] = scratch[k];
          step[k] = 1;
        }
      }
      void* y = static_cast<std::byte*>(out.data) + (row * inner + from) * int64_t(out_size);
      if (loop.unary) loop.unary(p[0], y, n, params.data());
      else if (loop.binary) loop.binary(p[0], step[0], p[1], step[1], y, n, params.data());
      else loop.where(static_cast<const uint8_t*>(p[0]), step[0], p[1], step[1], p[2], step[2], y, n);
    }
  };
  int64_t jobs = rows * pieces;
  parallel_for(jobs, std::max<int64_t>(1, kGrain / std::max<int64_t>(piece, 1)), body);
}

constexpr Kernel kComputes{elementwise, {.strided = true, .in_place = 0, .prepare = choose}};
constexpr Kernel kMoves{elementwise, {.floats = kAllFloats, .strided = true, .prepare = choose}};

[[maybe_unused]] const bool registered = register_scalar_kernel(
    Device::Kind::cpu, [](const ScalarRow& row) { return row.domain == ScalarRow::any ? &kMoves : &kComputes; });

}  // namespace

ScalarLoop find_loop(const ScalarRow& row, DType from, DType to) {
  if (row.domain == ScalarRow::any)
    return row.arity() == 1 ? ScalarLoop{.unary = convert_run(from, to)}
                            : ScalarLoop{.where = find_where(int(size_of(to)))};
  const bool arithmetic = row.domain == ScalarRow::real || row.domain == ScalarRow::number;
  if (to != (arithmetic ? from : boolean)) return {};
  if (row.whole_rows) return {.binary = find_row_loop(row.name, from)};
  if (row.unary_f32) return {.unary = from == f32 ? row.unary_f32 : from == f64 ? row.unary_f64 : nullptr};
  if (row.binary_f32) return {.binary = from == f32 ? row.binary_f32 : from == f64 ? row.binary_f64 : nullptr};
  return {find_unary(row.name, from), find_binary(row.name, from)};
}

}  // namespace whence::cpu
