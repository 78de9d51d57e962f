#include <optional>

#include "whence/nn/data/fasta.h"
#include "whence/nn/data/taxonomy.h"
#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

namespace {

// The rules of fasta.h again, line by line; nullopt where the text must be refused.
std::optional<std::vector<FastaRecord>> plain_records(std::string_view text) {
  std::vector<FastaRecord> records;
  std::vector<std::string> lines = split_text(text, '\n');
  if (lines.back().empty()) lines.pop_back();
  for (size_t n = 0; n < lines.size(); ++n) {
    std::string line = lines[n];
    if (line.ends_with('\r')) line.pop_back();
    if (n == 0 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
    if (line.find('\r') != line.npos) return std::nullopt;
    if (line.starts_with(';')) continue;
    if (line.starts_with('>')) {
      records.push_back({line.substr(1), "", int64_t(n) + 1});
      continue;
    }
    for (char c : line) {
      if (c == ' ' || c == '\t') continue;
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '*';
      if (!letter || records.empty()) return std::nullopt;
      records.back().sequence += c;
    }
  }
  return records;
}

}  // namespace

// A text is read as the plain rules have it; records written out plainly are read back as they were.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool packed = text.starts_with("\x1f\x8b");
  auto want = packed ? std::nullopt : plain_records(text);
  try {
    auto records = parse_fasta(bytes, {.upper = false});
    if (!packed) {
      fuzz::require(want.has_value(), "what the rules refuse is refused");
      fuzz::require(want->size() == records.size(), "the number of records");
      for (size_t i = 0; i < records.size(); ++i)
        fuzz::require((*want)[i].header == records[i].header && (*want)[i].sequence == records[i].sequence &&
                          (*want)[i].line == records[i].line,
                      "records by the rules");
    }
    std::string plain;
    for (const auto& r : records) {
      plain += ">" + r.header + "\n" + r.sequence + "\n";
      std::string_view id = r.id();
      fuzz::require(id.find_first_of(" \t") == id.npos, "an id is one word");
      fuzz::require(!id.empty() || r.header.find_first_not_of(" \t") == r.header.npos,
                    "a header with a word has an id");
      try {
        parse_lineage_header(r.header);
      } catch (const ValueError&) {}
    }
    auto again = parse_fasta(fuzz::bytes_of(plain), {.upper = false});
    fuzz::require(again.size() == records.size(), "the number of records");
    for (size_t i = 0; i < again.size(); ++i)
      fuzz::require(again[i].sequence == records[i].sequence && again[i].header == records[i].header,
                    "records survive");
  } catch (const IoError&) {
    fuzz::require(!want.has_value(), "what the rules take is taken");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      ">a first\nACGT\nNN\n>b\nacgt",
      "\r\n;comment\r\n>a\r\nAC GT\r\n\r\n>empty\r\n>c\r\nT",
      "\xef\xbb\xbf>a\tb\nAC-.*\n",
      ">S1 Genus epithet (T); strain; X1\tBacteria; P; C; O; F; Genus\nACGT\n>2\tGenus sp. 3 \tx\tA; B; C; "
      "D; E; F\nAC\n",
      whence::gzipped(">a\nACGTACGTACGT\n>b\nTTTT\n"),
      whence::gzipped(">a\nAC\n") + whence::gzipped(">b\nGT\n"),
      "",
      ">  a b\nAC\n>\tc\nGT\n> \nA\n",
      ">a\rACGT\r>b\rTTTT\r",
      ">a\r\r\nAC\r\r\n",
      ";old\r>a\rAC\n>b\nGT\n",
  };
}
