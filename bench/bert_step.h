// The training step that the benches share: a BERT over bytes with a head for every position, and AdamW.
#pragma once
#include "whence/models/bert.h"
#include "whence/nn/train.h"
#include "whence/whence.h"

namespace bench {

using namespace whence;

inline Tensor ints(const Shape& s, int low, int high) {
  Tensor t = Tensor::empty(s, i32);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<int32_t>()[i] = low + int32_t((i * 2654435761u) % uint32_t(high - low));
  return t;
}

struct Bert : nn::Module {
  models::BertConfig config;
  models::BertModel encoder;
  nn::Linear head;
  Bert(int64_t tokens, int64_t width, int64_t layers)
      : config{.vocab_size = 258,
               .hidden_size = width,
               .layers = layers,
               .heads = 4,
               .intermediate_size = 4 * width,
               .max_positions = tokens,
               .dropout = 0,
               .padding_idx = -1},
        encoder(*this, "encoder", config),
        head(*this, "head", width, 256) {}
};

struct BertStep {
  Bert model;
  nn::TrainStep step;
  Batch batch;
  BertStep(int64_t B, int64_t T, int64_t width, int64_t layers, size_t memory_budget = 0)
      : model(T, width, layers),
        step(model, nn::AdamW{.lr = 1e-4},
             [this](Graph& g, const Batch& x) {
               return cross_entropy(model.head(model.encoder(g.input("ids", x["ids"]))),
                                    g.input("labels", x["labels"]));
             },
             {.compile = {.memory_budget = memory_budget}}) {
    batch.tensors = {{"ids", ints({B, T}, 2, 258)}, {"labels", ints({B, T}, 0, 256)}};
  }
  void operator()() { step(batch); }
};

}  // namespace bench
