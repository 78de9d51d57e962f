// The suite that every operation passes, the library's own and a user's. From one OpDef literal and its samples it
// checks shapes, error texts, gradients (also of gradients), the relevance ledger, the relevance oracle, fused = body,
// precision and buffer bounds, executors, threads, several targets, batch independence, and that mutants of the vjp
// and of the rule are caught.
//
//   #include <whence/op_suite.h>
//   WHENCE_OP_SUITE(MyOps, "my_*");          // one GoogleTest case per op, sample and check
//
// This header knows no test framework: op_checks() returns named functions that return what they found wrong.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "whence/autograd/sweep.h"

namespace whence::suite {

/// What a check found wrong, one line each with op, sample, layout, direction and the numbers; empty when all is well.
using Failures = std::vector<std::string>;

struct OpCheck {
  std::string name;  ///< "matmul_square_gradient": letters, digits and underscores
  std::function<Failures()> run;
};

/// Every check of every op whose name matches the pattern ('*' matches any run of characters).
/// Call it after static initialisation: ops of any file are registered by then.
std::vector<OpCheck> op_checks(std::string_view pattern = "*");

// ---- relevance references -----------------------------------------------------------------------------------------

/// One relevance step in f64, for a slow reference to repeat.
struct RelevanceCase {
  const OpDef& op;
  const Attrs& attrs;
  const lrp::Rule& rule;
  std::vector<Tensor> in, out;  ///< f64 contiguous (integers as they are)
  std::vector<Tensor> R;        ///< relevance at each output, f64 contiguous; undefined at integer outputs
  std::vector<char> carries;    ///< operand i is data: it takes relevance
};
/// Relevance of each operand, f64 of its shape; undefined for operands that take none.
using RelevanceReference = std::function<std::vector<Tensor>(const RelevanceCase&)>;

/// An op with a rule of its own, not one of the combinators in autograd/rules.h, needs a reference: the closed form in
/// plain loops, written without the op's own code. It is compared for the default and each of OpDef::variants.
void relevance_reference(std::string op, RelevanceReference reference);

/// stab(y) under a rule, in plain loops; y is f64 contiguous.
std::vector<double> stabilised(const lrp::Rule& rule, const Tensor& y);
/// Flat index into an operand that broadcasts to `out`, for flat index i of the output.
int64_t broadcast_index(const Shape& operand, const Shape& out, int64_t i);

/// A mutant that equals the original by algebra, so that no test can catch it ("swapped" of a symmetric op). The suite
/// fails when the claim is wrong. `mutant` is the name in the suite's message, such as "vjp swapped".
void equivalent_mutant(std::string op, std::string mutant, std::string reason);

/// Elements that get no gradient by definition although the result depends on them (an embedding's padding row): 1 in
/// the mask. The suite does not move them, and expects zeros there.
using HeldElements = std::function<std::vector<char>(const Attrs& attrs, size_t operand, const Shape& shape)>;
void held_elements(std::string op, HeldElements mask);

// ---- single checks, for programs that want less than op_checks ----------------------------------------------------

/// Fresh values for a sample's inputs, the same at every call; `dtype` stands in for f64.
std::vector<Tensor> draw(const OpDef& op, const Sample& sample, DType dtype = f64);

Failures check_errors(const OpDef& op);
Failures check_literal(const OpDef& op);
Failures check_mutants(const OpDef& op);
Failures check_forward(const OpDef& op, const Sample& sample);
Failures check_gradient(const OpDef& op, const Sample& sample);
Failures check_second_order(const OpDef& op, const Sample& sample);
Failures check_ledger(const OpDef& op, const Sample& sample);
Failures check_oracle(const OpDef& op, const Sample& sample);
Failures check_fused(const OpDef& op, const Sample& sample);
Failures check_kernel(const OpDef& op, const Sample& sample);
Failures check_precision(const OpDef& op, const Sample& sample);
Failures check_executors(const OpDef& op, const Sample& sample);
Failures check_devices(const OpDef& op, const Sample& sample);
Failures check_targets(const OpDef& op, const Sample& sample);
Failures check_batch(const OpDef& op, const Sample& sample);

/// Devices on which check_devices repeats every sample, beside the CPU; none at first.
std::vector<Device>& devices();

/// Numbers compared so far in this process.
int64_t comparisons();

/// Set by a program that counts what the calling thread takes from the heap (tests/op_suite/heap.cpp): allocations so
/// far. check_kernel then fails a kernel that still allocates when it runs for the third time on equal shapes.
extern int64_t (*heap_allocations)();

}  // namespace whence::suite
