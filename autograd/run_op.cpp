#include "whence/autograd/run_op.h"

#include <algorithm>

#include "whence/autograd/graph.h"

namespace whence {

namespace {

// What the kernel computes in, in the place of a dtype that it does not take.
DType taken(const Kernel& kernel, DType t) { return is_float(t) && !kernel.floats.has(t) ? f32 : t; }

std::vector<Tensor> run_body(const OpDef& op, std::span<const Tensor> in, const Attrs& attrs) {
  Graph g(Graph::Mode::immediate);
  std::vector<Var> vars;
  for (const Tensor& t : in) vars.push_back(g.constant(t));
  std::vector<Tensor> results;
  for (const Var& v : op.body(vars, attrs)) results.push_back(v.value());
  return results;
}

}  // namespace

std::vector<Tensor> run_op(const OpDef& op, std::span<const Tensor> in, std::span<const TensorType> out,
                           const Attrs& attrs) {
  const Kernel* kernel = kernel_of(op, Device{}.kind);
  if (!kernel && !op.view && op.body) return run_body(op, in, attrs);
  // A window, as in a plan: kernels that take any strides then see the same layout, and round the same way.
  if (View seen; op.view && op.view(in[0].view(), attrs, seen)) return {Tensor::window(in[0], seen)};
  if (!kernel) throw MissingKernel("[" + op.name + "] has no kernel for the cpu");
  std::vector<Tensor> operands(in.begin(), in.end()), results;
  std::vector<View> views_in, views_out;
  std::vector<TensorType> types_in, types_out;
  for (Tensor& t : operands) {
    t = t.to(taken(*kernel, t.dtype()));
    if (!kernel->takes(int(views_in.size()), t.view())) t = t.contiguous_tensor();
    views_in.push_back(t.view());
    types_in.push_back({t.shape(), t.dtype()});
  }
  for (const TensorType& t : out) {
    types_out.push_back({t.shape, taken(*kernel, t.dtype)});
    results.push_back(Tensor::empty(t.shape, types_out.back().dtype));
    views_out.push_back(results.back().view());
  }
  std::shared_ptr<Buffer> workspace;
  if (kernel->workspace) workspace = Buffer::allocate(kernel->workspace(types_in, types_out, attrs));
  std::shared_ptr<const void> prepared;
  if (kernel->prepare) prepared = kernel->prepare(op, types_in, types_out, attrs);
  Status status;
  if (op.traits.effect || !empty(views_in, views_out))
    kernel->run({.op = op,
                 .in = views_in,
                 .out = views_out,
                 .attrs = attrs,
                 .workspace = workspace ? workspace->data() : nullptr,
                 .prepared = prepared.get(),
                 .status = &status});
  if (status.code != Status::fine) throw ValueError(status.message(op, attrs));
  for (size_t k = 0; k < results.size(); ++k) results[k] = results[k].to(out[k].dtype);
  return results;
}

}  // namespace whence
