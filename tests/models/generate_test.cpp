// Decoders with their caches: a step equals the whole forward pass, whatever stands beside a sequence; drawing tokens;
// stories260K tells its known text.
#include "whence/models/generate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "whence/models/gpt2.h"
#include "whence/models/gpt_neox.h"
#include "whence/models/llama2c.h"
#include "whence/nn/data/subword.h"

using namespace whence;
using namespace whence::models;

namespace {

Gpt2Config small_gpt2() { return {.vocab_size = 40, .max_positions = 96, .hidden_size = 24, .layers = 2, .heads = 3}; }
GptNeoxConfig small_neox() {
  GptNeoxConfig c;
  c.vocab_size = 40, c.hidden_size = 24, c.layers = 2, c.heads = 2, c.intermediate_size = 48, c.max_positions = 96;
  c.rotary_share = 0.5;
  return c;
}
LlamaConfig small_llama() {
  LlamaConfig c;
  c.vocab_size = 40, c.hidden_size = 24, c.layers = 2, c.heads = 4, c.intermediate_size = 40, c.max_positions = 96;
  c.kv_heads = 2;
  return c;
}
LlamaConfig small_gemma() {
  LlamaConfig c = small_llama();
  c.gemma = c.norms_after = c.tied = true;
  c.attention_cap = 5;
  c.logit_cap = 8;
  c.windows = {6, 0};
  return c;
}

Tokens random_tokens(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens t;
  while (int64_t(t.size()) < n) t.push_back(int64_t(random() % 40));
  return t;
}

// Weights far from their small initial values, so that every token matters.
template <class Model> void shake(Model& m, uint64_t seed) {
  m.init(seed);
  for (nn::Parameter* p : m.parameters())
    if (p->shape().rank() > 1) {
      Tensor t = p->tensor();
      for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] *= 8;
    }
}

template <class Model> Tensor whole(Model& m, const Tokens& ids) {  // [T, V]
  Graph g;
  Var x = g.input("ids", {1, int64_t(ids.size())}, i64);
  Tensor y = evaluate({m(x)}, {{"ids", Tensor::from(ids, {1, int64_t(ids.size())})}})[0];
  return y.reshaped({y.size(1), y.size(2)});
}

// Prompts of 1 to 70 tokens beside one another; every step of each is the whole pass over its own tokens alone. The
// first reads of the cache are of 64 places, later ones of all 96.
template <class Model, class Config> void a_step_is_the_whole_pass(const Config& config) {
  Model m(config);
  shake(m, 5);
  std::vector<Tokens> texts{random_tokens(94, 1), random_tokens(35, 2), random_tokens(25, 3)};
  std::vector<Tokens> prompts{
      Tokens(texts[0].begin(), texts[0].begin() + 70), Tokens(texts[1].begin(), texts[1].begin() + 11), {texts[2][0]}};
  std::vector<Tensor> want;
  for (const Tokens& t : texts) want.push_back(whole(m, t));
  auto compare = [&](const Tensor& got, int64_t step) {
    for (size_t b = 0; b < texts.size(); ++b) {
      const int64_t at = int64_t(prompts[b].size()) - 1 + step;
      const Tensor w = want[b].slice(0, at, at + 1);
      double largest = 0;
      for (double v : w.to_vector<double>()) largest = std::max(largest, std::fabs(v));
      EXPECT_LE(max_abs_diff(got.slice(0, int64_t(b), int64_t(b) + 1), w), 1e-5 * largest) << b << " at " << at;
    }
  };
  for (bool again : {false, true}) {  // a second text on the same cache
    Decoder decoder(m);
    if (again) decoder.start(prompts, 20);
    compare(decoder.start(prompts, 24), 0);
    for (int64_t step = 1; step <= 24; ++step) {
      Tokens next;
      for (size_t b = 0; b < texts.size(); ++b) next.push_back(texts[b][prompts[b].size() - 1 + size_t(step)]);
      compare(decoder.step(next), step);
    }
  }
}

TEST(Cache, AStepOfGpt2IsTheWholePass) { a_step_is_the_whole_pass<Gpt2>(small_gpt2()); }
TEST(Cache, AStepOfGptNeoxIsTheWholePass) { a_step_is_the_whole_pass<GptNeox>(small_neox()); }
TEST(Cache, AStepOfLlamaIsTheWholePass) { a_step_is_the_whole_pass<Llama>(small_llama()); }
TEST(Cache, AStepOfGemmaIsTheWholePass) { a_step_is_the_whole_pass<Llama>(small_gemma()); }

TEST(Cache, IsWrittenInPlaceAndAStepIsCompiledOnce) {
  Llama m(small_llama());
  shake(m, 1);
  Decoder decoder(m);
  std::vector<Tokens> prompts{{1, 2, 3}};
  decoder.start(prompts, 60);
  decoder.step(Tokens{4});
  const PlanCacheStats before = plan_cache_stats();
  for (int i = 0; i < 50; ++i) decoder.step(Tokens{i % 40});
  const PlanCacheStats after = plan_cache_stats();
  EXPECT_EQ(after.hits + after.misses, before.hits + before.misses);

  KvCache cache(m.cache_layout(), 1, 4096);
  Graph g;
  DecoderInputs in;
  in.cache = &cache;
  in.at = g.input("at", {}, i64);
  in.shown = 4096;
  in.mask = less_equal(unsqueeze(arange(g, 4096), 0), in.at);
  in.positions = reshape(in.at, {1, 1});
  Plan plan = compile({m(g.input("ids", {1, 1}, i64), in)});
  EXPECT_LT(plan.stats().arena_bytes, size_t(4096 * 2 * 6 * sizeof(float)));  // less than one layer's keys
}

TEST(Generate, FollowsTheMostProbableToken) {
  Gpt2 m(small_gpt2());
  shake(m, 3);
  std::vector<Tokens> prompts{{3, 1, 4}, {1, 5, 9, 2, 6}};
  std::vector<Tokens> got = generate(m, prompts, {.max_new_tokens = 12});
  for (size_t b = 0; b < prompts.size(); ++b) {
    Tokens text = prompts[b];
    for (int64_t token : got[b]) {
      const Tensor y = whole(m, text);
      EXPECT_EQ(token, sample(y.slice(0, y.size(0) - 1, y.size(0)), {}, 0));
      text.push_back(token);
    }
    EXPECT_EQ(got[b].size(), 12u);
  }
}

TEST(Generate, EqualSeedsGiveEqualTextsInAnyBatch) {
  Llama m(small_llama());
  shake(m, 2);
  const GenerateOptions o{.max_new_tokens = 30, .temperature = 1.2, .seed = 7};
  std::vector<Tokens> one{{3, 1, 4}}, two{{3, 1, 4}, {1, 5, 9, 2, 6, 5}};
  auto alone = generate(m, one, o), both = generate(m, two, o);
  EXPECT_EQ(alone[0], both[0]);
  EXPECT_EQ(both, generate(m, two, o));
  GenerateOptions other = o;
  other.seed = 8;
  EXPECT_NE(both, generate(m, two, other));
}

TEST(Generate, StopsWithAStopTokenOrAFullContext) {
  Llama m(small_llama());
  shake(m, 2);
  std::vector<Tokens> prompts{{3, 1, 4}, {7}};
  GenerateOptions o{.max_new_tokens = 1000, .temperature = 1};
  const auto whole_texts = generate(m, prompts, o);
  EXPECT_EQ(whole_texts[0].size(), 96u - 3 + 1);  // the last token needs no place
  o.stop = {whole_texts[0][5]};
  std::vector<size_t> heard(2);
  o.on_token = [&](size_t sequence, int64_t) { ++heard[sequence]; };
  const auto texts = generate(m, prompts, o);
  for (size_t b = 0; b < 2; ++b) {
    const Tokens& w = whole_texts[b];
    const size_t n = std::min(w.size(), size_t(std::find(w.begin(), w.end(), o.stop[0]) - w.begin()) + 1);
    EXPECT_EQ(texts[b], Tokens(w.begin(), w.begin() + int64_t(n)));
    EXPECT_EQ(heard[b], n);
  }
  EXPECT_TRUE(generate(m, prompts, {.max_new_tokens = 0})[0].empty());
}

TEST(Generate, DrawsAsTheOptionsSay) {
  const Tensor logits =
      Tensor::from(std::vector<float>{std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)});
  auto shares = [&](GenerateOptions o) {
    std::vector<double> n(4);
    for (int i = 0; i < 1000; ++i) n[size_t(sample(logits, o, (i + 0.5) / 1000))] += 1e-3;
    return n;
  };
  auto expect = [](std::vector<double> got, std::vector<double> want) {
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(got[i], want[i], 2e-3) << i;
  };
  expect(shares({}), {0, 1, 0, 0});
  expect(shares({.temperature = 1}), {0.1, 0.5, 0.15, 0.25});
  expect(shares({.temperature = 0.5}), {0.01 / 0.345, 0.25 / 0.345, 0.0225 / 0.345, 0.0625 / 0.345});
  expect(shares({.temperature = 1, .top_k = 2}), {0, 2. / 3, 0, 1. / 3});
  expect(shares({.temperature = 1, .top_p = 0.5}), {0, 1, 0, 0});
  expect(shares({.temperature = 1, .top_p = 0.76}), {0, 5. / 9, 1.5 / 9, 2.5 / 9});
  expect(shares({.temperature = 1, .top_k = 3, .top_p = 0.8}), {0, 2. / 3, 0, 1. / 3});
}

TEST(Generate, RefusesWhatMakesNoSense) {
  Llama m(small_llama());
  std::vector<Tokens> none, empty{{1}, {}}, good{{1, 2}}, bad{{1, 40}}, long_one{Tokens(97, 1)};
  EXPECT_THROW(generate(m, none), ValueError);
  EXPECT_THROW(generate(m, empty), ValueError);
  EXPECT_THROW(generate(m, bad), ValueError);
  EXPECT_THROW(generate(m, long_one), ValueError);
  EXPECT_THROW(generate(m, good, {.temperature = -1}), ValueError);
  EXPECT_THROW(generate(m, good, {.temperature = NAN}), ValueError);
  EXPECT_THROW(generate(m, good, {.top_k = -1}), ValueError);
  EXPECT_THROW(generate(m, good, {.top_p = 0}), ValueError);
  EXPECT_THROW(sample(Tensor::from(std::vector<float>{1, NAN}), {}, 0), ValueError);
  Decoder decoder(m);
  EXPECT_THROW(decoder.step(Tokens{1}), ValueError);
  decoder.start(good, 1);
  EXPECT_THROW(decoder.step(Tokens{1, 2}), ValueError);
}

std::filesystem::path shared(const char* name) {
  const char* source = std::getenv("WHENCE_SOURCE_DIR");
  return std::filesystem::path(source ? source : ".") / ".." / "shared" / name;
}

TEST(Llama2c, Stories260KTellsItsKnownText) {
  const auto weights = shared("data/weights/stories260K.bin"), words = shared("data/weights/tok512.bin");
  if (!std::filesystem::exists(weights)) GTEST_SKIP() << "no " << weights << ": its text is not told";
  auto model = load_llama2c(weights.string());
  const auto tokenizer = SubwordTokenizer::read_llama2c(words.string());
  const std::vector<int32_t> prompt = tokenizer.encode("").ids;  // <s>
  const std::vector<Tokens> begin{Tokens(prompt.begin(), prompt.end())};
  const Tokens text = generate(*model, begin, {.max_new_tokens = 60})[0];
  EXPECT_EQ(Tokens(text.begin(), text.begin() + 6), (Tokens{403, 407, 261, 378, 432, 383}));
  const std::string told = tokenizer.decode(std::vector<int32_t>(text.begin(), text.end()));
  const std::string known =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
      "big, red ball.";
  EXPECT_EQ(told.substr(0, known.size()), known);
}

TEST(Llama2c, ADamagedFileIsAnError) {
  const std::string path = testing::TempDir() + "llama2c.bin";
  auto write = [&](std::vector<int32_t> header, size_t floats) {
    FILE* f = std::fopen(path.c_str(), "wb");
    std::fwrite(header.data(), 4, header.size(), f);
    for (float zero = 0; floats-- > 0;) std::fwrite(&zero, 4, 1, f);
    std::fclose(f);
  };
  const std::vector<int32_t> header{4, 4, 1, 2, 1, 3, 2};
  const size_t floats = 3 * 4 + 4 + 16 + 8 + 8 + 16 + 4 + 3 * 16 + 4 + 2 * 2;
  write(header, floats);
  EXPECT_EQ(load_llama2c(path)->config.layers, 1);
  write(header, floats - 1);
  EXPECT_THROW(load_llama2c(path), IoError);
  write(header, floats + 1);
  EXPECT_THROW(load_llama2c(path), IoError);
  write({4, 4, 1, 3, 1, 3, 2}, floats);
  EXPECT_THROW(load_llama2c(path), IoError);
  EXPECT_THROW(load_llama2c(path + ".not"), IoError);
}

}  // namespace
