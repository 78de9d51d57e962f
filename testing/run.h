// One op run forward, backward and for relevance, in immediate graphs or recorded ones. Private to testing/.
#pragma once
#include "whence/autograd/sweep.h"
#include "whence/testing/op_suite.h"
#include "whence/testing/values.h"

namespace whence::suite {

/// The op that a mutant was made from; the op itself otherwise.
const OpDef& original(const OpDef& op);

/// "[matmul] sample 'square'".
std::string title(const OpDef& op, const Sample& sample);

bool sinks(const OpDef& op, size_t i);
/// Operands whose gradient finite differences can see.
std::vector<size_t> differentiable(const OpDef& op, const Sample& sample);
/// Operands that may carry relevance.
std::vector<size_t> carriers(const OpDef& op, const Sample& sample);
bool has_gradient(const OpDef& op);
bool has_relevance(const OpDef& op);
/// The rule is none of the combinators that the suite knows the definition of.
bool needs_reference(const OpDef& op);
/// Assignments of the operands to data (1) and parameter (0) that the relevance checks run through.
std::vector<std::vector<char>> assignments(const OpDef& op, const Sample& sample);
std::string describe(const OpDef& op, std::span<const char> data);
/// Rules under which an op's relevance is checked: the default with a visible stabiliser, and each variant that has a
/// reference.
std::vector<lrp::Rule> rules_for(const OpDef& op);

struct Recorded {
  std::vector<Var> in, out;
};
/// Records the op on inputs x0, x1, ... Data are inputs, the rest parameters.
Recorded record_on(Graph& g, const OpDef& op, const Attrs& attrs, std::span<const Tensor> in,
                   std::span<const char> data);

std::vector<Tensor> forward(const OpDef& op, const Attrs& attrs, std::span<const Tensor> in);
/// Random values of the shape of each floating-point output; undefined for the others.
std::vector<Tensor> cotangents(std::span<const TensorType> out, Rng& rng, int64_t targets = 0);
/// Random relevance. A fused op's further results are saved statistics; they get some only when `all`.
std::vector<Tensor> relevance_seeds(const OpDef& op, std::span<const TensorType> out, Rng& rng, int64_t targets = 0,
                                    bool all = false);
std::vector<TensorType> types(std::span<const Tensor> tensors);

struct SweepSetup {
  PassKind kind = PassKind::gradient;
  lrp::Rule rule{};
  bool inline_fused = false;
  int64_t targets = 0;
  bool ledger = false;
};
struct Swept {
  std::vector<Tensor> in;        ///< per operand asked for; undefined otherwise
  std::vector<Tensor> absorbed;  ///< ledger entries
};
/// Sweeps from every output with a defined cotangent to the operands in `wrt`.
Swept sweep_op(const OpDef& op, const Attrs& attrs, std::span<const Tensor> in, std::span<const char> data,
               std::span<const Tensor> cotangent, std::span<const size_t> wrt, const SweepSetup& setup);
/// The same nodes appended to any graph.
std::vector<Var> sweep_recorded(const Recorded& r, std::span<const Var> cotangent, std::span<const size_t> wrt,
                                const Pass& pass);

/// Gradients for every differentiable operand.
std::vector<Tensor> gradient(const OpDef& op, const Sample& sample, std::span<const Tensor> in,
                             std::span<const Tensor> cotangent, bool inline_fused = false);

/// Central differences of fourth order of f at in + t v for operand values v (undefined: not moved): sum over outputs
/// <cotangent, dy/dt>.
using TensorFn = std::function<std::vector<Tensor>(std::span<const Tensor>)>;
double directional(const TensorFn& f, std::span<const Tensor> in, std::span<const Tensor> v,
                   std::span<const Tensor> cotangent, double h);
/// J[o][j] = d out_k[o] / d in_i[j] by central differences; out_k flattened.
std::vector<std::vector<double>> jacobian(const TensorFn& f, std::span<const Tensor> in, size_t i, size_t k, double h);

}  // namespace whence::suite
