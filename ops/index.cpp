// Reading and writing at computed positions: gather, take_along_axis, scatter_add, segment_sum, embedding, one_hot,
// pick, topk, argsort. Positions count from 0; one outside the range is an error when the kernel meets it. Whatever
// adds up does so in the order of the index, so results are equal on every run.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "autograd/sweep.h"
#include "ops/composite.h"
#include "ops/cpu/index.h"
#include "tensor/parallel.h"
#include "ops/ops.h"

namespace whence {
namespace {

using cpu::kGrain;
using cpu::parallel_for;

// ---- positions ----------------------------------------------------------------------------------------------------

/// The index as i64, each element checked against [0, bound).
std::vector<int64_t> positions(const View& index, int64_t bound, const char* op, const char* what) {
  std::vector<int64_t> at(size_t(index.numel()));
  auto read = [&](auto* p) { std::copy(p, p + at.size(), at.begin()); };
  if (index.dtype == i64) read(index.as<int64_t>());
  else if (index.dtype == i32) read(index.as<int32_t>());
  else read(index.as<uint8_t>());
  for (size_t i = 0; i < at.size(); ++i)
    if (at[i] < 0 || at[i] >= bound)
      throw ValueError(std::string("[") + op + "] " + what + " " + std::to_string(at[i]) + " at position " +
                       std::to_string(i) + " is outside [0, " + std::to_string(bound) + ")");
  return at;
}

// The first axis of an index of rank r is at most x's rank - r, so it may be x's rank itself when r is 0.
int first_axis(const Attrs& attrs, int rank) {
  int64_t a = attrs.integer("axis");
  return int(a < 0 ? a + rank : a);
}

int axis_of(const Attrs& attrs, int rank) { return normalize_axis(attrs.integer("axis"), rank); }

int64_t product(const Shape& s, int from, int to) {
  int64_t n = 1;
  for (int a = from; a < to; ++a) n *= s[a];
  return n;
}

/// Calls f with a typed null pointer for dtypes that can be added up.
template <class F> void for_sums(const char* op, DType t, F&& f) {
  switch (t) {
    case DType::f32: return f((float*)nullptr);
    case DType::f64: return f((double*)nullptr);
    case DType::i32: return f((int32_t*)nullptr);
    case DType::i64: return f((int64_t*)nullptr);
    default: throw MissingKernel(std::string("[") + op + "] cannot add up " + std::string(name_of(t)));
  }
}
template <class F> void for_size(size_t bytes, F&& f) {
  switch (bytes) {
    case 8: return f((uint64_t*)nullptr);
    case 4: return f((uint32_t*)nullptr);
    case 2: return f((uint16_t*)nullptr);
    default: return f((uint8_t*)nullptr);
  }
}

SampleInput integers(Shape s, int64_t bound, DType t = i64) {
  return {.shape = s, .dtype = t, .low = 0, .high = double(bound)};
}

// ---- rows along an axis: x (outer, n, inner), index (m), rows (outer, m, inner) -----------------------------------

void copy_rows(const View& x, const std::vector<int64_t>& at, const View& rows, int64_t outer, int64_t n,
               int64_t inner) {
  int64_t m = int64_t(at.size());
  if (rows.numel() == 0) return;
  for_size(size_of(x.dtype), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* from = x.as<T>();
    T* to = rows.as<T>();
    parallel_for(outer * m, std::max<int64_t>(1, kGrain / inner), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* src = from + (r / m * n + at[size_t(r % m)]) * inner;
        if (inner == 1) to[r] = *src;
        else std::memcpy(to + r * inner, src, size_t(inner) * sizeof(T));
      }
    });
  });
}

// y += rows: threads own columns (outer, inner), each adds in the order of the index.
template <class T>
void add_rows(const T* rows, const std::vector<int64_t>& at, T* y, int64_t outer, int64_t n, int64_t inner) {
  int64_t m = int64_t(at.size());
  if (m == 0) return;
  if constexpr (std::is_floating_point_v<T>)
    if (outer == 1) return cpu::scatter_add_rows(y, n, inner, at.data(), m, rows, false);
  parallel_for(outer * inner, std::max<int64_t>(16, kGrain / m), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      int64_t o = begin / inner, first = begin % inner, last = std::min(inner, first + end - begin);
      for (int64_t j = 0; j < m; ++j) {
        const T* src = rows + (o * m + j) * inner;
        T* dst = y + (o * n + at[size_t(j)]) * inner;
        for (int64_t i = first; i < last; ++i) dst[i] += src[i];
      }
      begin += last - first;
    }
  });
}

// x with the axes from `axis` that the index occupies replaced by one of extent n, and the other way round.
Shape rows_shape(InferCtx& c, Shape x, int axis, const Shape& index) {
  if (x.rank() - 1 + index.rank() > Shape::kMaxRank) c.shape_error("the result would have more than 8 dimensions");
  x.erase(axis);
  for (int i = 0; i < index.rank(); ++i) x.insert(axis + i, index[i]);
  return x;
}

Attrs axis_attrs(int64_t axis) { return {{"axis", axis}}; }

}  // namespace

REGISTER_OP(gather) = {
    .doc = "out[.., i.., ..] = x[.., index[i..], ..]: slices of x along axis, index of any rank",
    .operands = {"x", "index"},
    .infer =
        [](InferCtx& c) {
          c.need_integer(1);
          int axis = c.axis(0, c.attrs.integer("axis"));
          c.out(rows_shape(c, c.shape(0), axis, c.shape(1)), c.dtype(0));
        },
    .cpu =
        [](const KernelCall& k) {
          const Shape& s = k.in[0].shape;
          int axis = axis_of(k.attrs, s.rank());
          copy_rows(k.in[0], positions(k.in[1], s[axis], "gather", "index"), k.out[0], product(s, 0, axis), s[axis],
                    product(s, axis + 1, s.rank()));
        },
    .vjp =
        [](SweepCtx& c) {
          int axis = axis_of(c.attrs, c.in().rank());
          c.give(0, segment_sum(c.d(), c.in(1), axis + c.lead(), c.in().shape()[axis]));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {4, 3}}, integers({5}, 4)}, axis_attrs(0), "rows"},
                                     {{{.shape = {2, 5, 3}}, integers({2, 2}, 5, i32)}, axis_attrs(1), "middle"},
                                     {{{.shape = {3, 4}}, integers({}, 4)}, axis_attrs(-1), "scalar"},
                                     {{{.shape = {3, 4}}, integers({0}, 4)}, axis_attrs(0), "empty"},
                                     {{{.shape = {2, 4, 0}}, integers({3}, 4)}, axis_attrs(1), "hollow"},
                                     {{{.shape = {67, 5}}, integers({33}, 67)}, axis_attrs(0), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"},
              {{{{4, 3}, f32}, {{2}, i64}}, axis_attrs(2), "axis 2 is outside x of rank 2"},
              {{{{1, 1, 1, 1, 1}, f32}, {{1, 1, 1, 1, 1}, i64}}, axis_attrs(0), "more than 8 dimensions"}};
        },
    .traits = {.batched_sweep = true, .sinks = 2},
};

Var gather(Arg x, Arg index, int64_t axis) { return record(gather_op, {x, index}, axis_attrs(axis)); }

// ---- segment_sum: the adjoint of gather ---------------------------------------------------------------------------

namespace {

Attrs segment_attrs(int64_t axis, int64_t count) { return {{"axis", axis}, {"count", count}}; }

void infer_segment_sum(InferCtx& c) {
  c.need_integer(1);
  if (c.dtype(0) == u8 || c.dtype(0) == boolean)
    c.dtype_error("x must be a number that can be added up, got " + std::string(name_of(c.dtype(0))), "cast it to i32");
  Shape x = c.shape(0);
  const Shape& index = c.shape(1);
  int64_t count = c.attrs.integer("count");
  int axis = first_axis(c.attrs, x.rank());
  if (axis < 0 || axis + index.rank() > x.rank())
    c.shape_error("axis " + std::to_string(c.attrs.integer("axis")) + " leaves no room for the index in x of rank " +
                  std::to_string(x.rank()));
  for (int i = 0; i < index.rank(); ++i)
    if (x[axis + i] != index[i]) c.shape_error("index does not fit x from axis " + std::to_string(axis));
  if (count < 0) c.value_error("count must not be negative, got " + std::to_string(count));
  for (int i = 0; i < index.rank(); ++i) x.erase(axis);
  if (x.rank() == Shape::kMaxRank) c.shape_error("the result would have more than 8 dimensions");
  x.insert(axis, count);
  c.out(x, c.dtype(0));
}

void run_segment_sum(const KernelCall& k) {
  const Shape& y = k.out[0].shape;
  int axis = first_axis(k.attrs, k.in[0].shape.rank());
  std::vector<int64_t> at = positions(k.in[1], y[axis], "segment_sum", "index");
  std::memset(k.out[0].data, 0, size_t(y.numel()) * size_of(k.out[0].dtype));
  for_sums("segment_sum", k.out[0].dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    add_rows(k.in[0].as<T>(), at, k.out[0].as<T>(), product(y, 0, axis), y[axis], product(y, axis + 1, y.rank()));
  });
}

// A sum of its inputs: the stabiliser holds back the rest.
void absorbed_by_stabiliser(SweepCtx& c) {
  c.absorb("stabiliser", c.d() - c.stabilised_share(c.d(), c.out(), 1.0) * c.out());
}

}  // namespace

REGISTER_OP(segment_sum) = {
    .doc = "out[.., k, ..] = sum of x[.., i.., ..] over index[i..] == k; the index occupies x's axes from `axis`",
    .operands = {"x", "index"},
    .infer = infer_segment_sum,
    .cpu = run_segment_sum,
    .vjp =
        [](SweepCtx& c) {
          int axis = first_axis(c.attrs, c.in().rank());
          c.give(0, gather(c.d(), c.in(1), axis + c.lead()));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = absorbed_by_stabiliser,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {5, 2}}, integers({5}, 3)}, segment_attrs(0, 3), "rows"},
                                     {{{.shape = {2, 2, 3}}, integers({2, 3}, 4, i32)}, segment_attrs(1, 4), "block"},
                                     {{{.shape = {3, 2}}, integers({}, 2)}, segment_attrs(1, 2), "scalar"},
                                     {{{.shape = {0, 3}}, integers({0}, 2)}, segment_attrs(0, 2), "empty"},
                                     {{{.shape = {67, 5}}, integers({67}, 9)}, segment_attrs(-2, 9), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}, {{2}, i64}}, segment_attrs(0, 3), "index does not fit x from axis 0"},
              {{{{4}, f32}, {{4}, f32}}, segment_attrs(0, 3), "index must be integer, got f32"},
              {{{{4}, f32}, {{4, 1}, i64}}, segment_attrs(0, 3), "axis 0 leaves no room for the index in x of rank 1"},
              {{{{4}, f32}, {{4}, i64}}, segment_attrs(0, -1), "count must not be negative, got -1"},
              {{{{4}, boolean}, {{4}, i64}}, segment_attrs(0, 2), "x must be a number that can be added up, got bool"}};
        },
    .traits = {.batched_sweep = true, .sinks = 2},
};

Var segment_sum(Arg x, Arg index, int64_t axis, int64_t count) {
  return record(segment_sum_op, {x, index}, segment_attrs(axis, count));
}

// ---- take_along_axis, scatter_add: index and source of one shape --------------------------------------------------

namespace {

/// Lanes of the index (all axes but one) and where each begins in x, whose other extents may be larger.
struct Lanes {
  int64_t outer, n, inner, step;
  std::vector<int64_t> outer_at, inner_at;
  Lanes(const Shape& index, const Shape& x, int axis)
      : outer(product(index, 0, axis)), n(index[axis]), inner(product(index, axis + 1, index.rank())) {
    Shape strides = contiguous_strides(x);
    step = strides[axis];
    auto starts = [&](int from, int to, int64_t count) {
      std::vector<int64_t> at(size_t(count), 0);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t a = to - 1, rest = i; a >= from; --a) {
          at[size_t(i)] += rest % index[int(a)] * strides[int(a)];
          rest /= index[int(a)];
        }
      return at;
    };
    outer_at = starts(0, axis, outer);
    inner_at = starts(axis + 1, index.rank(), inner);
  }
  /// f(position in index, offset of the lane in x), lanes split over threads, each lane in order.
  template <class F> void each(F&& f) const {
    if (n == 0) return;
    parallel_for(outer * inner, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
      while (begin < end) {
        int64_t o = begin / inner, first = begin % inner, last = std::min(inner, first + end - begin);
        for (int64_t j = 0; j < n; ++j)
          for (int64_t i = first; i < last; ++i) f((o * n + j) * inner + i, outer_at[size_t(o)] + inner_at[size_t(i)]);
        begin += last - first;
      }
    });
  }
};

void need_lanes(InferCtx& c, int x, int index, int axis) {
  if (c.rank(index) != c.rank(x))
    c.shape_error("index must have " + c.op.operand_name(x) + "'s rank " + std::to_string(c.rank(x)) + ", got " +
                  c.shape(index).str());
  for (int a = 0; a < c.rank(x); ++a)
    if (a != axis && c.shape(index)[a] > c.shape(x)[a])
      c.shape_error("index has extent " + std::to_string(c.shape(index)[a]) + " on axis " + std::to_string(a) + ", " +
                    c.op.operand_name(x) + " only " + std::to_string(c.shape(x)[a]));
}

Var zeros(Var like, const Shape& shape) { return broadcast_to(like.graph().constant(0.0, like.dtype()), shape); }

// The index for a cotangent that has a target axis in front.
Var led(Var index, const SweepCtx& c) {
  if (!c.lead()) return index;
  Shape s = index.shape();
  s.insert(0, c.targets());
  return broadcast_to(index, s);
}

void run_scatter_add(const KernelCall& k) {
  const View &base = k.in[0], &index = k.in[1], &src = k.in[2], &y = k.out[0];
  int axis = axis_of(k.attrs, base.shape.rank());
  std::vector<int64_t> at = positions(index, base.shape[axis], "scatter_add", "index");
  Lanes lanes(index.shape, base.shape, axis);
  if (y.data != base.data && y.numel()) std::memcpy(y.data, base.data, size_t(y.numel()) * size_of(y.dtype));
  for_sums("scatter_add", y.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* from = src.as<T>();
    T* to = y.as<T>();
    lanes.each([&](int64_t i, int64_t lane) { to[lane + at[size_t(i)] * lanes.step] += from[i]; });
  });
}

}  // namespace

REGISTER_OP(take_along_axis) = {
    .doc = "out[i][j] = x[index[i][j]][j] for axis 0; index has x's rank and on other axes at most its extents",
    .operands = {"x", "index"},
    .infer =
        [](InferCtx& c) {
          c.need_integer(1);
          need_lanes(c, 0, 1, c.axis(0, c.attrs.integer("axis")));
          c.out(c.shape(1), c.dtype(0));
        },
    .cpu =
        [](const KernelCall& k) {
          const View &x = k.in[0], &index = k.in[1];
          int axis = axis_of(k.attrs, x.shape.rank());
          std::vector<int64_t> at = positions(index, x.shape[axis], "take_along_axis", "index");
          Lanes lanes(index.shape, x.shape, axis);
          for_size(size_of(x.dtype), [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            const T* from = x.as<T>();
            T* to = k.out[0].as<T>();
            lanes.each([&](int64_t i, int64_t lane) { to[i] = from[lane + at[size_t(i)] * lanes.step]; });
          });
        },
    .vjp =
        [](SweepCtx& c) {
          int axis = axis_of(c.attrs, c.in().rank());
          c.give(0, scatter_add(zeros(c.d(), c.shape_of(0)), led(c.in(1), c), c.d(), axis + c.lead()));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {4, 3}}, integers({5, 3}, 4)}, axis_attrs(0), "rows"},
                                     {{{.shape = {3, 4}}, integers({3, 2}, 4, i32)}, axis_attrs(-1), "columns"},
                                     {{{.shape = {3, 4, 2}}, integers({2, 3, 1}, 4)}, axis_attrs(1), "smaller"},
                                     {{{.shape = {3, 4}}, integers({3, 0}, 4)}, axis_attrs(1), "empty"},
                                     {{{.shape = {33, 67}}, integers({33, 5}, 67)}, axis_attrs(1), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}, {{2}, i64}}, axis_attrs(0), "index must have x's rank 2, got [2]"},
              {{{{4, 3}, f32}, {{2, 4}, i64}}, axis_attrs(0), "index has extent 4 on axis 1, x only 3"},
              {{{{4}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"},
              {{{{4}, f32}, {{2}, i64}}, axis_attrs(1), "axis 1 is outside x of rank 1"}};
        },
    .traits = {.batched_sweep = true, .sinks = 2},
};

Var take_along_axis(Arg x, Arg index, int64_t axis) { return record(take_along_axis_op, {x, index}, axis_attrs(axis)); }

REGISTER_OP(scatter_add) = {
    .doc = "base, with src[i][j] added at [index[i][j]][j] for axis 0; index has src's shape, repeats accumulate",
    .operands = {"base", "index", "src"},
    .infer =
        [](InferCtx& c) {
          c.need_integer(1);
          c.need_same_dtype(0, 2);
          if (c.dtype(0) == u8 || c.dtype(0) == boolean)
            c.dtype_error("base must be a number that can be added up, got " + std::string(name_of(c.dtype(0))),
                          "cast it to i32");
          int axis = c.axis(0, c.attrs.integer("axis"));
          need_lanes(c, 0, 1, axis);
          if (!(c.shape(1) == c.shape(2)))
            c.shape_error("index and src differ in shape: " + c.shape(1).str() + " vs " + c.shape(2).str());
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = {run_scatter_add, {.in_place = 0}},
    .vjp =
        [](SweepCtx& c) {
          c.give(0, c.d());
          if (c.needs(2))
            c.give(2, take_along_axis(c.d(), led(c.in(1), c), axis_of(c.attrs, c.in().rank()) + c.lead()));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed =
        [](SweepCtx& c) {
          Var t = c.stabilised_share(c.d(), c.out(), 1.0);
          if (!c.carries(0)) c.absorb("constant", t * c.in(0));
          if (!c.carries(2)) {
            int axis = axis_of(c.attrs, c.in().rank());
            c.absorb("constant", t * scatter_add(zeros(c.d(), c.in().shape()), c.in(1), c.in(2), axis));
          }
          c.absorb("stabiliser", c.d() - t * c.out());
        },
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {4, 3}}, integers({5, 3}, 4), {.shape = {5, 3}}}, axis_attrs(0), "rows"},
              {{{.shape = {2, 3}}, integers({2, 2}, 3, i32), {.shape = {2, 2}}}, axis_attrs(-1), "columns"},
              {{{.shape = {3, 4, 2}}, integers({2, 3, 1}, 4), {.shape = {2, 3, 1}}}, axis_attrs(1), "smaller"},
              {{{.shape = {3, 4}}, integers({3, 0}, 4), {.shape = {3, 0}}}, axis_attrs(1), "empty"},
              {{{.shape = {33, 9}}, integers({33, 67}, 9), {.shape = {33, 67}}}, axis_attrs(1), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}, {{2, 3}, i64}, {{2, 2}, f32}}, axis_attrs(0), "index and src differ in shape"},
              {{{{4, 3}, f32}, {{2, 3}, i64}, {{2, 3}, f64}}, axis_attrs(0), "dtypes differ"},
              {{{{4, 3}, f32}, {{2, 4}, i64}, {{2, 4}, f32}},
               axis_attrs(0),
               "index has extent 4 on axis 1, base only 3"},
              {{{{4}, f32}, {{2}, f32}, {{2}, f32}}, axis_attrs(0), "index must be integer, got f32"}};
        },
    .traits = {.batched_sweep = true, .sinks = 2},
};

Var scatter_add(Arg base, Arg index, Arg src, int64_t axis) {
  return record(scatter_add_op, {base, index, src}, axis_attrs(axis));
}

Var pick(Arg x, Arg index) {
  if (x.rank() != index.rank() + 1)
    throw ShapeError("[pick] x " + x.shape().str() + " needs an index of rank " + std::to_string(x.rank() - 1) +
                     ", got " + index.shape().str());
  LocationGuard at(x);
  return squeeze(take_along_axis(x, unsqueeze(index, -1), -1), -1);
}

// ---- embedding, one_hot -------------------------------------------------------------------------------------------

namespace {

Attrs padding_attrs(int64_t padding_idx) { return {{"padding_idx", padding_idx}}; }

void infer_embedding(InferCtx& c) {
  c.need_integer(0);
  c.need_rank(1, 2);
  if (int64_t p = c.attrs.integer("padding_idx"); p >= c.shape(1)[0])
    c.value_error("padding_idx " + std::to_string(p) + " is outside a table of " + std::to_string(c.shape(1)[0]) +
                  " rows");
  Shape s = c.shape(0);
  if (s.rank() == Shape::kMaxRank) c.shape_error("the result would have more than 8 dimensions");
  s.push_back(c.shape(1)[1]);
  c.out(s, c.dtype(1));
}

// Rows of padding pass no gradient; otherwise the cotangents of a row add up.
void vjp_embedding(SweepCtx& c) {
  if (!c.needs(1)) return;
  Var d = c.d(), ids = c.in(0);
  if (int64_t p = c.attrs.integer("padding_idx"); p >= 0) {
    Var real = not_equal(ids, c.graph.constant(double(p), ids.dtype()));
    d = where(unsqueeze(real, -1), d, 0.0);
  }
  c.give(1, segment_sum(d, ids, c.lead(), c.in(1).shape()[0]));
}

// What arrives at a looked-up row belongs to the token that asked for it: summed over the features. A table made from
// data shares it; one that is a parameter gets what passed through it, beside the tokens.
void relevance_embedding(SweepCtx& c) {
  Var r = c.carries(0) && c.carries(1) ? c.d() * 0.5 : c.d();
  if (c.needs(0)) c.give(0, sum(r, {-1}));
  if (c.needs(1)) c.give(1, segment_sum(r, c.in(0), c.lead(), c.in(1).shape()[0]));
}

}  // namespace

REGISTER_OP(embedding) = {
    .doc = "weight[ids]: ids [..], weight [V, C] -> [.., C]; the row padding_idx gets no gradient",
    .operands = {"ids", "weight"},
    .infer = infer_embedding,
    .cpu =
        [](const KernelCall& k) {
          const Shape& s = k.in[1].shape;
          copy_rows(k.in[1], positions(k.in[0], s[0], "embedding", "id"), k.out[0], 1, s[0], s[1]);
        },
    .vjp = vjp_embedding,
    .relevance = relevance_embedding,
    .samples =
        [] {
          SampleInput table{.shape = {5, 3}, .parameter = true};
          return std::vector<Sample>{
              {{integers({4}, 5), table}, padding_attrs(-1), "tokens"},
              {{integers({2, 3}, 5, i32), table}, padding_attrs(2), "padding"},
              {{integers({}, 5), table}, padding_attrs(-1), "scalar"},
              {{integers({2, 0}, 5), table}, padding_attrs(-1), "empty"},
              {{integers({3}, 4), {.shape = {4, 2}}}, padding_attrs(-1), "computed_table"},
              {{integers({3, 11}, 67), {.shape = {67, 5}, .parameter = true}}, padding_attrs(0), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4}, f32}, {{5, 3}, f32}}, padding_attrs(-1), "ids must be integer, got f32"},
              {{{{4}, i64}, {{5}, f32}}, padding_attrs(-1), "weight must have rank 2, got [5]"},
              {{{{4}, i64}, {{5, 3}, f32}}, padding_attrs(5), "padding_idx 5 is outside a table of 5 rows"}};
        },
    .traits = {.batched_sweep = true},
};

Var embedding(Arg ids, Arg weight, int64_t padding_idx) {
  return record(embedding_op, {ids, weight}, padding_attrs(padding_idx));
}

REGISTER_OP(one_hot) = {
    .doc = "1 at each id, 0 elsewhere: ids [..] -> [.., classes]; relevance ends here",
    .operands = {"ids"},
    .infer =
        [](InferCtx& c) {
          c.need_integer(0);
          int64_t n = c.attrs.integer("classes");
          if (n < 0) c.value_error("classes must not be negative, got " + std::to_string(n));
          if (c.rank(0) == Shape::kMaxRank) c.shape_error("the result would have more than 8 dimensions");
          Shape s = c.shape(0);
          s.push_back(n);
          c.out(s, c.attrs.dtype("dtype"));
        },
    .cpu =
        [](const KernelCall& k) {
          const View& y = k.out[0];
          int64_t n = k.attrs.integer("classes");
          std::vector<int64_t> at = positions(k.in[0], n, "one_hot", "id");
          std::memset(y.data, 0, size_t(y.numel()) * size_of(y.dtype));
          Tensor one = Tensor::full({}, 1, y.dtype);
          for_size(size_of(y.dtype), [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            for (size_t i = 0; i < at.size(); ++i)
              y.as<T>()[int64_t(i) * n + at[i]] = *static_cast<const T*>(one.raw());
          });
        },
    .samples =
        [] {
          auto at = [](int64_t n, DType t) { return Attrs{{"classes", n}, {"dtype", t}}; };
          return std::vector<Sample>{{{integers({2, 3}, 5)}, at(5, f32), "f32"},
                                     {{integers({4}, 3, i32)}, at(3, boolean), "bool"},
                                     {{integers({0}, 5)}, at(5, f64), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2}, f32}}, {{"classes", 3}, {"dtype", f32}}, "ids must be integer, got f32"},
              {{{{2}, i64}}, {{"classes", -3}, {"dtype", f32}}, "classes must not be negative, got -3"}};
        },
    .traits = {.nondifferentiable = true},
};

Var one_hot(Arg ids, int64_t classes, DType dtype) {
  return record(one_hot_op, {ids}, {{"classes", classes}, {"dtype", dtype}});
}

// ---- order: topk, argsort -----------------------------------------------------------------------------------------

namespace {

/// Strict order by value; a NaN counts as the largest.
template <class T> bool before(T a, T b, bool descending) {
  bool na = a != a, nb = b != b;
  if (na || nb) return descending ? na && !nb : !na && nb;
  return descending ? a > b : a < b;
}

/// Sorts positions of every lane along axis, the first k only; f(position in the result, position in x, index in the
/// lane).
template <class T, class F> void order_lanes(const View& x, int axis, int64_t k, bool descending, F&& f) {
  const Shape& s = x.shape;
  int64_t n = s[axis], inner = product(s, axis + 1, s.rank()), lanes = product(s, 0, axis) * inner;
  const T* from = x.as<T>();
  parallel_for(lanes, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, 8 * n)), [&](int64_t begin, int64_t end) {
    std::vector<T> v;
    std::vector<int64_t> order;
    v.resize(size_t(n));
    order.resize(size_t(n));
    for (int64_t l = begin; l < end; ++l) {
      int64_t at = l / inner * n * inner + l % inner, to = l / inner * k * inner + l % inner;
      for (int64_t j = 0; j < n; ++j) v[size_t(j)] = from[at + j * inner];
      std::iota(order.begin(), order.end(), 0);
      auto less = [&](int64_t a, int64_t b) {
        T p = v[size_t(a)], q = v[size_t(b)];
        return before(p, q, descending) || (!before(q, p, descending) && a < b);
      };
      if (k < n) std::partial_sort(order.begin(), order.begin() + k, order.end(), less);
      else std::sort(order.begin(), order.end(), less);
      for (int64_t j = 0; j < k; ++j) f(to + j * inner, at + order[size_t(j)] * inner, order[size_t(j)]);
    }
  });
}
template <class F> void order_lanes(const View& x, int axis, int64_t k, bool descending, F&& f) {
  switch (x.dtype) {
    case DType::f32: return order_lanes<float>(x, axis, k, descending, f);
    case DType::f64: return order_lanes<double>(x, axis, k, descending, f);
    case DType::i32: return order_lanes<int32_t>(x, axis, k, descending, f);
    case DType::i64: return order_lanes<int64_t>(x, axis, k, descending, f);
    case DType::u8:
    case DType::boolean: return order_lanes<uint8_t>(x, axis, k, descending, f);
    default: {
      Tensor wide = Tensor::empty(x.shape, f32);
      copy(x, wide.view());
      return order_lanes<float>(wide.view(), axis, k, descending, f);
    }
  }
}

Attrs topk_attrs(int64_t k, int64_t axis, bool largest) { return {{"k", k}, {"axis", axis}, {"largest", largest}}; }

void vjp_topk(SweepCtx& c) {
  if (!c.has(0)) return;  // a cotangent of the indices ends here
  c.give(0,
         scatter_add(zeros(c.d(), c.shape_of(0)), led(c.out(1), c), c.d(), axis_of(c.attrs, c.in().rank()) + c.lead()));
}

}  // namespace

REGISTER_OP(topk) = {
    .doc =
        "The k largest (or smallest) along axis in order, and their positions (i64); the lowest index first among "
        "equals",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          int axis = c.axis(0, c.attrs.integer("axis"));
          int64_t k = c.attrs.integer("k");
          if (k < 0 || k > c.shape(0)[axis])
            c.value_error("k is " + std::to_string(k) + ", axis " + std::to_string(axis) + " has " +
                          std::to_string(c.shape(0)[axis]) + " elements");
          Shape s = c.shape(0);
          s[axis] = k;
          c.out(s, c.dtype(0));
          c.out(s, i64);
        },
    .cpu =
        [](const KernelCall& call) {
          const View& x = call.in[0];
          int64_t k = call.attrs.integer("k"), *index = call.out[1].as<int64_t>();
          if (call.out[0].numel() == 0) return;
          for_size(size_of(x.dtype), [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            const T* from = x.as<T>();
            T* value = call.out[0].as<T>();
            order_lanes(x, axis_of(call.attrs, x.shape.rank()), k, call.attrs.flag("largest"),
                        [&](int64_t to, int64_t at, int64_t i) {
                          value[to] = from[at];
                          index[to] = i;
                        });
          });
        },
    .vjp = vjp_topk,
    .relevance = lrp::reindex,
    .absorbed =
        [](SweepCtx& c) {
          if (c.has(1)) c.absorb("index", c.d(1));
        },
    .samples =
        [] {
          auto x = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{
              {{x({3, 4})}, topk_attrs(2, -1, true), "columns"}, {{x({4, 3})}, topk_attrs(3, 0, false), "rows"},
              {{x({2, 5, 3})}, topk_attrs(5, 1, true), "all"},   {{x({3, 4})}, topk_attrs(0, 1, true), "none"},
              {{x({0, 4})}, topk_attrs(2, 1, true), "empty"},    {{x({3, 67})}, topk_attrs(9, 1, true), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, topk_attrs(4, 1, true), "k is 4, axis 1 has 3 elements"},
                                          {{{{2, 3}, f32}}, topk_attrs(1, 2, true), "axis 2 is outside x of rank 2"}};
        },
    .traits = {.batched_sweep = true},
};

TopK topk(Arg x, int64_t k, int64_t axis) {
  Var v = record(topk_op, {x}, topk_attrs(k, axis, true));
  return {v, {&v.graph(), v.id() + 1}};
}
TopK bottomk(Arg x, int64_t k, int64_t axis) {
  Var v = record(topk_op, {x}, topk_attrs(k, axis, false));
  return {v, {&v.graph(), v.id() + 1}};
}

REGISTER_OP(argsort) = {
    .doc = "Positions (i64) that sort x along axis; stable, NaN counts as the largest",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.axis(0, c.attrs.integer("axis"));
          c.out(c.shape(0), i64);
        },
    .cpu =
        [](const KernelCall& k) {
          const View& x = k.in[0];
          int axis = axis_of(k.attrs, x.shape.rank());
          if (x.numel() == 0) return;
          int64_t* y = k.out[0].as<int64_t>();
          order_lanes(x, axis, x.shape[axis], k.attrs.flag("descending"),
                      [&](int64_t to, int64_t, int64_t i) { y[to] = i; });
        },
    .samples =
        [] {
          auto at = [](int64_t axis, bool descending) { return Attrs{{"axis", axis}, {"descending", descending}}; };
          return std::vector<Sample>{{{{.shape = {3, 5}}}, at(-1, false), "columns"},
                                     {{{.shape = {5, 3}}}, at(0, true), "rows"},
                                     {{integers({4, 9}, 3)}, at(1, true), "ties"},
                                     {{{.shape = {2, 0}}}, at(1, false), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"axis", 2}, {"descending", false}}, "axis 2 is outside x of rank 2"}};
        },
    .traits = {.nondifferentiable = true},
};

Var argsort(Arg x, int64_t axis, bool descending) {
  return record(argsort_op, {x}, {{"axis", axis}, {"descending", descending}});
}

}  // namespace whence
