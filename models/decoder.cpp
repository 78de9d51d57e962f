#include "whence/models/decoder.h"

#include <cmath>
#include <limits>

#include "whence/nn/windows.h"
#include "whence/ops/composite.h"

namespace whence::models {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Scores through cap tanh(s / cap), which attention() has not. What may not be seen gets a score that no capped one
// comes near, and that is finite: a query that sees nothing must not become NaN. mask [B, S], bias broadcasts to [B, H,
// T, S].
Var capped_attention(Var q, Var k, Var v, const AttentionOptions& o, double cap) {
  const int64_t T = q.size(2), S = k.size(2), groups = q.size(1) / k.size(1);
  const double hidden = -1e4;
  Var s = softcap(matmul(q, transpose(repeat_interleave(k, groups, 1))) * o.scale, cap);
  if (o.bias) s = s + *o.bias;
  if (o.mask) s = where(unsqueeze(unsqueeze(*o.mask, 1), 1), s, hidden);
  if (o.causal) {
    Graph& g = q.graph();
    s = where(greater_equal(unsqueeze(arange(g, T), 1), unsqueeze(arange(g, S), 0)), s, hidden);
  }
  return matmul(softmax(s), repeat_interleave(v, groups, 1));
}

}  // namespace

KvCache::KvCache(const CacheLayout& layout, int64_t batch, int64_t length, DType dtype)
    : batch_(batch), length_(length) {
  for (int64_t i = 0; i < layout.layers; ++i) {
    const std::string layer = "cache." + std::to_string(i);
    keys_.emplace_back(layer + ".keys", Tensor::zeros({batch, layout.heads, length, layout.key_size}, dtype));
    values_.emplace_back(layer + ".values", Tensor::zeros({batch, layout.heads, length, layout.value_size}, dtype));
  }
}

std::pair<Var, Var> KvCache::write(size_t layer, Var k, Var v, Var at) const {
  Graph& g = k.graph();
  auto update = [&](const State& state, Var next) {
    Var whole = update_slice(g.state(state), next, at, 2);
    g.assign(state, whole);
    return whole;
  };
  return {update(keys_.at(layer), k), update(values_.at(layer), v)};
}

Var rotary_angles(const nn::RotaryEmbedding& rotary, Var tokens, const DecoderInputs& in) {
  if (!in.positions.defined()) return rotary.angles(tokens.graph(), tokens.size(1), tokens.dtype());
  Var angles = rotary.angles(in.positions, tokens.dtype());
  return angles.rank() == 3 ? unsqueeze(angles, 1) : angles;
}

Var attend(Var q, Var k, Var v, const DecoderAttention& options, const DecoderInputs& in, size_t layer) {
  Graph& g = q.graph();
  const int64_t T = q.size(2);
  AttentionOptions o{.causal = true, .scale = options.scale ? options.scale : 1 / std::sqrt(double(q.size(3)))};
  if (in.mask.defined()) o.mask = in.mask;
  if (options.window > 0 && in.shown == 0 && options.window < T)
    o.bias = nn::distance_bias(g, T, double(options.window), kInf, q.dtype());
  if (in.cache) {
    auto [keys, values] = in.cache->write(layer, k, v, in.at);
    if (in.shown > 0) {
      if (T != 1) throw ValueError("a cache is shown to one token at a time, got " + std::to_string(T));
      k = slice(keys, 2, 0, in.shown);
      v = slice(values, 2, 0, in.shown);
      o.causal = false;
      if (options.window > 0 && options.window < in.shown)
        o.mask = logical_and(*o.mask, greater(arange(g, in.shown), in.at - double(options.window)));
    }
  }
  return options.cap > 0 ? capped_attention(q, k, v, o, options.cap) : attention(q, k, v, o);
}

Var next_token_loss(Var logits, Var labels) { return cross_entropy(slice(logits, 1, 0, -1), slice(labels, 1, 1)); }

}  // namespace whence::models
