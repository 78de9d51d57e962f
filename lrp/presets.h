// Rule sets of the published methods, as data: lrp::attn().describe() prints one. Formulas, sources and what each is
// good for: docs/relevance.md.
//
// A preset is a value; add to it freely, the last matching entry wins:
//   auto rules = lrp::attn();
//   rules.set("linear", "head*", {.variant = "gamma", .gamma = 0.1});
#pragma once
#include "whence/autograd/rules.h"

namespace whence::lrp {

/// The epsilon rule everywhere, which is every op's own default: the same rules as attn() under a plain name.
RuleSet epsilon(double eps = 1e-6, Stab stab = Stab::relative);

/// AttnLRP: epsilon for sums and linear maps, half to each factor of a product of data (Q.K, A.V, gate.up), the Taylor
/// rule of the softmax, normalisers frozen, identity for activations. These are the defaults of the ops. Biases and the
/// softmax absorb relevance; the ledger says how much.
RuleSet attn(double eps = 1e-6);

/// CP-LRP: attention weights and gates are constants. q, k and the gate branch get exactly zero, the value path
/// everything. A gate is the first operand of a product, as in silu(gate) * up; where a model multiplies in the other
/// order, add set("mul", scope, {.variant = "first"}).
RuleSet cp(double eps = 1e-6);

/// DynamicLRP as published: |a| / (|a| + |b|) for sums, differences, products, quotients and reductions, identity for
/// layer and RMS norms, epsilon 1e-11 for linear maps, whose bias goes by absolute ratio. Half to each factor only
/// between two data tensors. Its implementation's defects are not reproduced.
RuleSet dynamic();
/// The same with its gamma rule for linear maps and convolutions.
RuleSet dynamic_gamma(double conv_gamma = 100, double linear_gamma = 1);

/// MambaLRP: activations identity, gates half and half, normalisers frozen, epsilon 1e-6; and in a scan, linear_scan or
/// written in products and sums, the decay, B (with the step) and C are coefficients that take nothing
/// (autograd/recurrence.h says how they are told from the data; state such a scan in scopes and rules of your own
/// where it has another form).
RuleSet mamba();

// Composites for chains of linear maps and ReLU, after zennit: dense layers epsilon, convolutions as named. The bounds
// of a box are those of the input (normalised pixels, say). Sums and average pools use epsilon.
RuleSet epsilon_plus(double eps = 1e-6);
RuleSet epsilon_alpha2_beta1(double eps = 1e-6);
/// zbox for the convolutions in scope `first`, gamma for the others, epsilon for dense layers.
RuleSet epsilon_gamma_box(Tensor low, Tensor high, std::string first = "*conv1*", double gamma = 0.25,
                          double eps = 1e-6);
RuleSet epsilon_gamma_box(double low, double high, std::string first = "*conv1*", double gamma = 0.25,
                          double eps = 1e-6);

/// A preset by its name ("attn", "cp", "dynamic", "mamba", "epsilon", "epsilon_plus", "epsilon_alpha2_beta1").
/// \throws ValueError listing the names.
RuleSet preset(std::string_view name);

}  // namespace whence::lrp
