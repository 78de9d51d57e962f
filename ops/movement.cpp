// Data movement that copies: flip, roll, repeat, repeat_interleave, and arange.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

constexpr Traits kMove{.batched_sweep = true};

}  // namespace

// ---- flip, roll ---------------------------------------------------------------------------------------------------

REGISTER_OP(flip) = {
    .doc = "x with the given axes reversed",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          std::vector<char> seen(size_t(infer.rank(0)));
          for (int64_t a : infer.attrs.ints("axes"))
            if (char& s = seen[size_t(infer.axis(0, a))]; s++)
              infer.shape_error("axis " + std::to_string(a) + " is named twice");
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          Ints axes;
          for (int64_t a : sweep.attrs.ints("axes"))
            axes.push_back(normalize_axis(a, sweep.in().rank()) + sweep.lead());
          sweep.give(0, flip(sweep.d(), axes));
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

Var flip(Arg x, Axes axes) { return record(flip_op, {x}, {{"axes", std::move(axes)}}); }

REGISTER_OP(roll) = {
    .doc = "x shifted by `shifts[i]` along `axes[i]`; what leaves at one end enters at the other",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          auto [axes, shifts] = RollAttrs::of(infer.attrs);
          if (axes.size() != shifts.size())
            infer.value_error(std::to_string(shifts.size()) + " shifts for " + std::to_string(axes.size()) + " axes",
                              "give one shift per axis");
          for (int64_t a : axes) infer.axis(0, a);
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          auto [axes, shifts] = RollAttrs::of(sweep.attrs);
          Ints back, led;
          for (size_t i = 0; i < axes.size(); ++i) {
            const int a = normalize_axis(axes[i], sweep.in().rank());
            led.push_back(a + sweep.lead());
            back.push_back(-(shifts[i] % std::max<int64_t>(sweep.in().shape()[a], 1)));
          }
          sweep.give(0, roll(sweep.d(), back, led));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          auto at = [](Ints shifts, Ints axes) { return RollAttrs::make(axes, shifts); };
          return std::vector<Sample>{{{{.shape = {3, 4}}}, at({1, -2}, {0, 1}), "both"},
                                     {{{.shape = {5}}}, at({13}, {0}), "wraps"},
                                     {{{.shape = {4, 3}}}, at({1, 2}, {0, 0}), "twice"},
                                     {{{.shape = {2, 0}}}, at({1}, {1}), "empty"},
                                     {{{.shape = {3, 67}}}, at({-5}, {-1}), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}}, RollAttrs::make({0, 1}, {1}), "1 shifts for 2 axes"},
              {{{{2, 3}, f32}}, RollAttrs::make({-3}, {1}), "axis -3 is outside x of rank 2"}};
        },
    .traits = kMove,
};

Var roll(Arg x, Ints shifts, Ints axes) {
  return record(roll_op, {x}, RollAttrs::make(std::move(axes), std::move(shifts)));
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
        [](InferCtx& infer) {
          const Ints& r = infer.attrs.ints("repeats");
          Shape s = infer.shape(0);
          if (int(r.size()) != s.rank())
            infer.value_error(std::to_string(r.size()) + " repeats for rank " + std::to_string(s.rank()));
          for (int a = 0; a < s.rank(); ++a) {
            if (r[size_t(a)] < 0)
              infer.value_error("repeats must not be negative, got " + std::to_string(r[size_t(a)]) + " for axis " +
                                std::to_string(a));
            s[a] = multiply_extents(s[a], r[size_t(a)]);
          }
          infer.out(s, infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          Var d = sweep.d();
          const Ints& r = sweep.attrs.ints("repeats");
          for (int a = 0; a < sweep.in().rank(); ++a)
            if (r[size_t(a)] != 1) d = fold_copies(d, a + sweep.lead(), r[size_t(a)], sweep.in().shape()[a], true);
          sweep.give(0, d);
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 2}}}, {{"repeats", Ints{2, 3}}}, "both"},
                                     {{{.shape = {2, 1, 5}}}, {{"repeats", Ints{1, 4, 1}}}, "middle"},
                                     {{{.shape = {3, 2}}}, {{"repeats", Ints{0, 2}}}, "none"},
                                     {{{.shape = {0, 2}}}, {{"repeats", Ints{3, 2}}}, "empty"},
                                     {{{.shape = {67}}}, {{"repeats", Ints{3}}}, "odd"},
                                     {{{.shape = {2, 1, 1, 3, 1, 1, 2}}},
                                      {{"repeats", Ints{2, 1, 1, 2, 1, 1, 1}}},
                                      "no room for two axes more"}};
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
        [](InferCtx& infer) {
          int64_t r = infer.attrs.integer("repeats");
          if (r < 0) infer.value_error("repeats must not be negative, got " + std::to_string(r));
          Shape s = infer.shape(0);
          int64_t& extent = s[infer.axis(0, infer.attrs.integer("axis"))];
          extent = multiply_extents(extent, r);
          infer.out(s, infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          int a = axis_of(sweep.attrs, sweep.in().rank());
          sweep.give(0, fold_copies(sweep.d(), a + sweep.lead(), sweep.attrs.integer("repeats"), sweep.in().shape()[a],
                                    false));
        },
    .relevance = lrp::reindex,
    .samples =
        [] {
          auto at = [](int64_t r, int64_t axis) { return Attrs{{"repeats", r}, {"axis", axis}}; };
          return std::vector<Sample>{
              {{{.shape = {3, 2}}}, at(2, 0), "rows"}, {{{.shape = {3, 2}}}, at(3, -1), "columns"},
              {{{.shape = {2, 3}}}, at(0, 1), "none"}, {{{.shape = {2, 0}}}, at(2, 1), "empty"},
              {{{.shape = {5, 67}}}, at(2, 0), "odd"}, {{{.shape = {1, 2, 1, 1, 3, 1, 1, 2}}}, at(3, 4), "eight axes"}};
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
        [](InferCtx& infer) {
          int64_t n = infer.attrs.integer("n");
          if (n < 0) infer.value_error("n must not be negative, got " + std::to_string(n));
          if (infer.attrs.dtype("dtype") == boolean) infer.dtype_error("numbers do not fit bool");
          check_extents({n}, size_of(infer.attrs.dtype("dtype")));
          infer.need_holds(infer.attrs.dtype("dtype"), double(std::max<int64_t>(n - 1, 0)));
          infer.out({n}, infer.attrs.dtype("dtype"));
        },
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
