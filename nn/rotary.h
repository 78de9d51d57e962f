// Rotary positions (Su et al. 2021, arXiv 2104.09864): pairs of features turn by an angle that grows with the position.
#pragma once
#include "whence/ops/ops.h"

namespace whence::nn {

struct RotaryOptions {
  double theta = 1e4;
  /// Llama 3's: frequencies of long waves are divided by `factor`, those of short waves stay. 1: as they are.
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  double original_positions = 8192;
};

/// Turns the pairs (i, i + n) of the first 2 n = `features` features by position theta^(-i / n); the others stay.
struct RotaryEmbedding {
  /// \throws ShapeError for an odd or negative number of features
  explicit RotaryEmbedding(int64_t features, RotaryOptions options = {});
  /// Positions [..], any number type -> angles [.., n].
  Var angles(Arg positions, DType dtype) const;
  /// Of the positions 0 .. T - 1: [T, n].
  Var angles(Graph& g, int64_t T, DType dtype) const;
  Tensor rates;  ///< [n] f64
};

/// x [.., T, D] turned by angles [.., T, n] (which broadcast), n at most D / 2. Relevance passes as through any linear
/// map: the angles are no data.
Var rotate(Arg x, Arg angles);

}  // namespace whence::nn
