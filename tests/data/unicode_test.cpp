#include "whence/nn/data/subword/unicode.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace whence::unicode {
namespace {

std::u32string text(const Characters& c) { return {c.begin(), c.end()}; }

TEST(Unicode, TablesAreSortedAndApart) {
  for (std::span<const Range> table : {letters, numbers, blanks, punctuation, control, ideographs, marks})
    for (size_t i = 0; i < table.size(); ++i) {
      EXPECT_LE(table[i].first, table[i].last);
      EXPECT_TRUE(i == 0 || table[i - 1].last < table[i].first);
    }
  for (size_t i = 1; i < lower.size(); ++i) EXPECT_LT(lower[i - 1].last, lower[i].first);
  for (size_t i = 1; i < bare.size(); ++i) EXPECT_LT(bare[i - 1].from, bare[i].from);
}

TEST(Unicode, Classes) {
  for (char32_t c : {U'a', U'Z', U'é', U'ß', U'Ж', U'中', U'ǅ'}) EXPECT_TRUE(in(letters, c));
  for (char32_t c : {U'3', U'¼', U'Ⅷ'}) EXPECT_TRUE(in(numbers, c) && !in(letters, c));
  for (char32_t c : {U' ', U'\n', U'\u00a0', U'\u3000', U'\u2028'}) EXPECT_TRUE(in(blanks, c));
  for (char32_t c : {U'\u200b', U'\u200d', U'\u00ad'}) EXPECT_TRUE(!in(blanks, c) && in(control, c));
  for (char32_t c : {U'.', U'$', U'«', U'。'}) EXPECT_TRUE(in(punctuation, c));
  EXPECT_TRUE(in(ideographs, U'中') && !in(ideographs, U'か') && !in(ideographs, U'한'));
}

TEST(Unicode, LowerCaseAndBareLetters) {
  EXPECT_EQ(text(lower_of(U'Q')), U"q");
  EXPECT_EQ(text(lower_of(U'Ā')), U"ā");  // every other one of a run
  EXPECT_EQ(text(lower_of(U'ā')), U"ā");
  EXPECT_EQ(text(lower_of(U'İ')), U"i\u0307");
  EXPECT_EQ(text(lower_of(U'ẞ')), U"ß");
  EXPECT_EQ(text(bare_of(U'é')), U"e");
  EXPECT_EQ(text(bare_of(U'\u0301')), U"");
  EXPECT_EQ(text(bare_of(U'ø')), U"ø");
  EXPECT_EQ(text(bare_of(U'한')), U"\u1112\u1161\u11ab");
  EXPECT_EQ(text(bare_of(U'가')), U"\u1100\u1161");
}

TEST(Unicode, MalformedBytes) {
  EXPECT_EQ(valid_until("aé\xff"), 3u);
  EXPECT_EQ(valid_until("\xed\xa0\x80"), 0u);      // a surrogate
  EXPECT_EQ(valid_until("\xc0\x80"), 0u);          // overlong
  EXPECT_EQ(valid_until("\xf4\x90\x80\x80"), 0u);  // beyond U+10FFFF
  // one U+FFFD for a beginning that is cut off, one for each byte that begins nothing
  EXPECT_EQ(with_replacements("a\xe4\xb8z\xff\xf0\x9f\x99"), "a\ufffdz\ufffd\ufffd");
  EXPECT_EQ(with_replacements("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");
}

}  // namespace
}  // namespace whence::unicode
