// Runs a program: binds feeds and outputs to their slots, then step after step. Nothing here looks anything up by name
// beyond the feeds, and nothing is allocated but outputs that the caller still holds.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "autograd/plan/planner.h"
#include "tensor/parallel.h"

namespace whence::planner {

namespace {

double microseconds() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void unknown_feed(const Program& p, std::string_view name) {
  std::string text = fmt::format("'{}' was fed, but no input has that name; inputs are:", name);
  for (Id l : p.inputs) text += fmt::format(" '{}' {}", p.leaves[l].name, p.leaves[l].type.str());
  throw ValueError(text);
}

// Fed memory that an output is bound to would change while it is read.
bool overwritten(const Program& p, const Instance& x, const Tensor& fed) {
  if (p.options.bind.empty()) return false;
  auto begin = static_cast<std::byte*>(fed.raw()), end = begin + fed.nbytes();
  for (size_t k = 0; k < p.outputs.size(); ++k) {
    if (!p.outputs[k].bound) continue;
    auto at = static_cast<std::byte*>(x.results[k][0].raw());
    if (begin < at + x.results[k][0].nbytes() && at < end) return true;
  }
  return false;
}

void bind_feeds(const Program& p, Instance& x, const Feeds& feeds, std::span<const std::string> ignored) {
  const size_t n = p.inputs.size();
  size_t next = 0, bound = 0;
  x.copies.clear();
  for (auto& [name, tensor] : feeds) {
    // Feeds usually come in the order of the inputs.
    size_t tried = 0;
    for (; tried < n && p.leaves[p.inputs[next]].name != name; ++tried) next = next + 1 == n ? 0 : next + 1;
    if (tried == n) {
      if (std::find(ignored.begin(), ignored.end(), name) == ignored.end()) unknown_feed(p, name);
      continue;
    }
    const Id l = p.inputs[next];
    check_feed(p.leaves[l], tensor);
    if (tensor.contiguous() && !overwritten(p, x, tensor)) {
      x.base[1 + l] = static_cast<std::byte*>(tensor.raw());
    } else {
      x.copies.push_back(tensor.contiguous_copy());
      x.base[1 + l] = static_cast<std::byte*>(x.copies.back().raw());
    }
    if (p.options.keep) {
      x.inputs.resize(n);
      x.inputs[next] = tensor.contiguous() ? tensor : x.copies.back();
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

// A buffer that only we hold, or a new one.
Tensor& free_result(const TensorType& type, std::vector<Tensor>& pool) {
  for (Tensor& t : pool)
    if (t.buffer().use_count() == 1) return t;
  if (pool.size() == 3) pool.erase(pool.begin());
  pool.push_back(Tensor::empty(type.shape, type.dtype));
  return pool.back();
}

void bind_outputs(const Program& p, Instance& x, std::vector<Tensor>& out) {
  out.reserve(p.outputs.size());
  for (size_t k = 0; k < p.outputs.size(); ++k) {
    const OutputSlot& o = p.outputs[k];
    if (o.bound) {
      out.push_back(x.results[k][0]);
      continue;
    }
    Tensor& t = free_result(o.type, x.results[k]);
    x.base[o.base] = static_cast<std::byte*>(t.raw());
    out.push_back(t);
  }
}

void run_step(const Program& p, Instance& x, const Step& s, uint64_t seed) {
  if (!s.op) return p.tiles[s.tile].run(x.base.data());
  View* v = x.views.data() + s.views;
  const Ref* r = p.view_refs.data() + s.views;
  for (Id k = 0; k < s.n_in + s.n_out; ++k) v[k].data = x.base[r[k].base] + r[k].offset;
  s.op->cpu({{v, s.n_in}, {v + s.n_in, s.n_out}, *s.attrs, s.workspace < 0 ? nullptr : x.base[0] + s.workspace, seed});
}

}  // namespace

void check_feed(const Leaf& input, const Tensor& t) {
  if (!t.defined())
    throw ValueError(fmt::format("input '{}' {}: the fed tensor is undefined", input.name, input.type.str()));
  if (!(t.shape() == input.type.shape))
    throw ShapeError(
        fmt::format("input '{}' is {}, fed {} {}", input.name, input.type.str(), t.shape().str(), name_of(t.dtype())));
  if (t.dtype() != input.type.dtype)
    throw DTypeError(fmt::format("input '{}' is {}, fed {}", input.name, input.type.str(), name_of(t.dtype())));
}

Instance::Instance(const Program& p)
    : base(p.n_bases), views(p.views), results(p.outputs.size()), fed(p.inputs.size()) {
  for (size_t l = 0; l < p.leaves.size(); ++l)
    base[1 + l] = static_cast<std::byte*>(const_cast<void*>(p.leaves[l].raw));
}

void execute(const Program& p, Instance& x, const Feeds& feeds, std::span<const std::string> ignored, RunOptions o,
             bool profile, std::vector<Tensor>& out) {
  ++x.runs;
  if (!x.arena && p.arena_bytes) {
    x.arena = Buffer::allocate(p.arena_bytes + kAlign);
    x.base[0] =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(x.arena->data()) + kAlign - 1) / kAlign * kAlign);
  }
  bind_feeds(p, x, feeds, ignored);
  bind_outputs(p, x, out);
  if (profile) {
    x.times.resize(p.steps.size());
    ++x.profiled;
  }
  const double zero = profile ? microseconds() : 0;
  auto steps = [&](Id begin, Id end, int thread) {
    if (!profile) {
      for (Id i = begin; i < end; ++i) run_step(p, x, p.steps[i], o.seed);
      return;
    }
    for (Id i = begin; i < end; ++i) {
      double start = microseconds();
      run_step(p, x, p.steps[i], o.seed);
      double took = microseconds() - start;
      x.times[i] = {start - zero, took, x.times[i].total + took, thread};
    }
  };
  if (!p.fork.exists()) return steps(0, Id(p.steps.size()), 0);
  steps(0, p.fork.begin, 0);
  const Id cut[] = {p.fork.begin, p.fork.middle, p.fork.end};
  cpu::run_together(2, [&](int64_t half) { steps(cut[half], cut[half + 1], int(half)); });
  steps(p.fork.end, Id(p.steps.size()), 0);
}

}  // namespace whence::planner
