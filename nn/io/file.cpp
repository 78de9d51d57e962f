#include "whence/nn/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "whence/tensor/error.h"

namespace whence {
namespace {

constexpr size_t kChunk = size_t(1) << 16;

[[noreturn]] void fail(const std::string& path, const char* doing) {
  int code = errno;
  throw IoError(path + ": cannot " + doing + ": " + std::strerror(code));
}

int open_file(const std::string& path, struct stat* st, int flags = 0) {
  if (path.find('\0') != path.npos) throw IoError(path.substr(0, path.find('\0')) + "...: a path cannot hold a NUL");
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (fd < 0) fail(path, "open");
  if (::fstat(fd, st) != 0) {
    int code = errno;
    ::close(fd);
    errno = code;
    fail(path, "look at");
  }
  if (S_ISDIR(st->st_mode)) {
    ::close(fd);
    throw IoError(path + ": is a folder, not a file");
  }
  return fd;
}

int open_regular(const std::string& path, struct stat* st) {
  int fd = open_file(path, st, O_NONBLOCK);  // a pipe is refused, not waited for
  if (S_ISREG(st->st_mode)) return fd;
  ::close(fd);
  throw IoError(path + ": is no regular file, which is what can be mapped or read at once");
}

}  // namespace

// ---- MappedFile -------------------------------------------------------------------------------------------------

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  struct stat st;
  int fd = open_regular(path, &st);
  auto file = std::shared_ptr<MappedFile>(new MappedFile);
  file->size_ = size_t(st.st_size);
  if (file->size_ > 0) {
    void* p = ::mmap(nullptr, file->size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    int code = errno;
    ::close(fd);
    errno = code;
    if (p == MAP_FAILED) fail(path, "map into memory");
    file->data_ = static_cast<std::byte*>(p);
  } else {
    ::close(fd);
  }
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

// ---- ByteSource -------------------------------------------------------------------------------------------------

struct ByteSource::Impl {
  std::string name;
  int fd = -1;
  std::span<const std::byte> memory;   // what is left of it
  std::vector<std::byte> raw, plain;   // compressed input, and what get() reads from
  std::span<const std::byte> pending;  // of raw (or memory): read but not yet given out
  bool started = false, gzip = false, ended = false, member_open = false;
  z_stream z{};

  ~Impl() {
    if (gzip) inflateEnd(&z);
    if (fd >= 0) ::close(fd);
  }

  // More bytes as they are stored; empty at the end.
  std::span<const std::byte> stored() {
    if (fd < 0) {
      auto all = memory;
      memory = {};
      return all;
    }
    if (raw.empty()) raw.resize(kChunk);
    ssize_t n;
    do n = ::read(fd, raw.data(), raw.size());
    while (n < 0 && errno == EINTR);
    if (n < 0) fail(name, "read");
    return {raw.data(), size_t(n)};
  }

  void start() {
    started = true;
    pending = stored();
    if (pending.size() == 1 && fd >= 0) {  // a pipe may give one byte; two are needed to know gzip
      std::byte first = pending[0];
      auto more = stored();
      std::vector<std::byte> both{first};
      both.insert(both.end(), more.begin(), more.end());
      raw = std::move(both);
      pending = raw;
    }
    gzip = pending.size() >= 2 && pending[0] == std::byte{0x1f} && pending[1] == std::byte{0x8b};
    if (gzip && inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
      gzip = false;
      throw IoError(name + ": zlib cannot start");
    }
    member_open = gzip;
  }

  // The next run of plain bytes, empty at the end.
  std::span<const std::byte> next() {
    if (!started) start();
    if (ended) return {};
    if (!gzip) {
      auto out = pending.empty() ? stored() : pending;
      pending = {};
      ended = out.empty();
      return out;
    }
    plain.resize(kChunk);
    size_t have = 0;
    while (have == 0) {
      if (pending.empty()) pending = stored();
      if (pending.empty()) {
        if (member_open) throw IoError(name + ": the gzip stream is cut off");
        ended = true;
        return {};
      }
      if (!member_open) {
        // After a member: another one, or padding zeros, which gunzip ignores too.
        while (!pending.empty() && pending[0] == std::byte{0}) pending = pending.subspan(1);
        if (pending.empty()) continue;
        inflateReset(&z);
        member_open = true;
      }
      z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(pending.data()));
      z.avail_in = uInt(std::min<size_t>(pending.size(), size_t(1) << 30));
      z.next_out = reinterpret_cast<Bytef*>(plain.data());
      z.avail_out = uInt(plain.size());
      uInt given = z.avail_in;
      int rc = inflate(&z, Z_NO_FLUSH);
      pending = pending.subspan(given - z.avail_in);
      have = plain.size() - z.avail_out;
      if (rc == Z_STREAM_END) member_open = false;
      else if (rc != Z_OK && rc != Z_BUF_ERROR)
        throw IoError(name + ": the gzip stream is damaged near byte " + std::to_string(z.total_out) +
                      " of its content: " + (z.msg ? z.msg : "zlib error " + std::to_string(rc)));
    }
    return {plain.data(), have};
  }
};

ByteSource::ByteSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource& ByteSource::operator=(ByteSource&&) noexcept = default;
ByteSource::~ByteSource() = default;
const std::string& ByteSource::name() const { return impl_->name; }

ByteSource ByteSource::file(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  struct stat st;
  impl->fd = open_file(path, &st);
  impl->name = path;
  return ByteSource(std::move(impl));
}

ByteSource ByteSource::memory(std::span<const std::byte> bytes, std::string name) {
  auto impl = std::make_unique<Impl>();
  impl->memory = bytes;
  impl->name = std::move(name);
  return ByteSource(std::move(impl));
}

bool ByteSource::refill() {
  auto run = impl_->next();
  at_ = run.data();
  end_ = run.data() + run.size();
  return !run.empty();
}

size_t ByteSource::read(std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    if (at_ == end_ && !refill()) break;
    size_t n = std::min(size_t(end_ - at_), out.size() - done);
    std::memcpy(out.data() + done, at_, n);
    at_ += n;
    done += n;
  }
  return done;
}

std::string ByteSource::rest(size_t limit) {
  std::string all;
  while (at_ != end_ || refill()) {
    if (size_t(end_ - at_) > limit - all.size())
      throw IoError(name() + ": holds more than " + std::to_string(limit) + " bytes");
    all.append(reinterpret_cast<const char*>(at_), size_t(end_ - at_));
    at_ = end_;
  }
  return all;
}

// ---- LineReader -------------------------------------------------------------------------------------------------

bool LineReader::next(std::string& line) {
  line.clear();
  if (source_.peek() < 0) return false;
  ++line_;
  while (source_.at_ != source_.end_ || source_.refill()) {
    const std::byte* nl =
        static_cast<const std::byte*>(std::memchr(source_.at_, '\n', size_t(source_.end_ - source_.at_)));
    const std::byte* stop = nl ? nl : source_.end_;
    line.append(reinterpret_cast<const char*>(source_.at_), size_t(stop - source_.at_));
    source_.at_ = nl ? nl + 1 : stop;
    if (nl) break;
  }
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

std::string read_text(const std::string& path) { return ByteSource::file(path).rest(); }

Tensor read_bytes(const std::string& path) {
  struct stat st;
  int fd = open_regular(path, &st);
  std::shared_ptr<void> closed(nullptr, [fd](void*) { ::close(fd); });
  Tensor bytes = Tensor::empty({int64_t(st.st_size)}, u8);
  for (size_t at = 0; at < bytes.nbytes();) {
    ssize_t n = ::read(fd, bytes.data<uint8_t>() + at, bytes.nbytes() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "read");
    if (n == 0) throw IoError(path + ": ends after " + std::to_string(at) + " bytes: another program has cut it off");
    at += size_t(n);
  }
  return bytes;
}

}  // namespace whence
