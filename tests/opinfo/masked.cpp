// torch.masked: what a mask leaves out counts as the neutral element of the operator.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

constexpr int kKeyword = Call::kKeyword;

Var mask_of(Call& call, Var x) {
  if (!call.given(kKeyword, "mask")) return cast(ones_like(x), boolean);
  return broadcast_to(call.var(kKeyword, "mask"), x.shape());
}

/// x with `neutral` where the mask is false.
Var kept(Call& call, double neutral) {
  Var x = with_dtype(call, kKeyword, call.var(0));
  return call.given(kKeyword, "mask") ? where(mask_of(call, x), x, neutral) : x;
}

using Reduce = Var (*)(Arg, Axes, bool);
Builder over_axes(Reduce reduce, double neutral) {
  return [=](Call& call) {
    return Outputs(reduce(kept(call, neutral), call.ints(1, "dim"), call.flag(kKeyword, "keepdim", false)));
  };
}

using Position = Var (*)(Arg, int64_t, bool);
Builder position(Position find, double neutral) {
  return [=](Call& call) {
    Var x = kept(call, neutral);
    bool keepdim = call.flag(kKeyword, "keepdim", false), all = !call.given(1, "dim");
    Var at = all ? find(reshape(x, {-1}), 0, false) : find(x, call.integer(1, "dim", 0), keepdim);
    if (all && keepdim) at = reshape(at, Shape::filled(x.rank(), 1));
    return Outputs(cast(at, x.dtype()));  // the reference gives positions so
  };
}

template <class F> Builder along(F f, double neutral) {
  return [=](Call& call) { return Outputs(f(kept(call, neutral), call.integer(1, "dim", -1))); };
}

Var count_of(Call& call, const Ints& axes, bool keepdim) {
  Var x = call.var(0);
  return sum(cast(mask_of(call, x), x.dtype()), axes, keepdim);
}

Var mean_of(Call& call, const Ints& axes, bool keepdim) {
  return sum(kept(call, 0), axes, keepdim) / count_of(call, axes, keepdim);
}

Var variance_of(Call& call) {
  Var x = call.var(0);
  Ints axes = call.ints(1, "dim");
  bool keepdim = call.flag(kKeyword, "keepdim", false);
  double correction = call.flag(2, "unbiased", true) ? 1 : 0;
  if (call.given(kKeyword, "correction")) correction = call.real(kKeyword, "correction", 1);
  Var d = where(mask_of(call, x), x - mean_of(call, axes, true), 0);
  return sum(square(d), axes, keepdim) / maximum(count_of(call, axes, keepdim) - correction, 0);
}

Var product(Call& call) {
  Var x = kept(call, 1);
  Ints axes = axes_of(call, 1, x);
  for (int64_t axis : axes) x = prod(x, axis, true);
  if (call.flag(kKeyword, "keepdim", false)) return x;
  Shape left;
  for (int i = 0; i < x.rank(); ++i) {
    bool gone = false;
    for (int64_t axis : axes) gone |= normalize_axis(axis, x.rank()) == i;
    if (!gone) left.push_back(x.shape()[i]);
  }
  return reshape(x, left);
}

Var norm_of(Call& call, double order, const Ints& axes, bool keepdim) {
  return vector_norm(kept(call, order == -INFINITY ? INFINITY : 0), order, axes, keepdim);
}

}  // namespace

Table masked_rows() {
  return {
      {"masked.sum", over_axes(sum, 0)},
      {"masked.amax", over_axes(max, -INFINITY)},
      {"masked.amin", over_axes(min, INFINITY)},
      {"masked.logsumexp", over_axes(logsumexp, -INFINITY)},
      {"masked.prod", product},
      {"masked.argmax", position(argmax, -INFINITY)},
      {"masked.argmin", position(argmin, INFINITY)},
      {"masked.cumsum", along([](Var x, int64_t axis) { return cumsum(x, axis); }, 0)},
      {"masked.cumprod", along([](Var x, int64_t axis) { return cumprod(x, axis); }, 1)},
      {"masked.softmax", along([](Var x, int64_t axis) { return softmax(x, axis); }, -INFINITY)},
      {"masked.log_softmax", along([](Var x, int64_t axis) { return log_softmax(x, axis); }, -INFINITY)},
      {"masked.softmin", along([](Var x, int64_t axis) { return softmin(x, axis); }, INFINITY)},
      {"masked.mean",
       [](Call& call) { return mean_of(call, call.ints(1, "dim"), call.flag(kKeyword, "keepdim", false)); }},
      {"masked.var", variance_of},
      {"masked.std", [](Call& call) { return sqrt(variance_of(call)); }},
      {"masked.norm",
       [](Call& call) {
         return norm_of(call, call.real(1, "ord", 2), axes_of(call, 2, call.var(0)),
                        call.flag(kKeyword, "keepdim", false));
       }},
      {"masked.normalize",
       [](Call& call) {
         Var norm = norm_of(call, call.real(1, "ord", 2), {call.integer(2, "dim", 0)}, true);
         return kept(call, 0) / maximum(norm, call.real(kKeyword, "eps", 1e-12));
       }},
  };
}

}  // namespace whence::opinfo
