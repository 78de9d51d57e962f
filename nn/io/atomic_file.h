// Files that are either the old one or the new one, never half of one: written under a temporary name in the
// same folder, forced to disk, renamed. A crash at any moment leaves the previous file as it was.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace whence {

/// \code
///   AtomicFile out("run/model.safetensors");
///   out.write(header);
///   out.write(data, bytes);
///   out.commit();            // without it, the destructor removes the temporary and `path` is untouched
/// \endcode
/// A symbolic link at `path` stays a link: the file it points to is replaced. An existing file's permissions
/// are kept; one that may not be written is not replaced, nor is a folder, a pipe, a device or a socket. Temporaries
/// left behind by a process that was killed are removed when the same file is written next.
class AtomicFile {
 public:
  /// Opens a temporary beside `path`. \throws IoError naming the file and the system's reason.
  explicit AtomicFile(const std::string& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Appends. \throws IoError, for example when the disk is full.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Forces the bytes to disk, renames, forces the folder to disk. \throws IoError; the old file is then
  /// still there.
  void commit();

  const std::string& path() const { return path_; }
  const std::string& temporary() const { return temporary_; }

 private:
  void flush();
  std::string path_, target_, temporary_, pending_;
  int fd_ = -1;
};

/// Replaces `path` by `text` in one step. \throws IoError.
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace whence
