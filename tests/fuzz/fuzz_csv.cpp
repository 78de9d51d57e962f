#include "nn/data/csv.h"
#include "nn/data/text.h"
#include "tensor/error.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

static std::string quoted_field(const std::string& s) {
  std::string out = "\"";
  for (char c : s) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

// A table written with every field in quotes is read back as it was.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  for (const char* name : {"x.csv", "x.tsv"}) {
    try {
      auto table = parse_csv(bytes, {}, name);
      char separator = std::string(name) == "x.csv" ? ',' : '\t';
      std::string plain;
      auto row = [&](auto&& field, size_t n) {
        for (size_t c = 0; c < n; ++c) plain += (c ? std::string(1, separator) : "") + quoted_field(field(c));
        plain += "\n";
      };
      size_t width = table.columns().size();
      if (width == 0) continue;
      row([&](size_t c) { return table.columns()[c]; }, width);
      for (int64_t r = 0; r < table.rows(); ++r) {
        row([&](size_t c) { return table.at(r, c); }, width);
        try {
          (void)table.number(r, size_t(0));
        } catch (const Error&) {}
      }
      auto again = parse_csv(fuzz::bytes_of(plain), {}, name);
      fuzz::require(again.columns() == table.columns() && again.rows() == table.rows(), "the shape of the table");
      for (int64_t r = 0; r < table.rows(); ++r)
        for (size_t c = 0; c < width; ++c) fuzz::require(again.at(r, c) == table.at(r, c), "fields survive");
    } catch (const Error&) {}
  }
  try {
    decode_utf8({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {}
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "a,b,c\n1,2,3\n4,5,6\n",     "\xef\xbb\xbf\"a\",\"b \"\"q\"\"\"\r\n\"two\nlines\",\"x,y\"\r\n\r\n1.5,-2e3",
      "a\tb\n1\t\n\t2\n",          "x\n\"\"\n\"\n\"\n",
      fuzz::gzipped("a,b\n1,2\n"), "",
  };
}
