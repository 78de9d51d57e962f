#include "whence/nn/data/fasta.h"

#include <algorithm>

#include "whence/tensor/error.h"

namespace whence {

std::string_view FastaRecord::id() const {
  std::string_view rest = header;
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  return rest.substr(0, rest.find_first_of(" \t"));
}

bool FastaReader::next(FastaRecord& record) {
  auto fail = [&](int64_t line, const std::string& why) {
    throw IoError(lines_.name() + ":" + std::to_string(line) + ": " + why);
  };
  while (true) {
    record = {};
    bool open = header_.has_value();
    if (open) {
      record.header = std::move(header_->first);
      record.line = header_->second;
      header_.reset();
    }
    while (!header_ && lines_.next(text_)) {
      if (!started_ && text_.starts_with("\xef\xbb\xbf")) text_.erase(0, 3);
      started_ = true;
      if (text_.find('\r') != text_.npos) fail(lines_.line(), "a carriage return without a line feed");
      if (text_.starts_with(';')) continue;
      if (text_.starts_with('>')) {
        std::pair<std::string, int64_t> header{text_.substr(1), lines_.line()};
        if (open) {
          header_ = std::move(header);
        } else {
          record.header = std::move(header.first);
          record.line = header.second;
          open = true;
        }
        continue;
      }
      for (char c : text_) {
        if (c == ' ' || c == '\t') continue;
        bool lower = c >= 'a' && c <= 'z';
        if (!lower && !(c >= 'A' && c <= 'Z') && c != '-' && c != '.' && c != '*')
          fail(lines_.line(),
               (c >= 0x20 && c < 0x7f ? std::string("'") + c + "'" : "byte " + std::to_string(int(uint8_t(c)))) +
                   " is no letter of a sequence");
        if (!open) fail(lines_.line(), "sequence before the first '>' header");
        record.sequence += lower && options_.upper ? char(c - 32) : c;
      }
    }
    if (!open) return false;
    if (!record.sequence.empty() || options_.empty == FastaOptions::Empty::keep) return true;
    if (options_.empty == FastaOptions::Empty::refuse)
      fail(record.line, "the record '" + std::string(record.id()) + "' has no sequence");
  }
}

static std::vector<FastaRecord> all(FastaReader reader) {
  std::vector<FastaRecord> records;
  for (FastaRecord r; reader.next(r);) records.push_back(std::move(r));
  return records;
}

std::vector<FastaRecord> read_fasta(const std::string& path, FastaOptions options) {
  return all(FastaReader(path, options));
}
std::vector<FastaRecord> parse_fasta(std::span<const std::byte> bytes, FastaOptions options, const std::string& name) {
  return all(FastaReader(ByteSource::memory(bytes, name), options));
}

}  // namespace whence
