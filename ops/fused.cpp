#include "whence/ops/fused.h"

#include <limits>

#include "whence/ops/ops.h"

namespace whence {

std::vector<Var> vjp_of_body(const OpDef& op, std::span<const Var> in, const Attrs& attrs,
                             std::span<const Var> cotangents, const std::vector<char>& needs, int64_t targets) {
  Graph& g = in[0].graph();
  // Each operand under a name of its own: otherwise k = f(q) would send k's gradient on to q.
  std::vector<Var> own;
  for (const Var& v : in) own.push_back(g.record(op_named("reshape"), {&v, 1}, {{"shape", v.shape()}}));
  std::vector<Var> outs = op.body(own, attrs), roots, seeds, wrt;
  for (size_t k = 0; k < cotangents.size(); ++k)
    if (cotangents[k].defined()) {
      roots.push_back(outs[k]);
      seeds.push_back(cotangents[k]);
    }
  std::vector<Var> result(in.size());
  for (size_t i = 0; i < in.size(); ++i)
    if (needs[i] && is_float(own[i].dtype())) wrt.push_back(own[i]);
  if (roots.empty() || wrt.empty()) return result;
  std::vector<Var> found = sweep(roots, seeds, wrt, {.kind = PassKind::gradient, .targets = targets});
  for (size_t i = 0, at = 0; i < in.size(); ++i)
    if (needs[i] && is_float(own[i].dtype())) result[i] = found[at++];
  return result;
}

void vjp_through_body(SweepCtx& c) {
  std::vector<Var> cotangents(static_cast<size_t>(c.n_out()));
  std::vector<char> needs(static_cast<size_t>(c.n_in()));
  for (int k = 0; k < c.n_out(); ++k)
    if (c.has(k)) cotangents[size_t(k)] = c.d(k);
  for (int i = 0; i < c.n_in(); ++i) needs[size_t(i)] = c.needs(i);
  std::vector<Var> found = vjp_of_body(c.op, c.all_in(), c.attrs, cotangents, needs, c.targets());
  for (int i = 0; i < c.n_in(); ++i)
    if (found[size_t(i)].defined()) c.give(i, found[size_t(i)]);
}

Var unmasked(Var x) {
  return where(equal(x, x.graph().constant(-std::numeric_limits<double>::infinity(), x.dtype())), 0.0, x);
}

}  // namespace whence
