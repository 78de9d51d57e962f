// Sums over the steps of a scan's sweep. Private to ops/scan_sweep.cpp.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "whence/autograd/body.h"
#include "whence/ops/loop.h"
#include "whence/ops/ops.h"

namespace whence {

// What adds up over the steps, a weight's gradient say, as one product or sum over all steps at once: the factors of a
// step become results per step. One product of T B rows is faster than T of B rows, each added to the weight's size.
class SumsOverSteps {
 public:
  /// Of the step that has these parts: factors are found among those per step, or become results.
  SumsOverSteps(BodyParts& parts, const LoopOperands& operands) : parts_(parts), operands_(operands) {}

  /// Takes the terms of v, a value of the step that adds up to `sum`, that have that form; returns the rest of them,
  /// undefined when nothing is left.
  Var take(Var v, size_t sum) {
    Graph& g = v.graph();
    const Node n = g.producer(v.id());
    auto in = [&](int i) { return g.var(g.inputs(n)[size_t(i)]); };
    if (n.op->name == "add" && in(0).shape() == v.shape() && in(1).shape() == v.shape()) {
      Var a = in(0), b = in(1), left = take(a, sum), right = take(b, sum);
      if (left.same(a) && right.same(b)) return v;
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

  /// The sums by number, from the results per step of the whole loop.
  std::vector<std::pair<size_t, Var>> of(const std::vector<Var>& out) const {
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
    if (size_t at = position_of(v, parts_.per_step); at < parts_.per_step.size()) {
      f.outside = operands_.per_step[at];
    } else if (g.producer(v.id()).op->traits.leaf) {
      f.usable = false;
    } else {
      f.out = position_of(v, parts_.out);
      if (f.out == parts_.out.size()) parts_.out.push_back(v);
    }
    return f;
  }

  BodyParts& parts_;
  const LoopOperands& operands_;
  std::vector<Term> terms_;
};

}  // namespace whence
