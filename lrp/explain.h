// Explain one prediction and write a page a person can read.
//
//   auto e = lrp::explain([&](Var ids) { return model(ids); }, sample, {.target = 7});
//   e.write_html("why.html");
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "whence/lrp/evaluation.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/seed.h"

namespace whence::lrp {

/// From a batch of samples (1 or more, first axis) to scores (B, classes), before the softmax.
using ModelFn = std::function<Var(Var batch)>;

struct ExplainOptions {
  int64_t target = -1;  ///< the class explained; negative: the predicted one
  RuleSet rules = attn();
  SeedForm form = SeedForm::logit;
  std::string title = "Why this prediction?", subtitle{};
  std::vector<std::string> classes{};  ///< names for the page
  std::vector<std::string> tokens{};   ///< text per position; ids are shown when it is empty
  // Perturbation curves, for token samples.
  int64_t removed_token = -1;  ///< id that stands for a removed position; negative: no curves
  CurveOptions curves{};
};

struct Method {
  std::string name;
  std::vector<double> relevance{};  ///< per position: summed over features for token ids
  Faithfulness curves{};            ///< empty without removed_token
};

struct Explanation {
  std::string title, subtitle;
  Tensor sample;
  std::vector<std::string> tokens;
  std::vector<std::string> classes;
  std::vector<double> scores, probabilities;
  int64_t target = 0, predicted = 0;
  Method relevance,
      baseline;  ///< baseline: gradient x input; without relevance values where the model has no embedding of the ids
  LedgerReport ledger;
  std::string rules;  ///< RuleSet::describe()

  std::string html() const;                        ///< one self-contained page: no scripts, nothing fetched
  void write_html(const std::string& path) const;  ///< in one atomic step. \throws IoError
};

/// \param sample  one sample without batch axis: token ids [T] (relevance per position) or values of any shape (per
/// element)
/// \throws MissingRule when the model uses an op without a rule; ShapeError, ValueError when model or target do not
/// fit; NumericError when a score is NaN or infinite (-inf stands for a class that cannot be)
Explanation explain(const ModelFn& model, const Tensor& sample, ExplainOptions options = {});

}  // namespace whence::lrp
