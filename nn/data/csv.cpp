#include "nn/data/csv.h"

#include <charconv>

#include "tensor/error.h"

namespace whence {
namespace {

char delimiter_for(std::string name, char asked) {
  if (asked) return asked;
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name.ends_with(".tsv") || name.ends_with(".tab") ? '\t' : ',';
}

}  // namespace

CsvReader::CsvReader(ByteSource source, CsvOptions options)
    : source_(std::move(source)), delimiter_(delimiter_for(source_.name(), options.delimiter)) {
  if (delimiter_ == '"' || delimiter_ == '\n' || delimiter_ == '\r')
    throw ValueError(source_.name() + ": a quote or a line break cannot separate fields");
  if (options.header && read_row(columns_)) width_ = columns_.size();
}

// One physical row of fields; false at the end of the file.
bool CsvReader::read_row(std::vector<std::string>& fields) {
  auto fail = [&](int64_t line, const std::string& why) {
    throw IoError(source_.name() + ":" + std::to_string(line) + ": " + why);
  };
  fields.clear();
  if (line_ == 1 && row_line_ == 0 && source_.peek() == 0xef) {
    char mark[3];
    if (source_.read(std::as_writable_bytes(std::span(mark))) != 3 || mark[1] != '\xbb' || mark[2] != '\xbf')
      fail(1, "the file begins with a broken UTF-8 mark");
  }
  while (source_.peek() == '\n' || source_.peek() == '\r') {  // blank lines
    int c = source_.get();
    if (c == '\r' && source_.peek() != '\n') fail(line_, "a carriage return without a line feed");
    line_ += c == '\n';
  }
  if (source_.peek() < 0) return false;
  row_line_ = line_;
  while (true) {
    std::string& field = fields.emplace_back();
    int c = source_.get();
    if (c == '"') {
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
      c = source_.get();
      if (c == '\r' && source_.peek() == '\n') c = source_.get();
      if (c >= 0 && c != '\n' && c != delimiter_)
        fail(line_, "text after the closing quote of field " + std::to_string(fields.size()));
    } else {
      while (c >= 0 && c != '\n' && c != delimiter_) {
        if (c == '\r' && source_.peek() == '\n') {
          c = source_.get();
          break;
        }
        field += char(c);
        c = source_.get();
      }
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

double CsvTable::number(int64_t row, size_t column) const {
  std::string_view text = at(row, column);
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
  double value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size())
    throw IoError(name_ + ":" + std::to_string(line(row)) + ": column " +
                  (column < columns_.size() ? "'" + columns_[column] + "'" : std::to_string(column + 1)) + " holds '" +
                  std::string(text.substr(0, 60)) + "', which is no number");
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

}  // namespace whence
