// Explain one prediction and write a page a person can read, or explain many at once.
//
//   auto e = lrp::explain([&](Var ids) { return model(ids); }, sample, {.target = 7});
//   e.write_html("why.html");
//   lrp::Explainer explainer([&](Var v) { return model(v); });
//   Tensor relevance = explainer(batch).relevance;   // of each sample's predicted class, one sweep for all
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "whence/autograd/plan.h"
#include "whence/autograd/signature_cache.h"
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
  /// Values of other inputs that the model asks its graph for by name, without the batch axis: a mask, a second
  /// picture. Those that carry (InputOptions) have their part of the relevance: Explanation::others.
  std::map<std::string, Tensor> inputs{};
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
  std::map<std::string, Tensor> others;  ///< relevance of the other inputs, in their shapes
  LedgerReport ledger;
  std::string rules;  ///< RuleSet::describe()

  /// One self-contained page: no scripts, nothing fetched. Samples of floats with a height and a width (the last two
  /// axes of [H, W] or [channels, H, W]) are drawn as pictures, relevance summed over the channels.
  std::string html() const;
  std::string json() const;  ///< all of it, the ledger by operation and by scope included
  std::string csv() const;   ///< position, token, relevance, gradient x input: a line per position
  // Each in one atomic step. \throws IoError
  void write_html(const std::string& path) const;
  void write_json(const std::string& path) const;
  void write_csv(const std::string& path) const;
  void write_npy(const std::string& path) const;  ///< relevance in the sample's shape, f64
};

/// \param sample  one sample without batch axis: token ids [T] (relevance per position) or values of any shape (per
/// element)
/// \throws MissingRule when the model uses an op without a rule; ShapeError, ValueError when model or target do not
/// fit; NumericError when a score is NaN or infinite (-inf stands for a class that cannot be)
Explanation explain(const ModelFn& model, const Tensor& sample, ExplainOptions options = {});

struct ExplainerOptions {
  RuleSet rules = attn();
  SeedForm form = SeedForm::logit;
  Ints classes{};            ///< explain each sample for each of these in one sweep; empty: for its predicted class
  GraphOptions graph{};      ///< precision, ...
  CompileOptions compile{};  ///< device
};

struct BatchExplanation {
  Tensor scores;     ///< [B, classes]
  Tensor predicted;  ///< i64 [B]
  Tensor relevance;  ///< the samples' shape, [B, ..]; with `classes` [K, B, ..]
};

/// Relevance of whole batches: the model is recorded once per shape of a batch, and a sweep explains all samples, for
/// one class each or for several. Each sample's relevance is its own: rows never mix where the model does not mix them.
class Explainer {
 public:
  explicit Explainer(ModelFn model, ExplainerOptions options = {});
  ~Explainer();
  /// batch: samples along the first axis. \throws as explain
  BatchExplanation operator()(const Tensor& batch);

 private:
  struct Traced;
  ModelFn model_;
  ExplainerOptions options_;
  SignatureCache<Traced> traced_{16};
};

}  // namespace whence::lrp
