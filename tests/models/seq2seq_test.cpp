// Encoder-decoder models, and sound.
#include "tests/models/families.h"
#include "whence/models/bart.h"
#include "whence/models/t5.h"
#include "whence/models/wav2vec2.h"
#include "whence/models/whisper.h"

using namespace whence;
using namespace whence::models;

namespace {

constexpr int64_t kBatch = 2, kSource = 5, kTarget = 4, kWords = 13;

// Relevance runs to the encoder's output, which both sides pass.
template <class Model> void check_text(Model& m, const FamilyCheck& check = {}) {
  randomise(m);
  check_family(
      m,
      [&](Graph& g) {
        Recording r;
        r.feeds = {{"ids", random_ids({kBatch, kSource}, kWords, 4)},
                   {"target", random_ids({kBatch, kTarget}, kWords, 5)}};
        r.data = m.encode(g.input("ids", {kBatch, kSource}, i64)).back();
        r.result = m.logits(m.decode(g.input("target", {kBatch, kTarget}, i64, {.carries = false}), r.data).back());
        r.shape = {kBatch, kTarget, kWords};
        return r;
      },
      check);
}

Seq2SeqConfig small_side(bool decoder) {
  return {.hidden_size = 12, .layers = 2, .heads = 3, .intermediate_size = 16, .decoder = decoder};
}

TEST(Seq2Seq, Bart) {
  BartConfig c;
  c.vocab_size = kWords, c.max_positions = kSource, c.encoder = small_side(false), c.decoder = small_side(true);
  Bart m(c);
  check_text(m);
}

TEST(Seq2Seq, T5) {
  for (bool gated : {false, true}) {
    T5Config c;
    c.vocab_size = kWords, c.hidden_size = 12, c.head_size = 5, c.heads = 3, c.intermediate_size = 16;
    c.layers = 2, c.decoder_layers = 1, c.buckets = 4, c.furthest = 8, c.gated = gated, c.tied = !gated;
    T5 m(c);
    check_text(m, {.untouched = {"never"}});
  }
}

TEST(Seq2Seq, Whisper) {
  WhisperConfig c;
  c.vocab_size = kWords, c.mel_bins = 4, c.max_source_positions = 6, c.max_target_positions = kTarget;
  for (Seq2SeqConfig* side : {&c.encoder, &c.decoder})
    side->hidden_size = 12, side->layers = 2, side->heads = 3, side->intermediate_size = 16;
  c.padding_idx = 0;
  Whisper m(c);
  randomise(m);
  auto record = [&](Graph& g, int64_t frames) {
    Recording r;
    r.feeds = {{"sound", random_tensor({kBatch, 4, frames}, 3)}, {"target", random_ids({kBatch, kTarget}, kWords, 5)}};
    r.data = g.input("sound", {kBatch, 4, frames}, f64);
    r.result = m(r.data, g.input("target", {kBatch, kTarget}, i64, {.carries = false}));
    r.shape = {kBatch, kTarget, kWords};
    return r;
  };
  check_family(m, [&](Graph& g) { return record(g, 12); });
  Graph g;
  EXPECT_THROW(record(g, 10), ShapeError);
}

TEST(Seq2Seq, Wav2Vec2) {
  Wav2Vec2Config c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16;
  c.conv_channels = {6, 8}, c.conv_kernels = {4, 3}, c.conv_strides = {2, 2};
  c.position_kernel = 4, c.position_groups = 2;
  Wav2Vec2ForCTC m(c);
  randomise(m);
  check_family(m, [&](Graph& g) {
    Recording r;
    r.feeds = {{"wave", random_tensor({kBatch, 40}, 3)}};
    r.data = g.input("wave", {kBatch, 40}, f64);
    r.result = m(r.data);
    r.shape = {kBatch, 9, kWords};
    return r;
  });
  // Padding behind the labels changes nothing.
  Graph g;
  Var y = m(g.constant(random_tensor({2, 40}, 3)));
  auto labels = [&](std::vector<int64_t> v) { return g.constant(Tensor::from(v, {2, int64_t(v.size()) / 2})); };
  Results r =
      evaluate({m.loss(y, labels({1, 2, 3, 4, 5, -100})), m.loss(y, labels({1, 2, 3, -100, 4, 5, -100, -100}))});
  EXPECT_NEAR(r[0].item(), r[1].item(), 1e-12);
  EXPECT_GT(r[0].item(), 0);
}

}  // namespace
