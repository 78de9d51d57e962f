// op/matmul, op/einsum, op/norm, op/rope, op/attention and op/rnn.
#include <cmath>

#include "tests/goldens/hf_ops.h"
#include "whence/nn/recurrent.h"

namespace whence::goldens {
namespace {

// ---- norms --------------------------------------------------------------------------------------------------------

Var standard(Var x, Ints axes, double eps) {
  Var d = x - mean(x, axes, true);
  return d * rsqrt(mean(square(d), axes, true) + eps);
}
Var affine(OpCase& o, Var y) {
  if (o.has("weight")) y = y * per_channel(o("weight"), y.rank());
  return o.has("bias") ? y + per_channel(o("bias"), y.rank()) : y;
}
Ints but_channel(int rank) {
  Ints a{0};
  for (int i = 2; i < rank; ++i) a.push_back(i);
  return a;
}

Outputs group_norm(OpCase& o, int64_t groups) {
  Var x = o("x");
  Shape s = x.shape();
  Var r = reshape(x, {s[0], groups, x.numel() / (s[0] * groups)});
  return y(affine(o, reshape(standard(r, {-1}, o.real("eps", 1e-5)), s)));
}

Outputs batch_norm_train(OpCase& o) {
  Var x = o("x");
  Ints axes = but_channel(x.rank());
  Var mu = mean(x, axes, true), d = x - mu, var = mean(square(d), axes, true);
  double n = double(x.numel() / x.shape()[1]), m = o.real("momentum", 0.1);
  Var flat_mu = reshape(mu, {x.shape()[1]}), flat_var = reshape(var, {x.shape()[1]});
  return {{"y", affine(o, d * rsqrt(var + o.real("eps", 1e-5)))},
          {"running_mean_after", o("running_mean") * (1 - m) + flat_mu * m},
          {"running_var_after", o("running_var") * (1 - m) + flat_var * (m * n / (n - 1))}};
}

Outputs batch_norm_eval(OpCase& o) {
  Var x = o("x");
  return y(affine(o, (x - per_channel(o("running_mean"), x.rank())) *
                         rsqrt(per_channel(o("running_var"), x.rank()) + o.real("eps", 1e-5))));
}

Var one_plus_weight(OpCase& o) { return o("weight") + 1.0; }

Var local_response(OpCase& o, Var x) {
  int64_t n = o.integer("size", 3), C = x.shape()[1];
  Var sq = pad(square(x), {0, 0, n / 2, (n - 1) / 2, 0, 0, 0, 0}), total = slice(sq, 1, 0, C);
  for (int64_t k = 1; k < n; ++k) total = total + slice(sq, 1, k, k + C);
  return x * pow(total * (o.real("alpha", 1) / double(n)) + o.real("k", 1), -o.real("beta", 0.75));
}

// ---- rotary positions ---------------------------------------------------------------------------------------------

Var angles(OpCase& o, Var positions, int64_t dim, double theta) {  // positions [.., L] -> [.., L, dim / 2]
  Tensor rates = Tensor::empty({dim / 2}, f64);
  for (int64_t i = 0; i < dim / 2; ++i) rates.data<double>()[i] = std::pow(theta, -2.0 * double(i) / double(dim));
  return unsqueeze(cast(positions, o.dtype), -1) * o.g.constant(rates.to(o.dtype));
}
Var turn_halves(Var x, Var angle) {
  Var full = concat({angle, angle}, -1);
  int64_t h = x.shape()[-1] / 2;
  return x * cos(full) + concat({neg(slice(x, -1, h)), slice(x, -1, 0, h)}, -1) * sin(full);
}
Var positions(OpCase& o, Var x) { return arange(o.g, x.shape()[-2], i64); }

Var rotate_interleaved(OpCase& o, Var x) {
  Var a = angles(o, positions(o, x), x.shape()[-1], o.real("theta", 1e4));
  Var even = slice(x, -1, 0, INT64_MAX, 2), odd = slice(x, -1, 1, INT64_MAX, 2);
  return reshape(stack({even * cos(a) - odd * sin(a), odd * cos(a) + even * sin(a)}, -1), x.shape());
}

// ---- attention ----------------------------------------------------------------------------------------------------

// Scores with everything that may act on them; the pieces that the fused op takes are checked against it where it
// applies.
Outputs attention_case(OpCase& o) {
  std::string kind = o.tail("attention/");
  Var q = o("q"), k = o("k"), v = o("v");
  int64_t T = q.shape()[2], S = k.shape()[2], H = q.shape()[1], groups = H / k.shape()[1];
  double scale = o.real("scale", 1 / std::sqrt(double(q.shape()[-1])));
  bool causal = kind.starts_with("causal") || kind == "sliding_window" || kind == "softcap" || kind == "gqa";
  // Which of these are causal is not in the file's configuration: the stored probabilities say it.
  if (o.file.has("output.probs") && T <= S) {
    Tensor p = o.file.tensor("output.probs", f64);
    double above = 0;
    for (int64_t i = 0; i < T; ++i)
      for (int64_t j = i + S - T + 1; j < S; ++j)
        above = std::max(above, p.slice(2, i, i + 1).slice(3, j, j + 1).contiguous_copy().to_vector<double>()[0]);
    causal = above == 0 && S > 1;
  }
  Var kk = groups > 1 ? repeat_interleave(k, groups, 1) : k, vv = groups > 1 ? repeat_interleave(v, groups, 1) : v;
  Var s = matmul(q, transpose(kk)) * scale;
  if (o.config.contains("softcap")) s = tanh(s * (1 / o.real("softcap", 1))) * o.real("softcap", 1);
  if (o.has("bias")) s = s + o("bias");
  Var distance = unsqueeze(arange(o.g, T, i64), 1) - unsqueeze(arange(o.g, S, i64), 0);  // i - j
  if (kind == "alibi") {
    Tensor slope = Tensor::empty({H, 1, 1}, f64);
    for (int64_t h = 0; h < H; ++h) slope.data<double>()[h] = -std::pow(2.0, -double(h + 1));
    s = s + cast(abs(distance), o.dtype) * o.g.constant(slope.to(o.dtype));
  }
  auto keep = [&](Var visible) { s = where(visible, s, -INFINITY); };
  Var gap = cast(distance, o.dtype) + double(S - T);
  if (causal) keep(greater_equal(gap, 0.0));
  if (o.config.contains("window")) keep(less(gap, o.real("window", 0)));
  if (o.has("mask")) keep(o("mask"));
  Var p = softmax(s, -1);
  Outputs out{{"y", matmul(p, vv)}, {"probs", p}, {"lse", logsumexp(s, {-1})}};
  bool fits = !o.config.contains("softcap") && !o.config.contains("window") && kind != "alibi" &&
              v.shape()[-1] == q.shape()[-1];
  if (fits) {
    AttentionOptions a{.causal = causal, .scale = scale};
    if (o.has("mask")) a.mask = reshape(o("mask"), {q.shape()[0], S});
    if (o.has("bias")) a.bias = o("bias");
    out["y"] = attention(q, k, v, a);
  }
  return out;
}

Outputs mha_module(OpCase& o, bool causal) {
  Var x = o("x");
  int64_t B = x.shape()[0], T = x.shape()[1], E = x.shape()[2], H = o.integer("heads", 1), D = E / H;
  auto parts = chunk(linear(x, o("in_w"), Arg(o("in_b"))), 3, -1);
  for (Var& p : parts) p = permute(reshape(p, {B, T, H, D}), {0, 2, 1, 3});
  Var h = attention(parts[0], parts[1], parts[2], {.causal = causal});
  return y(linear(reshape(permute(h, {0, 2, 1, 3}), {B, T, E}), o("out_w"), Arg(o("out_b"))));
}

Outputs linear_attention(OpCase& o) {
  auto phi = [](Var v) { return where(greater(v, 0.0), v + 1.0, exp(minimum(v, 0.0))); };
  Var q = phi(o("q")), k = phi(o("k"));
  int64_t T = q.shape()[2];
  Var gap = unsqueeze(arange(o.g, T, i64), 1) - unsqueeze(arange(o.g, T, i64), 0);
  Var seen = cast(greater_equal(cast(gap, o.dtype), 0.0), o.dtype);
  Var w = matmul(q, transpose(k)) * seen;
  return y(matmul(w, o("v")) / sum(w, {-1}, true));
}

// ---- recurrent cells ----------------------------------------------------------------------------------------------

// State after one step: {h} or {h, c}. x is the input's part W_ih x + b_ih.
std::vector<Var> cell(const std::string& kind, Var x, const std::vector<Var>& state, Var weight, Var bias) {
  Var h = state[0], u = linear(h, weight, Arg(bias));
  if (kind == "rnn") return {tanh(x + u)};
  if (kind == "gru") {
    auto p = chunk(x, 3, -1), q = chunk(u, 3, -1);
    Var r = sigmoid(p[0] + q[0]), z = sigmoid(p[1] + q[1]), n = tanh(p[2] + r * q[2]);
    return {(1.0 - z) * n + z * h};
  }
  auto p = chunk(x + u, 4, -1);
  Var c = sigmoid(p[1]) * state[1] + sigmoid(p[0]) * tanh(p[2]);
  return {sigmoid(p[3]) * tanh(c), c};
}

Outputs one_step(OpCase& o) {
  std::string kind = o.tail("rnn/").substr(0, o.tail("rnn/").find('_'));
  std::vector<Var> state{o("h")};
  if (kind == "lstm") state.push_back(o("c"));
  state = cell(kind, linear(o("x"), o("weight_ih"), Arg(o("bias_ih"))), state, o("weight_hh"), o("bias_hh"));
  Outputs out{{"h", state[0]}};
  if (kind == "lstm") out["c"] = state[1];
  return out;
}

// x [B, T, in]: h = tanh(W_ih x + b_ih + W_hh h + b_hh).
Scanned rnn_chain(Var x, const nn::RecurrentWeights& w, Var h, const ScanOptions& options) {
  auto step = [](const ScanStep& s) {
    Var next = cell("rnn", s.per_step[0], s.carries, s.shared[0], s.shared[1])[0];
    return ScanNext{{next}, {next}};
  };
  Var in = transpose(linear(x, w.ih, Arg(*w.bias_ih)), 0, 1);
  Scanned r = scan(step, {h}, {in}, {w.hh, *w.bias_hh}, options);
  return {r.carries, {transpose(r.out[0], 0, 1)}};
}

// x [B, T, in]; layer l and direction d start from h0[l * directions + d].
Outputs recurrent(OpCase& o) {
  std::string kind = o.tail("rnn/").substr(0, o.tail("rnn/").find('_'));
  int64_t layers = o.integer("layers", 1), directions = o.config.value("bidirectional", false) ? 2 : 1;
  Var x = o.config.value("batch_first", true) ? o("x") : transpose(o("x"), 0, 1);
  std::vector<Var> h_n, c_n;
  for (int64_t l = 0; l < layers; ++l) {
    std::vector<Var> sides;
    for (int64_t d = 0; d < directions; ++d) {
      std::string tail = "_l" + std::to_string(l) + (d ? "_reverse" : "");
      nn::RecurrentWeights w{o("weight_ih" + tail), o("weight_hh" + tail), o("bias_ih" + tail), o("bias_hh" + tail)};
      Var h = select(o("h0"), 0, l * directions + d);
      const ScanOptions options{.reverse = d == 1};
      Scanned r;
      if (kind == "lstm") r = nn::lstm_chain(x, w, h, select(o("c0"), 0, l * directions + d), options);
      else if (kind == "gru") r = nn::gru_chain(x, w, h, options);
      else r = rnn_chain(x, w, h, options);
      sides.push_back(r.out[0]);
      h_n.push_back(r.carries[0]);
      c_n.push_back(r.carries.back());
    }
    x = concat(sides, -1);
  }
  Outputs out{{"y", o.config.value("batch_first", true) ? x : transpose(x, 0, 1)}, {"h_n", stack(h_n)}};
  if (kind == "lstm") out["c_n"] = stack(c_n);
  return out;
}

auto product(OpCase& o) { return y(matmul(o("a"), o("b"))); }

Var einsum_case(OpCase& o) {
  std::vector<Var> in;
  for (const char* n : {"a", "b", "c", "d"})
    if (o.has(n)) in.push_back(o(n));
  return einsum(o.config.at("equation").get<std::string>(), in);
}

Var bilinear(OpCase& o) {
  Var a = o("a"), b = o("b"), w = o("weight");                     // (B, I), (B, J), (O, I, J)
  Var t = matmul(unsqueeze(unsqueeze(a, 1), 1), unsqueeze(w, 0));  // (B, O, 1, J)
  return sum(squeeze(t, 2) * unsqueeze(b, 1), {-1}) + o("bias");
}

Var heads_norm(OpCase& o) {
  Var x = o("x");
  int64_t h = o.integer("heads", 1), d = x.shape()[-1] / h;
  Var n = layer_norm(reshape(x, {x.shape()[0], x.shape()[1], h, d}), {}, {}, o.real("eps", 1e-5));
  return reshape(n, x.shape()) * one_plus_weight(o);
}

}  // namespace

const Table& layer_cases() {
  static const Table t{
      {"matmul/2d", product},
      {"matmul/batched", product},
      {"matmul/broadcast", product},
      {"matmul/transposed_b", just([](OpCase& o) { return matmul(o("a"), transpose(o("b"))); })},
      {"matmul/linear", just([](OpCase& o) { return linear(o("x"), o("weight"), o.maybe("bias")); })},
      {"matmul/mat_vec", just([](OpCase& o) { return squeeze(matmul(o("a"), unsqueeze(o("b"), 1)), -1); })},
      {"matmul/vec_mat", just([](OpCase& o) { return squeeze(matmul(unsqueeze(o("a"), 0), o("b")), -2); })},
      {"matmul/bilinear", just(bilinear)},
      {"einsum/*", just(einsum_case)},

      {"norm/layer_norm",
       just([](OpCase& o) { return layer_norm(o("x"), o.maybe("weight"), o.maybe("bias"), o.real("eps", 1e-5)); })},
      {"norm/layer_norm_*",
       just([](OpCase& o) { return layer_norm(o("x"), o.maybe("weight"), o.maybe("bias"), o.real("eps", 1e-5)); })},
      {"norm/layer_norm_weight_only",
       just([](OpCase& o) { return layer_norm(o("x"), Arg(one_plus_weight(o)), {}, o.real("eps", 1e-5)); })},
      {"norm/layer_norm_2axes", of_x([](OpCase& o, Var x) {
         return standard(x, {-2, -1}, o.real("eps", 1e-5)) * o("weight") + o("bias");
       })},
      {"norm/multihead_layer_norm", just(heads_norm)},
      {"norm/rms_norm", just([](OpCase& o) { return rms_norm(o("x"), Arg(o("weight")), o.real("eps", 1e-6)); })},
      {"norm/rms_norm_1pw",
       just([](OpCase& o) { return rms_norm(o("x"), Arg(one_plus_weight(o)), o.real("eps", 1e-6)); })},
      {"norm/rms_norm_gated",
       just([](OpCase& o) { return rms_norm(o("x") * silu(o("z")), Arg(o("weight")), o.real("eps", 1e-6)); })},
      {"norm/group_norm", [](OpCase& o) { return group_norm(o, o.integer("groups", 1)); }},
      {"norm/group_norm_1", [](OpCase& o) { return group_norm(o, 1); }},
      {"norm/instance_norm", [](OpCase& o) { return group_norm(o, o("x").shape()[1]); }},
      {"norm/batch_norm_train*", batch_norm_train},
      {"norm/batch_norm_eval", batch_norm_eval},
      {"norm/weight_norm_linear",
       just([](OpCase& o) { return linear(o("x"), o("v") / norm2(o("v"), {1}, true) * o("g")); })},
      {"norm/local_response", of_x(local_response)},

      {"rope/half_*", of_x([](OpCase& o, Var x) {
         return turn_halves(x, angles(o, positions(o, x), x.shape()[-1], o.real("theta", 1e4)));
       })},
      {"rope/half_position_ids", of_x([](OpCase& o, Var x) {
         return turn_halves(x, unsqueeze(angles(o, o("position_ids"), x.shape()[-1], o.real("theta", 1e4)), 1));
       })},
      {"rope/interleaved", of_x(rotate_interleaved)},
      {"rope/partial_first_half", of_x([](OpCase& o, Var x) {
         int64_t d = o.integer("rotary_dim", x.shape()[-1]);
         return concat(
             {turn_halves(slice(x, -1, 0, d), angles(o, positions(o, x), d, o.real("theta", 1e4))), slice(x, -1, d)},
             -1);
       })},

      {"attention/*", attention_case},
      {"attention/mha_module", [](OpCase& o) { return mha_module(o, false); }},
      {"attention/mha_module_causal", [](OpCase& o) { return mha_module(o, true); }},
      {"attention/linear_attention", linear_attention},

      {"rnn/*", recurrent},
      {"rnn/rnn_cell", one_step},
      {"rnn/gru_cell", one_step},
      {"rnn/lstm_cell", one_step},
  };
  return t;
}

}  // namespace whence::goldens
