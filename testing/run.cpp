#include "whence/testing/run.h"

#include <fmt/format.h>

#include <algorithm>

#include "whence/testing/references.h"

namespace whence::suite {

std::string title(const OpDef& op, const Sample& sample) {
  return fmt::format("[{}] sample '{}'", op.name, sample.name.empty() ? "unnamed" : sample.name);
}

bool sinks(const OpDef& op, size_t i) { return i < 32 && (op.traits.sinks >> i & 1); }

std::vector<size_t> differentiable(const OpDef& op, const Sample& sample) {
  std::vector<size_t> which;
  for (size_t i = 0; i < sample.in.size(); ++i)
    if (sample.in[i].dtype == f64 && !sinks(op, i)) which.push_back(i);
  return which;
}

std::vector<size_t> carriers(const OpDef& op, const Sample& sample) {
  std::vector<size_t> which;
  for (size_t i = 0; i < sample.in.size(); ++i)
    if (sample.in[i].dtype != boolean && !sinks(op, i)) which.push_back(i);
  return which;
}

bool has_gradient(const OpDef& op) {
  return !op.traits.leaf && !op.traits.nondifferentiable && !op.traits.blocks_gradient && (op.vjp || op.body);
}
bool has_relevance(const OpDef& op) {
  return !op.traits.leaf && !op.traits.nondifferentiable && !op.traits.blocks_relevance && !op.traits.backward &&
         (op.relevance || op.body);
}

std::vector<std::vector<char>> assignments(const OpDef& op, const Sample& sample) {
  std::vector<size_t> can = carriers(op, sample);
  size_t n = sample.in.size();
  std::vector<std::vector<char>> all;
  auto add = [&](auto&& is_data) {
    std::vector<char> data(n);
    for (size_t i = 0; i < n; ++i) data[i] = std::count(can.begin(), can.end(), i) && is_data(i);
    if (std::count(data.begin(), data.end(), char(1)) && std::find(all.begin(), all.end(), data) == all.end())
      all.push_back(data);
  };
  add([&](size_t i) { return !sample.in[i].parameter; });
  if (can.size() <= 3) {
    for (unsigned mask = 1; mask < 1u << can.size(); ++mask)
      add([&](size_t i) { return mask >> (std::find(can.begin(), can.end(), i) - can.begin()) & 1; });
  } else {
    add([](size_t) { return true; });
    for (size_t only : can) add([&](size_t i) { return i == only; });
  }
  return all;
}

std::string describe(const OpDef& op, std::span<const char> data) {
  std::string s;
  for (size_t i = 0; i < data.size(); ++i)
    if (data[i]) s += (s.empty() ? "" : ", ") + op.operand_name(int(i));
  return s + (std::count(data.begin(), data.end(), char(1)) == 1 ? " carries" : " carry");
}

std::vector<lrp::Rule> rules_for(const OpDef& op) {
  std::vector<lrp::Rule> rules;
  auto add = [&](const std::string& variant) -> lrp::Rule& {
    lrp::Rule& rule = rules.emplace_back();
    rule.variant = variant;
    rule.eps = 0.05;  // large enough for its share to be seen
    rule.gamma = 0.4;
    rule.low = Tensor::full({}, -2.5, f64);
    rule.high = Tensor::full({}, 2.5, f64);
    return rule;
  };
  add("");
  SweepFn own = original(op).relevance;
  bool linear = own == lrp::linear_rule, mutant = &original(op) != &op;
  if ((own == lrp::multilinear || linear) && !mutant) add("").stab_of_double = true;
  for (const std::string& v : original(op).variants)
    if (!linear || (!mutant && v != "epsilon" && v != "first" && v != "second"))
      add(v);  // those speak of products of data
  return rules;
}

// ---- recording ----------------------------------------------------------------------------------------------------

static std::vector<Var> results_of(Graph& g, Var first) {
  std::vector<Var> out;
  for (uint32_t k = 0; k < g.producer(first.id()).out_count; ++k) out.push_back(g.var(first.id() + k));
  return out;
}

Recorded record_on(Graph& g, const OpDef& op, const Attrs& attrs, std::span<const Tensor> in,
                   std::span<const char> data) {
  Recorded r;
  for (size_t i = 0; i < in.size(); ++i) {
    std::string name = "x" + std::to_string(i);
    r.in.push_back(i < data.size() && !data[i] ? g.parameter(name, in[i]) : g.input(name, in[i]));
  }
  r.out = results_of(g, g.record(op, r.in, attrs));
  return r;
}

std::vector<Tensor> forward(const OpDef& op, const Attrs& attrs, std::span<const Tensor> in) {
  Graph g(Graph::Mode::immediate);
  std::vector<Tensor> out;
  for (Var v : record_on(g, op, attrs, in, {}).out) out.push_back(v.value());
  return out;
}

std::vector<TensorType> types(std::span<const Tensor> tensors) {
  std::vector<TensorType> t;
  for (const Tensor& x : tensors) t.push_back({x.shape(), x.dtype()});
  return t;
}

std::vector<Tensor> cotangents(std::span<const TensorType> out, Rng& rng, int64_t targets) {
  std::vector<Tensor> u(out.size());
  for (size_t k = 0; k < out.size(); ++k) {
    if (!is_float(out[k].dtype)) continue;
    Shape s = out[k].shape;
    if (targets) s.insert(0, targets);
    u[k] = random_tensor(s, out[k].dtype, rng);
  }
  return u;
}

std::vector<Tensor> relevance_seeds(const OpDef& op, std::span<const TensorType> out, Rng& rng, int64_t targets,
                                    bool all) {
  std::vector<Tensor> R = cotangents(out, rng, targets);
  if (op.fused() && !all)
    for (size_t k = 1; k < R.size(); ++k) R[k] = Tensor();
  return R;
}

std::vector<Var> sweep_recorded(const Recorded& r, std::span<const Var> cotangent, std::span<const size_t> wrt,
                                const Pass& pass) {
  std::vector<Var> roots, seeds, targets;
  for (size_t k = 0; k < r.out.size(); ++k)
    if (cotangent[k].defined()) {
      roots.push_back(r.out[k]);
      seeds.push_back(cotangent[k]);
    }
  for (size_t i : wrt) targets.push_back(r.in[i]);
  return sweep(roots, seeds, targets, pass);
}

Swept sweep_op(const OpDef& op, const Attrs& attrs, std::span<const Tensor> in, std::span<const char> data,
               std::span<const Tensor> cotangent, std::span<const size_t> wrt, const SweepSetup& setup) {
  Swept result;
  result.in.resize(in.size());
  Graph g(Graph::Mode::immediate);
  Recorded r = record_on(g, op, attrs, in, data);
  std::vector<Var> u(r.out.size());
  bool any = false;
  for (size_t k = 0; k < u.size(); ++k)
    if (cotangent[k].defined()) {
      u[k] = g.constant(cotangent[k]);
      any = true;
    }
  if (!any) return result;
  lrp::RuleSet rules("suite", setup.rule);
  Pass pass{.kind = setup.kind, .rules = &rules, .targets = setup.targets, .inline_fused = setup.inline_fused};
  if (setup.ledger)
    pass.observe = [&](const SweepCtx& c) {
      SweepCtx copy = c;
      if (c.by_rule() && c.op.absorbed) c.op.absorbed(copy);
      for (auto& [category, amount] : copy.absorbed())
        c.publish(amount, [&](Var v) { result.absorbed.push_back(v.value()); });
    };
  std::vector<Var> swept = sweep_recorded(r, u, wrt, pass);
  for (size_t i = 0; i < wrt.size(); ++i) result.in[wrt[i]] = swept[i].value();
  return result;
}

std::vector<Tensor> gradient(const OpDef& op, const Sample& sample, std::span<const Tensor> in,
                             std::span<const Tensor> cotangent, bool inline_fused) {
  return sweep_op(op, sample.attrs, in, {}, cotangent, differentiable(op, sample), {.inline_fused = inline_fused}).in;
}

// ---- finite differences -------------------------------------------------------------------------------------------

static std::vector<Tensor> moved(std::span<const Tensor> in, std::span<const Tensor> v, double t) {
  std::vector<Tensor> out(in.begin(), in.end());
  for (size_t i = 0; i < in.size(); ++i) {
    if (!v[i].defined()) continue;
    out[i] = in[i].contiguous_copy();
    double* x = out[i].data<double>();
    const double* d = v[i].data<double>();
    for (int64_t j = 0; j < out[i].numel(); ++j) x[j] += t * d[j];
  }
  return out;
}

double directional(const TensorFn& f, std::span<const Tensor> in, std::span<const Tensor> v,
                   std::span<const Tensor> cotangent, double h) {
  auto p1 = f(moved(in, v, h)), m1 = f(moved(in, v, -h)), p2 = f(moved(in, v, 2 * h)), m2 = f(moved(in, v, -2 * h));
  double s = 0;
  for (size_t k = 0; k < cotangent.size(); ++k) {
    if (!cotangent[k].defined() || !p1[k].defined()) continue;
    std::vector<double> u = cotangent[k].to_vector<double>();
    std::vector<double> a = p1[k].to_vector<double>(), b = m1[k].to_vector<double>(), c = p2[k].to_vector<double>(),
                        d = m2[k].to_vector<double>();
    for (size_t o = 0; o < u.size(); ++o) {
      double dy = 8 * (a[o] - b[o]) - (c[o] - d[o]);
      if (a[o] == b[o]) dy = 0;  // also infinities that do not move
      s += u[o] * dy / (12 * h);
    }
  }
  return s;
}

std::vector<std::vector<double>> jacobian(const TensorFn& f, std::span<const Tensor> in, size_t i, size_t k, double h) {
  std::vector<std::vector<double>> columns;
  std::vector<Tensor> v(in.size());
  v[i] = Tensor::zeros(in[i].shape(), f64);
  for (int64_t j = 0; j < in[i].numel(); ++j) {
    v[i].data<double>()[j] = 1;
    std::vector<double> a = f(moved(in, v, h))[k].to_vector<double>(), b = f(moved(in, v, -h))[k].to_vector<double>();
    std::vector<double> c = f(moved(in, v, 2 * h))[k].to_vector<double>(),
                        d = f(moved(in, v, -2 * h))[k].to_vector<double>();
    for (size_t o = 0; o < a.size(); ++o) a[o] = a[o] == b[o] ? 0 : (8 * (a[o] - b[o]) - (c[o] - d[o])) / (12 * h);
    columns.push_back(std::move(a));
    v[i].data<double>()[j] = 0;
  }
  // columns[j][o] -> J[o][j]
  size_t n_out = columns.empty() ? 0 : columns[0].size();
  std::vector<std::vector<double>> J(n_out, std::vector<double>(columns.size()));
  for (size_t j = 0; j < columns.size(); ++j)
    for (size_t o = 0; o < n_out; ++o) J[o][j] = columns[j][o];
  return J;
}

}  // namespace whence::suite
