// Language models and encoders of text.
#include "tests/models/families.h"
#include "whence/models/distilbert.h"
#include "whence/models/esm.h"
#include "whence/models/gpt2.h"
#include "whence/models/gpt_neox.h"
#include "whence/models/llama.h"
#include "whence/models/modernbert.h"
#include "whence/models/roberta.h"

using namespace whence;
using namespace whence::models;

namespace {

constexpr int64_t kBatch = 2, kTokens = 7, kWords = 19;

Var ids_of(Graph& g, Feeds& feeds) {
  feeds.emplace_back("ids", random_ids({kBatch, kTokens}, kWords, 4));
  return g.input("ids", {kBatch, kTokens}, i64);
}

// Models that make word vectors of ids, hidden states of word vectors and logits of hidden states.
template <class Model, class Words> void check_text(Model& m, const Words& words, const FamilyCheck& check = {}) {
  randomise(m);
  check_family(
      m,
      [&](Graph& g) {
        Recording r;
        r.data = words(ids_of(g, r.feeds));
        r.result = m.logits(m.encode(r.data).back());
        r.shape = {kBatch, kTokens, kWords};
        return r;
      },
      check);
}

TEST(Text, Gpt2) {
  for (bool tied : {true, false}) {
    Gpt2 m({.vocab_size = kWords, .max_positions = kTokens, .hidden_size = 12, .layers = 2, .heads = 3, .tied = tied});
    check_text(m, [&](Var ids) { return m.wte(ids); });
  }
}

TEST(Text, GptNeox) {
  for (bool parallel : {true, false}) {
    GptNeoxConfig c;
    c.vocab_size = kWords, c.hidden_size = 16, c.layers = 2, c.heads = 2, c.intermediate_size = 24;
    c.parallel = parallel, c.rotary_share = 0.5;
    GptNeox m(c);
    check_text(m, [&](Var ids) { return m.embed_in(ids); });
  }
}

LlamaConfig small_llama() {
  LlamaConfig c;
  c.vocab_size = kWords, c.hidden_size = 16, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.intermediate_size = 24;
  return c;
}

TEST(Text, Llama) {
  Llama m(small_llama());
  check_text(m, [&](Var ids) { return m.words(ids); });
}

TEST(Text, Qwen3) {
  LlamaConfig c = small_llama();
  c.qk_norm = c.qkv_bias = c.tied = true, c.windows = {3, 0}, c.head_size = 6;
  Llama m(c);
  check_text(m, [&](Var ids) { return m.words(ids); });
}

TEST(Text, Gemma2) {
  LlamaConfig c = small_llama();
  c.gemma = c.norms_after = c.tied = true, c.attention_cap = 5, c.logit_cap = 8, c.windows = {3, 0};
  Llama m(c);
  check_text(m, [&](Var ids) { return m.words(ids); });
}

BertConfig small_bert() {
  BertConfig c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16;
  c.max_positions = kTokens + 2, c.type_vocab_size = 2, c.padding_idx = 1;
  return c;
}

TEST(Text, Bert) {
  BertForMaskedLM m(small_bert());
  randomise(m);
  check_family(m, [&](Graph& g) {
    Recording r;
    r.data = m.bert.embeddings.word(ids_of(g, r.feeds));
    r.result = m.logits(m.bert.encode(m.bert.embeddings.embed(r.data), {}).back());
    r.shape = {kBatch, kTokens, kWords};
    return r;
  });
}

TEST(Text, Roberta) {
  RobertaForMaskedLM m(small_bert());
  randomise(m);
  check_family(m, [&](Graph& g) {
    Recording r;
    Var ids = ids_of(g, r.feeds);
    BertInputs in;
    in.positions = positions_after_padding(ids, 1);
    r.data = m.roberta.embeddings.word(ids);
    r.result = m.logits(m.roberta.encode(m.roberta.embeddings.embed(r.data, in), in).back());
    r.shape = {kBatch, kTokens, kWords};
    return r;
  });
}

TEST(Text, PositionsOfRobertaCountWhatIsNoPadding) {
  Graph g(Graph::Mode::immediate);
  Var ids = g.constant(Tensor::from(std::vector<int64_t>{5, 1, 7, 8, 1, 1, 3, 2}, {2, 4}));
  EXPECT_EQ(positions_after_padding(ids, 1).value().to_vector<int64_t>(),
            (std::vector<int64_t>{2, 1, 3, 4, 1, 1, 2, 3}));
}

TEST(Text, DistilBert) {
  DistilBertConfig c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16;
  c.max_positions = kTokens;
  DistilBertForMaskedLM m(c);
  check_text(m, m.word);
}

TEST(Text, Esm) {
  EsmConfig c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16;
  EsmForMaskedLM m(c);
  check_text(m, m.word);
}

TEST(Text, ModernBert) {
  ModernBertConfig c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 3, c.heads = 3, c.intermediate_size = 16;
  c.window = 4, c.local = {false, true, true};
  ModernBert m(c);
  check_text(m, m.tok_embeddings);
  c.mean_pooling = true;
  ModernBert classifier(c, 4);
  randomise(classifier);
  check_family(classifier, [&](Graph& g) {
    Recording r;
    r.data = classifier.tok_embeddings(ids_of(g, r.feeds));
    r.result = classifier.logits(classifier.encode(r.data).back());
    r.shape = {kBatch, 4};
    return r;
  });
}

TEST(Text, FilesOfOtherVersionsLoad) {
  BertForMaskedLM m(small_bert()), other(small_bert());
  m.init(1);
  other.init(2);
  std::map<std::string, Tensor> state;
  for (const auto& [now, tensor] : m.state_dict()) {
    std::string name = now;
    if (auto at = name.find("LayerNorm.weight"); at != name.npos) name.replace(at, 16, "LayerNorm.gamma");
    if (auto at = name.find("LayerNorm.bias"); at != name.npos) name.replace(at, 14, "LayerNorm.beta");
    state[name] = tensor;
  }
  state["bert.embeddings.position_ids"] = Tensor::zeros({1, 9}, i64);
  state["cls.predictions.decoder.weight"] = m.bert.embeddings.word.weight.tensor().contiguous_copy();
  load_huggingface(other, state);
  EXPECT_TRUE(bitwise_equal(m.flat(), other.flat()));
  state["cls.predictions.decoder.weight"].fill(0);
  EXPECT_THROW(load_huggingface(other, state), ValueError);  // not tied there

  Gpt2 gpt({.vocab_size = kWords, .max_positions = 4, .hidden_size = 4, .layers = 1, .heads = 1}),
      bare({.vocab_size = kWords, .max_positions = 4, .hidden_size = 4, .layers = 1, .heads = 1});
  gpt.init(1);
  bare.init(2);
  state.clear();
  for (const auto& [name, tensor] : gpt.state_dict()) state[name.substr(std::string("transformer.").size())] = tensor;
  state["h.0.attn.bias"] = Tensor::zeros({1, 1, 4, 4});
  load_huggingface(bare, state);
  EXPECT_TRUE(bitwise_equal(gpt.flat(), bare.flat()));
}

TEST(Text, ConfigurationsSayWhatIsWrong) {
  EXPECT_THROW(Gpt2Config::from_json("[1]"), ValueError);
  EXPECT_THROW(Gpt2Config::from_json("{"), ValueError);
  EXPECT_THROW(Gpt2Config::from_json(R"({"n_layer": "two"})"), ValueError);
  EXPECT_THROW(LlamaConfig::from_json(R"({"rope_scaling": {"rope_type": "yarn"}})"), ValueError);
  const LlamaConfig c = LlamaConfig::from_json(
      R"({"model_type": "qwen2", "num_hidden_layers": 2, "sliding_window": 8, "rope_theta": 5e5,
          "use_sliding_window": false, "pad_token_id": null, "note": "say \"Infinity\"", "x": -Infinity})");
  EXPECT_TRUE(c.qkv_bias && !c.out_bias);
  EXPECT_EQ(c.windows, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(c.rotary.theta, 5e5);
  EXPECT_EQ(c.padding_idx, -1);
}

// What may not be seen changes nothing.
TEST(Text, AMaskedTokenHasNoPart) {
  EsmConfig c;
  c.vocab_size = kWords, c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16;
  EsmForMaskedLM m(c);
  auto run = [&](int64_t last) {
    Graph g;
    Tensor ids = random_ids({1, 5}, kWords, 1), mask = Tensor::full({1, 5}, 1, u8);
    ids.data<int64_t>()[4] = last;
    mask.data<uint8_t>()[4] = 0;
    return evaluate({slice(m(g.constant(ids), g.constant(mask)), 1, 0, 4)})[0];
  };
  EXPECT_TRUE(bitwise_equal(run(3), run(8)));
}

}  // namespace
