// A BERT on the fake device: the same training, checkpoint and relevance as on the CPU, bit by bit.
#include <gtest/gtest.h>

#include <filesystem>

#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/models/bert.h"
#include "whence/nn/checkpoint.h"
#include "whence/nn/train.h"
#include "whence/ops/ops.h"
#include "whence/testing/sim.h"

using namespace whence;
using namespace whence::models;

namespace {

BertConfig small() {
  return {.vocab_size = 20,
          .hidden_size = 16,
          .layers = 2,
          .heads = 2,
          .intermediate_size = 32,
          .max_positions = 8,
          .dropout = 0.1};
}

Batch batch_of(int64_t at) {
  Tensor ids = Tensor::empty({4, 8}, i32), label = Tensor::empty({4}, i32);
  for (int64_t i = 0; i < 32; ++i) ids.data<int32_t>()[i] = int32_t((at * 7 + i * i) % 20);
  for (int64_t i = 0; i < 4; ++i) label.data<int32_t>()[i] = int32_t((at + i) % 3);
  Batch b;
  b.tensors = {{"ids", ids}, {"label", label}};
  return b;
}

struct Training {
  BertForSequenceClassification model{small(), 3};
  std::unique_ptr<nn::TrainStep> step;
  explicit Training(Device device) {
    model.init(4);
    nn::TrainOptions o{.clip_norm = 0.5, .accumulate = 2, .seed = 3, .ema_decay = 0.9};
    o.compile.device = device;
    o.groups = nn::no_decay_on_vectors(model);
    step = std::make_unique<nn::TrainStep>(
        model, nn::AdamW{.lr = 5e-3},
        [this](Graph& g, const Batch& b) {
          Var hidden = model.bert(g.input("ids", b["ids"]));
          return cross_entropy(model.logits(hidden), g.input("label", b["label"], {.carries = false}));
        },
        o);
  }
};

TEST(Sim, ABertTrainsAsOnTheCpuAndResumesFromACheckpoint) {
  Training host({}), device(sim::device()), resumed(sim::device());
  const std::string path = testing::TempDir() + "sim_bert.safetensors";
  for (int64_t i = 0; i < 12; ++i) {
    float want = (*host.step)(batch_of(i)), got = (*device.step)(batch_of(i));
    EXPECT_EQ(got, want) << i;
    if (i == 4) save_checkpoint(path, device.step->state());
  }
  EXPECT_EQ(device.model.flat().device(), sim::device());
  EXPECT_TRUE(bitwise_equal(device.model.flat(), host.model.flat()));
  EXPECT_TRUE(bitwise_equal(device.step->ema()->shadow(), host.step->ema()->shadow()));
  resumed.step->load_state(load_checkpoint(path).tensors);
  for (int64_t i = 5; i < 12; ++i) float((*resumed.step)(batch_of(i)));
  EXPECT_TRUE(bitwise_equal(resumed.model.flat(), host.model.flat()));
  std::filesystem::remove(path);
}

TEST(Sim, RelevanceIsTheCpus) {
  BertForSequenceClassification host(small(), 3), device(small(), 3);
  host.init(4);
  device.init(4);
  device.to(sim::device());
  auto sweep = [&](BertForSequenceClassification& m, CompileOptions o) {
    Graph g;
    Var x = g.input("x", {2, 8, 16});
    Var score = pick(m.logits(m.bert.encode(m.bert.embeddings.embed(x), {}).back()),
                     g.input("label", {2}, i32, {.carries = false}));
    Var r = relevance(score, x, lrp::attn());
    auto gradients = nn::grad(sum(score), m);
    Tensor xs = Tensor::empty({2, 8, 16});
    for (int64_t i = 0; i < xs.numel(); ++i) xs.data<float>()[i] = float(i % 17) / 8 - 1;
    return compile({r, gradients}, o).run({{"x", xs}, {"label", Tensor::from<int32_t>({1, 2})}});
  };
  long waits = sim::counts().waits;
  Results want = sweep(host, {}), got = sweep(device, {.device = sim::device()});
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(bitwise_equal(got[i], want[i])) << i;
  EXPECT_GT(sim::counts().waits, waits);  // the two sweeps met on several queues
}

}  // namespace
