// PKWARE's APPNOTE 6.3: local headers and data, then the central directory, then its end record.
#include "whence/nn/io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "whence/tensor/error.h"

namespace whence {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20;
constexpr uint16_t kZip64Field = 1, kUtf8Name = 1 << 11;
constexpr uint64_t kMost32 = 0xffffffffu, kMost16 = 0xffffu;

// Little-endian numbers at checked places.
class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, const std::string& archive) : bytes_(bytes), archive_(archive) {}
  [[noreturn]] void refuse(const std::string& why) const {
    throw IoError(archive_ + ": not a valid zip archive: " + why);
  }
  std::span<const std::byte> part(uint64_t at, uint64_t n, const char* what) const {
    if (at > bytes_.size() || n > bytes_.size() - at) refuse(std::string("cut off within ") + what);
    return bytes_.subspan(size_t(at), size_t(n));
  }
  template <class T> T number(uint64_t at, const char* what) const {
    T v;
    std::memcpy(&v, part(at, sizeof v, what).data(), sizeof v);
    return v;
  }
  uint64_t size() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  const std::string& archive_;
};

struct Directory {
  uint64_t at, size, members;
};

Directory directory_of(const Bytes& bytes) {
  const char* what = "the end record";
  if (bytes.size() < kEndSize) bytes.refuse("it has " + std::to_string(bytes.size()) + " bytes");
  uint64_t end = bytes.size() - kEndSize;  // a comment of up to 64 KiB may follow the record
  uint64_t least = end > kMost16 ? end - kMost16 : 0;
  while (bytes.number<uint32_t>(end, what) != kEnd ||
         bytes.number<uint16_t>(end + 20, what) != bytes.size() - end - kEndSize)
    if (end-- == least) bytes.refuse("it has no end record");
  Directory d{bytes.number<uint32_t>(end + 16, what), bytes.number<uint32_t>(end + 12, what),
              bytes.number<uint16_t>(end + 10, what)};
  bool split = bytes.number<uint16_t>(end + 4, what) || bytes.number<uint16_t>(end + 8, what) != d.members;
  if (end >= kLocatorSize && bytes.number<uint32_t>(end - kLocatorSize, what) == kLocator64) {
    uint64_t at = bytes.number<uint64_t>(end - kLocatorSize + 8, what);
    if (bytes.number<uint32_t>(at, "the Zip64 end record") != kEnd64)
      bytes.refuse("its Zip64 end record is not where it should be");
    bytes.part(at, kEnd64Size, "the Zip64 end record");
    split = bytes.number<uint32_t>(at + 16, what) ||
            bytes.number<uint64_t>(at + 24, what) != bytes.number<uint64_t>(at + 32, what);
    d = {bytes.number<uint64_t>(at + 48, what), bytes.number<uint64_t>(at + 40, what),
         bytes.number<uint64_t>(at + 32, what)};
  }
  if (split) bytes.refuse("it is one of several files");
  bytes.part(d.at, d.size, "its directory");
  return d;
}

}  // namespace

std::vector<ZipMember> zip_members(std::span<const std::byte> all, const std::string& archive) {
  Bytes bytes(all, archive);
  Directory d = directory_of(bytes);
  std::vector<ZipMember> out;
  uint64_t at = d.at;
  for (uint64_t i = 0; i < d.members; ++i) {
    const char* what = "its directory";
    if (bytes.number<uint32_t>(at, what) != kCentral)
      bytes.refuse("entry " + std::to_string(i) + " of its directory is none");
    bytes.part(at, kCentralSize, what);
    uint16_t flags = bytes.number<uint16_t>(at + 8, what), method = bytes.number<uint16_t>(at + 10, what);
    uint64_t stored = bytes.number<uint32_t>(at + 20, what), size = bytes.number<uint32_t>(at + 24, what),
             local = bytes.number<uint32_t>(at + 42, what);
    uint16_t name_size = bytes.number<uint16_t>(at + 28, what), extra_size = bytes.number<uint16_t>(at + 30, what),
             comment_size = bytes.number<uint16_t>(at + 32, what);
    auto name_bytes = bytes.part(at + kCentralSize, name_size, what);
    std::string name(reinterpret_cast<const char*>(name_bytes.data()), name_size);
    for (char& c : name) c = uint8_t(c) < 0x20 ? '?' : c;
    uint64_t extra = at + kCentralSize + name_size, extra_end = extra + extra_size;
    bytes.part(extra, extra_size, what);
    while (extra + 4 <= extra_end) {
      uint16_t id = bytes.number<uint16_t>(extra, what), n = bytes.number<uint16_t>(extra + 2, what);
      uint64_t field = extra + 4, field_end = field + n;
      if (field_end > extra_end) bytes.refuse("member '" + name + "': a field of its entry is cut off");
      for (uint64_t* value : {&size, &stored, &local}) {  // those that did not fit, in this order
        if (id != kZip64Field || *value != kMost32) continue;
        if (field + 8 > field_end) bytes.refuse("member '" + name + "': its Zip64 field is cut off");
        *value = bytes.number<uint64_t>(field, what);
        field += 8;
      }
      extra = field_end;
    }
    if (flags & 1) bytes.refuse("member '" + name + "' is encrypted");
    if (method != 0 && method != 8)
      bytes.refuse("member '" + name + "' is packed by method " + std::to_string(method) +
                   "; 0 (stored) and 8 (deflated) are read");
    if (bytes.number<uint32_t>(local, "a member's header") != kLocal)
      bytes.refuse("member '" + name + "' is not where the directory says");
    bytes.part(local, kLocalSize, "a member's header");
    uint64_t data =
        local + kLocalSize + bytes.number<uint16_t>(local + 26, what) + bytes.number<uint16_t>(local + 28, what);
    ZipMember& m = out.emplace_back();
    m.stored = bytes.part(data, stored, "a member's data");
    m.name = name;
    m.size = size;
    m.crc = bytes.number<uint32_t>(at + 16, what);
    m.deflated = method == 8;
    at += kCentralSize + name_size + extra_size + comment_size;
  }
  return out;
}

std::vector<std::byte> unzipped(const ZipMember& member, const std::string& archive) {
  auto refuse = [&](const std::string& why) {
    throw IoError(archive + ": not a valid zip archive: member '" + member.name + "' " + why);
  };
  std::vector<std::byte> out;
  if (!member.deflated) {
    if (member.stored.size() != member.size) refuse("is stored, but its two sizes differ");
    out.assign(member.stored.begin(), member.stored.end());
  } else {
    if (member.size / 1033 > member.stored.size())
      refuse("cannot be that large when unpacked");  // deflate's best ratio
    out.resize(size_t(member.size));
    z_stream z{};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) throw OutOfMemory(archive + ": zlib could not begin to unpack");
    size_t taken = 0, made = 0;
    int state = Z_OK;
    while (state == Z_OK) {
      uInt in = uInt(std::min<size_t>(member.stored.size() - taken, 1 << 30)),
           room = uInt(std::min<size_t>(out.size() - made, 1 << 30));
      z.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(member.stored.data() + taken));
      z.next_out = reinterpret_cast<Bytef*>(out.data() + made);
      z.avail_in = in;
      z.avail_out = room;
      state = inflate(&z, Z_NO_FLUSH);
      taken += in - z.avail_in;
      made += room - z.avail_out;
      if (state == Z_OK && in == z.avail_in && room == z.avail_out) state = Z_BUF_ERROR;
    }
    inflateEnd(&z);
    if (state != Z_STREAM_END) refuse("is damaged");
    if (made != member.size || taken != member.stored.size()) refuse("has another size than the directory says");
  }
  uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(out.data()), out.size());
  if (crc != member.crc) refuse("has another checksum than the directory says");
  return out;
}

// ---- writing --------------------------------------------------------------------------------------------------------
namespace {

template <class T> void append(std::string& to, T v) { to.append(reinterpret_cast<const char*>(&v), sizeof v); }

std::string deflated(std::span<const std::span<const std::byte>> parts) {
  z_stream z{};
  if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw OutOfMemory("zip: zlib could not begin to pack");
  std::string out;
  char buffer[1 << 16];
  auto pump = [&](int flush) {
    do {
      z.next_out = reinterpret_cast<Bytef*>(buffer);
      z.avail_out = sizeof buffer;
      deflate(&z, flush);
      out.append(buffer, sizeof buffer - z.avail_out);
    } while (z.avail_out == 0);
  };
  for (std::span<const std::byte> part : parts)
    for (size_t at = 0; at < part.size();) {
      const uInt n = uInt(std::min<size_t>(part.size() - at, 1 << 30));  // zlib counts in 32 bits
      z.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(part.data() + at));
      z.avail_in = n;
      pump(Z_NO_FLUSH);
      at += n;
    }
  z.avail_in = 0;
  pump(Z_FINISH);
  deflateEnd(&z);
  return out;
}

}  // namespace

void ZipWriter::put(std::string_view bytes) {
  write_(bytes.data(), bytes.size());
  at_ += bytes.size();
}

void ZipWriter::add(const std::string& name, std::span<const std::span<const std::byte>> parts, bool deflate) {
  if (name.size() > kMost16) throw ValueError("zip: a member's name has at most 65,535 bytes");
  uLong crc = 0;
  uint64_t size = 0;
  for (auto part : parts) {
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(part.data()), part.size());
    size += part.size();
  }
  std::string packed = deflate ? deflated(parts) : std::string();
  Entry e{name, at_, size, deflate ? packed.size() : size, uint32_t(crc), uint16_t(deflate ? 8 : 0)};
  bool large = e.size >= limit_ || e.stored >= limit_;
  std::string head;
  append(head, kLocal);
  append(head, uint16_t(large ? 45 : 20));  // the version that reads it
  append(head, kUtf8Name);
  append(head, e.method);
  append(head, uint32_t(0x00210000));  // 1980-01-01 00:00
  append(head, e.crc);
  append(head, uint32_t(large ? kMost32 : e.stored));
  append(head, uint32_t(large ? kMost32 : e.size));
  append(head, uint16_t(name.size()));
  append(head, uint16_t(large ? 20 : 0));
  head += name;
  if (large) {
    append(head, kZip64Field);
    append(head, uint16_t(16));
    append(head, e.size);
    append(head, e.stored);
  }
  put(head);
  if (deflate) put(packed);
  else
    for (auto part : parts) put({reinterpret_cast<const char*>(part.data()), part.size()});
  entries_.push_back(std::move(e));
}

void ZipWriter::finish() {
  const uint64_t begin = at_;
  for (const Entry& e : entries_) {
    std::string extra;
    for (uint64_t value : {e.size, e.stored, e.at})
      if (value >= limit_) append(extra, value);
    auto clipped = [&](uint64_t value) { return uint32_t(value >= limit_ ? kMost32 : value); };
    std::string head;
    append(head, kCentral);
    append(head, uint16_t(45));
    append(head, uint16_t(extra.empty() ? 20 : 45));
    append(head, kUtf8Name);
    append(head, e.method);
    append(head, uint32_t(0x00210000));
    append(head, e.crc);
    append(head, clipped(e.stored));
    append(head, clipped(e.size));
    append(head, uint16_t(e.name.size()));
    append(head, uint16_t(extra.empty() ? 0 : extra.size() + 4));
    head.append(10, '\0');  // comment, disk, attributes
    append(head, clipped(e.at));
    head += e.name;
    if (!extra.empty()) {
      append(head, kZip64Field);
      append(head, uint16_t(extra.size()));
      head += extra;
    }
    put(head);
  }
  const uint64_t size = at_ - begin, members = entries_.size();
  const bool large = begin >= limit_ || size >= limit_ || members >= kMost16;
  std::string end;
  if (large) {
    append(end, kEnd64);
    append(end, uint64_t(kEnd64Size - 12));
    append(end, uint16_t(45));
    append(end, uint16_t(45));
    append(end, uint64_t(0));  // disks
    append(end, members);
    append(end, members);
    append(end, size);
    append(end, begin);
    append(end, kLocator64);
    append(end, uint32_t(0));
    append(end, at_);
    append(end, uint32_t(1));
  }
  append(end, kEnd);
  append(end, uint32_t(0));
  append(end, uint16_t(std::min(members, kMost16)));
  append(end, uint16_t(std::min(members, kMost16)));
  append(end, uint32_t(large ? kMost32 : size));
  append(end, uint32_t(large ? kMost32 : begin));
  append(end, uint16_t(0));
  put(end);
}

}  // namespace whence
