// Where values live and kernels run.
#pragma once
#include <string>

namespace whence {

struct Device {
  enum class Kind { cpu, cuda } kind = Kind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
  std::string str() const { return kind == Kind::cpu ? "cpu" : "cuda:" + std::to_string(index); }
};

// Device{} is the CPU (the name `cpu` belongs to the namespace of its kernels).
inline Device cuda(int index = 0) { return {Device::Kind::cuda, index}; }

}  // namespace whence
