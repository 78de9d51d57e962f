// Checks on kernels and executors: buffer bounds, precision per dtype and device, immediate = planned, threads,
// targets.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "whence/autograd/plan.h"
#include "whence/tensor/parallel.h"
#include "whence/testing/run.h"

namespace whence::suite {

int64_t (*heap_allocations)() = nullptr;

std::vector<Device>& devices() {
  static std::vector<Device> list;
  return list;
}

namespace {

int64_t allocations() { return heap_allocations ? heap_allocations() : 0; }

void add(Failures& failures, std::string text) {
  if (failures.size() < 8) failures.push_back(std::move(text));
}

// A tensor inside a larger buffer whose other bytes hold a pattern.
class Guarded {
 public:
  Guarded(const TensorType& type, uint8_t pattern, size_t shift) : type_(type), pattern_(pattern) {
    bytes_ = size_t(type.shape.numel()) * size_of(type.dtype);
    at_ = kZone + shift * size_of(type.dtype);
    buffer_ = Buffer::allocate(at_ + bytes_ + kZone);
    std::memset(buffer_->data(), pattern, buffer_->bytes());
    tensor_ = Tensor::wrap(buffer_, at_, type.shape, type.dtype);
  }
  const Tensor& tensor() const { return tensor_; }
  bool intact() const {
    for (size_t i = 0; i < buffer_->bytes(); ++i)
      if ((i < at_ || i >= at_ + bytes_) && uint8_t(buffer_->data()[i]) != pattern_) return false;
    return true;
  }

 private:
  static constexpr size_t kZone = 256;
  TensorType type_;
  uint8_t pattern_;
  size_t bytes_, at_;
  std::shared_ptr<Buffer> buffer_;
  Tensor tensor_;
};

std::vector<TensorType> inferred(const OpDef& op, const Attrs& attrs, std::span<const Tensor> in) {
  Graph g;
  std::vector<Var> leaves;
  for (size_t i = 0; i < in.size(); ++i)
    leaves.push_back(g.input("x" + std::to_string(i), in[i].shape(), in[i].dtype()));
  Var first = g.record(op, leaves, attrs);
  std::vector<TensorType> out;
  for (uint32_t k = 0; k < g.producer(first.id()).out_count; ++k) out.push_back(g.type(first.id() + k));
  return out;
}

struct KernelRun {
  std::vector<Tensor> out;
  std::string complaint;
  int64_t allocations = 0;
};

// The kernel alone, on guarded buffers.
KernelRun run_guarded(const Kernel& kernel, const OpDef& op, const Attrs& attrs, std::span<const Tensor> in,
                      std::span<const TensorType> out, uint8_t pattern, size_t shift) {
  KernelRun run;
  std::vector<View> views_in, views_out;
  std::vector<Guarded> held_in, held_out, held_work;
  held_in.reserve(in.size());
  held_out.reserve(out.size());
  for (const Tensor& t : in) {
    if (!t.contiguous()) {  // strided inputs come with poison between their elements already
      views_in.push_back(t.view());
      continue;
    }
    held_in.emplace_back(TensorType{t.shape(), t.dtype()}, 0xff,
                         shift);  // all ones: NaN, and an index far out of range
    held_in.back().tensor().copy_from(t);
    views_in.push_back(held_in.back().tensor().view());
  }
  for (const TensorType& t : out) {
    held_out.emplace_back(t, pattern, shift);
    views_out.push_back(held_out.back().tensor().view());
  }
  std::byte* workspace = nullptr;
  if (kernel.workspace) {
    size_t bytes = kernel.workspace(types(in), out, attrs);
    held_work.emplace_back(TensorType{{int64_t(bytes)}, u8}, pattern, 0);
    workspace = static_cast<std::byte*>(held_work.back().tensor().raw());
  }
  std::shared_ptr<const void> prepared;
  if (kernel.prepare) prepared = kernel.prepare(op, types(in), out, attrs);
  Status status;
  const int64_t before = allocations();
  kernel.run({op, views_in, views_out, attrs, workspace, prepared.get(), &status});
  run.allocations = allocations() - before;
  if (status.code != Status::fine) run.complaint = "it complains of a sound sample: " + status.message(op, attrs);
  for (size_t i = 0; i < held_in.size(); ++i)
    if (!held_in[i].intact()) run.complaint = fmt::format("it wrote around contiguous input {}", i);
  for (size_t k = 0; k < held_out.size(); ++k)
    if (!held_out[k].intact()) run.complaint = fmt::format("it wrote outside the buffer of result {}", k);
  if (!held_work.empty() && !held_work[0].intact()) run.complaint = "it wrote outside its workspace";
  for (const Guarded& g : held_out) run.out.push_back(g.tensor().contiguous_copy());
  return run;
}

// Rounded to `dtype` and back, so that every precision starts from the same numbers.
std::vector<Tensor> rounded(std::span<const Tensor> in, DType dtype) {
  std::vector<Tensor> out;
  for (const Tensor& t : in)
    out.push_back(t.defined() && is_float(t.dtype()) ? t.to(dtype).to(t.dtype()).contiguous_copy() : t);
  return out;
}
std::vector<Tensor> converted(std::span<const Tensor> in, std::span<const SampleInput> declared, DType dtype) {
  std::vector<Tensor> out;
  for (size_t i = 0; i < in.size(); ++i) {
    DType t = declared[i].statistic ? accumulate_dtype(dtype) : dtype;
    out.push_back(declared[i].dtype == f64 ? in[i].to(t).contiguous_copy() : in[i]);
  }
  return out;
}

double unit(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-53;
    case DType::f32: return 0x1p-24;
    case DType::f16: return 0x1p-11;
    default: return 0x1p-8;
  }
}

}  // namespace

Failures check_kernel(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (const Kernel* kernel = kernel_of(op, Device::Kind::cpu)) {
    for (DType dtype : {f64, f32}) {
      std::vector<Tensor> in = draw(op, sample, dtype);
      std::vector<TensorType> out = inferred(op, sample.attrs, in);
      for (Layout layout : {Layout::contiguous, Layout::transposed, Layout::strided, Layout::broadcast_first}) {
        if (layout != Layout::contiguous && !kernel->strided) break;
        std::vector<Tensor> shown = laid_out(in, sample, layout);
        for (size_t i = 0; i < shown.size(); ++i)
          if (!kernel->takes(int(i), shown[i].view())) shown[i] = shown[i].contiguous_copy();
        auto complain = [&](const std::string& what) {
          add(failures, fmt::format("{} {} layout {}: {}", title(op, sample), name_of(dtype), name_of(layout), what));
        };
        KernelRun a = run_guarded(*kernel, op, sample.attrs, shown, out, 0xa5, 0),
                  b = run_guarded(*kernel, op, sample.attrs, shown, out, 0x5a, 0),
                  c = run_guarded(*kernel, op, sample.attrs, shown, out, 0xa5, 1);
        for (const KernelRun* r : {&a, &b, &c})
          if (!r->complaint.empty()) complain(r->complaint);
        if (c.allocations) complain(fmt::format("its third run takes from the heap, {} times", c.allocations));
        for (size_t k = 0; k < out.size(); ++k) {
          // What the buffers held before must not show through.
          if (!bitwise_equal(a.out[k], b.out[k]))
            complain(fmt::format(
                "result {} depends on what its buffer held: an element is not written, or read before it is: {}", k,
                differ(a.out[k], b.out[k], 0)));
          if (std::string d = differ(c.out[k], a.out[k], 32 * unit(dtype)); !d.empty())
            complain(fmt::format("result {} depends on the alignment of the buffers: {}", k, d));
        }
        // In place: output 0 on top of the operand that the kernel names.
        const size_t over = size_t(kernel->in_place);
        if (layout != Layout::contiguous || over >= in.size() ||
            !(out[0] == TensorType{in[over].shape(), in[over].dtype()}))
          continue;
        std::vector<Tensor> own = copies(shown);
        std::vector<View> views_in, views_out{own[over].view()};
        for (const Tensor& t : own) views_in.push_back(t.view());
        std::vector<Tensor> rest;
        for (size_t k = 1; k < out.size(); ++k) {
          rest.push_back(Tensor::empty(out[k].shape, out[k].dtype));
          views_out.push_back(rest.back().view());
        }
        std::shared_ptr<Buffer> workspace;
        if (kernel->workspace) workspace = Buffer::allocate(kernel->workspace(types(own), out, sample.attrs));
        std::shared_ptr<const void> prepared;
        if (kernel->prepare) prepared = kernel->prepare(op, types(own), out, sample.attrs);
        Status status;
        kernel->run(
            {op, views_in, views_out, sample.attrs, workspace ? workspace->data() : nullptr, prepared.get(), &status});
        if (!bitwise_equal(own[over], a.out[0]))
          complain(fmt::format("written in place of {} the result differs: {}", op.operand_name(int(over)),
                               differ(own[over], a.out[0], 0)));
      }
    }
    // A view and the kernel that stands in for it agree.
    if (op.view) {
      std::vector<Tensor> in = draw(op, sample);
      std::vector<TensorType> out = inferred(op, sample.attrs, in);
      View alias;
      if (op.view(in[0].view(), sample.attrs, alias)) {
        Tensor shown = Tensor::empty(out[0].shape, out[0].dtype);
        if (!(alias.shape == out[0].shape))
          add(failures,
              fmt::format("{}: the view is {}, inferred {}", title(op, sample), alias.shape.str(), out[0].shape.str()));
        else {
          copy(alias, shown.view());
          KernelRun run = run_guarded(*kernel, op, sample.attrs, in, out, 0xa5, 0);
          if (!bitwise_equal(shown, run.out[0]))
            add(failures,
                fmt::format("{}: view and kernel differ: {}", title(op, sample), differ(shown, run.out[0], 0)));
        }
      }
    }
  }
  return failures;
}

// An op that accepts integers computes what it computes in f64, up to rounding to an integer.
static void check_integers(const OpDef& op, const Sample& sample, Failures& failures) {
  std::vector<Tensor> wide = draw(op, sample);
  for (size_t i = 0; i < wide.size(); ++i)
    if (sample.in[i].dtype == f64)
      for (int64_t j = 0; j < wide[i].numel(); ++j) {
        double& x = wide[i].data<double>()[j];
        x = x < 0 ? -std::ceil(-2 * x) : std::max(1.0, std::ceil(2 * x));  // no zeros: they may be divisors
      }
  for (DType dtype : {i32, i64}) {
    std::vector<Tensor> got;
    try {
      got = forward(op, sample.attrs, converted(wide, sample.in, dtype));
    } catch (const MissingKernel&) {
      continue;
    } catch (const DTypeError&) {
      continue;
    }
    std::vector<Tensor> want = forward(op, sample.attrs, wide);
    for (size_t k = 0; k < want.size(); ++k)
      if (std::string d =
              differ(got[k], want[k], 1, is_float(got[k].dtype()) ? 0x1p-7 * (1 + max_abs(want[k])) : 0.9999);
          !d.empty())
        add(failures, fmt::format("{} {} against f64: result {}: {}", title(op, sample), name_of(dtype), k, d));
  }
}

// Each dtype against f64 on the same rounded numbers: forward, gradients and relevance.
Failures check_precision(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (op.traits.random) return failures;  // the numbers of a stream are drawn per dtype
  if (std::none_of(sample.in.begin(), sample.in.end(), [](const SampleInput& s) { return s.dtype == f64; }))
    return failures;
  check_integers(op, sample, failures);
  for (DType dtype : {f32, bf16, f16}) {
    std::vector<Tensor> wide = rounded(draw(op, sample), dtype), narrow = converted(wide, sample.in, dtype);
    std::vector<Tensor> want = forward(op, sample.attrs, wide), got;
    try {
      got = forward(op, sample.attrs, narrow);
    } catch (const Error& e) {
      if (!dynamic_cast<const DTypeError*>(&e) || dtype == f32) throw;
      continue;  // the op says that it does not take this dtype
    }
    int64_t length = 1;
    for (const Tensor& t : wide) length = std::max(length, t.numel());
    bool half = dtype != f32;
    // Sums in f32 over at most `length` terms; a half is what they round to, once. A body without a kernel rounds at
    // each of its steps.
    double allowed = 4 * 0x1p-24 * double(4 + length);
    for (size_t k = 0; k < want.size(); ++k) {
      double storage = got[k].dtype() == dtype && half ? (kernel_of(op, Device::Kind::cpu) ? 2 : 64) * unit(dtype) : 0;
      if (std::string d = differ(got[k], want[k], allowed + storage); !d.empty())
        add(failures, fmt::format("{} {} against f64: result {}: {}", title(op, sample), name_of(dtype), k, d));
      // What goes with a first result of halves is a statistic of it.
      if (half && k > 0 && op.fused() && is_float(want[k].dtype()) && got[k].dtype() != f32)
        add(failures, fmt::format("{} {}: result {} is a {}, statistics are f32", title(op, sample), name_of(dtype), k,
                                  name_of(got[k].dtype())));
    }
    if (half && op.body) {  // what runs where there is no kernel
      Graph g(Graph::Mode::immediate);
      std::vector<Var> vars;
      for (const Tensor& t : narrow) vars.push_back(g.constant(t));
      std::vector<Var> body = op.body(vars, sample.attrs);
      for (size_t k = 0; k < want.size(); ++k)
        if (std::string d = body[k].dtype() == got[k].dtype()
                                ? differ(body[k].value(), want[k], allowed + 64 * unit(dtype))
                                : fmt::format("{}, inferred {}", name_of(body[k].dtype()), name_of(got[k].dtype()));
            !d.empty())
          add(failures, fmt::format("{} {}: result {} of the body: {}", title(op, sample), name_of(dtype), k, d));
    }
    if (half) continue;

    Rng rng(op.name + sample.name, 90);
    std::vector<Tensor> u = rounded(cotangents(types(want), rng), f32), u32(u.size());
    for (size_t k = 0; k < u.size(); ++k)
      if (u[k].defined()) u32[k] = u[k].to(got[k].dtype()).contiguous_copy();
    auto compare = [&](const char* what, const Swept& low, const Swept& high, std::span<const size_t> wrt) {
      double scale = 1e-30;
      for (size_t i : wrt) scale = std::max(scale, max_abs(high.in[i]));
      for (size_t i : wrt)
        if (std::string d = differ(low.in[i], high.in[i], 16 * allowed, scale); !d.empty())
          add(failures,
              fmt::format("{} f32 against f64: {} of {}: {}", title(op, sample), what, op.operand_name(int(i)), d));
    };
    std::vector<size_t> wrt = differentiable(op, sample);
    if (has_gradient(op) && !wrt.empty())
      compare("gradient", sweep_op(op, sample.attrs, narrow, {}, u32, wrt, {}),
              sweep_op(op, sample.attrs, wide, {}, u, wrt, {}), wrt);
    if (!has_relevance(op)) continue;
    std::vector<char> data = assignments(op, sample).empty() ? std::vector<char>() : assignments(op, sample)[0];
    std::vector<size_t> which;
    for (size_t i = 0; i < data.size(); ++i)
      if (data[i]) which.push_back(i);
    if (which.empty()) continue;
    SweepSetup setup{.kind = PassKind::relevance, .rule = rules_for(op)[0]};
    compare("relevance", sweep_op(op, sample.attrs, narrow, data, u32, which, setup),
            sweep_op(op, sample.attrs, wide, data, u, which, setup), which);
  }
  return failures;
}

// ---- executors ----------------------------------------------------------------------------------------------------

namespace {

// Forward, gradient and relevance of one sample, recorded on any graph.
struct Everything {
  std::vector<Var> vars;
  std::vector<std::string> names;
};
Everything record_everything(Graph& g, const OpDef& op, const Sample& sample, std::span<const Tensor> in,
                             std::span<const char> data, std::span<const Tensor> u, const lrp::RuleSet& rules) {
  Everything e;
  Recorded r = record_on(g, op, sample.attrs, in, data);
  for (size_t k = 0; k < r.out.size(); ++k) {
    e.vars.push_back(r.out[k]);
    e.names.push_back(fmt::format("result {}", k));
  }
  std::vector<Var> seeds(u.size());
  bool any = false;
  for (size_t k = 0; k < u.size(); ++k)
    if (u[k].defined()) {
      seeds[k] = g.input("u" + std::to_string(k), u[k]);
      any = true;
    }
  std::vector<size_t> wrt = differentiable(op, sample), which;
  for (size_t i = 0; i < data.size(); ++i)
    if (data[i]) which.push_back(i);
  auto append = [&](const char* what, std::span<const size_t> of, const Pass& pass) {
    std::vector<Var> swept = sweep_recorded(r, seeds, of, pass);
    for (size_t i = 0; i < of.size(); ++i) {
      e.vars.push_back(swept[i]);
      e.names.push_back(fmt::format("{} of {}", what, op.operand_name(int(of[i]))));
    }
  };
  if (any && has_gradient(op) && !wrt.empty()) append("gradient", wrt, {.kind = PassKind::gradient});
  if (any && has_relevance(op) && !which.empty())
    append("relevance", which, {.kind = PassKind::relevance, .rules = &rules});
  return e;
}

struct ThreadCap {
  explicit ThreadCap(int n) { cpu::set_num_threads(n); }
  ~ThreadCap() { cpu::set_num_threads(0); }
};
// Splits even tiny loops over the threads, so that samples of a few elements have seams.
struct SplitTiny {
  SplitTiny() { cpu::detail::split_everything = true; }
  ~SplitTiny() { cpu::detail::split_everything = false; }
};

}  // namespace

Failures check_executors(const OpDef& op, const Sample& sample) {
  Failures failures;
  std::vector<Tensor> in = draw(op, sample);
  if (op.operands.empty() && in.empty() && op.traits.leaf) return failures;
  auto all = assignments(op, sample);
  std::vector<char> data = all.empty() ? std::vector<char>(in.size(), 1) : all[0];
  Rng rng(op.name + sample.name, 91);
  std::vector<Tensor> u = cotangents(inferred(op, sample.attrs, in), rng);
  lrp::RuleSet rules("suite", rules_for(op)[0]);

  std::vector<Tensor> want;
  std::vector<std::string> names;
  auto immediately = [&] {
    Graph g(Graph::Mode::immediate);
    Everything e = record_everything(g, op, sample, in, data, u, rules);
    names = e.names;
    std::vector<Tensor> values;
    for (const Var& v : e.vars) values.push_back(v.value().contiguous_copy());
    return values;
  };
  auto compare = [&](std::span<const Tensor> got, const std::string& what) {
    for (size_t i = 0; i < want.size(); ++i) {
      count_comparison(want[i].numel());
      if (!bitwise_equal(got[i], want[i]))
        add(failures, fmt::format("{}: {} is not bitwise the same {}: {}", title(op, sample), names[i], what,
                                  differ(got[i], want[i], 0)));
    }
  };
  {
    ThreadCap one(1);
    want = immediately();
    compare(immediately(), "in a second run");
  }
  {
    SplitTiny split;
    compare(immediately(), "on two threads");
  }

  for (bool fuse : {false, true}) {
    Graph g;
    Everything e = record_everything(g, op, sample, in, data, u, rules);
    Plan plan = compile(e.vars, {.fuse = fuse});
    std::vector<std::string> keys;
    for (size_t i = 0; i < in.size(); ++i) keys.push_back("x" + std::to_string(i));
    for (size_t k = 0; k < u.size(); ++k) keys.push_back("u" + std::to_string(k));
    // Leaves that no output needs are not in the plan; feeding them is an error, so ask the graph.
    std::vector<char> live(g.node_count());
    for (const Var& v : e.vars) live[g.producer_id(v.id())] = 1;
    for (size_t n = g.node_count(); n-- > 0;)
      if (live[n])
        for (ValueId v : g.inputs(g.node(NodeId(n)))) live[g.producer_id(v)] = 1;
    auto feeds_for = [&](std::span<const Tensor> xs) {
      Feeds feeds;
      for (size_t n = 0; n < g.node_count(); ++n) {
        if (!live[n] || g.node(NodeId(n)).op->name != "input") continue;
        const std::string& name = g.attrs(g.node(NodeId(n))).text("name");
        size_t at = size_t(std::find(keys.begin(), keys.end(), name) - keys.begin());
        feeds.emplace_back(keys[at], at < in.size() ? xs[at] : u[at - in.size()]);
      }
      return feeds;
    };
    auto run = [&](std::span<const Tensor> xs) {
      Results results = plan.run(feeds_for(xs));
      std::vector<Tensor> values;
      for (const Tensor& t : results) values.push_back(t.contiguous_copy());
      return values;
    };
    std::string how = fuse ? "planned with fusion" : "planned without fusion";
    ThreadCap one(1);
    compare(run(in), how);
    compare(run(in), how + ", second run");
    if (heap_allocations) {
      Feeds feeds = feeds_for(in);
      Results results = plan.run(feeds);
      const int64_t before = heap_allocations();
      plan.run(feeds, {}, results);
      if (int64_t n = heap_allocations() - before)
        add(failures, fmt::format("{}: a run takes from the heap, {} times, {}", title(op, sample), n, how));
    }
    // Feeds of any layout. Parameters keep theirs, and sums may run in another order.
    std::vector<Tensor> shown;
    for (const Tensor& t : in) shown.push_back(laid_out(t, Layout::transposed));
    std::vector<Tensor> got = run(shown);
    for (size_t i = 0; i < want.size(); ++i)
      if (std::string d = differ(got[i], want[i], 1e-11); !d.empty())
        add(failures, fmt::format("{}: {} differs {} when fed transposed: {}", title(op, sample), names[i], how, d));
  }
  return failures;
}

// Every device computes what the CPU computes, bit by bit where it runs the CPU's kernels: results, gradients,
// relevance.
Failures check_devices(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (op.traits.leaf) return failures;
  auto all = assignments(op, sample);
  lrp::RuleSet rules("suite", rules_for(op)[0]);
  for (Device device : devices())
    for (DType dtype : {f32, bf16}) {
      std::vector<Tensor> in = draw(op, sample, dtype), there = in, u;
      std::vector<char> data = all.empty() ? std::vector<char>(in.size(), 1) : all[0];
      for (Tensor& t : there) t = t.to(device);
      Rng rng(op.name + sample.name, 94);
      Graph here, far;
      Everything a, b;
      try {
        u = cotangents(inferred(op, sample.attrs, in), rng);
        for (Tensor& t : u)
          if (t.defined()) t = t.to(accumulate_dtype(t.dtype()));  // sweeps of halves are f32
        a = record_everything(here, op, sample, in, data, u, rules);
        b = record_everything(far, op, sample, there, data, u, rules);
      } catch (const DTypeError&) {
        continue;  // the op says that it does not take this dtype
      }
      bool promised = true;  // f32 and bf16; f64 for single numbers
      for (size_t v = 0; v < far.value_count(); ++v) {
        const TensorType& t = far.type(ValueId(v));
        promised &= t.dtype != f16 && (t.dtype != f64 || t.shape.numel() <= 1);
      }
      if (!promised) continue;
      Feeds feeds;
      for (auto& [name, id] : far.named_inputs()) {
        const size_t k = size_t(std::stoul(name.substr(1)));
        feeds.emplace_back(name, name[0] == 'x' ? in[k] : u[k]);
      }
      Results want = compile(a.vars).run(feeds);
      Plan plan = compile(b.vars, {.device = device});
      for (int run = 0; run < 2; ++run) {
        Results got = plan.run(feeds);
        for (size_t i = 0; i < want.size(); ++i) {
          count_comparison(want[i].numel());
          if (!bitwise_equal(got[i], want[i]))
            add(failures, fmt::format("{} {} on {}: {} differs from the cpu's: {}", title(op, sample), name_of(dtype),
                                      device.str(), b.names[i], differ(got[i].to(Device{}), want[i], 0)));
        }
      }
    }
  return failures;
}

// K targets in one sweep are K sweeps.
Failures check_targets(const OpDef& op, const Sample& sample) {
  Failures failures;
  constexpr int64_t K = 3;
  std::vector<Tensor> x = draw(op, sample);
  if (std::any_of(x.begin(), x.end(), [](const Tensor& t) { return t.numel() == 0 || t.rank() >= Shape::kMaxRank; }))
    return failures;
  Rng rng(op.name + sample.name, 92);
  std::vector<TensorType> out = inferred(op, sample.attrs, x);
  std::vector<Tensor> u = cotangents(out, rng, K);
  if (std::none_of(u.begin(), u.end(), [](const Tensor& t) { return t.defined(); })) return failures;
  auto compare = [&](std::span<const char> data, std::span<const size_t> wrt, SweepSetup setup) {
    setup.targets = K;
    Swept together = sweep_op(op, sample.attrs, x, data, u, wrt, setup);
    setup.targets = 0;
    for (int64_t t = 0; t < K; ++t) {
      std::vector<Tensor> one(u.size());
      for (size_t k = 0; k < u.size(); ++k)
        if (u[k].defined()) one[k] = u[k].slice(0, t, t + 1).reshaped(out[k].shape).contiguous_copy();
      Swept alone = sweep_op(op, sample.attrs, x, data, one, wrt, setup);
      for (size_t i : wrt) {
        Tensor row = together.in[i].slice(0, t, t + 1).reshaped(alone.in[i].shape());
        if (std::string d = differ(row, alone.in[i], 1e-12); !d.empty())
          add(failures, fmt::format("{}: {} of {} for target {} of {} differs from its own sweep: {}",
                                    title(op, sample), setup.kind == PassKind::gradient ? "gradient" : "relevance",
                                    op.operand_name(int(i)), t, K, d));
      }
    }
  };
  std::vector<size_t> wrt = differentiable(op, sample);
  if (has_gradient(op) && !wrt.empty()) compare({}, wrt, {});
  if (!has_relevance(op)) return failures;
  for (const std::vector<char>& data : assignments(op, sample)) {
    std::vector<size_t> which;
    for (size_t i = 0; i < data.size(); ++i)
      if (data[i]) which.push_back(i);
    for (const lrp::Rule& rule : rules_for(op)) compare(data, which, {.kind = PassKind::relevance, .rule = rule});
  }
  return failures;
}

// Row i alone is row i in its batch, for ops that treat the first axis as a batch.
Failures check_batch(const OpDef& op, const Sample& sample) {
  Failures failures;
  static const std::vector<std::string> rowwise{"linear",   "softmax",   "log_softmax", "layer_norm",
                                                "rms_norm", "attention", "matmul"};
  bool listed = std::count(rowwise.begin(), rowwise.end(), op.name) > 0;
  if (!has_relevance(op) || (!op.elementwise() && !listed)) return failures;
  std::vector<Tensor> x = draw(op, sample);
  std::vector<TensorType> out = inferred(op, sample.attrs, x);
  if (out.size() != 1 || out[0].shape.rank() < 2 || !is_float(out[0].dtype)) return failures;
  const Shape& y = out[0].shape;
  if (y[0] < 2 || y.numel() == 0) return failures;
  if (sample.attrs.has("axis") && normalize_axis(sample.attrs.integer("axis"), y.rank()) == 0) return failures;
  std::vector<char> batched(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    bool same = x[i].rank() == y.rank() && x[i].shape()[0] == y[0];
    batched[i] =
        i == 0 ? same
               : same && (op.elementwise() || op.name == "attention" || (op.name == "matmul" && y.rank() > 2));
    if (op.name == "attention" && x[i].rank() == 2 && x[i].shape()[0] == y[0]) batched[i] = 1;
  }
  if (!batched[0]) return failures;
  std::vector<char> data = batched;
  std::vector<size_t> wrt;
  for (size_t i = 0; i < x.size(); ++i) {
    data[i] = batched[i] && is_float(x[i].dtype()) && !sinks(op, i) && !sample.in[i].parameter;
    if (data[i]) wrt.push_back(i);
  }
  if (wrt.empty()) return failures;
  Rng rng(op.name + sample.name, 93);
  std::vector<Tensor> R = relevance_seeds(op, out, rng);
  SweepSetup setup{.kind = PassKind::relevance, .rule = rules_for(op)[0]};
  Swept whole = sweep_op(op, sample.attrs, x, data, R, wrt, setup);
  for (int64_t row = 0; row < y[0]; ++row) {
    std::vector<Tensor> part;
    for (size_t i = 0; i < x.size(); ++i)
      part.push_back(batched[i] ? x[i].slice(0, row, row + 1).contiguous_copy() : x[i]);
    std::vector<Tensor> r{R[0].slice(0, row, row + 1).contiguous_copy()};
    Swept alone = sweep_op(op, sample.attrs, part, data, r, wrt, setup);
    for (size_t i : wrt)
      if (std::string d = differ(whole.in[i].slice(0, row, row + 1), alone.in[i], 1e-12); !d.empty())
        add(failures, fmt::format("{}: relevance of {} in row {} of the batch differs from the row alone: {}",
                                  title(op, sample), op.operand_name(int(i)), row, d));
  }
  return failures;
}

}  // namespace whence::suite
