// ref/mlstm, slstm, xlstm, memory, vision, second_order.
#include <cmath>

#include "tests/goldens/hf_ops.h"
#include "whence/models/xlstm_cells.h"

namespace whence::goldens {

namespace {

Outputs mlstm(OpCase& o) {
  using namespace models;
  Var q = o("q"), k = o("k"), v = o("v"), ig = o("ig"), fg = o("fg");
  double eps = o.real("eps", 0);
  bool recurrent = o.name.starts_with("mlstm/recurrent");
  if (!recurrent && !o.given("chunk")) {
    Mlstm r = mlstm_parallel(q, k, v, ig, fg, eps);
    return {{"h", r.h}, {"m", r.state.m}};
  }
  MlstmState from = mlstm_zeros(q, v);
  if (o.has("C0")) from = {o("C0"), o("n0"), o("m0")};
  Mlstm r = recurrent ? mlstm_recurrent(q, k, v, ig, fg, eps, from)
                      : mlstm_chunkwise(q, k, v, ig, fg, eps, o.integer("chunk", 1), from);
  return {{"h", r.h}, {"C", r.state.C}, {"n", r.state.n}, {"m", r.state.m}};
}

Outputs slstm_cell(OpCase& o) {
  models::SlstmState state;
  if (o.has("n0")) state = {o("y0"), o("c0"), o("n0"), o("m0")};
  Var y = models::slstm(o("wx"), o("Rk"), o("bias"), state);
  return {{"y", y}, {"y_last", state.y}, {"c_last", state.c}, {"n_last", state.n}, {"m_last", state.m}};
}

// A fast weight that learns v from k while it reads: momentum eta, rate theta, decay alpha. The gradient of its own
// loss is part of the graph that is differentiated.
Outputs linear_memory(OpCase& o) {
  Var W = o("W0"), S;
  std::vector<Var> y;
  for (int64_t t = 0, T = o("k").size(0); t < T; ++t) {
    auto at = [&](const char* name) { return select(o(name), 0, t); };
    Var loss = sum(square(squeeze(matmul(W, unsqueeze(at("k"), -1)), -1) - at("v"))),
        step = at("theta") * grad(loss, W);
    S = S.defined() ? at("eta") * S - step : neg(step);
    W = (1.0 - at("alpha")) * W + S;
    y.push_back(squeeze(matmul(W, unsqueeze(at("q"), -1)), -1));
  }
  return {{"y", stack(y, 0)}, {"W", W}};
}

// x [b, C, H, W] in four orders [b, 4, C, H W]: by rows, by columns, and both from the end; merging undoes them and
// adds.
Outputs cross_scan(OpCase& o) {
  Var x = o("x");
  int64_t B = x.size(0), C = x.size(1), H = x.size(2), W = x.size(3);
  Var rows = reshape(x, {B, C, H * W}), columns = reshape(transpose(x), {B, C, H * W});
  Var scanned = stack({rows, columns, flip(rows, {-1}), flip(columns, {-1})}, 1),
      scaled = scanned * unsqueeze(o("w"), -1);
  auto order = [&](int64_t k) { return select(scaled, 1, k); };
  Var by_rows = order(0) + flip(order(2), {-1}), by_columns = order(1) + flip(order(3), {-1});
  return {{"scanned", scanned}, {"merged", reshape(by_rows, x.shape()) + transpose(reshape(by_columns, {B, C, W, H}))}};
}

// A two-layer network under a mean square: gradients and Hessian times vector. Softmax has the labels 0, 1, .. under a
// cross entropy, and norms (whose squares hardly vary) a mean cube.
Outputs second_order(OpCase& o) {
  std::string f = o.tail("second_order/");
  Var h = linear(o("x"), o("w1"), Arg(o("b1"))), a;
  if (f == "gelu_erf") a = gelu(h);
  else if (f == "sigmoid") a = sigmoid(h);
  else if (f == "silu") a = silu(h);
  else if (f == "tanh") a = tanh(h);
  else if (f == "softplus") a = softplus(h);
  else if (f == "exp_log") a = log(exp(h) + 1.5);
  else if (f == "softmax") a = softmax(h);
  else if (f == "layernorm") a = layer_norm(h, {}, {}, 1e-5);
  else if (f == "rmsnorm") a = rms_norm(h, {}, 1e-6);
  else throw OpsMissing(o.name);
  Var z = linear(a, o("w2")), value;
  if (f == "softmax") {
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < z.size(0); ++i) labels.push_back(i % z.size(1));
    value = cross_entropy(z, o.g.constant(Tensor::from(labels)));
  } else value = mean(f.ends_with("norm") ? z * z * z : square(z));
  Outputs out = y(value);
  const char* names[] = {"x", "w1", "b1", "w2"};
  std::vector<Var> p{o("x"), o("w1"), o("b1"), o("w2")}, v{o("vx"), o("v1"), o("vb"), o("v2")}, d = grad(out["y"], p);
  Var along = sum(d[0] * v[0]);
  for (size_t i = 1; i < p.size(); ++i) along = along + sum(d[i] * v[i]);
  std::vector<Var> hv = grad(along, p);
  for (size_t i = 0; i < p.size(); ++i) {
    out[std::string("g_") + names[i]] = d[i];
    out[std::string("hv_") + names[i]] = hv[i];
  }
  return out;
}

}  // namespace

const Table& cell_cases() {
  static const Table t{
      {"mlstm/*", mlstm},
      {"slstm/*", slstm_cell},
      {"xlstm/headwise_linear", just([](OpCase& o) { return models::headwise(o("x"), o("w")); })},
      {"memory/linear_momentum_decay", linear_memory},
      {"vision/cross_scan_merge", cross_scan},
      {"second_order/*", second_order},
  };
  return t;
}

}  // namespace whence::goldens
