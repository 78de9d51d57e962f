// Seeds of a relevance sweep: where it starts and with what. Each sample (and position) gets its own; rows never mix.
//
// `y` holds scores over its last axis: (.., V). Targets are one class per remaining position (..), or per sample (B)
// for sequence outputs (B, T, V) together with a position.
#pragma once
#include <optional>

#include "whence/autograd/sweep.h"

namespace whence::lrp {

/// What stands at the target: 1; the score itself, so that relevance adds up to the logit; or the contrast of the
/// target with the mean of the others, 1 and -1/V over V classes (for models whose scores are mostly negative).
enum class SeedForm { one_hot, logit, contrastive, contrastive_logit };

struct SeedOptions {
  SeedForm form = SeedForm::logit;
  std::optional<int64_t>
      position{};  ///< y (B, T, V) with a target per sample: the position explained; negative counts from the end
};

/// Integer targets of shape y.shape() without its last axis; or of shape (B) with options.position; or one class for
/// all samples as a plain number.
Var seed(Var y, Var target, SeedOptions options = {});
Var seed(Var y, int64_t target, SeedOptions options = {});
/// The class of the highest score, at every position or at the one asked for.
Var seed_argmax(Var y, SeedOptions options = {});

/// Several targets in one sweep: K seeds with a leading axis, for RelevanceOptions{.targets = K}. Every sample is
/// explained for each class in turn.
Var seeds_for_classes(Var y, const Ints& classes, SeedOptions options = {});

}  // namespace whence::lrp
