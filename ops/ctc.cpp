#include "whence/ops/ctc.h"

#include <cmath>

#include "whence/ops/checks.h"
#include "whence/ops/composite.h"
#include "whence/ops/index.h"
#include "whence/ops/scan.h"

namespace whence {
namespace {

constexpr double kNever = -1e30;  // log of no probability, finite so that it can be multiplied by zero

// [B, 1], each in [low, high].
Var lengths(const Arg& v, int64_t batch, int64_t low, int64_t high, const char* what) {
  if (!(v.shape() == Shape{batch}))
    throw ShapeError(std::string("[ctc_loss] ") + what + " must be [" + std::to_string(batch) + "], got " +
                     v.shape().str());
  return unsqueeze(in_range(cast(v, i64), low, high + 1, what), 1);
}

// x [B, L] moved towards the end by n places.
Var later(Var x, int64_t n, double fill) { return pad(x, {0, 0, n, -n}, PadMode::constant, fill); }

}  // namespace

Var ctc_loss(Arg logits, Arg targets, Arg input_lengths, Arg target_lengths, const CtcOptions& o) {
  LocationGuard at(logits);
  need_float(logits, "ctc_loss", "logits");
  if (logits.rank() != 3 || logits.shape()[0] < 1)
    throw ShapeError("[ctc_loss] logits must be [T, B, classes], got " + logits.shape().str());
  Graph& g = logits.graph();
  int64_t T = logits.shape()[0], B = logits.shape()[1], blank = o.blank;
  if (targets.rank() != 2 || targets.shape()[0] != B || targets.shape()[1] < 1)
    throw ShapeError("[ctc_loss] targets must be [" + std::to_string(B) + ", S], got " + targets.shape().str());
  if (blank < 0 || blank >= logits.shape()[2])
    throw ValueError("[ctc_loss] blank " + std::to_string(blank) + " is no class");
  int64_t S = targets.shape()[1], L = 2 * S + 1;
  Var rows = lengths(input_lengths, B, 1, T, "input_lengths"),
      labels = lengths(target_lengths, B, 0, S, "target_lengths");

  // Blanks between, before and after the labels; what stands behind the target's length is not looked at.
  Var label = where(less(arange(g, S), labels), cast(targets, i64), double(blank)),
      gap = full(g, {B, S}, double(blank), i64);
  Var symbol = concat({reshape(stack({gap, label}, 2), {B, 2 * S}), full(g, {B, 1}, double(blank), i64)}, 1);  // [B, L]
  Var read = where(less(reshape(arange(g, T), {T, 1, 1}), unsqueeze(rows, 0)), widened(logits), 0.0);
  Var score = take_along_axis(log_softmax(read), broadcast_to(unsqueeze(symbol, 0), {T, B, L}), 2);  // [T, B, L]
  // Two different labels may follow each other without the blank between them.
  Var skips = logical_and(not_equal(symbol, double(blank)), not_equal(symbol, later(symbol, 2, double(blank))));

  // alpha_t(s): the log-probability of all beginnings that have reached symbol s at time t.
  Var place = arange(g, L);
  auto advance = [](const ScanStep& s) {
    Var stay = s.carries[0], step = later(stay, 1, kNever), skip = where(s.shared[0], later(stay, 2, kNever), kNever);
    return ScanNext{{logsumexp(stack({stay, step, skip}), {0}) + s.per_step[0]}, {}};
  };
  Var first = where(less(place, 2.0), select(score, 0, 0), kNever), more = squeeze(rows, 1) - 1.0;
  Var alpha = scan(advance, {first}, {slice(score, 0, 1)}, {skips}, {.lengths = more}).carries[0];
  Var last = labels * 2.0, ends = logical_or(equal(place, last), equal(place, last - 1.0));
  Var loss = -logsumexp(where(ends, alpha, kNever), {1});
  loss = where(greater(loss, -0.1 * kNever), o.zero_infinity ? 0.0 : INFINITY, loss);
  if (o.reduction == Reduction::none) return loss;
  if (o.reduction == Reduction::sum) return sum(loss);
  return mean(loss / cast(maximum(squeeze(labels, 1), 1.0), loss.dtype()));
}

}  // namespace whence
