// The slow, plain executor: recording order, one node at a time, every value in its own memory. It is the reference of
// the tests and the searcher of diagnose().
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "whence/autograd/run_op.h"
#include "whence/autograd/plan/run.h"

namespace whence::planner {

namespace {

// "" or what is wrong with the tensor.
std::string unusual(const Tensor& t) {
  if (!is_float(t.dtype())) return "";
  size_t at = 0;
  for (double x : t.to_vector<double>()) {
    if (!std::isfinite(x)) return fmt::format("{} at element {}", std::isnan(x) ? "NaN" : "infinity", at);
    ++at;
  }
  return "";
}

}  // namespace

std::vector<Tensor> replay(const Program& p, std::span<const Tensor> held, const Feeds& feeds, const RunOptions& o,
                           std::string* bad) {
  std::vector<Tensor> values(p.key.producer.size());
  std::vector<uint32_t> readers(values.size());
  for (Id v : p.key.edges) ++readers[v];
  for (Id v : p.key.outputs) ++readers[v];
  size_t next = 0;
  for (const INode& n : p.key.nodes) {
    if (n.leaf != kNone) {
      const Leaf& l = p.leaves[n.leaf];
      if (l.kind == Leaf::input) {
        auto f = std::find_if(feeds.begin(), feeds.end(), [&](auto& f) { return f.first == l.name; });
        if (f == feeds.end()) throw ValueError(fmt::format("input '{}' {} was not fed", l.name, l.type.str()));
        check_feed(l, f->second);
        values[n.out] = f->second.to(Device{});
      } else if (l.kind == Leaf::scalar) {
        values[n.out] = Tensor::empty({}, l.type.dtype);
        write_scalar(l, o, values[n.out].raw());
      } else {
        values[n.out] = l.small.defined() ? l.small : held[next++];
      }
    } else {
      std::vector<Tensor> in;
      for (Id v : p.key.in(n)) in.push_back(values[v]);
      auto out = run_op(*n.op, in, {p.key.types.data() + n.out, n.n_out}, *n.attrs);
      for (Id k = 0; k < n.n_out; ++k) values[n.out + k] = std::move(out[k]);
    }
    if (bad)
      for (Id k = 0; k < n.n_out; ++k)
        if (std::string what = unusual(values[n.out + k]); !what.empty()) {
          *bad = n.n_out > 1 ? fmt::format("{} in result {} of {}", what, k, p.describe(n.where))
                             : fmt::format("{} in {}", what, p.describe(n.where));
          if (n.leaf != kNone && !p.leaves[n.leaf].name.empty()) *bad += fmt::format(" ('{}')", p.leaves[n.leaf].name);
          return {};
        }
    for (Id v : p.key.in(n))
      if (--readers[v] == 0) values[v] = {};
  }
  std::vector<Tensor> out;
  for (size_t k = 0; k + p.key.assigned.size() < p.key.outputs.size(); ++k) out.push_back(values[p.key.outputs[k]]);
  return out;
}

}  // namespace whence::planner

namespace whence {

// Extensions replay from what the base plan holds.
std::vector<Tensor> Plan::State::leaves_to_replay() const {
  std::vector<Tensor> tensors;
  for (const planner::Leaf& l : program->leaves) {
    if (l.kind != planner::Leaf::retained) continue;
    const planner::Kept& k = *std::find_if(program->base->kept.begin(), program->base->kept.end(),
                                           [&](auto& k) { return k.value == l.slot; });
    const Device device = program->options.device;
    View seen{base->instance->base[k.at.base] + k.at.offset, l.type.dtype, l.type.shape, l.strides};
    Tensor at = Tensor::wrap(Buffer::borrow(seen.data, 0, nullptr, device), 0, {0}, l.type.dtype);
    tensors.push_back(Tensor::window(at, seen).to(Device{}));
  }
  for (const Tensor& t : held) tensors.push_back(t.to(Device{}));
  return tensors;
}

std::string Plan::diagnose(const Feeds& feeds, const RunOptions& o) const {
  State& s = self();
  std::string bad;
  or_out_of_memory("diagnose", [&] {
    planner::replay(*s.program, s.leaves_to_replay(), s.base ? s.with_base(feeds) : feeds, o, &bad);
  });
  return bad;
}

Results Plan::reference(const Feeds& feeds, const RunOptions& o) const {
  State& s = self();
  return or_out_of_memory("reference", [&] {
    return Results(s.outputs,
                   planner::replay(*s.program, s.leaves_to_replay(), s.base ? s.with_base(feeds) : feeds, o, nullptr));
  });
}

}  // namespace whence
