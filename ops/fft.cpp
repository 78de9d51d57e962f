#include "whence/ops/fft.h"

#include <cmath>

#include "whence/autograd/sweep.h"
#include "whence/ops/attrs.h"
#include "whence/ops/checks.h"

namespace whence {
namespace {

// ---- the two transforms of real signals are each other's adjoint, up to the bins that stand for two ----------------

int64_t bins(int64_t n) { return n / 2 + 1; }

// [bins, 1.., 1] for a signal of n values with `behind` axes behind it: `twice` where a bin stands for its conjugate,
// too, else 1.
Var per_bin(Var like, int64_t n, int behind, double twice) {
  std::vector<double> weight(size_t(bins(n)), twice);
  weight[0] = 1;
  if (n % 2 == 0) weight.back() = 1;
  Shape s = Shape::filled(behind + 2, 1);
  s[0] = bins(n);
  return like.graph().constant(Tensor::from(weight, s).to(like.dtype()));
}

void need_pairs(InferCtx& infer) {
  infer.need_float(0);
  if (infer.rank(0) < 2 || infer.shape(0)[-1] != 2)
    infer.shape_error("x must be [.., n, .., 2], pairs (re, im), got " + infer.shape(0).str(),
                      "stack({re, im}, -1) makes pairs, rfft takes real values");
}
int points_axis(InferCtx& infer, bool pairs) {
  const int64_t axis = infer.attrs.integer("axis"), axes = infer.rank(0) - pairs;
  if (axis < 0 || axis >= axes)
    infer.shape_error("axis " + std::to_string(axis) + " is outside " + infer.shape(0).str() +
                      (pairs ? " without its pairs" : ""));
  if (const int64_t n = infer.shape(0)[int(axis)]; n < 1 || n > INT32_MAX)
    infer.value_error("axis " + std::to_string(axis) + " has " + std::to_string(n) + " points, not 1 to 2^31 - 1");
  return int(axis);
}

Attrs fft_attrs(int64_t axis, bool inverse, double scale) {
  return {{"axis", axis}, {"inverse", inverse}, {"scale", scale}};
}
Attrs rfft_attrs(int64_t axis, double scale) { return {{"axis", axis}, {"scale", scale}}; }
Attrs irfft_attrs(int64_t axis, int64_t n, double scale) { return {{"axis", axis}, {"n", n}, {"scale", scale}}; }

}  // namespace

REGISTER_OP(fft) = {
    .doc =
        "y_k = scale sum_t x_t e^(-2 pi i k t / n) along axis of pairs x [.., n, .., 2]; inverse: e^(+2 pi i k t / n)",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          need_pairs(infer);
          points_axis(infer, true);
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          const Attrs& a = sweep.attrs;
          sweep.give(0, record(op_named("fft"), {sweep.d()},
                               fft_attrs(a.integer("axis") + sweep.lead(), !a.flag("inverse"), a.real("scale"))));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = lrp::absorbed_by_stabiliser,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 2}}}, fft_attrs(0, false, 1), "three"},
                                     {{{.shape = {2, 4, 2}}}, fft_attrs(1, true, 0.25), "four"},
                                     {{{.shape = {8, 3, 2}}}, fft_attrs(0, false, 1), "lanes"},
                                     {{{.shape = {2, 10, 2, 2}}}, fft_attrs(1, true, 0.5), "ten"},
                                     {{{.shape = {37, 2}}}, fft_attrs(0, false, 0.2), "prime"},
                                     {{{.shape = {19, 3, 2}}}, fft_attrs(1, false, 1), "many"},
                                     {{{.shape = {2, 1, 2}}}, fft_attrs(1, false, 1), "one"},
                                     {{{.shape = {0, 5, 2}}}, fft_attrs(1, false, 1), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{4, 3}, f32}}, fft_attrs(0, false, 1), "x must be [.., n, .., 2]"},
                                          {{{{4, 2}, f32}}, fft_attrs(1, false, 1), "axis 1 is outside [4, 2]"},
                                          {{{{0, 2}, f32}}, fft_attrs(0, false, 1), "axis 0 has 0 points"},
                                          {{{{4, 2}, i32}}, fft_attrs(0, false, 1), "x must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

REGISTER_OP(rfft) = {
    .doc = "The bins 0 .. n / 2 of scale sum_t x_t e^(-2 pi i k t / n) along axis: real [.., n, ..] to pairs",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          infer.need_float(0);
          const int axis = points_axis(infer, false);
          if (infer.rank(0) == Shape::kMaxRank) infer.shape_error("x has no room for an axis of pairs");
          Shape s = infer.shape(0);
          s[axis] = bins(s[axis]);
          s.push_back(2);
          infer.out(s, infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          const int axis = int(sweep.attrs.integer("axis"));
          const int64_t n = sweep.in().shape()[axis];
          Var d = sweep.d(), once = d * per_bin(d, n, sweep.in().rank() - axis - 1, 0.5);
          sweep.give(0,
                     record(op_named("irfft"), {once}, irfft_attrs(axis + sweep.lead(), n, sweep.attrs.real("scale"))));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = lrp::absorbed_by_stabiliser,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {2, 4}}}, rfft_attrs(1, 1), "even"},
                                     {{{.shape = {5, 2}}}, rfft_attrs(0, 0.2), "odd"},
                                     {{{.shape = {2, 6, 3}}}, rfft_attrs(1, 0.5), "middle"},
                                     {{{.shape = {2, 16}}}, rfft_attrs(1, 1), "sixteen"},
                                     {{{.shape = {74}}}, rfft_attrs(0, 1), "prime"},
                                     {{{.shape = {2, 1}}}, rfft_attrs(1, 1), "one"},
                                     {{{.shape = {3, 2}}}, rfft_attrs(1, 1), "two"},
                                     {{{.shape = {0, 5}}}, rfft_attrs(1, 1), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{4, 3}, f32}}, rfft_attrs(2, 1), "axis 2 is outside [4, 3]"},
              {{{{4, 0}, f32}}, rfft_attrs(1, 1), "axis 1 has 0 points"},
              {{{{1, 1, 1, 1, 1, 1, 1, 2}, f32}}, rfft_attrs(7, 1), "no room for an axis of pairs"},
              {{{{4}, i32}}, rfft_attrs(0, 1), "x must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

REGISTER_OP(irfft) = {
    .doc = "scale times the real signal of n values with the bins x [.., n / 2 + 1, .., 2], along axis",
    .operands = {"x"},
    .infer =
        [](InferCtx& infer) {
          need_pairs(infer);
          const int axis = points_axis(infer, true);
          const int64_t n = infer.attrs.integer("n");
          if (n < 1 || bins(n) != infer.shape(0)[axis])
            infer.shape_error(std::to_string(n) + " values have " + std::to_string(n < 1 ? 0 : bins(n)) +
                              " bins, axis " + std::to_string(axis) + " has " + std::to_string(infer.shape(0)[axis]));
          Shape s = infer.shape(0);
          s[axis] = n;
          s.erase(s.rank() - 1);
          infer.out(s, infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          const int axis = int(sweep.attrs.integer("axis"));
          Var once = record(op_named("rfft"), {sweep.d()}, rfft_attrs(axis + sweep.lead(), sweep.attrs.real("scale")));
          sweep.give(0, once * per_bin(once, sweep.attrs.integer("n"), sweep.in().rank() - axis - 2, 2));
        },
    .relevance = lrp::linear_in_carriers,
    .absorbed = lrp::absorbed_by_stabiliser,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 2}}}, irfft_attrs(0, 4, 0.25), "even"},
                                     {{{.shape = {2, 3, 2}}}, irfft_attrs(1, 5, 1), "odd"},
                                     {{{.shape = {2, 4, 3, 2}}}, irfft_attrs(1, 6, 0.5), "middle"},
                                     {{{.shape = {38, 2}}}, irfft_attrs(0, 74, 0.1), "prime"},
                                     {{{.shape = {2, 1, 2}}}, irfft_attrs(1, 1, 1), "one"},
                                     {{{.shape = {0, 3, 2}}}, irfft_attrs(1, 4, 1), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{4, 3}, f32}}, irfft_attrs(0, 6, 1), "x must be [.., n, .., 2]"},
                                          {{{{4, 2}, f32}}, irfft_attrs(0, 8, 1), "8 values have 5 bins, axis 0 has 4"},
                                          {{{{4, 2}, f32}}, irfft_attrs(1, 2, 1), "axis 1 is outside [4, 2]"},
                                          {{{{4, 2}, i32}}, irfft_attrs(0, 6, 1), "x must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

// ---- what users call -----------------------------------------------------------------------------------------------

namespace {

// x's axis with n points: zeros behind, or cropped.
Var fitted(Var x, int64_t n, int axis) {
  const int64_t have = x.shape()[axis];
  if (n < have) return slice(x, axis, 0, n);
  if (n == have) return x;
  Ints pads(size_t(2 * x.rank()), 0);
  pads[size_t(2 * axis + 1)] = n - have;
  return pad(x, pads);
}

int pairs_axis(const char* op, const Arg& x, int64_t axis) {
  if (x.rank() < 2 || x.shape()[-1] != 2)
    throw ShapeError(std::string("[") + op + "] x must be [.., n, .., 2], pairs (re, im), got " + x.shape().str() +
                     "\n  hint: stack({re, im}, -1) makes pairs, rfft takes real values");
  return normalize_axis(axis, x.rank() - 1);
}

int64_t points(const char* op, int64_t n, int64_t otherwise) {
  if (n == 0) n = otherwise;
  if (n < 1 || n > INT32_MAX)
    throw ValueError(std::string("[") + op + "] a transform of " + std::to_string(n) + " points, not 1 to 2^31 - 1");
  return n;
}

double scale_of(int64_t n, FftNorm norm, bool inverse) {
  if (norm == FftNorm::ortho) return 1 / std::sqrt(double(n));
  return (norm == FftNorm::backward) == inverse ? 1 / double(n) : 1.0;
}

Var complex_transform(const char* op, const Arg& x, int64_t n, int64_t axis, FftNorm norm, bool inverse) {
  LocationGuard at(x);
  need_float(x, op);
  const int a = pairs_axis(op, x, axis);
  n = points(op, n, x.shape()[a]);
  return record(fft_op, {fitted(x, n, a)}, fft_attrs(a, inverse, scale_of(n, norm, inverse)));
}

// The values of n along the last two axes, 0 being as they are.
std::pair<int64_t, int64_t> two(const char* op, const Ints& s) {
  if (s.empty()) return {0, 0};
  if (s.size() != 2) throw ValueError(std::string("[") + op + "] s needs two entries, got " + std::to_string(s.size()));
  return {s[0], s[1]};
}

}  // namespace

Var fft(Arg x, int64_t n, int64_t axis, FftNorm norm) { return complex_transform("fft", x, n, axis, norm, false); }
Var ifft(Arg x, int64_t n, int64_t axis, FftNorm norm) { return complex_transform("ifft", x, n, axis, norm, true); }

Var rfft(Arg x, int64_t n, int64_t axis, FftNorm norm) {
  LocationGuard at(x);
  need_float(x, "rfft");
  const int a = normalize_axis(axis, x.rank());
  n = points("rfft", n, x.shape()[a]);
  return record(rfft_op, {fitted(x, n, a)}, rfft_attrs(a, scale_of(n, norm, false)));
}

Var irfft(Arg x, int64_t n, int64_t axis, FftNorm norm) {
  LocationGuard at(x);
  need_float(x, "irfft");
  const int a = pairs_axis("irfft", x, axis);
  n = points("irfft", n, 2 * (x.shape()[a] - 1));
  return record(irfft_op, {fitted(x, bins(n), a)}, irfft_attrs(a, n, scale_of(n, norm, true)));
}

Var fft2(Arg x, const Ints& s, FftNorm norm) {
  LocationGuard at(x);
  auto [h, w] = two("fft2", s);
  return fft(fft(x, w, -1, norm), h, -2, norm);
}
Var ifft2(Arg x, const Ints& s, FftNorm norm) {
  LocationGuard at(x);
  auto [h, w] = two("ifft2", s);
  return ifft(ifft(x, h, -2, norm), w, -1, norm);
}
Var rfft2(Arg x, const Ints& s, FftNorm norm) {
  LocationGuard at(x);
  auto [h, w] = two("rfft2", s);
  return fft(rfft(x, w, -1, norm), h, -2, norm);
}
Var irfft2(Arg x, const Ints& s, FftNorm norm) {
  LocationGuard at(x);
  auto [h, w] = two("irfft2", s);
  return irfft(ifft(x, h, -2, norm), w, -1, norm);
}

}  // namespace whence
