// Text on its way to tokens: normalised and cut into pieces, every byte with the place in the original it came from.
// Each step is a function; tokenizer.json names them (nn/data/subword/json.cpp).
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/data/subword/unicode.h"

namespace whence::subword {

/// [begin, end) in bytes of the original text.
struct Range {
  uint32_t begin = 0, end = 0;
};

/// UTF-8 and, per byte, the range of the original character it stands for. What a step inserts has the range of the
/// character before it, or of the one it stands before.
struct AlignedText {
  std::string bytes;
  std::vector<Range> from;  // bytes.size()

  /// \throws ValueError naming the byte where `text` is no UTF-8, or beyond 4 GiB
  static AlignedText of(std::string_view text);
  void push(char32_t c, Range range);
  AlignedText slice(size_t begin, size_t end) const;
  /// The range of the original that bytes [begin, end) stand for.
  Range range(size_t begin, size_t end) const { return {from[begin].begin, from[end - 1].end}; }
};

/// Each character of `text` becomes what `emit(c, range, out)` pushes.
template <class Emit> void rewrite(AlignedText& text, Emit&& emit) {
  AlignedText out;
  out.bytes.reserve(text.bytes.size());
  out.from.reserve(text.from.size());
  for (size_t at = 0; at < text.bytes.size();) {
    Range range = text.from[at];
    emit(unicode::next(text.bytes, at), range, out);
  }
  text = std::move(out);
}

// ---- normalisers ----------------------------------------------------------------------------------------------------
using Normalizer = std::function<void(AlignedText&)>;

struct BertOptions {
  bool clean_text = true;             ///< control characters go, every blank becomes a space
  bool handle_chinese_chars = true;   ///< blanks around ideographs
  std::optional<bool> strip_accents;  ///< marks go; absent: as `lowercase` says
  bool lowercase = true;
};
Normalizer bert_normalizer(BertOptions options);
Normalizer lowercase_normalizer();
/// `prefix` before a text that is not empty.
Normalizer prepend_normalizer(std::string prefix);
Normalizer replace_normalizer(std::string pattern, std::string by);

// ---- cutting into pieces --------------------------------------------------------------------------------------------
using PreTokenizer = std::function<std::vector<AlignedText>(AlignedText)>;

/// GPT-2's: pieces by its splitting rule (when `use_regex`), then one character of a readable alphabet per byte.
PreTokenizer byte_level(bool add_prefix_space, bool use_regex);
enum class Prepend { first, never, always };
/// Blanks become `replacement`, which also goes before the text; pieces begin with it where `split`.
PreTokenizer metaspace(char32_t replacement, Prepend prepend, bool split);
/// Words and single punctuation marks.
PreTokenizer bert_pre_tokenizer();

/// The 256 characters that stand for bytes in GPT-2's alphabet, by byte; and back, -1 for others.
const char32_t* byte_alphabet();
int byte_of(char32_t c);

}  // namespace whence::subword
