// Does an explanation name what the model uses? Perturbation curves: units (tokens, patches) are removed in order of
// relevance and the score of the explained class is followed. Everything is normalised to [0, 1]: x is the fraction
// removed, areas are means.
//
//   MoRF      most relevant first: a good explanation makes the score fall at once
//   LeRF      least relevant first: a good explanation keeps it up for long
//   ABPC      area(LeRF) - area(MoRF): between -1 and 1 for scores in [0, 1]; chance is 0
//   insertion everything removed, then the most relevant put back first
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence::lrp {

/// keep: u8 (B, n), 1 = the unit stays, 0 = it is removed (masked, blurred: the callback decides). Returns B scores of
/// the explained class, probabilities preferably.
using ScoreBatch = std::function<std::vector<double>(const Tensor& keep)>;

struct Curve {
  std::vector<double> fraction{}, score{};
  double area() const;  ///< trapezoids; the mean score over the fractions. \throws ValueError: one list is longer
};

/// Each number must be positive.
struct CurveOptions {
  int64_t steps = 20;         ///< points besides the first; fewer when there are fewer units
  int64_t batch = 32;         ///< perturbed samples per call
  int64_t random_orders = 8;  ///< averaged
  uint64_t seed = 1;
};

struct Faithfulness {
  Curve morf, lerf, random, insertion;
  double abpc() const { return lerf.area() - morf.area(); }
  double comprehensiveness() const { return random.area() - morf.area(); }  ///< higher is better
  double sufficiency() const { return random.area() - lerf.area(); }        ///< lower is better
};

/// Removes units in the given order, which names each of the n units once.
/// \throws ValueError for a unit outside [0, n) or named twice, and for scores that do not match the samples;
/// NumericError for a score that is NaN
Curve deletion_curve(const std::vector<int64_t>& order, const ScoreBatch& score, const CurveOptions& options = {});
/// Puts units back in the given order; as above.
Curve insertion_curve(const std::vector<int64_t>& order, const ScoreBatch& score, const CurveOptions& options = {});
/// Indices by falling value; equal values keep their order. \throws NumericError for NaN
std::vector<int64_t> by_relevance(const std::vector<double>& relevance);
/// All curves for one explanation.
Faithfulness faithfulness(const std::vector<double>& relevance, const ScoreBatch& score,
                          const CurveOptions& options = {});
/// Point by point mean of curves with equal fractions.
Curve mean_curve(const std::vector<Curve>& curves);

}  // namespace whence::lrp
