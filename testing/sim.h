// A device made of host memory, to test every seam that a real device needs: memory that can only be touched inside a
// launch, three queues whose work runs as late and as crossed as their order allows, f32 and bf16 (f64 for single
// numbers). The kernels are the CPU's. Who reads device memory from the host dies with the name of the device.
#pragma once
#include "whence/tensor/device.h"

namespace whence::sim {

/// The device; the first call registers it.
Device device();
/// Launches so far, and how often work of one queue waited for another's.
struct Counts {
  long launches = 0, waits = 0, allocations = 0;
};
Counts counts();

}  // namespace whence::sim
