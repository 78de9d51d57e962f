// Products of vectors and matrices.
#include <algorithm>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

constexpr int kKeyword = Call::kKeyword;

// A vector is a row on the left and a column on the right.
Var product(Var a, Var b) {
  Var left = a.rank() == 1 ? unsqueeze(a, 0) : a, right = b.rank() == 1 ? unsqueeze(b, 1) : b;
  Var y = matmul(left, right);
  if (b.rank() == 1) y = squeeze(y, -1);
  return a.rank() == 1 ? squeeze(y, b.rank() == 1 ? -1 : -2) : y;
}

Builder product_of(int left_rank, int right_rank, bool swapped = false) {
  return [=](Call& call) {
    Var a = call.var(0), b = call.var(1);
    if (left_rank && (a.rank() != left_rank || b.rank() != right_rank))
      throw ShapeError("product of " + a.shape().str() + " and " + b.shape().str());
    return Outputs(swapped ? product(b, a) : product(a, b));
  };
}

// x beta + product alpha; beta 0 leaves x out, whatever it holds.
template <class F> Builder added(F product_of_two) {
  return [=](Call& call) {
    Var x = call.var(0), y = product_of_two(call.var(1), call.var(2));
    double beta = call.real(kKeyword, "beta", 1), alpha = call.real(kKeyword, "alpha", 1);
    if (alpha != 1) y = y * alpha;
    return Outputs(beta == 0 ? y : x * beta + y);
  };
}

Var dot(Call& call) {
  Var a = call.var(0), b = call.var(1);
  if (a.rank() != 1 || !(a.shape() == b.shape()))
    throw ShapeError("dot of " + a.shape().str() + " and " + b.shape().str());
  return sum(a * b);
}

Var inner(Call& call) {
  Var a = call.var(0), b = call.var(1);
  if (!a.rank() || !b.rank()) return a * b;
  if (b.rank() == 1) return product(a, b);
  Shape shape = a.shape();
  shape.erase(shape.rank() - 1);
  for (int i = 0; i + 1 < b.rank(); ++i) shape.push_back(b.shape()[i]);
  int64_t n = b.shape()[-1];
  return reshape(product(a, transpose(reshape(b, {b.numel() / std::max<int64_t>(n, 1), n}))), shape);
}

// One letter an axis; those of `dims` are shared.
Var tensor_dot(Call& call) {
  Var a = call.var(0), b = call.var(1);
  Ints from_a, from_b;
  if (call.is_list(2, "dims")) {
    std::tie(from_a, from_b) = call.two_lists(2, "dims");
  } else {
    int64_t n = call.integer(2, "dims", 2);
    for (int64_t i = 0; i < n; ++i) from_a.push_back(a.rank() - n + i), from_b.push_back(i);
  }
  for (size_t i = 0; i < from_a.size(); ++i) {  // an extent of 1 goes with any other
    int64_t m = a.size(int(from_a[i])), n = b.size(int(from_b.at(i)));
    if (m != n && m == 1) b = sum(b, {from_b[i]}, true);
    if (m != n && n == 1) a = sum(a, {from_a[i]}, true);
  }
  std::string left, right, result;
  for (int i = 0; i < a.rank(); ++i) left += char('a' + i);
  for (int i = 0; i < b.rank(); ++i) right += char('A' + i);
  for (size_t i = 0; i < from_a.size(); ++i)
    right[size_t(normalize_axis(from_b.at(i), b.rank()))] = left[size_t(normalize_axis(from_a[i], a.rank()))];
  for (const std::string* side : {&left, &right})
    for (char letter : *side)
      if ((side == &left ? right : left).find(letter) == std::string::npos) result += letter;
  return einsum(left + "," + right + "->" + result, {a, b});
}

Var power(Call& call) {
  Var x = call.var(0);
  int64_t n = call.integer(1, "n", 1);
  if (n < 0) throw OptionMissing("inverse");
  if (x.rank() < 2 || x.shape()[-1] != x.shape()[-2]) throw ShapeError("matrix_power of " + x.shape().str());
  if (n == 0) return broadcast_to(one_hot(arange(call.g, x.shape()[-1]), x.shape()[-1], x.dtype()), x.shape());
  Var y = x;
  for (int64_t i = 1; i < n; ++i) y = matmul(y, x);
  return y;
}

Var chain(Call& call) {
  std::vector<Var> xs = call.vars();
  Var y = xs.at(0);
  for (size_t i = 1; i < xs.size(); ++i) y = product(y, xs[i]);
  return y;
}

// Weights of observations, [n]: whole numbers count them, others weigh them.
std::optional<Var> observation_weights(Call& call, const char* name, bool whole, int64_t n) {
  if (!call.given(kKeyword, name)) return {};
  Var w = call.var(kKeyword, name);
  if (w.rank() > 1 || w.numel() != n) throw ShapeError(std::string("cov: ") + name + " " + w.shape().str());
  if (is_float(w.dtype()) == whole) throw DTypeError(std::string("cov: ") + name + " has a dtype of another kind");
  for (double v : call.values(kKeyword, name).to_vector<double>())
    if (v < 0) throw ValueError(std::string("cov: ") + name + " is negative");
  return reshape(w, {n});
}

Var covariance(Call& call) {
  Var x = call.var(0);
  if (x.rank() > 2) throw ShapeError("cov of " + x.shape().str());
  Var rows = x.rank() == 2 ? x : reshape(x, {1, -1});
  int64_t n = rows.shape()[1];
  std::optional<Var> counts = observation_weights(call, "fweights", true, n);
  std::optional<Var> weights = observation_weights(call, "aweights", false, n);
  Var w = ones_like(reshape(slice(rows, 0, 0, 1), {-1}));
  if (counts) w = w * cast(*counts, x.dtype());
  if (weights) w = w * cast(*weights, x.dtype());
  double correction = call.real(kKeyword, "correction", 1);
  Var total = sum(w), mean_of = sum(rows * w, {1}, true) / total;
  Var lost = weights ? sum(w * cast(*weights, x.dtype())) / total * correction : total * 0 + correction;
  Var d = rows - mean_of, c = matmul(d * w, transpose(d)) / maximum(total - lost, 0);
  return rows.shape()[0] == 1 ? reshape(c, {}) : c;
}

// Along the first axis of extent 3 (`linear`: the last), or "dim".
template <bool kFirst> Var cross(Call& call) {
  Var a = call.var(0), b = call.var(1);
  if (a.rank() != b.rank()) throw ShapeError("cross of " + a.shape().str() + " and " + b.shape().str());
  Shape both = broadcast_shapes(a.shape(), b.shape());
  int64_t axis = call.integer(2, "dim", -1);
  if (kFirst && !call.given(2, "dim"))
    for (axis = 0; axis < a.rank() && a.shape()[int(axis)] != 3;) ++axis;
  if (a.size(int(axis)) != 3 || b.size(int(axis)) != 3) throw ShapeError("cross: the axis has not 3 elements");
  a = broadcast_to(a, both), b = broadcast_to(b, both);
  auto turned = [&](Var x, int64_t by) { return roll(x, {by}, {axis}); };
  return turned(a, -1) * turned(b, -2) - turned(a, -2) * turned(b, -1);
}

}  // namespace

Table linear_algebra_rows() {
  return {
      {"matmul", product_of(0, 0)},
      {"__rmatmul__", product_of(0, 0, true)},
      {"mm", product_of(2, 2)},
      {"bmm", product_of(3, 3)},
      {"mv", product_of(2, 1)},
      {"dot vdot", dot},
      {"inner", inner},
      {"outer", [](Call& call) { return unsqueeze(call.var(0), 1) * unsqueeze(call.var(1), 0); }},
      {"addmm addmm.decomposed baddbmm addmv", added(product)},
      {"addbmm", added([](Var a, Var b) { return sum(matmul(a, b), {0}); })},
      {"addr", added([](Var a, Var b) { return unsqueeze(a, 1) * unsqueeze(b, 0); })},
      {"einsum", [](Call& call) { return einsum(call.word(1, "equation", ""), call.vars(0)); }},
      {"tensordot", tensor_dot},
      {"linalg.multi_dot", chain},
      {"linalg.matrix_power", power},
      {"linalg.vecdot", [](Call& call) { return sum(call.var(0) * call.var(1), {call.integer(kKeyword, "dim", -1)}); }},
      {"cov", covariance},
      {"cross", cross<true>},
      {"linalg.cross", cross<false>},
      {"nn.functional.linear",
       [](Call& call) {
         Var x = call.var(0), weight = call.var(1);
         if (weight.rank() == 1)
           return x.rank() && call.given(2, "bias") ? product(x, weight) + call.var(2, "bias") : product(x, weight);
         Var y = linear(x.rank() == 1 ? unsqueeze(x, 0) : x, weight, call.maybe(2, "bias"));
         return x.rank() == 1 ? squeeze(y, 0) : y;
       }},
      {"nn.functional.bilinear",
       [](Call& call) {
         Var y = einsum("...i,oij,...j->...o", {call.var(0), call.var(2), call.var(1)});
         return call.given(3, "bias") ? y + call.var(3, "bias") : y;
       }},
  };
}

}  // namespace whence::opinfo
