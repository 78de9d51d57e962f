// Where values live and kernels run.
#pragma once
#include <cstdint>
#include <string>

namespace whence {

/// A kind of device and which one of them. A value: naming a device does not ask whether it is there.
struct Device {
  enum class Kind : uint8_t { cpu, cuda, sim };  // sim: the tests' fake device (testing/sim.h)
  static constexpr int kKinds = 3;
  Kind kind = Kind::cpu;
  int index = 0;  ///< among those of its kind; 0 for the CPU
  bool operator==(const Device&) const = default;
  /// The host's own memory: pointers into it may be followed.
  bool host() const { return kind == Kind::cpu; }
  std::string str() const;  ///< "cpu", "cuda:1"
};

// Device{} is the CPU (the name `cpu` belongs to the namespace of its kernels).
/// The CUDA device of that index; using it is a DeviceError where the build has none.
inline Device cuda(int index = 0) { return {Device::Kind::cuda, index}; }

}  // namespace whence
