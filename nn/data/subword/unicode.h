// What characters are to the tokenisers of HuggingFace: letters, numbers, blanks, marks, their lower case. Part of the
// subword tokeniser; the tables are made by scripts/unicode_tables.py.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace whence::unicode {

struct Range {
  char32_t first, last;
};
/// first, first + step, .., last, each of which maps to itself + difference.
struct Step {
  char32_t first, last;
  uint32_t step;
  int32_t difference;
};
/// One character that becomes up to three; 0 where there is none.
struct Decomposition {
  char32_t from;
  char32_t to[3];
};

// Tables, sorted.
extern const std::span<const Range> letters, numbers, blanks, punctuation, control, ideographs, marks;
extern const std::span<const Step> lower;
extern const std::span<const Decomposition> lower_pairs, bare;

bool in(std::span<const Range> table, char32_t c);

/// Up to three characters, as a view of `to`.
struct Characters {
  char32_t to[3] = {};
  int n = 0;
  const char32_t* begin() const { return to; }
  const char32_t* end() const { return to + n; }
};
Characters lower_of(char32_t c);
/// Canonical decomposition without marks of category Mn: e for é, nothing for U+0301, two or three jamo for a syllable
/// of hangul. Characters that stay are not reordered.
Characters bare_of(char32_t c);

/// The character that begins at `at`, which moves behind it. The text is known to be UTF-8.
char32_t next(std::string_view text, size_t& at);
/// The end of what is UTF-8 from `begin` on, or text.size().
size_t valid_until(std::string_view text, size_t begin = 0);
/// Each longest beginning of a character that is not completed becomes one U+FFFD, as Unicode recommends.
std::string with_replacements(std::string_view bytes);

}  // namespace whence::unicode
