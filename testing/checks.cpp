// The checks on one op and one sample: shapes, gradients, relevance, fused = body.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "whence/testing/references.h"
#include "whence/testing/run.h"

namespace whence::suite {
namespace {

constexpr double kExact = 1e-12;  // the same sums in another order

bool without_elements(std::span<const Tensor> in) {
  return std::any_of(in.begin(), in.end(), [](const Tensor& t) { return t.numel() == 0; });
}
int64_t total(std::span<const Tensor> ts) {
  int64_t n = 0;
  for (const Tensor& t : ts) n += t.numel();
  return n;
}
TensorFn function_of(const OpDef& op, const Attrs& attrs) {
  return [&op, &attrs](std::span<const Tensor> in) { return forward(op, attrs, in); };
}
// The outputs that finite differences can see: f64.
void keep_f64(std::vector<Tensor>& cotangent) {
  for (Tensor& u : cotangent)
    if (u.defined() && u.dtype() != f64) u = Tensor();
}

// Zeroes the elements that get no gradient by definition.
void hold(const OpDef& op, const Sample& sample, size_t operand, Tensor& v) {
  std::vector<char> mask = held_elements_of(op.name, sample.attrs, operand, v.shape());
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) v.data<double>()[i] = 0;
}

void add(Failures& failures, std::string text) {
  if (failures.size() < 8) failures.push_back(std::move(text));
}

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

Failures check_forward(const OpDef& op, const Sample& sample) {
  Failures failures;
  std::vector<Tensor> in = draw(op, sample);
  Graph recorded;
  std::vector<Var> leaves;
  for (size_t i = 0; i < in.size(); ++i)
    leaves.push_back(recorded.input("x" + std::to_string(i), in[i].shape(), in[i].dtype()));
  Var first = recorded.record(op, leaves, sample.attrs);
  size_t n_out = recorded.producer(first.id()).out_count;

  std::vector<Layout> layouts{Layout::contiguous};
  layouts.insert(layouts.end(), std::begin(kStridedLayouts), std::end(kStridedLayouts));
  for (Layout layout : layouts) {
    std::vector<Tensor> shown = laid_out(in, sample, layout), plain = copies(shown);
    std::vector<Tensor> before = copies(shown);
    std::vector<Tensor> got = forward(op, sample.attrs, shown), want = forward(op, sample.attrs, plain);
    if (got.size() != n_out) {
      add(failures, fmt::format("{}: {} results inferred, {} computed", title(op, sample), n_out, got.size()));
      break;
    }
    for (size_t k = 0; k < n_out; ++k) {
      TensorType type = recorded.type(first.id() + ValueId(k)), actual{got[k].shape(), got[k].dtype()};
      if (!(type == actual))
        add(failures, fmt::format("{} layout {}: result {} is {}, inferred {}", title(op, sample), name_of(layout), k,
                                  actual.str(), type.str()));
      if (std::string d = differ(got[k], want[k], kExact); !d.empty())
        add(failures, fmt::format("{} layout {}: result {} differs from the contiguous run: {}", title(op, sample),
                                  name_of(layout), k, d));
    }
    for (size_t i = 0; i < in.size(); ++i)
      if (!bitwise_equal(before[i], shown[i].contiguous_copy()))
        add(failures, fmt::format("{} layout {}: the kernel changed its operand {}", title(op, sample), name_of(layout),
                                  op.operand_name(int(i))));
  }
  return failures;
}

// ---- gradients ----------------------------------------------------------------------------------------------------

Failures check_gradient(const OpDef& op, const Sample& sample) {
  Failures failures;
  std::vector<size_t> wrt = differentiable(op, sample);
  if (wrt.empty()) return failures;
  std::vector<Tensor> drawn = draw(op, sample);
  Rng rng(op.name + sample.name, 77);
  TensorFn f = function_of(op, sample.attrs);

  if (!has_gradient(op)) {  // zeros by definition
    if (!op.traits.nondifferentiable && !op.traits.blocks_gradient) return failures;
    std::vector<Tensor> u = cotangents(types(f(drawn)), rng);
    std::vector<Tensor> g = gradient(op, sample, drawn, u);
    for (size_t i : wrt)
      if (g[i].defined() && max_abs(g[i]) != 0)
        add(failures, fmt::format("{}: cotangents stop here, but {} receives {:.6g}", title(op, sample),
                                  op.operand_name(int(i)), max_abs(g[i])));
    return failures;
  }

  std::vector<Layout> layouts{Layout::contiguous};
  layouts.insert(layouts.end(), std::begin(kStridedLayouts), std::end(kStridedLayouts));
  for (Layout layout : layouts) {
    std::vector<Tensor> shown = laid_out(drawn, sample, layout), x = copies(shown);
    std::vector<Tensor> y = f(x), u = cotangents(types(y), rng);
    keep_f64(u);
    std::vector<Tensor> g = gradient(op, sample, shown, u);
    if (std::none_of(u.begin(), u.end(), [](const Tensor& t) { return t.defined(); })) return failures;
    for (size_t i : wrt)
      if (!(g[i].shape() == x[i].shape()) || g[i].dtype() != x[i].dtype()) {
        add(failures, fmt::format("{} layout {}: gradient of {} is {} {}, the operand {} {}", title(op, sample),
                                  name_of(layout), op.operand_name(int(i)), g[i].shape().str(), name_of(g[i].dtype()),
                                  x[i].shape().str(), name_of(x[i].dtype())));
        return failures;
      }
    for (size_t i : wrt) {
      Tensor rest = g[i].contiguous_copy();
      hold(op, sample, i, rest);
      if (!bitwise_equal(rest, g[i].contiguous_copy()))
        add(failures, fmt::format("{} layout {}: {} has gradient at elements that get none by definition",
                                  title(op, sample), name_of(layout), op.operand_name(int(i))));
    }
    if (without_elements(x)) continue;

    // Random directions: each operand alone, then all at once.
    for (size_t n = 0; n <= wrt.size(); ++n) {
      if (n == wrt.size() && wrt.size() == 1) break;
      for (int direction = 0; direction < 2; ++direction) {
        std::vector<Tensor> v(x.size());
        double want = 0, scale = 0;
        for (size_t i : wrt) {
          if (n < wrt.size() && i != wrt[n]) continue;
          v[i] = random_tensor(x[i].shape(), f64, rng);
          hold(op, sample, i, v[i]);
          want += dot(g[i], v[i]);
          std::vector<double> a = g[i].to_vector<double>(), b = v[i].to_vector<double>();
          for (size_t j = 0; j < a.size(); ++j) scale += std::abs(a[j] * b[j]);
        }
        double numeric = directional(f, x, v, u, 1e-4), noise = 0;
        for (size_t k = 0; k < u.size(); ++k)
          if (u[k].defined() && std::isfinite(max_abs(y[k]))) noise += sum_abs(u[k]) * max_abs(y[k]);
        count_comparison();
        if (!(std::abs(numeric - want) <= 1e-7 * scale + 1e-10 * noise + 1e-10))
          numeric = directional(f, x, v, u, 1e-5);  // strong curvature
        if (!(std::abs(numeric - want) <= 1e-6 * scale + 1e-9 * noise + 1e-9))
          add(failures, fmt::format("{} layout {}, direction {} of {}: the vjp gives {:.12g}, central differences "
                                    "{:.12g} (relative {:.3g})",
                                    title(op, sample), name_of(layout), direction,
                                    n < wrt.size() ? op.operand_name(int(wrt[n])) : "all operands", want, numeric,
                                    std::abs(numeric - want) / std::max(1e-300, std::abs(numeric))));
      }
    }

    // The whole Jacobian of tiny samples, entry by entry.
    if (layout != Layout::contiguous || total(x) + total(y) > 26) continue;
    for (size_t k = 0; k < y.size(); ++k) {
      if (!u[k].defined()) continue;
      std::vector<std::vector<std::vector<double>>> J(x.size());
      for (size_t i : wrt) J[i] = jacobian(f, x, i, k, 1e-4);
      for (int64_t o = 0; o < y[k].numel(); ++o) {
        std::vector<Tensor> one(y.size());
        one[k] = Tensor::zeros(y[k].shape(), f64);
        one[k].data<double>()[o] = 1;
        std::vector<Tensor> row = gradient(op, sample, x, one);
        for (size_t i : wrt) {
          Tensor want = Tensor::from(J[i][size_t(o)], x[i].shape());
          hold(op, sample, i, want);
          if (std::string d = differ(row[i], want, 1e-7, 1 + max_abs(want)); !d.empty())
            add(failures, fmt::format("{}: row {} of the Jacobian of result {} by {}: {}", title(op, sample), o, k,
                                      op.operand_name(int(i)), d));
        }
      }
    }
  }
  return failures;
}

Failures check_second_order(const OpDef& op, const Sample& sample) {
  Failures failures;
  std::vector<size_t> wrt = differentiable(op, sample);
  if (wrt.empty() || !has_gradient(op)) return failures;
  std::vector<Tensor> x = draw(op, sample);
  if (without_elements(x)) return failures;
  Rng rng(op.name + sample.name, 78);
  std::vector<Tensor> y = forward(op, sample.attrs, x), u = cotangents(types(y), rng);
  keep_f64(u);
  if (std::none_of(u.begin(), u.end(), [](const Tensor& t) { return t.defined(); })) return failures;

  // G(x, u) = sum over operands <w_i, vjp_i(x, u)>; its gradient comes from a second sweep.
  std::vector<Tensor> w(x.size());
  for (size_t i : wrt) w[i] = random_tensor(x[i].shape(), f64, rng);
  size_t n = x.size();
  TensorFn vjp = [&](std::span<const Tensor> xu) {
    std::vector<Tensor> cotangent(xu.begin() + n, xu.end());
    return gradient(op, sample, xu.subspan(0, n), cotangent);
  };
  Graph g(Graph::Mode::immediate);
  Recorded r = record_on(g, op, sample.attrs, x, {});
  std::vector<Var> cotangent(u.size()), targets, seeds;
  for (size_t k = 0; k < u.size(); ++k)
    if (u[k].defined()) cotangent[k] = g.input("u" + std::to_string(k), u[k]);
  std::vector<Var> first = sweep_recorded(r, cotangent, wrt, {.kind = PassKind::gradient});
  for (size_t i : wrt) {
    targets.push_back(r.in[i]);
    seeds.push_back(g.constant(w[i]));
  }
  for (const Var& c : cotangent)
    if (c.defined()) targets.push_back(c);
  std::vector<Var> second = sweep(first, seeds, targets, {.kind = PassKind::gradient});

  std::vector<Tensor> xu = x;
  xu.insert(xu.end(), u.begin(), u.end());
  for (int direction = 0; direction < 2; ++direction) {
    std::vector<Tensor> v(xu.size());
    double want = 0, scale = 0;
    size_t at = 0;
    for (size_t i = 0; i < xu.size(); ++i) {
      if (i < n ? !std::count(wrt.begin(), wrt.end(), i) : !xu[i].defined()) continue;
      const Tensor& s = second[at++].value();
      v[i] = random_tensor(xu[i].shape(), f64, rng);
      if (i < n) hold(op, sample, i, v[i]);
      want += dot(s, v[i]);
      std::vector<double> a = s.to_vector<double>(), b = v[i].to_vector<double>();
      for (size_t j = 0; j < a.size(); ++j) scale += std::abs(a[j] * b[j]);
    }
    double numeric = directional(vjp, xu, v, w, 1e-4), noise = 0;
    for (size_t i = 0; i < wrt.size(); ++i) noise += sum_abs(w[wrt[i]]) * max_abs(first[i].value());
    count_comparison();
    if (!(std::abs(numeric - want) <= 1e-6 * scale + 1e-9 * noise + 1e-9))
      add(failures,
          fmt::format(
              "{}, second order, direction {}: the sweep gives {:.12g}, central differences {:.12g} (relative {:.3g})",
              title(op, sample), direction, want, numeric,
              std::abs(numeric - want) / std::max(1e-300, std::abs(numeric))));
  }
  return failures;
}

// ---- relevance ----------------------------------------------------------------------------------------------------

static std::vector<size_t> data_of(std::span<const char> data) {
  std::vector<size_t> which;
  for (size_t i = 0; i < data.size(); ++i)
    if (data[i]) which.push_back(i);
  return which;
}

static std::string under(const lrp::Rule& rule) {
  return (rule.variant.empty() ? "" : ", variant " + rule.variant) +
         (rule.stab_of_double ? ", stab of the double" : "");
}

// Rules that divide by a stabilised denominator.
static bool divides(const OpDef& op) {
  SweepFn rule = original(op).relevance;
  return rule == lrp::linear_in_carriers || rule == lrp::multilinear || rule == lrp::linear_rule;
}

Failures check_ledger(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (!has_relevance(op)) return failures;
  std::vector<Tensor> x = draw(op, sample);
  std::vector<TensorType> out = types(forward(op, sample.attrs, x));
  Rng rng(op.name + sample.name, 79);
  for (const std::vector<char>& data : assignments(op, sample))
    for (lrp::Rule rule : rules_for(op))
      for (double eps : {rule.eps, 1e-6}) {
        rule.eps = eps;
        std::vector<Tensor> R = relevance_seeds(op, out, rng);
        if (std::none_of(R.begin(), R.end(), [](const Tensor& t) { return t.defined(); })) return failures;
        bool fused_path = op.fast_relevance && op.absorbed;
        for (int fast = 0; fast <= int(fused_path); ++fast) {
          Swept s = sweep_op(op, sample.attrs, x, data, R, data_of(data),
                             {.kind = PassKind::relevance, .rule = rule, .inline_fused = !fast, .ledger = true});
          double arrived = 0, given = 0, absorbed = 0, scale = 0;
          for (const Tensor& t : R)
            if (t.defined()) arrived += sum(t), scale += sum_abs(t);
          for (const Tensor& t : s.in)
            if (t.defined()) given += sum(t), scale += sum_abs(t);
          for (const Tensor& t : s.absorbed) absorbed += sum(t), scale += sum_abs(t);
          count_comparison();
          if (!(std::abs(arrived - given - absorbed) <= 1e-10 * scale))
            add(failures, fmt::format("{}, {}{}{}: relevance {:.12g} arrived, {:.12g} was given on and {:.12g} "
                                      "absorbed; {:.6g} is missing ({:.3g} of sum |R|)",
                                      title(op, sample), describe(op, data), under(rule), fast ? ", fast path" : "",
                                      arrived, given, absorbed, arrived - given - absorbed,
                                      std::abs(arrived - given - absorbed) / std::max(1e-300, scale)) +
                              (divides(op) && !op.absorbed ? "; set .absorbed = lrp::absorbed_by_stabiliser" : ""));
        }
      }
  return failures;
}

namespace {

// The combinators, from their definitions and finite differences.
std::vector<Tensor> oracle(const OpDef& op, const RelevanceCase& c, const Sample& sample) {
  SweepFn rule = original(op).relevance;
  std::vector<Tensor> want(c.in.size());
  int n_carriers = int(std::count(c.carries.begin(), c.carries.end(), char(1)));
  if (rule == lrp::identity) {
    for (size_t i = 0; i < c.in.size(); ++i)
      if (c.carries[i]) {
        want[i] = c.R[0];
        break;
      }
    return want;
  }
  if (rule == lrp::sink) {
    for (size_t i = 0; i < c.in.size(); ++i)
      if (c.carries[i]) want[i] = Tensor::zeros(c.in[i].shape(), f64);
    return want;
  }
  TensorFn f = function_of(op, sample.attrs);
  bool reindex = rule == lrp::reindex || rule == original(op).vjp;
  double share = rule == lrp::multilinear ? 1.0 / n_carriers : 1.0;
  bool halves = rule == lrp::linear_rule && c.carries[0] && c.carries[1];  // x and W share; a bias stands beside them
  for (size_t i = 0; i < c.in.size(); ++i) {
    if (!c.carries[i] || c.in[i].dtype() != f64) continue;
    want[i] = Tensor::zeros(c.in[i].shape(), f64);
    double* w = want[i].data<double>();
    for (size_t k = 0; k < c.out.size(); ++k) {
      if (!c.R[k].defined() || c.out[k].numel() == 0 || c.in[i].numel() == 0) continue;
      std::vector<std::vector<double>> J = jacobian(f, c.in, i, k, 1e-3);
      // R / stab(y), or for two factors 2 R / stab(2 y).
      double two = c.rule.stab_of_double && (halves || (rule == lrp::multilinear && n_carriers == 2)) ? 2 : 1;
      std::vector<double> y = c.out[k].to_vector<double>();
      for (double& v : y) v *= two;
      std::vector<double> z = stabilised(c.rule, Tensor::from(y, c.out[k].shape())), R = c.R[k].to_vector<double>();
      for (size_t o = 0; o < R.size(); ++o)
        for (size_t j = 0; j < J[o].size(); ++j) {
          if (reindex) w[j] += std::abs(J[o][j]) < 1e-9 ? 0 : J[o][j] * R[o];
          else w[j] += c.in[i].data<double>()[j] * J[o][j] * (halves && i < 2 ? 0.5 : share) * two * R[o] / z[o];
        }
    }
  }
  return want;
}

// The variants of lrp::linear_rule for one carrying factor x of y = f(x, W, b), from zennit's formulas: the op is a
// black box that runs on modified operands, its adjoint a finite-difference Jacobian.
std::vector<Tensor> linear_variant(const OpDef& op, const RelevanceCase& c, const Sample& sample) {
  using Doubles = std::vector<double>;
  struct Part {
    double sign;
    Tensor x, w, b;
  };
  TensorFn f = function_of(op, sample.attrs);
  size_t xi = c.carries[0] ? 0 : 1, wi = 1 - xi;
  bool has_bias = c.in.size() > 2;
  auto map = [](const Tensor& t, auto g) {
    if (!t.defined()) return Tensor();
    Doubles v = t.to_vector<double>();
    for (double& e : v) e = g(e);
    return Tensor::from(v, t.shape());
  };
  auto plus = [](double e) { return e > 0 ? e : 0.0; };
  auto minus = [](double e) { return e < 0 ? e : 0.0; };
  auto operands = [&](const Part& p) {
    std::vector<Tensor> in = c.in;
    in[xi] = p.x;
    in[wi] = p.w;
    if (has_bias) in[2] = p.b.defined() ? p.b : Tensor::zeros(c.in[2].shape(), f64);
    return in;
  };
  const Tensor &x = c.in[xi], &w = c.in[wi], b = has_bias ? c.in[2] : Tensor();
  Tensor xp = map(x, plus), xn = map(x, minus), none;
  Doubles R = c.R[0].to_vector<double>(), y = c.out[0].to_vector<double>();
  Tensor want = Tensor::zeros(x.shape(), f64);
  auto add = [&](double weight, const Doubles& r, const std::vector<Part>& parts) {
    Doubles z(r.size(), 0.0);
    for (const Part& p : parts) {
      Doubles one = f(operands(p))[0].to_vector<double>();
      for (size_t o = 0; o < z.size(); ++o) z[o] += p.sign * one[o];
    }
    Doubles s = stabilised(c.rule, Tensor::from(z, c.out[0].shape()));
    for (const Part& p : parts) {
      std::vector<Doubles> J = jacobian(f, operands(p), xi, 0, 1e-3);
      for (size_t o = 0; o < r.size(); ++o)
        for (size_t j = 0; j < J[o].size(); ++j)
          want.data<double>()[j] += p.sign * p.x.data<double>()[j] * J[o][j] * weight * r[o] / s[o];
    }
  };
  const std::string& v = c.rule.variant;
  if (x.numel() == 0 || c.out[0].numel() == 0) {
  } else if (v == "zplus" || v == "alphabeta") {
    double alpha = v == "zplus" ? 1 : c.rule.alpha, beta = v == "zplus" ? 0 : c.rule.beta;
    add(alpha, R, {{1, xp, map(w, plus), map(b, plus)}, {1, xn, map(w, minus), none}});
    if (beta != 0) add(-beta, R, {{1, xp, map(w, minus), map(b, minus)}, {1, xn, map(w, plus), none}});
  } else if (v == "gamma") {
    auto up = [&](double e) { return e + c.rule.gamma * plus(e); };
    auto down = [&](double e) { return e + c.rule.gamma * minus(e); };
    Doubles above = R, below = R;
    for (size_t o = 0; o < R.size(); ++o) (y[o] > 0 ? below : above)[o] = 0;
    add(1, above, {{1, xp, map(w, up), map(b, up)}, {1, xn, map(w, down), none}});
    add(1, below, {{1, xp, map(w, down), map(b, down)}, {1, xn, map(w, up), none}});
  } else if (v == "zbox") {
    Tensor low = Tensor::full(x.shape(), c.rule.low.item(), f64),
           high = Tensor::full(x.shape(), c.rule.high.item(), f64);
    add(1, R, {{1, x, w, b}, {-1, low, map(w, plus), map(b, plus)}, {-1, high, map(w, minus), map(b, minus)}});
  } else {
    auto one = [](double) { return 1.0; };
    auto square = [](double e) { return e * e; };
    if (v == "flat") add(1, R, {{1, map(x, one), map(w, one), none}});
    else add(1, R, {{1, map(x, one), map(w, square), map(b, square)}});
  }
  std::vector<Tensor> result(c.in.size());
  result[xi] = want;
  return result;
}

bool is_combinator(const OpDef& op) {
  SweepFn rule = op.relevance;
  return rule == op.vjp || rule == lrp::linear_rule || rule == lrp::identity || rule == lrp::reindex ||
         rule == lrp::sink || rule == lrp::linear_in_carriers || rule == lrp::multilinear;
}

}  // namespace

bool needs_reference(const OpDef& op) { return op.relevance && !is_combinator(op); }

Failures check_oracle(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (op.traits.blocks_relevance) {
    std::vector<Tensor> x = draw(op, sample);
    Rng rng(op.name, 80);
    std::vector<char> data(x.size(), 1);
    Swept s = sweep_op(op, sample.attrs, x, data, cotangents(types(forward(op, sample.attrs, x)), rng), data_of(data),
                       {.kind = PassKind::relevance});
    for (size_t i = 0; i < x.size(); ++i)
      if (s.in[i].defined() && max_abs(s.in[i]) != 0)
        add(failures, fmt::format("{}: relevance stops here, but {} receives {:.6g}", title(op, sample),
                                  op.operand_name(int(i)), max_abs(s.in[i])));
    return failures;
  }
  if (!has_relevance(op) || op.fused()) return failures;
  const RelevanceReference* reference = find_reference(op.name);
  if (!reference && !is_combinator(original(op)))
    return {fmt::format(
        "[{}] {}: the rule is no combinator and has no reference; write one with whence::suite::relevance_reference",
        op.name, op.file)};
  std::vector<Tensor> x = draw(op, sample), y = forward(op, sample.attrs, x);
  Rng rng(op.name + sample.name, 80);
  for (const std::vector<char>& data : assignments(op, sample))
    for (const lrp::Rule& rule : rules_for(op)) {
      std::vector<Tensor> R = relevance_seeds(op, types(y), rng);
      if (std::none_of(R.begin(), R.end(), [](const Tensor& t) { return t.defined(); })) return failures;
      std::vector<size_t> wrt = data_of(data);
      bool variant = !reference && !rule.variant.empty();
      if (variant && (wrt.size() != 1 || wrt[0] > 1)) continue;  // such variants speak of one carrying factor
      Swept s = sweep_op(op, sample.attrs, x, data, R, wrt, {.kind = PassKind::relevance, .rule = rule});
      RelevanceCase c{op, sample.attrs, rule, x, y, R, data};
      std::vector<Tensor> want = reference ? (*reference)(c)
                                 : variant ? linear_variant(op, c, sample)
                                           : oracle(op, c, sample);
      for (size_t i : wrt) {
        if (!(s.in[i].shape() == x[i].shape()))
          add(failures, fmt::format("{}: relevance of {} has shape {}, the operand {}", title(op, sample),
                                    op.operand_name(int(i)), s.in[i].shape().str(), x[i].shape().str()));
        Tensor expected = want[i].defined() ? want[i] : Tensor::zeros(x[i].shape(), f64);
        if (std::string d = differ(s.in[i], expected, reference ? 1e-11 : 1e-8, std::max(1e-3, max_abs(expected)));
            !d.empty())
          add(failures, fmt::format("{}, {}{}: relevance of {} against the {}: {}", title(op, sample),
                                    describe(op, data), under(rule), op.operand_name(int(i)),
                                    reference ? "reference" : "finite-difference oracle", d));
      }
      // Asking for the parameters as well leaves the data's relevance alone.
      std::vector<size_t> all = carriers(op, sample);
      if (all.size() == wrt.size()) continue;
      Swept more = sweep_op(op, sample.attrs, x, data, R, all, {.kind = PassKind::relevance, .rule = rule});
      for (size_t i : wrt)
        if (std::string d = differ(more.in[i], s.in[i], 0); !d.empty())
          add(failures, fmt::format("{}, {}{}: relevance of {} changes when parameters are asked for too: {}",
                                    title(op, sample), describe(op, data), under(rule), op.operand_name(int(i)), d));
    }
  return failures;
}

// ---- fused = body -------------------------------------------------------------------------------------------------

Failures check_fused(const OpDef& op, const Sample& sample) {
  Failures failures;
  if (!op.fused()) return failures;
  for (DType dtype : {f64, f32}) {
    std::vector<Tensor> x = draw(op, sample, dtype);
    int64_t length = 1;
    for (const Tensor& t : x) length = std::max(length, t.numel());
    // f64: the same algebra. f32: rounding grows with the length of the sums; the body rounds at every step.
    double allowed = dtype == f64 ? 1e-10 : 0x1p-23 * double(8 + length);
    auto complain = [&](const std::string& what, const std::string& d) {
      add(failures,
          fmt::format("{} {}: {} of the fused op against its body: {}", title(op, sample), name_of(dtype), what, d));
    };

    std::vector<Tensor> got = forward(op, sample.attrs, x), want;
    {
      Graph g(Graph::Mode::immediate);
      std::vector<Var> leaves;
      for (const Tensor& t : x) leaves.push_back(g.constant(t));
      for (const Var& v : op.body(leaves, sample.attrs)) want.push_back(v.value());
    }
    if (got.size() != want.size())
      return {fmt::format("{}: {} results, the body gives {}", title(op, sample), got.size(), want.size())};
    for (size_t k = 0; k < got.size(); ++k) {
      if (got[k].dtype() != want[k].dtype())
        complain(fmt::format("result {}", k),
                 fmt::format("dtype {} instead of {}", name_of(got[k].dtype()), name_of(want[k].dtype())));
      if (std::string d = differ(got[k], want[k], allowed); !d.empty()) complain(fmt::format("result {}", k), d);
    }
    if (without_elements(x)) continue;
    Rng rng(op.name + sample.name, 81);
    if (op.vjp && has_gradient(op)) {
      std::vector<Tensor> u = cotangents(types(got), rng);
      std::vector<size_t> wrt = differentiable(op, sample);
      Swept fast = sweep_op(op, sample.attrs, x, {}, u, wrt, {}),
            slow = sweep_op(op, sample.attrs, x, {}, u, wrt, {.inline_fused = true});
      double scale = 1e-30;
      for (size_t i : wrt) scale = std::max(scale, max_abs(slow.in[i]));
      for (size_t i : wrt)
        if (std::string d = differ(fast.in[i], slow.in[i], allowed * 4, scale); !d.empty())
          complain("gradient of " + op.operand_name(int(i)), d);
    }
    if (!op.fast_relevance) continue;
    for (const std::vector<char>& data : assignments(op, sample))
      for (double eps : {0.0, 1e-6, -1.0}) {
        bool statistics = eps < 0;  // relevance at every result
        if (statistics && got.size() == 1) continue;
        if (statistics) eps = 0.05;
        // The fast path telescopes the body's divisions, which is exact without a stabiliser and off by c eps with one.
        if (dtype == f32 && eps == 0) continue;
        lrp::Rule rule;
        rule.eps = eps;
        std::vector<Tensor> R = relevance_seeds(op, types(got), rng, 0, statistics);
        std::vector<size_t> wrt = data_of(data);
        Swept fast = sweep_op(op, sample.attrs, x, data, R, wrt, {.kind = PassKind::relevance, .rule = rule});
        Swept slow = sweep_op(op, sample.attrs, x, data, R, wrt,
                              {.kind = PassKind::relevance, .rule = rule, .inline_fused = true});
        double scale = 1e-30;
        for (size_t i : wrt) scale = std::max(scale, max_abs(slow.in[i]));
        for (size_t i : wrt)
          if (std::string d =
                  differ(fast.in[i], slow.in[i], statistics ? allowed * 16 : std::max(allowed * 16, 300 * eps), scale);
              !d.empty())
            complain(fmt::format("relevance of {} (eps {:g}, {})", op.operand_name(int(i)), eps, describe(op, data)),
                     d);
      }
  }
  return failures;
}

}  // namespace whence::suite
