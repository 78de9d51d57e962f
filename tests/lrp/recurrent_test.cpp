// Recurrences: cells written in primitives, and MambaLRP on a selective scan in every form that programs give it.
#include "tests/lrp/net.h"

using namespace whence;

namespace {

Var at(Var v, int64_t t) { return select(v, 1, t); }

// ---- cells --------------------------------------------------------------------------------------------------------

struct Cells {
  Net n;
  Var x;
  int64_t H = 3, steps;
  uint64_t seed = 10;
  explicit Cells(int64_t steps) : steps(steps) { x = n.data("x", randn({2, steps, 4}, 1)); }
  Var map(const std::string& name, Var v) { return linear(v, n.weight(name, randn({H, v.shape()[1]}, seed++))); }
  Var zeros() { return broadcast_to(n.g.constant(0.0, f64), {2, H}); }
};

TEST(Cells, A5_AnLstmClosesToOne) {
  Cells c(6);
  Var h = c.zeros(), cell = c.zeros();
  for (int64_t t = 0; t < c.steps; ++t) {
    auto gate = [&](const char* name) { return c.map(std::string("x") + name, at(c.x, t)) + c.map(name, h); };
    Var i = sigmoid(gate("i")), f = sigmoid(gate("f")), o = sigmoid(gate("o")), g = tanh(gate("g"));
    cell = f * cell + i * g;
    h = o * tanh(cell);
  }
  Var y = sum(c.map("out", h)) * 0.5;
  for (auto rules : {lrp::attn(1e-12), lrp::epsilon(1e-12, lrp::Stab::sign), lrp::mamba()}) {
    Tensor r = c.n.relevance(y, {c.x}, rules)[0];
    EXPECT_NEAR(sum_of(r), 1, rules.name() == "mamba" ? 1e-4 : 1e-8) << rules.name() << c.n.report.text();
    EXPECT_GT(max_abs_diff(r, Tensor::zeros(r.shape(), f64)), 1e-3);
  }
}

TEST(Cells, A6_AGruClosesToOne) {
  Cells c(5);
  Var h = c.zeros();
  for (int64_t t = 0; t < c.steps; ++t) {
    Var u = at(c.x, t);
    Var r = sigmoid(c.map("xr", u) + c.map("r", h)), z = sigmoid(c.map("xz", u) + c.map("z", h)),
        m = tanh(c.map("xm", u) + r * c.map("m", h));
    h = (1.0 - z) * m + z * h;
  }
  Var y = sum(c.map("out", h));
  Tensor r = c.n.relevance(y, {c.x}, lrp::attn(1e-12))[0];
  // The 1 of 1 - z takes its share, which is booked.
  EXPECT_NEAR(sum_of(r) + c.n.report.absorbed.at("bias"), 1, 1e-8) << c.n.report.text();
  // Under MambaLRP z and 1 - z are coefficients: all of it comes from the inputs.
  r = c.n.relevance(y, {c.x}, lrp::mamba())[0];
  EXPECT_NEAR(sum_of(r), 1, 1e-4) << c.n.report.text();
}

// ---- selective scans ----------------------------------------------------------------------------------------------

// u, dt [B, T, E]; B, C [B, T, N]; A [E, N].
struct Scan {
  Net n;
  Var u, dt, B, C, A;
  int64_t T;
  explicit Scan(int64_t steps) : T(steps) {  // no state near zero, where stabilisers count
    u = n.data("u", randn({2, T, 3}, 2, 3));
    dt = n.data("dt", randn({2, T, 3}, 3));
    B = n.data("B", randn({2, T, 4}, 4, 3));
    C = n.data("C", randn({2, T, 4}, 5, 3));
    A = neg(exp(n.weight("A", randn({3, 4}, 6))));
    dt = softplus(dt);
  }
  Var row(Var v, int64_t t) const { return unsqueeze(at(v, t), 1); }     // (B, 1, N)
  Var column(Var v, int64_t t) const { return unsqueeze(at(v, t), 2); }  // (B, E, 1)
  Var decay(int64_t t) const { return exp(column(dt, t) * A); }
  // What the fused op gives with everything frozen by hand.
  Var frozen() const {
    Var a = exp(unsqueeze(dt, -1) * A), b = unsqueeze(dt, -1) * unsqueeze(B, 2);
    Var h = linear_scan(a, stop_relevance(b) * unsqueeze(u, -1), 1);
    return sum(h * stop_relevance(unsqueeze(C, 2)), {-1});
  }
};

using Form = std::function<Var(const Scan&)>;

// Written out step by step: how b_t u_t, the step and the readout look, and where the state begins.
Form steps(std::function<Var(const Scan&, int64_t)> drive, std::function<Var(Var, Var, Var)> step,
           std::function<Var(const Scan&, Var, int64_t)> read, bool from_zeros) {
  return [=](const Scan& s) {
    Var h = from_zeros ? broadcast_to(s.u.graph().constant(0.0, f64), {2, 3, 4}) : Var();
    std::vector<Var> ys;
    for (int64_t t = 0; t < s.T; ++t) {
      Var in = drive(s, t);
      h = h.defined() ? step(s.decay(t), h, in) : in;
      ys.push_back(read(s, h, t));
    }
    return stack(ys, 1);
  };
}

std::vector<std::pair<std::string, Form>> forms() {
  std::vector<std::pair<std::string, std::function<Var(const Scan&, int64_t)>>> drives{
      {"(dt B) u", [](const Scan& s, int64_t t) { return s.column(s.dt, t) * s.row(s.B, t) * s.column(s.u, t); }},
      {"u (dt B)", [](const Scan& s, int64_t t) { return s.column(s.u, t) * (s.column(s.dt, t) * s.row(s.B, t)); }},
      {"(dt u) B", [](const Scan& s, int64_t t) { return unsqueeze(at(s.dt, t) * at(s.u, t), 2) * s.row(s.B, t); }},
      {"B (u dt)", [](const Scan& s, int64_t t) { return s.row(s.B, t) * unsqueeze(at(s.u, t) * at(s.dt, t), 2); }}};
  std::vector<std::pair<std::string, std::function<Var(Var, Var, Var)>>> updates{
      {"a h + b", [](Var a, Var h, Var b) { return a * h + b; }},
      {"b + h a", [](Var a, Var h, Var b) { return b + h * a; }}};
  std::vector<std::pair<std::string, std::function<Var(const Scan&, Var, int64_t)>>> reads{
      {"sum C h", [](const Scan& s, Var h, int64_t t) { return sum(s.row(s.C, t) * h, {2}); }},
      {"sum h C", [](const Scan& s, Var h, int64_t t) { return sum(h * s.row(s.C, t), {-1}); }},
      {"h @ C", [](const Scan& s, Var h, int64_t t) { return squeeze(matmul(h, unsqueeze(at(s.C, t), 2)), 2); }}};
  std::vector<std::pair<std::string, Form>> all;
  for (auto& [d, drive] : drives)
    for (auto& [s, step] : updates)
      for (auto& [r, read] : reads)
        for (bool zeros : {false, true})
          all.emplace_back(d + ", " + s + ", " + r + (zeros ? ", from zeros" : ""), steps(drive, step, read, zeros));
  // States stacked before they are read, and the op.
  all.emplace_back("stacked", [](const Scan& s) {
    Var h;
    std::vector<Var> hs;
    for (int64_t t = 0; t < s.T; ++t) {
      Var in = s.column(s.dt, t) * s.row(s.B, t) * s.column(s.u, t);
      h = h.defined() ? s.decay(t) * h + in : in;
      hs.push_back(h);
    }
    return sum(stack(hs, 1) * unsqueeze(s.C, 2), {-1});
  });
  all.emplace_back("linear_scan", [](const Scan& s) {
    Var h = linear_scan(exp(unsqueeze(s.dt, -1) * s.A), unsqueeze(s.dt * s.u, -1) * unsqueeze(s.B, 2), 1);
    return sum(h * unsqueeze(s.C, 2), {-1});
  });
  return all;
}

TEST(Mamba, CoefficientsTakeNothingHoweverAScanIsWritten) {
  for (int64_t T : {2, 5})
    for (auto& [name, form] : forms()) {
      Scan s(T);
      Var y = form(s), want = s.frozen();
      Results v = s.n.run({y, want});
      ASSERT_LT(max_abs_diff(v[0], v[1]), 1e-12) << name;
      std::vector<Tensor> r = s.n.relevance(y, {s.u, s.dt, s.B, s.C}, lrp::mamba()),
                          fused = s.n.relevance(want, {s.u}, lrp::mamba());
      for (size_t i : {1, 2, 3})
        for (double x : r[i].to_vector<double>()) ASSERT_EQ(x, 0) << name << " in " << T << " steps, operand " << i;
      EXPECT_NEAR(sum_of(r[0]), double(y.numel()), 1e-3 * double(y.numel())) << name;
      double size = max_abs_diff(fused[0], Tensor::zeros(fused[0].shape(), f64));
      EXPECT_LT(max_abs_diff(r[0], fused[0]), 1e-4 * size) << name << " in " << T << " steps";
    }
}

TEST(Mamba, GatesOutsideTheScanTakeHalf) {
  Scan s(4);
  Var z = s.n.data("z", randn({2, 4, 3}, 7)), y = forms()[0].second(s) * silu(z);
  auto r = s.n.relevance(y, {s.u, z, s.C}, lrp::mamba());
  EXPECT_NEAR(sum_of(r[1]), 12, 1e-9);
  EXPECT_NEAR(sum_of(r[0]), 12, 0.1);
  EXPECT_EQ(sum_of(r[2]), 0);
  // Without a recurrence the preset is the default: half to each factor.
  Net n;
  Var a = n.data("a", randn({2, 3}, 8)), b = n.data("b", randn({2, 3}, 9)), c = n.data("c", randn({2, 3}, 10));
  auto half = n.relevance(a * b + c * 2.0, {a, b}, lrp::mamba()),
       plain = n.relevance(a * b + c * 2.0, {a, b}, lrp::epsilon(1e-6, lrp::Stab::sign));
  for (size_t i : {0, 1}) EXPECT_TRUE(bitwise_equal(half[i], plain[i]));
}

// In a block the coefficients are computed from u, and nothing but the form of the graph says which is which.
TEST(Mamba, ABlockWhoseCoefficientsDependOnItsData) {
  for (bool by_op : {false, true}) {
    Net n;
    Var x = n.data("x", randn({1, 5, 6}, 11));
    Var u = silu(linear(x, n.weight("in", randn({3, 6}, 12)))), z = linear(x, n.weight("gate", randn({3, 6}, 13)));
    auto p = split(linear(u, n.weight("p", randn({3 + 4 + 4, 3}, 14))), {3, 4, 4}, 2);
    Var dt = softplus(p[0]), A = neg(exp(n.weight("A", randn({3, 4}, 15))));
    auto block = [&](auto freeze) {
      Var y;
      if (by_op) {
        Var h = linear_scan(freeze(exp(unsqueeze(dt, -1) * A)),
                            unsqueeze(freeze(dt) * u, -1) * freeze(unsqueeze(p[1], 2)), 1);
        y = sum(h * freeze(unsqueeze(p[2], 2)), {-1});
      } else {
        Var h;
        std::vector<Var> ys;
        for (int64_t t = 0; t < 5; ++t) {
          Var step = unsqueeze(at(dt, t), 2);
          Var in = unsqueeze(at(u, t), 2) * freeze(step * unsqueeze(at(p[1], t), 1));
          h = h.defined() ? freeze(exp(step * A)) * h + in : in;
          ys.push_back(sum(freeze(unsqueeze(at(p[2], t), 1)) * h, {2}));
        }
        y = stack(ys, 1);
      }
      y = y + u * n.weight("D", randn({3}, 16));
      return linear(y * silu(z), n.weight("out", randn({2, 3}, 17)));
    };
    Tensor got = n.relevance(block([](Var v) { return v; }), {x}, lrp::mamba())[0],
           want = n.relevance(block([](Var v) { return stop_relevance(v); }), {x}, lrp::mamba())[0],
           half = n.relevance(block([](Var v) { return v; }), {x}, lrp::attn())[0];
    double size = max_abs_diff(want, Tensor::zeros(want.shape(), f64));
    EXPECT_LT(max_abs_diff(got, want), 1e-12 * size) << by_op;
    EXPECT_GT(max_abs_diff(got, half), 1e-3 * size);
  }
}

}  // namespace
