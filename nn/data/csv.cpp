#include "whence/nn/data/csv.h"

#include <charconv>

#include "whence/tensor/error.h"

namespace whence {
namespace {

char delimiter_for(std::string name, char asked) {
  if (asked) return asked;
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name.ends_with(".tsv") || name.ends_with(".tab") ? '\t' : ',';
}

void check_delimiter(char c, const std::string& name) {
  if (c == '"' || c == '\n' || c == '\r' || uint8_t(c) >= 0x80)
    throw ValueError(name + ": a quote, a line break or a byte that is not ASCII cannot separate fields");
}

}  // namespace

CsvReader::CsvReader(ByteSource source, CsvOptions options)
    : source_(std::move(source)), delimiter_(delimiter_for(source_.name(), options.delimiter)) {
  check_delimiter(delimiter_, source_.name());
  if (options.header && read_row(columns_)) width_ = columns_.size();
}

// One physical row of fields; false at the end of the file.
bool CsvReader::read_row(std::vector<std::string>& fields) {
  auto fail = [&](int64_t line, const std::string& why) {
    throw IoError(source_.name() + ":" + std::to_string(line) + ": " + why);
  };
  fields.clear();
  std::string begun;  // of the first field: bytes that might have been a mark
  if (line_ == 1 && row_line_ == 0) {
    constexpr std::string_view mark = "\xef\xbb\xbf";
    while (begun.size() < 3 && source_.peek() == uint8_t(mark[begun.size()])) begun += char(source_.get());
    if (begun == mark) {
      begun.clear();
    } else if (int c = source_.peek(); begun.empty() && c >= 0xfe) {
      source_.get();
      if (source_.peek() == (c ^ 1)) fail(1, "the text is UTF-16; only UTF-8 is read");
      begun += char(c);
    }
  }
  // One byte; a carriage return outside quotes is swallowed with its line feed.
  auto get = [&] {
    int c = source_.get();
    if (c != '\r') return c;
    if (source_.get() != '\n') fail(line_, "a carriage return without a line feed");
    return int('\n');
  };
  while (begun.empty() && (source_.peek() == '\n' || source_.peek() == '\r')) {  // blank lines
    get();
    ++line_;
  }
  if (source_.peek() < 0 && begun.empty()) return false;
  row_line_ = line_;
  while (true) {
    std::string& field = fields.emplace_back(std::move(begun));
    begun.clear();
    int c = get();
    if (c == '"' && field.empty()) {
      int64_t opened = line_;
      while (true) {
        c = source_.get();
        if (c < 0) fail(opened, "the quote that opens here is never closed");
        if (c == '"') {
          if (source_.peek() != '"') break;
          source_.get();
        }
        line_ += c == '\n';
        field += char(c);
      }
      c = get();
      if (c >= 0 && c != '\n' && c != delimiter_)
        fail(line_, "text after the closing quote of field " + std::to_string(fields.size()));
    } else {
      for (; c >= 0 && c != '\n' && c != delimiter_; c = get()) field += char(c);
    }
    if (c == delimiter_) continue;
    line_ += c == '\n';
    return true;
  }
}

bool CsvReader::next(std::vector<std::string>& fields) {
  if (!read_row(fields)) return false;
  if (width_ == 0) width_ = fields.size();
  if (fields.size() != width_)
    throw IoError(source_.name() + ":" + std::to_string(row_line_) + ": the row has " + std::to_string(fields.size()) +
                  " fields, " + (columns_.empty() ? "the first row" : "the header") + " has " + std::to_string(width_));
  return true;
}

bool CsvTable::has(const std::string& column) const {
  for (const auto& c : columns_)
    if (c == column) return true;
  return false;
}

size_t CsvTable::column(const std::string& name) const {
  size_t found = columns_.size();
  std::string known;
  for (size_t i = 0; i < columns_.size(); ++i) {
    known += (i ? ", " : "") + columns_[i];
    if (columns_[i] != name) continue;
    if (found != columns_.size()) throw ValueError(name_ + ": two columns are named '" + name + "'");
    found = i;
  }
  if (found == columns_.size()) throw ValueError(name_ + ": no column '" + name + "'; there are: " + known);
  return found;
}

void CsvTable::check_row(int64_t row) const {
  if (row < 0 || row >= rows())
    throw ValueError(name_ + ": no row " + std::to_string(row) + ", there are " + std::to_string(rows()));
}

const std::string& CsvTable::at(int64_t row, size_t column) const {
  check_row(row);
  const std::vector<std::string>& fields = rows_[size_t(row)];
  if (column >= fields.size())
    throw ValueError(name_ + ": no column " + std::to_string(column) + ", there are " + std::to_string(fields.size()));
  return fields[column];
}

int64_t CsvTable::line(int64_t row) const {
  check_row(row);
  return lines_[size_t(row)];
}

double CsvTable::number(int64_t row, size_t column) const {
  std::string_view text = at(row, column);
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  auto fail = [&](const char* why) {
    std::string shown(text.substr(0, 60));
    for (char& c : shown)
      if (uint8_t(c) < 0x20) c = '?';
    throw IoError(name_ + ":" + std::to_string(line(row)) + ": column " +
                  (column < columns_.size() ? "'" + columns_[column] + "'" : std::to_string(column + 1)) + " holds '" +
                  shown + "', " + why);
  };
  std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
  // from_chars takes "-" after the "+" that it does not take itself, and "nan(...)".
  if ((text.size() != digits.size() && digits.starts_with('-')) || digits.find('(') != digits.npos)
    fail("which is no number");
  double value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error == std::errc::invalid_argument || end != digits.data() + digits.size())
    fail("which is no number");
  if (error == std::errc::result_out_of_range) {
    // Too large, or so small that it is 0: a long double knows, or has the same doubt.
    long double wide = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), wide).ec != std::errc() || wide > 1 || wide < -1)
      fail("which lies beyond a double");
    value = double(wide);
  }
  return value;
}

std::vector<std::string> CsvTable::texts(const std::string& name) const {
  size_t c = column(name);
  std::vector<std::string> out;
  out.reserve(rows_.size());
  for (const auto& r : rows_) out.push_back(r[c]);
  return out;
}

std::vector<double> CsvTable::numbers(const std::string& name) const {
  size_t c = column(name);
  std::vector<double> out;
  out.reserve(rows_.size());
  for (int64_t r = 0; r < rows(); ++r) out.push_back(number(r, c));
  return out;
}

CsvTable collect_csv(CsvReader reader) {
  CsvTable table;
  table.name_ = reader.name();
  table.columns_ = reader.columns();
  for (std::vector<std::string> fields; reader.next(fields);) {
    table.rows_.push_back(std::move(fields));
    table.lines_.push_back(reader.line());
  }
  return table;
}

CsvTable read_csv(const std::string& path, CsvOptions options) { return collect_csv(CsvReader(path, options)); }
CsvTable parse_csv(std::span<const std::byte> bytes, CsvOptions options, const std::string& name) {
  return collect_csv(CsvReader(ByteSource::memory(bytes, name), options));
}

// ---- writing --------------------------------------------------------------------------------------------------------
namespace {

template <class T> std::string shortest(T value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

// What begins a file could be taken for a mark of its encoding, or for gzip.
bool looks_like_a_mark(const std::string& text) {
  return !text.empty() && (uint8_t(text[0]) >= 0xef || text[0] == '\x1f');
}

}  // namespace

CsvField::CsvField(float value) : text(shortest(value)) {}
CsvField::CsvField(double value) : text(shortest(value)) {}

std::string csv_row(std::span<const CsvField> fields, char delimiter) {
  std::string out;
  const std::string special{delimiter, '"', '\n', '\r'};
  for (size_t i = 0; i < fields.size(); ++i) {
    const std::string& text = fields[i].text;
    if (i) out += delimiter;
    // A row of one empty field would be a blank line, which readers skip.
    bool quoted = text.find_first_of(special) != text.npos || (i == 0 && looks_like_a_mark(text)) ||
                  (fields.size() == 1 && text.empty());
    if (quoted) out += '"';
    for (char c : text) out.append(c == '"' ? 2 : 1, c);
    if (quoted) out += '"';
  }
  return out + "\n";
}

CsvWriter::CsvWriter(const std::string& path, const std::vector<std::string>& columns, char delimiter)
    : file_(path), delimiter_(delimiter_for(path, delimiter)) {
  check_delimiter(delimiter_, path);
  if (!columns.empty()) row(std::vector<CsvField>(columns.begin(), columns.end()));
}

void CsvWriter::row(std::span<const CsvField> fields) {
  if (fields.empty() || (width_ && fields.size() != width_))
    throw ValueError(file_.path() + ": a row of " + std::to_string(fields.size()) + " fields" +
                     (width_ ? " in a table of " + std::to_string(width_) + " columns" : ""));
  width_ = fields.size();
  file_.write(csv_row(fields, delimiter_));
}

}  // namespace whence
