// Zip archives, as far as NPZ needs them: members stored or deflated, Zip64 for what is large.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace whence {

struct ZipMember {
  std::string name;
  std::span<const std::byte> stored;  ///< its bytes in the archive
  uint64_t size = 0;                  ///< bytes when unpacked
  uint32_t crc = 0;                   ///< of the unpacked bytes
  bool deflated = false;
};

/// The members of an archive in memory, from its directory. \throws IoError naming `archive` and the reason for what is
/// cut off or damaged, encrypted, split over several files, or packed by another method
std::vector<ZipMember> zip_members(std::span<const std::byte> bytes, const std::string& archive);

/// Unpacks a member and checks its sum. \throws IoError
std::vector<std::byte> unzipped(const ZipMember& member, const std::string& archive);

/// Writes an archive from front to end. Nothing in it depends on time or machine.
class ZipWriter {
 public:
  using Write = std::function<void(const void* data, size_t bytes)>;
  /// Sizes and offsets of `limit` and more take the fields of Zip64.
  explicit ZipWriter(Write write, uint64_t limit = 0xffffffffu) : write_(std::move(write)), limit_(limit) {}
  /// The parts one after the other. \throws ValueError for a name of more than 65,535 bytes
  void add(const std::string& name, std::span<const std::span<const std::byte>> parts, bool deflate);
  void finish();  ///< the directory

 private:
  struct Entry {
    std::string name;
    uint64_t at, size, stored;
    uint32_t crc;
    uint16_t method;
  };
  void put(std::string_view bytes);
  Write write_;
  uint64_t limit_, at_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace whence
