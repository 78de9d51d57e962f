// Where a formula says zero times infinity: tips of norms, masked NaN, terms of weight zero, infinite operands. Every
// case runs as a plan and in an immediate graph, in all four float dtypes.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "whence/lrp/explain.h"
#include "whence/lrp/presets.h"
#include "whence/ops/conv.h"
#include "whence/whence.h"

using namespace whence;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
const DType kFloats[] = {f64, f32, bf16, f16};

using Values = std::vector<double>;
struct Given {
  Values values;
  Shape shape;
};
using Function = std::function<Var(std::span<const Var>)>;

double tolerance(DType t) { return t == f64 ? 1e-12 : t == f32 ? 2e-6 : t == f16 ? 2e-3 : 2e-2; }

// f and the gradient of sum(f) by every operand, as one list.
std::vector<Values> computed(const Function& f, const std::vector<Given>& given, DType t, bool immediate) {
  std::vector<std::pair<std::string, Tensor>> feeds;
  for (size_t i = 0; i < given.size(); ++i)
    feeds.emplace_back("x" + std::to_string(i), Tensor::from(given[i].values, given[i].shape).to(t).contiguous_copy());
  Graph g(immediate ? Graph::Mode::immediate : Graph::Mode::record);
  std::vector<Var> x, all;
  for (auto& [name, value] : feeds) x.push_back(g.input(name, value));
  all.push_back(f(x));
  Var total = all[0].dtype() == f64 || all[0].dtype() == f32 ? sum(all[0]) : sum(cast(all[0], f32));
  for (const Var& d : grad(total, x)) all.push_back(d);
  std::vector<Values> out;
  if (immediate) {
    for (const Var& v : all) out.push_back(v.value().to_vector<double>());
  } else {
    for (const Tensor& v : evaluate({all}, Feeds(feeds.begin(), feeds.end()))) out.push_back(v.to_vector<double>());
  }
  return out;
}

void expect_near(const Values& got, const Values& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) EXPECT_TRUE(std::isnan(got[i])) << what << ", element " << i << ": " << got[i];
    else if (std::isinf(want[i])) EXPECT_EQ(got[i], want[i]) << what << ", element " << i;
    else EXPECT_NEAR(got[i], want[i], tolerance * std::max(1.0, std::fabs(want[i]))) << what << ", element " << i;
  }
}

// want: f, then its gradients; an empty one is not looked at.
void expect(const char* name, const Function& f, const std::vector<Given>& given, const std::vector<Values>& want,
            std::initializer_list<DType> dtypes = {f64, f32, bf16, f16}) {
  for (DType t : dtypes)
    for (bool immediate : {false, true}) {
      std::vector<Values> got = computed(f, given, t, immediate);
      for (size_t k = 0; k < want.size(); ++k)
        if (!want[k].empty())
          expect_near(got[k], want[k], tolerance(t),
                      std::string(name) + (k ? ", gradient " + std::to_string(k - 1) : ", value") + " in " +
                          std::string(name_of(t)) + (immediate ? ", immediate" : ", planned"));
    }
}

// ---- tips ---------------------------------------------------------------------------------------------------------

TEST(Limits, NormsAtTheirTip) {
  Given rows{{0, 0, 0, 0, 2, 0, 0, -6, 8}, {3, 3}};
  expect("norm2", [](auto x) { return norm2(x[0], {1}); }, {rows}, {{0, 2, 10}, {0, 0, 0, 0, 1, 0, 0, -.6, .8}});
  expect("norm2 of everything", [](auto x) { return norm2(x[0], {}, true); }, {{{0, 0}, {1, 2}}}, {{0}, {0, 0}});
  expect("norm2, twice", [](auto x) { return norm2(norm2(x[0], {1}), {0}); }, {{{0, 0, 0, 0}, {2, 2}}},
         {{0}, {0, 0, 0, 0}});
  expect("l2_normalize", [](auto x) { return l2_normalize(x[0], -1, 0.5); }, {{{0, 0, 3, 4}, {2, 2}}},
         {{0, 0, .6, .8}, {2, 2, .032, -.024}});
  expect("standard_deviation", [](auto x) { return standard_deviation(x[0], {1}, false, 0); },
         {{{5, 5, 5, 5, 1, 3, 1, 3}, {2, 4}}}, {{0, 1}, {0, 0, 0, 0, -.25, .25, -.25, .25}});
  expect("lp_pool", [](auto x) { return lp_pool(x[0], 2, {.kernel = {2}}); }, {{{0, 0, 3, -4}, {1, 1, 4}}},
         {{0, 5}, {0, 0, .6, -.8}});
  expect("lp_pool, p 3", [](auto x) { return lp_pool(x[0], 3, {.kernel = {2}}); }, {{{0, 0, 0, -4}, {1, 1, 4}}},
         {{0, 4}, {0, 0, 0, -1}});
}

TEST(Limits, Powers) {
  expect("x^0", [](auto x) { return pow(x[0], 0.0); }, {{{0, 3, -2, kInf}, {4}}}, {{1, 1, 1, 1}, {0, 0, 0, 0}});
  expect("0^b", [](auto x) { return pow(x[0], x[1]); }, {{{0, 0, 0, 4}, {4}}, {{0, 2, 1, .5}, {4}}},
         {{1, 0, 0, 2}, {0, 0, 1, .25}, {0, 0, 0, 2 * std::log(4)}});
  expect("0^b of a number", [](auto x) { return pow(0.0, x[0]); }, {{{0, 2}, {2}}}, {{1, 0}, {0, 0}});
}

TEST(Limits, ProductsOfInfinities) {
  expect("cumprod", [](auto x) { return cumprod(x[0], 0); }, {{{kInf, 3, .5}, {3}}},
         {{kInf, kInf, kInf}, {2 * 2.75, kInf, kInf}}, {f64, f32});
  expect("cumprod, reverse", [](auto x) { return cumprod(x[0], 0, true); }, {{{2, 4, -kInf}, {3}}},
         {{-kInf, -kInf, -kInf}, {-kInf, -kInf, 13}});
  expect("prod", [](auto x) { return prod(x[0], 1); }, {{{kInf, 2, 3, 1, 5, kInf}, {2, 3}}},
         {{kInf, kInf}, {6, kInf, kInf, kInf, kInf, 5}});
  expect("prod of one", [](auto x) { return prod(x[0], 0); }, {{{kInf}, {1}}}, {{kInf}, {1}});
}

TEST(Limits, InfiniteAngles) {
  double q = M_PI / 4;
  expect("atan2", [](auto x) { return atan2(x[0], x[1]); },
         {{{kInf, kInf, -kInf, -kInf, 1, 1, kInf, -kInf}, {8}}, {{kInf, -kInf, kInf, -kInf, kInf, -kInf, 2, -2}, {8}}},
         {{q, 3 * q, -q, -3 * q, 0, M_PI, 2 * q, -2 * q}, Values(8, 0), Values(8, 0)});
}

TEST(Limits, LogAddExp) {
  Given a{{-kInf, kInf, kInf, 2, 3e4, -3e4}, {6}}, b{{-kInf, kInf, 2, -kInf, 3e4, 1}, {6}};
  expect("logaddexp", [](auto x) { return logaddexp(x[0], x[1]); }, {a, b},
         {{-kInf, kInf, kInf, 2, 3e4 + std::log(2), 1}, {0, .5, 1, 1, .5, 0}, {0, .5, 0, 0, .5, 1}});
  expect("logaddexp of equals", [](auto x) { return logaddexp(x[0], x[0]); }, {{{1e20}, {1}}}, {{1e20}, {1}},
         {f64, f32, bf16});
  expect("with a number", [](auto x) { return logaddexp(x[0], 0.0); }, {{{0}, {1}}}, {{std::log(2)}, {.5}});
}

TEST(Limits, NanThroughSignAndRelu) {
  Given x{{kNan, -2, 3}, {3}};
  expect("sign", [](auto v) { return sign(v[0]); }, {x}, {{0, -1, 1}, {0, 0, 0}});
  expect("abs", [](auto v) { return abs(v[0]); }, {x}, {{kNan, 2, 3}, {0, -1, 1}});
  expect("relu", [](auto v) { return relu(v[0]); }, {x}, {{kNan, 0, 3}, {1, 0, 1}});
  expect("elu", [](auto v) { return elu(v[0]); }, {x}, {{kNan, std::expm1(-2), 3}, {1, std::exp(-2), 1}});
}

TEST(Limits, PreluOfAnInfinity) {
  expect("prelu", [](auto x) { return prelu(x[0], x[1]); }, {{{kInf, -2, 5}, {3}}, {{.25}, {}}},
         {{kInf, -.5, 5}, {1, .25, 1}, {-2}});
}

TEST(Limits, BranchesThatAreNotSelected) {
  Given x{{-1, -4, 4}, {3}};
  auto of = [](Var (*f)(Var)) {
    return [f](std::span<const Var> v) { return where(greater(v[0], 0.0), f(v[0]), v[0]); };
  };
  expect("sqrt", of([](Var v) { return sqrt(v); }), {x}, {{-1, -4, 2}, {1, 1, .25}});
  expect("rsqrt", of([](Var v) { return rsqrt(v); }), {x}, {{-1, -4, .5}, {1, 1, -.0625}});
  expect("log", of([](Var v) { return log(v); }), {x}, {{-1, -4, std::log(4)}, {1, 1, .25}});
  expect("pow", of([](Var v) { return pow(v, 1.5); }), {x}, {{-1, -4, 8}, {1, 1, 3}});
  // One that is selected is NaN.
  expect("outside", [](auto v) { return sqrt(v[0]); }, {{{-1}, {1}}}, {{kNan}, {kNan}});
}

// ---- images -------------------------------------------------------------------------------------------------------

TEST(Limits, GridsFarOutside) {
  Given image{{1, 2, 3, 4}, {1, 1, 2, 2}};
  for (bool align : {false, true}) {
    auto f = [align](std::span<const Var> x) { return grid_sample(x[0], x[1], align); };
    for (double far : {kInf, -kInf, 3e4, -3e4}) {
      expect("far in x", f, {image, {{far, 0}, {1, 1, 1, 2}}}, {{0}, {0, 0, 0, 0}, {0, 0}});
      expect("far in y", f, {image, {{.25, far}, {1, 1, 1, 2}}}, {{0}, {0, 0, 0, 0}, {0, 0}});
      expect("far in both", f, {image, {{far, -far}, {1, 1, 1, 2}}}, {{0}, {0, 0, 0, 0}, {0, 0}});
    }
  }
  // A pixel that a point outside would touch with weight zero.
  expect("beside a NaN", [](auto x) { return grid_sample(x[0], x[1], true); },
         {{{kNan, 2, 3, kInf}, {1, 1, 2, 2}}, {{-4, -4, 5, 5}, {1, 1, 2, 2}}}, {{0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}});
}

// ---- losses -------------------------------------------------------------------------------------------------------

TEST(Limits, BinaryCrossEntropy) {
  auto f = [](Values target) {
    return [target](std::span<const Var> x) {
      Var t = x[0].graph().constant(Tensor::from(target, {int64_t(target.size())}));
      return bce_with_logits(x[0], t, Reduction::none);
    };
  };
  double e = std::log1p(std::exp(1.0)), s = 1 / (1 + std::exp(-1.0));
  expect("limits", f({1, 0, 0, 1, .5}), {{{kInf, -kInf, 1, 1, 0}, {5}}},
         {{0, 0, e, e - 1, std::log(2)}, {0, 0, s, s - 1, 0}});
  expect("infinite losses", f({0, 1, .5}), {{{kInf, -kInf, kInf}, {3}}}, {{kInf, kInf, kInf}, {1, -1, .5}});
  expect("at zero", f({1, 0}), {{{0, 0}, {2}}}, {{std::log(2), std::log(2)}, {-.5, .5}});
  expect("a NaN", f({1, 0}), {{{kNan, 1}, {2}}}, {{kNan, e}, {}});
  expect("confident", f({1, 0}), {{{20, -20}, {2}}}, {{2.0611536181902e-9, 2.0611536181902e-9}, {}}, {f64, f32});
  // Its target as an operand: d / dt = -z.
  expect("target", [](auto x) { return bce_with_logits(x[0], x[1], Reduction::none); },
         {{{2, -3, kInf}, {3}}, {{0, 1, 1}, {3}}}, {{}, {}, {-2, 3, 0}});
}

TEST(Limits, CrossEntropyWithSoftTargets) {
  Given logits{{-kInf, 0, 0, 1, -kInf, -kInf}, {2, 3}}, target{{0, .5, .5, 1, 0, 0}, {2, 3}};
  auto f = [](std::span<const Var> x) { return cross_entropy(x[0], x[1], {.reduction = Reduction::none}); };
  expect("weights of zero", f, {logits, target}, {{std::log(2), 0}, {0, 0, 0, 0, 0, 0}});
  expect("a weight that is not", f, {{{-kInf, 0}, {1, 2}}, {{1, 0}, {1, 2}}}, {{kInf}, {}});
}

TEST(Limits, CrossEntropyWithLabels) {
  auto f = [](std::vector<int64_t> labels, CrossEntropyOptions o) {
    return [=](std::span<const Var> x) {
      return cross_entropy(x[0], x[0].graph().constant(Tensor::from(labels, {int64_t(labels.size())})), o);
    };
  };
  Given rows{{kNan, kNan, 0, 0, kInf, -kInf}, {3, 2}};
  for (double smoothing : {0.0, 0.25})
    for (Reduction r : {Reduction::mean, Reduction::sum})
      expect("ignored rows", f({-100, 1, -100}, {.label_smoothing = smoothing, .reduction = r}), {rows},
             {{std::log(2)}, {0, 0, .5 - smoothing / 2, -.5 + smoothing / 2, 0, 0}});
  expect("an impossible class", f({1}, {}), {{{-kInf, 2, 2}, {1, 3}}}, {{std::log(2)}, {0, -.5, .5}});
  // All weight is on the uniform part, also of the label's own class.
  expect("smoothing 1", f({0}, {.label_smoothing = 1}), {{{0, 0}, {1, 2}}}, {{std::log(2)}, {0, 0}});
  expect("smoothing 1, infinite", f({0}, {.label_smoothing = 1}), {{{-kInf, 0}, {1, 2}}}, {{kInf}, {}});
}

TEST(Limits, IgnoredRowsInTheBody) {
  Graph g;
  Var x = g.input("x", {2, 2}, f64), t = g.constant(Tensor::from(std::vector<int64_t>{7, 0}, {2}));
  Var y = cross_entropy(x, t, {.ignore_index = 7}), one = g.constant(1.0, f64);
  Pass pass{.kind = PassKind::gradient, .inline_fused = true};
  Var d = sweep({&y, 1}, {&one, 1}, {&x, 1}, pass)[0];
  Tensor got = evaluate({d}, {{"x", Tensor::from(Values{kNan, kNan, 0, 0}, {2, 2})}})[0];
  expect_near(got.to_vector<double>(), {0, 0, -.5, .5}, 1e-12, "gradient through the body");
}

TEST(Limits, FramesBehindTheInputLength) {
  auto f = [](std::span<const Var> x) {
    Graph& g = x[0].graph();
    auto k = [&](std::vector<int64_t> v, Shape s) { return g.constant(Tensor::from(v, s)); };
    return ctc_loss(x[0], k({1}, {1, 1}), k({2}, {1}), k({1}, {1}));
  };
  std::vector<Values> clean = computed(f, {{{.1, .2, .3, -.1, .5, .2, 0, 0, 0}, {3, 1, 3}}}, f64, false);
  expect("ctc", f, {{{.1, .2, .3, -.1, .5, .2, kNan, kInf, kNan}, {3, 1, 3}}}, clean);
}

// ---- attention ----------------------------------------------------------------------------------------------------

Tensor draw(const Shape& s, int seed) {
  std::mt19937_64 rng{uint64_t(seed)};
  Tensor x = Tensor::empty(s, f64);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = double(rng() >> 11) * 0x1p-53 * 2 - 1;
  return x;
}
void put(Tensor& x, int64_t h, int64_t row, double value) {  // into x[0, h, row, :]
  int64_t n = x.shape()[3];
  std::fill_n(x.data<double>() + (h * x.shape()[2] + row) * n, n, value);
}

struct Scene {
  const char* name;
  int64_t heads, kv_heads, queries, keys;
  bool causal;
  int mask;               // 0: none; 1: keys from `hidden` on are masked; 2: a bias of -inf there
  int64_t hidden;         // the first key that must have no part
  int64_t queries_first;  // queries before this one see none of the hidden ones
};

// Everything that queries before `queries_first` give, and the relevance, next to the scene with zeros for NaN.
void compare(const Scene& s, double junk, DType t) {
  SCOPED_TRACE(std::string(s.name) + ", " + std::to_string(junk) + ", " + std::string(name_of(t)));
  auto run = [&](double value, bool immediate) {
    Tensor q = draw({1, s.heads, s.queries, 5}, 1), k = draw({1, s.kv_heads, s.keys, 5}, 2),
           v = draw({1, s.kv_heads, s.keys, 3}, 3), seed = draw({1, s.heads, s.queries, 3}, 4),
           mask = Tensor::full({1, s.keys}, 1, u8), bias = draw({s.queries, s.keys}, 5);
    for (int64_t j = s.hidden; j < s.keys; ++j) {
      for (int64_t h = 0; h < s.kv_heads; ++h) {
        put(k, h, j, value);
        put(v, h, j, j % 2 ? value : -value);
      }
      mask.data<uint8_t>()[j] = 0;
      for (int64_t i = 0; i < s.queries; ++i) bias.data<double>()[i * s.keys + j] = -kInf;
    }
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = s.queries_first; i < s.queries; ++i) put(seed, h, i, 0);  // what they give is not asked for
    Graph g(immediate ? Graph::Mode::immediate : Graph::Mode::record);
    Feeds feeds;
    auto in = [&](const char* name, const Tensor& x) {
      Tensor cast = x.to(t).contiguous_copy();
      feeds.emplace_back(name, cast);
      return g.input(name, cast);
    };
    Var Q = in("q", q), K = in("k", k), V = in("v", v), S = in("s", seed);
    AttentionOptions o{.causal = s.causal};
    if (s.mask == 1) o.mask = g.constant(mask);
    if (s.mask == 2) o.bias = in("b", bias);
    Var y = attention(Q, K, V, o), first = slice(y, 2, 0, s.queries_first);
    std::vector<Var> wrt{Q, K, V}, all{first};
    if (s.mask == 2) wrt.push_back(*o.bias);
    Var seeds = cast(S, accumulate_dtype(t));
    for (const Var& d : grad(y, wrt, seeds)) all.push_back(d);
    for (const Var& r : relevance(y, wrt, lrp::attn(), seeds)) all.push_back(r);
    std::vector<Tensor> out;
    if (immediate) {
      for (const Var& x : all) out.push_back(x.value());
    } else {
      for (const Tensor& x : evaluate({all}, feeds)) out.push_back(x);
    }
    return out;
  };
  for (bool immediate : {false, true}) {
    std::vector<Tensor> clean = run(0, immediate), dirty = run(junk, immediate);
    for (size_t k = 0; k < clean.size(); ++k)
      EXPECT_EQ(max_abs_diff(clean[k], dirty[k]), 0) << (immediate ? "immediate" : "planned") << ", result " << k;
  }
}

TEST(Limits, AttentionDoesNotSeeWhatIsMasked) {
  const Scene scenes[] = {
      {"a few queries", 1, 1, 2, 4, false, 1, 2, 2},   {"tiles", 2, 2, 40, 37, false, 1, 30, 40},
      {"grouped", 4, 2, 21, 9, false, 1, 5, 21},       {"bias", 2, 1, 19, 23, false, 2, 20, 19},
      {"bias, one query", 2, 2, 1, 5, false, 2, 4, 1}, {"causal", 2, 1, 33, 33, true, 0, 29, 29},
      {"causal, few", 1, 1, 3, 3, true, 0, 2, 2},      {"causal and mask", 2, 2, 20, 24, true, 1, 17, 20},
      {"all keys", 1, 1, 7, 6, false, 1, 0, 7},
  };
  for (const Scene& s : scenes)
    for (double junk : {kNan, kInf, -kInf})
      for (DType t : kFloats) compare(s, junk, t);
}

TEST(Limits, AttentionSeesWhatIsNotMasked) {
  // The second query sees a NaN value, the first does not; the gradient of the first alone is finite.
  Graph g(Graph::Mode::immediate);
  Var q = g.input("q", Tensor::full({1, 1, 2, 1}, 1, f64)), k = g.input("k", Tensor::full({1, 1, 2, 1}, 1, f64));
  Var v = g.input("v", Tensor::from(Values{3, kNan}, {1, 1, 2, 1})), y = attention(q, k, v, {.causal = true});
  expect_near(y.value().to_vector<double>(), {3, kNan}, 1e-12, "value");
  std::vector<Var> first = grad(select(reshape(y, {2}), 0, 0), std::vector<Var>{q, k, v});
  expect_near(first[2].value().to_vector<double>(), {1, 0}, 1e-12, "gradient of the first query");
  std::vector<Var> both = grad(sum(y), std::vector<Var>{q, k, v});
  EXPECT_TRUE(std::isnan(both[0].value().item(1)));
  expect_near(both[2].value().to_vector<double>(), {1.5, .5}, 1e-12, "gradient of the values");
}

}  // namespace
