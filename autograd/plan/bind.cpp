// Binds feeds, states and results to a program, for any device. Nothing here looks anything up by name beyond the
// feeds, and from the second run on nothing is allocated but results that the caller still holds.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "whence/autograd/plan/run.h"

namespace whence::planner {

namespace {

[[noreturn]] void unknown_feed(const Program& p, std::string_view name) {
  std::string text = fmt::format("'{}' was fed, but no input has that name; inputs are:", name);
  for (Id l : p.inputs) text += fmt::format(" '{}' {}", p.leaves[l].name, p.leaves[l].type.str());
  throw ValueError(text);
}

// Fed memory that a state is assigned to would change while it is read.
bool overwritten(const Program& p, const Instance& x, const Tensor& fed) {
  auto begin = static_cast<std::byte*>(fed.raw()), end = begin + fed.nbytes();
  for (const OutputSlot& o : p.outputs) {
    if (o.state == kNone) continue;
    std::byte* at = x.base[o.base];
    if (begin < at + o.type.shape.numel() * int64_t(size_of(o.type.dtype)) && at < end) return true;
  }
  return false;
}

void bind_feeds(const Program& p, Instance& x, const Feeds& feeds, std::span<const std::string> ignored) {
  const size_t n = p.inputs.size();
  const bool fixed = p.backend->fixed_slots();
  size_t next = 0, bound = 0;
  for (auto& [name, tensor] : feeds) {
    // Feeds usually come in the order of the inputs.
    size_t tried = 0;
    for (; tried < n && p.leaves[p.inputs[next]].name != name; ++tried) next = next + 1 == n ? 0 : next + 1;
    if (tried == n) {
      auto scalar = [&](Id l) { return p.leaves[l].name == name; };
      if (std::find(ignored.begin(), ignored.end(), name) == ignored.end() &&
          std::none_of(p.scalars.begin(), p.scalars.end(), scalar))
        unknown_feed(p, name);
      continue;
    }
    const Id l = p.inputs[next];
    check_feed(p.leaves[l], tensor);
    if (!fixed && tensor.contiguous() && tensor.device() == p.options.device && !overwritten(p, x, tensor)) {
      x.base[1 + l] = static_cast<std::byte*>(tensor.raw());
    } else {
      x.slots.resize(n);
      Tensor& slot = x.slots[next];
      if (!slot.defined()) slot = Tensor::empty(tensor.shape(), tensor.dtype(), p.options.device);
      slot.copy_from(tensor);
      x.base[1 + l] = static_cast<std::byte*>(slot.raw());
    }
    if (p.options.keep) {
      x.inputs.resize(n);
      x.inputs[next] = tensor;
    }
    bound += x.fed[next] != x.runs;
    x.fed[next] = x.runs;
  }
  if (bound == n) return;
  for (size_t i = 0; i < n; ++i)
    if (x.fed[i] != x.runs)
      throw ValueError(
          fmt::format("input '{}' {} was not fed", p.leaves[p.inputs[i]].name, p.leaves[p.inputs[i]].type.str()));
}

void bind_scalars(const Program& p, Instance& x, const RunOptions& o) {
  for (size_t i = 0; i < p.scalars.size(); ++i) write_scalar(p.leaves[p.scalars[i]], o, &x.scalars[i]);
  if (!x.device_scalars.defined()) return;
  const Device d = p.options.device;
  memory_of(d).copy(x.device_scalars.raw(), d, x.scalars.data(), {}, x.scalars.size() * sizeof(int64_t), nullptr);
}

// A buffer that only we hold, or a new one.
Tensor& free_result(const TensorType& type, std::vector<Tensor>& pool) {
  for (Tensor& t : pool)
    if (t.buffer().use_count() == 1) return t;
  if (pool.size() == 3) pool.erase(pool.begin());
  pool.push_back(Tensor::empty(type.shape, type.dtype));
  return pool.back();
}

// pool: the slot, and the lease on it that the caller had last. A lease that is still held moves to a copy.
Tensor& leased_result(const TensorType& type, Device device, std::vector<Tensor>& pool) {
  if (pool.empty()) pool.push_back(Tensor::empty(type.shape, type.dtype, device));
  if (pool.size() == 2 && pool[1].buffer().use_count() > 1) {
    pool[1].buffer()->move_out();
    pool.pop_back();
  }
  if (pool.size() == 1) {
    const auto& slot = pool[0].buffer();
    pool.push_back(Tensor::wrap(Buffer::borrow(slot->data(), slot->bytes(), slot, device), 0, type.shape, type.dtype));
  }
  return pool[1];
}

void bind_outputs(const Program& p, Instance& x, std::vector<Tensor>& out) {
  const bool fixed = p.backend->fixed_slots();
  out.clear();
  out.reserve(p.outputs.size());
  for (size_t k = 0; k < p.outputs.size(); ++k) {
    const OutputSlot& o = p.outputs[k];
    if (o.state != kNone) continue;
    Tensor& t = fixed ? leased_result(o.type, p.options.device, x.results[k]) : free_result(o.type, x.results[k]);
    x.base[o.base] = static_cast<std::byte*>(t.raw());
    out.push_back(t);
  }
}

// ---- the arena -----------------------------------------------------------------------------------------------------
// The plans of a thread share one arena, as large as the largest needs; one whose values are to outlive the run has its
// own.

struct Arena {
  std::shared_ptr<Buffer> buffer;
  const Instance* user = nullptr;  // who wrote it last
};
Arena& thread_arena(Device device) {
  thread_local std::vector<std::pair<Device, Arena>> arenas;
  for (auto& [d, arena] : arenas)
    if (d == device) return arena;
  return arenas.emplace_back(device, Arena{}).second;
}

std::byte* aligned(const Buffer& b) {
  return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(b.data()) + kAlign - 1) / kAlign * kAlign);
}

void bind_arena(const Program& p, Instance& x) {
  if (!p.arena_bytes) return;
  if (p.options.keep && !x.arena) x.arena = Buffer::allocate(p.arena_bytes + kAlign, p.options.device);
  if (x.arena) {
    x.base[0] = aligned(*x.arena);
    return;
  }
  Arena& a = thread_arena(p.options.device);
  if (!a.buffer || a.buffer->bytes() < p.arena_bytes + kAlign) {
    a.buffer = nullptr;  // before the larger one: both need not fit
    a.buffer = Buffer::allocate(p.arena_bytes + kAlign, p.options.device);
  }
  a.user = &x;
  x.base[0] = aligned(*a.buffer);
}

}  // namespace

bool keep_values(const Program& p, Instance& x) {
  if (x.arena || !p.arena_bytes) return true;
  Arena& a = thread_arena(p.options.device);
  if (a.user != &x || !a.buffer || x.base[0] != aligned(*a.buffer)) return false;
  x.arena = std::move(a.buffer);
  a = {};
  return true;
}

void check_feed(const Leaf& input, const Tensor& t) {
  if (!t.defined())
    throw ValueError(fmt::format("input '{}' {}: the fed tensor is undefined", input.name, input.type.str()));
  if (!(t.shape() == input.type.shape))
    throw ShapeError(
        fmt::format("input '{}' is {}, fed {} {}", input.name, input.type.str(), t.shape().str(), name_of(t.dtype())));
  if (t.dtype() != input.type.dtype)
    throw DTypeError(fmt::format("input '{}' is {}, fed {}", input.name, input.type.str(), name_of(t.dtype())));
}

void write_scalar(const Leaf& l, const RunOptions& o, void* to) {
  auto put = [&](auto value) { copy({&value, dtype_of<decltype(value)>::value, {}, {}}, {to, l.type.dtype, {}, {}}); };
  for (auto& [name, value] : o.scalars)
    if (name == l.name) {
      if (!holds(l.type.dtype, value))
        throw DTypeError(fmt::format("scalar '{}' is {}, which cannot hold {}", l.name, name_of(l.type.dtype), value));
      return put(value);
    }
  if (l.name == "seed") return put(int64_t(o.seed));
  throw ValueError(fmt::format("scalar '{}' was not given a value", l.name));
}

Instance::Instance(std::shared_ptr<const Program> program)
    : base(program->n_bases),
      scalars(program->scalars.size()),
      results(program->outputs.size()),
      fed(program->inputs.size()) {
  const Program& p = *program;
  auto* scalar_base = reinterpret_cast<std::byte*>(scalars.data());
  if (!p.options.device.host() && !scalars.empty()) {
    device_scalars = Tensor::empty({int64_t(scalars.size())}, i64, p.options.device);
    scalar_base = static_cast<std::byte*>(device_scalars.raw());
  }
  for (size_t i = 0; i < p.scalars.size(); ++i) base[1 + p.scalars[i]] = scalar_base + i * sizeof(int64_t);
  for (size_t l = 0; l < p.leaves.size(); ++l) {
    if (!p.leaves[l].small.defined()) continue;
    Tensor here = p.leaves[l].small.to(p.options.device);
    if (!p.options.device.host()) constants.push_back(here);
    base[1 + l] = static_cast<std::byte*>(here.raw());
  }
  executable = p.backend->load(std::move(program));
}

std::vector<Tensor> bind_leaves(const Program& p, Instance& x, const Snapshot& s) {
  std::vector<Tensor> held;
  for (size_t l = 0; l < s.leaves.size(); ++l) {
    Tensor t = s.leaves[l].tensor;
    if (!t.defined()) continue;
    if (t.device() != p.options.device) {
      if (p.leaves[l].kind == Leaf::state)
        throw DeviceError(fmt::format("state '{}' lies on {}, the plan runs on {}: move it there with to(device)",
                                      p.leaves[l].name, t.device().str(), p.options.device.str()));
      t = t.to(p.options.device);
    }
    x.base[1 + l] = static_cast<std::byte*>(t.raw());
    held.push_back(std::move(t));
  }
  return held;
}

void execute(const Program& p, Instance& x, const Feeds& feeds, std::span<const std::string> ignored,
             const RunOptions& o, bool profile, std::vector<Tensor>& out) {
  ++x.runs;
  bind_arena(p, x);
  bind_feeds(p, x, feeds, ignored);
  bind_scalars(p, x, o);
  bind_outputs(p, x, out);
  if (profile) {
    x.times.resize(p.steps.size());
    ++x.profiled;
  }
  Status status;
  x.executable->run({.base = x.base.data(), .status = &status, .times = profile ? &x.times : nullptr});
  if (status.code == Status::fine) return;
  const Step& s = p.steps[status.step];
  throw ValueError(status.message(*s.op, *s.attrs) + "\n  " + p.describe(s.where));
}

}  // namespace whence::planner
