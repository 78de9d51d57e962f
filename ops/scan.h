// Loops over time whose step is written by the user. docs/loops.md shows them at work; what the comments leave unsaid
// is at the head of ops/ops.h.
#pragma once
#include <functional>
#include <vector>

#include "whence/ops/ops.h"

namespace whence {

/// What the body of a scan is given, values of a graph of the body's own: states of their shapes, one step of what was
/// given per step, and what all steps share as it is.
struct ScanStep {
  std::vector<Var> carries, per_step, shared;
};
/// What the body gives back: the states of the next step, each of its state's type, and what this step gives.
struct ScanNext {
  std::vector<Var> carries, out;
};
struct ScanOptions {
  bool reverse = false;  ///< from the last step to the first; per_step and out keep their places
  /// Integer [B]: sample b, a row of every state and of every out, has its first lengths[b] steps. Outside them its
  /// states stay as they are and its out is 0. Absent: all steps
  std::optional<Var> lengths = {};
  int64_t steps = -1;  ///< T, where nothing is given per step
};
struct Scanned {
  std::vector<Var> carries;  ///< after the last step; after no step as they were given
  std::vector<Var> out;      ///< [T, ..] each
};
/// carries, out[t] = body(carries, per_step[t], shared) for t = 0 .. T - 1. One node, whatever T is: the body is
/// recorded once, in this call, and planned once. per_step [T, ..] each, one T (ShapeError); carries and shared any;
/// dtypes any.
///
/// The body uses what it is given and nothing else of the graph outside: give it the rest as `shared`. Parameters (of a
/// module, say), States and inputs are found by themselves. Random ops draw anew at each step.
///
/// Gradients, of any order, are scans from the other end, over the steps' states, which are kept, and products; the
/// rest is computed again. Relevance goes through the body step by step under the rules of the sweep, as it would
/// through the unrolled steps; a ledger books the body's operations, and checks every step. \throws ValueError for a
/// body that gives nothing, assigns a state, or uses a value from outside; ShapeError or
///         DTypeError for a state whose next value is of another type, and for lengths that are not [B] of integers;
///         ValueError at the run for a length outside 0 .. T; what the body's operations throw, with their lines
Scanned scan(const std::function<ScanNext(const ScanStep&)>& body, const std::vector<Var>& carries,
             const std::vector<Var>& per_step, const std::vector<Var>& shared = {}, const ScanOptions& options = {},
             std::source_location where = std::source_location::current());

}  // namespace whence
