#include "whence/models/attention.h"

#include "whence/models/activation.h"
#include "whence/nn/rotary.h"

namespace whence::models {

namespace {

int64_t inner(const nn::Module& m, const ProjectedAttention::Options& o) {
  if (o.heads < 1 || (!o.head_size && o.features % o.heads))
    throw ShapeError("'" + m.name() + "': " + std::to_string(o.features) + " features do not divide into " +
                     std::to_string(o.heads) + " heads");
  return o.head_size ? o.heads * o.head_size : o.features;
}

}  // namespace

ProjectedAttention::ProjectedAttention(Module& parent, const std::string& name, const Options& o)
    : Module(parent, name),
      heads(o.heads),
      q(*this, o.q, o.features, inner(*this, o), o.q_bias, o.init),
      k(*this, o.k, o.features, inner(*this, o), o.k_bias, o.init),
      v(*this, o.v, o.features, inner(*this, o), o.v_bias, o.init),
      out(*this, o.out, inner(*this, o), o.features, o.out_bias, o.init) {}

Var ProjectedAttention::operator()(Var x, AttentionOptions options, Var memory, Var angles) const {
  nn::ModuleScope here(*this, x);
  if (!memory.defined()) memory = x;
  Var queries = nn::split_heads(q(x), heads), keys = nn::split_heads(k(memory), heads);
  if (angles.defined()) {
    queries = nn::rotate(queries, angles);
    keys = nn::rotate(keys, angles);
  }
  return out(nn::merge_heads(attention(queries, keys, nn::split_heads(v(memory), heads), std::move(options))));
}

AttentionOptions visible(Var mask, bool causal) {
  AttentionOptions o{.causal = causal};
  if (mask.defined()) o.mask = mask;
  return o;
}

NamedFeedForward::NamedFeedForward(Module& parent, const std::string& name, const char* u, const char* d,
                                   int64_t features, int64_t hidden, const std::string& act, nn::Init init)
    : Module(parent, name),
      up(*this, u, features, hidden, true, init),
      down(*this, d, hidden, features, true, init),
      activation(activation_named(act)) {}

}  // namespace whence::models
