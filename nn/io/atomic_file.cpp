#include "whence/nn/io/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "whence/nn/hash.h"
#include "whence/tensor/error.h"

namespace whence {
namespace {

constexpr size_t kPending = size_t(1) << 16;

[[noreturn]] void fail(const std::string& path, const char* doing) {
  int code = errno;
  throw IoError(path + ": cannot " + doing + ": " + std::strerror(code));
}

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_in(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// The file behind a chain of symbolic links; the path itself when it is no link. A link to nothing is
// resolved too.
std::string follow(std::string path) {
  for (int depth = 0; depth < 40; ++depth) {
    struct stat st;
    if (::lstat(path.c_str(), &st) != 0 || !S_ISLNK(st.st_mode)) return path;
    std::vector<char> to(4096);
    ssize_t n = ::readlink(path.c_str(), to.data(), to.size());
    if (n < 0) fail(path, "read the link");
    std::string next(to.data(), size_t(n));
    path = next.starts_with('/') ? next : folder_of(path) + "/" + next;
  }
  throw IoError(path + ": too many symbolic links");
}

// Machines that share a folder must not take each other's temporaries for left-overs.
std::string machine() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  const uint64_t h = fnv1a(name);
  char text[9];
  std::snprintf(text, sizeof text, "%08x", unsigned(h ^ (h >> 32)));
  return text;
}

// ".model.safetensors.1a2b3c4d.": temporaries of this target made on this machine begin so; pid and counter
// follow.
std::string stem(const std::string& target) { return "." + name_in(target) + "." + machine() + "."; }

void remove_leftovers(const std::string& target) {
  std::string folder = folder_of(target), prefix = stem(target);
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return;
  std::vector<std::string> dead;
  while (const dirent* entry = ::readdir(dir)) {
    std::string name = entry->d_name;
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    char* end = nullptr;
    long pid = std::strtol(name.c_str() + prefix.size(), &end, 10);
    if (pid > 0 && *end == '.' && ::kill(pid_t(pid), 0) != 0 && errno == ESRCH) dead.push_back(name);
  }
  ::closedir(dir);
  for (const auto& name : dead) ::unlink((folder + "/" + name).c_str());
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(follow(path)) {
  if (path.find('\0') != path.npos) throw IoError(path.substr(0, path.find('\0')) + "...: a path cannot hold a NUL");
  if (name_in(target_).empty()) throw IoError("'" + path + "' is not the name of a file");
  struct stat st;
  const bool there = ::stat(target_.c_str(), &st) == 0;
  if (there && !S_ISREG(st.st_mode))
    throw IoError(path_ + ": is a " +
                  (S_ISDIR(st.st_mode)    ? "folder"
                   : S_ISFIFO(st.st_mode) ? "pipe"
                   : S_ISSOCK(st.st_mode) ? "socket"
                                          : "device") +
                  ", only a regular file can be replaced");
  if (there && ::access(target_.c_str(), W_OK) != 0) fail(path_, "replace the file");
  remove_leftovers(target_);
  static std::atomic<unsigned> counter{0};
  do {
    temporary_ = folder_of(target_) + "/" + stem(target_) + std::to_string(::getpid()) + "." +
                 std::to_string(counter++) + ".tmp";
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail(path_, "create a temporary file beside it");
  if (there) (void)!::fchmod(fd_, st.st_mode & 07777);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  if (fd_ < 0) throw IoError(path_ + ": write after commit");
  pending_.append(static_cast<const char*>(data), bytes < kPending ? bytes : 0);
  if (bytes >= kPending || pending_.size() >= kPending) flush();
  if (bytes < kPending) return;
  for (const char* p = static_cast<const char*>(data); bytes > 0;) {
    ssize_t n = ::write(fd_, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_, "write");
    p += n;
    bytes -= size_t(n);
  }
}

void AtomicFile::flush() {
  for (size_t at = 0; at < pending_.size();) {
    ssize_t n = ::write(fd_, pending_.data() + at, pending_.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_, "write");
    at += size_t(n);
  }
  pending_.clear();
}

void AtomicFile::commit() {
  if (fd_ < 0) throw IoError(path_ + ": committed twice");
  flush();
  if (::fsync(fd_) != 0) fail(path_, "force to disk");
  int fd = fd_;
  fd_ = -1;
  bool ok = ::close(fd) == 0;
  if (!ok || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    int code = errno;
    ::unlink(temporary_.c_str());
    errno = code;
    fail(path_, ok ? "replace the file" : "close");
  }
  int dir = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) {  // some file systems cannot sync a folder; the rename has happened all the same
    ::fsync(dir);
    ::close(dir);
  }
}

void write_file_atomically(const std::string& path, std::string_view text) {
  AtomicFile out(path);
  out.write(text);
  out.commit();
}

}  // namespace whence
