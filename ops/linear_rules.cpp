// Relevance rules of maps y = f(x, W, b) that are linear in x and W: linear, matmul with a parameter, convolutions.
//
// Every rule has the same shape: run the op with modified operands, divide the relevance by what comes out, send it
// back through the op's own adjoint with the same operands. So a rule is a list of branches, and no rule knows what
// the op does:
//
//   branch: weight, R, z, passes     t = R / stab(z);   R_x += weight * sum over passes of  sign x' * adjoint(t; W')
//
// Parameter relevance (on request, never part of the conservation sum) is the same sum for W' instead of x'.
#include <array>
#include <cmath>

#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"

namespace whence::lrp {
namespace {

struct Pass {
  double sign = 1;
  Var x, w, b;  // b: undefined without bias
};

struct Branch {
  double weight = 1;
  Var r, z;
  std::vector<Pass> passes;
};

// Which operand is the data, the parameter, the bias; the op and its adjoint with other operands in their places.
class Map {
 public:
  explicit Map(SweepCtx& c) : c_(c), x_(c.carries(1) && !c.carries(0) ? 1 : 0) {}

  bool bilinear() const { return c_.carries(0) && c_.carries(1); }
  Var x() const { return c_.in(x_); }
  Var w() const { return c_.in(1 - x_); }
  Var b() const { return has_bias() ? c_.in(2) : Var(); }
  bool has_bias() const { return c_.n_in() > 2; }
  int x_index() const { return x_; }

  Var apply(const Pass& p) const { return c_.apply(operands(p)); }
  std::vector<Var> adjoint(const Pass& p, Var t) const { return c_.frozen_vjp_at(operands(p), t); }

 private:
  std::vector<Var> operands(const Pass& p) const {
    std::vector<Var> in{x_ == 0 ? p.x : p.w, x_ == 0 ? p.w : p.x};
    if (has_bias())
      in.push_back(p.b.defined() ? p.b : broadcast_to(c_.graph.constant(0.0, c_.in(2).dtype()), c_.in(2).shape()));
    return in;
  }
  SweepCtx& c_;
  int x_;
};

Var positive(Var v) { return v.defined() ? maximum(v, 0.0) : v; }
Var negative(Var v) { return v.defined() ? minimum(v, 0.0) : v; }
Var ones_like(Var v) { return broadcast_to(v.graph().constant(1.0, v.dtype()), v.shape()); }

Var sum_of_passes(const Map& f, const std::vector<Pass>& passes) {
  Var z;
  for (const Pass& p : passes) {
    Var y = f.apply(p);
    z = !z.defined() ? y : p.sign > 0 ? z + y : z - y;
  }
  return z;
}

Branch branch(const Map& f, double weight, Var r, std::vector<Pass> passes) {
  return {weight, r, sum_of_passes(f, passes), std::move(passes)};
}

// A bound of zbox: a constant, broadcast to x.
Var bound(const Tensor& t, Var x, const char* which) {
  if (!t.defined()) throw ValueError(std::string("rule zbox needs Rule::") + which);
  if (!broadcastable_to(t.shape(), x.shape()))
    throw ShapeError(std::string("rule zbox: ") + which + " has shape " + t.shape().str() +
                     ", which does not broadcast to the input " + x.shape().str());
  return broadcast_to(x.graph().constant(t.to(x.dtype()).contiguous_tensor()), x.shape());
}

// docs/relevance.md has the formulas in the same order.
std::vector<Branch> branches(SweepCtx& c, const Map& f) {
  const Rule& rule = c.rule();
  const std::string& v = rule.variant;
  Var x = f.x(), w = f.w(), b = rule.bias ? f.b() : Var(), r = c.d();
  Var none = c.graph.constant(0.0, r.dtype()), z = c.out();

  if (rule.bias_abs && f.has_bias()) {
    b = Var();
    z = f.apply({1, x, w, b});
    Var size = abs(z), total = size + abs(c.out() - z);
    r = where(equal(total, 0.0), r * 0.5, r * (size / maximum(total, 1e-300)));
  }
  if (v.empty() || v == "epsilon" || v == "first" || v == "second")
    return {b.defined() || !f.has_bias() ? Branch{1, r, c.out(), {{1, x, w, b}}} : branch(f, 1, r, {{1, x, w, b}})};

  Var xp = positive(x), xn = negative(x);
  if (v == "zplus") return {branch(f, 1, r, {{1, xp, positive(w), positive(b)}, {1, xn, negative(w), {}}})};
  if (v == "alphabeta") {
    if (std::fabs(rule.alpha - rule.beta - 1) > 1e-9)
      throw ValueError("rule alphabeta needs alpha - beta = 1, got alpha " + std::to_string(rule.alpha) + " and beta " +
                       std::to_string(rule.beta));
    std::vector<Branch> both{branch(f, rule.alpha, r, {{1, xp, positive(w), positive(b)}, {1, xn, negative(w), {}}})};
    if (rule.beta != 0)
      both.push_back(branch(f, -rule.beta, r, {{1, xp, negative(w), negative(b)}, {1, xn, positive(w), {}}}));
    return both;
  }
  if (v == "gamma") {
    auto more = [&](Var p, Var part) { return p.defined() ? p + part * rule.gamma : p; };
    Var up = more(w, positive(w)), down = more(w, negative(w));
    Branch plus = branch(f, 1, where(greater(z, 0.0), r, none), {{1, xp, up, more(b, positive(b))}, {1, xn, down, {}}});
    Var below = rule.keep_zero ? less_equal(z, 0.0) : less(z, 0.0);
    Branch minus = branch(f, 1, where(below, r, none), {{1, xp, down, more(b, negative(b))}, {1, xn, up, {}}});
    return {plus, minus};
  }
  if (v == "zbox")
    return {branch(f, 1, r,
                   {{1, x, w, b},
                    {-1, bound(rule.low, x, "low"), positive(w), positive(b)},
                    {-1, bound(rule.high, x, "high"), negative(w), negative(b)}})};
  if (v == "flat") return {branch(f, 1, r, {{1, ones_like(x), ones_like(w), {}}})};
  return {branch(f, 1, r, {{1, ones_like(x), square(w), b.defined() ? square(b) : b}})};  // wsquare
}

// A product of two data tensors.
void bilinear(SweepCtx& c) {
  const std::string& v = c.rule().variant;
  if (v != "first" && v != "second") {
    // Half to each factor; a bias stands beside the product with its full share.
    bool inside = c.rule().stab_of_double && v.empty();
    std::vector<Var> g =
        c.frozen_vjp(inside ? c.stabilised_share(c.d(), c.out() * 2.0, 2.0) : c.stabilised_share(c.d(), c.out(), 1.0));
    for (int i = 0; i < c.n_in(); ++i)
      if (g[size_t(i)].defined()) c.give(i, c.in(i)*g[size_t(i)] * (i < 2 ? 0.5 : 1.0));
    return;
  }
  int i = v == "second";
  Var g = c.frozen_vjp(c.stabilised_share(c.d(), c.out(), 1.0))[size_t(i)];
  if (g.defined()) c.give(i, c.in(i)*g);
}

// "first" or "second" names an operand that does not carry: nothing passes.
bool aside(const SweepCtx& c, const Map& f) {
  return !f.bilinear() && (c.rule().variant == "first" || c.rule().variant == "second") &&
         f.x_index() != (c.rule().variant == "second");
}

}  // namespace

std::vector<std::string> linear_variants() {
  return {"epsilon", "first", "second", "gamma", "zplus", "alphabeta", "zbox", "flat", "wsquare"};
}

void linear_rule(SweepCtx& c) {
  Map f(c);
  if (f.bilinear()) return bilinear(c);
  if (aside(c, f)) return;
  std::array<Var, 3> total;
  for (const Branch& br : branches(c, f)) {
    Var t = c.stabilised_share(br.r, br.z, br.weight);
    for (const Pass& p : br.passes) {
      std::vector<Var> g = f.adjoint(p, t);
      std::array<Var, 3> operand{f.x_index() == 0 ? p.x : p.w, f.x_index() == 0 ? p.w : p.x, p.b};
      for (size_t i = 0; i < g.size(); ++i) {
        Var factor = i < 3 ? operand[i] : c.in(int(i));  // further operands (a state) are data
        if (!g[i].defined() || !factor.defined()) continue;
        Var part = factor * g[i];
        if (i >= 3) c.give(int(i), p.sign > 0 ? part : -part);
        else
          total[i] = !total[i].defined() ? (p.sign > 0 ? part : -part) : p.sign > 0 ? total[i] + part : total[i] - part;
      }
    }
  }
  for (int i = 0; i < std::min(3, c.n_in()); ++i)
    if (total[size_t(i)].defined()) c.give(i, total[size_t(i)]);
}

void linear_absorbed(SweepCtx& c) {
  Map f(c);
  if (f.bilinear()) {
    bool inside = c.rule().stab_of_double && c.rule().variant.empty();
    Var t = inside ? c.stabilised_share(c.d(), c.out() * 2.0, 2.0) : c.stabilised_share(c.d(), c.out(), 1.0);
    if (f.has_bias() && (!c.carries(2) || c.rule().variant == "first" || c.rule().variant == "second"))
      c.absorb("bias", t * f.apply({1, f.x() * 0.0, f.w(), f.b()}));
    return c.absorb("stabiliser", c.d() - t * c.out());
  }
  if (aside(c, f)) return c.absorb("detached", c.d());
  bool with_bias = f.has_bias() && !c.carries(2), gamma = c.rule().variant == "gamma",
       alphabeta = c.rule().variant == "alphabeta";
  Var left = c.d();
  for (const Branch& br : branches(c, f)) {
    Var t = c.stabilised_share(br.r, br.z, br.weight);
    bool product = c.carries(0) || c.carries(1);
    Var others = br.z;  // what the product contributes to z
    if (with_bias || !product)
      for (const Pass& p : br.passes)
        if (p.b.defined()) {  // what the bias contributes, as a map of it alone
          Var alone = f.apply({1, p.x * 0.0, p.w, p.b});
          if (with_bias) c.absorb("bias", p.sign > 0 ? t * alone : -(t * alone));
          others = p.sign > 0 ? others - alone : others + alone;
        }
    if (!product) c.absorb("constant", t * others);
    c.absorb("stabiliser", br.r * br.weight - t * br.z);
    left = left - (alphabeta ? br.r * br.weight : br.r);
  }
  // What no branch took: outputs that are exactly zero, or the share of a bias that goes by absolute ratio.
  if (gamma && !c.rule().keep_zero) c.absorb("zero output", left);
  else if (with_bias && c.rule().bias_abs) c.absorb("bias", left);
}

}  // namespace whence::lrp
