// ref/scan, s6, ssd, s4, s5: linear recurrences and the state space layers made of them.
#include <cmath>

#include "tests/goldens/complex.h"
#include "tests/goldens/hf_ops.h"
#include "whence/models/mamba.h"

namespace whence::goldens {

namespace {

// A state before the first step enters with it: h_0 = a_0 state + b_0. Time is `axis`.
Var with_state(Var a, Var b, Var state, int64_t axis) {
  return concat({slice(b, axis, 0, 1) + slice(a, axis, 0, 1) * unsqueeze(state, axis), slice(b, axis, 1)}, axis);
}

Outputs linear_recurrence(OpCase& o) {
  Var a = o("a"), b = o("b");
  while (a.rank() < b.rank()) a = unsqueeze(a, -1);
  if (o.has("h0")) b = with_state(a, b, o("h0"), 1);
  return y(linear_scan(a, b, 1, o.name.ends_with("_reverse")));
}

// h_t = a_t h_{t-1} + b_t over axis 1 by doubling: after round k every step has taken in the 2^k steps before it.
Complex complex_scan(Complex a, Complex b) {
  int64_t T = b.re.size(1);
  for (int64_t step = 1; step < T; step *= 2) {
    auto earlier = [&](Var v, double before) {
      Ints pads(size_t(2 * v.rank()), 0);
      pads[2] = step;
      return pad(slice(v, 1, 0, T - step), pads, PadMode::constant, before);
    };
    b = b + a * Complex(earlier(b.re, 0), earlier(b.im, 0));
    a = a * Complex(earlier(a.re, 1), earlier(a.im, 0));
  }
  return b;
}

// u, dt [b, E, L]; A [E, N]; B, C [b, N, L] or [b, G, N, L].
Outputs selective(OpCase& o, bool exact_input) {
  Var u = o("u"), dt = o("dt"), A = unsqueeze(o("A"), 1);  // [E, 1, N]
  int64_t E = u.size(1), L = u.size(2);
  if (o.has("dt_bias")) dt = dt + unsqueeze(o("dt_bias"), -1);
  if (o.config.value("softplus", o.has("dt_bias"))) dt = softplus(dt);
  auto spread = [&](Var v) {  // [b, E or 1, L, N]
    return v.rank() == 3 ? unsqueeze(transpose(v), 1) : repeat_interleave(transpose(v), E / v.size(1), 1);
  };
  Var step = unsqueeze(dt, -1) * A,
      in = (exact_input ? expm1(step) / A : unsqueeze(dt, -1)) * spread(o("B")) * unsqueeze(u, -1);
  bool reverse = o.name.ends_with("/reverse");
  if (o.has("h0")) in = with_state(exp(step), in, o("h0"), 2);
  Var h = linear_scan(exp(step), in, 2, reverse), out = sum(h * spread(o("C")), {-1});
  if (o.has("D")) out = out + u * unsqueeze(o("D"), -1);
  if (o.has("z")) out = out * silu(o("z"));
  return {{"y", out}, {"state", select(h, 2, reverse ? 0 : L - 1)}};
}

// exp(sum of x_k over s < k <= t) for s <= t, else 0: [.., L] -> [.., L, L].
Var exp_segsum(Var x) {
  int64_t L = x.size(-1);
  Var F = cumsum(x, -1), gap = unsqueeze(F, -1) - unsqueeze(F, -2);
  Var seen = greater_equal(unsqueeze(arange(x.graph(), L, i64), 1), unsqueeze(arange(x.graph(), L, i64), 0));
  return exp(where(seen, gap, -INFINITY));
}

// Mamba 2's recurrence, with one decay per head: x [b, L, H, P], dt [b, L, H], A [H], B and C [b, L, G, N].
struct Ssd {
  Var x, a, B, C, state;  // x dt, dt A; heads before time: [b, H, L, ..]; state [b, H, P, N]
  explicit Ssd(OpCase& o) {
    auto heads_first = [](Var v) { return permute(v, {0, 2, 1, 3}); };
    Var dt = o("dt");
    int64_t H = dt.size(2);
    x = heads_first(o("x") * unsqueeze(dt, -1));
    a = transpose(dt * o("A"));
    B = heads_first(repeat_interleave(o("B"), H / o("B").size(2), 2));
    C = heads_first(repeat_interleave(o("C"), H / o("C").size(2), 2));
    if (o.has("h0")) state = o("h0");
  }
  Outputs recurrent() const {
    Var decay = unsqueeze(unsqueeze(exp(a), -1), -1), drive = unsqueeze(x, -1) * unsqueeze(B, -2);  // [b, H, L, P, N]
    Var h = linear_scan(decay, state.defined() ? with_state(decay, drive, state, 2) : drive, 2);
    return {{"y", permute(sum(h * unsqueeze(C, -2), {-1}), {0, 2, 1, 3})}, {"state", select(h, 2, -1)}};
  }
  // Within chunks a masked product, between them a recurrence.
  Outputs chunked(int64_t chunk) const {
    std::vector<Var> y;
    Var h = state.defined() ? state : full(x.graph(), {x.size(0), x.size(1), x.size(3), B.size(3)}, 0, x.dtype());
    for (int64_t begin = 0; begin < x.size(2); begin += chunk) {
      auto part = [&](Var v) { return slice(v, 2, begin, std::min(begin + chunk, x.size(2))); };
      Var X = part(x), Bc = part(B), Cc = part(C), F = cumsum(part(a), -1), all = slice(F, -1, -1);
      Var within = matmul(matmul(Cc, transpose(Bc)) * exp_segsum(part(a)), X);
      y.push_back(within + matmul(Cc * unsqueeze(exp(F), -1), transpose(h)));
      h = unsqueeze(exp(all), -1) * h + matmul(transpose(X), Bc * unsqueeze(exp(all - F), -1));
    }
    return {{"y", permute(concat(y, 2), {0, 2, 1, 3})}, {"state", h}};
  }
};

// y[b, h, t] = sum over s of K[h, s] u[b, h, t - s], + D u.
Var long_convolution(Var K, Var u, Var D) {
  return transpose(causal_conv1d(transpose(u), flip(K, {-1}))) + u * unsqueeze(D, -1);
}

Outputs s4d(OpCase& o) {
  Var dt = unsqueeze(exp(o("log_dt")), -1);  // [H, 1]
  Complex A(neg(exp(o("A_re_log"))), o("A_im")), step(A.re * dt, A.im * dt), one = complex_exp(step);
  Complex weight = Complex(o("C")) * Complex(one.re - 1.0, one.im) / A;  // [H, N]
  Var time = arange(o.g, o("u").size(-1), o.dtype);                      // [L]
  Complex turned = complex_exp(Complex(unsqueeze(step.re, -1) * time, unsqueeze(step.im, -1) * time));
  Var K = complex_sum(Complex(unsqueeze(weight.re, -1), unsqueeze(weight.im, -1)) * turned, {1}).re * 2.0;
  return {{"K", K}, {"y", long_convolution(K, o("u"), o("D"))}};
}

// M [H, N, N] lower triangular, right side [H, N, R].
Var solve_lower(Var M, Var right) {
  std::vector<Var> rows;
  for (int64_t i = 0; i < M.size(1); ++i) {
    Var row = slice(M, 1, i, i + 1), rest = slice(right, 1, i, i + 1);  // [H, 1, N], [H, 1, R]
    if (i > 0) rest = rest - matmul(slice(row, 2, 0, i), concat(rows, 1));
    rows.push_back(rest / slice(row, 2, i, i + 1));
  }
  return concat(rows, 1);
}

// HiPPO-LegS through the bilinear transform, as a dense matrix.
Outputs s4_legs(OpCase& o) {
  int64_t N = o("B").size(1), L = o("u").size(-1);
  std::vector<double> entries, identity;
  for (int64_t n = 0; n < N; ++n)
    for (int64_t k = 0; k < N; ++k) {
      entries.push_back(n > k ? -std::sqrt(double((2 * n + 1) * (2 * k + 1))) : n == k ? -double(n + 1) : 0);
      identity.push_back(n == k);
    }
  Var A = o.g.constant(Tensor::from(entries, {N, N}).to(o.dtype)),
      I = o.g.constant(Tensor::from(identity, {N, N}).to(o.dtype));
  Var dt = reshape(exp(o("log_dt")), {-1, 1, 1}), left = I - A * dt * 0.5, step = solve_lower(left, I + A * dt * 0.5);
  Var state = solve_lower(left, unsqueeze(o("B"), -1) * dt), C = unsqueeze(o("C"), 1);  // [H, N, 1], [H, 1, N]
  std::vector<Var> K;
  for (int64_t l = 0; l < L; ++l) {
    K.push_back(squeeze(matmul(C, state), -1));
    state = matmul(step, state);
  }
  Var kernel = concat(K, 1);
  return {{"A", A}, {"K", kernel}, {"y", long_convolution(kernel, o("u"), o("D"))}};
}

// u [b, T, in], B [P, in, 2], C [out, P, 2].
Outputs s5(OpCase& o) {
  Var u = o("u"), dt = exp(o("log_dt"));
  Complex lambda(neg(exp(o("L_re_log"))), o("L_im")), step = complex_exp(Complex(lambda.re * dt, lambda.im * dt));
  Complex gain = Complex(step.re - 1.0, step.im) / lambda, B(o("B")), C(o("C"));
  Complex drive = Complex(linear(u, B.re), linear(u, B.im)) * gain;  // [b, T, P]
  auto every_step = [&](Var v) { return broadcast_to(v, drive.re.shape()); };
  Complex x = complex_scan({every_step(step.re), every_step(step.im)}, drive);
  return y((linear(x.re, C.re) - linear(x.im, C.im)) * 2.0 + u * o("D"));
}

// The parameters of a Mamba block under short names; x [b, L, C].
Var mamba_block(OpCase& o) {
  auto in = chunk(linear(o("x"), o("in_proj")), 2);
  Var u = silu(causal_conv1d(in[0], squeeze(o("conv_w"), 1), Arg(o("conv_b")))), A = neg(exp(o("A_log")));
  auto parts = split(linear(u, o("x_proj")), {o("dt_w").size(1), A.size(1), A.size(1)});
  Var dt = softplus(linear(parts[0], o("dt_w"), Arg(o("dt_b"))));
  return linear(models::selective_scan(u, dt, A, parts[1], parts[2], o("D")) * silu(in[1]), o("out_proj"));
}

}  // namespace

const Table& scan_cases() {
  static const Table t{
      {"scan/linear*", linear_recurrence},
      {"scan/linear_complex", just([](OpCase& o) { return complex_scan(Complex(o("a")), Complex(o("b"))).pair(); })},
      {"s6/*", [](OpCase& o) { return selective(o, false); }},
      {"s6/zoh_exact_B", [](OpCase& o) { return selective(o, true); }},
      {"s6/mamba_block", just(mamba_block)},
      {"ssd/*",
       [](OpCase& o) { return o.given("chunk") ? Ssd(o).chunked(o.integer("chunk", 1)) : Ssd(o).recurrent(); }},
      {"ssd/exp_segsum", of_x([](OpCase&, Var x) { return exp_segsum(x); })},
      {"s4/s4d", s4d},
      {"s4/legs_bilinear_dense", s4_legs},
      {"s5/mimo", s5},
  };
  return t;
}

}  // namespace whence::goldens
