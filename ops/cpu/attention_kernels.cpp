// attention and attention_backward: operands of any strides but along the last axis.
#include "whence/ops/cpu/attention.h"

#include <utility>

#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

// Of [B, H, T, D], or of [targets, B, H, T, D].
template <class T> Heads<T> heads(const View& v) {
  int l = v.shape.rank() - 4;
  return {v.as<T>(), {v.strides[l], v.strides[l + 1], v.strides[l + 2], l ? v.strides[0] : 0}};
}
template <class T> Heads<T> tokens(const View& v) {  // of [.., B, T, H, D]
  Heads<T> x = heads<T>(v);
  std::swap(x.strides.h, x.strides.t);
  return x;
}

// Positions of the operands; forward and backward begin alike.
enum Forward { q, k, v, mask, bias };
enum Backward { o = 3, lse, d, mask_of_backward, bias_of_backward };

// [B, S], 1 = may be seen, from a mask that broadcasts to it; null when one element shows everything.
const uint8_t* key_mask(const View& mask, int64_t B, int64_t S, uint8_t* to) {
  const uint8_t* from = mask.as<uint8_t>();
  if (mask.numel() == 1 && *from != 0) return nullptr;
  Shape strides = broadcast_strides(mask.shape, mask.strides, {B, S});
  for (int64_t b = 0; b < B; ++b)
    for (int64_t s = 0; s < S; ++s) to[b * S + s] = from[b * strides[0] + s * strides[1]] != 0;
  return to;
}

size_t mask_bytes(std::span<const TensorType> in, size_t mask) {
  return in.size() > mask ? size_t(in[q].shape[0] * in[k].shape[2]) : 0;
}

template <class T> AttentionInputs<T> inputs(const KernelCall& call, size_t mask) {
  const Shape &qs = call.in[q].shape, &ks = call.in[k].shape, &vs = call.in[v].shape;
  AttentionInputs<T> in{.dims = {.B = qs[0],
                                 .H = qs[1],
                                 .Hkv = ks[1],
                                 .T = qs[2],
                                 .S = ks[2],
                                 .D = qs[3],
                                 .Dv = vs[3],
                                 .scale = call.attrs.real("scale"),
                                 .causal = call.attrs.flag("causal")},
                        .q = heads<const T>(call.in[q]),
                        .k = heads<const T>(call.in[k]),
                        .v = heads<const T>(call.in[v])};
  const AttentionDims& n = in.dims;
  if (call.in.size() > mask)
    in.key_mask = key_mask(call.in[mask], n.B, n.S, reinterpret_cast<uint8_t*>(call.workspace));
  if (call.in.size() > mask + 1) {
    const View& b = call.in[mask + 1];
    Shape s = broadcast_strides(b.shape, b.strides, {n.B, n.H, n.T, n.S});
    in.bias = {b.as<T>(), s[0], s[1], s[2], s[3]};
  }
  return in;
}

void forward(const KernelCall& call) {
  over_floats(call.in[q].dtype, [&](auto zero) {
    using T = decltype(zero);
    attention(inputs<T>(call, mask), tokens<T>(call.out[0]), call.out[1].as<T>());
  });
}

void backward(const KernelCall& call) {
  over_floats(call.in[q].dtype, [&](auto zero) {
    using T = decltype(zero);
    AttentionInputs<T> in = inputs<T>(call, mask_of_backward);
    if (call.in[d].shape.rank() == 5) in.dims.targets = call.in[d].shape[0];
    attention_backward(in, tokens<const T>(call.in[o]), call.in[lse].as<const T>(), tokens<const T>(call.in[d]),
                       {.q = tokens<T>(call.out[0]),
                        .k = tokens<T>(call.out[1]),
                        .v = tokens<T>(call.out[2]),
                        .bias = call.out.size() > 3 ? call.out[3].as<T>() : nullptr});
  });
}

// Rows must lie together; lse and bias are whole, masks of any strides.
bool rows(const View& x) { return x.strides[-1] == 1 || x.shape[-1] == 1; }

REGISTER_KERNEL(cpu, attention) = {
    forward,
    {.strided = true,
     .layouts = [](int i, const View& x) { return i < mask ? rows(x) : i == mask; },
     .workspace = [](std::span<const TensorType> in, std::span<const TensorType>,
                     const Attrs&) { return mask_bytes(in, mask); }},
};
REGISTER_KERNEL(cpu, attention_backward) = {
    backward,
    {.strided = true,
     .layouts = [](int i, const View& x) { return i < mask_of_backward ? i != lse && rows(x) : i == mask_of_backward; },
     .workspace = [](std::span<const TensorType> in, std::span<const TensorType>,
                     const Attrs&) { return mask_bytes(in, mask_of_backward); }},
};

}  // namespace
}  // namespace whence::cpu
