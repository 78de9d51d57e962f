#include "whence/models/xlstm_cells.h"

#include <cmath>
#include <limits>

#include "whence/ops/composite.h"
#include "whence/ops/scan.h"

namespace whence::models {

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
  Var log_d = where(not_later(q.graph(), q.size(2)), unsqueeze(F, -1) - unsqueeze(F, -2) + unsqueeze(ig, -2),
                    -std::numeric_limits<double>::infinity());
  Var m = whence::max(log_d, {-1}, true);
  Var s = matmul(q, transpose(k)) * head_size_root(q) * exp(log_d - m);
  return {normalised(matmul(s, v), sum(s, {-1}, true), m, eps), {{}, {}, squeeze(m, -1)}};
}

Mlstm mlstm_recurrent(Var q, Var k, Var v, Var ig, Var fg, double eps, const MlstmState& from) {
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
    Var log_d = where(not_later(q.graph(), end - begin), unsqueeze(b, -1) - unsqueeze(b, -2) + unsqueeze(i, -2),
                      -std::numeric_limits<double>::infinity());
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

Var slstm(Var wx, Var R, Var bias, SlstmState& state) {
  const int64_t B = wx.size(0), H = wx.size(3), D = wx.size(4);
  if (!state.n.defined()) {  // a stabiliser below every gate: the first step's m is its input gate
    Var zero = full(wx.graph(), {B, H, D}, 0, wx.dtype());
    state = {zero, zero, zero, full(wx.graph(), {B, H, D}, -1e30, wx.dtype())};
  }
  auto step = [=](const ScanStep& s) -> ScanNext {
    Var y = s.carries[0], c = s.carries[1], n = s.carries[2], m = s.carries[3];
    Var recurrent = squeeze(matmul(unsqueeze(y, 2), s.shared[0]), 2);          // (B, H, 4 D)
    Var raw = s.per_step[0] + reshape(recurrent, {B, H, 4, D}) + s.shared[1];  // (B, H, gate, D)
    Var i = select(raw, 2, 0), lf = m + log_sigmoid(select(raw, 2, 1)), top = maximum(i, lf);
    Var keep = exp(lf - top), enter = exp(i - top);
    c = keep * c + enter * tanh(select(raw, 2, 2));
    n = keep * n + enter;
    y = sigmoid(select(raw, 2, 3)) * c / n;
    return {{y, c, n, top}, {y}};
  };
  Var gates = permute(wx, {1, 0, 3, 2, 4});  // (T, B, H, gate, D)
  Scanned r = scan(step, {state.y, state.c, state.n, state.m}, {gates}, {reshape(R, {H, D, 4 * D}), bias});
  state = {r.carries[0], r.carries[1], r.carries[2], r.carries[3]};
  return permute(r.out[0], {1, 0, 2, 3});
}

Var headwise(Var x, Var w) {
  Shape s = x.shape();
  int64_t H = w.size(0);
  Shape split{s.numel() / s[-1], H, 1, w.size(2)};
  Var y = matmul(reshape(x, split), transpose(w));  // [.., H, 1, out]
  return reshape(y, {s[0], s[1], H * w.size(1)});
}

}  // namespace whence::models
