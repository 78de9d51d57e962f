#include "whence/lrp/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace whence::lrp {

double Curve::area() const {
  if (fraction.size() != score.size())
    throw ValueError("a curve of " + std::to_string(fraction.size()) + " fractions and " +
                     std::to_string(score.size()) + " scores has no area");
  if (score.size() < 2) return score.empty() ? 0 : score[0];
  double a = 0, width = fraction.back() - fraction.front();
  for (size_t i = 1; i < score.size(); ++i) a += (fraction[i] - fraction[i - 1]) * (score[i] + score[i - 1]) / 2;
  return width > 0 ? a / width : score[0];
}

std::vector<int64_t> by_relevance(const std::vector<double>& r) {
  for (size_t i = 0; i < r.size(); ++i)
    if (std::isnan(r[i])) throw NumericError("the relevance of unit " + std::to_string(i) + " is NaN: it has no rank");
  std::vector<int64_t> order(r.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return r[size_t(a)] > r[size_t(b)]; });
  return order;
}

namespace {

void check(const CurveOptions& o) {
  for (auto [name, v] : {std::pair("steps", o.steps), {"batch", o.batch}, {"random_orders", o.random_orders}})
    if (v < 1) throw ValueError(std::string("CurveOptions: ") + name + " must be positive, got " + std::to_string(v));
}

// Every unit once.
void check(const std::vector<int64_t>& order) {
  std::vector<char> seen(order.size());
  for (int64_t unit : order) {
    if (unit < 0 || unit >= int64_t(order.size()))
      throw ValueError("unit " + std::to_string(unit) + " of the order is outside [0, " + std::to_string(order.size()) +
                       ")");
    if (std::exchange(seen[size_t(unit)], 1))
      throw ValueError("the order names unit " + std::to_string(unit) + " twice");
  }
}

// How many units are touched at each point: 0 .. n in at most `steps` even strides.
std::vector<int64_t> strides(int64_t n, int64_t steps) {
  steps = std::min(steps, n);
  std::vector<int64_t> at;
  for (int64_t s = 0; s <= steps; ++s) at.push_back((s * n + steps / 2) / steps);
  return at;
}

Curve curve(const std::vector<int64_t>& order, const ScoreBatch& score, const CurveOptions& o, bool remove) {
  check(o);
  check(order);
  int64_t n = int64_t(order.size());
  Curve c;
  if (n == 0) return c;
  std::vector<int64_t> at = strides(n, o.steps);
  for (size_t begin = 0; begin < at.size(); begin += size_t(o.batch)) {
    size_t end = std::min(at.size(), begin + size_t(o.batch));
    Tensor keep = Tensor::full({int64_t(end - begin), n}, remove ? 1 : 0, u8);
    for (size_t b = begin; b < end; ++b)
      for (int64_t k = 0; k < at[b]; ++k)
        keep.data<uint8_t>()[int64_t(b - begin) * n + order[size_t(k)]] = remove ? 0 : 1;
    std::vector<double> s = score(keep);
    if (s.size() != end - begin)
      throw ValueError("the scoring function returned " + std::to_string(s.size()) + " scores for " +
                       std::to_string(end - begin) + " samples");
    for (size_t b = begin; b < end; ++b) {
      if (std::isnan(s[b - begin]))
        throw NumericError("the scoring function gave NaN for a sample with " + std::to_string(at[b]) + " of " +
                           std::to_string(n) + " units " + (remove ? "removed" : "put back"));
      c.fraction.push_back(double(at[b]) / double(n));
      c.score.push_back(s[b - begin]);
    }
  }
  return c;
}

uint64_t next(uint64_t& state) {  // splitmix64: the same orders everywhere
  uint64_t z = (state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

Curve deletion_curve(const std::vector<int64_t>& order, const ScoreBatch& score, const CurveOptions& o) {
  return curve(order, score, o, true);
}
Curve insertion_curve(const std::vector<int64_t>& order, const ScoreBatch& score, const CurveOptions& o) {
  return curve(order, score, o, false);
}

Curve mean_curve(const std::vector<Curve>& curves) {
  Curve m;
  for (const Curve& c : curves) {
    if (m.fraction.empty()) {
      m.fraction = c.fraction;
      m.score.assign(c.score.size(), 0);
    }
    if (c.fraction != m.fraction || c.score.size() != m.score.size())
      throw ValueError("curves over different fractions have no mean");
    for (size_t i = 0; i < c.score.size(); ++i) m.score[i] += c.score[i] / double(curves.size());
  }
  return m;
}

Faithfulness faithfulness(const std::vector<double>& relevance, const ScoreBatch& score, const CurveOptions& o) {
  std::vector<int64_t> order = by_relevance(relevance), reverse(order.rbegin(), order.rend());
  Faithfulness f{
      deletion_curve(order, score, o), deletion_curve(reverse, score, o), {}, insertion_curve(order, score, o)};
  std::vector<Curve> random;
  uint64_t state = o.seed;
  for (int64_t k = 0; k < o.random_orders; ++k) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next(state) % i]);
    random.push_back(deletion_curve(order, score, o));
  }
  f.random = mean_curve(random);
  return f;
}

}  // namespace whence::lrp
