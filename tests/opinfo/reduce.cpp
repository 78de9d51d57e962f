// Reductions, scans, order, softmax.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {

Ints axes_of(const Call& call, int place, Var x) {
  Ints axes = call.ints(place, "dim");
  if (axes.empty())
    for (int axis = 0; axis < x.rank(); ++axis) axes.push_back(axis);
  return axes;
}

Var with_dtype(const Call& call, int place, Var x) { return cast(x, call.dtype(place, "dtype", x.dtype())); }

namespace {

constexpr int kKeyword = Call::kKeyword;

Var is_nan(Var x) { return not_equal(x, x); }
Var truth(Var x) { return x.dtype() == boolean ? x : not_equal(x, 0); }
Var as_vector(Var x) { return reshape(x, {-1}); }
Var at_least_vector(Var x) { return x.rank() ? x : reshape(x, {1}); }

using Reduce = Var (*)(Arg, Axes, bool);
// x after `prepare`, over "dim", with "keepdim".
template <class F> Builder over_axes(Reduce reduce, F prepare) {
  return [=](Call& call) {
    Var x = call.var(0);
    return Outputs(reduce(prepare(call, x), call.ints(1, "dim"), call.flag(2, "keepdim", false)));
  };
}
Builder over_axes(Reduce reduce) {
  return over_axes(reduce, [](Call& call, Var x) { return with_dtype(call, kKeyword, x); });
}

// Correction of a variance: "correction", or 1 where "unbiased" is not false. \param unbiased  its place
double correction_of(const Call& call, int unbiased) {
  if (call.given(kKeyword, "correction")) return call.real(kKeyword, "correction", 1);
  return call.flag(unbiased, "unbiased", true) ? 1 : 0;
}

double count_over(Var x, const Ints& axes) {
  double n = axes.empty() ? double(x.numel()) : 1;
  for (int64_t axis : axes) n *= double(x.size(int(axis)));
  return n;
}

// {variance or deviation, mean}; `(x, unbiased)` and `(x, dim, unbiased, keepdim)` both are signatures.
template <bool kRoot> Outputs moments(Call& call) {
  bool short_form = call.is_flag(1);
  Var x = call.var(0);
  Ints axes = short_form ? Ints{} : call.ints(1, "dim");
  bool keepdim = !short_form && call.flag(3, "keepdim", false);
  double correction = correction_of(call, short_form ? 1 : 2);
  int64_t whole = int64_t(correction);
  if (double(whole) != correction) {  // a fraction is left to the caller
    Var square = variance(x, axes, keepdim) * (count_over(x, axes) / std::max(count_over(x, axes) - correction, 0.0));
    return {kRoot ? sqrt(square) : square, mean(x, axes, keepdim)};
  }
  Var spread = kRoot ? standard_deviation(x, axes, keepdim, whole) : variance(x, axes, keepdim, whole);
  return {spread, mean(x, axes, keepdim)};
}

using Position = Var (*)(Arg, int64_t, bool);
// Along "dim", or in all of x: there "keepdim" keeps the rank.
Builder position(Position find) {
  return [find](Call& call) {
    Var x = call.var(0);
    bool keepdim = call.flag(2, "keepdim", false);
    if (call.given(1, "dim")) return Outputs(find(x, call.integer(1, "dim", 0), keepdim));
    Var at = find(as_vector(x), 0, false);
    return Outputs(keepdim ? reshape(at, Shape::filled(x.rank(), 1)) : at);
  };
}

Builder extreme_along(Reduce extreme, Position find) {
  return [=](Call& call) {
    Var x = call.var(0);
    if (!call.given(1, "dim")) return Outputs(extreme(x, {}, false));
    int64_t axis = call.integer(1, "dim", 0);
    bool keepdim = call.flag(2, "keepdim", false);
    return Outputs{extreme(x, {axis}, keepdim), find(x, axis, keepdim)};
  };
}

// The element of a sorted axis at `position`, which is i64 and has extent 1 there.
Outputs picked(const TopK& sorted, Var position, int64_t axis, bool keepdim) {
  Outputs both;
  for (Var v : {sorted.values, sorted.indices}) {
    Var one = take_along_axis(v, position, axis);
    both.push_back(keepdim ? one : squeeze(one, axis));
  }
  return both;
}

// The lower one of two in the middle; a NaN is the median.
Outputs median(Call& call) {
  Var x = call.var(0);
  bool all = !call.given(1, "dim");
  Var line = all ? as_vector(x) : at_least_vector(x);
  int64_t axis = all ? 0 : call.integer(1, "dim", -1), n = line.size(int(axis));
  Var count = sum(cast(is_nan(line), i64), {axis}, true);
  Var middle = where(greater(count, 0), double(n) - count, double((n - 1) / 2));
  Outputs found = picked(sort(line, axis), middle, axis, !all && x.rank() && call.flag(2, "keepdim", false));
  return all ? Outputs(found[0]) : found;
}

Outputs kth_smallest(Call& call) {
  Var x = call.var(0), line = at_least_vector(x);
  int64_t k = call.integer(1, "k", 1), axis = call.integer(2, "dim", -1);
  bool keepdim = x.rank() && call.flag(3, "keepdim", false);
  if (k < 1) throw ValueError("kthvalue: k is not positive");
  TopK sorted = sort(line, axis);
  Outputs both;
  for (Var v : {sorted.values, sorted.indices}) {
    Var one = select(v, axis, k - 1);
    both.push_back(keepdim ? unsqueeze(one, axis) : one);
  }
  return both;
}

Outputs sorted(Call& call) {
  Var x = call.var(0);
  TopK s = sort(at_least_vector(x), call.integer(1, "dim", -1), call.flag(2, "descending", false));
  return {reshape(s.values, x.shape()), reshape(s.indices, x.shape())};
}

// Means of neighbours times their distance, along "dim".
Var strips(Call& call, int64_t& axis) {
  Var y = call.var(0);
  axis = call.integer(2, "dim", -1);
  int64_t n = y.size(int(axis));
  auto halves = [&](Var v, int64_t along) {
    return std::pair(slice(v, along, 1), slice(v, along, 0, v.size(int(along)) - 1));
  };
  auto [right, left] = halves(y, axis);
  if (!call.given(1, "x")) return (left + right) * (call.real(kKeyword, "dx", 1) / 2);
  Var x = call.var(1, "x");
  if (x.rank() == 1) {
    Shape beside = Shape::filled(y.rank(), 1);
    beside[normalize_axis(axis, y.rank())] = n;
    x = reshape(x, beside);
  }
  auto [after, before] = halves(x, axis);
  return (left + right) * (after - before) * 0.5;
}

Outputs differences(Call& call) {
  Var x = call.var(0);
  int64_t n = call.integer(1, "n", 1), axis = call.integer(2, "dim", -1);
  if (n < 0) throw ValueError("diff: n is negative");
  std::vector<Var> parts{x};
  if (call.given(3, "prepend")) parts.insert(parts.begin(), call.var(3, "prepend"));
  if (call.given(4, "append")) parts.push_back(call.var(4, "append"));
  if (n == 0) return x;
  Var y = parts.size() > 1 ? concat(parts, axis) : x;
  for (int64_t i = 0; i < n; ++i) y = diff(y, axis);
  return y;
}

using AlongAxis = Var (*)(Arg, int64_t);
Builder along(AlongAxis f) {
  return [f](Call& call) { return Outputs(f(with_dtype(call, kKeyword, call.var(0)), call.integer(1, "dim", -1))); };
}

Var no_nan(Var x) { return where(is_nan(x), 0, x); }

}  // namespace

Table reduction_rows() {
  auto whether = [](Call&, Var x) { return truth(x); };
  return {
      {"all", over_axes(all, whether)},
      {"any", over_axes(any, whether)},
      {"amax", over_axes(max)},
      {"amin", over_axes(min)},
      {"sum", over_axes(sum)},
      {"mean", over_axes(mean)},
      {"logsumexp", over_axes(logsumexp)},
      {"nansum", over_axes(sum, [](Call& call, Var x) { return with_dtype(call, kKeyword, no_nan(x)); })},
      {"count_nonzero", over_axes(sum, [](Call&, Var x) { return cast(truth(x), i64); })},
      {"nanmean",
       [](Call& call) {
         Var x = call.var(0);
         Ints axes = call.ints(1, "dim");
         bool keepdim = call.flag(2, "keepdim", false);
         return sum(no_nan(x), axes, keepdim) / sum(cast(equal(x, x), x.dtype()), axes, keepdim);
       }},
      {"prod",
       [](Call& call) {
         Var x = with_dtype(call, kKeyword, call.var(0));
         if (!call.given(1, "dim")) return prod(as_vector(x), 0);
         return prod(x, call.integer(1, "dim", 0), call.flag(2, "keepdim", false));
       }},
      {"aminmax",
       [](Call& call) {
         Var x = call.var(0);
         Ints axes = call.ints(kKeyword, "dim");
         bool keepdim = call.flag(kKeyword, "keepdim", false);
         return Outputs{min(x, axes, keepdim), max(x, axes, keepdim)};
       }},
      {"std std.unbiased std_mean std_mean.unbiased", moments<true>},
      {"var var.unbiased var_mean var_mean.unbiased", moments<false>},
      {"argmax", position(argmax)},
      {"argmin", position(argmin)},
      {"max.reduction_no_dim max.reduction_with_dim", extreme_along(max, argmax)},
      {"min.reduction_no_dim min.reduction_with_dim", extreme_along(min, argmin)},

      {"cumsum", along([](Arg x, int64_t axis) { return cumsum(x, axis); })},
      {"cumprod", along([](Arg x, int64_t axis) { return cumprod(x, axis); })},
      {"logcumsumexp", along([](Arg x, int64_t axis) { return logcumsumexp(x, axis); })},
      {"cummax",
       [](Call& call) {
         TopK running = cummax(call.var(0), call.integer(1, "dim", -1));
         return Outputs{running.values, running.indices};
       }},
      {"cummin",
       [](Call& call) {
         TopK running = cummax(-call.var(0), call.integer(1, "dim", -1));
         return Outputs{-running.values, running.indices};
       }},
      {"diff", differences},
      {"trapezoid trapz",
       [](Call& call) {
         int64_t axis;
         Var parts = strips(call, axis);
         return sum(parts, {axis});
       }},
      {"cumulative_trapezoid",
       [](Call& call) {
         int64_t axis;
         Var parts = strips(call, axis);
         return cumsum(parts, axis);
       }},

      {"median", median},
      {"kthvalue", kth_smallest},
      {"sort", sorted},
      {"msort", [](Call& call) { return sort(call.var(0), 0).values; }},
      {"argsort", [](Call& call) { return sorted(call)[1]; }},
      {"topk",
       [](Call& call) {
         Var x = call.var(0), line = at_least_vector(x);
         int64_t k = call.integer(1, "k", 1), axis = call.integer(2, "dim", -1);
         TopK best = call.flag(3, "largest", true) ? topk(line, k, axis) : bottomk(line, k, axis);
         if (x.rank() == 0) return Outputs{reshape(best.values, {}), reshape(best.indices, {})};
         return Outputs{best.values, best.indices};
       }},

      {"softmax softmax.with_dtype", along(softmax)},
      {"log_softmax log_softmax.with_dtype", along(log_softmax)},
      {"nn.functional.softmin nn.functional.softmin.with_dtype", along(softmin)},
      {"torch.ops.aten._safe_softmax.default",
       [](Call& call) {
         Var x = with_dtype(call, kKeyword, call.var(0));
         int64_t axis = call.integer(1, "dim", -1);
         Var nothing = equal(max(x, {axis}, true), -INFINITY);
         return where(nothing, 0, softmax(where(nothing, 0, x), axis));
       }},
  };
}

}  // namespace whence::opinfo
