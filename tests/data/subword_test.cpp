#include "whence/nn/data/subword.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/nn/io_test_util.h"
#include "tests/thrown.h"
#include "whence/nn/data/text.h"

namespace whence {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using Json = nlohmann::json;

fs::path shared() {
  const char* source = std::getenv("WHENCE_SOURCE_DIR");
  return fs::path(source ? source : ".") / ".." / "shared";
}

Json ranges(const std::vector<Encoding::Range>& of) {
  Json out = Json::array();
  for (auto [begin, end] : of) out.push_back({begin, end});
  return out;
}

// ---- goldens of HuggingFace's package -------------------------------------------------------------------------------

// The keys of `want` that `got` has otherwise.
std::string differences(const SubwordTokenizer& tokenizer, const Json& want) {
  const std::string text = want["text"];
  const bool pair = want.contains("text_pair");
  Encoding e = pair ? tokenizer.encode_pair(text, want["text_pair"].get<std::string>()) : tokenizer.encode(text);
  Json got{{"ids", e.ids}, {"tokens", e.tokens}, {"offsets", ranges(e.offsets)}};
  if (pair) {
    got["type_ids"] = e.type_ids;
  } else {
    got["byte_offsets"] = ranges(e.byte_offsets);
    got["special_tokens_mask"] = e.special_tokens_mask;
    got["ids_plain"] = tokenizer.encode(text, false).ids;
    got["decoded"] = tokenizer.decode(e.ids);
    got["decoded_with_special"] = tokenizer.decode(e.ids, false);
  }
  std::string out;
  for (const auto& [key, value] : want.items())
    if (key != "text" && key != "text_pair" && got[key] != value)
      out += "\n  " + key + ": " + got[key].dump() + " rather than " + value.dump();
  return out;
}

TEST(SubwordGoldens, StringsAndPairs) {
  fs::path folder = shared() / "goldens" / "tokenizers";
  if (!fs::is_directory(folder)) GTEST_SKIP() << "no golden files at " << folder;
  int files = 0, strings = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string path = entry.path().string();
    size_t ending = path.rfind(".golden.json");
    if (ending == path.npos) continue;
    ++files;
    auto tokenizer = SubwordTokenizer::read(path.substr(0, ending) + ".tokenizer.json");
    Json golden = Json::parse(read_text(path));
    for (const char* kind : {"strings", "pairs"})
      for (const Json& want : golden[kind]) {
        ++strings;
        EXPECT_EQ(differences(tokenizer, want), "") << path << ": " << want["text"];
      }
  }
  std::cout << files << " tokenisers, " << strings << " strings and pairs\n";
  EXPECT_GT(strings, 0);
}

TEST(SubwordGoldens, WholeTexts) {
  fs::path folder = shared() / "goldens" / "tokenizers", texts = shared() / "data";
  if (!fs::exists(folder / "whole_texts.json") || !fs::is_directory(texts))
    GTEST_SKIP() << "no whole_texts.json at " << folder << ", or no texts at " << texts;
  const Json golden = Json::parse(read_text((folder / "whole_texts.json").string()));
  for (const auto& [name, want] : golden.items()) {
    std::string file = name.substr(0, name.find(" / ")), which = name.substr(name.find(" / ") + 3);
    fs::path path = fs::exists(texts / "text" / file) ? texts / "text" / file : texts / "nlp" / file;
    auto tokenizer = SubwordTokenizer::read((folder / (which + ".tokenizer.json")).string());
    int64_t lines = 0, ids = 0;
    uint64_t hash = 0xcbf29ce484222325u;
    for (const std::string& line : split_text(read_text(path.string()), '\n')) {
      ++lines;
      for (int32_t id : tokenizer.encode(line, false).ids) {
        ++ids;
        for (int byte = 0; byte < 4; ++byte) hash = (hash ^ (uint32_t(id) >> 8 * byte & 0xff)) * 0x100000001b3u;
      }
    }
    char hex[17];
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
    EXPECT_EQ((Json{{"lines", lines}, {"ids", ids}, {"fnv1a64", hex}}), want) << name;
  }
}

// ---- learnt here ----------------------------------------------------------------------------------------------------

TEST(LearnBpe, MergesByHand) {
  // ab occurs 4 times; then (Ġ, ab) and (ab, c) 3 times, and Ġ has the lower id; then (Ġab, c) twice, (ab, c) once.
  auto t = SubwordTokenizer::learn_bpe("abc abc abc ab", {.vocabulary = 300, .specials = {"<end>"}});
  EXPECT_EQ(Json::parse(t.json())["model"]["merges"],
            Json::parse(R"([["a", "b"], ["\u0120", "ab"], ["\u0120ab", "c"]])"));
  EXPECT_EQ(t.vocabulary(), 1 + 256 + 3);
}

TEST(LearnBpe, KeepsAnyTextAndIsTheSameEveryTime) {
  std::string text = "the cat sat on the mat; the cat's hat — Ça va? 中文 \xf0\x9f\x99\x82\n\n  the end";
  auto t = SubwordTokenizer::learn_bpe(text, {.vocabulary = 280});
  for (std::string s : {text, std::string(), std::string("\0\x7f\t \r\n", 6), std::string("never seen: ʒ")})
    EXPECT_EQ(t.decode(t.encode(s).ids), s);
  EXPECT_EQ(SubwordTokenizer::learn_bpe(text, {.vocabulary = 280}).json(), t.json());
  EXPECT_LT(t.encode(text).size(), text.size());
  EXPECT_EQ(t.encode("a<|endoftext|>b").ids[1], t.id("<|endoftext|>"));
  EXPECT_EQ(t.decode(t.encode("a<|endoftext|>b").ids), "ab");
}

TEST(LearnBpe, SavedAndReadIsTheSame) {
  testing::TempFolder dir;
  auto t = SubwordTokenizer::learn_bpe("low lower lowest low low", {.vocabulary = 270});
  std::string path = dir / "tokenizer.json";
  t.save(path);
  auto again = SubwordTokenizer::read(path);
  EXPECT_EQ(again.encode("lowest of the low").ids, t.encode("lowest of the low").ids);
  EXPECT_EQ(again.json(), t.json());
}

TEST(LearnBpe, RefusesWhatMakesNoSense) {
  EXPECT_THAT(thrown<ValueError>([] { SubwordTokenizer::learn_bpe("a", {.vocabulary = 256}); }), HasSubstr("257"));
  EXPECT_THAT(thrown<ValueError>([] {
                SubwordTokenizer::learn_bpe("a", {.specials = {"x", "x"}});
              }),
              HasSubstr("twice"));
  EXPECT_THAT(thrown<ValueError>([] { SubwordTokenizer::learn_bpe("a\xff"); }), HasSubstr("byte 1"));
}

// ---- fields of the file ---------------------------------------------------------------------------------------------

// a, b, Ġ, Ġa, and the bytes of é in GPT-2's alphabet.
Json byte_level(bool add_prefix_space, bool trim) {
  Json step{{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", trim}, {"use_regex", true}};
  return {{"added_tokens", {{{"id", 6}, {"content", "<e>"}, {"special", true}, {"normalized", false}}}},
          {"pre_tokenizer", step},
          {"post_processor", step},
          {"decoder", step},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"\u0120", 2}, {"\u0120a", 3}, {"\u00c3", 4}, {"\u00a9", 5}}},
            {"merges", {"\u0120 a"}}}}};
}

TEST(ByteLevelBpe, PrefixSpaceAndTrimmedOffsets) {
  auto encode = [](bool prefix, bool trim) {
    return SubwordTokenizer::parse(byte_level(prefix, trim).dump()).encode("a  a");
  };
  EXPECT_THAT(encode(false, false).ids, ElementsAre(0, 2, 3));
  EXPECT_THAT(encode(false, false).offsets, ElementsAre(Pair(0, 1), Pair(1, 2), Pair(2, 4)));
  EXPECT_THAT(encode(true, false).ids, ElementsAre(3, 2, 3));
  EXPECT_THAT(encode(true, true).offsets, ElementsAre(Pair(0, 1), Pair(2, 2), Pair(3, 4)));
}

TEST(ByteLevelBpe, PartsOfACharacterHaveItsWholeRange) {
  auto t = SubwordTokenizer::parse(byte_level(false, false).dump());
  Encoding e = t.encode("é<e>b");
  EXPECT_THAT(e.ids, ElementsAre(4, 5, 6, 1));
  EXPECT_THAT(e.offsets, ElementsAre(Pair(0, 1), Pair(0, 1), Pair(1, 4), Pair(4, 5)));
  EXPECT_THAT(e.byte_offsets, ElementsAre(Pair(0, 2), Pair(0, 2), Pair(2, 5), Pair(5, 6)));
  EXPECT_EQ(t.decode(std::vector<int32_t>{4}), "\xef\xbf\xbd");
  EXPECT_EQ(t.decode(e.ids, false), "é<e>b");
  EXPECT_EQ(t.vocabulary(), 7);
  EXPECT_EQ(t.token(6), "<e>");
}

Json wordpiece(Json normalizer) {
  normalizer["type"] = "BertNormalizer";
  return {{"normalizer", normalizer},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "?"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 5},
            {"vocab", {{"?", 0}, {"e", 1}, {"##a", 2}, {"é", 3}, {"E", 4}, {"中", 5}, {".", 6}}}}}};
}

TEST(WordPiece, NormaliserFields) {
  auto ids = [](std::string text, bool chinese, Json strip, bool lower) {
    return SubwordTokenizer::parse(wordpiece({{"clean_text", true},
                                              {"handle_chinese_chars", chinese},
                                              {"strip_accents", strip},
                                              {"lowercase", lower}})
                                       .dump())
        .encode(text)
        .ids;
  };
  EXPECT_THAT(ids("Éa", true, nullptr, true), ElementsAre(1, 2));
  EXPECT_THAT(ids("Éa", true, false, true), ElementsAre(3, 2));
  EXPECT_THAT(ids("Éa", true, true, false), ElementsAre(4, 2));
  EXPECT_THAT(ids("e中a", true, false, false), ElementsAre(1, 5, 0));  // a alone begins no word
  EXPECT_THAT(ids("e中a", false, false, false), ElementsAre(0));
  EXPECT_THAT(ids("eaaaaa ea", true, false, false), ElementsAre(0, 1, 2));  // six characters
  EXPECT_THAT(ids("e\u00ada.", true, false, false), ElementsAre(1, 2, 6));  // the soft hyphen goes
}

TEST(WordPiece, DecodeTidiesBlanks) {
  auto t = SubwordTokenizer::parse(
      wordpiece({{"clean_text", true}, {"handle_chinese_chars", true}, {"lowercase", true}}).dump());
  EXPECT_EQ(t.decode(t.encode("ea . e").ids), "ea. e");
}

TEST(SubwordFiles, ComplaintsNameFileAndField) {
  auto said = [](Json file) {
    return thrown<IoError>([&] { SubwordTokenizer::parse(file.dump(), "x/tokenizer.json"); });
  };
  EXPECT_THAT(thrown<IoError>([] { SubwordTokenizer::parse("{", "x"); }), HasSubstr("no JSON"));
  Json file = byte_level(false, false);
  file["model"]["vocab"]["b"] = 0;
  EXPECT_THAT(said(file), HasSubstr("x/tokenizer.json"));
  EXPECT_THAT(said(file), HasSubstr("model.vocab.b: the id 0 is taken"));
  file = byte_level(false, false);
  file["model"]["merges"][0] = "a c";
  EXPECT_THAT(said(file), HasSubstr("model.merges[0]: 'c' is not in the vocabulary"));
  file = byte_level(false, false);
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Whitespace"}}}}};
  EXPECT_THAT(said(file), HasSubstr("pre_tokenizer.pretokenizers[0].type: 'Whitespace' is none of"));
  file = byte_level(false, false);
  file["pre_tokenizer"].erase("add_prefix_space");
  EXPECT_THAT(said(file), HasSubstr("pre_tokenizer.add_prefix_space: it is absent"));
  file = byte_level(false, false);
  file["model"]["type"] = "Unigram";
  EXPECT_THAT(said(file), HasSubstr("model.type: 'Unigram' is none of BPE, WordPiece"));
  EXPECT_THAT(thrown<ValueError>(
                  [] { SubwordTokenizer::parse(byte_level(false, false).dump()).decode(std::vector<int32_t>{9}); }),
              HasSubstr("no token has the id 9"));
  EXPECT_THAT(thrown<ValueError>([] { SubwordTokenizer::parse(byte_level(false, false).dump()).encode("a\xc3"); }),
              HasSubstr("byte 1"));
}

// ---- llama2.c -------------------------------------------------------------------------------------------------------

std::string llama2c_file(const std::vector<std::pair<float, std::string>>& tokens) {
  std::string out;
  auto put = [&](auto v) { out.append(reinterpret_cast<const char*>(&v), sizeof v); };
  put(int32_t(8));
  auto token = [&](float score, const std::string& text) {
    put(score);
    put(int32_t(text.size()));
    out += text;
  };
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) token(0, special);
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    token(0, name);
  }
  for (const auto& [score, text] : tokens) token(score, text);
  return out;
}

TEST(Llama2c, MergesByScore) {
  // bc is better than ab, so abc is a + bc; é is not in the vocabulary.
  auto t = SubwordTokenizer::parse_llama2c(
      llama2c_file({{-9, "a"}, {-9, "b"}, {-9, "c"}, {-9, " "}, {-2, "ab"}, {-1, "bc"}, {-3, " a"}}));
  Encoding e = t.encode("abcé");
  EXPECT_THAT(e.ids, ElementsAre(1, 265, 264, 3 + 0xc3, 3 + 0xa9));
  EXPECT_THAT(e.offsets, ElementsAre(Pair(0, 0), Pair(0, 1), Pair(1, 3), Pair(3, 4), Pair(3, 4)));
  EXPECT_EQ(t.decode(e.ids), "abcé");
  EXPECT_THAT(thrown<IoError>([] {
                SubwordTokenizer::parse_llama2c(llama2c_file({{1, "too long a token"}}), "t.bin");
              }),
              HasSubstr("t.bin: not a tokenizer of llama2.c: token 259: its length 16 lies outside 1..8"));
}

TEST(Llama2c, Tok512) {
  fs::path path = shared() / "data" / "weights" / "tok512.bin";
  if (!fs::exists(path)) GTEST_SKIP() << "no file " << path;
  auto t = SubwordTokenizer::read_llama2c(path.string());
  EXPECT_EQ(t.vocabulary(), 512);
  Encoding e = t.encode("Once upon a time, there was");
  EXPECT_THAT(e.ids, ElementsAre(1, 403, 407, 261, 378, 432, 383, 286));
  EXPECT_EQ(t.decode(e.ids), "Once upon a time, there was");
}

}  // namespace
}  // namespace whence
