#include "whence/autograd/checkpoint.h"

namespace whence {

std::vector<Var> checkpoint(const std::function<std::vector<Var>(std::span<const Var>)>& fn,
                            std::span<const Var> inputs) {
  if (!fn) throw ValueError("checkpoint needs a function");
  if (inputs.empty()) throw ValueError("checkpoint needs at least one input");
  Graph& g = inputs[0].graph();
  NodeId begin = NodeId(g.node_count());
  std::vector<Var> out = fn(inputs);
  g.mark_recompute(begin, NodeId(g.node_count()), out);
  return out;
}

Var checkpoint(const std::function<Var(Var)>& fn, Var input) {
  if (!fn) throw ValueError("checkpoint needs a function");
  return checkpoint([&](std::span<const Var> in) { return std::vector<Var>{fn(in[0])}; }, {&input, 1})[0];
}

}  // namespace whence
