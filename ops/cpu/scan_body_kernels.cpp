// Scans with a body: a program that runs once per step, its inputs and results moving on from step to step.
#include <cstring>

#include "whence/autograd/plan/run.h"
#include "whence/ops/cpu/step_runner.h"
#include "whence/ops/loop.h"

namespace whence::cpu {
namespace {

using planner::Id;

size_t padded(size_t bytes) { return (bytes + planner::kAlign - 1) / planner::kAlign * planner::kAlign; }
size_t bytes_of(const Var& v) { return size_t(v.numel()) * size_of(v.dtype()); }

// The workspace: the program's arena, and places for what nobody reads: two for every state, since a step reads one and
// writes the other, and one for every result of a step, since the program reads what it has written there.
struct Layout {
  std::vector<size_t> states, last, results;  // offsets
  size_t bytes;
  explicit Layout(const Body& body) : bytes(padded(body.program()->arena_bytes)) {
    auto place = [&](const std::vector<Var>& values, std::vector<size_t>& offsets) {
      for (const Var& v : values) {
        offsets.push_back(bytes);
        bytes += padded(bytes_of(v));
      }
    };
    place(body.carries(), states);
    place(body.carries(), last);
    place(body.out(), results);
  }
};

// What changes while it runs: one executable serves one plan at a time.
struct Loop {
  Loop(const LoopAttrs& a)
      : attrs(a), program(a.body->program()), layout(*a.body), runner(program), base(program->n_bases) {
    for (Id l = 0; l < program->leaves.size(); ++l)
      if (const planner::Leaf& leaf = program->leaves[l]; leaf.small.defined())
        base[1 + l] = static_cast<std::byte*>(leaf.small.raw());
    for (const Var& v : a.body->inputs()) {
      const std::string& name = a.body->graph().attrs(a.body->graph().producer(v.id())).text("name");
      Id at = kNone;
      for (Id l : program->inputs)
        if (program->leaves[l].name == name) at = 1 + l;
      input.push_back(at);
    }
  }
  const LoopAttrs attrs;
  std::shared_ptr<const planner::Program> program;
  const Layout layout;
  mutable StepRunner runner;
  mutable std::vector<std::byte*> base;
  std::vector<Id> input;  // by operand: its base; kNone: the step does not read it
};

class Run {
 public:
  Run(const KernelCall& call, const Loop& loop)
      : call_(call), loop_(loop), body_(*loop.attrs.body), C_(body_.carries().size()), T_(loop.attrs.steps) {}

  void run() {
    loop_.base[0] = call_.workspace;
    for (size_t i = C_ + body_.per_step().size(); i < call_.in.size(); ++i) bind(loop_.input[i], data(call_.in[i]));
    for (size_t k = 0; k < C_; ++k)
      if (T_ == 0) copy_state(k, last(k));
      else if (began(k)) copy_state(k, began(k) + place(0) * step_bytes(k));
    for (int64_t i = 0; i < T_; ++i) step(i);
  }

 private:
  static std::byte* data(const View& v) { return static_cast<std::byte*>(v.data); }
  size_t step_bytes(size_t carry) const { return bytes_of(body_.carries()[carry]); }
  int64_t place(int64_t i) const { return loop_.attrs.reverse ? T_ - 1 - i : i; }
  // Where states are kept as the steps begin with them; nullptr: nobody wants them.
  std::byte* began(size_t carry) const { return data(call_.out[C_ + body_.out().size() + carry]); }
  std::byte* last(size_t carry) const {
    std::byte* out = data(call_.out[carry]);
    return out ? out : call_.workspace + loop_.layout.last[carry];
  }
  void copy_state(size_t carry, std::byte* to) {
    if (step_bytes(carry)) std::memcpy(to, data(call_.in[carry]), step_bytes(carry));
  }
  void bind(Id at, std::byte* to) {
    if (at != kNone) loop_.base[at] = to;
  }

  // Where state k is when step i begins.
  std::byte* state(size_t k, int64_t i) const {
    if (i == T_) return last(k);
    if (began(k)) return began(k) + place(i) * int64_t(step_bytes(k));
    if (i == 0) return data(call_.in[k]);
    if ((T_ - i) % 2 == 0) return last(k);
    return call_.workspace + loop_.layout.states[k];
  }

  void step(int64_t i) {
    const planner::Program& p = *loop_.program;
    for (size_t k = 0; k < C_; ++k) {
      bind(loop_.input[k], state(k, i));
      loop_.base[p.outputs[k].base] = state(k, i + 1);
    }
    for (size_t j = 0; j < body_.per_step().size(); ++j)
      bind(loop_.input[C_ + j], data(call_.in[C_ + j]) + place(i) * int64_t(bytes_of(body_.per_step()[j])));
    for (size_t j = 0; j < body_.out().size(); ++j) {
      std::byte* all = data(call_.out[C_ + j]);
      loop_.base[p.outputs[C_ + j].base] =
          all ? all + place(i) * int64_t(bytes_of(body_.out()[j])) : call_.workspace + loop_.layout.results[j];
    }
    for (Id s = 0; s < p.steps.size(); ++s) loop_.runner.run(s, loop_.base.data(), status_);
    if (status_.code != Status::fine && !told_) tell(i);
  }

  // The first report of a step's kernel becomes one of the scan's.
  void tell(int64_t i) {
    told_ = true;
    if (std::atomic_ref(call_.status->reports).fetch_add(1) > 0) return;
    const planner::Step& s = loop_.program->steps[status_.step];
    Status out = status_;
    if (!out.inner_op) {
      out.inner_op = s.op;
      out.inner_attrs = s.attrs;
    }
    out.iteration = place(i);
    out.step = call_.step;
    *call_.status = out;
  }

  const KernelCall& call_;
  const Loop& loop_;
  const Body& body_;
  const size_t C_;
  const int64_t T_;
  Status status_;
  bool told_ = false;
};

}  // namespace

REGISTER_KERNEL(cpu, scan) = {
    [](const KernelCall& call) { Run(call, *static_cast<const Loop*>(call.prepared)).run(); },
    {.floats = kAllFloats,
     .skips_unread = true,
     .workspace = [](std::span<const TensorType> in, std::span<const TensorType>,
                     const Attrs& attrs) { return Layout(*LoopAttrs::of(attrs, in).body).bytes; },
     .prepare = [](const OpDef&, std::span<const TensorType> in, std::span<const TensorType>, const Attrs& attrs)
         -> std::shared_ptr<const void> { return std::make_shared<Loop>(LoopAttrs::of(attrs, in)); }}};

}  // namespace whence::cpu
