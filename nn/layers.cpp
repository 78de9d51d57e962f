#include "whence/nn/layers.h"

#include <fmt/format.h>

#include "whence/nn/hash.h"
#include "whence/nn/layer_checks.h"

namespace whence::nn {

Linear::Linear(Module& parent, const std::string& name, int64_t in, int64_t out, bool with_bias,
               std::optional<Init> init, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "Linear", where, {{"outputs", out}, {"inputs", in, 0}}),
                       init.value_or(weight_init(in)))),
      bias(with_bias ? &parameter("bias", {out}, init ? Init::zeros() : bias_init(in)) : nullptr) {}

Var Linear::operator()(Arg x) const {
  ModuleScope here(*this, x);
  return bias ? linear(x, weight, *bias) : linear(x, weight);
}

Embedding::Embedding(Module& parent, const std::string& name, int64_t rows, int64_t features, Init init,
                     int64_t padding, Where where)
    : Module(parent, name),
      weight(parameter("weight", shape_of(*this, "Embedding", where, {{"rows", rows}, {"features", features}}), init)),
      padding_idx(padding) {
  if (padding >= rows)
    throw ValueError(
        fmt::format("{}: padding_idx {} lies beyond its {} rows", made_at(*this, "Embedding", where), padding, rows));
}
Var Embedding::operator()(Arg ids) const {
  ModuleScope here(*this, ids);
  return embedding(ids, weight, padding_idx);
}

Dropout::Dropout(Module& parent, const std::string& name, double rate, Where where) : Module(parent, name), p(rate) {
  if (!(p >= 0 && p < 1))
    throw ValueError(fmt::format("{}: p must be in [0, 1), got {}", made_at(*this, "Dropout", where), p));
}

Var Dropout::operator()(Arg x) const {
  if (!x.graph().training()) return x;
  ModuleScope here(*this, x);
  return dropout(x, p, int64_t(fnv1a(name()) >> 1));
}

Var split_heads(Arg x, int64_t heads) {
  LocationGuard at(x);
  const Shape& s = x.shape();
  if (s.rank() != 3 || heads < 1 || s[2] % heads)
    throw ShapeError(fmt::format("split_heads: {} does not divide into {} heads{}", s.str(), heads, at_line(x.where)));
  return permute(reshape(x, {s[0], s[1], heads, s[2] / heads}), {0, 2, 1, 3});
}
Var merge_heads(Arg x) {
  LocationGuard at(x);
  const Shape& s = x.shape();  // (B, H, T, D)
  if (s.rank() != 4) throw ShapeError("merge_heads: " + s.str() + " is not [B, H, T, D]" + at_line(x.where));
  return reshape(permute(x, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
}

// Checked before anything is divided by it; returns h.
static int64_t heads_of(const Module& layer, Where where, int64_t features, int64_t h, int64_t kv) {
  const std::string at = made_at(layer, "MultiHeadAttention", where);
  if (features < 1 || h < 1 || kv < 0)
    throw ShapeError(fmt::format("{}: {} features, {} heads and {} key heads (0: as many as heads) are not to be had",
                                 at, features, h, kv));
  if (features % h || h % (kv ? kv : h))
    throw ShapeError(
        fmt::format("{}: {} features, {} heads, {} key heads do not divide", at, features, h, kv ? kv : h));
  return h;
}

MultiHeadAttention::MultiHeadAttention(Module& parent, const std::string& name, int64_t features, int64_t h, int64_t kv,
                                       bool bias, Where where)
    : Module(parent, name),
      heads(heads_of(*this, where, features, h, kv)),
      kv_heads(kv ? kv : h),
      q(*this, "q", features, features, bias, {}, where),
      k(*this, "k", features, features / h * kv_heads, bias, {}, where),
      v(*this, "v", features, features / h * kv_heads, bias, {}, where),
      out(*this, "out", features, features, bias, {}, where) {}

Var MultiHeadAttention::operator()(Arg x, AttentionOptions options, std::optional<Var> memory) const {
  ModuleScope here(*this, x);
  Arg m(memory.value_or(x), x.where);
  return out(merge_heads(attention(split_heads(q(x), heads), split_heads(k(m), kv_heads), split_heads(v(m), kv_heads),
                                   std::move(options))));
}

FeedForward::FeedForward(Module& parent, const std::string& name, int64_t features, int64_t hidden, Activation a,
                         bool bias, Where where)
    : Module(parent, name),
      up(*this, "up", features, hidden, bias, {}, where),
      down(*this, "down", hidden, features, bias, {}, where),
      act(a) {
  if (!a) throw ValueError(made_at(*this, "FeedForward", where) + ": no activation");
}
Var FeedForward::operator()(Arg x) const {
  ModuleScope here(*this, x);
  return down(act(up(x)));
}

}  // namespace whence::nn
