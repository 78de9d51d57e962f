// A kernel: the code that computes one op on one kind of device, and what the planner must know of that code.
#pragma once
#include <algorithm>
#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "whence/autograd/attrs.h"
#include "whence/tensor/memory.h"

namespace whence {

struct OpDef;
struct ScalarRow;

struct TensorType {
  Shape shape{};
  DType dtype = f32;
  bool operator==(const TensorType&) const = default;
  std::string str() const { return shape.str() + " " + std::string(name_of(dtype)); }
};

/// What is wrong with the data of a run. A kernel must not throw: it reports, leaves harmless values and goes on. The
/// host reads the word when it next waits (on the CPU: at the end of the run) and throws ValueError with the user's
/// line.
struct Status {
  enum Code : int32_t { fine, out_of_range };
  Code code = fine;
  uint32_t step = 0;     ///< of the program
  int32_t operand = 0;   ///< the operand that holds the value
  int64_t position = 0;  ///< flat row-major index in it
  int64_t value = 0;
  int64_t limit = 0;    ///< values lie in [0, limit)
  int32_t reports = 0;  ///< the first one is told above
  // When an op of a step's body reports (ops/scan.h): that op, and how often the body had run.
  const OpDef* inner_op = nullptr;
  const Attrs* inner_attrs = nullptr;
  int64_t iteration = 0;
  /// "[gather] index 7 at position 2 is outside [0, 5)"
  std::string message(const OpDef& op, const Attrs& attrs) const;
};

/// What a kernel sees. It allocates nothing, throws nothing and reads no data that it was not given. Inputs are
/// contiguous unless the kernel says that it takes strides; outputs are contiguous always. Where all of them are empty
/// there is no call: a kernel would walk the lanes of [2^33, 0] one by one.
struct KernelCall {
  const OpDef& op;
  std::span<const View> in;
  std::span<const View> out;
  const Attrs& attrs;
  std::byte* workspace = nullptr;  ///< KernelFacts::workspace bytes; 256-byte aligned in a plan, else 64-byte aligned
  const void* prepared = nullptr;  ///< what KernelFacts::prepare returned
  Status* status = nullptr;        ///< never null in a run
  Queue* queue = nullptr;          ///< where the work is put in order; nullptr on the CPU
  uint32_t step = 0;               ///< number of the program's step

  /// Reports that in[operand] holds `value` at `position`, outside [0, limit). The first report of a run stays.
  void out_of_range(int operand, int64_t position, int64_t value, int64_t limit) const {
    if (std::atomic_ref(status->reports).fetch_add(1) > 0) return;
    *status = {Status::out_of_range, step, operand, position, value, limit, 1};
  }
  /// No kernel of this run has reported anything so far.
  bool fine_so_far() const { return std::atomic_ref(status->reports).load() == 0; }
};

/// Neither reads nor writes an element.
inline bool empty(std::span<const View> in, std::span<const View> out) {
  auto none = [](const View& v) { return v.numel() == 0; };
  return std::ranges::all_of(in, none) && std::ranges::all_of(out, none);
}

using KernelFn = void (*)(const KernelCall&);
/// Scratch bytes of one call. Types are those the kernel sees: after the planner's casts.
using WorkspaceFn = size_t (*)(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs&);
/// Work done once, when a program is loaded: tables, plans of a library, chosen loops.
using PrepareFn = std::shared_ptr<const void> (*)(const OpDef& op, std::span<const TensorType> in,
                                                  std::span<const TensorType> out, const Attrs&);

struct KernelFacts {
  Dtypes floats = kWideFloats;  ///< floating dtypes it takes; for others the planner casts to f32 and back
  bool strided = false;         ///< takes inputs of any strides; for others the planner makes row-major copies
  bool (*layouts)(int operand, const View&) = nullptr;  ///< of a strided kernel: the layouts that it takes after all
  bool skips_unread = false;  ///< View::data of a result that nobody reads may be null: it takes no memory then
  int in_place = -1;          ///< operand that result 0 may overwrite, when types agree and nobody else reads it
  WorkspaceFn workspace = nullptr;
  PrepareFn prepare = nullptr;

  /// Does it take this layout (View::data is not looked at)?
  bool takes(int operand, const View& v) const {
    return v.contiguous() || (strided && (!layouts || layouts(operand, v)));
  }
};

/// `.cpu = f`, or `.cpu = {f, {.strided = true}}`.
struct Kernel : KernelFacts {
  KernelFn run = nullptr;
  constexpr Kernel() = default;
  template <class F>
  requires std::is_convertible_v<F, KernelFn>
  constexpr Kernel(F f, const KernelFacts& facts = {}) : KernelFacts(facts), run(f) {}
  constexpr explicit operator bool() const { return run != nullptr; }
};

/// Adds the kernel of an op for a kind of device; for kernels that do not stand in the op's literal.
bool register_kernel(Device::Kind kind, const char* op, const Kernel& kernel);
/// Tells how a kind of device runs elementwise ops that have no kernel of their own (OpDef::scalar).
bool register_scalar_kernel(Device::Kind kind, const Kernel* (*of)(const ScalarRow&));
/// The op's kernel for that kind of device, nullptr when it has none.
const Kernel* kernel_of(const OpDef& op, Device::Kind kind);

/// What REGISTER_KERNEL assigns a kernel to.
struct KernelEntry {
  Device::Kind kind;
  const char* op;
  bool operator=(const Kernel& kernel) const { return register_kernel(kind, op, kernel); }
};
/// REGISTER_KERNEL(cpu, softmax) = {softmax_kernel, {.in_place = 0}};
#define REGISTER_KERNEL(KIND, OP) \
  [[maybe_unused]] static const bool KIND##_##OP = ::whence::KernelEntry { ::whence::Device::Kind::KIND, #OP }

}  // namespace whence
