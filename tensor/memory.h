// Memory of devices: a MemorySpace allocates and copies it, a Queue puts work in order, a Buffer owns a piece.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

#include "whence/tensor/device.h"
#include "whence/tensor/error.h"
#include "whence/tensor/view.h"

namespace whence {

/// An ordered line of work on a device (a CUDA stream). Work of two queues is ordered by marks only.
class Queue {
 public:
  virtual ~Queue() = default;
  /// A point in this queue, after everything put in so far.
  virtual uint64_t mark() = 0;
  /// What is put in here from now on runs after mark `at` of `other`.
  virtual void wait(Queue& other, uint64_t at) = 0;
  /// Blocks until everything put in has run. \throws what the device reports
  virtual void synchronize() = 0;
};

/// The memory of one kind of device. Registered once by a static initialiser.
class MemorySpace {
 public:
  virtual ~MemorySpace() = default;
  /// At least 64-byte aligned, not initialised; 0 bytes have an address too. \throws OutOfMemory
  virtual void* allocate(size_t bytes, Device) = 0;
  virtual void free(void*, size_t bytes, Device) noexcept = 0;
  /// Copies bytes between places of this space, or between one and the host. Without a queue: done on return.
  virtual void copy(void* dst, Device to, const void* src, Device from, size_t bytes, Queue* queue) = 0;
  /// dst = src for any strides and dtypes, both on one device of this space. Done on return.
  virtual void copy(const View& src, const View& dst, Device) = 0;
  virtual std::unique_ptr<Queue> queue(Device) = 0;  ///< a new one; nullptr: work runs when it is given
};
void register_memory(Device::Kind, MemorySpace&);
/// \throws DeviceError when this build has no such device
MemorySpace& memory_of(Device);

/// \throws OutOfMemory, also where there is none for its text.
[[noreturn]] void out_of_memory(const char* doing);

/// f(); requests for memory that fail inside are told as OutOfMemory, `doing` being what was tried.
template <class F> decltype(auto) or_out_of_memory(const char* doing, F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {}
  out_of_memory(doing);
}

/// Owned bytes on a device, 64-byte aligned, zero-filled never (callers write).
class Buffer {
 public:
  /// \throws OutOfMemory, DeviceError
  static std::shared_ptr<Buffer> allocate(size_t bytes, Device device = {});
  /// Borrowed host memory that `keep` keeps alive (a memory-mapped file, an arena).
  static std::shared_ptr<Buffer> borrow(void* data, size_t bytes, std::shared_ptr<const void> keep, Device device = {});
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Moves the content to fresh memory and leaves the old place to the caller's other uses: how a result that is still
  /// held makes room when its plan runs again. The buffer must be borrowed.
  void move_out();

 private:
  Buffer() = default;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  Device device_{};
  bool owned_ = true;
  std::shared_ptr<const void> keep_;
};

}  // namespace whence
