// xLSTM by its formulas: the mLSTM cell in three forms, the sLSTM cell, and the two language models made of them.
#include "tests/goldens/xlstm.h"

#include <cmath>

#include "whence/nn/layers.h"

namespace whence::goldens {

namespace {

Var head_size_root(Var q) { return q.graph().constant(1 / std::sqrt(double(q.size(-1))), q.dtype()); }

// 1 where s <= t: [T, T].
Var not_later(Graph& g, int64_t T) {
  return greater_equal(unsqueeze(arange(g, T, i64), 1), unsqueeze(arange(g, T, i64), 0));
}

// h = num / (max(|den|, e^-m) + eps); num [.., T, D], den and m [.., T, 1].
Var normalised(Var num, Var den, Var m, double eps) { return num / (maximum(abs(den), exp(neg(m))) + eps); }

}  // namespace

Mlstm mlstm_parallel(Var q, Var k, Var v, Var ig, Var fg, double eps) {
  Var F = cumsum(log_sigmoid(fg), -1);
  Var log_d =
      where(not_later(q.graph(), q.size(2)), unsqueeze(F, -1) - unsqueeze(F, -2) + unsqueeze(ig, -2), -INFINITY);
  Var m = whence::max(log_d, {-1}, true);
  Var s = matmul(q, transpose(k)) * head_size_root(q) * exp(log_d - m);
  return {normalised(matmul(s, v), sum(s, {-1}, true), m, eps), {{}, {}, squeeze(m, -1)}};
}

Mlstm mlstm_recurrent(Var q, Var k, Var v, Var ig, Var fg, double eps, MlstmState from) {
  // m_t = max(lf_t + m_{t-1}, ig_t) unrolls to F_t + max(m_0, max_{s <= t} (ig_s - F_s)).
  Var lf = log_sigmoid(fg), F = cumsum(lf, -1), highest = cummax(ig - F, -1).values;
  Var m0 = unsqueeze(from.m, -1), m = F + maximum(highest, m0);
  Var before = concat({m0, slice(m, -1, 0, -1)}, -1);
  Var decay = exp(lf + before - m), enter = exp(ig - m);  // [B, H, T]
  Var scaled = k * head_size_root(k) * unsqueeze(enter, -1), kv = unsqueeze(scaled, -1) * unsqueeze(v, -2);
  auto with_initial = [&](Var drive, Var a, Var state) {  // the state enters with the first step
    return concat({slice(drive, 2, 0, 1) + unsqueeze(state, 2) * slice(a, 2, 0, 1), slice(drive, 2, 1)}, 2);
  };
  Var a = unsqueeze(decay, -1), aa = unsqueeze(a, -1);
  Var n = linear_scan(a, with_initial(scaled, a, from.n), 2), C = linear_scan(aa, with_initial(kv, aa, from.C), 2);
  Var num = squeeze(matmul(unsqueeze(q, -2), C), -2), den = sum(q * n, {-1}, true);
  return {normalised(num, den, unsqueeze(m, -1), eps), {select(C, 2, -1), select(n, 2, -1), select(m, 2, -1)}};
}

Mlstm mlstm_chunkwise(Var q, Var k, Var v, Var ig, Var fg, double eps, int64_t chunk_size, MlstmState state) {
  std::vector<Var> h;
  int64_t T = q.size(2);
  for (int64_t begin = 0; begin < T; begin += chunk_size) {
    int64_t end = std::min(T, begin + chunk_size);
    auto part = [&](Var x) { return slice(x, 2, begin, end); };
    Var Q = part(q) * head_size_root(q), K = part(k), V = part(v), i = part(ig), b = cumsum(log_sigmoid(part(fg)), -1);
    Var g = slice(b, -1, -1), m_before = unsqueeze(state.m, -1), bm = b + m_before;  // [B, H, 1], [B, H, L]
    // Within the chunk.
    Var log_d =
        where(not_later(q.graph(), end - begin), unsqueeze(b, -1) - unsqueeze(b, -2) + unsqueeze(i, -2), -INFINITY);
    Var m = maximum(unsqueeze(bm, -1), whence::max(log_d, {-1}, true));
    Var s = matmul(Q, transpose(K)) * exp(log_d - m), inter = Q * exp(unsqueeze(bm, -1) - m);
    h.push_back(normalised(matmul(inter, state.C) + matmul(s, V),
                           matmul(inter, unsqueeze(state.n, -1)) + sum(s, {-1}, true), m, eps));
    // To the next chunk.
    Var a = g - b + i, next = maximum(g + m_before, whence::max(a, {-1}, true));
    Var keep = unsqueeze(exp(g + m_before - next), -1), weighted = K * unsqueeze(exp(a - next), -1);
    state = {keep * state.C + matmul(transpose(weighted), V), squeeze(keep, -1) * state.n + sum(weighted, {2}),
             squeeze(next, -1)};
  }
  return {concat(h, 2), state};
}

MlstmState mlstm_zeros(Var q, Var v) {
  Graph& g = q.graph();
  int64_t B = q.size(0), H = q.size(1), D = q.size(3);
  return {full(g, {B, H, D, v.size(3)}, 0, q.dtype()), full(g, {B, H, D}, 0, q.dtype()), full(g, {B, H}, 0, q.dtype())};
}

std::vector<Var> slstm(Var wx, Var R, Var bias, SlstmState& state) {
  int64_t B = wx.size(0), T = wx.size(1), H = wx.size(3), D = wx.size(4);
  bool first = !state.n.defined();
  if (first) {
    Var zero = full(wx.graph(), {B, H, D}, 0, wx.dtype());
    state = {zero, zero, zero, zero};
  }
  Var kernel = reshape(R, {H, D, 4 * D});  // [H, in, gate out]
  std::vector<Var> y;
  for (int64_t t = 0; t < T; ++t) {
    Var recurrent = permute(matmul(unsqueeze(state.y, 2), kernel), {0, 2, 1, 3});                 // [B, 1, H, 4 D]
    Var raw = permute(select(wx, 1, t), {0, 2, 1, 3}) + reshape(recurrent, {B, H, 4, D}) + bias;  // [B, H, gate, D]
    Var i = select(raw, 2, 0), lf = state.m + log_sigmoid(select(raw, 2, 1)), m = first ? i : maximum(i, lf);
    Var keep = exp(lf - m), enter = exp(i - m);
    Var c = keep * state.c + enter * tanh(select(raw, 2, 2)), n = keep * state.n + enter;
    state = {sigmoid(select(raw, 2, 3)) * c / n, c, n, m};
    y.push_back(state.y);
    first = false;
  }
  return y;
}

Var headwise(Var x, Var w) {
  Shape s = x.shape();
  int64_t H = w.size(0);
  Shape split{s.numel() / s[-1], H, 1, w.size(2)};
  Var y = matmul(reshape(x, split), transpose(w));  // [.., H, 1, out]
  return reshape(y, {s[0], s[1], H * w.size(1)});
}

namespace {

Var scaled_norm(const Net& net, Var x, const std::string& name) {  // scales are stored as weight - 1
  return layer_norm(x, Arg(net(name + ".weight") + 1.0), {}, 1e-5);
}

// x [B, T, H, D], normalised per head; weight [H D].
Var head_norm(Var x, Var weight, double eps) {
  Var y = layer_norm(x, {}, {}, eps);
  return reshape(y, {x.size(0), x.size(1), x.size(2) * x.size(3)}) * weight;
}
Var by_token(Var h) { return permute(h, {0, 2, 1, 3}); }  // [B, H, T, D] -> [B, T, H, D]
Var gate(const Net& net, Var x, const std::string& name) { return transpose(net.linear(x, name)); }  // [B, H, T]

Var mlstm_layer(const Net& net, Var x, double eps) {
  auto up = chunk(net.linear(x, "proj_up"), 2);
  Var conv = silu(net.conv1d(up[0], "conv1d.conv"));
  Var q = headwise(conv, net("q_proj.weight")), k = headwise(conv, net("k_proj.weight")),
      v = headwise(up[0], net("v_proj.weight"));
  Var qkv = concat({q, k, v}, -1), ig = gate(net, qkv, "mlstm_cell.igate"), fg = gate(net, qkv, "mlstm_cell.fgate");
  int64_t H = ig.size(1);
  Var h = mlstm_parallel(nn::split_heads(q, H), nn::split_heads(k, H), nn::split_heads(v, H), ig, fg, eps).h;
  Var normed = head_norm(by_token(h), net("mlstm_cell.outnorm.weight") + 1.0, 1e-5);
  return net.linear((normed + net("learnable_skip") * conv) * silu(up[1]), "proj_down");
}

Var slstm_layer(const Net& net, Var x) {
  Var conv = silu(net.conv1d(x, "conv1d.conv")), R = net("slstm_cell.recurrent_kernel");
  int64_t B = x.size(0), T = x.size(1), H = R.size(0), D = R.size(1);
  // The module named fgate feeds the input gate, and igate the forget gate.
  std::vector<Var> gates;
  for (const char* name : {"fgate", "igate", "zgate", "ogate"})
    gates.push_back(reshape(headwise(name[0] == 'f' || name[0] == 'i' ? conv : x, net(std::string(name) + ".weight")),
                            {B, T, H, D}));
  SlstmState state;
  Var y = stack(slstm(stack(gates, 2), R, net("slstm_cell.bias"), state), 1);  // [B, T, H, D]
  return head_norm(y, net("group_norm.weight") + 1.0, 1e-5);
}

// q, k, v and gates come from their own matrices, or from fused ones.
Var large_mlstm(const Net& net, const Json& config, Var x, double eps, double norm_eps) {
  int64_t H = config.at("num_heads").get<int64_t>(), inner = net("multihead_norm.weight").size(0), T = x.size(1);
  std::vector<Var> qkvo, gates;
  if (net.has("qkv_opreact.weight")) {
    Var all = net.linear(x, "qkv_opreact");
    int64_t qk = (all.size(-1) - 2 * inner) / 2;
    qkvo = split(all, {qk, qk, inner, inner});
    gates = chunk(net.linear(x, "ifgate_preact"), 2);
  } else {
    for (const char* name : {"q", "k", "v", "ogate_preact"}) qkvo.push_back(net.linear(x, name));
    gates = {net.linear(x, "igate_preact"), net.linear(x, "fgate_preact")};
  }
  double cap = config.at("gate_soft_cap").get<double>();
  Var ig = transpose(softcap(gates[0], cap)), fg = transpose(softcap(gates[1], cap));
  Var q = nn::split_heads(qkvo[0], H), k = nn::split_heads(qkvo[1], H), v = nn::split_heads(qkvo[2], H);
  // Whole chunks, then step by step.
  int64_t L = config.value("chunk_size", T + 1), whole = T / L * L;
  MlstmState state = mlstm_zeros(q, v);
  std::vector<Var> parts;
  auto from = [&](Var a) { return slice(a, 2, whole, T); };
  auto until = [&](Var a) { return slice(a, 2, 0, whole); };
  if (whole > 0) {
    Mlstm out = mlstm_chunkwise(until(q), until(k), until(v), until(ig), until(fg), eps, L, state);
    Var root = head_size_root(k);  // chunks keep k as it is, steps k / sqrt(D)
    state = {out.state.C * root, out.state.n * root, out.state.m};
    parts.push_back(out.h);
  }
  if (whole < T) parts.push_back(mlstm_recurrent(from(q), from(k), from(v), from(ig), from(fg), eps, state).h);
  Var h = concat(parts, 2);
  return net.linear(sigmoid(qkvo[3]) * head_norm(by_token(h), net("multihead_norm.weight"), norm_eps), "out_proj");
}

Var large_ffn(const Net& net, Var x) {
  if (!net.has("proj_up_gate_z.weight"))
    return net.linear(silu(net.linear(x, "proj_up_gate")) * net.linear(x, "proj_up"), "proj_down");
  auto parts = chunk(net.linear(x, "proj_up_gate_z"), 2);
  return net.linear(silu(parts[0]) * parts[1], "proj_down");
}

}  // namespace

ModelOutputs xlstm(const Net& net, const Json& config, const ModelInputs& in) {
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "token_embedding");
  Var x = out.embeds;
  Net stack = net.at("xlstm_block_stack");
  // `eps` belongs to the mLSTM, unless the configuration is an optimiser's too.
  double eps = config.contains("optimizer") ? 1e-6 : config.value("eps", 1e-6);
  for (int64_t i = 0, n = stack.count("blocks"); i < n; ++i) {
    out.hidden.push_back(x);
    Net block = stack.at("blocks", i), cell = block.at("xlstm");
    Var h = scaled_norm(block, x, "xlstm_norm");
    x = x + (cell.has("slstm_cell.bias") ? slstm_layer(cell, h) : mlstm_layer(cell, h, eps));
    if (!block.has("ffn.proj_up.weight")) continue;
    auto up = chunk(block.linear(scaled_norm(block, x, "ffn_norm"), "ffn.proj_up"), 2);
    x = x + block.linear(gelu(up[0]) * up[1], "ffn.proj_down");
  }
  out.hidden.push_back(x);
  out.last = scaled_norm(stack, x, "post_blocks_norm");
  out.logits = net.linear(out.last, "lm_head");
  return out;
}

ModelOutputs xlstm_large(const Net& model, const Json& config, const ModelInputs& in) {
  Net net = model.at("backbone");
  double norm_eps = config.at("norm_eps").get<double>(), eps = config.at("eps").get<double>();
  ModelOutputs out;
  out.embeds = net.embedding(in.ids, "embeddings");
  Var x = out.embeds;
  for (int64_t i = 0, n = net.count("blocks"); i < n; ++i) {
    out.hidden.push_back(x);
    Net block = net.at("blocks", i);
    x = x + large_mlstm(block.at("mlstm_layer"), config, block.rms_norm(x, "norm_mlstm", norm_eps), eps, norm_eps);
    x = x + large_ffn(block.at("ffn"), block.rms_norm(x, "norm_ffn", norm_eps));
  }
  out.last = net.has("out_norm.weight") ? net.rms_norm(x, "out_norm", norm_eps) : x;
  out.hidden.push_back(out.last);
  out.logits =
      softcap(linear(out.last, model.has("lm_head.weight") ? model("lm_head.weight") : net("embeddings.weight")),
              config.at("output_logit_soft_cap").get<double>());
  return out;
}

}  // namespace whence::goldens
