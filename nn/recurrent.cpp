#include "whence/nn/recurrent.h"

#include <fmt/format.h>

#include <cmath>

namespace whence::nn {

namespace {

using Values = std::vector<Var>;

// Per step: what the input gives to the gates (B, 4 H). States h, c (B, H); shared W_hh (4 H, H).
ScanNext lstm_step(const ScanStep& s) {
  Var h = s.carries[0], c = s.carries[1];
  Values gate = chunk(s.per_step[0] + linear(h, s.shared[0]), 4);
  Var c_next = sigmoid(gate[1]) * c + sigmoid(gate[0]) * tanh(gate[2]), h_next = sigmoid(gate[3]) * tanh(c_next);
  return {{h_next, c_next}, {h_next}};
}

// Per step (B, 3 H), state h (B, H); shared W_hh (3 H, H) and b_hh (3 H), which the reset gate scales.
ScanNext gru_step(const ScanStep& s) {
  Var h = s.carries[0];
  Values x = chunk(s.per_step[0], 3),
         u = chunk(s.shared.size() > 1 ? linear(h, s.shared[0], Arg(s.shared[1])) : linear(h, s.shared[0]), 3);
  Var r = sigmoid(x[0] + u[0]), z = sigmoid(x[1] + u[1]), n = tanh(x[2] + r * u[2]), h_next = (1.0 - z) * n + z * h;
  return {{h_next}, {h_next}};
}

// The input's part of all steps in one product, (T, B, G H), then the steps. out (B, T, H).
Scanned run_chain(Var x, const RecurrentWeights& w, const Values& states, const ScanOptions& options,
                  ScanNext (*step)(const ScanStep&)) {
  const bool bias_inside = step == gru_step && w.bias_hh;
  std::optional<Var> bias = w.bias_ih;
  if (w.bias_hh && !bias_inside) bias = bias ? *bias + *w.bias_hh : *w.bias_hh;
  x = transpose(x, 0, 1);
  Var in = bias ? linear(x, w.ih, Arg(*bias)) : linear(x, w.ih);
  Values shared{w.hh};
  if (bias_inside) shared.push_back(*w.bias_hh);
  Scanned r = scan(step, states, {in}, shared, options);
  r.out[0] = transpose(r.out[0], 0, 1);
  return r;
}

}  // namespace

Scanned lstm_chain(Arg x, const RecurrentWeights& w, Var h, Var c, const ScanOptions& options) {
  LocationGuard at(x);
  return run_chain(x, w, {h, c}, options, lstm_step);
}
Scanned gru_chain(Arg x, const RecurrentWeights& w, Var h, const ScanOptions& options) {
  LocationGuard at(x);
  return run_chain(x, w, {h}, options, gru_step);
}

// ---- layers -------------------------------------------------------------------------------------------------------

Recurrent::Recurrent(Module& parent, const std::string& name, const char* kind, int64_t gates, int64_t in, int64_t h,
                     const RecurrentOptions& o, std::source_location where)
    : Module(parent, name), hidden(h), options(o), kind_(kind), dropouts_(*this, "dropout") {
  const std::string layer = fmt::format("{} '{}' made{}", kind, this->name(), at_line(where));
  for (auto [what, extent] : {std::pair("inputs", in), {"hidden", h}, {"layers", o.layers}})
    if (extent < 1) throw ShapeError(fmt::format("{}: {} must be at least 1, got {}", layer, what, extent));
  if (!(o.dropout >= 0 && o.dropout < 1))  // asked here: one layer has no dropout that would
    throw ValueError(fmt::format("{}: dropout must lie in [0, 1), got {}", layer, o.dropout));
  const double bound = 1 / std::sqrt(double(h));
  const Init init = Init::uniform(-bound, bound);
  for (int64_t l = 0; l < o.layers; ++l)
    for (int64_t d = 0; d < directions(); ++d) {
      const std::string tail = fmt::format("_l{}{}", l, d ? "_reverse" : "");
      Parameter& ih = parameter("weight_ih" + tail, {gates * h, l ? directions() * h : in}, init);
      Parameter& hh = parameter("weight_hh" + tail, {gates * h, h}, init);
      Parameter* bias_ih = o.bias ? &parameter("bias_ih" + tail, {gates * h}, init) : nullptr;
      Parameter* bias_hh = o.bias ? &parameter("bias_hh" + tail, {gates * h}, init) : nullptr;
      chains_.push_back({ih, hh, bias_ih, bias_hh});
    }
  for (int64_t l = 1; l < o.layers; ++l) dropouts_.emplace_back(o.dropout, where);
}

Values Recurrent::run(Arg input, Values states, const std::optional<Var>& lengths, Step step) const {
  ModuleScope here(*this, input);
  Var x = input;
  Graph& g = x.graph();
  const int64_t chains = options.layers * directions(), in = chains_[0].ih.shape()[1];
  if (x.rank() != 3 || x.size(2) != in)
    throw ShapeError(fmt::format("[{}] '{}' x must be [B, T, {}], got {}", kind_, name(), in, x.shape().str()));
  const int64_t B = x.size(0);
  for (Var& s : states) {
    if (!s.defined()) s = broadcast_to(g.constant(0.0, x.dtype()), {chains, B, hidden});
    if (const Shape want{chains, B, hidden}; !(s.shape() == want))
      throw ShapeError(
          fmt::format("[{}] '{}' initial states must be {}, got {}", kind_, name(), want.str(), s.shape().str()));
  }
  std::vector<Values> last(states.size());
  for (int64_t l = 0; l < options.layers; ++l) {
    if (l > 0) x = dropouts_[size_t(l - 1)](x);
    Values sides;
    for (int64_t d = 0; d < directions(); ++d) {
      const int64_t at = l * directions() + d;
      const Chain& chain = chains_[size_t(at)];
      RecurrentWeights w{chain.ih.in(g), chain.hh.in(g)};
      if (chain.bias_ih) w.bias_ih = chain.bias_ih->in(g), w.bias_hh = chain.bias_hh->in(g);
      Values from;
      for (const Var& s : states) from.push_back(select(s, 0, at));
      Scanned r = run_chain(x, w, from, {.reverse = d == 1, .lengths = lengths}, step);
      sides.push_back(r.out[0]);
      for (size_t k = 0; k < states.size(); ++k) last[k].push_back(r.carries[k]);
    }
    x = sides.size() == 1 ? sides[0] : concat(sides, -1);
  }
  Values results{x};
  for (const Values& s : last) results.push_back(stack(s, 0));
  return results;
}

LSTM::LSTM(Module& parent, const std::string& name, int64_t in, int64_t hidden, const RecurrentOptions& options,
           std::source_location where)
    : Recurrent(parent, name, "LSTM", 4, in, hidden, options, where) {}

LSTM::Result LSTM::operator()(Arg x, const std::optional<State>& initial, const std::optional<Var>& lengths) const {
  State from = initial.value_or(State{});
  Values r = run(x, {from.h, from.c}, lengths, lstm_step);
  return {r[0], {r[1], r[2]}};
}

GRU::GRU(Module& parent, const std::string& name, int64_t in, int64_t hidden, const RecurrentOptions& options,
         std::source_location where)
    : Recurrent(parent, name, "GRU", 3, in, hidden, options, where) {}

GRU::Result GRU::operator()(Arg x, const std::optional<Var>& initial, const std::optional<Var>& lengths) const {
  Values r = run(x, {initial.value_or(Var())}, lengths, gru_step);
  return {r[0], r[1]};
}

}  // namespace whence::nn
