#include "whence/nn/checkpoint.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace whence {
namespace {

constexpr const char* kChecksum = "whence.crc32";
constexpr std::string_view kEnding = ".safetensors";

uint32_t checksum(std::span<const std::byte> data, uint32_t start) {
  return uint32_t(crc32_z(start, reinterpret_cast<const Bytef*>(data.data()), data.size()));
}

std::string hex(uint32_t v) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", v);
  return text;
}

}  // namespace

void save_checkpoint(const std::string& path, const TensorMap& tensors, const Metadata& metadata) {
  // The data section lies in this order (see save_safetensors); a tensor of any layout counts as its
  // row-major bytes.
  uint32_t crc = 0;
  TensorMap rows;
  for (const auto& [name, t] : tensors) rows.emplace(name, t.defined() ? t.to(Device{}).contiguous_tensor() : t);
  std::vector<const TensorMap::value_type*> order;
  for (const auto& item : rows) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(),
                   [](auto* a, auto* b) { return size_of(a->second.dtype()) > size_of(b->second.dtype()); });
  for (auto* item : order)
    if (item->second.defined())
      crc = checksum({static_cast<const std::byte*>(item->second.raw()), item->second.nbytes()}, crc);
  Metadata all = metadata;
  all[kChecksum] = hex(crc);
  save_safetensors(path, rows, all);
}

Checkpoint load_checkpoint(const std::string& path) {
  auto file = Safetensors::read(path);
  Checkpoint c{file.tensors(), file.metadata(), file.left_out()};
  auto stored = c.metadata.find(kChecksum);
  if (stored != c.metadata.end()) {
    std::string now = hex(checksum(file.data(), 0));
    if (now != stored->second)
      throw IoError(path + ": damaged: the data have checksum " + now + ", written was " + stored->second);
    c.metadata.erase(stored);
  }
  return c;
}

CheckpointFolder::CheckpointFolder(std::string folder, int keep, std::string prefix)
    : folder_(std::move(folder)), prefix_(std::move(prefix)), keep_(keep) {
  if (prefix_.empty() || prefix_.find('/') != std::string::npos)
    throw ValueError("CheckpointFolder: '" + prefix_ + "' cannot begin a file name");
  if (keep_ < 0) throw ValueError("CheckpointFolder: keep must not be negative");
  while (folder_.size() > 1 && folder_.back() == '/') folder_.pop_back();
  for (size_t at = folder_.find('/', 1);; at = folder_.find('/', at + 1)) {
    std::string part = folder_.substr(0, at);
    if (::mkdir(part.c_str(), 0777) != 0 && errno != EEXIST)
      throw IoError(part + ": cannot create the folder: " + std::strerror(errno));
    if (at == std::string::npos) break;
  }
  struct stat st;
  if (::stat(folder_.c_str(), &st) != 0 || !S_ISDIR(st.st_mode))
    throw IoError(folder_ + ": cannot create the folder: a file of that name is there");
}

std::string CheckpointFolder::path_of(int64_t step) const {
  std::string digits = std::to_string(step);
  return folder_ + "/" + prefix_ + "-" + std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') + digits +
         std::string(kEnding);
}

std::vector<CheckpointFolder::Found> CheckpointFolder::list() const {
  std::vector<Found> out;
  DIR* dir = ::opendir(folder_.c_str());
  if (!dir) throw IoError(folder_ + ": cannot list the folder: " + std::strerror(errno));
  while (const dirent* entry = ::readdir(dir)) {
    std::string_view name = entry->d_name;
    if (!name.starts_with(prefix_ + "-") || !name.ends_with(kEnding)) continue;
    std::string_view digits = name.substr(prefix_.size() + 1, name.size() - prefix_.size() - 1 - kEnding.size());
    int64_t step = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || step < 0) continue;
    out.push_back({step, folder_ + "/" + std::string(name)});
  }
  ::closedir(dir);
  std::sort(out.begin(), out.end(), [](const Found& a, const Found& b) { return a.step < b.step; });
  return out;
}

std::string CheckpointFolder::save(int64_t step, const TensorMap& tensors, const Metadata& metadata) const {
  if (step < 0) throw ValueError("CheckpointFolder: the step must not be negative");
  std::string path = path_of(step);
  save_checkpoint(path, tensors, metadata);
  auto all = list();
  int64_t older = 0;
  for (const auto& f : all) older += f.step <= step;
  for (const auto& f : all)  // oldest first
    if (keep_ > 0 && f.step < step && older-- > keep_) ::unlink(f.path.c_str());
  return path;
}

std::optional<CheckpointFolder::Found> CheckpointFolder::latest(std::vector<std::string>* skipped) const {
  auto all = list();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    try {
      load_checkpoint(it->path);
      return *it;
    } catch (const Error& e) {
      if (skipped) skipped->push_back(e.what());
    }
  }
  return std::nullopt;
}

}  // namespace whence
