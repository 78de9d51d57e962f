// Mamba, Mamba 2 and xLSTM.
#include "tests/models/families.h"
#include "whence/models/mamba.h"
#include "whence/models/xlstm.h"
#include "whence/models/xlstm_cells.h"
#include "whence/models/xlstm_large.h"

using namespace whence;
using namespace whence::models;

namespace {

constexpr int64_t kBatch = 2, kTokens = 6, kWords = 11;

template <class Model> void check_recurrent(Model& m, const nn::Embedding& words, const FamilyCheck& check = {}) {
  randomise(m);
  check_family(
      m,
      [&](Graph& g) {
        Recording r;
        r.feeds = {{"ids", random_ids({kBatch, kTokens}, kWords, 4)}};
        r.data = words(g.input("ids", {kBatch, kTokens}, i64));
        r.result = m.logits(m.encode(r.data).back());
        r.shape = {kBatch, kTokens, kWords};
        return r;
      },
      check);
}

MambaConfig small_mamba() {
  MambaConfig c;
  c.vocab_size = kWords, c.hidden_size = 8, c.layers = 2, c.state_size = 3, c.conv_width = 3, c.time_step_rank = 2;
  return c;
}

TEST(Recurrent, Mamba) {
  Mamba m(small_mamba());
  check_recurrent(m, m.embeddings, {.rules = lrp::mamba()});
  check_recurrent(m, m.embeddings);
}

TEST(Recurrent, Mamba2) {
  MambaConfig c = small_mamba();
  c.heads = 4, c.groups = 2, c.tied = false, c.bias = true;
  Mamba m(c);
  check_recurrent(m, m.embeddings);
  c.heads = 3;
  EXPECT_THROW(Mamba bad(c), ShapeError);
}

TEST(Recurrent, StepsOfMambaStartBetweenTheirBounds) {
  MambaConfig c = small_mamba();
  Mamba m(c);
  auto bias = m.layers[0].mixer->dt_bias.tensor().to_vector<double>();
  auto step = [](double b) { return std::log1p(std::exp(b)); };
  EXPECT_NEAR(step(bias.front()), 1e-3, 1e-7);
  EXPECT_NEAR(step(bias.back()), 1e-1, 1e-6);
  EXPECT_NEAR(m.layers[0].mixer->A_log.tensor().item(2), std::log(3), 1e-6);
}

TEST(Recurrent, Xlstm) {
  XlstmConfig c;
  c.vocab_size = kWords, c.hidden_size = 8, c.inner_size = 16, c.mlstm_heads = c.slstm_heads = 2;
  c.feed_forward_size = 12;
  Xlstm m(c);
  check_recurrent(m, m.token_embedding);
}

TEST(Recurrent, XlstmLarge) {
  for (bool fused : {false, true}) {
    XlstmLargeConfig c;
    c.vocab_size = kWords, c.hidden_size = 8, c.layers = 2, c.heads = 2, c.feed_forward_size = 12;
    c.chunk_size = 4, c.fused = fused;
    XlstmLarge m(c);
    check_recurrent(m, m.embeddings);
  }
}

// The three forms of the mLSTM are one function; eps would come after different stabilisers.
TEST(Recurrent, MlstmStepByStepInChunksAndAtOnce) {
  Graph g;
  const int64_t T = 13;
  Var q = g.constant(random_tensor({2, 3, T, 4}, 1)), k = g.constant(random_tensor({2, 3, T, 4}, 2)),
      v = g.constant(random_tensor({2, 3, T, 5}, 3)), ig = g.constant(random_tensor({2, 3, T}, 4)),
      fg = g.constant(random_tensor({2, 3, T}, 5));
  Var whole = mlstm_parallel(q, k, v, ig, fg, 0).h;
  Results r = evaluate({whole, mlstm_recurrent(q, k, v, ig, fg, 0, mlstm_zeros(q, v)).h,
                        mlstm_chunkwise(q, k, v, ig, fg, 0, 5, mlstm_zeros(q, v)).h});
  EXPECT_LT(max_abs_diff(r[0], r[1]), 1e-12);
  EXPECT_LT(max_abs_diff(r[0], r[2]), 1e-12);
}

}  // namespace
