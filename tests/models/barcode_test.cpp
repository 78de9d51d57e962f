// Barcode models: packing keeps every visible token and its position; the masked autoencoder learns; relevance closes.
#include <gtest/gtest.h>

#include <cmath>

#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/models/barcode.h"
#include "whence/nn/train.h"

using namespace whence;
using namespace whence::models;

namespace {

BarcodeConfig small() {
  return {.k = 2,
          .max_tokens = 12,
          .hidden = 16,
          .layers = 2,
          .heads = 2,
          .decoder_hidden = 8,
          .decoder_layers = 1,
          .decoder_heads = 2,
          .dropout = 0};
}

TEST(Pack, KeepsVisibleTokensAndTheirPlaces) {
  Tensor ids = Tensor::from<int32_t>({2, 3, 4, 5, 1, 6, 7, 8, 9, 10}, {2, 5});
  Tensor seen = Tensor::from<uint8_t>({1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, {2, 5});
  std::vector<uint8_t> hidden{0, 1, 0, 1, 1, 1, 0, 0, 0, 0};
  PackedTokens p = pack(ids, seen, hidden);
  EXPECT_EQ(p.ids.to_vector<int32_t>(), (std::vector<int32_t>{2, 4, 7, 8}));
  EXPECT_EQ(p.positions.to_vector<int32_t>(), (std::vector<int32_t>{0, 2, 1, 2}));
  EXPECT_EQ(p.mask.to_vector<uint8_t>(), (std::vector<uint8_t>{1, 1, 1, 1}));
  EXPECT_EQ(p.restore.to_vector<int32_t>(), (std::vector<int32_t>{0, 2, 1, 2, 2, 5, 3, 4, 5, 5}));
  // Masked known tokens are predicted; [UNK] (id 1), seen and padded places are not.
  EXPECT_EQ(p.labels.to_vector<int32_t>(), (std::vector<int32_t>{-100, 1, -100, 3, -100, 4, -100, -100, -100, -100}));
  PackedTokens wide = pack(ids, seen, hidden, 4);
  EXPECT_EQ(wide.ids.to_vector<int32_t>(), (std::vector<int32_t>{2, 4, 1, 1, 7, 8, 1, 1}));
  EXPECT_EQ(wide.mask.to_vector<uint8_t>(), (std::vector<uint8_t>{1, 1, 0, 0, 1, 1, 0, 0}));
  EXPECT_THROW(pack(ids, seen, hidden, 1), ShapeError);
}

TEST(BarcodeMae, TheEncoderNeverSeesAMaskedToken) {
  BarcodeMae model(small());
  model.init(3, f64);
  Tensor ids = Tensor::from<int32_t>({2, 3, 4, 5, 6, 7}, {1, 6}), seen = Tensor::full({1, 6}, 1, u8);
  std::vector<uint8_t> hidden{0, 1, 0, 1, 0, 1};
  auto loss_of = [&](const Tensor& tokens) {
    PackedTokens p = pack(tokens, seen, hidden);
    PackedTokens labels = pack(ids, seen, hidden);
    Graph g;
    Var loss =
        model.loss(g.input("ids", p.ids), g.input("positions", p.positions), g.input("mask", p.mask),
                   g.input("restore", p.restore), g.input("labels", labels.labels), g.input("decoder_mask", seen));
    return compile({loss})
        .run({{"ids", p.ids},
              {"positions", p.positions},
              {"mask", p.mask},
              {"restore", p.restore},
              {"labels", labels.labels},
              {"decoder_mask", seen}})[0]
        .item();
  };
  Tensor masked_changed = ids.contiguous_copy(), visible_changed = ids.contiguous_copy();
  masked_changed.data<int32_t>()[1] = 9;
  visible_changed.data<int32_t>()[2] = 9;
  EXPECT_EQ(loss_of(ids), loss_of(masked_changed));
  EXPECT_NE(loss_of(ids), loss_of(visible_changed));
}

TEST(BarcodeMae, DenseWeightsStartAtTheScaleOfTheirWidth) {
  BarcodeMae model(small());
  model.init(5);
  auto spread = [&](const std::string& name) {
    double sum = 0;
    std::vector<double> w = model.state_dict().at(name).to_vector<double>();
    for (double v : w) sum += v * v;
    return std::sqrt(sum / double(w.size()));
  };
  EXPECT_NEAR(spread("encoder.embeddings.position_embeddings.weight"), 0.02, 0.002);
  EXPECT_NEAR(spread("encoder.encoder.layer.0.intermediate.dense.weight"), 1 / std::sqrt(16.0), 0.03);
  EXPECT_NEAR(spread("decoder.encoder.layer.0.attention.self.query.weight"), 1 / std::sqrt(8.0), 0.1);
}

TEST(BarcodeClassifier, LearnsAndItsRelevanceCloses) {
  BarcodeClassifier model(small(), 3);
  model.init(1);
  Batch b;
  Tensor ids = Tensor::empty({6, 12}, i32), label = Tensor::empty({6}, i32);
  for (int64_t i = 0; i < 6; ++i) {
    label.data<int32_t>()[i] = int32_t(i % 3);
    for (int64_t t = 0; t < 12; ++t) ids.data<int32_t>()[i * 12 + t] = int32_t(2 + (i % 3) * 5 + (t * 7 + i) % 4);
  }
  b.tensors = {{"ids", ids}, {"mask", Tensor::full({6, 12}, 1, u8)}, {"label", label}};
  nn::TrainStep step(model, nn::AdamW{.lr = 1e-2}, [&](Graph& g, const Batch& x) {
    return cross_entropy(model(g.input("ids", x["ids"]), g.input("mask", x["mask"], {.carries = false})),
                         g.input("label", x["label"], {.carries = false}));
  });
  float first = step(b), last = 0;
  for (int i = 0; i < 60; ++i) last = step(b);
  EXPECT_NEAR(first, std::log(3.0), 0.5);
  EXPECT_LT(last, 0.1);

  Graph g;
  Var x = g.input("ids", {6, 12}, i32), mask = g.input("mask", {6, 12}, u8, {.carries = false});
  Var score = pick(model(x, mask), g.input("label", {6}, i32, {.carries = false}));
  lrp::Ledger ledger(lrp::attn());
  Var r = ledger.relevance(score, x);
  ASSERT_EQ(r.shape(), (Shape{6, 12}));  // of each token
  Results out = compile({r, ledger.outputs()}).run({{"ids", ids}, {"mask", b["mask"]}, {"label", label}});
  lrp::LedgerReport report = ledger.read(out);
  EXPECT_TRUE(report.holds()) << report.text();
  EXPECT_GT(std::fabs(report.leaves), 0);
}

}  // namespace
