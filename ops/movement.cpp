// Data movement that copies: pad, flip, roll, repeat, repeat_interleave, and arange. Each axis moves on its own, so all
// of them are one kernel with a table per axis (ops/cpu/remap.h).
#include <algorithm>

#include "autograd/sweep.h"
#include "ops/cpu/remap.h"
#include "ops/floats.h"
#include "ops/ops.h"

namespace whence {
namespace {

using cpu::AxisMaps;

int64_t modulo(int64_t a, int64_t n) { return n ? ((a % n) + n) % n : 0; }

constexpr Traits kMove{.batched_sweep = true};

// ---- pad ----------------------------------------------------------------------------------------------------------

AxisMaps pad_maps(const Shape& x, const Ints& pads, PadMode mode) {
  AxisMaps maps(size_t(x.rank()));
  for (int a = 0; a < x.rank(); ++a) {
    int64_t before = pads[size_t(2 * a)], after = pads[size_t(2 * a + 1)], n = x[a];
    if (!before && !after) continue;
    for (int64_t i = 0; i < n + before + after; ++i) {
      int64_t from = i - before;
      if (from < 0 || from >= n) switch (mode) {
          case PadMode::constant: from = cpu::kFill; break;
          case PadMode::reflect: from = from < 0 ? -from : 2 * (n - 1) - from; break;
          case PadMode::replicate: from = from < 0 ? 0 : n - 1; break;
          case PadMode::circular: from = modulo(from, n); break;
        }
      maps[size_t(a)].push_back(from);
    }
  }
  return maps;
}

PadMode pad_mode(const Attrs& attrs) { return PadMode(attrs.integer("mode")); }

Shape padded(InferCtx& c, Shape s) {
  const Ints& pads = c.attrs.ints("pads");
  if (int(pads.size()) != 2 * s.rank())
    c.value_error("pads has " + std::to_string(pads.size()) + " entries, rank " + std::to_string(s.rank()) + " needs " +
                      std::to_string(2 * s.rank()),
                  "give {before, after} for every axis, axis 0 first");
  PadMode mode = pad_mode(c.attrs);
  for (int a = 0; a < s.rank(); ++a) {
    int64_t before = pads[size_t(2 * a)], after = pads[size_t(2 * a + 1)], n = s[a];
    std::string where = "axis " + std::to_string(a) + " of extent " + std::to_string(n) + " cannot take pads " +
                        std::to_string(before) + " and " + std::to_string(after);
    if (mode != PadMode::constant && (before < 0 || after < 0)) c.value_error(where, "only constant padding may crop");
    if (mode == PadMode::reflect && (before || after) && std::max(before, after) >= n)
      c.shape_error(where, "reflection shows at most extent - 1 elements");
    if (mode == PadMode::replicate && (before || after) && n == 0) c.shape_error(where, "there is no edge to repeat");
    if (mode == PadMode::circular && std::max(before, after) > n)
      c.shape_error(where, "wrapping shows at most extent elements");
    if (n + before + after < 0) c.shape_error(where);
    s[a] = n + before + after;
  }
  return s;
}

Attrs pad_attrs(Ints pads, PadMode mode, double value) {
  return {{"pads", std::move(pads)}, {"mode", int64_t(mode)}, {"value", value}};
}

Ints lead_pads(const Ints& pads, int lead) {
  Ints p(size_t(2 * lead), 0);
  p.insert(p.end(), pads.begin(), pads.end());
  return p;
}

Var pad_adjoint(Var d, const Ints& pads, PadMode mode, const Shape& shape);

void vjp_pad(SweepCtx& c) {
  Ints pads = lead_pads(c.attrs.ints("pads"), c.lead());
  if (pad_mode(c.attrs) != PadMode::constant)
    return c.give(0, pad_adjoint(c.d(), pads, pad_mode(c.attrs), c.shape_of(0)));
  for (int64_t& p : pads) p = -p;  // cropping what was added; what was cropped gets zero
  c.give(0, pad(c.d(), pads));
}

// Relevance on padding: an indicator of the filled places times R.
void absorbed_pad(SweepCtx& c) {
  if (pad_mode(c.attrs) != PadMode::constant) return;
  Var zeros = broadcast_to(c.graph.constant(0.0, c.d().dtype()), c.in().shape());
  c.absorb("padding", c.d() * pad(zeros, c.attrs.ints("pads"), PadMode::constant, 1.0));
}

std::vector<Sample> pad_samples() {
  auto at = [](Ints pads, PadMode mode, double value = 0) { return pad_attrs(std::move(pads), mode, value); };
  return {{{{.shape = {3, 2}}}, at({1, 2, 0, 1}, PadMode::constant, 0.5), "constant"},
          {{{.shape = {5}}}, at({-1, -2}, PadMode::constant), "crop"},
          {{{.shape = {2, 3}}}, at({0, 0, -1, 1}, PadMode::constant), "shift"},
          {{{.shape = {0, 3}}}, at({1, 1, 0, 0}, PadMode::constant, 2), "empty"},
          {{{.shape = {2, 0}}}, at({0, 0, 0, 0}, PadMode::constant), "nothing"},
          {{{.shape = {}}}, at({}, PadMode::constant), "scalar"},
          {{{.shape = {3, 4}}}, at({2, 1, 1, 3}, PadMode::reflect), "reflect"},
          {{{.shape = {2, 3}}}, at({1, 0, 2, 1}, PadMode::replicate), "replicate"},
          {{{.shape = {4, 2}}}, at({3, 4, 0, 1}, PadMode::circular), "circular"},
          {{{.shape = {3, 5, 67}}}, at({1, 0, 0, 0, 3, 2}, PadMode::reflect), "odd"}};
}

}  // namespace

REGISTER_OP(pad) = {
    .doc =
        "x with `before` and `after` elements added at both ends of each axis; constant pads may be negative and crop",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(padded(c, c.shape(0)), c.dtype(0)); },
    .cpu = {[](const KernelCall& k) {
              cpu::remap(k.in[0], k.out[0], pad_maps(k.in[0].shape, k.attrs.ints("pads"), pad_mode(k.attrs)),
                         k.attrs.real("value"));
            },
            {.floats = kAllFloats, .strided = true}},
    .vjp = vjp_pad,
    .relevance = lrp::reindex,
    .absorbed = absorbed_pad,
    .samples = pad_samples,
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, pad_attrs({1, 1}, PadMode::constant, 0), "pads has 2 entries, rank 2 needs 4"},
              {{{{3}, f32}}, pad_attrs({3, 0}, PadMode::reflect, 0), "axis 0 of extent 3 cannot take pads 3 and 0"},
              {{{{3}, f32}}, pad_attrs({-1, 0}, PadMode::replicate, 0), "only constant padding may crop"},
              {{{{0}, f32}}, pad_attrs({1, 0}, PadMode::replicate, 0), "there is no edge to repeat"},
              {{{{3}, f32}}, pad_attrs({0, 4}, PadMode::circular, 0), "wrapping shows at most extent elements"},
              {{{{3}, f32}},
               pad_attrs({-2, -2}, PadMode::constant, 0),
               "axis 0 of extent 3 cannot take pads -2 and -2"}};
        },
    .traits = kMove,
};

// dx of reflect, replicate and circular padding: every copy of an element adds to it.
REGISTER_OP(pad_adjoint) = {
    .doc = "Adjoint of pad: the copies of each element added up",
    .operands = {"d"},
    .infer =
        [](InferCtx& c) {
          c.need_float(0);
          Shape x = c.attrs.shape("shape"), want = padded(c, x);
          if (!(want == c.shape(0)))
            c.shape_error("x " + x.str() + " padded has shape " + want.str() + ", d " + c.shape(0).str());
          c.out(x, c.dtype(0));
        },
    .cpu =
        [](const KernelCall& k) {
          cpu::remap_adjoint(k.in[0], k.out[0], pad_maps(k.out[0].shape, k.attrs.ints("pads"), pad_mode(k.attrs)));
        },
    .vjp = [](SweepCtx& c) { c.give(0, pad(c.d(), lead_pads(c.attrs.ints("pads"), c.lead()), pad_mode(c.attrs))); },
    .samples =
        [] {
          auto at = [](Ints pads, PadMode mode, Shape shape) {
            return Attrs{{"pads", std::move(pads)}, {"mode", int64_t(mode)}, {"shape", shape}};
          };
          return std::vector<Sample>{{{{.shape = {5, 4}}}, at({2, 0, 1, 1}, PadMode::reflect, {3, 2}), "reflect"},
                                     {{{.shape = {4, 3}}}, at({1, 1, 0, 0}, PadMode::replicate, {2, 3}), "replicate"},
                                     {{{.shape = {7}}}, at({3, 1}, PadMode::circular, {3}), "circular"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4}, i32}}, {{"pads", Ints{1, 1}}, {"mode", 1}, {"shape", Ints{2}}}, "d must be floating point"},
              {{{{4}, f32}},
               {{"pads", Ints{1, 1}}, {"mode", 1}, {"shape", Ints{3}}},
               "x [3] padded has shape [5], d [4]"}};
        },
    .traits = {.batched_sweep = true, .backward = true},
};

namespace {
Var pad_adjoint(Var d, const Ints& pads, PadMode mode, const Shape& shape) {
  return record(pad_adjoint_op, {d}, {{"pads", pads}, {"mode", int64_t(mode)}, {"shape", shape}});
}
}  // namespace

Var pad(Arg x, Ints pads, PadMode mode, double value) {
  return record(pad_op, {x}, pad_attrs(std::move(pads), mode, value));
}

// ---- flip, roll ---------------------------------------------------------------------------------------------------

REGISTER_OP(flip) = {
    .doc = "x with the given axes reversed",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          std::vector<char> seen(size_t(c.rank(0)));
          for (int64_t a : c.attrs.ints("axes"))
            if (char& s = seen[size_t(c.axis(0, a))]; s++)
              c.shape_error("axis " + std::to_string(a) + " is named twice");
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = {[](const KernelCall& k) {
              AxisMaps maps(size_t(k.in[0].shape.rank()));
              for (int64_t a : k.attrs.ints("axes")) {
                int axis = normalize_axis(a, k.in[0].shape.rank());
                for (int64_t n = k.in[0].shape[axis]; n-- > 0;) maps[size_t(axis)].push_back(n);
              }
              cpu::remap(k.in[0], k.out[0], maps);
            },
            {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          Ints axes;
          for (int64_t a : c.attrs.ints("axes")) axes.push_back(normalize_axis(a, c.in().rank()) + c.lead());
          c.give(0, flip(c.d(), axes));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 4}}}, {{"axes", Ints{0}}}, "rows"},
                                     {{{.shape = {3, 5}}}, {{"axes", Ints{0, -1}}}, "both"},
                                     {{{.shape = {2, 0, 3}}}, {{"axes", Ints{2}}}, "empty"},
                                     {{{.shape = {67}}}, {{"axes", Ints{0}}}, "odd"},
                                     {{{.shape = {2, 3}}}, {{"axes", Ints{}}}, "none"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{2, 3}, f32}}, {{"axes", Ints{2}}}, "axis 2 is outside x of rank 2"},
                                          {{{{2, 3}, f32}}, {{"axes", Ints{1, -1}}}, "axis -1 is named twice"}};
        },
    .traits = kMove,
};

Var flip(Arg x, Ints axes) { return record(flip_op, {x}, {{"axes", std::move(axes)}}); }

REGISTER_OP(roll) = {
    .doc = "x shifted by `shifts[i]` along `axes[i]`; what leaves at one end enters at the other",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          const Ints &axes = c.attrs.ints("axes"), &shifts = c.attrs.ints("shifts");
          if (axes.size() != shifts.size())
            c.value_error(std::to_string(shifts.size()) + " shifts for " + std::to_string(axes.size()) + " axes",
                          "give one shift per axis");
          for (int64_t a : axes) c.axis(0, a);
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = {[](const KernelCall& k) {
              const Shape& s = k.in[0].shape;
              const Ints &axes = k.attrs.ints("axes"), &shifts = k.attrs.ints("shifts");
              Ints by(size_t(s.rank()), 0);
              for (size_t i = 0; i < axes.size(); ++i) {
                int a = normalize_axis(axes[i], s.rank());
                by[size_t(a)] = modulo(by[size_t(a)] + modulo(shifts[i], s[a]), s[a]);
              }
              AxisMaps maps(by.size());
              for (int a = 0; a < s.rank(); ++a)
                if (by[size_t(a)])
                  for (int64_t i = 0; i < s[a]; ++i) maps[size_t(a)].push_back(modulo(i - by[size_t(a)], s[a]));
              cpu::remap(k.in[0], k.out[0], maps);
            },
            {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          Ints shifts = c.attrs.ints("shifts"), axes;
          for (int64_t& s : shifts) s = -s;
          for (int64_t a : c.attrs.ints("axes")) axes.push_back(normalize_axis(a, c.in().rank()) + c.lead());
          c.give(0, roll(c.d(), shifts, axes));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          auto at = [](Ints shifts, Ints axes) {
            return Attrs{{"shifts", std::move(shifts)}, {"axes", std::move(axes)}};
          };
          return std::vector<Sample>{{{{.shape = {3, 4}}}, at({1, -2}, {0, 1}), "both"},
                                     {{{.shape = {5}}}, at({13}, {0}), "wraps"},
                                     {{{.shape = {4, 3}}}, at({1, 2}, {0, 0}), "twice"},
                                     {{{.shape = {2, 0}}}, at({1}, {1}), "empty"},
                                     {{{.shape = {3, 67}}}, at({-5}, {-1}), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"shifts", Ints{1}}, {"axes", Ints{0, 1}}}, "1 shifts for 2 axes"},
              {{{{2, 3}, f32}}, {{"shifts", Ints{1}}, {"axes", Ints{-3}}}, "axis -3 is outside x of rank 2"}};
        },
    .traits = kMove,
};

Var roll(Arg x, Ints shifts, Ints axes) {
  return record(roll_op, {x}, {{"shifts", std::move(shifts)}, {"axes", std::move(axes)}});
}

// ---- repeat, repeat_interleave ------------------------------------------------------------------------------------

namespace {

// Sums the copies of each element along one axis; tiled: abab, otherwise aabb. (outer, copies x n, inner) -> (outer, n,
// inner)
Var fold_copies(Var d, int axis, int64_t copies, int64_t n, bool tiled) {
  Shape s = d.shape();
  int64_t outer = 1, inner = 1;
  for (int a = 0; a < axis; ++a) outer *= s[a];
  for (int a = axis + 1; a < s.rank(); ++a) inner *= s[a];
  s[axis] = n;
  Var parts = tiled ? reshape(d, {outer, copies, n, inner}) : reshape(d, {outer, n, copies, inner});
  return reshape(sum(parts, {tiled ? 1 : 2}), s);
}

}  // namespace

REGISTER_OP(repeat) = {
    .doc = "x tiled `repeats[a]` times along axis a",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          const Ints& r = c.attrs.ints("repeats");
          Shape s = c.shape(0);
          if (int(r.size()) != s.rank())
            c.value_error(std::to_string(r.size()) + " repeats for rank " + std::to_string(s.rank()));
          for (int a = 0; a < s.rank(); ++a) {
            if (r[size_t(a)] < 0)
              c.value_error("repeats must not be negative, got " + std::to_string(r[size_t(a)]) + " for axis " +
                            std::to_string(a));
            s[a] *= r[size_t(a)];
          }
          c.out(s, c.dtype(0));
        },
    .cpu = {[](const KernelCall& k) {
              const Shape &s = k.in[0].shape, &t = k.out[0].shape;
              AxisMaps maps(size_t(s.rank()));
              for (int a = 0; a < s.rank(); ++a)
                if (t[a] != s[a])
                  for (int64_t i = 0; i < t[a]; ++i) maps[size_t(a)].push_back(i % s[a]);
              cpu::remap(k.in[0], k.out[0], maps);
            },
            {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          Var d = c.d();
          const Ints& r = c.attrs.ints("repeats");
          for (int a = 0; a < c.in().rank(); ++a)
            if (r[size_t(a)] != 1) d = fold_copies(d, a + c.lead(), r[size_t(a)], c.in().shape()[a], true);
          c.give(0, d);
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 2}}}, {{"repeats", Ints{2, 3}}}, "both"},
                                     {{{.shape = {2, 1, 5}}}, {{"repeats", Ints{1, 4, 1}}}, "middle"},
                                     {{{.shape = {3, 2}}}, {{"repeats", Ints{0, 2}}}, "none"},
                                     {{{.shape = {0, 2}}}, {{"repeats", Ints{3, 2}}}, "empty"},
                                     {{{.shape = {67}}}, {{"repeats", Ints{3}}}, "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"repeats", Ints{2}}}, "1 repeats for rank 2"},
              {{{{2}, f32}}, {{"repeats", Ints{-1}}}, "repeats must not be negative, got -1 for axis 0"}};
        },
    .traits = kMove,
};

Var repeat(Arg x, Ints repeats) {
  LocationGuard at(x);
  Shape s = x.shape();
  while (s.rank() < int(repeats.size())) s.insert(0, 1);
  while (int(repeats.size()) < s.rank()) repeats.insert(repeats.begin(), 1);
  Var v = s.rank() == x.rank() ? x.var : reshape(x, s);
  return record(repeat_op, {v}, {{"repeats", std::move(repeats)}});
}

REGISTER_OP(repeat_interleave) = {
    .doc = "every element of an axis `repeats` times in a row: aabbcc",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          int64_t r = c.attrs.integer("repeats");
          if (r < 0) c.value_error("repeats must not be negative, got " + std::to_string(r));
          Shape s = c.shape(0);
          s[c.axis(0, c.attrs.integer("axis"))] *= r;
          c.out(s, c.dtype(0));
        },
    .cpu = {[](const KernelCall& k) {
              AxisMaps maps(size_t(k.in[0].shape.rank()));
              int a = normalize_axis(k.attrs.integer("axis"), k.in[0].shape.rank());
              for (int64_t i = 0; i < k.out[0].shape[a]; ++i) maps[size_t(a)].push_back(i / k.attrs.integer("repeats"));
              cpu::remap(k.in[0], k.out[0], maps);
            },
            {.floats = kAllFloats, .strided = true}},
    .vjp =
        [](SweepCtx& c) {
          int a = normalize_axis(c.attrs.integer("axis"), c.in().rank());
          c.give(0, fold_copies(c.d(), a + c.lead(), c.attrs.integer("repeats"), c.in().shape()[a], false));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          auto at = [](int64_t r, int64_t axis) { return Attrs{{"repeats", r}, {"axis", axis}}; };
          return std::vector<Sample>{{{{.shape = {3, 2}}}, at(2, 0), "rows"},
                                     {{{.shape = {3, 2}}}, at(3, -1), "columns"},
                                     {{{.shape = {2, 3}}}, at(0, 1), "none"},
                                     {{{.shape = {2, 0}}}, at(2, 1), "empty"},
                                     {{{.shape = {5, 67}}}, at(2, 0), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, {{"repeats", 2}, {"axis", 2}}, "axis 2 is outside x of rank 2"},
              {{{{2}, f32}}, {{"repeats", -2}, {"axis", 0}}, "repeats must not be negative, got -2"}};
        },
    .traits = kMove,
};

Var repeat_interleave(Arg x, int64_t repeats, int64_t axis) {
  return record(repeat_interleave_op, {x}, {{"repeats", repeats}, {"axis", axis}});
}

// ---- arange -------------------------------------------------------------------------------------------------------

// An op and not a constant tensor: recording a graph again then gives an equal graph, and the plan is found in the
// cache.
REGISTER_OP(arange) = {
    .doc = "0, 1, .., n - 1",
    .infer =
        [](InferCtx& c) {
          int64_t n = c.attrs.integer("n");
          if (n < 0) c.value_error("n must not be negative, got " + std::to_string(n));
          if (c.attrs.dtype("dtype") == boolean) c.dtype_error("numbers do not fit bool");
          c.out({n}, c.attrs.dtype("dtype"));
        },
    .cpu = {[](const KernelCall& k) {
              const View& y = k.out[0];
              int64_t n = y.numel();
              auto count = [&](auto* p) {
                for (int64_t i = 0; i < n; ++i) p[i] = std::remove_pointer_t<decltype(p)>(i);
              };
              switch (y.dtype) {
                case DType::f32: return count(y.as<float>());
                case DType::f64: return count(y.as<double>());
                case DType::i32: return count(y.as<int32_t>());
                case DType::i64: return count(y.as<int64_t>());
                default: {
                  Tensor t = Tensor::empty(y.shape, f32);
                  for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = float(i);
                  return copy(t.view(), y);
                }
              }
            },
            {.floats = kAllFloats}},
    .samples =
        [] {
          return std::vector<Sample>{{{}, {{"n", 5}, {"dtype", i64}}, "i64"},
                                     {{}, {{"n", 7}, {"dtype", f32}}, "f32"},
                                     {{}, {{"n", 0}, {"dtype", i32}}, "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{}, {{"n", -1}, {"dtype", i64}}, "n must not be negative, got -1"}};
        },
    .traits = {.nondifferentiable = true},
};

Var arange(Graph& g, int64_t n, DType dtype, std::source_location where) {
  return g.record(arange_op, {}, {{"n", n}, {"dtype", dtype}}, where);
}

}  // namespace whence
