// FASTA: '>' header lines, each followed by sequence lines. Plain or gzip.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/io/file.h"

namespace whence {

struct FastaRecord {
  std::string header;    ///< all after '>', without the line ending
  std::string sequence;  ///< sequence lines joined, blanks removed
  int64_t line = 0;      ///< line of the header, from 1
  /// The first word of the header; "" when there is none.
  std::string_view id() const;
};

struct FastaOptions {
  enum class Empty { keep, skip, refuse };
  bool upper = true;          ///< lower case (soft-masked) letters become upper case
  Empty empty = Empty::keep;  ///< records without a single letter
};

/// One record at a time, so that a file may be larger than memory.
/// Lines may end in LF or CRLF; blank lines and lines that begin with ';' are skipped; the last line needs no
/// ending. Sequences may hold letters and '-', '.', '*'. \throws IoError naming file and line for anything
/// else, for a carriage return without its line feed (as in files that end their lines in CR alone), for sequence
/// before the first header, and for an empty record where options refuse it.
class FastaReader {
 public:
  explicit FastaReader(const std::string& path, FastaOptions options = {})
      : FastaReader(ByteSource::file(path), options) {}
  explicit FastaReader(ByteSource source, FastaOptions options = {}) : lines_(std::move(source)), options_(options) {}
  /// Fills `record`; false at the end.
  bool next(FastaRecord& record);

 private:
  LineReader lines_;
  FastaOptions options_;
  std::string text_;
  std::optional<std::pair<std::string, int64_t>> header_;  // read ahead, with its line
  bool started_ = false;
};

std::vector<FastaRecord> read_fasta(const std::string& path, FastaOptions options = {});
std::vector<FastaRecord> parse_fasta(std::span<const std::byte> bytes, FastaOptions options = {},
                                     const std::string& name = "memory");

}  // namespace whence
