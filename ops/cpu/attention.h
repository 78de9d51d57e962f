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
};

/// out [B,H,T,Dv] and lse [B,H,T] contiguous (log of the sum of exponentials; -inf and a zero row of out where a query
/// sees nothing). key_mask [B,S] or null: 1 = may be seen.
template <class T> void attention(const AttentionDims& dims, const T* q, HeadStrides qs, const T* k, HeadStrides ks,
                                  const T* v, HeadStrides vs, const uint8_t* key_mask, AttentionBias<T> bias, T* out,
                                  HeadStrides os, T* lse);

/// Gradients of the above for dout; any of dq, dk, dv may be null (not wanted) and is overwritten otherwise. dbias is
/// null or has the bias's strides and is overwritten too (targets one behind the other): gradients of repeated elements
/// are summed. Several targets share scores and exponentials; each gets the numbers of a call of its own.
/// Deterministic: each (batch, key head) is one task, and sums run in a fixed order.
template <class T> void attention_backward(const AttentionDims& dims, const T* q, HeadStrides qs, const T* k,
                                           HeadStrides ks, const T* v, HeadStrides vs, const uint8_t* key_mask,
                                           AttentionBias<T> bias, const T* out, HeadStrides os, const T* lse,
                                           const T* dout, HeadStrides dos, T* dq, HeadStrides dqs, T* dk,
                                           HeadStrides dks, T* dv, HeadStrides dvs, T* dbias = nullptr);

}  // namespace whence::cpu
