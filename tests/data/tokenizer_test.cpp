#include "whence/nn/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace whence::testing;

// Worked by hand: ids are 2 + base-4 number with A=0 C=1 G=2 T=3.
TEST(KmerTokenizer, BarcodeBertIdsByHand) {
  KmerTokenizer tok({.k = 4, .max_len = 24});
  //                     AAAA ACGT                   TTTT                            NACG  GATT            AC
  //                     + padding
  auto t = tok.encode(
      "AAAA"
      "ACGT"
      "TTTT"
      "NACG"
      "GATT"
      "AC");
  EXPECT_THAT(t.ids, ElementsAre(2, 2 + 0 * 64 + 1 * 16 + 2 * 4 + 3, 2 + 255, 1, 2 + 2 * 64 + 0 * 16 + 3 * 4 + 3, 1));
  EXPECT_THAT(t.mask, ElementsAre(1, 1, 1, 1, 1, 0));  // 22 / 4 = 5
}

TEST(KmerTokenizer, Geometry) {
  EXPECT_EQ(KmerTokenizer().length(), 165);
  EXPECT_EQ(KmerTokenizer().vocabulary(), 258);
  EXPECT_EQ(KmerTokenizer({.k = 6}).length(), 110);
  EXPECT_EQ(KmerTokenizer({.k = 6}).vocabulary(), 4098);
  EXPECT_EQ(KmerTokenizer({.k = 7}).length(), 94);  // 660 / 7, the rest of 2 is dropped
  EXPECT_THROW(KmerTokenizer({.k = 0}), ValueError);
  EXPECT_THROW(KmerTokenizer({.k = 13}), ValueError);
  EXPECT_THROW(KmerTokenizer({.k = 4, .max_len = 3}), ValueError);
}

TEST(KmerTokenizer, CutPadOffset) {
  KmerTokenizer tok({.k = 3, .max_len = 9});
  EXPECT_THAT(tok.encode("ACGACGACGTTTTTT").ids, ElementsAre(8, 8, 8));  // ACG = 0*16+1*4+2 = 6; cut at nine
  EXPECT_THAT(tok.encode("ACGACGACGTTTTTT").mask, ElementsAre(1, 1, 1));
  EXPECT_THAT(tok.encode("ACGACGACG").mask, ElementsAre(1, 1, 1));  // exactly full: no zeros
  EXPECT_THAT(tok.encode("TACGACGACGT", 1).ids, ElementsAre(8, 8, 8));
  EXPECT_THAT(tok.encode("TACGACGACGT", 1).mask, ElementsAre(1, 1, 1));
  EXPECT_THAT(tok.encode("TACGAC", 1).ids, ElementsAre(8, 1, 1));
  EXPECT_THAT(tok.encode("TACGAC", 1).mask, ElementsAre(1, 0, 0));  // five letters are left: 5 / 3 = 1
  EXPECT_THAT(tok.encode("", 2).ids, ElementsAre(1, 1, 1));
  EXPECT_THAT(tok.encode("A", 2).mask, ElementsAre(0, 0, 0));
  EXPECT_THAT(tok.encode("acgRCGAC-").ids, ElementsAre(1, 1, 1));  // lower case, ambiguity codes and gaps are unknown
  EXPECT_THROW(tok.encode("ACG", 3), ValueError);
  EXPECT_THROW(tok.encode("ACG", -1), ValueError);
}

TEST(KmerTokenizer, WordsAndIdsAreInverse) {
  KmerTokenizer tok({.k = 3, .max_len = 3});
  EXPECT_EQ(tok.word(0), "[MASK]");
  EXPECT_EQ(tok.word(1), "[UNK]");
  EXPECT_EQ(tok.word(2), "AAA");
  std::string before;
  for (int32_t id = 2; id < tok.vocabulary(); ++id) {
    EXPECT_THAT(tok.encode(tok.word(id)).ids, ElementsAre(id));
    EXPECT_LT(before, tok.word(id));  // dictionary order
    before = tok.word(id);
  }
  EXPECT_THROW(tok.word(int32_t(tok.vocabulary())), ValueError);
  EXPECT_THROW(tok.word(-1), ValueError);
}

TEST(KmerTokenizer, Batch) {
  KmerTokenizer tok({.k = 2, .max_len = 4});
  std::vector<std::string> s = {"ACGT", "TT"};
  auto [ids, mask] = tok.encode_batch(s);
  EXPECT_EQ(ids.shape(), (Shape{2, 2}));
  EXPECT_EQ(ids.to_vector<int32_t>(), (std::vector<int32_t>{3, 13, 17, 1}));
  EXPECT_EQ(mask.to_vector<uint8_t>(), (std::vector<uint8_t>{1, 1, 1, 0}));
}

TEST(KmerTokenizer, OverlappingWordsAndTheirLetters) {
  KmerTokenizer t({.k = 3, .max_len = 12});
  std::vector<int32_t> ids(12), plain(4);
  std::vector<uint8_t> mask(4), plain_mask(4);
  const std::string s = "ACGTNACG";
  t.encode_overlapping_into(s, 0, ids.data(), mask.data());
  t.encode_into(s, 0, plain.data(), plain_mask.data());
  EXPECT_EQ(mask, plain_mask);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(ids[3 * i], plain[i]);
  EXPECT_EQ(t.word(ids[0]), "ACG");
  EXPECT_EQ(t.word(ids[1]), "CGT");             // begins in the first token, ends in the second
  EXPECT_EQ(ids[2], KmerTokenizer::kUnknown);  // GTN
  EXPECT_EQ(t.word(ids[5]), "ACG");
  EXPECT_EQ(ids[6], KmerTokenizer::kUnknown);  // runs beyond the end
  std::vector<float> r(12);
  r[1] = 3, r[6] = 2;  // CGT; CG and what is not there
  const std::vector<double> letters = t.spread_overlapping(r, 8);
  EXPECT_EQ(letters, (std::vector<double>{0, 1, 1, 1, 0, 0, 1, 1}));
  EXPECT_THROW(t.spread_overlapping(std::vector<float>(4), 8), ShapeError);
}

TEST(KmerTokenizer, TokensMapBackToNucleotides) {
  KmerTokenizer tok({.k = 4, .max_len = 16});
  EXPECT_EQ(tok.nucleotides(0, 10), std::pair(int64_t(0), int64_t(4)));
  EXPECT_EQ(tok.nucleotides(2, 10), std::pair(int64_t(8), int64_t(10)));
  EXPECT_EQ(tok.nucleotides(3, 10), std::pair(int64_t(10), int64_t(10)));
  EXPECT_EQ(tok.nucleotides(1, 20, 3), std::pair(int64_t(7), int64_t(11)));
  EXPECT_THROW(tok.nucleotides(4, 10), ValueError);
  // Each covered letter gets back what its token was made from.
  std::string s = "ACGTTGCAACGTACG";
  for (int offset = 0; offset < 4; ++offset) {
    auto t = tok.encode(s, offset);
    for (int64_t p = 0; p < tok.length(); ++p) {
      auto [b, e] = tok.nucleotides(p, int64_t(s.size()), offset);
      if (t.ids[size_t(p)] >= 2) {
        EXPECT_EQ(s.substr(size_t(b), size_t(e - b)), tok.word(t.ids[size_t(p)]));
      }
    }
  }
  std::vector<float> scores = {4, 8, 3, 100};
  auto per_letter = tok.spread(scores, 10);
  EXPECT_THAT(per_letter, ElementsAre(1, 1, 1, 1, 2, 2, 2, 2, 1.5, 1.5));
  EXPECT_EQ(std::accumulate(per_letter.begin(), per_letter.end(), 0.f),
            15.f);  // the padding's 100 is left out
  EXPECT_THROW(tok.spread(std::vector<float>{1}, 10), ShapeError);
}

TEST(CharTokenizer, FromTextAndBack) {
  auto tok = CharTokenizer::from_text("hello\xc3\xa9", {"[PAD]", "[UNK]"});
  EXPECT_THAT(tok.words(), ElementsAre("[PAD]", "[UNK]", "e", "h", "l", "o", "\xc3\xa9"));
  EXPECT_THAT(tok.encode("hel\xc3\xa9z"), ElementsAre(3, 2, 4, 6, 1));
  EXPECT_EQ(tok.decode(std::vector<int32_t>{3, 2, 4, 6, 0}), "hel\xc3\xa9[PAD]");
  EXPECT_EQ(tok.id("[PAD]"), 0);
  EXPECT_THROW(tok.id("q"), ValueError);
  EXPECT_THROW(tok.decode(std::vector<int32_t>{7}), ValueError);
  auto strict = CharTokenizer::from_text("ab");
  EXPECT_THAT(message_of<ValueError>([&] { strict.encode("abac"); }), HasSubstr("'c' at byte 3"));
  EXPECT_THROW(CharTokenizer({}, {"a", "a"}), ValueError);
  EXPECT_THROW(CharTokenizer({}, {"ab"}), ValueError);
  EXPECT_THAT(CharTokenizer({"[UNK]"}, {"b", "a"}).encode("ab?"), ElementsAre(2, 1, 0));
}

}  // namespace
}  // namespace whence
