// What causal language models share: their inputs, keys and values kept from step to step, attention over them.
#pragma once
#include <deque>

#include "whence/nn/rotary.h"

namespace whence::models {

/// How much a decoder keeps of each token: per layer, `heads` keys and values of so many features.
struct CacheLayout {
  int64_t layers = 0, heads = 0, key_size = 0, value_size = 0;
  int64_t context = 0;  ///< the most tokens that the model can see; 0: any number
};

/// Keys and values of every layer as States, [B, heads, length, size] each. They start at 0.
class KvCache {
 public:
  KvCache(const CacheLayout& layout, int64_t batch, int64_t length, DType dtype = f32);
  /// Records that k and v [B, heads, T, size] take the places at .. at + T - 1 of a layer; at is i64 [].
  /// \return the whole keys and values after that
  std::pair<Var, Var> write(size_t layer, Var k, Var v, Var at) const;
  int64_t batch() const { return batch_; }
  int64_t length() const { return length_; }

 private:
  int64_t batch_, length_;
  std::deque<State> keys_, values_;
};

/// What goes into a decoder besides ids [B, T]. Undefined members take their defaults.
struct DecoderInputs {
  Var mask;       ///< [B, T] u8 or bool, 1 = may be seen; default all
  Var positions;  ///< [T] or [B, T] integers; default 0 .. T - 1
  /// With a cache, keys and values go there, to the places from `at` on (i64 []). With shown = 0 the tokens see one
  /// another only: a prompt. With shown > 0 there is one token (T = 1), which sees the first `shown` places of the
  /// cache, hidden ones apart: mask is [B, shown] and must hide the places behind `at`.
  const KvCache* cache = nullptr;
  Var at;
  int64_t shown = 0;
};

/// Angles of q and k [B, H, T, D]: [T, n], or [B, 1, T, n] when each sequence has positions of its own.
Var rotary_angles(const nn::RotaryEmbedding& rotary, Var tokens, const DecoderInputs& in);

struct DecoderAttention {
  double scale = 0;    ///< 0: 1 / sqrt(D)
  int64_t window = 0;  ///< a token sees itself and the window - 1 before it; 0: all before it
  double cap = 0;      ///< scores s become cap tanh(s / cap); 0: as they are
};
/// Causal attention q [B, H, T, D] over k and v [B, G, T, D], and what the cache holds for this layer -> [B, H, T, D].
/// \throws ValueError for more than one token on a cache that is shown
Var attend(Var q, Var k, Var v, const DecoderAttention& options, const DecoderInputs& in, size_t layer);

/// Mean cross entropy between logits [B, T, V] at t and labels [B, T] at t + 1; labels of -100 do not count.
Var next_token_loss(Var logits, Var labels);

}  // namespace whence::models
