// Mamba (S6) and Mamba 2 (a scalar decay per head) by their formulas: the state runs through linear_scan.
#include "tests/goldens/net.h"

namespace whence::goldens {

Var selective_scan(Var u, Var dt, Var A, Var B, Var C, Var D) {
  Var decay = exp(unsqueeze(dt, -1) * A), drive = unsqueeze(dt * u, -1) * unsqueeze(B, 2);  // [B, T, E, N]
  return sum(linear_scan(decay, drive, 1) * unsqueeze(C, 2), {-1}) + u * D;
}

namespace {

// x [B, T, C] -> [B, T, C]: the selective scan with E inner channels and N states.
Var s6(const Net& net, Var x) {
  auto in = chunk(net.linear(x, "in_proj"), 2);
  Var u = silu(net.conv1d(in[0], "conv1d"));  // [B, T, E]
  Var A = neg(exp(net("A_log")));             // [E, N]
  int64_t N = A.size(1), rank = net("x_proj.weight").size(0) - 2 * N;
  auto parts = split(net.linear(u, "x_proj"), {rank, N, N});
  Var dt = softplus(net.linear(parts[0], "dt_proj"));
  return net.linear(selective_scan(u, dt, A, parts[1], parts[2], net("D")) * silu(in[1]), "out_proj");
}

// The same with heads of P channels that share a decay, B and C per group of heads, and a gated norm.
Var ssd(const Net& net, const Json& config, Var x, double eps) {
  int64_t H = net("A_log").size(0), G = config.value("n_groups", int64_t(1)),
          N = config.at("state_size").get<int64_t>();
  int64_t inner = net("norm.weight").size(0), B = x.size(0), T = x.size(1);
  auto in = split(net.linear(x, "in_proj"), {inner, inner + 2 * G * N, H});  // z, (x, B, C), dt
  auto parts = split(silu(net.conv1d(in[1], "conv1d")), {inner, G * N, G * N});
  Var u = reshape(parts[0], {B, T, H, inner / H});
  auto of_heads = [&](Var v) { return repeat_interleave(reshape(v, {B, T, G, N}), H / G, 2); };  // [B, T, H, N]
  Var dt = softplus(in[2] + net("dt_bias"));
  if (config.contains("time_step_limit")) {
    const Json& limit = config.at("time_step_limit");
    dt = maximum(dt, limit.at(0).get<double>());
    if (limit.at(1).is_number()) dt = minimum(dt, limit.at(1).get<double>());
  }
  Var decay = exp(dt * neg(exp(net("A_log")))), step = unsqueeze(dt, -1);
  Var drive = unsqueeze(step * u, -1) * unsqueeze(of_heads(parts[1]), 3);  // [B, T, H, P, N]
  Var h = linear_scan(unsqueeze(unsqueeze(decay, -1), -1), drive, 1);
  Var y = sum(h * unsqueeze(of_heads(parts[2]), 3), {-1}) + u * unsqueeze(net("D"), -1);
  return net.linear(net.rms_norm(reshape(y, {B, T, inner}) * silu(in[0]), "norm", eps), "out_proj");
}

}  // namespace

ModelOutputs mamba(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("backbone");
  double eps = config.at("layer_norm_epsilon").get<double>();
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embeddings");
  Var x = out.embeds;
  for (int64_t i = 0, n = net.count("layers"); i < n; ++i) {
    Net layer = net.at("layers", i), mixer = layer.at("mixer");
    Var h = layer.rms_norm(x, "norm", eps);
    x = x + (mixer.has("x_proj.weight") ? s6(mixer, h) : ssd(mixer, config, h, eps));
    out.hidden.push_back(x);
  }
  out.last = net.rms_norm(x, "norm_f", eps);
  out.hidden.push_back(out.last);
  out.logits = linear(out.last, model.has("lm_head.weight") ? model("lm_head.weight") : net("embeddings.weight"));
  return out;
}

}  // namespace whence::goldens
