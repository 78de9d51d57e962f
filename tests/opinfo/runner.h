// A table from operator to Whence expression, and what becomes of a sample.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/opinfo/reader.h"

namespace whence::opinfo {

struct Outputs : std::vector<Var> {
  using std::vector<Var>::vector;
  Outputs(Var v) : std::vector<Var>{v} {}
  Outputs(std::vector<Var> vs) : std::vector<Var>(std::move(vs)) {}
};
using Builder = std::function<Outputs(Call&)>;

/// One expression for the operators that are named, separated by blanks.
struct Row {
  const char* names;
  Builder build;
};
using Table = std::vector<Row>;

Table elementwise_rows();
Table activation_rows();
Table reduction_rows();
Table masked_rows();  ///< masked.*
Table norm_rows();
Table shape_rows();
Table index_rows();
Table linear_algebra_rows();
Table layer_rows();  ///< convolutions, pools, normalisation, resizing, attention
Table loss_rows();

/// All of them, by operator. \throws ValueError for an operator with two rows
std::map<std::string, Builder> operators();

// ---- what several rows say -----------------------------------------------------------------------------------------
/// Axes of "dim" as ints; absent: all of x.
Ints axes_of(const Call& call, int place, Var x);
/// (sum |x|^order)^(1 / order) and its limits over axes, which are not empty.
Var vector_norm(Var x, double order, const Ints& axes, bool keepdim);
/// What "reduction" says; other words are refused.
Reduction reduction_of(const Call& call, int place);
/// x with axis from[i] at to[i].
Var with_axes_moved(Var x, Ints from, Ints to);
/// v [C] beside x [N, C, ..].
Var per_channel(Arg v, int rank);
/// x cast to "dtype" where there is one.
Var with_dtype(const Call& call, int place, Var x);

// ---- running -------------------------------------------------------------------------------------------------------
enum class Outcome { pass, convention, missing, fail };
struct Verdict {
  Outcome outcome = Outcome::pass;
  std::string text;  ///< what differs, which option is missing, or why this engine does otherwise
};
struct Operator {
  const Safetensors& file;
  std::string name;
  double rtol, rtol_grad;
  bool by_element;  ///< tolerances are relative to each value rather than to the largest
  const Builder& build;
};
struct Tolerance {
  double relative;
  bool by_element;
  double least_scale = 0;
};

struct Result {
  std::string key;
  Tensor got, want;
  Tolerance tolerance;
  std::string difference;
};

bool equal_numbers(double a, double b);  ///< NaN equals NaN
std::set<std::string> words(const char* text);

// ---- where this engine does otherwise on purpose: why, or nullptr ---------------------------------------------------
const char* convention(const Operator& op, const Call& call, const Json& sample, const std::vector<Result>& results);
const char* accepted(const Operator& op, const Json& call);

Verdict run_sample(const Operator& op, const Json& sample);
Verdict run_refused(const Operator& op, const Json& call);

}  // namespace whence::opinfo
