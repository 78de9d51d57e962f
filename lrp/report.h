// One self-contained HTML page that a person reads at a glance: sequences coloured by relevance, where in the network
// it flows and is absorbed, the ledger, and the deletion curves. No scripts, no outside resources.
#pragma once
#include <string>
#include <vector>

#include "whence/lrp/evaluation.h"
#include "whence/lrp/ledger.h"

namespace whence::lrp {

struct Bar {
  std::string name;
  double value = 0;
};

/// A coloured piece of the input: a k-mer, a word, a patch.
struct Piece {
  std::string text;
  double relevance = 0;
  std::string note;  ///< shown on hover
};

/// A picture and its relevance, row by row, drawn beside each other.
struct Picture {
  int64_t height = 0, width = 0;
  std::vector<double> grey{}, relevance{};  ///< height * width; grey is stretched to its range
};

struct ReportSample {
  std::string title;               ///< identifier
  std::string truth, predicted;    ///< class names
  std::vector<Bar> probabilities;  ///< the leading classes
  std::vector<Piece> pieces;
  Picture picture;               ///< without pixels: none
  std::vector<Bar> layers, ops;  ///< relevance by scope and by op
  double seed = 0, inputs = 0;   ///< the ledger: seed = inputs + absorbed + residual
  std::vector<Bar> absorbed;     ///< by category
  double residual = 0;
};

struct ReportCurves {
  std::string name;  ///< "AttnLRP", "gradient x input"
  Curve morf, lerf, random;
  double area() const { return lerf.area() - morf.area(); }
};

struct Report {
  std::string title, subtitle;
  std::vector<Bar> facts;  ///< figures at the top; values are shown as they are, names below
  std::string method;      ///< rule set, seed, stabiliser
  std::string curve_note;  ///< what is hidden with what, over how many samples
  std::vector<ReportCurves> curves;
  std::string layers_caption = "Relevance by layer", ops_caption = "Relevance by operation";
  std::vector<ReportSample> samples;
};

std::string html(const Report& report);

/// Bars and ledger lines of a report from a ledger. absorbed_by_op: the largest first, none below 0.1 % of the seed.
std::vector<Bar> absorbed_by_op(const LedgerReport& ledger, size_t most);
std::vector<Bar> absorbed_by_scope(const LedgerReport& ledger);
void book(const LedgerReport& ledger, ReportSample& sample);

}  // namespace whence::lrp
