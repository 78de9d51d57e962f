#include "autograd/kernel.h"

#include "autograd/graph.h"

namespace whence {

std::vector<Tensor> run_kernel(const OpDef& op, std::span<const Tensor> in, std::span<const TensorType> out,
                               const Attrs& attrs, uint64_t seed) {
  std::vector<Tensor> results;
  if (!op.cpu && !op.view && op.body) {  // a fused op defined by its body alone
    Graph g(Graph::Mode::immediate);
    std::vector<Var> vars;
    for (const Tensor& t : in) vars.push_back(g.constant(t));
    for (const Var& v : op.body(vars, attrs)) results.push_back(v.value());
    return results;
  }
  // A window, as in a plan: kernels that take any strides then see the same layout, and round the same way.
  if (View seen; op.view && op.view(in[0].view(), attrs, seen)) return {Tensor::window(in[0], seen)};
  std::vector<Tensor> held(in.begin(), in.end());
  if (!op.traits.strided)
    for (Tensor& t : held) t = t.contiguous_tensor();
  std::vector<View> views_in, views_out;
  std::vector<TensorType> types_in;
  for (const Tensor& t : held) {
    views_in.push_back(t.view());
    types_in.push_back({t.shape(), t.dtype()});
  }
  for (const TensorType& t : out) {
    results.push_back(Tensor::empty(t.shape, t.dtype));
    views_out.push_back(results.back().view());
  }
  if (!op.cpu) throw MissingKernel("[" + op.name + "] has no cpu kernel");
  std::shared_ptr<Buffer> workspace;
  if (op.workspace) workspace = Buffer::allocate(op.workspace(types_in, out, attrs));
  op.cpu({views_in, views_out, attrs, workspace ? workspace->data() : nullptr, seed});
  return results;
}

}  // namespace whence
