#include <cstring>

#include "whence/nn/data/loader.h"
#include "whence/nn/data/taxonomy.h"
#include "whence/nn/data/text.h"
#include "whence/nn/data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// Well-formed UTF-8 comes back as it was, in code points and in tokens; the rest is refused where the table of the
// Unicode standard (3-7) has it.
static bool well_formed(std::string_view s) {
  auto in = [&](size_t i, int low, int high) { return i < s.size() && uint8_t(s[i]) >= low && uint8_t(s[i]) <= high; };
  for (size_t i = 0; i < s.size();) {
    auto more = [&](size_t n) {
      for (size_t k = 2; k <= n; ++k)
        if (!in(i + k, 0x80, 0xbf)) return false;
      i += n + 1;
      return true;
    };
    bool ok = in(i, 0, 0x7f)                               ? more(0)
              : in(i, 0xc2, 0xdf) && in(i + 1, 0x80, 0xbf) ? more(1)
              : in(i, 0xe0, 0xe0) && in(i + 1, 0xa0, 0xbf) ? more(2)
              : in(i, 0xed, 0xed) && in(i + 1, 0x80, 0x9f) ? more(2)
              : in(i, 0xe1, 0xec) && in(i + 1, 0x80, 0xbf) ? more(2)
              : in(i, 0xee, 0xef) && in(i + 1, 0x80, 0xbf) ? more(2)
              : in(i, 0xf0, 0xf0) && in(i + 1, 0x90, 0xbf) ? more(3)
              : in(i, 0xf1, 0xf3) && in(i + 1, 0x80, 0xbf) ? more(3)
              : in(i, 0xf4, 0xf4) && in(i + 1, 0x80, 0x8f) ? more(3)
                                                           : false;
    if (!ok) return false;
  }
  return true;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    std::string back;
    for (char32_t c : decode_utf8(text)) back += encode_utf8(c);
    fuzz::require(back == text, "UTF-8 survives");
    fuzz::require(well_formed(text), "what is malformed is refused");
    auto tokens = CharTokenizer::from_text(text);
    fuzz::require(tokens.decode(tokens.encode(text)) == text, "characters survive");
  } catch (const ValueError&) {
    fuzz::require(!well_formed(text), "what is well formed is taken");
  }
  try {
    fuzz::require(LoaderState::parse(text).str() == text, "a position has one text");
  } catch (const ValueError&) {}
  try {
    fuzz::require(parse_lineage_header(text).id.find('\t') == std::string::npos, "an id is one field");
  } catch (const ValueError&) {}
  std::string joined;
  auto parts = split_text(text, ',');
  for (size_t i = 0; i < parts.size(); ++i) joined += (i ? "," : "") + parts[i];
  fuzz::require(joined == text, "pieces make the text");
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "plain, text",
      "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
      "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
      "epoch 3 position 2 seed 18446744073709551615 samples 40 batch 8 shuffled",
      "epoch 0 position 0 seed 0 samples 0 batch 0 in order",
      "S1 Genus epithet (T); strain; X1\tBacteria; P; C; O; F; Genus",
      "",
  };
}
