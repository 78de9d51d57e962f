#include "whence/nn/data/subword/text.h"

#include <array>

#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"

namespace whence::subword {

AlignedText AlignedText::of(std::string_view text) {
  if (text.size() > UINT32_MAX) throw ValueError("a text of more than 4 GiB is encoded in parts");
  size_t valid = unicode::valid_until(text);
  if (valid < text.size()) throw ValueError("the text is no UTF-8 at byte " + std::to_string(valid));
  AlignedText out{std::string(text), std::vector<Range>(text.size())};
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    unicode::next(text, at);
    for (size_t i = begin; i < at; ++i) out.from[i] = {uint32_t(begin), uint32_t(at)};
  }
  return out;
}

void AlignedText::push(char32_t c, Range range) {
  if (c < 0x80) bytes += char(c);
  else bytes += encode_utf8(c);
  from.resize(bytes.size(), range);
}

AlignedText AlignedText::slice(size_t begin, size_t end) const {
  return {bytes.substr(begin, end - begin), {from.begin() + ptrdiff_t(begin), from.begin() + ptrdiff_t(end)}};
}

// ---- normalisers ----------------------------------------------------------------------------------------------------
namespace {

void keep_clean(AlignedText& text) {
  rewrite(text, [](char32_t c, Range range, AlignedText& out) {
    if (!unicode::in(unicode::control, c)) out.push(unicode::in(unicode::blanks, c) ? U' ' : c, range);
  });
}

void part_ideographs(AlignedText& text) {
  rewrite(text, [](char32_t c, Range range, AlignedText& out) {
    bool ideograph = unicode::in(unicode::ideographs, c);
    if (ideograph) out.push(U' ', range);
    out.push(c, range);
    if (ideograph) out.push(U' ', range);
  });
}

template <unicode::Characters (*map)(char32_t)> void map_characters(AlignedText& text) {
  rewrite(text, [](char32_t c, Range range, AlignedText& out) {
    for (char32_t to : map(c)) out.push(to, range);
  });
}

void prepend(AlignedText& text, std::string_view prefix) {
  if (text.bytes.empty()) return;
  text.bytes.insert(0, prefix);
  text.from.insert(text.from.begin(), prefix.size(), text.from.front());
}

void replace(AlignedText& text, std::string_view pattern, std::string_view by) {
  AlignedText out;
  for (size_t at = 0;;) {
    size_t found = pattern.empty() ? text.bytes.npos : text.bytes.find(pattern, at);
    size_t end = std::min(found, text.bytes.size());
    out.bytes.append(text.bytes, at, end - at);
    out.from.insert(out.from.end(), text.from.begin() + ptrdiff_t(at), text.from.begin() + ptrdiff_t(end));
    if (found == text.bytes.npos) break;
    at = found + pattern.size();
    out.bytes += by;
    out.from.resize(out.bytes.size(), text.from[at - 1]);
  }
  text = std::move(out);
}

}  // namespace

Normalizer bert_normalizer(BertOptions options) {
  return [options](AlignedText& text) {
    if (options.clean_text) keep_clean(text);
    if (options.handle_chinese_chars) part_ideographs(text);
    if (options.strip_accents.value_or(options.lowercase)) map_characters<unicode::bare_of>(text);
    if (options.lowercase) map_characters<unicode::lower_of>(text);
  };
}

Normalizer lowercase_normalizer() { return map_characters<unicode::lower_of>; }

Normalizer prepend_normalizer(std::string prefix) {
  return [prefix](AlignedText& text) { prepend(text, prefix); };
}

Normalizer replace_normalizer(std::string pattern, std::string by) {
  return [pattern, by](AlignedText& text) { replace(text, pattern, by); };
}

// ---- cutting into pieces --------------------------------------------------------------------------------------------
namespace {

enum class Kind { letter, number, blank, other };
Kind kind_of(char32_t c) {
  if (c < 0x80) {
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return Kind::letter;
    if (c >= '0' && c <= '9') return Kind::number;
    return c == ' ' || (c >= 9 && c <= 13) ? Kind::blank : Kind::other;
  }
  return unicode::in(unicode::letters, c)   ? Kind::letter
         : unicode::in(unicode::numbers, c) ? Kind::number
         : unicode::in(unicode::blanks, c)  ? Kind::blank
                                            : Kind::other;
}

size_t contraction(std::string_view rest) {
  if (!rest.starts_with('\'')) return 0;
  for (std::string_view s : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (rest.starts_with(s)) return s.size();
  return 0;
}

// The end of the piece that begins at `begin` by GPT-2's rule
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2_piece(std::string_view text, size_t begin) {
  if (size_t n = contraction(text.substr(begin))) return begin + n;
  size_t at = begin + (text[begin] == ' ');
  if (at < text.size()) {
    size_t end = at;
    Kind kind = kind_of(unicode::next(text, end));
    if (kind != Kind::blank) {
      for (size_t ahead = end; ahead < text.size() && kind_of(unicode::next(text, ahead)) == kind;) end = ahead;
      return end;
    }
  }
  size_t end = begin, last = begin;  // a run of blanks; its last one is left to the word that follows
  for (size_t ahead = begin; ahead < text.size(); end = ahead) {
    if (kind_of(unicode::next(text, ahead)) != Kind::blank) return last > begin ? last : end;
    last = end;
  }
  return end;
}

AlignedText as_byte_alphabet(const AlignedText& text) {
  AlignedText out;
  out.bytes.reserve(text.bytes.size() * 2);
  out.from.reserve(text.bytes.size() * 2);
  for (size_t i = 0; i < text.bytes.size(); ++i) out.push(byte_alphabet()[uint8_t(text.bytes[i])], text.from[i]);
  return out;
}

}  // namespace

PreTokenizer byte_level(bool add_prefix_space, bool use_regex) {
  return [add_prefix_space, use_regex](AlignedText text) {
    if (add_prefix_space && !text.bytes.starts_with(' ')) prepend(text, " ");
    std::vector<AlignedText> out;
    for (size_t begin = 0, end; begin < text.bytes.size(); begin = end) {
      end = use_regex ? gpt2_piece(text.bytes, begin) : text.bytes.size();
      out.push_back(as_byte_alphabet(text.slice(begin, end)));
    }
    return out;
  };
}

PreTokenizer metaspace(char32_t replacement, Prepend scheme, bool split) {
  return [mark = encode_utf8(replacement), scheme, split](AlignedText text) {
    replace(text, " ", mark);
    bool first = !text.from.empty() && text.from.front().begin == 0;
    if (!text.bytes.starts_with(mark) && (scheme == Prepend::always || (scheme == Prepend::first && first)))
      prepend(text, mark);
    std::vector<AlignedText> out;
    for (size_t begin = 0, end; begin < text.bytes.size(); begin = end) {
      end = split ? std::min(text.bytes.find(mark, begin + 1), text.bytes.size()) : text.bytes.size();
      out.push_back(text.slice(begin, end));
    }
    return out;
  };
}

PreTokenizer bert_pre_tokenizer() {
  return [](AlignedText text) {
    std::vector<AlignedText> out;
    size_t begin = 0;
    auto cut = [&](size_t end) {
      if (begin < end) out.push_back(text.slice(begin, end));
      begin = end;
    };
    for (size_t at = 0, before = 0; at < text.bytes.size(); before = at) {
      char32_t c = unicode::next(text.bytes, at);
      bool blank = unicode::in(unicode::blanks, c), alone = !blank && unicode::in(unicode::punctuation, c);
      if (blank || alone) cut(before);
      if (alone) cut(at);
      if (blank) begin = at;
    }
    cut(text.bytes.size());
    return out;
  };
}

// Printable bytes stand for themselves, the others for U+0100 and on.
const char32_t* byte_alphabet() {
  static const auto table = [] {
    std::array<char32_t, 256> out{};
    char32_t next = 256;
    for (char32_t b = 0; b < 256; ++b) {
      bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      out[b] = printable ? b : next++;
    }
    return out;
  }();
  return table.data();
}

int byte_of(char32_t c) {
  static const auto table = [] {
    std::array<int, 512> out;
    out.fill(-1);
    for (int b = 0; b < 256; ++b) out[byte_alphabet()[b]] = b;
    return out;
  }();
  return c < table.size() ? table[c] : -1;
}

}  // namespace whence::subword
