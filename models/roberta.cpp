#include "whence/models/roberta.h"

namespace whence::models {

using nn::Init;

MaskedLmHead::MaskedLmHead(Module& parent, const std::string& name, int64_t features, int64_t vocab_size, double eps,
                           bool tied, Init init)
    : Module(parent, name),
      dense(*this, "dense", features, features, true, init),
      layer_norm(*this, "layer_norm", features, eps),
      bias(parameter("bias", {vocab_size}, Init::zeros())),
      decoder_weight(tied ? nullptr : &parameter("decoder.weight", {vocab_size, features}, init)) {}

Var MaskedLmHead::operator()(Var x, const nn::Embedding& words) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  return linear(layer_norm(gelu(dense(x))), (decoder_weight ? *decoder_weight : words.weight).in(g), bias.in(g));
}

Var positions_after_padding(Var ids, int64_t padding) {
  Var real = cast(not_equal(ids, double(padding)), i64);
  return cumsum(real, 1) * real + double(padding);
}

static BertConfig with_padded_positions(BertConfig c) {
  c.position_padding_idx = c.padding_idx;
  return c;
}

RobertaForMaskedLM::RobertaForMaskedLM(const BertConfig& c, bool tied)
    : roberta(*this, "roberta", with_padded_positions(c)),
      lm_head(*this, "lm_head", c.hidden_size, c.vocab_size, c.layer_norm_eps, tied,
              Init::normal(c.initializer_range)) {}

std::vector<Var> RobertaForMaskedLM::hidden_states(Var ids, BertInputs in) const {
  if (!in.positions.defined()) in.positions = positions_after_padding(ids, roberta.config.padding_idx);
  return roberta.hidden_states(ids, in);
}

}  // namespace whence::models
