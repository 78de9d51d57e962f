// Sweeps of a scan: its body is recorded once more beside its own sweep, and that is the body of a scan from the other
// end. What the forward steps left, states and products, comes in per step; all else is computed again.
#include <algorithm>

#include "whence/autograd/sweep.h"
#include "whence/ops/loop.h"
#include "whence/ops/ops.h"
#include "whence/ops/scan_sums.h"

namespace whence {
namespace {

using Values = std::vector<Var>;

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

  // Steps begin .. end in the order of running, as one scan from the other end.
  struct Stretch {
    int64_t begin, end;
    const std::vector<char>& carries;  // by state
    Graph g{};                         // the step, then its sweep
    Substitution known{};              // the body's values there
    Values in{};                       // and its inputs
    BodyParts parts{};
    LoopOperands operands{};
    Values roots{}, seeds{}, wrt{};
    std::vector<int> of{};      // by wrt: its operand
    std::vector<int> moving{};  // states that something arrives at, or passes
    std::vector<int> given{};   // by result per step, the first ones: the operand per step
    std::vector<size_t> summed{};
    std::vector<std::pair<Var, std::function<void(Var)>>> published{};
    Var here(const Var& v) const { return known.at(v.id()); }
    Var input(const char* name, int number, const Shape& s, DType t) {
      return g.input(name + std::to_string(number), s, t, {.carries = false});
    }
  };

  void stretch(int64_t begin, int64_t end, const std::vector<char>& carries) {
    Stretch s{begin, end, carries};
    record_step(s);
    seed_states(s);
    seed_results(s);
    Values arrived = swept(s);
    pass_states(s, arrived);
    give_per_step(s, arrived);
    SumsOverSteps sums(s.parts, s.operands);
    sum_shared(s, arrived, sums);
    if (s.parts.next.empty() && s.parts.out.empty()) return;

    Looped r = record_loop(c_.graph, s.parts, s.operands, end - begin, !loop_.reverse);
    for (size_t k = 0; k < s.moving.size(); ++k) d_[size_t(s.moving[k])] = r.carries[k];
    for (size_t k = 0; k < s.summed.size(); ++k) shared_[s.summed[k]] = r.carries[s.moving.size() + k];
    for (size_t k = 0; k < s.given.size(); ++k) dx_[size_t(s.given[k])].push_back({begin, end, r.out[k]});
    for (size_t k = 0; k < s.published.size(); ++k) c_.publish(r.out[s.given.size() + k], s.published[k].second);
    for (auto [k, v] : sums.of(r.out)) shared_[k] = shared_[k].defined() ? shared_[k] + v : v;
  }

  // The body once more. Its inputs, and what its steps gave, come from the graph outside.
  void record_step(Stretch& s) {
    for (const Var& v : body_.inputs())
      s.in.push_back(s.known[v.id()] = s.input("in ", int(s.in.size()), v.shape(), v.dtype()));
    record_again(body_.graph(), body_.results(), s.known, s.g);
    for (int k = 0; k < C_; ++k) add_per_step(s, s.in[size_t(k)], result(C_ + O_ + k));
    for (int j = 0; j < X_; ++j) add_per_step(s, s.in[size_t(C_ + j)], operand(C_ + j));
    for (int o = 0; o < O_; ++o)
      if (Var v = s.here(body_.out()[size_t(o)]);
          position_of(v, s.in) == s.in.size() && position_of(v, s.parts.per_step) == s.parts.per_step.size())
        add_per_step(s, v, result(C_ + o));
    for (int i = C_ + X_; i < c_.n_in(); ++i) {
      s.parts.shared.push_back(s.in[size_t(i)]);
      s.operands.shared.push_back(operand(i));
    }
  }

  void seed_states(Stretch& s) {
    for (int k = 0; k < C_; ++k) {
      Var& d = d_[size_t(k)];
      if (!d.defined() && !s.carries[size_t(k)]) continue;
      const Var next = s.here(body_.next()[size_t(k)]);
      if (!d.defined()) d = zeros(c_.graph, led(next), wide(next));
      s.moving.push_back(k);
      s.roots.push_back(next);
      s.seeds.push_back(s.input("d ", k, led(next), wide(next)));
      s.parts.carries.push_back(s.seeds.back());
      s.operands.carries.push_back(d);
    }
  }

  void seed_results(Stretch& s) {
    for (int r = C_; r < c_.n_out(); ++r) {
      if (!c_.has(r)) continue;
      const Var v = s.here(body_.results()[size_t(r)]);
      s.roots.push_back(v);
      s.seeds.push_back(s.input("d ", r, led(v), wide(v)));
      add_per_step(s, s.seeds.back(), turned(c_.d(r)));
    }
  }

  // What arrives at the step's inputs, by wrt.
  Values swept(Stretch& s) {
    for (int i = 0; i < c_.n_in(); ++i) {
      if (!(i < C_ ? s.carries[size_t(i)] : c_.is_relevance() ? c_.carries(i) : c_.needs(i))) continue;
      s.wrt.push_back(s.in[size_t(i)]);
      s.of.push_back(i);
    }
    std::vector<std::pair<Var, Var>> carried;
    for (int k = 0; k < C_; ++k) carried.emplace_back(s.in[size_t(k)], s.here(body_.next()[size_t(k)]));
    Pass pass = c_.pass();
    pass.targets = c_.targets();
    pass.within = &c_;
    pass.carried = carried;
    pass.publish = [&](Var v, const std::function<void(Var)>& use) { s.published.emplace_back(v, use); };
    return sweep_body(s.roots, s.seeds, s.wrt, pass);
  }

  // What arrives at a state passes to the step before.
  void pass_states(Stretch& s, const Values& arrived) {
    for (int k : s.moving) {
      const size_t at = size_t(std::find(s.of.begin(), s.of.end(), k) - s.of.begin());
      const Var& in = s.in[size_t(k)];
      const bool any = at < arrived.size() && arrived[at].defined();
      s.parts.next.push_back(any ? arrived[at] : zeros(s.g, led(in), wide(in)));
    }
  }

  void give_per_step(Stretch& s, const Values& arrived) {
    for (size_t w = 0; w < arrived.size(); ++w)
      if (const int i = s.of[w]; arrived[w].defined() && i >= C_ && i < C_ + X_ && c_.needs(i)) {
        s.given.push_back(i - C_);
        s.parts.out.push_back(arrived[w]);
      }
    for (auto& [v, use] : s.published) s.parts.out.push_back(v);
  }

  // What arrives at shared values adds up: in a state, where it cannot be summed behind the loop.
  void sum_shared(Stretch& s, const Values& arrived, SumsOverSteps& sums) {
    for (size_t w = 0; w < arrived.size(); ++w) {
      if (!arrived[w].defined() || s.of[w] < C_ + X_ || !c_.needs(s.of[w])) continue;
      const size_t k = size_t(s.of[w] - C_ - X_);
      const Var rest = c_.lead() ? arrived[w] : sums.take(arrived[w], k);
      if (!rest.defined()) continue;
      s.summed.push_back(k);
      s.parts.carries.push_back(s.input("sum ", int(k), led(s.wrt[w]), wide(s.wrt[w])));
      s.parts.next.push_back(s.parts.carries.back() + rest);
      if (!shared_[k].defined()) shared_[k] = zeros(c_.graph, led(s.wrt[w]), wide(s.wrt[w]));
      s.operands.carries.push_back(shared_[k]);
    }
  }

  Var operand(int i) const { return c_.graph.var(c_.in_id(i)); }
  Var result(int k) const { return c_.graph.var(c_.out_id(k)); }
  void add_per_step(Stretch& s, Var inside, Var outside) const {
    s.parts.per_step.push_back(inside);
    s.operands.per_step.push_back(cut(outside, s.begin, s.end));
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
