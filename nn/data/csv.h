// Tables in text: CSV and TSV with quotes; read plain or gzip, written plain.
#pragma once
#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"

namespace whence {

struct CsvOptions {
  char delimiter = 0;  ///< ASCII; 0: a tab for names that end in .tsv or .tab (before .gz), else a comma
  bool header = true;  ///< the first row names the columns
};

/// Rows one at a time. A field in double quotes may hold delimiters, line breaks and doubled quotes. Rows end
/// in LF or CRLF; blank lines are skipped; a UTF-8 mark (EF BB BF) at the start is dropped. \throws IoError naming file
/// and line for a row with more or fewer fields than the first, text after a closing quote, a quote that is never
/// closed, a carriage return outside quotes without its line feed (as in files that end their lines in CR alone), and
/// UTF-16.
class CsvReader {
 public:
  explicit CsvReader(const std::string& path, CsvOptions options = {}) : CsvReader(ByteSource::file(path), options) {}
  explicit CsvReader(ByteSource source, CsvOptions options = {});
  /// Names of the columns; empty without a header.
  const std::vector<std::string>& columns() const { return columns_; }
  /// Fills `fields`; false at the end.
  bool next(std::vector<std::string>& fields);
  int64_t line() const { return row_line_; }  ///< where the row last given begins
  const std::string& name() const { return source_.name(); }

 private:
  bool read_row(std::vector<std::string>& fields);
  ByteSource source_;
  char delimiter_;
  std::vector<std::string> columns_;
  size_t width_ = 0;
  int64_t line_ = 1, row_line_ = 0;
};

/// A whole table in memory.
class CsvTable {
 public:
  const std::vector<std::string>& columns() const { return columns_; }
  int64_t rows() const { return int64_t(rows_.size()); }
  bool has(const std::string& column) const;
  /// Position of a column. \throws ValueError naming the file and its columns when there is none, or two, of
  /// that name.
  size_t column(const std::string& name) const;
  /// \throws ValueError for a row or a column that is not there, as all below
  const std::string& at(int64_t row, size_t column) const;
  const std::string& at(int64_t row, const std::string& column) const { return at(row, this->column(column)); }
  /// A decimal number, with a sign, a fraction and an exponent where there are any, or one of the words inf, infinity
  /// and nan (any case); blanks around it are no part of it. What is smaller than the smallest double is 0. \throws
  /// IoError naming file, line, column and text when the field is none (an empty field is none, and so is hexadecimal)
  /// or lies beyond the largest double.
  double number(int64_t row, size_t column) const;
  double number(int64_t row, const std::string& column) const { return number(row, this->column(column)); }
  std::vector<std::string> texts(const std::string& column) const;
  std::vector<double> numbers(const std::string& column) const;
  int64_t line(int64_t row) const;  ///< where the row begins in the file
  const std::string& name() const { return name_; }

 private:
  friend CsvTable collect_csv(CsvReader reader);
  void check_row(int64_t row) const;
  std::string name_;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<int64_t> lines_;
};

/// One field of a row to be written: a text as it is, a number in the fewest digits that are read back as the same.
struct CsvField {
  CsvField(std::string_view text) : text(text) {}
  CsvField(const std::string& text) : text(text) {}
  CsvField(const char* text) : text(text) {}
  CsvField(float value);
  CsvField(double value);
  template <std::integral T> CsvField(T value) : text(std::to_string(value)) {}
  std::string text;
};

/// Writes a table, which is there when commit() returns and not before. Fields with delimiters, quotes or line breaks
/// are put in quotes; rows end in LF. What it writes, CsvReader reads back.
/// \code
///   CsvWriter out("losses.csv", {"step", "loss"});
///   out.row({step, loss});
///   out.commit();
/// \endcode
class CsvWriter {
 public:
  /// Without columns the first row says how wide the table is. \throws IoError, as AtomicFile
  explicit CsvWriter(const std::string& path, const std::vector<std::string>& columns = {}, char delimiter = 0);
  /// \throws ValueError for an empty row and one of another width
  void row(std::span<const CsvField> fields);
  void row(std::initializer_list<CsvField> fields) { row(std::span(fields.begin(), fields.size())); }
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
  char delimiter_;
  size_t width_ = 0;
};

/// A row as CsvWriter writes it.
std::string csv_row(std::span<const CsvField> fields, char delimiter = ',');

CsvTable read_csv(const std::string& path, CsvOptions options = {});
CsvTable parse_csv(std::span<const std::byte> bytes, CsvOptions options = {}, const std::string& name = "memory");

}  // namespace whence
