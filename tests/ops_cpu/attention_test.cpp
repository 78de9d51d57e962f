// Attention against its definition in long double: masks, grouped heads, biases, strides, and gradients by the closed
// formula.
#include "whence/ops/cpu/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

using Wide = long double;

template <class T> std::vector<T> randoms(int64_t n, unsigned seed, double scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> g;
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(g(rng) * scale);
  return v;
}

enum class Layout { bhtd, bthd };  // heads outside or inside the sequence
HeadStrides strides(Layout l, int64_t H, int64_t T, int64_t D, int64_t pad) {
  int64_t row = D + pad;
  return l == Layout::bhtd ? HeadStrides{H * T * row, T * row, row} : HeadStrides{T * H * row, row, H * row};
}

struct Case {
  int64_t B, H, Hkv, T, S, D, Dv;
  bool causal = false, mask = false;
  int bias = 0;  // 1: [1,H,T,S], 2: [B,1,1,S], 3: full, with j strided
};

template <class T> struct Fixture {
  Case c;
  AttentionDims d;
  HeadStrides qs, ks, vs, os;
  std::vector<T> q, k, v, out, lse, dout, bias;
  std::vector<uint8_t> mask;
  AttentionBias<T> bt;
  Fixture(Case c, Layout l, int64_t pad) : c(c) {
    d = {c.B, c.H, c.Hkv, c.T, c.S, c.D, c.Dv, 0.3, c.causal};
    qs = strides(l, c.H, c.T, c.D, pad), ks = strides(l, c.Hkv, c.S, c.D, pad), vs = strides(l, c.Hkv, c.S, c.Dv, pad),
    os = strides(l, c.H, c.T, c.Dv, pad);
    q = randoms<T>(c.B * c.H * c.T * (c.D + pad), 1), k = randoms<T>(c.B * c.Hkv * c.S * (c.D + pad), 2);
    v = randoms<T>(c.B * c.Hkv * c.S * (c.Dv + pad), 3), dout = randoms<T>(c.B * c.H * c.T * (c.Dv + pad), 4);
    out.assign(size_t(c.B * c.H * c.T * (c.Dv + pad)), T(-77));
    lse.assign(size_t(c.B * c.H * c.T), T(-77));
    if (c.mask) {
      for (int64_t i = 0; i < c.B * c.S; ++i) mask.push_back(i % 3 != 1);
      for (int64_t j = 0; j < c.S; ++j) mask[size_t(j)] = c.B > 1 ? 0 : mask[size_t(j)];  // batch 0 sees nothing
    }
    if (c.bias == 1) bias = randoms<T>(c.H * c.T * c.S, 5), bt = {bias.data(), 0, c.T * c.S, c.S, 1};
    if (c.bias == 2) bias = randoms<T>(c.B * c.S, 5), bt = {bias.data(), c.S, 0, 0, 1};
    if (c.bias == 3)
      bias = randoms<T>(c.B * c.H * c.T * c.S, 5), bt = {bias.data(), c.H * c.T * c.S, c.T * c.S, 1, c.T};
  }
  AttentionInputs<T> inputs() const {
    return {d, {q.data(), qs}, {k.data(), ks}, {v.data(), vs}, mask.empty() ? nullptr : mask.data(), bt};
  }
  void forward() { attention<T>(inputs(), {out.data(), os}, lse.data()); }
  void backward(const T* d_out, HeadStrides dos, const AttentionGradients<T>& to) {
    attention_backward<T>(inputs(), {out.data(), os}, lse.data(), {d_out, dos}, to);
  }

  // probabilities of one query
  std::vector<Wide> row(int64_t b, int64_t h, int64_t i, Wide& lse_out) const {
    std::vector<Wide> p(size_t(c.S), 0);
    Wide sum = 0;
    int64_t hk = h / (c.H / c.Hkv);
    for (int64_t j = 0; j < c.S; ++j) {
      if ((c.causal && j > i + c.S - c.T) || (!mask.empty() && !mask[size_t(b * c.S + j)])) continue;
      Wide s = 0;
      for (int64_t e = 0; e < c.D; ++e)
        s += Wide(q[size_t(b * qs.b + h * qs.h + i * qs.t + e)]) * k[size_t(b * ks.b + hk * ks.h + j * ks.t + e)];
      s *= Wide(d.scale);
      if (bt.data) s += bt.data[b * bt.b + h * bt.h + i * bt.t + j * bt.s];
      p[size_t(j)] = expl(s);
      sum += p[size_t(j)];
    }
    for (Wide& x : p) x = sum > 0 ? x / sum : 0;
    lse_out = logl(sum);
    return p;
  }
};

const Case kCases[] = {{1, 1, 1, 4, 4, 3, 3},
                       {2, 2, 2, 5, 5, 8, 8, true},
                       {1, 4, 2, 33, 33, 16, 16, true},
                       {1, 2, 1, 7, 50, 20, 24, true, true},
                       {2, 3, 3, 40, 21, 5, 7, true},
                       {2, 2, 2, 165, 165, 64, 64},
                       {1, 2, 2, 70, 420, 33, 17, true},
                       {2, 2, 1, 9, 13, 4, 4, false, true},
                       {2, 2, 2, 6, 19, 8, 8, true, true, 1},
                       {2, 2, 2, 35, 40, 8, 8, false, false, 2},
                       {2, 4, 2, 20, 20, 8, 8, true, false, 3},
                       {1, 4, 2, 1, 100, 16, 16, true},
                       {2, 2, 2, 2, 5, 8, 8, true, true, 1},
                       {1, 1, 1, 1, 1, 1, 1},
                       {1, 1, 1, 5, 0, 4, 4},
                       {0, 1, 1, 5, 5, 4, 4},
                       {1, 2, 2, 0, 4, 4, 4},
                       {1, 1, 1, 600, 600, 8, 8, true}};

template <class T> class Attention : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Attention, Types);

TYPED_TEST(Attention, Forward) {
  using T = TypeParam;
  const double tol = sizeof(T) == 4 ? 2e-5 : 1e-12;
  for (const Case& c : kCases)
    for (Layout l : {Layout::bhtd, Layout::bthd})
      for (int64_t pad : {0, 3}) {
        Fixture<T> f(c, l, pad);
        f.forward();
        for (int64_t b = 0; b < c.B; ++b)
          for (int64_t h = 0; h < c.H; ++h)
            for (int64_t i = 0; i < c.T; ++i) {
              Wide lse;
              auto p = f.row(b, h, i, lse);
              T got = f.lse[size_t((b * c.H + h) * c.T + i)];
              if (std::isinf(lse)) ASSERT_EQ(got, -std::numeric_limits<T>::infinity());
              else ASSERT_NEAR(got, double(lse), tol * 5);
              for (int64_t e = 0; e < c.Dv; ++e) {
                Wide o = 0;
                for (int64_t j = 0; j < c.S; ++j)
                  o += p[size_t(j)] * f.v[size_t(b * f.vs.b + h / (c.H / c.Hkv) * f.vs.h + j * f.vs.t + e)];
                ASSERT_NEAR(f.out[size_t(b * f.os.b + h * f.os.h + i * f.os.t + e)], double(o), tol)
                    << "T" << c.T << " S" << c.S << " D" << c.D << " at " << b << h << i << e;
              }
            }
        if (pad && c.B > 0 && c.T > 0) {
          ASSERT_EQ(f.out.back(), T(-77));
        }
      }
}

TYPED_TEST(Attention, Backward) {
  using T = TypeParam;
  const double tol = sizeof(T) == 4 ? 2e-4 : 1e-11;
  for (const Case& c : kCases)
    for (Layout l : {Layout::bhtd, Layout::bthd})
      for (int64_t pad : {0, 3}) {
        if (c.T > 500 && (pad || l == Layout::bthd)) continue;
        Fixture<T> f(c, l, pad);
        f.forward();
        std::vector<T> dq(f.q.size(), T(-77)), dk(f.k.size(), T(-77)), dv(f.v.size(), T(-77)),
            db(f.bias.size(), T(-77));
        f.backward(f.dout.data(), f.os,
                   {{dq.data(), f.qs}, {dk.data(), f.ks}, {dv.data(), f.vs}, c.bias ? db.data() : nullptr});
        std::vector<Wide> wq(f.q.size()), wk(f.k.size()), wv(f.v.size()), wb(f.bias.size());
        for (int64_t b = 0; b < c.B; ++b)
          for (int64_t h = 0; h < c.H; ++h)
            for (int64_t i = 0; i < c.T; ++i) {
              Wide lse;
              auto p = f.row(b, h, i, lse);
              const int64_t hk = h / (c.H / c.Hkv), oq = b * f.qs.b + h * f.qs.h + i * f.qs.t,
                            oo = b * f.os.b + h * f.os.h + i * f.os.t;
              std::vector<Wide> dp(size_t(c.S), 0);
              Wide delta = 0;
              for (int64_t j = 0; j < c.S; ++j) {
                const int64_t ov = b * f.vs.b + hk * f.vs.h + j * f.vs.t;
                for (int64_t e = 0; e < c.Dv; ++e) {
                  dp[size_t(j)] += Wide(f.dout[size_t(oo + e)]) * f.v[size_t(ov + e)];
                  wv[size_t(ov + e)] += p[size_t(j)] * f.dout[size_t(oo + e)];
                }
                delta += dp[size_t(j)] * p[size_t(j)];
              }
              for (int64_t j = 0; j < c.S; ++j) {
                Wide ds = p[size_t(j)] * (dp[size_t(j)] - delta);
                if (c.bias) wb[size_t(b * f.bt.b + h * f.bt.h + i * f.bt.t + j * f.bt.s)] += ds;
                const int64_t ok = b * f.ks.b + hk * f.ks.h + j * f.ks.t;
                for (int64_t e = 0; e < c.D; ++e) {
                  wq[size_t(oq + e)] += ds * Wide(f.d.scale) * f.k[size_t(ok + e)];
                  wk[size_t(ok + e)] += ds * Wide(f.d.scale) * f.q[size_t(oq + e)];
                }
              }
            }
        auto compare = [&](const std::vector<T>& got, const std::vector<Wide>& want, HeadStrides s, int64_t H,
                           int64_t L, int64_t D, const char* name) {
          for (int64_t b = 0; b < c.B; ++b)
            for (int64_t h = 0; h < H; ++h)
              for (int64_t i = 0; i < L; ++i)
                for (int64_t e = 0; e < D; ++e) {
                  size_t at = size_t(b * s.b + h * s.h + i * s.t + e);
                  ASSERT_NEAR(got[at], double(want[at]), tol * (1 + std::fabs(double(want[at]))))
                      << name << " T" << c.T << " S" << c.S << " at " << b << " " << h << " " << i << " " << e;
                }
        };
        compare(dq, wq, f.qs, c.H, c.T, c.D, "dq");
        compare(dk, wk, f.ks, c.Hkv, c.S, c.D, "dk");
        compare(dv, wv, f.vs, c.Hkv, c.S, c.Dv, "dv");
        for (size_t e = 0; e < db.size(); ++e)
          ASSERT_NEAR(db[e], double(wb[e]), tol * (1 + std::fabs(double(wb[e])))) << "dbias";
        if (pad && c.B > 0 && c.T > 0) {
          ASSERT_EQ(dq.back(), T(-77));
        }
        // only the values' gradient
        std::vector<T> dv2(f.v.size(), T(-77));
        f.backward(f.dout.data(), f.os, {.v = {dv2.data(), f.vs}});
        ASSERT_EQ(dv2, dv);
      }
}

// Results of target l are those of a call with its dout alone.
TYPED_TEST(Attention, SeveralTargetsGiveTheBitsOfCallsOfTheirOwn) {
  using T = TypeParam;
  constexpr int64_t L = 3;
  for (const Case& c : kCases) {
    if (c.T > 500) continue;
    Fixture<T> f(c, Layout::bthd, 0);
    f.forward();
    const size_t nq = f.q.size(), nk = f.k.size(), nv = f.v.size(), nb = f.bias.size(), no = f.dout.size();
    std::vector<T> douts = randoms<T>(L * int64_t(no), 9), dq(L * nq), dk(L * nk), dv(L * nv), db(L * nb);
    auto led = [](HeadStrides s, size_t n) { return s.l = int64_t(n), s; };
    f.d.targets = L;
    f.backward(douts.data(), led(f.os, no),
               {{dq.data(), led(f.qs, nq)},
                {dk.data(), led(f.ks, nk)},
                {dv.data(), led(f.vs, nv)},
                c.bias ? db.data() : nullptr});
    f.d.targets = 1;
    for (size_t l = 0; l < L; ++l) {
      std::vector<T> q1(nq), k1(nk), v1(nv), b1(nb);
      f.backward(douts.data() + l * no, f.os,
                 {{q1.data(), f.qs}, {k1.data(), f.ks}, {v1.data(), f.vs}, c.bias ? b1.data() : nullptr});
      auto part = [l](const std::vector<T>& all, size_t n) {
        return std::vector<T>(all.begin() + long(l * n), all.begin() + long((l + 1) * n));
      };
      ASSERT_EQ(part(dq, nq), q1) << "T" << c.T << " target " << l;
      ASSERT_EQ(part(dk, nk), k1) << "T" << c.T << " target " << l;
      ASSERT_EQ(part(dv, nv), v1) << "T" << c.T << " target " << l;
      ASSERT_EQ(part(db, nb), b1) << "T" << c.T << " target " << l;
    }
  }
}

TYPED_TEST(Attention, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  std::vector<std::vector<T>> outs, grads;
  for (int t : {1, 2, 5}) {
    set_num_threads(t);
    Fixture<T> f({1, 2, 2, 300, 300, 32, 32, true}, Layout::bhtd, 0);
    f.forward();
    std::vector<T> dq(f.q.size()), dk(f.k.size()), dv(f.v.size());
    f.backward(f.dout.data(), f.os, {{dq.data(), f.qs}, {dk.data(), f.ks}, {dv.data(), f.vs}});
    dq.insert(dq.end(), dk.begin(), dk.end());
    outs.push_back(f.out), grads.push_back(dq);
  }
  set_num_threads(0);
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(outs[0], outs[2]);
  EXPECT_EQ(grads[0], grads[1]);
  EXPECT_EQ(grads[0], grads[2]);
}

}  // namespace
}  // namespace whence::cpu
