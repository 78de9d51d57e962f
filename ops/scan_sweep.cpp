// Sweeps of a scan: its body is recorded once more beside its own sweep, and that is the body of a scan from the other
// end. What the forward steps left, states and products, comes in per step; all else is computed again.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/loop.h"
#include "whence/ops/ops.h"

namespace whence {
namespace {

using Values = std::vector<Var>;

// What adds up over the steps, a weight's gradient say, as one product or sum over all steps at once: the factors of a
// step become results per step. One product of T B rows is faster than T of B rows, each added to the weight's size.
class SumsOverSteps {
 public:
  SumsOverSteps(BodyParts& parts, const LoopOperands& operands) : parts_(parts), operands_(operands) {}

  // Takes the terms of v, a value of the step that adds up to `sum`, that have that form; returns the rest of them.
  Var take(Var v, size_t sum) {
    Graph& g = v.graph();
    const Node n = g.producer(v.id());
    auto in = [&](int i) { return g.var(g.inputs(n)[size_t(i)]); };
    if (n.op->name == "add" && in(0).shape() == v.shape() && in(1).shape() == v.shape()) {
      Var a = in(0), b = in(1), left = take(a, sum), right = take(b, sum);
      if (left == a && right == b) return v;
      return !left.defined() ? right : !right.defined() ? left : left + right;
    }
    Term t{sum, v, {}, {}, n.op->name, g.attrs(n)};
    if (n.op->name == "sum") {
      t.a = factor(in(0));
      if (!t.a.usable) return v;
    } else if (n.op->name == "matmul" && in(0).rank() == 2 && in(1).rank() == 2) {
      t.a = factor(in(0));
      t.b = factor(in(1));
      if (!t.a.usable || !t.b.usable) return v;
    } else {
      return v;
    }
    terms_.push_back(t);
    return {};
  }

  // The sums, from the results per step.
  std::vector<std::pair<size_t, Var>> of(const Values& out) const {
    std::vector<std::pair<size_t, Var>> all;
    for (const Term& t : terms_) {
      auto value = [&](const Factor& f) { return f.outside.defined() ? f.outside : out[f.out]; };
      Var a = value(t.a);  // [T, ..]
      if (t.op == "sum") {
        Ints axes{0};
        for (int64_t x : t.attrs.ints("axes")) axes.push_back(normalize_axis(x, a.rank() - 1) + 1);
        all.emplace_back(t.sum, reshape(sum(a, axes), t.value.shape()));
        continue;
      }
      // [m, k] of every step side by side, [k, n] one below the other.
      Var b = value(t.b), left = t.a.turned ? transpose(rows(a)) : transpose(rows(transpose(a, 1, 2))),
          right = rows(t.b.turned ? transpose(b, 1, 2) : b);
      std::optional<DType> wide;
      if (t.attrs.has("dtype")) wide = t.attrs.dtype("dtype");
      all.emplace_back(t.sum, matmul(left, right, wide));
    }
    return all;
  }

 private:
  // A value of the step, or (turned) the transpose of one.
  struct Factor {
    bool usable = false, turned = false;
    Var outside;     // all steps of it, where they are there already
    size_t out = 0;  // else the result per step that it becomes
  };
  struct Term {
    size_t sum;
    Var value;
    Factor a, b;
    std::string op;
    Attrs attrs;
  };

  static Var rows(Var v) { return reshape(v, {v.size(0) * v.size(1), v.size(2)}); }

  Factor factor(Var v) {
    Graph& g = v.graph();
    Factor f{.usable = true, .outside = {}};
    if (const Node& n = g.producer(v.id()); n.op->name == "permute" && v.rank() == 2) {
      f.turned = g.attrs(n).ints("axes")[0] == 1;
      v = g.var(g.inputs(n)[0]);
    }
    auto place = [&](const Values& list) { return std::find(list.begin(), list.end(), v); };
    if (auto at = place(parts_.per_step); at != parts_.per_step.end()) {
      f.outside = operands_.per_step[size_t(at - parts_.per_step.begin())];
    } else if (g.producer(v.id()).op->traits.leaf) {
      f.usable = false;
    } else {
      auto have = place(parts_.out);
      f.out = size_t(have - parts_.out.begin());
      if (have == parts_.out.end()) parts_.out.push_back(v);
    }
    return f;
  }

  BodyParts& parts_;
  const LoopOperands& operands_;
  std::vector<Term> terms_;
};

class LoopSweep {
 public:
  explicit LoopSweep(SweepCtx& c)
      : c_(c),
        loop_(LoopAttrs::of(c.attrs, types_of(c))),
        body_(*loop_.body),
        C_(int(loop_.carries())),
        X_(int(loop_.per_step())),
        O_(int(loop_.out())),
        d_(size_t(C_)),
        dx_(size_t(X_)),
        shared_(body_.shared().size()) {}

  void run() {
    for (int k = 0; k < C_; ++k)
      if (c_.has(k)) d_[size_t(k)] = c_.d(k);
    std::vector<std::vector<char>> masks = c_.is_relevance() ? carrying() : std::vector<std::vector<char>>{floats()};
    // The first steps may differ from the others in what carries: each of them is a stretch of its own.
    const int64_t apart = std::min<int64_t>(std::ssize(masks) - 1, loop_.steps);
    if (loop_.steps > apart) stretch(apart, loop_.steps, masks[size_t(apart)]);
    for (int64_t i = apart; i-- > 0;) stretch(i, i + 1, masks[size_t(i)]);

    for (int k = 0; k < C_; ++k)
      if (d_[size_t(k)].defined() && (!c_.is_relevance() || c_.carries(k))) c_.give(k, d_[size_t(k)]);
    for (int j = 0; j < X_; ++j)
      if (Var all = joined(j); all.defined()) c_.give(C_ + j, turned(all));
    for (size_t s = 0; s < shared_.size(); ++s)
      if (shared_[s].defined()) c_.give(C_ + X_ + int(s), shared_[s]);
    if (loop_.steps > 0) return c_.body_tells();
    for (int k = 0; k < C_; ++k)
      if (c_.is_relevance() && c_.has(k) && !c_.carries(k)) c_.absorb("constant", c_.d(k));
  }

 private:
  static std::vector<TensorType> types_of(const SweepCtx& c) {
    std::vector<TensorType> types;
    for (int i = 0; i < c.n_in(); ++i) types.push_back(c.graph.type(c.in_id(i)));
    return types;
  }

  // Targets and steps change places: [K, T, ..] to [T, K, ..] and back.
  Var turned(Var v) const { return c_.lead() ? transpose(v, 0, 1) : v; }
  // Shape of a cotangent of v, targets in front.
  Shape led(const Var& v) const { return c_.lead() ? stacked(c_.targets(), v.shape()) : v.shape(); }
  static DType wide(const Var& v) { return is_float(v.dtype()) ? accumulate_dtype(v.dtype()) : f32; }
  static Var zeros(Graph& g, const Shape& s, DType t) { return broadcast_to(g.constant(0.0, t), s); }

  std::vector<char> floats() const {
    std::vector<char> mask;
    for (const Var& v : body_.carries()) mask.push_back(is_float(v.dtype()));
    return mask;
  }

  // By step, until nothing changes: which states carry relevance when the step begins.
  std::vector<std::vector<char>> carrying() const {
    std::vector<std::vector<char>> masks(1);
    for (int k = 0; k < C_; ++k) masks[0].push_back(c_.carries(k));
    for (int i = 0; i <= C_; ++i) {
      Values carriers;
      for (size_t k = 0; k < body_.inputs().size(); ++k)
        if (int(k) < C_ ? masks.back()[k] : c_.carries(int(k))) carriers.push_back(body_.inputs()[k]);
      if (carriers.empty()) return masks;
      std::vector<char> carry = carried_from(carriers, c_.pass()), next;
      for (const Var& v : body_.next()) next.push_back(carry[v.id()] && is_float(v.dtype()));
      if (next == masks.back()) return masks;
      masks.push_back(next);
    }
    for (size_t k = 0; k < masks.back().size(); ++k) masks.back()[k] |= masks[masks.size() - 2][k];  // they take turns
    return masks;
  }

  // Steps begin .. end in the order of running; d_ is what arrives at the states behind them.
  void stretch(int64_t begin, int64_t end, const std::vector<char>& carries) {
    Graph g;  // the step and its sweep
    BodyParts parts;
    LoopOperands operands;
    Substitution known;
    Values in;
    for (size_t i = 0; i < body_.inputs().size(); ++i) {
      const Var& v = body_.inputs()[i];
      in.push_back(known[v.id()] = g.input("in " + std::to_string(i), v.shape(), v.dtype(), {.carries = false}));
    }
    record_again(body_.graph(), body_.results(), known, g);
    auto here = [&](const Var& v) { return known.at(v.id()); };
    auto per_step = [&](Var inside, Var outside) {
      parts.per_step.push_back(inside);
      operands.per_step.push_back(cut(outside, begin, end));
    };
    for (int k = 0; k < C_; ++k) per_step(in[size_t(k)], c_.graph.var(c_.out_id(C_ + O_ + k)));
    for (int j = 0; j < X_; ++j) per_step(in[size_t(C_ + j)], c_.graph.var(c_.in_id(C_ + j)));
    for (int o = 0; o < O_; ++o)
      if (Var v = here(body_.out()[size_t(o)]);
          std::find(in.begin(), in.end(), v) == in.end() &&
          std::find(parts.per_step.begin(), parts.per_step.end(), v) == parts.per_step.end())
        per_step(v, c_.graph.var(c_.out_id(C_ + o)));
    for (size_t s = 0; s < shared_.size(); ++s) {
      parts.shared.push_back(in[size_t(C_ + X_) + s]);
      operands.shared.push_back(c_.graph.var(c_.in_id(C_ + X_ + int(s))));
    }

    Values roots, seeds;
    std::vector<int> moving;  // states that something arrives at, or passes
    for (int k = 0; k < C_; ++k) {
      if (!d_[size_t(k)].defined() && !carries[size_t(k)]) continue;
      const Var next = here(body_.next()[size_t(k)]);
      Var& d = d_[size_t(k)];
      if (!d.defined()) d = zeros(c_.graph, led(next), wide(next));
      moving.push_back(k);
      roots.push_back(next);
      seeds.push_back(g.input("d " + std::to_string(k), led(next), wide(next), {.carries = false}));
      parts.carries.push_back(seeds.back());
      operands.carries.push_back(d);
    }
    for (int r = C_; r < c_.n_out(); ++r) {
      if (!c_.has(r)) continue;
      const Var v = here(body_.results()[size_t(r)]);
      roots.push_back(v);
      seeds.push_back(g.input("d " + std::to_string(r), led(v), wide(v), {.carries = false}));
      per_step(seeds.back(), turned(c_.d(r)));
    }

    Values wrt;
    std::vector<int> of;  // by wrt: its operand
    for (int i = 0; i < c_.n_in(); ++i) {
      const bool mine = i < C_ ? carries[size_t(i)] : c_.is_relevance() ? c_.carries(i) : c_.needs(i);
      if (!mine) continue;
      wrt.push_back(in[size_t(i)]);
      of.push_back(i);
    }
    std::vector<std::pair<Var, Var>> carried;
    for (int k = 0; k < C_; ++k) carried.emplace_back(in[size_t(k)], here(body_.next()[size_t(k)]));
    std::vector<std::pair<Var, std::function<void(Var)>>> published;
    Pass pass = c_.pass();
    pass.targets = c_.targets();
    pass.within = &c_;
    pass.carried = carried;
    pass.publish = [&](Var v, const std::function<void(Var)>& use) { published.emplace_back(v, use); };
    Values arrived = sweep_body(roots, seeds, wrt, pass);

    // What arrives at a state passes to the step before, at shared values it adds up.
    for (int k : moving) {
      auto at = std::find(of.begin(), of.end(), k);
      Var r = at == of.end() ? Var() : arrived[size_t(at - of.begin())];
      parts.next.push_back(r.defined() ? r : zeros(g, led(in[size_t(k)]), wide(in[size_t(k)])));
    }
    std::vector<size_t> summed;
    std::vector<int> given;
    for (size_t w = 0; w < wrt.size(); ++w)
      if (arrived[w].defined() && of[w] >= C_ && of[w] < C_ + X_ && c_.needs(of[w])) {
        given.push_back(of[w] - C_);
        parts.out.push_back(arrived[w]);
      }
    for (auto& [v, use] : published) parts.out.push_back(v);
    SumsOverSteps sums(parts, operands);
    for (size_t w = 0; w < wrt.size(); ++w) {
      if (!arrived[w].defined() || of[w] < C_ + X_ || !c_.needs(of[w])) continue;
      const size_t s = size_t(of[w] - C_ - X_);
      if (c_.lead() == 0) arrived[w] = sums.take(arrived[w], s);
      if (!arrived[w].defined()) continue;
      summed.push_back(s);
      Var so_far = g.input("sum " + std::to_string(s), led(wrt[w]), wide(wrt[w]), {.carries = false});
      parts.carries.push_back(so_far);
      parts.next.push_back(so_far + arrived[w]);
      if (!shared_[s].defined()) shared_[s] = zeros(c_.graph, led(wrt[w]), wide(wrt[w]));
      operands.carries.push_back(shared_[s]);
    }
    if (parts.next.empty() && parts.out.empty()) return;

    Looped r = record_loop(c_.graph, std::move(parts), std::move(operands), end - begin, !loop_.reverse);
    for (size_t k = 0; k < moving.size(); ++k) d_[size_t(moving[k])] = r.carries[k];
    for (size_t k = 0; k < summed.size(); ++k) shared_[summed[k]] = r.carries[moving.size() + k];
    for (size_t k = 0; k < given.size(); ++k) dx_[size_t(given[k])].push_back({begin, end, r.out[k]});
    for (size_t k = 0; k < published.size(); ++k) c_.publish(r.out[given.size() + k], published[k].second);
    for (auto [s, v] : sums.of(r.out)) shared_[s] = shared_[s].defined() ? shared_[s] + v : v;
  }

  // Places of steps begin .. end of the order of running.
  Var cut(Var v, int64_t begin, int64_t end) const {
    if (end - begin == loop_.steps) return v;
    if (loop_.reverse) return slice(v, 0, loop_.steps - end, loop_.steps - begin);
    return slice(v, 0, begin, end);
  }

  // What operand j per step has been given by all stretches, in the order of its places.
  Var joined(int j) {
    std::vector<Part>& parts = dx_[size_t(j)];
    if (parts.empty()) return {};
    std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.begin < b.begin; });
    Values all;
    const Var one = parts[0].value;
    auto gap = [&](int64_t n) {
      Shape s = one.shape();
      s[0] = n;
      if (n > 0) all.push_back(zeros(c_.graph, s, one.dtype()));
    };
    int64_t at = 0;
    for (const Part& p : parts) {
      gap(p.begin - at);
      all.push_back(p.value);
      at = p.end;
    }
    gap(loop_.steps - at);
    if (loop_.reverse) std::reverse(all.begin(), all.end());
    return all.size() == 1 ? all[0] : concat(all, 0);
  }

  struct Part {
    int64_t begin, end;
    Var value;
  };
  SweepCtx& c_;
  const LoopAttrs loop_;
  const Body& body_;
  const int C_, X_, O_;  // states, operands per step, results per step
  Values d_;             // by state: what has arrived at it
  std::vector<std::vector<Part>> dx_;
  Values shared_;
};

}  // namespace

void sweep_loop(SweepCtx& sweep) { LoopSweep(sweep).run(); }

}  // namespace whence
