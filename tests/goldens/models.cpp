// hf/core/ref/*: scans, cells and second derivatives from their formulas. Whole models are built by the library's model
// code where it exists.
#include <cmath>

#include "tests/goldens/runner.h"

namespace whence::goldens {

bool run_bert(const File& file, DType dtype, Check& check);                   // bert.cpp

namespace {

struct RefCase {
  const File& file;
  DType dtype;
  Json config;
  Graph g;
  std::map<std::string, Var> values;
  std::vector<std::pair<std::string, Tensor>> feeds;
  bool has(const std::string& name) const { return file.has("input." + name) || file.has("param." + name); }
  Var operator()(const std::string& name) {
    std::string key = file.has("input." + name) ? "input." + name : "param." + name;
    if (auto it = values.find(key); it != values.end()) return it->second;
    Tensor t = file.tensor(key, dtype);
    feeds.emplace_back(key, t);
    return values[key] = g.input(key, t.shape(), t.dtype());
  }
};
using Outputs = std::map<std::string, Var>;

Outputs linear_recurrence(RefCase& c, const std::string& kind) {
  if (kind == "linear_complex") throw OpsMissing("complex scan");
  Var a = c("a"), b = c("b");
  while (a.rank() < b.rank()) a = unsqueeze(a, -1);
  bool reverse = kind.ends_with("_reverse");
  if (c.has("h0")) {  // h_0 enters with the first input
    Var first = slice(a, 1, 0, 1) * unsqueeze(c("h0"), 1) + slice(b, 1, 0, 1);
    b = concat({first, slice(b, 1, 1)}, 1);
  }
  return {{"y", linear_scan(a, b, 1, reverse)}};
}

// A two-layer network under a mean square: gradients and Hessian times vector.
Var second_order_function(RefCase& c, const std::string& f) {
  Var h = linear(c("x"), c("w1"), Arg(c("b1"))), a;
  if (f == "gelu_erf") a = gelu(h);
  else if (f == "sigmoid") a = sigmoid(h);
  else if (f == "silu") a = silu(h);
  else if (f == "tanh") a = tanh(h);
  else if (f == "softplus") a = softplus(h);
  else if (f == "exp_log") a = log(exp(h) + 1.5);
  else throw OpsMissing("ref/second_order/" + f);
  return mean(square(linear(a, c("w2"))));
}

Outputs selective_scan(RefCase& c) {
  Var u = c("u"), dt = c("dt"), B = c("B"), C = c("C"), A = c("A");  // u, dt (b, E, L); A (E, N); B, C (b, N, L) or (b, G, N, L)
  if (c.has("dt_bias")) dt = dt + reshape(c("dt_bias"), {1, u.shape()[1], 1});
  if (c.config.value("softplus", c.has("dt_bias"))) dt = softplus(dt);
  int64_t batch = u.shape()[0], E = u.shape()[1], L = u.shape()[2], N = A.shape()[1];
  auto spread = [&](Var v) {  // (b, E, L, N)
    if (v.rank() == 3) return broadcast_to(unsqueeze(transpose(v), 1), {batch, E, L, N});
    return repeat_interleave(transpose(v), E / v.shape()[1], 1);
  };
  Var d = unsqueeze(dt, -1), decay = exp(d * reshape(A, {1, E, 1, N})), in = d * spread(B) * unsqueeze(u, -1);
  bool reverse = c.file.meta("case").ends_with("/reverse");
  if (c.has("h0")) {
    Var first = slice(decay, 2, 0, 1) * unsqueeze(c("h0"), 2) + slice(in, 2, 0, 1);
    in = concat({first, slice(in, 2, 1)}, 2);
  }
  Var h = linear_scan(decay, in, 2, reverse), y = sum(h * spread(C), {-1});
  if (c.has("D")) y = y + u * reshape(c("D"), {1, E, 1});
  if (c.has("z")) y = y * silu(c("z"));
  return {{"y", y}, {"state", select(h, 2, reverse ? 0 : L - 1)}};
}

// Parallel form: h = S v / (max(|sum S|, e^-m) + eps), S = (q k^T / sqrt D) e^(logD - m).
Outputs mlstm_parallel(RefCase& c) {
  Var q = c("q"), k = c("k"), v = c("v"), F = cumsum(log_sigmoid(c("fg")), -1, false);
  int64_t T = q.shape()[2], D = q.shape()[3];
  Var gap = unsqueeze(arange(c.g, T, i64), 1) - unsqueeze(arange(c.g, T, i64), 0);
  Var log_d = where(greater_equal(cast(gap, c.dtype), 0.0), unsqueeze(F, -1) - unsqueeze(F, -2) + unsqueeze(c("ig"), -2), -INFINITY);
  Var m = whence::max(log_d, {-1}, true);
  Var s = matmul(q, transpose(k)) * (1 / std::sqrt(double(D))) * exp(log_d - m);
  Var norm = maximum(abs(sum(s, {-1}, true)), exp(neg(m))) + c.config.value("eps", 0.0);
  return {{"h", matmul(s, v) / norm}, {"m", squeeze(m, -1)}};
}

}  // namespace

void run_reference(const File& file, DType dtype, Check& check) {
  if (run_bert(file, dtype, check)) return;
  const std::string& name = file.meta("case");
  RefCase c{file, dtype, file.json("config"), Graph(), {}, {}};
  auto tolerance = [&](const std::string& key) { return dtype == f64 ? 1e-10 : f32_tolerance(file, key, 1e-5); };
  Outputs out;
  Var loss;
  if (name.starts_with("ref/scan/")) out = linear_recurrence(c, name.substr(9));
  else if (name.starts_with("ref/s6/") && c.has("u") && name != "ref/s6/zoh_exact_B") out = selective_scan(c);
  else if (name.starts_with("ref/mlstm/parallel") || name == "ref/mlstm/long_gates") out = mlstm_parallel(c);
  else if (name.starts_with("ref/second_order/")) {
    Var y = second_order_function(c, name.substr(17));
    out["y"] = y;
    std::vector<Var> p{c("x"), c("w1"), c("b1"), c("w2")}, v{c("vx"), c("v1"), c("vb"), c("v2")};
    std::vector<Var> d = grad(y, p);
    Var along;
    for (size_t i = 0; i < p.size(); ++i) along = along.defined() ? along + sum(d[i] * v[i]) : sum(d[i] * v[i]);
    std::vector<Var> hv = grad(along, p);
    const char* names[] = {"x", "w1", "b1", "w2"};
    for (size_t i = 0; i < p.size(); ++i) {
      out[std::string("g_") + names[i]] = d[i];
      out[std::string("hv_") + names[i]] = hv[i];
    }
  } else throw OpsMissing("model " + name);

  struct Wanted { std::string key; Var v; };
  std::vector<Wanted> wanted;
  for (const auto& e : file.data.entries()) {
    if (e.name.starts_with("output.")) {
      auto it = out.find(e.name.substr(7));
      if (it == out.end()) throw OpsMissing("output " + e.name.substr(7) + " of " + name);
      wanted.push_back({e.name, it->second});
    }
    if (e.name.starts_with("cot.")) {
      Var v = out.at(e.name.substr(4)), term = sum(v * c.g.constant(file.tensor(e.name, dtype).reshaped(v.shape()).contiguous_tensor()));
      loss = loss.defined() ? loss + term : term;
    }
  }
  if (loss.defined()) {
    std::vector<Var> wrt;
    std::vector<std::string> keys;
    for (const auto& e : file.data.entries()) {
      if (!e.name.starts_with("grad.")) continue;
      std::string at = e.name.substr(5);
      wrt.push_back(c(at.starts_with("input.") ? at.substr(6) : at));
      keys.push_back(e.name);
    }
    std::vector<Var> d = grad(loss, wrt);
    for (size_t i = 0; i < d.size(); ++i) wanted.push_back({keys[i], d[i]});
  }
  std::vector<Var> vars;
  for (const Wanted& w : wanted) vars.push_back(w.v);
  Feeds feeds;
  for (const auto& [n, t] : c.feeds) feeds.emplace_back(n, t);
  Results r = compile(vars).run(feeds);
  for (size_t i = 0; i < wanted.size(); ++i) {
    Tensor want = file.tensor(wanted[i].key, f64);
    check.compare(wanted[i].key, r[i].shape() == want.shape() ? r[i] : r[i].reshaped(want.shape()), want, tolerance(wanted[i].key));
  }
}

}  // namespace whence::goldens
