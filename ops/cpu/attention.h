// Tiled attention: softmax(scale q k^T + bias) v without ever holding a T x S matrix. T is float or double.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// Element strides of a [B, H, T, D] operand; D is contiguous. l: of a target axis in front.
struct HeadStrides {
  int64_t b = 0, h = 0, t = 0, l = 0;
};

struct AttentionDims {
  int64_t B = 0, H = 0, Hkv = 0, T = 0, S = 0, D = 0,
          Dv = 0;  // q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv]; H % Hkv == 0
  double scale = 1;
  bool causal = false;  // query i sees keys j <= i + S - T
  int64_t targets = 1;  // backward: that many dout, each with its own results
};

/// Additive bias [B|1, H|1, T|1, S|1]: a stride of 0 repeats.
template <class T> struct AttentionBias {
  const T* data = nullptr;
  int64_t b = 0, h = 0, t = 0, s = 0;
  int64_t offset(int64_t batch, int64_t head, int64_t i, int64_t j) const {
    return batch * b + head * h + i * t + j * s;
  }
  T at(int64_t batch, int64_t head, int64_t i, int64_t j) const { return data[offset(batch, head, i, j)]; }
};

/// [B, H, T, D] of any strides but along D, perhaps with a target axis in front. Null: not wanted.
template <class T> struct Heads {
  T* data = nullptr;
  HeadStrides strides{};
  T* at(int64_t b, int64_t h, int64_t t = 0, int64_t target = 0) const {
    return data + target * strides.l + b * strides.b + h * strides.h + t * strides.t;
  }
};

template <class T> struct AttentionInputs {
  AttentionDims dims;
  Heads<const T> q, k, v;
  const uint8_t* key_mask = nullptr;  // [B, S], 1 = may be seen; null: all are
  AttentionBias<T> bias{};
};

template <class T> struct AttentionGradients {
  Heads<T> q{}, k{}, v{};
  T* bias = nullptr;  // has the bias's strides, targets one behind the other; gradients of repeated elements are summed
};

/// out [B,H,T,Dv] and lse [B,H,T] contiguous (log of the sum of exponentials; -inf and a zero row of out where a query
/// sees nothing). What a query does not see (masked, behind it, or under a bias of -inf) has no part in its result nor
/// in the gradients, were it NaN.
template <class T> void attention(const AttentionInputs<T>& in, Heads<T> out, T* lse);

/// Gradients of the above for dout; what is wanted of them is overwritten. Several targets share scores and
/// exponentials; each gets the numbers of a call of its own. Deterministic: each (batch, key head) is one task, and
/// sums run in a fixed order.
template <class T> void attention_backward(const AttentionInputs<T>& in, Heads<const T> out, const T* lse,
                                           Heads<const T> dout, const AttentionGradients<T>& to);

}  // namespace whence::cpu
