#include "whence/nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace whence::nn {

RotaryEmbedding::RotaryEmbedding(int64_t features, RotaryOptions o) {
  if (features < 0 || features % 2)
    throw ShapeError("rotary positions turn pairs of features, got " + std::to_string(features));
  rates = Tensor::empty({features / 2}, f64);
  for (int64_t i = 0; i < features / 2; ++i) {
    double rate = std::pow(o.theta, -2.0 * double(i) / double(features));
    if (o.factor != 1) {  // turns within the positions that the model was trained on
      const double turns = o.original_positions * rate / (2 * std::numbers::pi);
      const double fast = std::clamp((turns - o.low_freq_factor) / (o.high_freq_factor - o.low_freq_factor), 0.0, 1.0);
      rate *= (1 - fast) / o.factor + fast;
    }
    rates.data<double>()[i] = rate;
  }
}

Var RotaryEmbedding::angles(Arg positions, DType dtype) const {
  return unsqueeze(cast(positions, dtype), -1) * positions.graph().constant(rates.to(dtype));
}
Var RotaryEmbedding::angles(Graph& g, int64_t T, DType dtype) const { return angles(arange(g, T, dtype), dtype); }

Var rotate(Arg x, Arg angles) {
  LocationGuard at(x);
  const int64_t n = angles.shape()[-1], D = x.shape()[-1];
  if (2 * n > D)
    throw ShapeError("rotate: " + std::to_string(n) + " angles for " + std::to_string(D) + " features" +
                     at_line(x.where));
  Var a = slice(x, -1, 0, n), b = slice(x, -1, n, 2 * n);
  Var c = stop_relevance(cos(angles)), s = stop_relevance(sin(angles));
  std::vector<Var> parts{a * c - b * s, b * c + a * s};
  if (2 * n < D) parts.push_back(slice(x, -1, 2 * n));
  return concat(parts, -1);
}

}  // namespace whence::nn
