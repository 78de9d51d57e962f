// Data movement without arithmetic. Most are views: the planner aliases them and they cost nothing.
#include <algorithm>

#include "autograd/sweep.h"
#include "ops/ops.h"

namespace whence {
namespace {

constexpr Traits kView{.batched_sweep = true};

void copy_kernel(const KernelCall& k) {  // same elements in row-major order, shapes may differ
  View dst = k.out[0];
  dst.shape = k.in[0].shape;
  dst.strides = contiguous_strides(dst.shape);
  copy(k.in[0], dst);
}

void viewed_kernel(const KernelCall& k, ViewFn view) {
  View seen;
  view(k.in[0], k.attrs, seen);
  copy(seen, k.out[0]);
}

Ints inverse(const Ints& axes) {
  Ints inv(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) inv[size_t(axes[i])] = int64_t(i);
  return inv;
}
Ints led(const Ints& axes, int lead) {  // an axis permutation with `lead` fixed axes in front
  Ints out;
  for (int i = 0; i < lead; ++i) out.push_back(i);
  for (int64_t a : axes) out.push_back(a + lead);
  return out;
}

// ---- reshape
void infer_reshape(InferCtx& c) {
  Shape want = c.attrs.shape("shape");
  for (int64_t d : want)
    if (d < 0) c.value_error("negative extent in " + want.str());
  if (want.numel() != c.shape(0).numel())
    c.shape_error("cannot reshape " + c.shape(0).str() + " (" + std::to_string(c.shape(0).numel()) + " elements) to " +
                  want.str() + " (" + std::to_string(want.numel()) + ")");
  c.out(want, c.dtype(0));
}
bool view_reshape(const View& in, const Attrs& attrs, View& out) {
  out = in;
  out.shape = attrs.shape("shape");
  return reshape_strides(in.shape, in.strides, out.shape, &out.strides);
}

// ---- permute
void infer_permute(InferCtx& c) {
  const Ints& axes = c.attrs.ints("axes");
  Shape s = c.shape(0);
  if (int(axes.size()) != s.rank())
    c.shape_error("permute needs " + std::to_string(s.rank()) + " axes, got " + std::to_string(axes.size()));
  unsigned seen = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    int a = c.axis(0, axes[i]);
    if (seen >> a & 1) c.value_error("axis " + std::to_string(a) + " occurs twice");
    seen |= 1u << a;
    s[int(i)] = c.shape(0)[a];
  }
  c.out(s, c.dtype(0));
}
bool view_permute(const View& in, const Attrs& attrs, View& out) {
  const Ints& axes = attrs.ints("axes");
  out = in;
  for (size_t i = 0; i < axes.size(); ++i) {
    out.shape[int(i)] = in.shape[int(axes[i])];
    out.strides[int(i)] = in.strides[int(axes[i])];
  }
  return true;
}

// ---- broadcast_to
void infer_broadcast(InferCtx& c) {
  Shape want = c.attrs.shape("shape");
  if (!broadcastable_to(c.shape(0), want)) c.shape_error("cannot broadcast " + c.shape(0).str() + " to " + want.str());
  c.out(want, c.dtype(0));
}
bool view_broadcast(const View& in, const Attrs& attrs, View& out) {
  out = in;
  out.shape = attrs.shape("shape");
  out.strides = broadcast_strides(in.shape, in.strides, out.shape);
  return true;
}
void sweep_broadcast(SweepCtx& c) { c.give(0, c.reduce_to(c.d(), 0)); }

// ---- slice and its adjoint
void infer_slice(InferCtx& c) {
  Shape s = c.shape(0);
  int a = c.axis(0, c.attrs.integer("axis"));
  int64_t begin = c.attrs.integer("begin"), end = c.attrs.integer("end"), step = c.attrs.integer("step");
  if (step < 1) c.value_error("step must be positive, got " + std::to_string(step), "use flip for the other direction");
  if (begin < 0 || begin > end || end > s[a])
    c.shape_error("[" + std::to_string(begin) + ", " + std::to_string(end) + ") is outside axis " + std::to_string(a) +
                  " of extent " + std::to_string(s[a]));
  s[a] = (end - begin + step - 1) / step;
  c.out(s, c.dtype(0));
}
bool view_slice(const View& in, const Attrs& attrs, View& out) {
  int a = normalize_axis(attrs.integer("axis"), in.shape.rank());
  int64_t begin = attrs.integer("begin"), end = attrs.integer("end"), step = attrs.integer("step");
  out = in;
  out.data = static_cast<std::byte*>(in.data) + begin * in.strides[a] * int64_t(size_of(in.dtype));
  out.shape[a] = (end - begin + step - 1) / step;
  out.strides[a] *= step;
  return true;
}
void infer_slice_adjoint(InferCtx& c) { c.out(c.attrs.shape("shape"), c.dtype(0)); }
void slice_adjoint_kernel(const KernelCall& k) {
  std::fill_n(static_cast<std::byte*>(k.out[0].data), size_t(k.out[0].numel()) * size_of(k.out[0].dtype), std::byte{0});
  View window;
  view_slice(k.out[0], k.attrs, window);
  copy(k.in[0], window);
}
Attrs slice_attrs(int64_t axis, int64_t begin, int64_t end, int64_t step) {
  return {{"axis", axis}, {"begin", begin}, {"end", end}, {"step", step}};
}

// ---- concat
void infer_concat(InferCtx& c) {
  int a = c.axis(0, c.attrs.integer("axis"));
  Shape s = c.shape(0);
  for (int i = 1; i < c.n(); ++i) {
    c.need_same_dtype(0, i);
    c.need_rank(i, s.rank());
    for (int k = 0; k < s.rank(); ++k)
      if (k != a && c.shape(i)[k] != s[k])
        c.shape_error("extents differ on axis " + std::to_string(k) + ": " + std::to_string(s[k]) + " vs " +
                      std::to_string(c.shape(i)[k]));
    s[a] += c.shape(i)[a];
  }
  c.out(s, c.dtype(0));
}
void concat_kernel(const KernelCall& k) {
  int a = normalize_axis(k.attrs.integer("axis"), k.out[0].shape.rank());
  View window = k.out[0];
  for (const View& in : k.in) {
    window.shape[a] = in.shape[a];
    copy(in, window);
    window.data = static_cast<std::byte*>(window.data) + in.shape[a] * window.strides[a] * int64_t(size_of(in.dtype));
  }
}
void sweep_concat(SweepCtx& c) {
  int64_t a = normalize_axis(c.attrs.integer("axis"), c.out().rank()), at = 0;
  for (int i = 0; i < c.n_in(); ++i) {
    int64_t n = c.in(i).shape()[int(a)];
    if (c.needs(i)) c.give(i, slice(c.d(), a + c.lead(), at, at + n));
    at += n;
  }
}
void absorbed_concat(SweepCtx& c) {
  int64_t a = normalize_axis(c.attrs.integer("axis"), c.out().rank()), at = 0;
  for (int i = 0; i < c.n_in(); ++i) {
    int64_t n = c.in(i).shape()[int(a)];
    if (!c.carries(i)) c.absorb("constant", slice(c.d(), a + c.lead(), at, at + n));
    at += n;
  }
}

}  // namespace

REGISTER_OP(reshape) = {
    .doc = "the same elements in another shape",
    .operands = {"x"},
    .infer = infer_reshape,
    .view = view_reshape,
    .cpu = {copy_kernel, {.floats = kAllFloats, .strided = true}},
    .vjp = [](SweepCtx& c) { c.give(0, reshape(c.d(), c.shape_of(0))); },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {2, 6}}}, {{"shape", Ints{3, 4}}}, "matrix"},
                                     {{{.shape = {1}}}, {{"shape", Ints{}}}, "scalar"},
                                     {{{.shape = {0, 3}}}, {{"shape", Ints{3, 0, 2}}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, {{"shape", Ints{4}}}, "cannot reshape"}};
        },
    .traits = kView,
};
REGISTER_OP(permute) = {
    .doc = "axes in another order",
    .operands = {"x"},
    .infer = infer_permute,
    .view = view_permute,
    .cpu = {[](const KernelCall& k) { viewed_kernel(k, view_permute); }, {.floats = kAllFloats, .strided = true}},
    .vjp = [](SweepCtx& c) { c.give(0, permute(c.d(), led(inverse(c.attrs.ints("axes")), c.lead()))); },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {2, 3, 4}}}, {{"axes", Ints{2, 0, 1}}}, "cycle"},
                                     {{{.shape = {3, 0}}}, {{"axes", Ints{1, 0}}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, {{"axes", Ints{0}}}, "permute needs 2 axes"},
                                          {{{{2, 3}, f32}}, {{"axes", Ints{0, 0}}}, "occurs twice"}};
        },
    .traits = kView,
};
REGISTER_OP(broadcast_to) = {
    .doc = "x repeated along axes of extent one and new leading axes",
    .operands = {"x"},
    .infer = infer_broadcast,
    .view = view_broadcast,
    .cpu = {[](const KernelCall& k) { viewed_kernel(k, view_broadcast); }, {.floats = kAllFloats, .strided = true}},
    .vjp = sweep_broadcast,
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 1}}}, {{"shape", Ints{2, 3, 4}}}, "column"},
                                     {{{.shape = {}}}, {{"shape", Ints{5}}}, "scalar"},
                                     {{{.shape = {1}}}, {{"shape", Ints{0}}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, {{"shape", Ints{3, 2}}}, "cannot broadcast"}};
        },
    .traits = kView,
};
REGISTER_OP(slice) = {
    .doc = "x[begin:end:step] along one axis",
    .operands = {"x"},
    .infer = infer_slice,
    .view = view_slice,
    .cpu = {[](const KernelCall& k) { viewed_kernel(k, view_slice); }, {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          int64_t a = normalize_axis(c.attrs.integer("axis"), c.in().rank()) + c.lead();
          Attrs attrs = slice_attrs(a, c.attrs.integer("begin"), c.attrs.integer("end"), c.attrs.integer("step"));
          attrs.set({"shape", c.shape_of(0)});
          c.give(0, record(op_named("slice_adjoint"), {c.d()}, attrs));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 5}}}, slice_attrs(1, 1, 4, 1), "middle"},
                                     {{{.shape = {7}}}, slice_attrs(0, 1, 7, 3), "strided"},
                                     {{{.shape = {3, 4}}}, slice_attrs(0, 2, 2, 1), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{3}, f32}}, slice_attrs(0, 1, 5, 1), "is outside axis 0"},
                                          {{{{3}, f32}}, slice_attrs(0, 0, 3, 0), "step must be positive"},
                                          {{{{3}, f32}}, slice_attrs(1, 0, 3, 1), "axis 1 is outside"}};
        },
    .traits = kView,
};
REGISTER_OP(slice_adjoint) = {
    .doc = "zeros of `shape` with x placed where slice would read",
    .operands = {"x"},
    .infer = infer_slice_adjoint,
    .cpu = {slice_adjoint_kernel, {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          int64_t a = normalize_axis(c.attrs.integer("axis"), c.in().rank());
          c.give(0,
                 slice(c.d(), a + c.lead(), c.attrs.integer("begin"), c.attrs.integer("end"), c.attrs.integer("step")));
        },
    .samples =
        [] {
          Attrs a = slice_attrs(0, 1, 7, 3);
          a.set({"shape", Ints{7}});
          return std::vector<Sample>{{{{.shape = {2}}}, a, "strided"}};
        },
    .errors = [] { return std::vector<ErrorSample>{}; },
    .traits = {.batched_sweep = true, .backward = true},
};
REGISTER_OP(concat) = {
    .doc = "operands one after the other along an axis",
    .operands = {"x..."},
    .infer = infer_concat,
    .cpu = {concat_kernel, {.floats = kAllFloats, .strided = true}},
    .vjp = sweep_concat,
    .relevance = lrp::reindex,
    .absorbed = absorbed_concat,
    .samples =
        [] {
          return std::vector<Sample>{
              {{{.shape = {2, 3}}, {.shape = {2, 1}}, {.shape = {2, 2}}}, {{"axis", 1}}, "three"},
              {{{.shape = {2}}, {.shape = {0}}}, {{"axis", 0}}, "empty"},
              {{{.shape = {2, 2}}}, {{"axis", -1}}, "one"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}, {{3, 3}, f32}}, {{"axis", 1}}, "extents differ on axis 0"}};
        },
    .traits = {.batched_sweep = true},
};

// ---- the public functions -----------------------------------------------------------------------------------------

Var reshape(Arg x, Shape shape) {
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1 && open < 0) open = i;
    else known *= shape[i];
  }
  if (open >= 0 && known > 0 && x.shape().numel() % known == 0) shape[open] = x.shape().numel() / known;
  if (shape == x.shape()) return x;
  return record(reshape_op, {x}, {{"shape", shape}});
}

Var permute(Arg x, Ints axes) {
  bool same = int(axes.size()) == x.rank();
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] < 0) axes[i] += x.rank();
    same = same && axes[i] == int64_t(i);
  }
  if (same) return x;
  return record(permute_op, {x}, {{"axes", std::move(axes)}});
}

Var transpose(Arg x, int64_t a, int64_t b) {
  Ints axes(size_t(x.rank()));
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = int64_t(i);
  if (a < 0) a += x.rank();
  if (b < 0) b += x.rank();
  if (std::min(a, b) < 0 || std::max(a, b) >= x.rank()) axes = {a, b};  // permute names the error
  else std::swap(axes[size_t(a)], axes[size_t(b)]);
  return permute(x, std::move(axes));
}

Var squeeze(Arg x, int64_t axis) {
  Shape s = x.shape();
  int a = normalize_axis(axis, s.rank());
  if (s[a] != 1) throw ShapeError("[squeeze] axis " + std::to_string(a) + " of " + s.str() + " is not of extent one");
  s.erase(a);
  return reshape(x, s);
}

Var unsqueeze(Arg x, int64_t axis) {
  Shape s = x.shape();
  s.insert(normalize_axis(axis, s.rank() + 1), 1);
  return reshape(x, s);
}

Var broadcast_to(Arg x, Shape shape) {
  return shape == x.shape() ? x.var : record(broadcast_to_op, {x}, {{"shape", shape}});
}

Var sum_to(Arg x, Shape shape) {
  if (x.shape() == shape) return x;
  LocationGuard at(x);
  if (!broadcastable_to(shape, x.shape()))
    throw ShapeError("[sum_to] " + x.shape().str() + " does not reduce to " + shape.str());
  Ints axes;
  int extra = x.rank() - shape.rank();
  for (int a = 0; a < x.rank(); ++a)
    if (a < extra || (shape[a - extra] == 1 && x.shape()[a] != 1)) axes.push_back(a);
  return reshape(sum(x, axes), shape);
}

Var concat(const std::vector<Var>& xs, int64_t axis, std::source_location where) {
  if (xs.empty()) throw ValueError("[concat] needs at least one operand");
  return xs[0].graph().record(concat_op, xs, {{"axis", axis}}, where);
}

Var stack(const std::vector<Var>& xs, int64_t axis, std::source_location where) {
  if (xs.empty()) throw ValueError("[stack] needs at least one operand");
  LocationGuard at(xs[0].graph(), where);
  int a = normalize_axis(axis, xs[0].rank() + 1);
  std::vector<Var> rows;
  for (const Var& x : xs) {
    if (!(x.shape() == xs[0].shape()))
      throw ShapeError("[stack] shapes differ: " + xs[0].shape().str() + " vs " + x.shape().str());
    rows.push_back(unsqueeze(x, a));
  }
  return concat(rows, a, where);
}

std::vector<Var> split(Arg x, Ints sizes, int64_t axis) {
  LocationGuard at(x);
  int a = normalize_axis(axis, x.rank());
  int64_t begin = 0;
  std::vector<Var> parts;
  for (int64_t n : sizes) {
    parts.push_back(slice(x, a, begin, begin + n));
    begin += n;
  }
  if (begin != x.shape()[a])
    throw ShapeError("[split] sizes add up to " + std::to_string(begin) + ", axis " + std::to_string(a) + " of " +
                     x.shape().str() + " has " + std::to_string(x.shape()[a]));
  return parts;
}

std::vector<Var> chunk(Arg x, int64_t parts, int64_t axis) {
  int64_t n = x.shape()[normalize_axis(axis, x.rank())];
  if (parts < 1 || n % parts)
    throw ShapeError("[chunk] an extent of " + std::to_string(n) + " does not divide into " + std::to_string(parts) +
                     " parts");
  return split(x, Ints(size_t(parts), n / parts), axis);
}

Var slice(Arg x, int64_t axis, int64_t begin, int64_t end, int64_t step) {
  int64_t n = axis >= -x.rank() && axis < x.rank() ? x.shape()[int(axis)] : 0;
  if (begin < 0) begin += n;
  if (end < 0) end += n;
  if (end == INT64_MAX) end = n;
  if (begin == 0 && end == n && step == 1) return x;
  return record(slice_op, {x}, slice_attrs(axis, begin, end, step));
}

Var select(Arg x, int64_t axis, int64_t index) {
  LocationGuard at(x);
  int a = normalize_axis(axis, x.rank());
  if (index < 0) index += x.shape()[a];
  return squeeze(slice(x, a, index, index + 1), a);
}

}  // namespace whence
