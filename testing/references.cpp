// Slow references for relevance rules that are not a combinator: closed forms in plain loops.
#include "whence/testing/references.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "whence/autograd/sweep.h"
#include "whence/ops/loop.h"
#include "whence/ops/ops.h"

namespace whence::suite {
namespace {

using lrp::Rule;
using lrp::Stab;
using Doubles = std::vector<double>;

Doubles numbers(const Tensor& t) { return t.to_vector<double>(); }
Tensor zeros(const Tensor& like) { return Tensor::zeros(like.shape(), f64); }

// Adds f(i) at the place of output element i in operand k, for operands that carry.
template <class F> void spread(const RelevanceCase& c, std::vector<Tensor>& in, size_t k, F f) {
  if (!c.carries[k]) return;
  in[k] = zeros(c.in[k]);
  double* r = in[k].data<double>();
  for (int64_t i = 0; i < c.out[0].numel(); ++i) r[broadcast_index(c.in[k].shape(), c.out[0].shape(), i)] += f(i);
}

// a + s b
RelevanceReference reference_sum(double s) {
  return [s](const RelevanceCase& c) {
    std::vector<Tensor> in(2);
    Doubles a = numbers(c.in[0]), b = numbers(c.in[1]), R = numbers(c.R[0]), z = stabilised(c.rule, c.out[0]);
    const Shape& out = c.out[0].shape();
    auto term = [&](int k, int64_t i) {
      return k == 0 ? a[size_t(broadcast_index(c.in[0].shape(), out, i))]
                    : s * b[size_t(broadcast_index(c.in[1].shape(), out, i))];
    };
    bool one = c.carries[0] != c.carries[1];
    for (int k : {0, 1})
      spread(c, in, size_t(k), [&](int64_t i) {
        double r = R[size_t(i)], x = term(k, i), other = term(1 - k, i);
        if (c.rule.variant == "pass" && one) return r;
        if (c.rule.variant == "abs")
          return x == 0 && other == 0 ? r / 2 : r * std::abs(x) / (std::abs(x) + std::abs(other));
        return r * x / z[size_t(i)];
      });
    return in;
  };
}

std::vector<Tensor> reference_mul(const RelevanceCase& c) {
  std::vector<Tensor> in(2);
  Doubles a = numbers(c.in[0]), b = numbers(c.in[1]), R = numbers(c.R[0]);
  const Shape& out = c.out[0].shape();
  const std::string& v = c.rule.variant;
  bool both = c.carries[0] && c.carries[1];
  for (int k : {0, 1})
    spread(c, in, size_t(k), [&](int64_t i) {
      double r = R[size_t(i)];
      if (!both) return r;
      if (v == "first") return k == 0 ? r : 0.0;
      if (v == "second") return k == 1 ? r : 0.0;
      if (v != "abs") return r / 2;
      double x = std::abs(a[size_t(broadcast_index(c.in[0].shape(), out, i))]),
             y = std::abs(b[size_t(broadcast_index(c.in[1].shape(), out, i))]);
      return x + y == 0 ? r / 2 : r * (k == 0 ? x : y) / (x + y);
    });
  return in;
}

// a / b and a^b: all to a; to b when only b carries.
std::vector<Tensor> reference_first(const RelevanceCase& c) {
  std::vector<Tensor> in(2);
  Doubles a = numbers(c.in[0]), b = numbers(c.in[1]), R = numbers(c.R[0]);
  const Shape& out = c.out[0].shape();
  bool both = c.carries[0] && c.carries[1];
  for (int k : {0, 1})
    spread(c, in, size_t(k), [&](int64_t i) {
      double r = R[size_t(i)];
      if (!both) return r;
      if (c.rule.variant != "abs") return k == 0 ? r : 0.0;
      double x = std::abs(a[size_t(broadcast_index(c.in[0].shape(), out, i))]),
             y = std::abs(1 / b[size_t(broadcast_index(c.in[1].shape(), out, i))]);
      return r * (k == 0 ? x : y) / (x + y);
    });
  return in;
}

RelevanceReference reference_winner(bool larger) {
  return [larger](const RelevanceCase& c) {
    std::vector<Tensor> in(2);
    Doubles a = numbers(c.in[0]), b = numbers(c.in[1]), R = numbers(c.R[0]);
    const Shape& out = c.out[0].shape();
    for (int k : {0, 1})
      spread(c, in, size_t(k), [&](int64_t i) {
        double x = a[size_t(broadcast_index(c.in[0].shape(), out, i))],
               y = b[size_t(broadcast_index(c.in[1].shape(), out, i))];
        bool first = larger ? x >= y : x <= y;
        return first == (k == 0) ? R[size_t(i)] : 0.0;
      });
    return in;
  };
}

std::vector<Tensor> reference_cast(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  return {c.R[0].to(f64).contiguous_copy()};
}

// Every term of a sum takes its part.
std::vector<Tensor> reference_reduction(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  Shape kept = c.in[0].shape();
  for (int64_t a : c.attrs.ints("axes")) kept[normalize_axis(a, kept.rank())] = 1;
  Doubles x = numbers(c.in[0]), R = numbers(c.R[0]), z = stabilised(c.rule, c.out[0]), size(R.size(), 0.0),
          count(R.size(), 0.0);
  auto group = [&](size_t i) { return size_t(broadcast_index(kept, c.in[0].shape(), int64_t(i))); };
  for (size_t i = 0; i < x.size(); ++i) {
    size[group(i)] += std::abs(x[i]);
    count[group(i)] += 1;
  }
  std::vector<Tensor> in{zeros(c.in[0])};
  for (size_t i = 0; i < x.size(); ++i) {
    size_t k = group(i);
    double part = c.rule.variant != "abs" ? x[i] / z[k] : size[k] == 0 ? 1 / count[k] : std::abs(x[i]) / size[k];
    in[0].data<double>()[i] = part * R[k];
  }
  return in;
}

// R_x = x (R - s sum R) along the axis; entries masked with -inf take nothing.
std::vector<Tensor> reference_softmax(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  Shape kept = c.in[0].shape();
  kept[normalize_axis(c.attrs.integer("axis"), kept.rank())] = 1;
  Doubles x = numbers(c.in[0]), s = numbers(c.out[0]), R = numbers(c.R[0]), total(size_t(kept.numel()), 0.0);
  for (size_t i = 0; i < x.size(); ++i) total[size_t(broadcast_index(kept, c.in[0].shape(), int64_t(i)))] += R[i];
  std::vector<Tensor> in{zeros(c.in[0])};
  for (size_t i = 0; i < x.size(); ++i) {
    double t = total[size_t(broadcast_index(kept, c.in[0].shape(), int64_t(i)))];
    in[0].data<double>()[i] = std::isinf(x[i]) ? 0 : x[i] * (R[i] - s[i] * t);
  }
  return in;
}

// A token takes what arrives at its row, a table of data what arrives at its rows; half each when both carry.
std::vector<Tensor> reference_embedding(const RelevanceCase& c) {
  std::vector<Tensor> in(2);
  int64_t width = c.in[1].shape()[1];
  Doubles R = numbers(c.R[0]), ids = numbers(c.in[0]);
  double share = c.carries[0] && c.carries[1] ? 0.5 : 1;
  for (int k : {0, 1})
    if (c.carries[size_t(k)]) in[size_t(k)] = zeros(c.in[size_t(k)]);
  for (size_t i = 0; i < ids.size(); ++i)
    for (int64_t f = 0; f < width; ++f) {
      double r = share * R[i * size_t(width) + size_t(f)];
      if (c.carries[0]) in[0].data<double>()[i] += r;
      if (c.carries[1]) in[1].data<double>()[int64_t(ids[i]) * width + f] += r;
    }
  return in;
}

// h_t = a_t h_{t-1} + b_t with a held: b_s takes b_s / stab(h_t) times the decay between s and t of every R_t. a takes
// nothing.
std::vector<Tensor> reference_scan(const RelevanceCase& c) {
  std::vector<Tensor> in(2);
  if (!c.carries[1]) return in;
  const Shape& shape = c.in[1].shape();
  int axis = normalize_axis(c.attrs.integer("axis"), shape.rank());
  bool reverse = c.attrs.flag("reverse");
  Doubles a = numbers(c.in[0]), b = numbers(c.in[1]), R = numbers(c.R[0]), z = stabilised(c.rule, c.out[0]);
  int64_t n = shape[axis], inner = 1, outer = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  in[1] = zeros(c.in[1]);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      auto flat = [&](int64_t step) { return (o * n + (reverse ? n - 1 - step : step)) * inner + i; };
      for (int64_t from = 0; from < n; ++from) {
        double decay = 1, taken = 0;
        for (int64_t to = from; to < n; ++to) {
          if (to > from) decay *= a[size_t(broadcast_index(c.in[0].shape(), shape, flat(to)))];
          taken += decay * R[size_t(flat(to))] / z[size_t(flat(to))];
        }
        in[1].data<double>()[flat(from)] = b[size_t(flat(from))] * taken;
      }
    }
  return in;
}

// Windows over the space of x [N, C, ...]; each result is the sum of one over the product of its counts.
std::vector<Tensor> reference_pool(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  const Shape &x = c.in[0].shape(), &y = c.out[0].shape();
  int space = x.rank() - 2;
  const Ints &begin = c.attrs.ints("begin"), &end = c.attrs.ints("end"), &count = c.attrs.ints("count");
  // The cells of x under result o, and its divisor.
  auto window = [&](int64_t o) {
    Ints at(size_t(y.rank()));
    for (int a = y.rank() - 1; a >= 0; --a) {
      at[size_t(a)] = o % y[a];
      o /= y[a];
    }
    Ints cells{at[0] * x[1] + at[1]};
    double divisor = 1;
    size_t first = 0;
    for (int a = 0; a < space; ++a) {
      size_t k = first + size_t(at[size_t(a) + 2]);
      Ints next;
      for (int64_t cell : cells)
        for (int64_t i = begin[k]; i < end[k]; ++i) next.push_back(cell * x[a + 2] + i);
      cells = std::move(next);
      divisor *= double(count[k]);
      first += size_t(y[a + 2]);
    }
    return std::pair(cells, divisor);
  };
  Doubles v = numbers(c.in[0]), R = numbers(c.R[0]), total = numbers(c.out[0]), z = stabilised(c.rule, c.out[0]);
  const std::string& variant = c.rule.variant;
  if (variant == "sum") {  // stabilised before the division
    for (size_t o = 0; o < total.size(); ++o) total[o] *= window(int64_t(o)).second;
    z = stabilised(c.rule, Tensor::from(total, y));
  }
  std::vector<Tensor> in{zeros(c.in[0])};
  for (size_t o = 0; o < R.size(); ++o) {
    auto [cells, divisor] = window(int64_t(o));
    double size = 0;
    for (int64_t i : cells) size += std::abs(v[size_t(i)]);
    for (int64_t i : cells) {
      double e = v[size_t(i)], part = e / (divisor * z[o]);
      if (variant == "sum") part = e / z[o];
      if (variant == "uniform" || (variant == "abs" && size == 0)) part = 1 / double(cells.size());
      else if (variant == "abs") part = std::abs(e) / size;
      in[0].data<double>()[i] += part * R[o];
    }
  }
  return in;
}

// f(n, flat) for every line along the axis of a scan; flat gives the place of each of its n steps.
template <class F> void each_line(const RelevanceCase& c, F&& f) {
  const Shape& shape = c.in[0].shape();
  int axis = normalize_axis(c.attrs.integer("axis"), shape.rank());
  bool reverse = c.attrs.flag("reverse");
  int64_t n = shape[axis], inner = 1, outer = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i)
      f(n, [&](int64_t step) { return size_t((o * n + (reverse ? n - 1 - step : step)) * inner + i); });
}

// Each prefix is a sum: its terms take x / stab(y) of it, or |x| over the sum of sizes.
std::vector<Tensor> reference_cumsum(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  Doubles x = numbers(c.in[0]), R = numbers(c.R[0]), z = stabilised(c.rule, c.out[0]);
  std::vector<Tensor> in{zeros(c.in[0])};
  each_line(c, [&](int64_t n, auto flat) {
    double size = 0;
    for (int64_t to = 0; to < n; ++to) {
      size += std::abs(x[flat(to)]);
      for (int64_t from = 0; from <= to; ++from) {
        double e = x[flat(from)];
        double part = c.rule.variant != "abs" ? e / z[flat(to)] : size == 0 ? 0 : std::abs(e) / size;
        in[0].data<double>()[flat(from)] += part * R[flat(to)];
      }
    }
  });
  return in;
}

// The factors of each prefix take equal shares.
std::vector<Tensor> reference_cumprod(const RelevanceCase& c) {
  if (!c.carries[0]) return {Tensor()};
  Doubles R = numbers(c.R[0]);
  std::vector<Tensor> in{zeros(c.in[0])};
  each_line(c, [&](int64_t n, auto flat) {
    for (int64_t to = 0; to < n; ++to)
      for (int64_t from = 0; from <= to; ++from) in[0].data<double>()[flat(from)] += R[flat(to)] / double(to + 1);
  });
  return in;
}

// The steps written out.
std::vector<Tensor> reference_loop(const RelevanceCase& c) {
  std::vector<TensorType> types;
  for (const Tensor& t : c.in) types.push_back({t.shape(), t.dtype()});
  LoopAttrs loop = LoopAttrs::of(c.attrs, types);
  const Body& body = *loop.body;
  const size_t C = body.carries().size(), X = body.per_step().size(), O = body.out().size();
  Graph g(Graph::Mode::immediate);
  std::vector<Var> in, wrt;
  for (size_t i = 0; i < c.in.size(); ++i) {
    std::string name = "x" + std::to_string(i);
    in.push_back(c.carries[i] ? g.input(name, c.in[i]) : g.parameter(name, c.in[i]));
    if (c.carries[i]) wrt.push_back(in.back());
  }
  std::vector<Var> state(in.begin(), in.begin() + std::ptrdiff_t(C)), roots, seeds;
  std::vector<std::vector<Var>> rows(O + C, std::vector<Var>(size_t(loop.steps)));
  for (int64_t i = 0; i < loop.steps; ++i) {
    const int64_t t = loop.reverse ? loop.steps - 1 - i : i;
    std::vector<Var> operands = state;
    for (size_t j = 0; j < X; ++j) operands.push_back(select(in[C + j], 0, t));
    operands.insert(operands.end(), in.begin() + std::ptrdiff_t(C + X), in.end());
    std::vector<Var> results = body.apply(operands);
    for (size_t k = 0; k < O + C; ++k) rows[k][size_t(t)] = results[C + k];
    state.assign(results.begin(), results.begin() + std::ptrdiff_t(C));
  }
  for (size_t k = 0; k < c.R.size(); ++k) {
    if (!c.R[k].defined() || (k >= C && loop.steps == 0)) continue;
    roots.push_back(k < C ? state[k] : stack(rows[k - C]));
    seeds.push_back(g.constant(c.R[k]));
  }
  std::vector<Tensor> R(c.in.size());
  lrp::RuleSet rules("suite", c.rule);
  if (wrt.empty() || roots.empty()) return R;
  std::vector<Var> r = sweep(roots, seeds, wrt, {.kind = PassKind::relevance, .rules = &rules});
  for (size_t i = 0, k = 0; i < c.in.size(); ++i)
    if (c.carries[i]) R[i] = r[k++].value();
  return R;
}

struct Tables {
  std::map<std::string, RelevanceReference, std::less<>> references;
  std::map<std::pair<std::string, std::string>, std::string> equivalent;
  std::map<std::string, HeldElements, std::less<>> held;
  Tables() : references(linalg_references()) {
    references["add"] = reference_sum(1);
    references["sub"] = reference_sum(-1);
    references["mul"] = reference_mul;
    references["div"] = reference_first;
    references["pow"] = reference_first;
    references["maximum"] = reference_winner(true);
    references["minimum"] = reference_winner(false);
    references["cast"] = reference_cast;
    references["sum"] = reference_reduction;
    references["softmax"] = reference_softmax;
    references["avg_pool"] = reference_pool;
    references["cumsum"] = reference_cumsum;
    references["cumprod"] = reference_cumprod;
    references["linear_scan"] = reference_scan;
    references["scan"] = reference_loop;
    references["embedding"] = reference_embedding;
    equivalent[{"add", "vjp swapped"}] = "both operands receive the cotangent itself";
    equivalent[{"rms_norm", "fast_relevance swapped"}] =
        "shapes agree for a single row only, where both halves are the same products";
    // The row padding_idx of a table stays as it is: no gradient by definition.
    held["embedding"] = [](const Attrs& attrs, size_t operand, const Shape& shape) {
      std::vector<char> mask(size_t(shape.numel()));
      int64_t row = attrs.integer("padding_idx", -1);
      if (operand == 1 && row >= 0) std::fill_n(mask.begin() + row * shape[1], shape[1], char(1));
      return mask;
    };
  }
};
Tables& tables() {
  static Tables t;
  return t;
}

}  // namespace

void relevance_reference(std::string op, RelevanceReference reference) {
  tables().references[std::move(op)] = std::move(reference);
}
void equivalent_mutant(std::string op, std::string mutant, std::string reason) {
  tables().equivalent[{std::move(op), std::move(mutant)}] = std::move(reason);
}

const RelevanceReference* find_reference(std::string_view op) {
  auto it = tables().references.find(op);
  return it == tables().references.end() ? nullptr : &it->second;
}
std::string equivalence_claim(std::string_view op, std::string_view mutant) {
  auto it = tables().equivalent.find({std::string(op), std::string(mutant)});
  return it == tables().equivalent.end() ? "" : it->second;
}

void held_elements(std::string op, HeldElements mask) { tables().held[std::move(op)] = std::move(mask); }
std::vector<char> held_elements_of(std::string_view op, const Attrs& attrs, size_t operand, const Shape& shape) {
  auto it = tables().held.find(op);
  return it == tables().held.end() ? std::vector<char>() : it->second(attrs, operand, shape);
}

int64_t broadcast_index(const Shape& operand, const Shape& out, int64_t i) {
  int64_t index = 0, step = 1;
  for (int a = out.rank() - 1, b = operand.rank() - 1; a >= 0; --a, --b) {
    int64_t at = i % out[a];
    i /= out[a];
    if (b < 0) continue;
    if (operand[b] != 1) index += at * step;
    step *= operand[b];
  }
  return index;
}

std::vector<double> stabilised(const Rule& rule, const Tensor& y) {
  Doubles z = numbers(y);
  const Shape& shape = y.shape();
  size_t n = z.size(), group = n;
  if (rule.stab == Stab::relative) group = shape.rank() > 1 ? size_t(shape[-1]) : 1;
  if (rule.stab == Stab::rms_sample) group = shape.rank() && shape[0] ? n / size_t(shape[0]) : 1;
  Doubles out(n);
  for (size_t begin = 0; begin < n; begin += group) {
    double rms = 0;
    for (size_t i = begin; i < begin + group; ++i) rms += z[i] * z[i];
    rms = std::sqrt(rms / double(group));
    for (size_t i = begin; i < begin + group; ++i) {
      double sign = z[i] < 0 ? -1 : 1, e = rule.eps;
      switch (rule.stab) {
        case Stab::plain: out[i] = z[i] + e; continue;
        case Stab::clip: out[i] = sign * std::max(std::abs(z[i]), e); continue;
        case Stab::sign: break;
        case Stab::relative:
        case Stab::rms_tensor: e *= std::max(1.0, rms); break;
        case Stab::rms_sample: e *= rms; break;
      }
      out[i] = z[i] + sign * e;
    }
  }
  return out;
}

}  // namespace whence::suite
