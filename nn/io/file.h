// Reading bytes: a file mapped into memory, and a stream that undoes gzip by itself.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "whence/tensor/tensor.h"

namespace whence {

/// A file mapped copy-on-write: writing to the memory never reaches the file. Moving keeps the address.
class MappedFile {
 public:
  /// \throws IoError naming the file and the system's reason; for a folder, a pipe or a device too, which have no size.
  static std::shared_ptr<MappedFile> open(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Bytes in order from a file or from memory. Gzip is recognised by its first two bytes, not by the name;
/// several members in a row are one stream, as gunzip has it.
class ByteSource {
 public:
  /// Pipes and devices are read as they come; a pipe that nobody writes to is waited for.
  /// \throws IoError when the file cannot be opened or is a folder.
  static ByteSource file(const std::string& path);
  /// Borrows `bytes`. `name` stands for the file name in messages.
  static ByteSource memory(std::span<const std::byte> bytes, std::string name = "memory");
  ByteSource(ByteSource&&) noexcept;
  ByteSource& operator=(ByteSource&&) noexcept;
  ~ByteSource();

  /// Fills `out` as far as there are bytes; fewer than asked only at the end.
  /// \throws IoError for a read error, or a damaged or truncated gzip stream.
  size_t read(std::span<std::byte> out);
  /// The next byte, or -1 at the end.
  int get() {
    if (at_ == end_ && !refill()) return -1;
    return int(uint8_t(*at_++));
  }
  int peek() {
    if (at_ == end_ && !refill()) return -1;
    return int(uint8_t(*at_));
  }
  /// The rest of the stream. \throws IoError beyond `limit` bytes.
  std::string rest(size_t limit = size_t(1) << 40);
  const std::string& name() const;

 private:
  struct Impl;
  explicit ByteSource(std::unique_ptr<Impl> impl);
  bool refill();
  friend class LineReader;
  std::unique_ptr<Impl> impl_;
  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
};

/// Lines without their ending; LF and CRLF both end a line, a missing one at the end of the file is no error.
class LineReader {
 public:
  explicit LineReader(ByteSource source) : source_(std::move(source)) {}
  /// Puts the next line into `line`; false at the end.
  bool next(std::string& line);
  int64_t line() const { return line_; }  ///< number of the line last given, from 1
  const std::string& name() const { return source_.name(); }

 private:
  ByteSource source_;
  int64_t line_ = 0;
};

/// The whole file, gunzipped when it is gzip. \throws IoError.
std::string read_text(const std::string& path);
/// The bytes of a regular file as they are, u8 [n]. \throws IoError.
Tensor read_bytes(const std::string& path);

}  // namespace whence
