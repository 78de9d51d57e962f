// OpDef: one operation in one place. Shape inference, kernel, vjp, relevance (or a body), samples and errors.
#pragma once
#include <deque>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "whence/autograd/kernel.h"
#include "whence/autograd/rules.h"
#include "whence/autograd/scalar_row.h"

namespace whence {

class Graph;
class Var;
class SweepCtx;
struct OpDef;

/// What shape inference sees; it calls out() once per result.
class InferCtx {
 public:
  InferCtx(const OpDef& op, std::span<const TensorType> in, const Attrs& attrs, std::deque<TensorType>& results)
      : op(op), in(in), attrs(attrs), results_(results) {}
  const OpDef& op;
  std::span<const TensorType> in;
  const Attrs& attrs;
  int n() const { return int(in.size()); }
  const Shape& shape(int i) const { return in[size_t(i)].shape; }
  DType dtype(int i) const { return in[size_t(i)].dtype; }
  int rank(int i) const { return shape(i).rank(); }
  void out(const Shape& shape, DType dtype) { results_.push_back({shape, dtype}); }
  [[noreturn]] void shape_error(const std::string& what, const std::string& hint = "") const;
  [[noreturn]] void dtype_error(const std::string& what, const std::string& hint = "") const;
  [[noreturn]] void value_error(const std::string& what, const std::string& hint = "") const;
  // Common checks, each with a message that names the operand.
  void need_float(int i) const;
  void need_integer(int i) const;
  void need_same_dtype(int i, int j) const;
  void need_holds(DType t, double number) const;  ///< an attribute that becomes a t
  void need_rank(int i, int rank) const;
  void need_shape(int i, const Shape& shape) const;
  int axis(int i, int64_t axis) const;  ///< normalised, checked against operand i

 private:
  std::deque<TensorType>& results_;
};

/// One input of a test sample: values drawn uniformly from [low, high) (integers too), away from kinks.
struct SampleInput {
  Shape shape{};
  DType dtype = f64;  ///< f64 stands for "the float dtype under test"
  double low = -2, high = 2;
  bool distinct = false;   ///< well separated values (max, sort)
  bool parameter = false;  ///< recorded as a parameter: carries no relevance
  double gap = 0;          ///< keep |x| at least this far from zero (kinks, divisions)
  bool statistic = false;  ///< f32 where the dtype under test is a half
};

struct Sample {
  std::vector<SampleInput> in{};
  Attrs attrs{};
  std::string name{};
};

struct ErrorSample {
  std::vector<TensorType> in{};
  Attrs attrs{};
  std::string message{};  ///< a fragment of the text that must be thrown
};

struct Traits {
  bool compute_bound = false;  ///< a product, costly per byte: rematerialisation keeps its result, and a precision
                               ///< policy (GraphOptions) casts its operands
  bool mixed_floats = false;   ///< f32 operands beside halves as they come (norms): the policy promotes nothing
  bool random = false;         ///< draws numbers: never merged by CSE unless its key is equal, never moved across runs
  bool effect = false;         ///< acts outside the graph: never merged, never dropped, in the order of recording
  bool leaf = false;           ///< input, parameter, constant
  bool blocks_gradient = false;
  bool blocks_relevance = false;
  bool nondifferentiable = false;  ///< comparisons, argmax, rounding to integers: cotangents stop here by definition
  bool batched_sweep = false;      ///< vjp and relevance accept cotangents with extra leading axes (several targets)
  uint32_t sinks = 0;              ///< bit i: operand i (index, mask) never receives gradient or relevance
  bool backward = false;           ///< made by sweeps only: needs a body or a vjp, but no relevance rule
};

using InferFn = void (*)(InferCtx&);
using SweepFn = void (*)(SweepCtx&);
using ViewFn = bool (*)(const View& in, const Attrs& attrs, View& out);  ///< false: this layout needs a copy
using BodyFn = std::vector<Var> (*)(std::span<const Var> in, const Attrs& attrs);

struct OpDef {
  std::string name{};                   ///< filled by REGISTER_OP
  std::string doc{};                    ///< one line: formula and shapes
  std::vector<std::string> operands{};  ///< names; a last name ending in "..." repeats
  InferFn infer = nullptr;
  ViewFn view = nullptr;  ///< layout ops: the result aliases input 0 when possible; otherwise cpu copies
  Kernel cpu{};           ///< absent for leaves, elementwise ops and fused ops that only have a body; see also
                          ///< REGISTER_KERNEL
  std::vector<std::pair<Device::Kind, Kernel>> other_kernels{};  ///< filled by REGISTER_KERNEL
  SweepFn vjp = nullptr;
  SweepFn relevance = nullptr;       ///< primitives: the one rule
  BodyFn body = nullptr;             ///< fused ops: the definition, in primitives
  SweepFn fast_relevance = nullptr;  ///< fused ops: the same numbers as the body's sweep, from the fused vjp
  SweepFn absorbed = nullptr;        ///< closed form of what the rule absorbs, via SweepCtx::absorb; default nothing
  /// Other formulas of the rule, by Rule::variant; lrp::linear_rule brings its own.
  std::vector<std::string> variants{};
  /// Elementwise ops: their function, a row of ops/scalar_table.h or one of WHENCE_SCALAR's. Such an op fuses, runs in
  /// place, takes any strides, and needs no kernel of its own.
  ScalarRow scalar{};
  std::vector<Sample> (*samples)() = nullptr;
  std::vector<ErrorSample> (*errors)() = nullptr;
  Traits traits{};
  std::string file{};  ///< filled by REGISTER_OP

  bool fused() const { return body != nullptr; }
  /// Result i depends on the elements i of the (broadcast) operands only.
  bool elementwise() const { return scalar && !scalar.whole_rows; }
  std::string operand_name(int i) const;
};

/// Adds an op. Defects are collected and thrown together by validate_registry().
const OpDef& register_op(const char* name, const char* file, OpDef def);
const OpDef* find_op(std::string_view name);
const OpDef& op_named(std::string_view name);  ///< \throws Error for an unknown name
std::vector<const OpDef*> all_ops();           ///< sorted by name
/// Every defect of every registered literal, one line each; empty when all is well.
std::vector<std::string> registry_defects();
/// Adds one: something that makes this build unfit to run here. For static initialisers.
void report_defect(std::string defect);
/// Called by the first Graph. \throws Error listing all defects at once.
void validate_registry();

/// What REGISTER_OP assigns a literal to.
struct OpEntry {
  const char *name, *file;
  const OpDef& operator=(OpDef def) const { return register_op(name, file, std::move(def)); }
};
#define REGISTER_OP(NAME) \
  static const ::whence::OpDef& NAME##_op = ::whence::OpEntry { #NAME, __FILE__ }

}  // namespace whence
