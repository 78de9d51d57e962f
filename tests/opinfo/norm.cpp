// Norms, and what is measured with them.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {

// 0 to a power has a gradient of its own, 0, and so has the root of 0.
Var vector_norm(Var x, double order, const Ints& axes, bool keepdim) {
  if (order == 2) return norm2(x, axes, keepdim);
  if (order == 1) return norm1(x, axes, keepdim);
  Var size = abs(x);
  if (std::isinf(order)) return order > 0 ? max(size, axes, keepdim) : min(size, axes, keepdim);
  if (order == 0) return sum(cast(not_equal(x, 0), x.dtype()), axes, keepdim);
  Var zero = equal(x, 0),
      total = sum(where(zero, order > 0 ? 0 : INFINITY, pow(where(zero, 1, size), order)), axes, keepdim);
  Var none = equal(total, 0);
  return where(none, order > 0 ? 0 : INFINITY, pow(where(none, 1, total), 1 / order));
}

namespace {

// The largest or smallest sum of |x| along one axis.
Var matrix_norm(Var x, double order, const Ints& axes, bool keepdim) {
  bool columns = std::fabs(order) == 1;
  if (!columns && !std::isinf(order)) throw OptionMissing("singular values");
  int rank = x.rank();
  int64_t summed = normalize_axis(axes.at(columns ? 0 : 1), rank), left = normalize_axis(axes[columns ? 1 : 0], rank);
  if (summed == left) throw ValueError("matrix_norm: an axis is named twice");
  Var sums = norm1(x, {summed}, true);
  bool nothing = order > 0 && sums.size(int(left)) == 0;  // of no sums the largest is 0
  Var both = nothing ? sum(sums, {left}, true) : order > 0 ? max(sums, {left}, true) : min(sums, {left}, true);
  if (keepdim) return both;
  return squeeze(squeeze(both, std::max(summed, left)), std::min(summed, left));
}

Var matrix_norm(Call& call, Var x, int order, const Ints& axes, bool keepdim) {
  if (axes.size() != 2) throw ShapeError("matrix_norm: not two axes");
  if (!call.is_word(order, "ord") && call.given(order, "ord"))
    return matrix_norm(x, call.real(order, "ord", 2), axes, keepdim);
  std::string name = call.word(order, "ord", "fro");
  if (name == "nuc") throw OptionMissing("singular values");
  if (name != "fro") throw ValueError("matrix_norm: unknown order '" + name + "'");
  return norm2(x, axes, keepdim);
}

// ord None: the 2-norm of everything named; else one axis makes a vector, two a matrix.
Var linalg_norm(Call& call) {
  Var x = call.var(0);
  Ints axes = axes_of(call, 2, x);
  bool keepdim = call.flag(3, "keepdim", false), given = call.given(1, "ord");
  x = with_dtype(call, Call::kKeyword, x);
  if (given && !call.given(2, "dim") && x.rank() > 2) throw ShapeError("norm: an order needs axes");
  if (given && axes.size() == 2) return matrix_norm(call, x, 1, axes, keepdim);
  if (call.is_word(1, "ord")) throw ValueError("norm: the order is one of matrices");
  return vector_norm(x, call.real(1, "ord", 2), axes, keepdim);
}

Var old_norm(Call& call) {
  Var x = call.var(0);
  Ints axes = axes_of(call, 2, x);
  bool keepdim = call.flag(3, "keepdim", false);
  if (call.is_word(1, "p") && call.word(1, "p", "") == "nuc") throw OptionMissing("singular values");
  return vector_norm(x, call.is_word(1, "p") ? 2 : call.real(1, "p", 2), axes, keepdim);
}

Var all_pairs(Call& call) {
  Var a = unsqueeze(call.var(0), -2), b = unsqueeze(call.var(1), -3);
  return vector_norm(a - b, call.real(2, "p", 2), {-1}, false);
}

}  // namespace

Table norm_rows() {
  return {
      {"norm norm.fro norm.inf", old_norm},
      {"linalg.norm linalg.norm.subgradients_at_zero", linalg_norm},
      {"linalg.matrix_norm",
       [](Call& call) {
         return matrix_norm(call, call.var(0), 1, call.ints(2, "dim", {-2, -1}), call.flag(3, "keepdim", false));
       }},
      {"linalg.vector_norm",
       [](Call& call) {
         Var x = call.var(0);
         return vector_norm(with_dtype(call, Call::kKeyword, x), call.real(1, "ord", 2), axes_of(call, 2, x),
                            call.flag(3, "keepdim", false));
       }},
      {"dist",
       [](Call& call) {
         Var d = call.var(0) - call.var(1);
         return vector_norm(d, call.real(2, "p", 2), axes_of(call, Call::kKeyword, d), false);
       }},
      {"cdist", all_pairs},
      {"nn.functional.pairwise_distance",
       [](Call& call) {
         Var d = call.var(0) - call.var(1) + call.real(3, "eps", 1e-6);
         return vector_norm(d, call.real(2, "p", 2), {-1}, call.flag(4, "keepdim", false));
       }},
      {"nn.functional.normalize",
       [](Call& call) {
         Var x = call.var(0);
         double order = call.real(1, "p", 2), eps = call.real(3, "eps", 1e-12);
         int64_t axis = call.integer(2, "dim", 1);
         if (order == 2) return l2_normalize(x, axis, eps);
         return x / maximum(vector_norm(x, order, {axis}, true), eps);
       }},
      {"nn.functional.cosine_similarity",
       [](Call& call) {
         Var a = call.var(0), b = call.var(1);
         Shape both = broadcast_shapes(a.shape(), b.shape());
         int64_t axis = call.integer(2, "dim", 1);
         double eps = call.real(3, "eps", 1e-8);
         return sum(l2_normalize(broadcast_to(a, both), axis, eps) * l2_normalize(broadcast_to(b, both), axis, eps),
                    {axis});
       }},
  };
}

}  // namespace whence::opinfo
