#include "whence/autograd/plan/backend.h"

#include <array>

namespace whence::planner {

static std::array<Backend*, Device::kKinds>& backends() {
  static std::array<Backend*, Device::kKinds> b{};
  return b;
}

bool register_backend(Device::Kind kind, Backend& backend) {
  backends()[size_t(kind)] = &backend;
  return true;
}

Backend& backend_of(Device device) {
  Backend* b = backends()[size_t(device.kind)];
  if (!b) throw DeviceError("no kernels for device " + device.str() + " in this build");
  return *b;
}

}  // namespace whence::planner
