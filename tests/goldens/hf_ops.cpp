// hf/core/op/*: one operation per file. The name of the case picks the row of the table, `config` holds its attributes,
// `cot.*` the upstream gradient of each output; loss = sum <cot, output>.
#include <cmath>

#include "ops/conv.h"
#include "tests/goldens/pending.h"
#include "tests/goldens/runner.h"

namespace whence::goldens {
namespace {

struct OpCase {
  const File& file;
  DType dtype;
  Json config;
  Graph g;
  std::map<std::string, Var> values;  // "input.x", "param.weight"
  std::vector<std::pair<std::string, Tensor>> feeds;

  bool has(const std::string& name) const { return file.has("input." + name) || file.has("param." + name); }
  Var operator()(const std::string& name) {
    std::string key = file.has("input." + name) ? "input." + name : "param." + name;
    if (auto it = values.find(key); it != values.end()) return it->second;
    Tensor t = file.tensor(key, dtype);
    feeds.emplace_back(key, t);
    return values[key] = g.input(key, t.shape(), t.dtype());
  }
  std::optional<Arg> maybe(const std::string& name) {
    if (!has(name)) return {};
    return Arg((*this)(name));
  }
  double real(const char* key, double otherwise) const {
    if (!config.contains(key) || config.at(key).is_null()) return otherwise;
    return config.at(key).get<double>();
  }
  int64_t integer(const char* key, int64_t otherwise) const { return int64_t(real(key, double(otherwise))); }
  Ints ints(const char* key, size_t n, int64_t otherwise) const {
    if (!config.contains(key) || config.at(key).is_null()) return Ints(n, otherwise);
    if (config.at(key).is_array()) return config.at(key).get<Ints>();
    return Ints(n, config.at(key).get<int64_t>());
  }
  Var c(double v) { return g.constant(v, dtype); }
};

using Outputs = std::map<std::string, Var>;
using Builder = std::function<Outputs(OpCase&)>;

Outputs y(Var v) { return {{"y", v}}; }

// ---- compositions the library has under no name of its own ------------------------------------------------------------

Var halves(Var x, Var (*f)(Arg)) {
  auto p = chunk(x, 2, -1);
  return f(p[0]) * p[1];
}
Var row_norm(Var x, double eps) {
  Var n = sqrt(sum(square(x), {-1}, true));
  return x / maximum(n, eps);
}
Var standard(Var x, Ints axes, double eps) {
  Var d = x - mean(x, axes, true);
  return d * rsqrt(mean(square(d), axes, true) + eps);
}
Var per_channel(Var v, int rank) {
  Shape s = Shape::filled(rank, 1);
  s[1] = v.numel();
  return reshape(v, s);
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
  return y(affine(o, (x - per_channel(o("running_mean"), x.rank())) * rsqrt(per_channel(o("running_var"), x.rank()) + o.real("eps", 1e-5))));
}

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

// Scores with everything that may act on them; the pieces that the fused op takes are checked against it where it applies.
Outputs attention_case(OpCase& o, const std::string& kind) {
  NEED(softmax);
  Var q = o("q"), k = o("k"), v = o("v");
  int64_t T = q.shape()[2], S = k.shape()[2], H = q.shape()[1], groups = H / k.shape()[1];
  double scale = o.real("scale", 1 / std::sqrt(double(q.shape()[-1])));
  bool causal = kind.starts_with("causal") || kind == "sliding_window" || kind == "softcap" || kind == "gqa";
  // Which of these are causal is not in the file's configuration: the stored probabilities say it.
  if (o.file.has("output.probs") && T <= S) {
    Tensor p = o.file.tensor("output.probs", f64);
    double above = 0;
    for (int64_t i = 0; i < T; ++i)
      for (int64_t j = i + S - T + 1; j < S; ++j) above = std::max(above, p.slice(2, i, i + 1).slice(3, j, j + 1).contiguous_copy().to_vector<double>()[0]);
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
  Var blocked = o.c(-INFINITY);
  auto keep = [&](Var visible) { s = where(visible, s, blocked); };
  Var gap = cast(distance, o.dtype) + double(S - T);
  if (causal) keep(greater_equal(gap, 0.0));
  if (o.config.contains("window")) keep(less(gap, o.real("window", 0)));
  if (o.has("mask")) keep(o("mask"));
  Var p = softmax(s, -1);
  NEED(logsumexp);
  Outputs out{{"y", matmul(p, vv)}, {"probs", p}, {"lse", logsumexp(s, {-1}, false)}};
  bool fits = static_cast<decltype(&attention)>(attention) != nullptr && !o.config.contains("softcap") && !o.config.contains("window") && kind != "alibi" && v.shape()[-1] == q.shape()[-1];
  if (fits) {
    AttentionOptions a{.causal = causal, .scale = scale};
    if (o.has("mask")) a.mask = reshape(o("mask"), {q.shape()[0], S});
    if (o.has("bias")) a.bias = o("bias");
    out["y"] = attention(q, k, v, a);
  }
  return out;
}

Outputs mha_module(OpCase& o, bool causal) {
  NEED(attention);
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

CrossEntropyOptions cross_entropy_options(const OpCase& o) {
  CrossEntropyOptions c;
  c.ignore_index = o.integer("ignore_index", -100);
  c.label_smoothing = o.real("label_smoothing", 0);
  std::string r = o.config.value("reduction", "mean");
  c.reduction = r == "sum" ? Reduction::sum : r == "none" ? Reduction::none : Reduction::mean;
  return c;
}

Outputs causal_conv(OpCase& o, const std::string& kind) {
  NEED(causal_conv1d);
  bool blc = kind.ends_with("_blc");
  Var x = blc ? o("x") : transpose(o("x"), 1, 2), w = reshape(o("weight"), {o("weight").shape()[0], o("weight").shape()[2]});
  std::optional<Arg> state;
  Outputs out;
  int64_t K = w.shape()[1];
  if (o.has("state")) {  // the last K inputs, oldest first; the convolution needs K - 1 of them
    Var s = transpose(o("state"), 1, 2);
    state = slice(s, 1, 1, K);
    Var all = concat({s, x}, 1);
    out["state_after"] = transpose(slice(all, 1, all.shape()[1] - K), 1, 2);
  }
  Var v = causal_conv1d(x, w, o.maybe("bias"), state);
  if (kind.ends_with("_silu")) v = silu(v);
  out["y"] = blc ? v : transpose(v, 1, 2);
  return out;
}

Var gated_by_scale(OpCase& o) { return o("weight") + 1.0; }

Builder unary(Var (*f)(Arg)) {
  return [f](OpCase& o) { return y(f(o("x"))); };
}
Builder binary(Var (*f)(Arg, Arg)) {
  return [f](OpCase& o) { return y(f(o("a"), o("b"))); };
}
template <class F> Builder of_x(F f) {
  return [f](OpCase& o) { return y(f(o, o("x"))); };
}

const std::map<std::string, Builder>& table() {
  static const std::map<std::string, Builder> t{
      // unary
      {"unary/abs", unary(abs)}, {"unary/cos", unary(cos)}, {"unary/erf", unary(erf)}, {"unary/exp", unary(exp)}, {"unary/expm1", unary(expm1)},
      {"unary/gelu_erf", unary(gelu)}, {"unary/gelu_tanh", unary(gelu_tanh)}, {"unary/log", unary(log)}, {"unary/log1p", unary(log1p)},
      {"unary/logsigmoid", unary(log_sigmoid)}, {"unary/reciprocal", unary(reciprocal)}, {"unary/relu", unary(relu)}, {"unary/rsqrt", unary(rsqrt)},
      {"unary/sigmoid", unary(sigmoid)}, {"unary/silu", unary(silu)}, {"unary/sin", unary(sin)}, {"unary/softplus", unary(softplus)}, {"unary/sqrt", unary(sqrt)},
      {"unary/square", unary(square)}, {"unary/tanh", unary(tanh)},
      {"unary/clamp", of_x([](OpCase&, Var x) { return clamp(x, -0.7, 0.9); })},
      {"unary/elu", of_x([](OpCase&, Var x) { return where(greater(x, 0.0), x, expm1(minimum(x, 0.0)) * 1.3); })},
      {"unary/leaky_relu", of_x([](OpCase&, Var x) { return leaky_relu(x, 0.1); })},
      {"unary/relu6", of_x([](OpCase&, Var x) { return clamp(x, 0, 6); })},
      {"unary/hardsigmoid", of_x([](OpCase&, Var x) { return clamp(x + 3.0, 0, 6) * (1.0 / 6); })},
      {"unary/hardswish", of_x([](OpCase&, Var x) { return x * clamp(x + 3.0, 0, 6) * (1.0 / 6); })},
      {"unary/mish", of_x([](OpCase&, Var x) { return x * tanh(softplus(x)); })},
      {"unary/quick_gelu", of_x([](OpCase&, Var x) { return x * sigmoid(x * 1.702); })},
      {"unary/softcap", of_x([](OpCase&, Var x) { return tanh(x * 0.2) * 5.0; })},
      {"unary/softplus_beta2", of_x([](OpCase&, Var x) { return softplus(x * 2.0) * 0.5; })},
      {"unary/softshrink", of_x([](OpCase&, Var x) { return relu(x - 0.5) - relu(neg(x) - 0.5); })},
      {"unary/softsign", of_x([](OpCase&, Var x) { return x / (abs(x) + 1.0); })},
      {"unary/pow3", of_x([](OpCase&, Var x) { return square(x) * x; })},
      {"unary/pow_2p5", of_x([](OpCase&, Var x) { return pow(x, 2.5); })},
      {"unary/logit", of_x([](OpCase&, Var x) { return log(x / (1.0 - x)); })},
      {"unary/geglu", of_x([](OpCase&, Var x) { return halves(x, gelu); })},
      {"unary/swiglu", of_x([](OpCase&, Var x) { return halves(x, silu); })},
      {"unary/glu_sigmoid", of_x([](OpCase&, Var x) { auto p = chunk(x, 2, -1); return p[0] * sigmoid(p[1]); })},
      {"unary/prelu", [](OpCase& o) { Var x = o("x"); return y(where(greater(x, 0.0), x, x * per_channel(o("weight"), x.rank()))); }},
      // binary
      {"binary/add", binary(add)}, {"binary/sub", binary(sub)}, {"binary/mul", binary(mul)}, {"binary/div", binary(div)}, {"binary/pow", binary(pow)},
      {"binary/maximum", binary(maximum)}, {"binary/minimum", binary(minimum)},
      {"binary/where", [](OpCase& o) { Var a = o("a"), b = o("b"); return y(where(greater(a, b), a * 2.0, b * 3.0)); }},
      {"binary/logaddexp", [](OpCase& o) { Var a = o("a"), b = o("b"), d = a - b; return y(maximum(a, b) + log1p(exp(neg(abs(d))))); }},
      // reductions
      {"reduce/sum_all", of_x([](OpCase&, Var x) { return sum(x); })}, {"reduce/sum_axes02", of_x([](OpCase&, Var x) { return sum(x, {0, 2}); })},
      {"reduce/sum_axis1_keep", of_x([](OpCase&, Var x) { return sum(x, {1}, true); })}, {"reduce/mean_last", of_x([](OpCase&, Var x) { return mean(x, {-1}); })},
      {"reduce/var_biased", [](OpCase& o) { NEED(variance); return y(variance(o("x"), {1, 2}, false, 0)); }},
      {"reduce/var_unbiased", [](OpCase& o) { NEED(variance); return y(variance(o("x"), {-1}, false, 1)); }},
      {"reduce/std_unbiased", [](OpCase& o) { NEED(variance); return y(sqrt(variance(o("x"), {1}, false, 1))); }},
      {"reduce/standardize", [](OpCase& o) { NEED(variance); Var x = o("x"); return y((x - mean(x, {-1}, true)) / sqrt(variance(x, {-1}, true, 1))); }},
      {"reduce/norm1_all", of_x([](OpCase&, Var x) { return sum(abs(x)); })}, {"reduce/norm2_last", of_x([](OpCase&, Var x) { return sqrt(sum(square(x), {-1})); })},
      {"reduce/l2_normalize", of_x([](OpCase&, Var x) { return row_norm(x, 1e-12); })},
      {"reduce/logsumexp_last", [](OpCase& o) { NEED(logsumexp); return y(logsumexp(o("x"), {-1}, false)); }},
      {"reduce/logsumexp_axes01", [](OpCase& o) { NEED(logsumexp); return y(logsumexp(o("x"), {0, 1}, false)); }},
      {"reduce/softmax_last", [](OpCase& o) { NEED(softmax); return y(softmax(o("x"), -1)); }}, {"reduce/softmax_axis1", [](OpCase& o) { NEED(softmax); return y(softmax(o("x"), 1)); }},
      {"reduce/softmin", [](OpCase& o) { NEED(softmax); return y(softmax(neg(o("x")), -1)); }}, {"reduce/log_softmax_last", [](OpCase& o) { NEED(log_softmax); return y(log_softmax(o("x"), -1)); }},
      {"reduce/cumsum_last", [](OpCase& o) { NEED(cumsum); return y(cumsum(o("x"), -1, false)); }}, {"reduce/cumsum_axis1", [](OpCase& o) { NEED(cumsum); return y(cumsum(o("x"), 1, false)); }},
      {"reduce/cumsum_reverse", [](OpCase& o) { NEED(cumsum); return y(cumsum(o("x"), -1, true)); }},
      {"reduce/argmax", [](OpCase& o) { NEED(argmax); Var x = o("x"); return Outputs{{"last", argmax(x, -1, false)}, {"all", argmax(reshape(x, {x.numel()}), 0, false)}}; }},
      {"reduce/max_values_indices", [](OpCase& o) { NEED(whence::max); NEED(argmax); Var x = o("x"); int64_t a = o.integer("axis", -1); return Outputs{{"values", whence::max(x, {a}, false)}, {"indices", argmax(x, a, false)}}; }},
      {"reduce/min_values_indices", [](OpCase& o) { NEED(whence::min); Var x = o("x"); int64_t a = o.integer("axis", -1); return Outputs{{"values", whence::min(x, {a}, false)}, {"indices", argmin(x, a, false)}}; }},
      {"reduce/topk", [](OpCase& o) { NEED(topk); TopK r = topk(o("x"), o.integer("k", 1), o.integer("axis", -1)); return Outputs{{"values", r.values}, {"indices", r.indices}}; }},
      {"reduce/topk_smallest", [](OpCase& o) { NEED(topk); TopK r = topk(neg(o("x")), o.integer("k", 1), o.integer("axis", -1)); return Outputs{{"values", neg(r.values)}, {"indices", r.indices}}; }},
      {"reduce/sort", [](OpCase& o) { NEED(argsort); Var x = o("x"); int64_t a = o.integer("axis", -1); Var i = argsort(x, a, o.config.value("descending", false)); return Outputs{{"values", take_along_axis(x, i, a)}, {"indices", i}}; }},
      {"reduce/permute", of_x([](OpCase&, Var x) { return permute(x, {2, 0, 1}) * 1.5; })}, {"reduce/flip", of_x([](OpCase&, Var x) { return flip(x, {0, 2}); })},
      {"reduce/roll", of_x([](OpCase&, Var x) { return roll(x, {2, -1}, {2, 1}); })}, {"reduce/tile", of_x([](OpCase&, Var x) { return repeat(x, {2, 1, 3}); })},
      {"reduce/repeat_interleave", of_x([](OpCase&, Var x) { return repeat_interleave(x, 3, 1); })},
      {"reduce/slice_step", of_x([](OpCase&, Var x) { return slice(slice(x, 1, 1, INT64_MAX, 2), 2, 0, -1); })},
      {"reduce/diff", of_x([](OpCase&, Var x) { return slice(x, -1, 1) - slice(x, -1, 0, -1); })},
      {"reduce/tril", of_x([](OpCase& o, Var x) {
         Var d = unsqueeze(arange(o.g, x.shape()[-2], i64), 1) - unsqueeze(arange(o.g, x.shape()[-1], i64), 0);
         return where(greater_equal(cast(d, o.dtype), 1.0), x, 0.0);  // diagonal -1
       })},
      {"reduce/triu", of_x([](OpCase& o, Var x) {
         Var d = unsqueeze(arange(o.g, x.shape()[-2], i64), 1) - unsqueeze(arange(o.g, x.shape()[-1], i64), 0);
         return where(less_equal(cast(d, o.dtype), -1.0), x, 0.0);  // diagonal 1
       })},
      {"reduce/diagonal", [](OpCase& o) { NEED(einsum); return y(einsum("bii->bi", {slice(o("x"), 2, 0, std::min(o("x").shape()[1], o("x").shape()[2]))}, std::source_location::current())); }},
      {"reduce/unfold1d", of_x([](OpCase&, Var x) {
         std::vector<Var> windows;
         for (int64_t b = 0; b + 3 <= x.shape()[2]; b += 2) windows.push_back(slice(x, 2, b, b + 3));
         return stack(windows, 2);
       })},
      // shapes
      {"shape/cat", [](OpCase& o) { return y(concat({o("a"), o("b"), o("c")}, o.integer("axis", 0))); }}, {"shape/stack", [](OpCase& o) { return y(stack({o("a"), o("b")}, o.integer("axis", 0))); }},
      {"shape/split", [](OpCase& o) { auto p = split(o("x"), o.config.at("sizes").get<Ints>(), o.integer("axis", 0)); return Outputs{{"a", p[0]}, {"b", p[1]}, {"c", p[2]}}; }},
      {"shape/pixel_shuffle", of_x([](OpCase& o, Var x) {
         int64_t r = o.integer("upscale", 2), B = x.shape()[0], C = x.shape()[1] / (r * r), H = x.shape()[2], W = x.shape()[3];
         return reshape(permute(reshape(x, {B, C, r, r, H, W}), {0, 1, 4, 2, 5, 3}), {B, C, H * r, W * r});
       })},
      {"shape/pixel_unshuffle", of_x([](OpCase& o, Var x) {
         int64_t r = o.integer("downscale", 2), B = x.shape()[0], C = x.shape()[1], H = x.shape()[2] / r, W = x.shape()[3] / r;
         return reshape(permute(reshape(x, {B, C, H, r, W, r}), {0, 1, 3, 5, 2, 4}), {B, C * r * r, H, W});
       })},
      // indexing
      {"index/embedding", [](OpCase& o) { NEED(embedding); return y(embedding(o("ids"), o("weight"), -1)); }},
      {"index/embedding_padding_idx", [](OpCase& o) { NEED(embedding); return y(embedding(o("ids"), o("weight"), o.integer("padding_idx", -1))); }},
      {"index/gather", [](OpCase& o) { NEED(take_along_axis); return y(take_along_axis(o("x"), o("index"), o.integer("axis", 0))); }},
      {"index/index_select", [](OpCase& o) { NEED(gather); return y(gather(o("x"), o("index"), o.integer("axis", 0))); }},
      {"index/scatter_add", [](OpCase& o) { NEED(scatter_add); return y(scatter_add(o("x"), o("index"), o("src"), o.integer("axis", 0))); }},
      {"index/scatter_distinct", [](OpCase& o) {
         NEED(scatter_add);
         Var x = o("x"), i = o("index"), src = o("src"), zero = broadcast_to(o.c(0), x.shape());
         Var hit = scatter_add(zero, i, broadcast_to(o.c(1), src.shape()), o.integer("axis", 0));
         return y(where(greater(hit, 0.0), scatter_add(zero, i, src, o.integer("axis", 0)), x));
       }},
      {"index/index_add", [](OpCase& o) {
         NEED(scatter_add);
         Var src = o("src"), i = o("index");
         return y(scatter_add(o("x"), broadcast_to(unsqueeze(i, 1), src.shape()), src, o.integer("axis", 0)));
       }},
      {"index/masked_fill", [](OpCase& o) { return y(where(o("mask"), o.c(o.real("value", 0)), o("x"))); }},
      {"index/one_hot_matmul", [](OpCase& o) { NEED(one_hot); return y(matmul(one_hot(o("ids"), o("weight").shape()[0], o.dtype), o("weight"))); }},
      {"index/segment_mean", [](OpCase& o) {
         NEED(one_hot);
         Var m = transpose(one_hot(o("seg"), o.file.tensor("output.y", f64).shape()[0], o.dtype));  // segments x rows
         return y(matmul(m, o("x")) / sum(m, {1}, true));
       }},
      // products
      {"matmul/2d", binary(matmul)}, {"matmul/batched", binary(matmul)}, {"matmul/broadcast", binary(matmul)},
      {"matmul/transposed_b", [](OpCase& o) { return y(matmul(o("a"), transpose(o("b")))); }}, {"matmul/linear", [](OpCase& o) { return y(linear(o("x"), o("weight"), o.maybe("bias"))); }},
      {"matmul/mat_vec", [](OpCase& o) { return y(squeeze(matmul(o("a"), unsqueeze(o("b"), 1)), -1)); }},
      {"matmul/vec_mat", [](OpCase& o) { return y(squeeze(matmul(unsqueeze(o("a"), 0), o("b")), -2)); }},
      {"matmul/bilinear", [](OpCase& o) {
         Var a = o("a"), b = o("b"), w = o("weight");  // (B, I), (B, J), (O, I, J)
         Var t = matmul(unsqueeze(unsqueeze(a, 1), 1), unsqueeze(w, 0));  // (B, O, 1, J)
         return y(sum(squeeze(t, 2) * unsqueeze(b, 1), {-1}) + o("bias"));
       }},
      // norms
      {"norm/layer_norm", [](OpCase& o) { NEED(layer_norm); return y(layer_norm(o("x"), o.maybe("weight"), o.maybe("bias"), o.real("eps", 1e-5))); }},
      {"norm/layer_norm_weight_only", [](OpCase& o) { NEED(layer_norm); return y(layer_norm(o("x"), Arg(gated_by_scale(o)), {}, o.real("eps", 1e-5))); }},
      {"norm/layer_norm_2axes", of_x([](OpCase& o, Var x) { return standard(x, {-2, -1}, o.real("eps", 1e-5)) * o("weight") + o("bias"); })},
      {"norm/multihead_layer_norm", [](OpCase& o) {
         NEED(layer_norm);
         Var x = o("x");
         int64_t h = o.integer("heads", 1), d = x.shape()[-1] / h;
         Var n = layer_norm(reshape(x, {x.shape()[0], x.shape()[1], h, d}), {}, {}, o.real("eps", 1e-5));
         return y(reshape(n, x.shape()) * gated_by_scale(o));
       }},
      {"norm/rms_norm", [](OpCase& o) { NEED(rms_norm); return y(rms_norm(o("x"), Arg(o("weight")), o.real("eps", 1e-6))); }},
      {"norm/rms_norm_1pw", [](OpCase& o) { NEED(rms_norm); return y(rms_norm(o("x"), Arg(gated_by_scale(o)), o.real("eps", 1e-6))); }},
      {"norm/rms_norm_gated", [](OpCase& o) { NEED(rms_norm); return y(rms_norm(o("x") * silu(o("z")), Arg(o("weight")), o.real("eps", 1e-6))); }},
      {"norm/group_norm", [](OpCase& o) { return group_norm(o, o.integer("groups", 1)); }}, {"norm/group_norm_1", [](OpCase& o) { return group_norm(o, 1); }},
      {"norm/instance_norm", [](OpCase& o) { return group_norm(o, o("x").shape()[1]); }},
      {"norm/batch_norm_eval", batch_norm_eval},
      {"norm/weight_norm_linear", [](OpCase& o) { Var v = o("v"); return y(matmul(o("x"), transpose(v / sqrt(sum(square(v), {1}, true)) * o("g")))); }},
      {"norm/local_response", of_x([](OpCase& o, Var x) {
         int64_t n = o.integer("size", 3), C = x.shape()[1];
         Var sq = pad(square(x), {0, 0, n / 2, (n - 1) / 2, 0, 0, 0, 0}), total = slice(sq, 1, 0, C);
         for (int64_t k = 1; k < n; ++k) total = total + slice(sq, 1, k, k + C);
         return x * pow(total * (o.real("alpha", 1) / double(n)) + o.real("k", 1), -o.real("beta", 0.75));
       })},
      // rotary positions
      {"rope/half_position_ids", of_x([](OpCase& o, Var x) { return turn_halves(x, unsqueeze(angles(o, o("position_ids"), x.shape()[-1], o.real("theta", 1e4)), 1)); })},
      {"rope/interleaved", of_x([](OpCase& o, Var x) {
         Var a = angles(o, positions(o, x), x.shape()[-1], o.real("theta", 1e4));
         Var even = slice(x, -1, 0, INT64_MAX, 2), odd = slice(x, -1, 1, INT64_MAX, 2);
         return reshape(stack({even * cos(a) - odd * sin(a), odd * cos(a) + even * sin(a)}, -1), x.shape());
       })},
      {"rope/partial_first_half", of_x([](OpCase& o, Var x) {
         int64_t d = o.integer("rotary_dim", x.shape()[-1]);
         return concat({turn_halves(slice(x, -1, 0, d), angles(o, positions(o, x), d, o.real("theta", 1e4))), slice(x, -1, d)}, -1);
       })},
      // attention
      {"attention/mha_module", [](OpCase& o) { return mha_module(o, false); }}, {"attention/mha_module_causal", [](OpCase& o) { return mha_module(o, true); }},
      {"attention/linear_attention", linear_attention},
      // losses
      {"loss/mse", [](OpCase& o) { NEED(mse_loss); return y(mse_loss(o("x"), o("target"), Reduction::mean)); }},
      {"loss/bce_logits_mean", [](OpCase& o) { NEED(bce_with_logits); return y(bce_with_logits(o("x"), o("target"), Reduction::mean)); }},
      {"loss/bce_logits_pos_weight", [](OpCase& o) { Var x = o("x"), t = o("target"); return y(sum(neg(o("pos_weight") * t * log_sigmoid(x) + (1.0 - t) * log_sigmoid(neg(x))))); }},
      {"loss/l1", [](OpCase& o) { return y(mean(abs(o("x") - o("target")))); }},
      {"loss/huber", [](OpCase& o) { double d = o.real("delta", 1); Var e = abs(o("x") - o("target")); return y(mean(where(less(e, d), square(e) * 0.5, (e - 0.5 * d) * d))); }},
      {"loss/smooth_l1", [](OpCase& o) { double b = o.real("beta", 1); Var e = abs(o("x") - o("target")); return y(mean(where(less(e, b), square(e) * (0.5 / b), e - 0.5 * b))); }},
      {"loss/nll", [](OpCase& o) { NEED(pick); return y(neg(mean(pick(log_softmax(o("x"), -1), o("target"))))); }},
      {"loss/cosine_similarity", [](OpCase& o) { return y(sum(row_norm(o("a"), 1e-8) * row_norm(o("b"), 1e-8), {-1})); }},
      {"loss/contrastive_clip", [](OpCase& o) {
         NEED(cross_entropy);
         Var s = matmul(row_norm(o("a"), 1e-12), transpose(row_norm(o("b"), 1e-12))) * exp(o("logit_scale"));
         Var i = arange(o.g, s.shape()[0], i64);
         return Outputs{{"logits", s}, {"loss", (cross_entropy(s, i, {}) + cross_entropy(transpose(s), i, {})) * 0.5}};
       }},
      {"loss/ce_class_weight", [](OpCase& o) {
         NEED(pick); NEED(gather);
         Var w = gather(o("weight"), o("target"), 0);
         return y(sum(neg(pick(log_softmax(o("x"), -1), o("target"))) * w) / sum(w));
       }},
      {"loss/ce_spatial", [](OpCase& o) { NEED(cross_entropy); return y(cross_entropy(permute(o("x"), {0, 2, 3, 1}), o("target"), cross_entropy_options(o))); }},
      {"loss/focal", [](OpCase& o) { NEED(pick); Var lp = pick(log_softmax(o("x"), -1), o("target")); return y(mean(neg(pow(1.0 - exp(lp), o.real("gamma", 2)) * lp))); }},
      {"loss/lm_shifted", [](OpCase& o) { NEED(cross_entropy); Var x = o("x"); return y(cross_entropy(slice(x, 1, 0, -1), slice(o("labels"), 1, 1), {})); }},
      {"loss/dice_bce", [](OpCase& o) {
         NEED(bce_with_logits);
         Var x = o("x"), t = o("target"), p = sigmoid(x);
         return y(bce_with_logits(x, t, Reduction::mean) + 1.0 - (sum(p * t) * 2.0 + 1.0) / (sum(p) + sum(t) + 1.0));
       }},
      {"loss/kl_batchmean", [](OpCase& o) { NEED(log_softmax); Var t = o("target"); return y(sum(t * (log(t) - log_softmax(o("x"), -1))) * (1.0 / double(o("x").shape()[0]))); }},
      {"loss/weibull_censored_nll", [](OpCase& o) {
         Var gamma = exp(o("log_shape")), eta = squeeze(matmul(o("x"), unsqueeze(o("beta"), 1)), -1), t = o("time");
         Var log_hazard = eta + o("log_shape") + (gamma - 1.0) * log(t), cumulative = exp(eta) * pow(t, gamma);
         return y(neg(sum(o("event") * log_hazard - cumulative)));
       }},
  };
  return t;
}

Builder find(const std::string& name) {
  if (auto it = table().find(name); it != table().end()) return it->second;
  auto tail = [&](const char* prefix) { return name.starts_with(prefix) ? name.substr(std::string(prefix).size()) : std::string(); };
  if (name.starts_with("loss/ce_")) return [](OpCase& o) { NEED(cross_entropy); return y(cross_entropy(o("x"), o("target"), cross_entropy_options(o))); };
  if (name.starts_with("norm/layer_norm_")) return table().at("norm/layer_norm");
  if (name.starts_with("norm/batch_norm_train")) return batch_norm_train;
  if (name.starts_with("rope/half_")) return of_x([](OpCase& o, Var x) { return turn_halves(x, angles(o, positions(o, x), x.shape()[-1], o.real("theta", 1e4))); });
  if (auto k = tail("attention/"); !k.empty()) return [k](OpCase& o) { return attention_case(o, k); };
  if (auto k = tail("conv1d/causal_"); !k.empty()) return [k](OpCase& o) { return causal_conv(o, k); };
  if ((name.starts_with("conv1d/") || name.starts_with("conv2d/") || name.starts_with("conv3d/") || name.starts_with("conv_transpose2d/")) && name != "conv2d/haar_analysis_synthesis")
    return [name](OpCase& o) {
      size_t space = size_t(o("x").rank() - 2);
      ConvOptions c{o.ints("stride", space, 1), o.ints("padding", space, 0), o.ints("dilation", space, 1), o.integer("groups", 1), o.ints("output_padding", space, 0)};
      bool transposed = name.find("transpose") != name.npos;
      return y(transposed ? conv_transpose(o("x"), o("weight"), o.maybe("bias"), c) : conv(o("x"), o("weight"), o.maybe("bias"), c));
    };
  if (name.starts_with("pool/avg") || name.starts_with("pool/adaptive_avg"))
    return [name](OpCase& o) {
      if (o.config.contains("ceil_mode") || o.config.contains("divisor_override")) throw OpsMissing(name);
      Var x = o("x");
      size_t space = size_t(x.rank() - 2);
      if (o.config.contains("output")) return y(adaptive_avg_pool(x, o.ints("output", space, 1)));
      PoolOptions p{o.ints("kernel_size", space, 1), o.config.contains("stride") ? o.ints("stride", space, 1) : Ints{}, o.ints("padding", space, 0), o.config.value("count_include_pad", true)};
      return y(avg_pool(x, p));
    };
  if (name.starts_with("einsum/"))
    return [](OpCase& o) {
      NEED(einsum);
      std::vector<Var> in;
      for (const char* n : {"a", "b", "c", "d"})
        if (o.has(n)) in.push_back(o(n));
      return y(einsum(o.config.at("equation").get<std::string>(), in, std::source_location::current()));
    };
  if (name.starts_with("shape/pad_"))
    return of_x([](OpCase& o, Var x) {
      static const std::map<std::string, PadMode> modes{{"constant", PadMode::constant}, {"reflect", PadMode::reflect}, {"replicate", PadMode::replicate}, {"circular", PadMode::circular}};
      Ints last_first = o.config.at("pad_last_axis_first").get<Ints>(), pads(size_t(2 * x.rank()), 0);
      for (size_t i = 0; i + 1 < last_first.size(); i += 2) {
        pads[size_t(2 * x.rank()) - 2 - i] = last_first[i];
        pads[size_t(2 * x.rank()) - 1 - i] = last_first[i + 1];
      }
      return pad(x, pads, modes.at(o.config.at("mode").get<std::string>()), o.real("value", 0));
    });
  throw OpsMissing(name);
}

}  // namespace

double f32_tolerance(const File& file, const std::string& key, double base) {
  Json dev = file.json("f32_rel_dev");
  double worst = 0;
  if (dev.is_object()) {
    if (dev.contains(key) && dev.at(key).is_number()) worst = dev.at(key).get<double>();
    else
      for (const auto& [name, v] : dev.items())
        if (v.is_number() && !dev.contains(key)) worst = std::max(worst, v.get<double>());
  }
  return std::max(base, 10 * worst);
}

void run_operator(const File& file, DType dtype, Check& check) {
  OpCase o{file, dtype, file.json("config"), Graph(), {}, {}};
  Outputs out = find(file.meta("case").substr(3))(o);
  // The reference's derivative of hardsigmoid multiplies by one sixth in single precision.
  bool sixth = file.meta("case") == "op/unary/hardsigmoid";
  auto tolerance = [&](const std::string& key) { return dtype == f64 ? (sixth && key.starts_with("grad.") ? 1e-7 : 1e-12) : f32_tolerance(file, key, 1e-5); };
  struct Wanted { std::string key; Var v; };
  std::vector<Wanted> wanted;
  Var loss;
  for (const auto& e : file.data.entries()) {
    if (e.name.starts_with("output.")) {
      auto it = out.find(e.name.substr(7));
      if (it == out.end()) throw OpsMissing("output " + e.name.substr(7) + " of " + file.meta("case"));
      wanted.push_back({e.name, it->second});
    }
    if (e.name.starts_with("cot.")) {
      Var v = out.at(e.name.substr(4)), term = sum(v * o.g.constant(file.tensor(e.name, dtype).reshaped(v.shape()).contiguous_tensor()));
      loss = loss.defined() ? loss + term : term;
    }
  }
  if (loss.defined()) {
    std::vector<Var> wrt;
    std::vector<std::string> keys;
    for (const auto& e : file.data.entries()) {
      if (!e.name.starts_with("grad.")) continue;
      std::string name = e.name.substr(5), key = name.starts_with("input.") ? name : "param." + name;
      if (!o.values.count(key)) o(key.substr(6));
      wrt.push_back(o.values.at(key));
      keys.push_back(e.name);
    }
    if (file.has("loss")) wanted.push_back({"loss", loss});
    std::vector<Var> d = grad(loss, wrt);
    for (size_t i = 0; i < d.size(); ++i) wanted.push_back({keys[i], d[i]});
  }
  std::vector<Var> vars;
  for (const Wanted& w : wanted) vars.push_back(w.v);
  Feeds feeds;
  for (const auto& [name, t] : o.feeds) feeds.emplace_back(name, t);
  Results r = compile(vars).run(feeds);
  for (size_t i = 0; i < wanted.size(); ++i) {
    Tensor want = file.tensor(wanted[i].key, f64);
    // A loss is a sum of terms that may cancel: its scale is that of the terms.
    check.compare(wanted[i].key, r[i].shape() == want.shape() ? r[i] : r[i].reshaped(want.shape()), want, tolerance(wanted[i].key), wanted[i].key == "loss" ? std::max(1.0, std::fabs(want.item())) : -1);
  }
}

}  // namespace whence::goldens
