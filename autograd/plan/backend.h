// A device is a backend: it says which kernels and fusions it has, and loads programs. All else is neutral.
#pragma once
#include <memory>

#include "whence/autograd/plan/program.h"

namespace whence::planner {

struct Rule;  // rewrite.h

/// One run: where things lie, and what comes back.
struct RunCall {
  std::byte* const* base = nullptr;  ///< by base number: arena, leaves, outputs
  Status* status = nullptr;
  std::vector<StepTime>* times = nullptr;  ///< by step, when profiled
};

/// A program on a device. One serves one plan at a time.
class Executable {
 public:
  virtual ~Executable() = default;
  /// Runs every step and waits.
  virtual void run(const RunCall&) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// The kernel for these operands, nullptr when there is none: then the op's body takes its place.
  virtual const Kernel* native(const OpDef& op, std::span<const TensorType> in,
                               std::span<const TensorType> out) const = 0;
  /// True when fused groups may run the op.
  virtual bool fusable(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in,
                       const TensorType& out) const = 0;
  /// The backend's own rewrites, after the neutral ones.
  virtual std::span<const Rule> rules() const { return {}; }
  /// Lanes that may run at the same time; 1: none.
  virtual int lanes() const { return 1; }
  /// Microseconds of a step that takes `work` on one core, when `lanes` lanes share the device; and of a crossing.
  virtual double cost(double work, int lanes) const { return work * lanes; }
  virtual double crossing() const { return 0; }
  /// Feeds are copied to fixed slots, and results are leases on fixed slots: what a captured program needs.
  virtual bool fixed_slots() const { return true; }
  virtual std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) = 0;
};

/// Registered once by a static initialiser.
bool register_backend(Device::Kind, Backend&);
/// \throws DeviceError when this build has no such device
Backend& backend_of(Device);

}  // namespace whence::planner
