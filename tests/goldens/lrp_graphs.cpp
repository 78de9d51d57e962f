// lrp/*: the file holds its graph as JSON, one rule per node. Each op is one row of the table below; each node is
// recorded in a scope of its own ("n12") so that its rule can be set by a scope pattern.
//
// Files in mode gradient_x_input are computed twice: as a gradient through stopped factors (the form of the engine that
// made them), and as explicit relevance with vanishing stabilisers (where the file gives a tolerance for that). A file
// of MambaLRP's whole rule set is computed a third time, under lrp::mamba() with nothing stopped by hand.
#include <cmath>
#include <set>

#include "whence/ops/conv.h"
#include "tests/goldens/runner.h"

namespace whence::goldens {
namespace {

enum class Form { explicit_rules, gradient, preset };

struct Case;

struct GraphNode {
  const Json& j;
  std::vector<Var> in;
  std::string op, rule;

  bool has(const char* key) const { return j.contains(key); }
  int64_t integer(const char* key) const { return j.at(key).get<int64_t>(); }
  double real(const char* key) const {
    return j.at(key).is_string() ? std::stod(j.at(key).get<std::string>()) : j.at(key).get<double>();
  }
  Ints ints(const char* key) const {
    return j.at(key).is_array() ? j.at(key).get<Ints>() : Ints{j.at(key).get<int64_t>()};
  }
  Shape shape(const char* key) const {
    Ints v = ints(key);
    return Shape(std::span<const int64_t>(v));
  }
  const Json& parameters() const { return j.at("rule"); }
  int64_t value() const { return parameters().value("value", 0); }
};

struct Case {
  const File& file;
  DType dtype;
  Form form;
  Graph g;
  std::map<std::string, Var> values;                                    // by tensor name or file key
  std::map<std::string, std::pair<std::vector<Var>, int64_t>> stacked;  // a stored tensor that is a stack of values
  std::vector<std::pair<std::string, Tensor>> feeds;
  lrp::RuleSet rules{"golden"};
  std::string scope;
  std::map<std::string, Json> merged;  // output of a layer -> the batch norm folded into it

  Var input(const std::string& key) {
    if (auto it = values.find(key); it != values.end()) return it->second;
    Tensor t = file.tensor(key, dtype);
    Var v = key.starts_with("param.") ? g.parameter(key, t) : g.input(key, t.shape(), t.dtype());
    if (!key.starts_with("param.")) feeds.emplace_back(key, t);
    return values[key] = v;
  }
  /// Masks, indices, tables: they carry nothing.
  Var side(const GraphNode& n, const char* attribute) {
    std::string key = n.j.at(attribute).get<std::string>();
    return key.starts_with("param.") ? input(key) : g.constant(file.tensor(key, dtype));
  }
  Var parameter(const GraphNode& n, const char* attribute) {
    return n.has(attribute) && !n.j.at(attribute).is_null() ? input(n.j.at(attribute).get<std::string>()) : Var();
  }

  bool gradient() const { return form == Form::gradient; }
  /// Stabiliser and eps as the node's rule gives them; vanishing in the explicit form of a gradient file.
  lrp::Rule rule(const GraphNode& n, const char* variant) const;
  void set(const char* op, const lrp::Rule& r) {
    if (form != Form::preset) rules.set(op, scope, r);
  }
  /// In the gradient form v is a constant; a preset finds out by itself.
  Var stopped(Var v) const { return form == Form::preset ? v : gradient() ? stop_gradient(v) : stop_relevance(v); }
};

lrp::Stab stabiliser(const std::string& name) {
  static const std::map<std::string, lrp::Stab> forms{{"signed", lrp::Stab::sign},
                                                      {"unsigned", lrp::Stab::plain},
                                                      {"clip", lrp::Stab::clip},
                                                      {"rms_signed", lrp::Stab::rms_sample},
                                                      {"rel_signed", lrp::Stab::rms_tensor}};
  auto it = forms.find(name);
  if (it == forms.end()) throw OpsMissing("stabiliser form " + name);
  return it->second;
}

Tensor bound(const Json& j) {  // a number or nested lists
  if (j.is_number()) return Tensor::scalar(j.get<double>(), f64);
  Shape s;
  std::vector<double> flat;
  std::function<void(const Json&, int)> walk = [&](const Json& v, int depth) {
    if (!v.is_array()) return flat.push_back(v.get<double>());
    if (s.rank() == depth) s.push_back(int64_t(v.size()));
    for (const Json& e : v) walk(e, depth + 1);
  };
  walk(j, 0);
  return Tensor::from(flat, s);
}

constexpr double kVanishing = 1e-13;

lrp::Rule Case::rule(const GraphNode& n, const char* variant) const {
  lrp::Rule r;
  r.variant = variant;
  const Json& p = n.parameters();
  bool vanishing = file.meta("mode") == "gradient_x_input";
  r.eps = vanishing ? kVanishing : p.contains("eps") ? p.at("eps").get<double>() : p.value("stabilizer", 0.0);
  r.stab = stabiliser(vanishing ? "signed" : p.value("stab", "signed"));
  r.bias = p.value("bias", "include") == "include";
  r.gamma = p.value("gamma", 0.25);
  r.alpha = p.value("alpha", 2.0);
  r.beta = p.value("beta", 1.0);
  r.keep_zero = p.value("z0", "drop") == "neg";
  r.stab_of_double = p.value("form", "") == "2z";
  if (p.contains("low")) r.low = bound(p.at("low"));
  if (p.contains("high")) r.high = bound(p.at("high"));
  return r;
}

[[noreturn]] void unknown_rule(const GraphNode& n) { throw OpsMissing("rule " + n.rule + " of " + n.op); }

/// The variant of a rule by its name in the file.
const char* variant(const GraphNode& n, std::initializer_list<std::pair<const char*, const char*>> names) {
  for (auto& [from, to] : names)
    if (n.rule == from) return to;
  unknown_rule(n);
}

// ---- elementwise --------------------------------------------------------------------------------------------------

using Unary = std::function<Var(const GraphNode&, Var)>;

Var elu(Var x, double alpha = 1) { return where(greater(x, 0.0), x, expm1(minimum(x, 0.0)) * alpha); }

const std::map<std::string, Unary>& activations() {
  static const std::map<std::string, Unary> table{
      {"relu", [](auto&, Var x) { return relu(x); }},
      {"gelu",
       [](const GraphNode& n, Var x) { return n.j.value("approximate", "none") == "tanh" ? gelu_tanh(x) : gelu(x); }},
      {"silu", [](auto&, Var x) { return silu(x); }},
      {"tanh", [](auto&, Var x) { return tanh(x); }},
      {"sigmoid", [](auto&, Var x) { return sigmoid(x); }},
      {"exp", [](auto&, Var x) { return exp(x); }},
      {"log", [](auto&, Var x) { return log(x); }},
      {"sqrt", [](auto&, Var x) { return sqrt(x); }},
      {"rsqrt", [](auto&, Var x) { return rsqrt(x); }},
      {"softplus", [](auto&, Var x) { return softplus(x); }},
      {"abs", [](auto&, Var x) { return abs(x); }},
      {"sin", [](auto&, Var x) { return sin(x); }},
      {"elu", [](auto&, Var x) { return elu(x); }},
      {"leaky_relu", [](const GraphNode& n, Var x) { return leaky_relu(x, n.real("slope")); }},
      {"pow",
       [](const GraphNode& n, Var x) { return n.real("exponent") == 2 ? square(x) : pow(x, n.real("exponent")); }},
      {"clamp", [](const GraphNode& n, Var x) { return clamp(x, n.real("min"), n.real("max")); }},
      {"neg", [](auto&, Var x) { return neg(x); }},
      {"identity", [](auto&, Var x) { return x * 1.0; }},
      {"scale", [](const GraphNode& n, Var x) { return x * n.real("c"); }},
      {"div_scalar", [](const GraphNode& n, Var x) { return x / n.real("c"); }},
  };
  return table;
}

Var activation(Case& c, const GraphNode& n, const Unary& f) {
  Var x = n.in[0];
  if (n.rule == "detach") return c.stopped(f(n, x));
  if (c.gradient() && n.rule == "identity_slope") {
    Var y = f(n, x);
    double eps = n.parameters().at("eps").get<double>();
    Var slope = stop_gradient(y / (n.parameters().value("stab", "signed") == "signed"
                                       ? where(greater_equal(x, 0.0), x + eps, x - eps)
                                       : x + eps));
    return stop_gradient(y - x * slope) + x * slope;
  }
  if (c.gradient() || n.op == "scale") return f(n, x);
  variant(
      n,
      {{"identity", ""}, {"pass", ""}, {"identity_slope", ""}, {"grad", ""}});  // grad: on branches that are constant
  return f(n, x);
}

// a op b of two data tensors.
Var binary(Case& c, const GraphNode& n, Var (*f)(Arg, Arg), const char* op) {
  Var a = n.in[0], b = n.in[1];
  if (c.gradient()) {
    if (n.rule == "uniform") {
      Var y = f(a, b) * 0.5;
      return y + stop_gradient(y);
    }
    if (n.rule == "value_only") return n.value() ? f(stop_gradient(a), b) : f(a, stop_gradient(b));
    return f(a, b);
  }
  const char* v = n.rule == "value_only" ? (n.value() ? "second" : "first")
                                         : variant(n, {{"abs_ratio", "abs"},
                                                       {"eps_ratio", ""},
                                                       {"norm", ""},
                                                       {"grad", ""},
                                                       {"uniform", ""},
                                                       {"identity_a", ""},
                                                       {"param", ""}});
  if (n.op == "mul" && n.rule == "grad") unknown_rule(n);
  c.set(op, c.rule(n, v));
  return f(a, b);
}

// ---- linear maps --------------------------------------------------------------------------------------------------

const char* linear_variant(const GraphNode& n) {
  return variant(n, {{"epsilon", ""},
                     {"grad", ""},
                     {"gamma", "gamma"},
                     {"zplus", "zplus"},
                     {"alphabeta", "alphabeta"},
                     {"zbox", "zbox"},
                     {"flat", "flat"},
                     {"wsquare", "wsquare"}});
}

Var along(Var v, int64_t axis, int rank) {  // [C] to run along one axis
  Shape s = Shape::filled(rank, 1);
  s[normalize_axis(axis, rank)] = v.numel();
  return reshape(v, s);
}

// Weight and bias of a layer, with a following batch norm folded in where its rule says so:
// k = w / sqrt(var + eps); W' = W k per output channel, b' = (b - mean) k + beta.
std::pair<Var, Var> layer(Case& c, const GraphNode& n) {
  auto it = c.merged.find(n.j.at("out").get<std::string>());
  if (it == c.merged.end()) return {c.parameter(n, "w"), c.parameter(n, "b")};
  const Json& norm = it->second;
  auto read = [&](const Json& j, const char* key) { return c.file.tensor(j.at(key).get<std::string>(), f64); };
  Tensor w = read(n.j, "w").contiguous_copy(), mean = read(norm, "mean"), var = read(norm, "var"),
         scale = read(norm, "w"), beta = read(norm, "b");
  int64_t channels = mean.numel(), axis = n.op == "conv_transpose" ? 1 : 0, inner = 1;
  for (int i = int(axis) + 1; i < w.rank(); ++i) inner *= w.shape()[i];
  if (w.shape()[int(axis)] != channels) throw OpsMissing("batch norm merged into a grouped transposed convolution");
  Tensor b = n.has("b") && !n.j.at("b").is_null() ? read(n.j, "b").contiguous_copy() : Tensor::zeros({channels}, f64);
  std::vector<double> k(static_cast<size_t>(channels));
  for (int64_t i = 0; i < channels; ++i) {
    k[size_t(i)] = scale.item(i) / std::sqrt(var.item(i) + norm.at("eps").get<double>());
    b.data<double>()[i] = (b.item(i) - mean.item(i)) * k[size_t(i)] + beta.item(i);
  }
  for (int64_t i = 0; i < w.numel(); ++i) w.data<double>()[i] *= k[size_t(i / inner % channels)];
  std::string name = n.j.at("out").get<std::string>();
  return {c.g.parameter(name + ".weight", w.to(c.dtype)), c.g.parameter(name + ".bias", b.to(c.dtype))};
}

Var build_linear(Case& c, const GraphNode& n) {
  auto [w, b] = layer(c, n);
  if (!c.gradient()) c.set("linear", c.rule(n, linear_variant(n)));
  return b.defined() ? linear(n.in[0], w, Arg(b)) : linear(n.in[0], w);
}

Var build_conv(Case& c, const GraphNode& n) {
  auto [w, b] = layer(c, n);
  ConvOptions o;
  if (n.has("stride")) o.stride = n.ints("stride");
  if (n.has("padding")) o.padding = n.ints("padding");
  if (n.has("dilation")) o.dilation = n.ints("dilation");
  if (n.has("output_padding")) o.output_padding = n.ints("output_padding");
  if (n.has("groups")) o.groups = n.integer("groups");
  if (!c.gradient()) c.set(n.op.c_str(), c.rule(n, linear_variant(n)));
  std::optional<Arg> bias = b.defined() ? std::optional<Arg>(b) : std::nullopt;
  return n.op == "conv" ? conv(n.in[0], w, bias, o) : conv_transpose(n.in[0], w, bias, o);
}

PoolOptions pool_options(const GraphNode& n) {
  PoolOptions o{n.ints("kernel"), {}, {}, n.j.value("count_include_pad", true)};
  if (n.has("stride") && !n.j.at("stride").is_null()) o.stride = n.ints("stride");
  if (n.has("padding")) o.padding = n.ints("padding");
  return o;
}

Var build_avg_pool(Case& c, const GraphNode& n) {
  if (!c.gradient())
    c.set(
        "avg_pool",
        c.rule(
            n,
            variant(n,
                    {{"norm", ""}, {"eps_ratio", "sum"}, {"abs_ratio", "abs"}, {"uniform", "uniform"}, {"grad", ""}})));
  if (n.op == "avg_pool") return avg_pool(n.in[0], pool_options(n));
  Ints out = n.ints("output_size");
  if (out.size() == 1) out.resize(size_t(n.in[0].rank() - 2), out[0]);
  return adaptive_avg_pool(n.in[0], out);
}

// Evaluation mode: y = x k + (b - mean k), all constants.
Var build_batch_norm(Case& c, const GraphNode& n) {
  if (n.rule == "merge") return n.in[0];
  Var x = n.in[0], k = c.side(n, "w") * rsqrt(c.side(n, "var") + n.real("eps")),
      shift = c.side(n, "b") - c.side(n, "mean") * k;
  c.set("add", c.rule(n, variant(n, {{"identity", "pass"}, {"pass", "pass"}, {"detach_eps", ""}})));
  return x * along(k, 1, x.rank()) + along(shift, 1, x.rank());
}

// Over groups of channels: layer norm of each group, then scale and shift.
Var build_group_norm(Case& c, const GraphNode& n) {
  Var x = n.in[0];
  int64_t groups = n.integer("groups");
  const char* shift = variant(n, {{"identity", "pass"}, {"detach_eps", ""}});
  bool identity = n.rule == "identity";
  lrp::Rule inner = c.rule(n, identity ? "identity" : "");
  inner.eps = 0;  // one stabiliser, at the result
  c.rules.set("layer_norm", c.scope + "/normalise",
              inner);  // a scope of its own: the shift's rule must not reach into it
  c.set("add", c.rule(n, shift));
  Var flat = reshape(x, {x.shape()[0], groups, x.numel() / (x.shape()[0] * groups)}), y;
  {
    ScopeGuard scope(c.g, "normalise");
    y = layer_norm(flat, {}, {}, n.real("eps"));
  }
  y = reshape(y, x.shape());
  if (n.has("w")) y = y * along(c.side(n, "w"), 1, x.rank());
  return n.has("b") ? y + along(c.side(n, "b"), 1, x.rank()) : y;
}

Var build_matmul(Case& c, const GraphNode& n) {
  Var a = n.in[0], b = n.j.value("tb", false) ? transpose(n.in[1]) : n.in[1];
  if (c.gradient()) {
    if (n.rule == "uniform") {
      Var y = matmul(a, b) * 0.5;
      return y + stop_gradient(y);
    }
    if (n.rule == "value_only") return n.value() ? matmul(stop_gradient(a), b) : matmul(a, stop_gradient(b));
    return matmul(a, b);
  }
  c.set("matmul", c.rule(n, n.rule == "value_only" ? (n.value() ? "second" : "first")
                                                   : variant(n, {{"uniform_eps", ""}, {"uniform", ""}, {"grad", ""}})));
  return matmul(a, b);
}

// ---- norms, softmax, reductions -----------------------------------------------------------------------------------

// x * c with c constant where the rule says so: the gradient form.
Var norm_by_hand(Case& c, const GraphNode& n, bool centre) {
  Var x = n.in[0], w = c.parameter(n, "w"), b = c.parameter(n, "b");
  bool frozen = n.rule == "detach_std" || n.rule == "detach_rms" || n.rule == "detach_eps";
  Var d = centre ? x - mean(x, {-1}, true) : x;
  Var scale = rsqrt(mean(square(d), {-1}, true) + n.real("eps"));
  Var y = d * (frozen ? c.stopped(scale) : scale);
  if (w.defined()) y = y * w;
  return b.defined() ? y + b : y;
}

Var build_norm(Case& c, const GraphNode& n) {
  bool layer = n.op == "layer_norm";
  if (c.gradient()) return norm_by_hand(c, n, layer);
  Var w = c.parameter(n, "w"), b = c.parameter(n, "b");
  const char* v =
      variant(n, {{"identity", "identity"}, {"detach_rms", "identity"}, {"detach_eps", ""}, {"detach_std", ""}});
  c.set(n.op.c_str(), c.rule(n, v));
  std::optional<Arg> weight = w.defined() ? std::optional<Arg>(w) : std::nullopt,
                     bias = b.defined() ? std::optional<Arg>(b) : std::nullopt;
  return layer ? layer_norm(n.in[0], weight, bias, n.real("eps")) : rms_norm(n.in[0], weight, n.real("eps"));
}

Var build_l2(Case&, const GraphNode& n) {
  if (n.rule != "identity") unknown_rule(n);
  Var x = n.in[0];
  return x / maximum(sqrt(sum(square(x), {n.integer("dim")}, true)), n.real("eps"));
}

Var build_softmax(Case& c, const GraphNode& n) {
  if (!c.gradient())
    c.set("softmax",
          c.rule(n, variant(n, {{"attn", ""}, {"grad", ""}, {"detach", "detach"}, {"identity", "identity"}})));
  return softmax(n.in[0], n.integer("dim"));
}

Ints axes(const GraphNode& n) { return n.j.at("dim").is_null() ? Ints{} : n.ints("dim"); }

Var build_sum(Case& c, const GraphNode& n) {
  if (!c.gradient()) c.set("sum", c.rule(n, variant(n, {{"eps_ratio", ""}, {"grad", ""}, {"abs_ratio", "abs"}})));
  bool keep = n.j.value("keepdim", false);
  return n.op == "sum" ? sum(n.in[0], axes(n), keep) : mean(n.in[0], axes(n), keep);
}

Var build_cumsum(Case& c, const GraphNode& n) {
  c.set("cumsum", c.rule(n, variant(n, {{"eps_ratio", ""}, {"abs_ratio", "abs"}})));
  return cumsum(n.in[0], n.integer("dim"), false);
}

// ---- positions ----------------------------------------------------------------------------------------------------

Var build_rope(Case& c, const GraphNode& n) {
  Var x = n.in[0];
  int64_t d = x.shape()[-1], h = d / 2;
  Var turned = concat({neg(slice(x, -1, h, d)), slice(x, -1, 0, h)}, -1);
  if (!c.gradient()) c.set("add", c.rule(n, variant(n, {{"eps_ratio", ""}, {"grad", ""}})));
  return x * c.side(n, "cos") + turned * c.side(n, "sin");
}

// ---- recurrent cells, from primitives -----------------------------------------------------------------------------

Var at(Var v, int64_t axis, int64_t t) { return select(v, axis, t); }

Var build_ssm(Case& c, const GraphNode& n) {
  Var u = n.in[0], delta = n.in[1], B = n.in[2], C = n.in[3];  // u, delta [B, E, S]; B, C [B, S, N]
  bool frozen = n.rule != "grad";
  if (!c.gradient() && !frozen) unknown_rule(n);
  auto freeze = [&](Var v) { return frozen ? c.stopped(v) : v; };
  int64_t batch = u.shape()[0], channels = u.shape()[1], steps = u.shape()[2], states = B.shape()[2];
  Var A = neg(exp(c.parameter(n, "A_log"))), D = c.parameter(n, "D");
  lrp::Rule r = c.rule(n, "");
  c.set("add", r);
  c.set("sum", r);
  Var h = broadcast_to(c.g.constant(0.0, u.dtype()), {batch, channels, states});
  std::vector<Var> ys, hs;
  for (int64_t t = 0; t < steps; ++t) {
    Var dt = unsqueeze(at(delta, 2, t), 2);                                        // (B, E, 1)
    Var decay = freeze(exp(dt * A)), in = freeze(dt * unsqueeze(at(B, 1, t), 1));  // (B, E, N)
    Var ut = unsqueeze(at(u, 2, t), 2);
    h = decay * h + in * ut;
    hs.push_back(h);
    std::vector<Var> terms{freeze(unsqueeze(at(C, 1, t), 1)) * h};
    if (D.defined()) terms.push_back(ut * reshape(D, {1, channels, 1}));
    ys.push_back(sum(concat(terms, 2), {2}));
  }
  c.stacked["state.h"] = {hs, 2};
  return stack(ys, 2);
}

// rows[t][s] = prod over r in (s, t] of f_r, for s <= t.
std::vector<std::vector<Var>> decays(Var f, int64_t steps) {
  std::vector<std::vector<Var>> rows;
  for (int64_t t = 0; t < steps; ++t) {
    std::vector<Var> row;
    if (t)
      for (Var v : rows.back()) row.push_back(v * at(f, 1, t));
    row.push_back(at(f, 1, t) * 0.0 + 1.0);
    rows.push_back(row);
  }
  return rows;
}

// y_t = sum over s <= t of M[t][s] * v_s, M constant.
Var mix(Case& c, const GraphNode& n, const std::vector<std::vector<Var>>& m, Var v) {
  c.set("sum", c.rule(n, ""));
  std::vector<Var> ys;
  for (size_t t = 0; t < m.size(); ++t) {
    std::vector<Var> terms;
    for (size_t s = 0; s <= t; ++s) terms.push_back(stop_relevance(m[t][s]) * at(v, 1, int64_t(s)));
    ys.push_back(sum(stack(terms, 1), {1}));
  }
  return stack(ys, 1);
}

Var build_mlstm(Case& c, const GraphNode& n) {
  if (n.rule != "eps") unknown_rule(n);
  Var q = n.in[0], k = n.in[1], v = n.in[2], i = n.in[3], f = n.in[4],
      o = n.in[5];  // q, k [B, T, D]; v, o [B, T, V]; i, f [B, T]
  int64_t steps = q.shape()[1];
  auto rows = decays(f, steps);
  for (int64_t t = 0; t < steps; ++t) {
    Var qt = at(q, 1, t), dot;  // n_t . q_t
    for (int64_t s = 0; s <= t; ++s) {
      Var w = rows[size_t(t)][size_t(s)] * at(i, 1, s) * sum(at(k, 1, s) * qt, {1});
      rows[size_t(t)][size_t(s)] = w;
      dot = s ? dot + w : w;
    }
    for (Var& w : rows[size_t(t)]) w = unsqueeze(w / maximum(abs(dot), 1.0), 1) * at(o, 1, t);
  }
  return mix(c, n, rows, v);
}

Var build_slstm(Case& c, const GraphNode& n) {
  if (n.rule != "eps") unknown_rule(n);
  Var z = n.in[0], i = n.in[1], f = n.in[2], o = n.in[3];  // all [B, T, C]
  int64_t steps = z.shape()[1];
  auto rows = decays(f, steps);
  for (int64_t t = 0; t < steps; ++t) {
    Var norm;
    for (int64_t s = 0; s <= t; ++s) {
      Var& w = rows[size_t(t)][size_t(s)];
      w = w * at(i, 1, s);
      norm = s ? norm + w : w;
    }
    for (Var& w : rows[size_t(t)]) w = w / norm * at(o, 1, t);
  }
  return mix(c, n, rows, z);
}

// ---- the table ----------------------------------------------------------------------------------------------------

using Builder = std::function<Var(Case&, const GraphNode&)>;

const std::map<std::string, Builder>& builders() {
  static const std::map<std::string, Builder> table = [] {
    std::map<std::string, Builder> t{
        {"linear", build_linear},
        {"conv", build_conv},
        {"conv_transpose", build_conv},
        {"matmul", build_matmul},
        {"add", [](Case& c, const GraphNode& n) { return binary(c, n, add, "add"); }},
        {"sub", [](Case& c, const GraphNode& n) { return binary(c, n, sub, "sub"); }},
        {"mul", [](Case& c, const GraphNode& n) { return binary(c, n, mul, "mul"); }},
        {"div", [](Case& c, const GraphNode& n) { return binary(c, n, div, "div"); }},
        {"mul_param", [](Case& c, const GraphNode& n) { return n.in[0] * c.side(n, "w"); }},
        {"bias_add",
         [](Case& c, const GraphNode& n) {
           Var x = n.in[0], b = c.side(n, "b");
           if (!c.gradient())
             c.set("add",
                   c.rule(n, variant(n, {{"absorb_eps", ""}, {"absorb_abs", "abs"}, {"pass", "pass"}, {"grad", ""}})));
           return x + (n.has("channel_dim") ? along(b, n.integer("channel_dim"), x.rank()) : b);
         }},
        {"mask_fill",
         [](Case& c, const GraphNode& n) {
           return where(c.side(n, "mask"), c.g.constant(n.real("value"), n.in[0].dtype()), n.in[0]);
         }},
        {"where", [](Case& c, const GraphNode& n) { return where(c.side(n, "mask"), n.in[0], n.in[1]); }},
        {"softmax", build_softmax},
        {"layer_norm", build_norm},
        {"rms_norm", build_norm},
        {"l2_normalize", build_l2},
        {"group_norm", build_group_norm},
        {"batch_norm", build_batch_norm},
        {"avg_pool", build_avg_pool},
        {"adaptive_avg_pool", build_avg_pool},
        {"max_pool", [](Case&, const GraphNode& n) { return max_pool(n.in[0], pool_options(n)); }},
        {"sum", build_sum},
        {"mean", build_sum},
        {"cumsum", build_cumsum},
        {"max", [](Case&, const GraphNode& n) { return whence::max(n.in[0], axes(n), n.j.value("keepdim", false)); }},
        {"reshape", [](Case&, const GraphNode& n) { return reshape(n.in[0], n.shape("shape")); }},
        {"permute", [](Case&, const GraphNode& n) { return permute(n.in[0], n.ints("dims")); }},
        {"expand", [](Case&, const GraphNode& n) { return broadcast_to(n.in[0], n.shape("shape")); }},
        {"repeat", [](Case&, const GraphNode& n) { return repeat(n.in[0], n.ints("repeats")); }},
        {"repeat_interleave",
         [](Case&, const GraphNode& n) { return repeat_interleave(n.in[0], n.integer("repeats"), n.integer("dim")); }},
        {"flip", [](Case&, const GraphNode& n) { return flip(n.in[0], n.ints("dims")); }},
        {"roll", [](Case&, const GraphNode& n) { return roll(n.in[0], n.ints("shifts"), n.ints("dims")); }},
        {"slice",
         [](Case&, const GraphNode& n) {
           int64_t end = n.has("stop") && !n.j.at("stop").is_null() ? n.integer("stop") : INT64_MAX;
           return slice(n.in[0], n.integer("dim"), n.integer("start"), end, n.j.value("step", int64_t(1)));
         }},
        {"select",
         [](Case&, const GraphNode& n) {
           int64_t i = n.integer("index"), d = n.integer("dim");
           return select(n.in[0], d, i < 0 ? i + n.in[0].shape()[normalize_axis(d, n.in[0].rank())] : i);
         }},
        {"squeeze", [](Case&, const GraphNode& n) { return squeeze(n.in[0], n.integer("dim")); }},
        {"unsqueeze", [](Case&, const GraphNode& n) { return unsqueeze(n.in[0], n.integer("dim")); }},
        {"pad",
         [](Case&, const GraphNode& n) {
           Ints pads;
           for (const Json& p : n.j.at("pad"))
             for (const Json& e : p) pads.push_back(e.get<int64_t>());
           return pad(n.in[0], pads, PadMode::constant, n.j.value("value", 0.0));
         }},
        {"concat", [](Case&, const GraphNode& n) { return concat(n.in, n.integer("dim")); }},
        {"stack", [](Case&, const GraphNode& n) { return stack(n.in, n.integer("dim")); }},
        {"gather",
         [](Case& c, const GraphNode& n) { return take_along_axis(n.in[0], c.side(n, "index"), n.integer("dim")); }},
        {"index_select",
         [](Case& c, const GraphNode& n) { return gather(n.in[0], c.side(n, "index"), n.integer("dim")); }},
        {"scatter",
         [](Case& c, const GraphNode& n) {
           // Overwrite = clear where something lands, then add.
           Var x = n.in[0], src = n.in[1], index = c.side(n, "index");
           Var zero = broadcast_to(c.g.constant(0.0, x.dtype()), x.shape()),
               one = broadcast_to(c.g.constant(1.0, x.dtype()), src.shape());
           lrp::Rule exact;
           exact.eps = 0;
           c.set("scatter_add", exact);
           Var hit = greater(scatter_add(zero, index, one, n.integer("dim")), 0.0);
           return where(hit, scatter_add(zero, index, src, n.integer("dim")), x);
         }},
        {"embedding", [](Case& c, const GraphNode& n) { return embedding(n.in[0], c.parameter(n, "w"), -1); }},
        {"rope", build_rope},
        {"ssm_scan", build_ssm},
        {"mlstm", build_mlstm},
        {"slstm", build_slstm},
        {"detach", [](Case& c, const GraphNode& n) { return c.stopped(n.in[0]); }},
    };
    for (const auto& [name, f] : activations())
      t[name] = [f](Case& c, const GraphNode& n) { return activation(c, n, f); };
    return t;
  }();
  return table;
}

// ---- running ------------------------------------------------------------------------------------------------------

void record(Case& c) {
  static const Json none = Json::object({{"name", ""}});
  Json graph = c.file.json("graph");
  size_t number = 0;
  // Every node needs a row before anything is recorded, so that the line names all that is missing.
  std::set<std::string> absent;
  for (const Json& j : graph)
    if (!builders().count(j.at("op").get<std::string>())) absent.insert(j.at("op").get<std::string>());
  if (!absent.empty()) {
    std::string all;
    for (const std::string& s : absent) all += (all.empty() ? "" : " ") + s;
    throw OpsMissing(all);
  }
  for (const Json& j : graph)
    if (j.at("op") == "batch_norm" && j.contains("rule") && j.at("rule").value("name", "") == "merge")
      c.merged[j.at("in")[0].get<std::string>()] = j;
  for (const Json& j : graph) {
    GraphNode n{j, {}, j.at("op").get<std::string>(), j.contains("rule") ? j.at("rule").value("name", "") : ""};
    for (const Json& name : j.at("in")) {
      std::string s = name.get<std::string>();
      n.in.push_back(c.values.count(s) ? c.values.at(s) : c.input(s));
    }
    c.scope = "n" + std::to_string(number++);
    ScopeGuard scope(c.g, c.scope);
    c.values[j.at("out").get<std::string>()] = builders().at(n.op)(c, n);
  }
}

Feeds feeds(const Case& c) {
  Feeds f;
  for (const auto& [name, t] : c.feeds) f.emplace_back(name, t);
  return f;
}

// Values whose stored tensors begin with `prefix`.
std::vector<std::string> stored(const File& file, const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& e : file.data.entries())
    if (e.name.starts_with(prefix)) names.push_back(e.name.substr(prefix.size()));
  return names;
}

struct Wanted {
  std::string key;
  Var value;
};
using Computed = std::vector<std::pair<std::string, Tensor>>;  // by key of the file

Computed evaluated(const Case& c, const std::vector<Wanted>& wanted) {
  std::vector<Var> vars;
  for (const Wanted& w : wanted) vars.push_back(w.value);
  Results r = compile(vars).run(feeds(c));
  Computed out;
  for (size_t i = 0; i < wanted.size(); ++i) out.emplace_back(wanted[i].key, r[i]);
  return out;
}

Computed compute(const File& file, DType dtype, Form form) {
  Case c{file, dtype, form, Graph(), {}, {}, {}, form == Form::preset ? lrp::mamba() : lrp::RuleSet("golden"), "", {}};
  record(c);
  bool gradient = form == Form::gradient, by_product = file.meta("mode") == "gradient_x_input";
  std::vector<Wanted> forward, backward;
  for (const std::string& name : stored(file, "output."))
    if (c.values.count(name) && !c.merged.count(name)) forward.push_back({"output." + name, c.values.at(name)});
  Var root = c.values.at(file.meta("output"));
  Var seed = c.g.constant(file.tensor(gradient ? "seed_grad" : "seed", dtype));

  // What is asked for; for token ids the gradient form looks at the rows they select.
  std::map<std::string, std::string> rows;  // ids -> embedding output
  for (const Json& j : file.json("graph"))
    if (j.at("op") == "embedding") rows[j.at("in")[0].get<std::string>()] = j.at("out").get<std::string>();
  std::vector<std::string> names;
  std::vector<Var> wrt;
  std::vector<std::pair<std::string, std::pair<size_t, size_t>>> parts;  // key -> range in wrt
  auto want = [&](const std::string& name) {
    if (auto it = c.stacked.find(name); it != c.stacked.end()) {
      parts.push_back({name, {wrt.size(), it->second.first.size()}});
      for (Var v : it->second.first) wrt.push_back(v);
      return;
    }
    std::string source = gradient && rows.count(name) ? rows[name] : name;
    if (!c.values.count(source)) throw OpsMissing("a value named " + name);
    parts.push_back({name, {wrt.size(), 1}});
    wrt.push_back(c.values.at(source));
  };
  for (const std::string& name : stored(file, "relevance.")) want(name);
  size_t relevances = parts.size();
  if (gradient)
    for (const std::string& name : stored(file, "grad.")) want(name);

  lrp::Ledger ledger(c.rules);
  std::vector<Var> got = gradient ? sweep({&root, 1}, {&seed, 1}, wrt, {.kind = PassKind::gradient})
                                  : ledger.relevance(root, std::span<const Var>(wrt), seed);
  for (size_t i = 0; i < parts.size(); ++i) {
    auto [name, range] = parts[i];
    Var v = got[range.first];
    if (range.second > 1)
      v = stack({got.begin() + int64_t(range.first), got.begin() + int64_t(range.first + range.second)},
                c.stacked.at(name).second);
    bool is_relevance = i < relevances;
    if (gradient && is_relevance) {
      v = v * c.values.at(rows.count(name) ? rows[name] : name);
      if (rows.count(name)) v = sum(v, {-1});
    }
    backward.push_back({(is_relevance ? "relevance." : "grad.") + name, v});
  }
  Computed out;
  if (!by_product || gradient) out = evaluated(c, forward);
  for (auto& value : evaluated(c, backward)) out.push_back(std::move(value));
  // What the softmax held back, booked apart.
  if (const std::string key = "absorbed.softmax_bias"; file.has(key) && !by_product) {
    lrp::LedgerReport report = ledger.read(compile({ledger.outputs()}).run(feeds(c)));
    out.emplace_back(key, Tensor::full(file.tensor(key, f64).shape(), report.absorbed["softmax"], f64));
  }
  return out;
}

double largest(const Tensor& t, const Tensor* minus = nullptr) {
  double top = 0;
  for (int64_t i = 0; i < t.numel(); ++i)
    top = std::max(top, std::fabs(t.data<double>()[i] - (minus ? minus->data<double>()[i] : 0.0)));
  return top;
}

// How far each value moves, relative to its largest, when every stored float is rounded to f32: the case's
// conditioning. A run in f32 may be off by some of these, on any machine; a file's tolerance is what one machine was
// off by.
std::map<std::string, double> conditioning(const File& file, Form form) {
  File nudged = file;
  Computed exact = compute(file, f64, form);
  std::map<std::string, double> moved;
  for (nudged.nudge = 1; nudged.nudge <= 3; ++nudged.nudge) {
    Computed other = compute(nudged, f64, form);
    for (size_t i = 0; i < exact.size(); ++i) {
      const auto& [key, t] = exact[i];
      if (const double scale = largest(t); scale > 0)
        moved[key] = std::max(moved[key], largest(other[i].second, &t) / scale);
    }
  }
  return moved;
}

void run_graph(const File& file, DType dtype, Form form, double tolerance, Check& check) {
  constexpr double kRoundings = 8;  // of an f32 run, in units of the conditioning
  const bool by_product = file.meta("mode") == "gradient_x_input";
  const char* note = !by_product              ? ""
                     : form == Form::gradient ? " (gradient form)"
                     : form == Form::preset   ? " (preset)"
                                              : " (explicit rules)";
  std::map<std::string, double> moved;
  if (dtype == f32) moved = conditioning(file, form);
  for (const auto& [key, value] : compute(file, dtype, form))
    check.compare(key + (key.starts_with("output.") ? "" : note), value, file.tensor(key, f64),
                  std::max(tolerance, kRoundings * moved[key]));
}

void run_stabilisers(const File& file, DType dtype, double tolerance, Check& check) {
  Graph g;
  Var z = g.constant(file.tensor("input.z", dtype));
  for (const std::string& name : stored(file, "output.")) {  // form_eps, with p for the point: signed_0p25
    size_t cut = name.rfind('_');
    std::string number = name.substr(cut + 1);
    if (size_t p = number.find('p'); p != number.npos) number[p] = '.';
    Var one = broadcast_to(g.constant(1.0, dtype), z.shape());
    Var q = record(op_named("stabilised_div"), {one, z},
                   {{"share", 1.0}, {"eps", std::stod(number)}, {"stab", int64_t(stabiliser(name.substr(0, cut)))}});
    Var s = where(equal(q, 0.0), 0.0, 1.0 / q);  // a denominator of exactly zero passes nothing
    check.compare("output." + name, evaluate({s})[0], file.tensor("output." + name, f64), tolerance);
  }
}

}  // namespace

void run_seeds(const File& file, DType dtype, double tolerance, Check& check);  // seeds.cpp

void run_lrp(const File& file, DType dtype, Check& check) {
  double tolerance = std::stod(file.meta(dtype == f64 ? "tol_f64" : "tol_f32"));
  const std::string& mode = file.meta("mode");
  // The reference is exact there; an engine that divides and takes reciprocals rounds.
  if (mode == "stabilizer")
    return run_stabilisers(file, dtype, std::max(tolerance, dtype == f64 ? 1e-14 : 1e-6), check);
  if (mode == "seeds") return run_seeds(file, dtype, std::max(tolerance, dtype == f64 ? 1e-14 : 1e-6), check);
  if (mode == "relevance") return run_graph(file, dtype, Form::explicit_rules, tolerance, check);
  if (mode != "gradient_x_input") throw OpsMissing("mode " + mode);
  run_graph(file, dtype, Form::gradient, tolerance, check);
  if (const std::string& t = file.meta("tol_explicit_rules"); !t.empty())
    for (Form form : {Form::explicit_rules, Form::preset})
      if (form == Form::explicit_rules ||
          (file.meta("engine").starts_with("MambaLRP") && file.meta("rules_off") == "none"))
        run_graph(file, dtype, form, std::max(tolerance, std::stod(t)), check);
}

}  // namespace whence::goldens
