#include "whence/nn/layer_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace whence::nn {

std::string made_at(const Module& layer, const std::string& kind, Where where) {
  return fmt::format("{} '{}' made{}", kind, layer.name(), at_line(where));
}

Shape shape_of(const Module& layer, const std::string& kind, Where where, std::initializer_list<Extent> extents) {
  Shape shape;
  for (const Extent& e : extents) {
    if (e.size < e.least)
      throw ShapeError(
          fmt::format("{}: {} must be at least {}, got {}", made_at(layer, kind, where), e.name, e.least, e.size));
    shape.push_back(e.size);
  }
  return shape;
}

double eps_of(const Module& layer, const std::string& kind, Where where, double eps) {
  if (!(eps >= 0) || std::isinf(eps))
    throw ValueError(fmt::format("{}: eps must be finite and not negative, got {}", made_at(layer, kind, where), eps));
  return eps;
}

Init bias_init(int64_t in) {
  const double bound = in > 0 ? 1 / std::sqrt(double(in)) : 0;
  return Init::uniform(-bound, bound);
}

Init weight_init(int64_t in) { return Init::kaiming_uniform(std::max<int64_t>(in, 0), std::sqrt(5.0)); }

}  // namespace whence::nn
