#include "nn/data/fasta.h"
#include "nn/data/taxonomy.h"
#include "tensor/error.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// Records written out plainly are read back as they were.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    auto records = parse_fasta(bytes, {.upper = false});
    std::string plain;
    for (const auto& r : records) {
      plain += ">" + r.header + "\n" + r.sequence + "\n";
      try {
        parse_lineage_header(r.header);
      } catch (const Error&) {}
    }
    auto again = parse_fasta(fuzz::bytes_of(plain), {.upper = false});
    fuzz::require(again.size() == records.size(), "the number of records");
    for (size_t i = 0; i < again.size(); ++i) {
      fuzz::require(again[i].sequence == records[i].sequence, "sequences survive");
      // A carriage return right before the line feed belongs to the line ending.
      fuzz::require(again[i].header == records[i].header || records[i].header.ends_with('\r'), "headers survive");
    }
  } catch (const Error&) {}
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      ">a first\nACGT\nNN\n>b\nacgt",
      "\r\n;comment\r\n>a\r\nAC GT\r\n\r\n>empty\r\n>c\r\nT",
      "\xef\xbb\xbf>a\tb\nAC-.*\n",
      ">S1 Genus epithet (T); strain; X1\tBacteria; P; C; O; F; Genus\nACGT\n>2\tGenus sp. 3 \tx\tA; B; C; "
      "D; E; F\nAC\n",
      fuzz::gzipped(">a\nACGTACGTACGT\n>b\nTTTT\n"),
      fuzz::gzipped(">a\nAC\n") + fuzz::gzipped(">b\nGT\n"),
      "",
  };
}
