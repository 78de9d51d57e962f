#include "whence/tensor/memory.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace whence {

void out_of_memory(const char* doing) {
  static const std::exception_ptr plain = std::make_exception_ptr(OutOfMemory("memory is not to be had"));
  try {
    throw OutOfMemory(std::string(doing) + ": memory is not to be had");
  } catch (const std::bad_alloc&) {}
  std::rethrow_exception(plain);
}
// Made while there is memory.
[[maybe_unused]] static const bool made = [] {
  try {
    out_of_memory("start");
  } catch (const OutOfMemory&) {}
  return true;
}();

std::string Device::str() const {
  static constexpr const char* names[kKinds] = {"cpu", "cuda", "sim"};
  std::string name = names[size_t(kind)];
  return host() ? name : name + ":" + std::to_string(index);
}

namespace {

class HostMemory : public MemorySpace {
 public:
  void* allocate(size_t bytes, Device) override {
    size_t padded = (bytes + kAlign - 1) / kAlign * kAlign;
    void* p = padded < bytes ? nullptr : std::aligned_alloc(kAlign, padded ? padded : kAlign);
    if (!p) throw OutOfMemory("memory of " + std::to_string(bytes) + " bytes is not to be had");
    return p;
  }
  void free(void* p, size_t, Device) noexcept override { std::free(p); }
  void copy(void* dst, Device, const void* src, Device, size_t bytes, Queue*) override { std::memcpy(dst, src, bytes); }
  void copy(const View& src, const View& dst, Device) override { whence::copy(src, dst); }
  std::unique_ptr<Queue> queue(Device) override { return nullptr; }  // work runs when it is given

 private:
  static constexpr size_t kAlign = 64;
};

std::array<MemorySpace*, Device::kKinds>& spaces() {
  static HostMemory host;
  static std::array<MemorySpace*, Device::kKinds> s{&host};
  return s;
}

}  // namespace

void register_memory(Device::Kind kind, MemorySpace& space) { spaces()[size_t(kind)] = &space; }

MemorySpace& memory_of(Device device) {
  MemorySpace* space = spaces()[size_t(device.kind)];
  if (!space) throw DeviceError("there is no device " + device.str() + " in this build");
  return *space;
}

std::shared_ptr<Buffer> Buffer::allocate(size_t bytes, Device device) {
  auto b = std::shared_ptr<Buffer>(new Buffer);
  b->data_ = static_cast<std::byte*>(memory_of(device).allocate(bytes, device));
  b->bytes_ = bytes;
  b->device_ = device;
  return b;
}

std::shared_ptr<Buffer> Buffer::borrow(void* data, size_t bytes, std::shared_ptr<const void> keep, Device device) {
  auto b = std::shared_ptr<Buffer>(new Buffer);
  b->data_ = static_cast<std::byte*>(data);
  b->bytes_ = bytes;
  b->device_ = device;
  b->owned_ = false;
  b->keep_ = std::move(keep);
  return b;
}

void Buffer::move_out() {
  MemorySpace& space = memory_of(device_);
  auto* fresh = static_cast<std::byte*>(space.allocate(bytes_, device_));
  space.copy(fresh, device_, data_, device_, bytes_, nullptr);
  data_ = fresh;
  owned_ = true;
  keep_ = nullptr;
}

Buffer::~Buffer() {
  if (owned_ && data_) memory_of(device_).free(data_, bytes_, device_);
}

}  // namespace whence
