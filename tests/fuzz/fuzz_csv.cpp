#include <cmath>
#include <cstdlib>
#include <optional>

#include "whence/nn/data/csv.h"
#include "whence/tensor/error.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

namespace {

using Rows = std::vector<std::vector<std::string>>;

// The rules of csv.h again, as plainly as can be, over a whole text: nullopt where it must be refused.
std::optional<Rows> plain_rows(std::string_view s, char delimiter) {
  if (s.starts_with("\xff\xfe") || s.starts_with("\xfe\xff")) return std::nullopt;
  if (s.starts_with("\xef\xbb\xbf")) s.remove_prefix(3);
  Rows rows;
  size_t i = 0;
  auto line_end = [&] { return s.substr(i).starts_with("\r\n") ? size_t(2) : size_t(i < s.size() && s[i] == '\n'); };
  while (i < s.size()) {
    if (size_t n = line_end()) {
      i += n;
      continue;
    }
    std::vector<std::string>& row = rows.emplace_back();
    for (bool open = true; open;) {
      std::string& field = row.emplace_back();
      if (i < s.size() && s[i] == '"') {
        for (++i;; ++i) {
          size_t quote = s.find('"', i);
          if (quote == s.npos) return std::nullopt;
          field += s.substr(i, quote - i);
          i = quote + 1;
          if (i == s.size() || s[i] != '"') break;
          field += '"';
        }
        if (i < s.size() && s[i] != delimiter && !line_end()) return std::nullopt;
      } else {
        size_t end = std::min(s.find_first_of(std::string("\r\n") + delimiter, i), s.size());
        field = s.substr(i, end - i);
        i = end;
        if (i < s.size() && s[i] == '\r' && !line_end()) return std::nullopt;
      }
      open = i < s.size() && s[i] == delimiter;
      if (open) ++i;
    }
    i += line_end();
    if (row.size() != rows[0].size()) return std::nullopt;
  }
  return rows;
}

bool is_decimal(std::string_view s) {
  size_t i = 0, digits = 0;
  auto run = [&] {
    for (; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) ++digits;
  };
  auto sign = [&] { i += i < s.size() && (s[i] == '+' || s[i] == '-'); };
  sign();
  run();
  if (i < s.size() && s[i] == '.') ++i, run();
  if (digits == 0) return false;
  if (i < s.size() && (s[i] == 'e' || s[i] == 'E')) {
    ++i, sign(), digits = 0, run();
    if (digits == 0) return false;
  }
  return i == s.size();
}
bool is_word(std::string_view s) {
  std::string low;
  for (char c : s.substr(s.starts_with('+') || s.starts_with('-'))) low += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return low == "inf" || low == "infinity" || low == "nan";
}

void check_number(const CsvTable& table, int64_t row, size_t column) {
  std::string text = table.at(row, column);
  text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  text.erase(text.find_last_not_of(' ') + 1);
  const bool decimal = is_decimal(text);
  try {
    double x = table.number(row, column);
    fuzz::require(decimal || is_word(text), "a number is decimal or a word");
    double want = std::strtod(text.c_str(), nullptr);
    fuzz::require(x == want || (std::isnan(x) && std::isnan(want)), "a number is the one that strtod reads");
    fuzz::require(std::isfinite(x) || is_word(text), "no digits are infinite");
  } catch (const IoError&) {
    const double want = decimal ? std::fabs(std::strtod(text.c_str(), nullptr)) : 0;
    fuzz::require(!is_word(text), "a word is a number");
    fuzz::require(!decimal || std::isinf(want) || want < 1e-300, "what a double can hold is a number");
  }
}

}  // namespace

// A text is read as the plain rules have it; a table written by csv_row is read back as it was.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  std::string_view text(reinterpret_cast<const char*>(data), size);
  for (char separator : {',', '\t'}) {
    const char* name = separator == ',' ? "x.csv" : "x.tsv";
    std::optional<Rows> want;
    if (!text.starts_with("\x1f\x8b")) want = plain_rows(text, separator);
    try {
      auto table = parse_csv(bytes, {}, name);
      size_t width = table.columns().size();
      if (!text.starts_with("\x1f\x8b")) {
        fuzz::require(want.has_value(), "what the rules refuse is refused");
        fuzz::require(int64_t(want->size()) == table.rows() + (width > 0), "the number of rows");
        for (size_t r = 0; r < want->size(); ++r)
          for (size_t c = 0; c < width; ++c)
            fuzz::require((*want)[r][c] == (r ? table.at(int64_t(r) - 1, c) : table.columns()[c]),
                          "fields by the rules");
      }
      if (width == 0) continue;
      std::string plain;
      auto row = [&](auto&& field) {
        std::vector<CsvField> fields;
        for (size_t c = 0; c < width; ++c) fields.emplace_back(field(c));
        plain += csv_row(fields, separator);
      };
      row([&](size_t c) { return table.columns()[c]; });
      for (int64_t r = 0; r < table.rows(); ++r) {
        row([&](size_t c) { return table.at(r, c); });
        for (size_t c = 0; c < std::min<size_t>(width, 3); ++c) check_number(table, r, c);
      }
      auto again = parse_csv(fuzz::bytes_of(plain), {}, name);
      fuzz::require(again.columns() == table.columns() && again.rows() == table.rows(), "the shape of the table");
      for (int64_t r = 0; r < table.rows(); ++r)
        for (size_t c = 0; c < width; ++c) fuzz::require(again.at(r, c) == table.at(r, c), "fields survive");
    } catch (const IoError&) {
      fuzz::require(!want.has_value(), "what the rules take is taken");
    }
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "a,b,c\n1,2,3\n4,5,6\n",
      "\xef\xbb\xbf\"a\",\"b \"\"q\"\"\"\r\n\"two\nlines\",\"x,y\"\r\n\r\n1.5,-2e3",
      "a\tb\n1\t\n\t2\n",
      "x\n\"\"\n\"\n\"\n",
      whence::gzipped("a,b\n1,2\n"),
      "",
      "\xef\xbc\xa9,b\n1,2\n",
      "a,b\r1,2\r3,4\r",
      "a,b\r\r\n1,2\r\r\n",
      "\"x\ry\",\"\r\"\r\n1,2",
      "x,y\n+-5,1e999\ninf,-nan\n0x1F,1e-400\n.5,5.\n+1.e+05,1.7976931348623157e308\n 7 ,Infinity\n4.9e-324,nan(1)\n",
      "\xff\xfe"
      "a\0,\0b\0",
  };
}
