#include "whence/nn/data/subword/finish.h"

#include <algorithm>

#include "whence/nn/data/subword/text.h"
#include "whence/nn/data/text.h"

namespace whence::subword {
namespace {

template <class T> void append(std::vector<T>& to, const std::vector<T>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

void append(Encoding& to, const Encoding& more) {
  append(to.ids, more.ids);
  append(to.tokens, more.tokens);
  append(to.type_ids, more.type_ids);
  append(to.sequence_ids, more.sequence_ids);
  append(to.special_tokens_mask, more.special_tokens_mask);
  append(to.offsets, more.offsets);
}

Encoding added(const TemplatePiece& piece) {
  size_t n = piece.ids.size();
  Encoding out;
  out.ids = piece.ids;
  out.tokens = piece.tokens;
  out.type_ids.assign(n, piece.type_id);
  out.sequence_ids.assign(n, -1);
  out.special_tokens_mask.assign(n, 1);
  out.offsets.resize(n);
  return out;
}

std::string replaced(std::string_view text, std::string_view pattern, std::string_view by) {
  if (pattern.empty()) return std::string(text);
  std::string out;
  for (size_t at = 0;;) {
    size_t found = text.find(pattern, at);
    out += text.substr(at, found == text.npos ? found : found - at);
    if (found == text.npos) return out;
    out += by;
    at = found + pattern.size();
  }
}

bool is_blank(char32_t c) { return unicode::in(unicode::blanks, c) || c == byte_alphabet()[uint8_t(' ')]; }

void trim(Encoding& text, bool add_prefix_space) {
  for (size_t i = 0; i < text.size(); ++i) {
    std::vector<char32_t> token = decode_utf8(text.tokens[i]);
    auto leading = std::find_if_not(token.begin(), token.end(), is_blank) - token.begin();
    auto trailing = std::find_if_not(token.rbegin(), token.rend(), is_blank) - token.rbegin();
    auto& [begin, end] = text.offsets[i];
    if (leading == 1 && add_prefix_space && (i == 0 || begin == 0)) leading = 0;  // the blank that was put there
    begin = std::min(begin + leading, end);
    if (end >= trailing) end = std::max(end - trailing, begin);
  }
}

}  // namespace

PostProcessor trim_offsets(bool add_prefix_space) {
  return [add_prefix_space](std::vector<Encoding>& texts, bool) {
    for (Encoding& text : texts) trim(text, add_prefix_space);
  };
}

PostProcessor template_processor(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair) {
  return [single, pair](std::vector<Encoding>& texts, bool special) {
    std::vector<Encoding> out;
    for (const TemplatePiece& piece : texts.size() == 1 ? single : pair) {
      if (piece.text < 0) {
        if (special) out.push_back(added(piece));
        continue;
      }
      if (size_t(piece.text) >= texts.size()) continue;
      out.push_back(texts[size_t(piece.text)]);
      std::fill(out.back().type_ids.begin(), out.back().type_ids.end(), piece.type_id);
    }
    texts = std::move(out);
  };
}

Encoding joined(std::vector<Encoding> texts) {
  if (texts.empty()) return {};
  Encoding out = std::move(texts[0]);
  for (size_t i = 1; i < texts.size(); ++i) append(out, texts[i]);
  return out;
}

// ---- back to text ---------------------------------------------------------------------------------------------------

Decoder byte_level_decoder() {
  return [](std::vector<std::string>& tokens) {
    std::string bytes;
    for (const std::string& token : tokens) {
      std::string of_token;
      bool all = true;
      for (size_t at = 0; at < token.size() && all;) {
        int b = byte_of(unicode::next(token, at));
        all = b >= 0;
        of_token += char(b);
      }
      bytes += all ? of_token : token;
    }
    tokens = {unicode::with_replacements(bytes)};
  };
}

Decoder wordpiece_decoder(std::string prefix, bool cleanup) {
  return [prefix, cleanup](std::vector<std::string>& tokens) {
    constexpr std::pair<const char*, const char*> tidy[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i && token.starts_with(prefix)) token.erase(0, prefix.size());
      else if (i) token = " " + token;
      if (cleanup)
        for (auto [from, to] : tidy) token = replaced(token, from, to);
    }
  };
}

Decoder metaspace_decoder(char32_t replacement, bool drop_first) {
  return [mark = encode_utf8(replacement), drop_first](std::vector<std::string>& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = replaced(tokens[i], mark, i == 0 && drop_first ? "" : " ");
  };
}

Decoder replace_decoder(std::string pattern, std::string by) {
  return [pattern, by](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) token = replaced(token, pattern, by);
  };
}

Decoder byte_fallback_decoder() {
  return [](std::vector<std::string>& tokens) {
    auto digit = [](char c) {
      return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87 : -1;
    };
    std::vector<std::string> out;
    std::string bytes;
    auto flush = [&] {  // all of a run or nothing: then each byte is a U+FFFD
      bool whole = unicode::valid_until(bytes) == bytes.size();
      if (whole && !bytes.empty()) out.push_back(bytes);
      if (!whole) out.insert(out.end(), bytes.size(), "\xef\xbf\xbd");
      bytes.clear();
    };
    for (const std::string& t : tokens) {
      if (t.size() == 6 && t.starts_with("<0x") && t[5] == '>' && digit(t[3]) >= 0 && digit(t[4]) >= 0) {
        bytes += char(digit(t[3]) * 16 + digit(t[4]));
      } else {
        flush();
        out.push_back(t);
      }
    }
    flush();
    tokens = std::move(out);
  };
}

Decoder fuse_decoder() {
  return [](std::vector<std::string>& tokens) {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens = {all};
  };
}

Decoder strip_decoder(char32_t content, int64_t start, int64_t stop) {
  return [mark = encode_utf8(content), start, stop](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (int64_t i = 0; i < start && rest.starts_with(mark); ++i) rest.remove_prefix(mark.size());
      for (int64_t i = 0; i < stop && rest.ends_with(mark); ++i) rest.remove_suffix(mark.size());
      token = std::string(rest);
    }
  };
}

}  // namespace whence::subword
