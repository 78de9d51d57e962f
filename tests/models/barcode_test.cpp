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

TEST(Pack, OverlappingWordsDoNotReachIntoHiddenTokens) {
  Tensor ids = Tensor::from<int32_t>({2, 3, 4, 5, 6, 7, 8, 9}, {1, 4, 2}), seen = Tensor::full({1, 4}, 1, u8);
  PackedTokens p = pack(ids, seen, std::vector<uint8_t>{0, 1, 0, 0}, 0, true);
  EXPECT_EQ(p.ids.shape(), (Shape{1, 3, 2}));
  EXPECT_EQ(p.ids.to_vector<int32_t>(), (std::vector<int32_t>{2, 1, 6, 7, 8, 9}));  // 3 lies half in the hidden token
  EXPECT_EQ(p.labels.to_vector<int32_t>(), (std::vector<int32_t>{0, 2, 4, 6}));     // the first word of each token
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

TEST(BarcodeMae, PredictsTheSpectrumFromWhatItSees) {
  BarcodeConfig c = small();
  c.spectrum = 1;
  BarcodeMae model(c);
  model.init(4);
  Tensor ids = Tensor::from<int32_t>({2, 3, 4, 5, 6, 7, 8, 9}, {1, 4, 2}), seen = Tensor::full({1, 4}, 1, u8);
  PackedTokens p = pack(ids, seen, std::vector<uint8_t>{0, 1, 0, 1});
  Batch b;
  b.tensors = {{"ids", p.ids},
               {"positions", p.positions},
               {"mask", p.mask},
               {"restore", p.restore},
               {"labels", p.labels},
               {"decoder_mask", seen},
               {"spectrum", Tensor::from<float>({0.8f, 0.6f, 0, 0}, {1, 4})}};
  nn::TrainStep step(model, nn::AdamW{.lr = 1e-2}, [&](Graph& g, const Batch& x) {
    return model.loss(g.input("ids", x["ids"]), g.input("positions", x["positions"]), g.input("mask", x["mask"]),
                      g.input("restore", x["restore"]), g.input("labels", x["labels"]),
                      g.input("decoder_mask", x["decoder_mask"]), g.input("spectrum", x["spectrum"]));
  });
  float first = step(b), last = 0;
  for (int i = 0; i < 80; ++i) last = step(b);
  EXPECT_GT(first, 1);
  EXPECT_LT(last, 0.1);
}

TEST(BarcodeClassifier, WideAndDeepRelevanceReachesWordsAndSpectrum) {
  BarcodeConfig c = small();
  c.spectrum = 2;
  BarcodeClassifier model(c, 3);
  model.init(1);
  EXPECT_EQ(model.state_dict().at("wide.weight").shape(), (Shape{3, 16}));
  model.spectrum_mean->tensor().copy_from(Tensor::full({16}, 0.1));
  nn::Init::normal(0.3).fill(model.wide->weight.tensor(), 7, "wide");
  Graph h;  // a sequence like the mean of all says nothing
  Var embedded = h.constant(Tensor::full({2, 16}, 0.5)), deep = model.head(model.norm(embedded));
  Results same = evaluate({deep, model.classify(embedded, h.constant(Tensor::full({2, 16}, 0.1)))});
  EXPECT_EQ(same[0].to_vector<double>(), same[1].to_vector<double>());
  Tensor ids = Tensor::empty({2, 12, 2}, i32), mask = Tensor::full({2, 12}, 1, u8), spectrum = Tensor::zeros({2, 16});
  for (int64_t i = 0; i < ids.numel(); ++i) ids.data<int32_t>()[i] = int32_t(2 + i * 7 % 16);
  for (int64_t i : {3, 5, 16, 31}) spectrum.data<float>()[i] = 0.7f;
  Graph g;
  Var x = g.input("ids", ids), s = g.input("spectrum", spectrum);
  Var score = pick(model(x, g.input("mask", mask, {.carries = false}), s),
                   g.input("target", Tensor::from<int32_t>({0, 2}, {2}), {.carries = false}));
  lrp::Ledger ledger(lrp::attn());
  std::vector<Var> r = ledger.relevance(score, std::vector<Var>{x, s});
  ASSERT_EQ(r[0].shape(), (Shape{2, 12, 2}));  // of each overlapping word
  Feeds feeds{{"ids", ids}, {"mask", mask}, {"spectrum", spectrum}, {"target", Tensor::from<int32_t>({0, 2}, {2})}};
  Results out = compile({r, ledger.outputs()}).run(feeds);
  lrp::LedgerReport report = ledger.read(out);
  EXPECT_TRUE(report.holds()) << report.text();
  double sum = 0;
  for (const Tensor& t : {out[0], out[1]})
    for (double v : t.to_vector<double>()) sum += v;
  EXPECT_NEAR(sum, report.leaves, 1e-4 * std::fabs(report.seed));
  for (int64_t i = 0; i < 32; ++i)  // a word that is not there takes nothing, one that is takes its weight's share
    EXPECT_EQ(out[1].item(i) != 0, spectrum.item(i) != 0) << i;
  EXPECT_NEAR(out[1].item(3), 0.7 * 4 * model.wide->weight.tensor().item(3), 1e-3);
}

TEST(BarcodeClassifier, RemembersTheNearestOfEachClassOutsideTraining) {
  BarcodeConfig c = small(), plain_config = small();
  c.spectrum = plain_config.spectrum = 1;
  c.memory = 3;
  BarcodeClassifier model(c, 3), plain(plain_config, 3);
  model.init(1), plain.init(1);
  Tensor spectra = Tensor::from<float>({1, 0, 0, 0, 0, 1, 0, 0, 0.6f, 0, 0.8f, 0}, {3, 4});
  const std::vector<int64_t> classes{2, 0, 2};
  model.remember(spectra, classes), plain.remember(spectra, classes);
  EXPECT_THROW(model.remember(spectra, std::vector<int64_t>{1}), ShapeError);
  auto scores = [&](const BarcodeClassifier& m, bool training) {
    Graph g({.training = training});
    return evaluate({m.classify(g.constant(Tensor::full({3, 16}, 0.5)), g.constant(spectra))})[0].to_vector<double>();
  };
  const std::vector<double> with = scores(model, false), without = scores(plain, false);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(with[3 * i + size_t(classes[i])] - without[3 * i + size_t(classes[i])], 20, 1e-3);  // itself
    EXPECT_NEAR(with[3 * i + 1] - without[3 * i + 1], -20, 1e-3);  // a class without members
  }
  EXPECT_LT(with[2] - without[2] - 20, 1e-3);
  EXPECT_GT(with[5] - without[5], -20);  // the nearer of the two of class 2
  EXPECT_EQ(scores(model, true), scores(plain, true));
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
