#include "ops/cpu/elementwise.h"

#include <algorithm>
#include <array>

#include "tensor/convert.h"
#include "tensor/parallel.h"
#include "tensor/run.h"

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

}  // namespace

void elementwise(const KernelCall& call) {
  const OpDef& op = call.op;
  const View& out = call.out[0];
  size_t arity = call.in.size();
  std::array<double, 4> params{};
  for (size_t i = 0; i < op.loop_params.size(); ++i) params[i] = call.attrs.real(op.loop_params[i]);

  UnaryLoop unary = nullptr;
  BinaryLoop binary = nullptr;
  WhereLoop where = nullptr;
  if (op.loop == "cast") unary = convert_run(call.in[0].dtype, out.dtype);
  else if (arity == 1) unary = find_unary(op.loop, call.in[0].dtype);
  else if (arity == 2) binary = find_binary(op.loop, call.in[0].dtype);
  else where = find_where(int(size_of(out.dtype)));
  if (!unary && !binary && !where)
    throw MissingKernel("[" + op.name + "] has no cpu loop for " + std::string(name_of(call.in[0].dtype)));
  if (out.numel() == 0) return;

  Space s = collapse(out, call.in);
  int64_t inner = s.extent[size_t(s.rank - 1)];
  int64_t rows = out.numel() / inner;
  int64_t pieces = (inner + kRun - 1) / kRun;  // long rows are cut so that work splits and gathers stay small
  int64_t piece = (inner + pieces - 1) / pieces;
  size_t out_size = size_of(out.dtype);

  auto body = [&](int64_t begin, int64_t end) {
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
        if (gather || (unary && stride == 0)) {
          gather_run(size, p[k], stride, scratch[k], n);
          p[k] = scratch[k];
          step[k] = 1;
        }
      }
      void* y = static_cast<std::byte*>(out.data) + (row * inner + from) * int64_t(out_size);
      if (unary) unary(p[0], y, n, params.data());
      else if (binary) binary(p[0], step[0], p[1], step[1], y, n, params.data());
      else where(static_cast<const uint8_t*>(p[0]), step[0], p[1], step[1], p[2], step[2], y, n);
    }
  };
  int64_t jobs = rows * pieces;
  parallel_for(jobs, std::max<int64_t>(1, kGrain / std::max<int64_t>(piece, 1)), body);
}

}  // namespace whence::cpu
