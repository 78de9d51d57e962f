#include "whence/ops/linalg.h"

#include <cmath>

#include "whence/autograd/sweep.h"
#include "whence/ops/checks.h"
#include "whence/ops/composite.h"

namespace whence {
namespace {

void need_square(InferCtx& infer) {
  infer.need_float(0);
  if (infer.rank(0) < 2 || infer.shape(0)[-1] != infer.shape(0)[-2])
    infer.shape_error("a must be [.., n, n], got " + infer.shape(0).str());
}
Shape without(Shape s, int axes) {
  for (; axes > 0; --axes) s.erase(s.rank() - 1);
  return s;
}
std::vector<ErrorSample> no_square() {
  return {{{{{2, 3}, f32}}, {}, "a must be [.., n, n], got [2, 3]"},
          {{{{3}, f32}}, {}, "a must be [.., n, n], got [3]"},
          {{{{2, 2}, i32}}, {}, "a must be floating point"}};
}

// [n, n]: 1 on the diagonal.
Var unit(Var like) { return like.graph().constant(Tensor::eye(like.shape()[-1], like.dtype())); }
Var symmetric(Var v) { return (v + transpose(v)) * 0.5; }

// v [.., 1 or more] with the axes of a matrix behind: [.., 1, 1].
Var as_matrix(Var v) { return unsqueeze(unsqueeze(v, -1), -1); }

}  // namespace

// ---- cholesky ------------------------------------------------------------------------------------------------------

namespace {

// S = L^-T Phi(L^T d) L^-1, made symmetric; Phi takes the lower triangle and half of the diagonal (arXiv 1602.07527,
// eq. 10).
void cholesky_vjp(SweepCtx& sweep) {
  Var L = sweep.out(), P = matmul(transpose(L), tril(sweep.d()));
  P = tril(P) - P * (unit(L) * 0.5);
  Var left = solve_triangular(transpose(L), P, false);
  sweep.give(0, symmetric(transpose(solve_triangular(transpose(L), transpose(left), false))));
}

Attrs cholesky_attrs(double jitter) { return {{"jitter", jitter}}; }

}  // namespace

REGISTER_OP(cholesky) = {
    .doc = "The lower L with L L^T = (a + a^T) / 2 + jitter I: a [.., n, n]; NaN where there is none",
    .operands = {"a"},
    .infer =
        [](InferCtx& infer) {
          need_square(infer);
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp = cholesky_vjp,
    .relevance = [](SweepCtx& sweep) { lrp::by_vjp(sweep, 2); },
    .absorbed =
        [](SweepCtx& sweep) {
          lrp::absorbed_by_stabiliser(sweep);
          Var g = sweep.frozen_vjp(sweep.stabilised_share(sweep.d(), sweep.out(), 2))[0];
          if (const double jitter = sweep.attrs.real("jitter"); jitter != 0 && g.defined())
            sweep.absorb("constant", diagonal(g) * jitter);
        },
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3, 3}}}, cholesky_attrs(7), "matrix"},
                                     {{{.shape = {2, 4, 4}}}, cholesky_attrs(9), "batch"},
                                     {{{.shape = {2, 1, 1}, .low = 1, .high = 3}}, cholesky_attrs(0), "scalars"},
                                     {{{.shape = {0, 3, 3}}}, cholesky_attrs(0), "empty"},
                                     {{{.shape = {2, 0, 0}}}, cholesky_attrs(0), "hollow"}};
        },
    .errors =
        [] {
          std::vector<ErrorSample> e = no_square();
          for (ErrorSample& s : e) s.attrs = cholesky_attrs(0);
          return e;
        },
    .traits = {.batched_sweep = true},
};

Var cholesky(Arg a, double jitter) { return record(cholesky_op, {a}, cholesky_attrs(jitter)); }

// ---- solve ---------------------------------------------------------------------------------------------------------

namespace {

enum Triangle : int64_t { whole, lower, upper };
Attrs solve_attrs(int64_t triangle) { return {{"triangle", triangle}}; }

Var solved(Var a, Var b, int64_t triangle) {
  Shape batch = broadcast_shapes(without(a.shape(), 2), without(b.shape(), 2));
  auto spread = [&](Var v) {
    Shape s = batch;
    s.push_back(v.shape()[-2]);
    s.push_back(v.shape()[-1]);
    return v.shape() == s ? v : broadcast_to(v, s);
  };
  return record(op_named("solve"), {spread(a), spread(b)}, solve_attrs(triangle));
}

void solve_vjp(SweepCtx& sweep) {
  const int64_t t = sweep.attrs.integer("triangle");
  Var g = solved(transpose(sweep.in(0)), sweep.d(), t == whole ? whole : t == lower ? upper : lower);
  sweep.give(1, g);
  if (!sweep.needs(0)) return;
  Var d = -matmul(g, transpose(sweep.out()));
  sweep.give(0, t == lower ? tril(d) : t == upper ? triu(d) : d);
}

// x has degree 1 in b and -1 in a.
void solve_relevance(SweepCtx& sweep) {
  std::vector<Var> g = sweep.frozen_vjp(sweep.stabilised_share(sweep.d(), sweep.out(), 1));
  if (g[1].defined()) sweep.give(1, sweep.in(1) * g[1]);
  if (g[0].defined() && !sweep.carries(1)) sweep.give(0, -(sweep.in(0) * g[0]));
}

}  // namespace

REGISTER_OP(solve) = {
    .doc =
        "x with a x = b: a [.., n, n], b [.., n, m]; triangle 1: of a's lower, 2: of its upper triangle; singular: NaN",
    .operands = {"a", "b"},
    .infer =
        [](InferCtx& infer) {
          need_square(infer);
          infer.need_same_dtype(0, 1);
          Shape want = infer.shape(0);
          if (infer.rank(1) == want.rank()) want[-1] = infer.shape(1)[-1];
          infer.need_shape(1, want);
          infer.out(infer.shape(1), infer.dtype(0));
        },
    .vjp = solve_vjp,
    .relevance = solve_relevance,
    .absorbed = lrp::absorbed_by_stabiliser,
    .samples =
        [] {
          auto a = [](Shape s) { return SampleInput{.shape = s, .distinct = true, .gap = 0.4}; };
          return std::vector<Sample>{{{a({2, 2}), {.shape = {2, 3}}}, solve_attrs(whole), "tiny"},
                                     {{a({3, 3}), {.shape = {3, 3}}}, solve_attrs(whole), "square"},
                                     {{a({2, 3, 3}), {.shape = {2, 3, 1}}}, solve_attrs(whole), "batch"},
                                     {{a({4, 4}), {.shape = {4, 2}}}, solve_attrs(lower), "lower"},
                                     {{a({2, 3, 3}), {.shape = {2, 3, 2}}}, solve_attrs(upper), "upper"},
                                     {{a({0, 3, 3}), {.shape = {0, 3, 2}}}, solve_attrs(whole), "empty"},
                                     {{a({0, 0}), {.shape = {0, 2}}}, solve_attrs(whole), "hollow"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}, {{2, 1}, f32}}, solve_attrs(whole), "a must be [.., n, n], got [2, 3]"},
              {{{{3, 3}, f32}, {{2, 1}, f32}}, solve_attrs(whole), "b must have shape [3, 1]"},
              {{{{3, 3}, f32}, {{3}, f32}}, solve_attrs(whole), "b must have shape [3, 3]"},
              {{{{3, 3}, f32}, {{3, 1}, f64}}, solve_attrs(whole), "dtypes differ"},
              {{{{3, 3}, i32}, {{3, 1}, i32}}, solve_attrs(whole), "a must be floating point"}};
        },
    .traits = {.batched_sweep = true},
};

static Var checked_solve(const char* op, const Arg& a, const Arg& b, int64_t triangle) {
  LocationGuard at(a);
  if (a.rank() < 2 || b.rank() < 2)
    throw ShapeError(std::string("[") + op + "] a must be [.., n, n] and b [.., n, m], got " + a.shape().str() +
                     " and " + b.shape().str() + "\n  hint: unsqueeze(b, -1) makes a vector one column");
  return solved(a, b, triangle);
}
Var solve(Arg a, Arg b) { return checked_solve("solve", a, b, whole); }
Var solve_triangular(Arg a, Arg b, bool below) {
  return checked_solve("solve_triangular", a, b, below ? lower : upper);
}
Var inverse(Arg a) {
  LocationGuard at(a);
  if (a.rank() < 2) throw ShapeError("[inverse] a must be [.., n, n], got " + a.shape().str());
  return solved(a, unit(a), whole);
}

// ---- slogdet -------------------------------------------------------------------------------------------------------

REGISTER_OP(slogdet) = {
    .doc = "log|det a| and the sign of det a: a [.., n, n] -> [..] each",
    .operands = {"a"},
    .infer =
        [](InferCtx& infer) {
          need_square(infer);
          for (int k = 0; k < 2; ++k) infer.out(without(infer.shape(0), 2), infer.dtype(0));
        },
    .vjp =
        [](SweepCtx& sweep) {
          if (!sweep.has(0)) return;
          sweep.give(0, as_matrix(sweep.d()) * transpose(solved(sweep.in(), unit(sweep.in()), whole)));
        },
    .relevance =
        [](SweepCtx& sweep) {
          const int64_t n = sweep.in().shape()[-1];
          if (!sweep.has(0) || n == 0) return;
          if (Var g = sweep.frozen_vjp(sweep.d() * (1 / double(n)))[0]; g.defined()) sweep.give(0, sweep.in() * g);
        },
    .absorbed =
        [](SweepCtx& sweep) {
          if (sweep.has(1)) sweep.absorb("constant", sweep.d(1));
          if (sweep.has(0) && sweep.in().shape()[-1] == 0) sweep.absorb("constant", sweep.d(0));
        },
    .samples =
        [] {
          auto a = [](Shape s) { return SampleInput{.shape = s, .distinct = true, .gap = 0.4}; };
          return std::vector<Sample>{{{a({3, 3})}, {}, "matrix"},
                                     {{a({2, 2, 2})}, {}, "batch"},
                                     {{a({3, 1, 1})}, {}, "scalars"},
                                     {{a({0, 2, 2})}, {}, "empty"},
                                     {{a({2, 0, 0})}, {}, "hollow"}};
        },
    .errors = no_square,
    .traits = {.batched_sweep = true},
};

SignLogdet slogdet(Arg a) {
  Var v = record(slogdet_op, {a});
  return {{&v.graph(), v.id() + 1}, v};
}
Var logdet(Arg a) {
  LocationGuard at(a);
  SignLogdet d = slogdet(a);
  return where(less(d.sign, 0.0), NAN, d.logabsdet);
}

// ---- eigh ----------------------------------------------------------------------------------------------------------

namespace {

// V (diag(dw) + F * (V^T dV)) V^T with F_ij = 1 / (w_j - w_i) off the diagonal.
void eigh_vjp(SweepCtx& sweep) {
  Var w = sweep.out(0), V = sweep.out(1), I = unit(V), inner;
  if (sweep.has(0)) inner = unsqueeze(sweep.d(0), -1) * I;
  if (sweep.has(1)) {
    Var gap = unsqueeze(w, -2) - unsqueeze(w, -1), same = equal(I, 1.0);
    Var turned = where(same, 0.0, matmul(transpose(V), sweep.d(1)) / where(same, 1.0, gap));
    inner = inner.defined() ? inner + turned : turned;
  }
  if (inner.defined()) sweep.give(0, symmetric(matmul(matmul(V, inner), transpose(V))));
}

}  // namespace

REGISTER_OP(eigh) = {
    .doc = "Eigenvalues [.., n], ascending, and orthonormal eigenvectors (columns) of (a + a^T) / 2: a [.., n, n]",
    .operands = {"a"},
    .infer =
        [](InferCtx& infer) {
          need_square(infer);
          infer.out(without(infer.shape(0), 1), infer.dtype(0));
          infer.out(infer.shape(0), infer.dtype(0));
        },
    .vjp = eigh_vjp,
    .relevance =
        [](SweepCtx& sweep) {
          if (sweep.has(0)) lrp::linear_in_carriers(sweep);
        },
    .absorbed =
        [](SweepCtx& sweep) {
          if (sweep.has(0)) lrp::absorbed_by_stabiliser(sweep);
          if (sweep.has(1)) sweep.absorb("constant", sweep.d(1));
        },
    .samples =
        [] {
          auto a = [](Shape s) { return SampleInput{.shape = s, .distinct = true}; };
          return std::vector<Sample>{{{a({3, 3})}, {}, "matrix"},   {{a({2, 2, 2})}, {}, "batch"},
                                     {{a({5, 5})}, {}, "odd"},      {{a({3, 1, 1})}, {}, "scalars"},
                                     {{a({0, 2, 2})}, {}, "empty"}, {{a({2, 0, 0})}, {}, "hollow"}};
        },
    .errors = no_square,
    .traits = {.batched_sweep = true},
};

Eigenpairs eigh(Arg a) {
  Var v = record(eigh_op, {a});
  return {v, {&v.graph(), v.id() + 1}};
}
Var eigvalsh(Arg a) { return record(eigh_op, {a}); }

}  // namespace whence
