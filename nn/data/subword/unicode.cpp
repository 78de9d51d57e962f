#include "whence/nn/data/subword/unicode.h"

#include <algorithm>

namespace whence::unicode {
namespace {

// The row whose [first, last] could hold c.
template <class Row> const Row* row_of(std::span<const Row> table, char32_t c) {
  auto after =
      std::upper_bound(table.begin(), table.end(), c, [](char32_t x, const Row& row) { return x < row.first; });
  if (after == table.begin() || c > (after - 1)->last) return nullptr;
  return &*(after - 1);
}

Characters decomposed(std::span<const Decomposition> table, char32_t c) {
  auto row =
      std::lower_bound(table.begin(), table.end(), c, [](const Decomposition& d, char32_t x) { return d.from < x; });
  Characters out;
  if (row == table.end() || row->from != c) return out;
  for (; out.n < 3 && row->to[out.n]; ++out.n) out.to[out.n] = row->to[out.n];
  return out;
}

}  // namespace

bool in(std::span<const Range> table, char32_t c) { return row_of(table, c) != nullptr; }

Characters lower_of(char32_t c) {
  if (c < 0x80) return {{c >= 'A' && c <= 'Z' ? c + 32 : c}, 1};
  if (const Step* row = row_of(lower, c); row && (c - row->first) % row->step == 0)
    return {{char32_t(int32_t(c) + row->difference)}, 1};
  Characters two = decomposed(lower_pairs, c);
  return two.n ? two : Characters{{c}, 1};
}

Characters bare_of(char32_t c) {
  if (c < 0x80) return {{c}, 1};
  constexpr char32_t kSyllables = 0xac00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11a7;
  if (c >= kSyllables && c < kSyllables + 11172) {  // The Unicode Standard, 3.12
    char32_t s = c - kSyllables;
    Characters jamo{{kLead + s / 588, kVowel + s % 588 / 28, kTail + s % 28}, s % 28 ? 3 : 2};
    return jamo;
  }
  if (in(marks, c)) return {};
  Characters out = decomposed(bare, c);
  return out.n ? out : Characters{{c}, 1};
}

char32_t next(std::string_view text, size_t& at) {
  uint8_t lead = uint8_t(text[at++]);
  int more = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
  char32_t c = more ? lead & (0x3f >> more) : lead;
  for (; more && at < text.size(); --more) c = c << 6 | (uint8_t(text[at++]) & 0x3f);
  return c;
}

namespace {

// How many bytes from `at` on begin a character: its length when it is whole, else what a U+FFFD stands for.
struct Character {
  size_t bytes;
  bool whole;
};
Character character_at(std::string_view text, size_t at) {
  uint8_t lead = uint8_t(text[at]);
  if (lead < 0x80) return {1, true};
  if (lead < 0xc2 || lead > 0xf4) return {1, false};
  size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, n = 1;
  for (; n < length && at + n < text.size(); ++n) {
    uint8_t b = uint8_t(text[at + n]), low = 0x80, high = 0xbf;
    if (n == 1 && lead == 0xe0) low = 0xa0;   // overlong
    if (n == 1 && lead == 0xed) high = 0x9f;  // surrogates
    if (n == 1 && lead == 0xf0) low = 0x90;   // overlong
    if (n == 1 && lead == 0xf4) high = 0x8f;  // beyond U+10FFFF
    if (b < low || b > high) break;
  }
  return {n, n == length};
}

}  // namespace

size_t valid_until(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    Character c = character_at(text, begin);
    if (!c.whole) break;
    begin += c.bytes;
  }
  return begin;
}

std::string with_replacements(std::string_view bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size();) {
    Character c = character_at(bytes, at);
    out += c.whole ? bytes.substr(at, c.bytes) : "\xef\xbf\xbd";
    at += c.bytes;
  }
  return out;
}

}  // namespace whence::unicode
