// Data movement without arithmetic. Most are views: the planner aliases them and they cost nothing.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

constexpr Traits kView{.batched_sweep = true};

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
int64_t known_extents(const Shape& s) {
  int64_t n = 1;
  for (int64_t d : s) n = multiply_extents(n, d == -1 ? 1 : d);
  return n;
}
void infer_reshape(InferCtx& infer) {
  Shape want = infer.attrs.shape("shape");
  for (int64_t d : want)
    if (d < -1) infer.shape_error("negative extent in " + want.str());
  if (int64_t open = std::count(want.begin(), want.end(), -1); open > 1)
    infer.shape_error(std::to_string(open) + " open extents in " + want.str(), "one may be -1");
  else if (open == 1)  // reshape() found no extent
    infer.shape_error(std::to_string(infer.shape(0).numel()) + " elements do not divide by " +
                      std::to_string(known_extents(want)) + ": no extent stands for -1 in " + want.str());
  check_extents(want);
  if (want.numel() != infer.shape(0).numel())
    infer.shape_error("cannot reshape " + infer.shape(0).str() + " (" + std::to_string(infer.shape(0).numel()) +
                      " elements) to " + want.str() + " (" + std::to_string(want.numel()) + ")");
  infer.out(want, infer.dtype(0));
}
bool view_reshape(const View& in, const Attrs& attrs, View& out) {
  out = in;
  out.shape = attrs.shape("shape");
  return reshape_strides(in.shape, in.strides, out.shape, &out.strides);
}

// ---- permute
void infer_permute(InferCtx& infer) {
  const Ints& axes = infer.attrs.ints("axes");
  Shape s = infer.shape(0);
  if (int(axes.size()) != s.rank())
    infer.shape_error("permute needs " + std::to_string(s.rank()) + " axes, got " + std::to_string(axes.size()));
  unsigned seen = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    int a = infer.axis(0, axes[i]);
    if (seen >> a & 1) infer.value_error("axis " + std::to_string(a) + " occurs twice");
    seen |= 1u << a;
    s[int(i)] = infer.shape(0)[a];
  }
  infer.out(s, infer.dtype(0));
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
void infer_broadcast(InferCtx& infer) {
  Shape want = infer.attrs.shape("shape");
  check_extents(want);
  if (!broadcastable_to(infer.shape(0), want))
    infer.shape_error("cannot broadcast " + infer.shape(0).str() + " to " + want.str());
  infer.out(want, infer.dtype(0));
}
bool view_broadcast(const View& in, const Attrs& attrs, View& out) {
  out = in;
  out.shape = attrs.shape("shape");
  out.strides = broadcast_strides(in.shape, in.strides, out.shape);
  return true;
}
void sweep_broadcast(SweepCtx& sweep) { sweep.give(0, sweep.reduce_to(sweep.d(), 0)); }

// ---- slice and its adjoint
void infer_slice(InferCtx& infer) {
  Shape s = infer.shape(0);
  auto [axis, begin, end, step] = SliceAttrs::of(infer.attrs);
  int a = infer.axis(0, axis);
  if (step < 1)
    infer.value_error("step must be positive, got " + std::to_string(step), "use flip for the other direction");
  if (begin < 0 || begin > end || end > s[a])
    infer.shape_error("[" + std::to_string(begin) + ", " + std::to_string(end) + ") is outside axis " +
                      std::to_string(a) + " of extent " + std::to_string(s[a]));
  s[a] = SliceAttrs::of(infer.attrs).count();
  infer.out(s, infer.dtype(0));
}
bool view_slice(const View& in, const Attrs& attrs, View& out) {
  out = SliceAttrs::of(attrs).view(in);
  return true;
}
void infer_slice_adjoint(InferCtx& infer) { infer.out(infer.attrs.shape("shape"), infer.dtype(0)); }

}  // namespace

REGISTER_OP(reshape) = {
    .doc = "the same elements in another shape",
    .operands = {"x"},
    .infer = infer_reshape,
    .view = view_reshape,
    .vjp = [](SweepCtx& sweep) { sweep.give(0, reshape(sweep.d(), sweep.shape_of(0))); },
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
    .vjp =
        [](SweepCtx& sweep) {
          sweep.give(0, permute(sweep.d(), led(inverse(sweep.attrs.ints("axes")), sweep.lead())));
        },
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
    .vjp =
        [](SweepCtx& sweep) {
          SliceAttrs at = SliceAttrs::of(sweep.attrs);
          at.axis = normalize_axis(at.axis, sweep.in().rank()) + sweep.lead();
          Attrs attrs = at.attrs();
          attrs.set({"shape", sweep.shape_of(0)});
          sweep.give(0, record(op_named("slice_adjoint"), {sweep.d()}, attrs));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 5}}}, SliceAttrs{1, 1, 4, 1}.attrs(), "middle"},
                                     {{{.shape = {7}}}, SliceAttrs{0, 1, 7, 3}.attrs(), "strided"},
                                     {{{.shape = {3, 4}}}, SliceAttrs{0, 2, 2, 1}.attrs(), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{3}, f32}}, SliceAttrs{0, 1, 5, 1}.attrs(), "is outside axis 0"},
                                          {{{{3}, f32}}, SliceAttrs{0, 0, 3, 0}.attrs(), "step must be positive"},
                                          {{{{3}, f32}}, SliceAttrs{1, 0, 3, 1}.attrs(), "axis 1 is outside"}};
        },
    .traits = kView,
};
REGISTER_OP(slice_adjoint) = {
    .doc = "zeros of `shape` with x placed where slice would read",
    .operands = {"x"},
    .infer = infer_slice_adjoint,
    .vjp =
        [](SweepCtx& sweep) {
          auto [axis, begin, end, step] = SliceAttrs::of(sweep.attrs);
          sweep.give(0, slice(sweep.d(), normalize_axis(axis, sweep.in().rank()) + sweep.lead(), begin, end, step));
        },
    .samples =
        [] {
          Attrs a = SliceAttrs{0, 1, 7, 3}.attrs();
          a.set({"shape", Ints{7}});
          return std::vector<Sample>{{{{.shape = {2}}}, a, "strided"}};
        },
    .errors = [] { return std::vector<ErrorSample>{}; },
    .traits = {.batched_sweep = true, .backward = true},
};
// ---- the public functions -----------------------------------------------------------------------------------------

Var reshape(Arg x, Shape shape) {
  if (std::count(shape.begin(), shape.end(), -1) == 1) {
    LocationGuard at(x);
    int64_t n = x.shape().numel(), known = known_extents(shape);
    if (known > 0 && n % known == 0) *std::find(shape.begin(), shape.end(), -1) = n / known;
  }
  if (shape == x.shape()) return x;
  return record(reshape_op, {x}, {{"shape", shape}});
}

Var permute(Arg x, Ints axes) {
  bool same = int(axes.size()) == x.rank();
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] < 0 && axes[i] >= -x.rank()) axes[i] += x.rank();
    same = same && axes[i] == int64_t(i);
  }
  if (same) return x;
  return record(permute_op, {x}, {{"axes", std::move(axes)}});
}

Var transpose(Arg x, int64_t a, int64_t b) {
  Ints axes(size_t(x.rank()));
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = int64_t(i);
  if (a < 0 && a >= -x.rank()) a += x.rank();
  if (b < 0 && b >= -x.rank()) b += x.rank();
  if (std::min(a, b) < 0 || std::max(a, b) >= x.rank()) axes = {a, b};  // permute names the error
  else std::swap(axes[size_t(a)], axes[size_t(b)]);
  return permute(x, std::move(axes));
}

Var squeeze(Arg x, int64_t axis) {
  LocationGuard at(x);
  Shape s = x.shape();
  int a = normalize_axis(axis, s.rank());
  if (s[a] != 1) throw ShapeError("[squeeze] axis " + std::to_string(a) + " of " + s.str() + " is not of extent one");
  s.erase(a);
  return reshape(x, s);
}

Var unsqueeze(Arg x, int64_t axis) {
  LocationGuard at(x);
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

Var slice(Arg x, int64_t axis, int64_t begin, int64_t end, int64_t step) {
  bool inside = axis >= -x.rank() && axis < x.rank();  // else the op says so
  int64_t n = inside ? x.shape()[int(axis)] : 0;
  if (begin < 0) begin += n;
  if (end < 0) end = std::max<int64_t>(end + n, n ? INT64_MIN : 0);  // of an empty axis: nothing
  if (end == INT64_MAX) end = n;
  if (inside && begin == 0 && end == n && step == 1) return x;
  return record(slice_op, {x}, SliceAttrs{axis, begin, end, step}.attrs());
}

Var select(Arg x, int64_t axis, int64_t index) {
  LocationGuard at(x);
  int a = normalize_axis(axis, x.rank());
  int64_t n = x.shape()[a];
  if (index < -n || index >= n)
    throw ShapeError("[select] index " + std::to_string(index) + " is outside axis " + std::to_string(a) +
                     " of extent " + std::to_string(n));
  if (index < 0) index += n;
  return squeeze(slice(x, a, index, index + 1), a);
}

Var Var::operator[](IndexAt i) const { return select(Arg(*this, i.where), 0, i.index); }

Var Var::at(std::initializer_list<Index> parts, std::source_location where) const {
  const Arg whole(*this, where);
  LocationGuard line(whole);
  if (int(parts.size()) > rank())
    throw ShapeError("[at] " + std::to_string(parts.size()) + " parts of a value with " + std::to_string(rank()) +
                     " axes, " + shape().str() + at_line(where));
  Var x = *this;
  int axis = 0;
  for (const Index& i : parts)
    if (i.position) x = select(x, axis, i.part.begin);
    else x = slice(x, axis++, i.part.begin, i.part.end, i.part.step);
  return x;
}

}  // namespace whence
