#include "whence/lrp/seed.h"

#include "whence/ops/ops.h"

namespace whence::lrp {
namespace {

// 1 on the class that `target` names, elsewhere 0: (.., V).
Var marks(Var y, Var target) { return one_hot(target, y.shape()[-1], y.dtype()); }

Var shaped(Var y, Var mark, SeedForm form) {
  double others = 1.0 / double(y.shape()[-1]);
  Var contrast = mark * (1.0 + others) - others;  // 1 at the target, -1/V at every other class
  switch (form) {
    case SeedForm::one_hot: return mark;
    case SeedForm::logit: return where(not_equal(mark, 0.0), y, 0.0);  // other scores may be infinite
    case SeedForm::contrastive: return contrast;
    case SeedForm::contrastive_logit: return contrast * y;
  }
  return mark;
}

// true at the asked position of every sample, (T, 1).
Var at_position(Var y, int64_t position) {
  if (y.rank() < 2) throw ShapeError("a seed at a position needs scores (.., T, V), got " + y.shape().str());
  int64_t steps = y.shape()[-2], p = position < 0 ? position + steps : position;
  if (p < 0 || p >= steps)
    throw ValueError("position " + std::to_string(position) + " is outside a sequence of " + std::to_string(steps));
  Tensor t = Tensor::zeros({steps, 1}, boolean);
  t.slice(0, p, p + 1).fill(1);
  return y.graph().constant(t);
}

Shape without_last(const Shape& s, int n = 1) {
  Shape r;
  for (int i = 0; i < s.rank() - n; ++i) r.push_back(s[i]);
  return r;
}

Var make(Var y, Var target, const SeedOptions& o) {
  if (y.rank() < 1) throw ShapeError("a seed needs scores over a last axis, got a scalar");
  Shape positions = without_last(y.shape());
  if (!(target.shape() == positions) && y.rank() >= 2 && target.shape() == without_last(y.shape(), 2)) {
    if (!o.position)
      throw ShapeError("one target per sample for scores " + y.shape().str() + " needs SeedOptions::position");
    target = broadcast_to(unsqueeze(target, -1), positions);
  }
  if (!(target.shape() == positions))
    throw ShapeError("targets " + target.shape().str() + " do not fit scores " + y.shape().str());
  Var s = shaped(y, marks(y, target), o.form);
  return o.position ? where(at_position(y, *o.position), s, 0.0) : s;
}

}  // namespace

Var seed(Var y, Var target, SeedOptions options) { return make(widened(stop_gradient(y)), target, options); }

Var seed(Var y, int64_t target, SeedOptions options) {
  if (y.rank() < 1 || target < 0 || target >= y.shape()[-1])
    throw ValueError("class " + std::to_string(target) + " is outside scores " + y.shape().str());
  Var t = broadcast_to(y.graph().constant(Tensor::full({}, double(target), i64)), without_last(y.shape()));
  return seed(y, t, options);
}

Var seed_argmax(Var y, SeedOptions options) { return seed(y, argmax(y, -1), options); }

Var seeds_for_classes(Var y, const Ints& classes, SeedOptions options) {
  if (classes.empty()) throw ValueError("seeds_for_classes needs at least one class");
  std::vector<Var> rows;
  for (int64_t k : classes) rows.push_back(seed(y, k, options));
  return stack(rows, 0);
}

}  // namespace whence::lrp
