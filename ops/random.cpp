// Random ops: counter based (ops/philox.h). What they draw depends on their key, the element's position and the run's
// seed only, so two nodes with equal attributes are equal, and a value can be drawn again instead of kept.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/sweep.h"
#include "tensor/parallel.h"
#include "ops/cpu/random.h"
#include "ops/floats.h"
#include "ops/ops.h"
#include "ops/philox.h"

namespace whence {
namespace {

// The last operand is the run's seed, i64 [].
uint64_t seed_of(const KernelCall& k) { return uint64_t(*k.in.back().as<int64_t>()); }
uint64_t key_of(const KernelCall& k) { return uint64_t(k.attrs.integer("key")); }
void need_seed(InferCtx& c) {
  int i = c.n() - 1;
  if (c.dtype(i) != i64) c.dtype_error("seed must be i64, got " + std::string(name_of(c.dtype(i))));
  c.need_rank(i, 0);
}
SampleInput seed_sample() { return {.shape = {}, .dtype = i64, .low = 0, .high = 1000}; }

Shape random_shape(InferCtx& c) {
  Shape s = c.attrs.shape("shape");
  for (int64_t n : s)
    if (n < 0) c.value_error("shape " + s.str() + " has a negative extent");
  return s;
}
void infer_real(InferCtx& c) {
  DType t = c.attrs.dtype("dtype");
  if (t != f32 && t != f64)
    c.dtype_error("dtype must be f32 or f64, got " + std::string(name_of(t)), "draw f32 and cast");
  need_seed(c);
  c.out(random_shape(c), t);
}

constexpr Traits kRandom{.random = true, .nondifferentiable = true, .sinks = 1};

// ---- uniform, normal ----------------------------------------------------------------------------------------------

template <class T> void run_uniform(const KernelCall& k) {
  T* y = k.out[0].as<T>();
  int64_t n = k.out[0].numel();
  cpu::random_uniform(y, n, seed_of(k), key_of(k));
  double low = k.attrs.real("low"), high = k.attrs.real("high");
  if (low == 0 && high == 1) return;
  T top = std::nextafter(T(high), T(low));  // rounding must not reach `high`
  cpu::parallel_for(n, cpu::kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = std::min(top, T(low + (high - low) * double(y[i])));
  });
}

template <class T> void run_normal(const KernelCall& k) {
  T* y = k.out[0].as<T>();
  int64_t n = k.out[0].numel();
  cpu::random_normal(y, n, seed_of(k), key_of(k));
  T mean = T(k.attrs.real("mean")), stddev = T(k.attrs.real("stddev"));
  if (mean == 0 && stddev == 1) return;
  cpu::parallel_for(n, cpu::kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = mean + stddev * y[i];
  });
}

Attrs uniform_attrs(const Shape& s, int64_t key, double low, double high, DType t) {
  return {{"shape", s}, {"key", key}, {"low", low}, {"high", high}, {"dtype", t}};
}
Attrs normal_attrs(const Shape& s, int64_t key, double mean, double stddev, DType t) {
  return {{"shape", s}, {"key", key}, {"mean", mean}, {"stddev", stddev}, {"dtype", t}};
}
Attrs bernoulli_attrs(const Shape& s, int64_t key, double p, DType t) {
  return {{"shape", s}, {"key", key}, {"p", p}, {"dtype", t}};
}

}  // namespace

REGISTER_OP(uniform) = {
    .doc = "Uniform numbers in [low, high); f32 has 24 random bits, f64 has 53",
    .operands = {"seed"},
    .infer =
        [](InferCtx& c) {
          if (!(c.attrs.real("low") <= c.attrs.real("high"))) c.value_error("low is above high");
          infer_real(c);
        },
    .cpu = [](const KernelCall& k) { by_float(k, run_uniform<float>, run_uniform<double>); },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, uniform_attrs({3, 5}, 1, -1, 2, f64), "f64"},
                                     {{seed_sample()}, uniform_attrs({4099}, 2, 0, 1, f32), "odd"},
                                     {{seed_sample()}, uniform_attrs({2, 0}, 3, 0, 1, f32), "empty"},
                                     {{seed_sample()}, uniform_attrs({}, 4, 0, 1, f32), "scalar"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, uniform_attrs({2}, 0, 1, 0, f32), "low is above high"},
              {{{{}, i64}}, uniform_attrs({2}, 0, 0, 1, i32), "dtype must be f32 or f64, got i32"},
              {{{{}, i64}}, uniform_attrs({-2}, 0, 0, 1, f32), "shape [-2] has a negative extent"}};
        },
    .traits = kRandom,
};

REGISTER_OP(normal) = {
    .doc = "Normal numbers of the given mean and standard deviation",
    .operands = {"seed"},
    .infer =
        [](InferCtx& c) {
          if (!(c.attrs.real("stddev") >= 0)) c.value_error("stddev must not be negative");
          infer_real(c);
        },
    .cpu = [](const KernelCall& k) { by_float(k, run_normal<float>, run_normal<double>); },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, normal_attrs({3, 5}, 1, 2, 0.5, f64), "f64"},
                                     {{seed_sample()}, normal_attrs({4099}, 2, 0, 1, f32), "odd"},
                                     {{seed_sample()}, normal_attrs({0}, 3, 0, 1, f32), "empty"},
                                     {{seed_sample()}, normal_attrs({}, 4, 0, 1, f32), "scalar"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, normal_attrs({2}, 0, 0, -1, f32), "stddev must not be negative"},
              {{{{}, i64}}, normal_attrs({2}, 0, 0, 1, i64), "dtype must be f32 or f64, got i64"}};
        },
    .traits = kRandom,
};

// ---- bernoulli, permutation ---------------------------------------------------------------------------------------

namespace {

/// f(first element, count, bits), bits being 1 with probability p.
template <class F> void draw_bits(const KernelCall& k, double p, F&& f) {
  constexpr int64_t piece = 4096;
  cpu::parallel_chunks(k.out[0].numel(), piece, [&](int64_t begin, int64_t end) {
    uint8_t bits[piece];
    cpu::random_bernoulli(bits, end - begin, p, seed_of(k), key_of(k), begin);
    f(begin, end - begin, bits);
  });
}

template <class T> void run_bernoulli(const KernelCall& k) {
  draw_bits(k, k.attrs.real("p"),
            [&](int64_t at, int64_t n, const uint8_t* bits) { std::copy(bits, bits + n, k.out[0].as<T>() + at); });
}

void need_probability(InferCtx& c, double p) {
  if (!(p >= 0 && p <= 1)) c.value_error("p must be in [0, 1], got " + std::to_string(p));
}

}  // namespace

// One draw per element whatever the dtype, so a mask is the same in every precision.
REGISTER_OP(bernoulli) = {
    .doc = "1 with probability p, else 0",
    .operands = {"seed"},
    .infer =
        [](InferCtx& c) {
          need_probability(c, c.attrs.real("p"));
          DType t = c.attrs.dtype("dtype");
          if (t == bf16 || t == f16) c.dtype_error("no " + std::string(name_of(t)) + " here", "draw f32 and cast");
          need_seed(c);
          c.out(random_shape(c), t);
        },
    .cpu =
        [](const KernelCall& k) {
          switch (k.out[0].dtype) {
            case DType::f32: return run_bernoulli<float>(k);
            case DType::f64: return run_bernoulli<double>(k);
            case DType::i32: return run_bernoulli<int32_t>(k);
            case DType::i64: return run_bernoulli<int64_t>(k);
            default: return run_bernoulli<uint8_t>(k);
          }
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, bernoulli_attrs({3, 5}, 1, 0.5, f64), "f64"},
                                     {{seed_sample()}, bernoulli_attrs({4099}, 2, 0.1, boolean), "odd"},
                                     {{seed_sample()}, bernoulli_attrs({7}, 3, 1, f32), "always"},
                                     {{seed_sample()}, bernoulli_attrs({7}, 3, 0, f32), "never"},
                                     {{seed_sample()}, bernoulli_attrs({0, 2}, 3, 0.3, i32), "empty"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{}, i64}}, bernoulli_attrs({2}, 0, 1.5, f32), "p must be in [0, 1], got 1.5"}};
        },
    .traits = kRandom,
};

REGISTER_OP(permutation) = {
    .doc = "0 .. n - 1 in random order (i64)",
    .operands = {"seed"},
    .infer =
        [](InferCtx& c) {
          int64_t n = c.attrs.integer("n");
          if (n < 0) c.value_error("n must not be negative, got " + std::to_string(n));
          need_seed(c);
          c.out({n}, i64);
        },
    .cpu =
        [](const KernelCall& k) {
          int64_t n = k.out[0].numel(), *p = k.out[0].as<int64_t>();
          std::vector<uint64_t> order(size_t(n) + 1);  // sorted by 64 random bits; the index decides between equals
          for (int64_t i = 0; i < n; i += 2) {
            philox::Words w = philox::words(seed_of(k), key_of(k), uint64_t(i) / 2);
            order[size_t(i)] = uint64_t(w.w[0]) << 32 | w.w[1];
            order[size_t(i) + 1] = uint64_t(w.w[2]) << 32 | w.w[3];
          }
          std::iota(p, p + n, 0);
          std::sort(p, p + n, [&](int64_t a, int64_t b) {
            uint64_t u = order[size_t(a)], v = order[size_t(b)];
            return u < v || (u == v && a < b);
          });
        },
    .samples =
        [] {
          return std::vector<Sample>{{{seed_sample()}, {{"n", 7}, {"key", 1}}, "odd"},
                                     {{seed_sample()}, {{"n", 0}, {"key", 1}}, "empty"},
                                     {{seed_sample()}, {{"n", 4099}, {"key", 2}}, "long"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{{{{{}, i64}}, {{"n", -1}, {"key", 0}}, "n must not be negative, got -1"}};
        },
    .traits = kRandom,
};

// Halves are drawn in f32 and rounded.
static Var draw(const OpDef& op, Var seed, Attrs attrs, DType dtype) {
  bool half = dtype == bf16 || dtype == f16;
  attrs.set({"dtype", half ? f32 : dtype});
  return cast(seed.graph().record(op, {&seed, 1}, std::move(attrs)), dtype);
}
Var uniform(Graph& g, Shape shape, int64_t key, double low, double high, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(uniform_op, g.seed(), uniform_attrs(shape, key, low, high, dtype), dtype);
}
Var normal(Graph& g, Shape shape, int64_t key, double mean, double stddev, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(normal_op, g.seed(), normal_attrs(shape, key, mean, stddev, dtype), dtype);
}
Var bernoulli(Graph& g, Shape shape, int64_t key, double p, DType dtype, std::source_location where) {
  LocationGuard at(g, where);
  return draw(bernoulli_op, g.seed(), bernoulli_attrs(shape, key, p, dtype), dtype);
}
Var permutation(Graph& g, int64_t n, int64_t key, std::source_location where) {
  Var seed = g.seed();
  return g.record(permutation_op, {&seed, 1}, {{"n", n}, {"key", key}}, where);
}

// ---- dropout ------------------------------------------------------------------------------------------------------

namespace {

// keep / (1 - p), of x's shape
Var dropout_mask(Var seed, const Shape& shape, DType t, const Attrs& attrs) {
  double keep = 1.0 - attrs.real("p");
  return draw(bernoulli_op, seed, bernoulli_attrs(shape, attrs.integer("key"), keep, t), t) * (1.0 / keep);
}

template <class T> void run_dropout(const KernelCall& k) {
  double keep = 1.0 - k.attrs.real("p");
  const T* x = k.in[0].as<T>();
  T *y = k.out[0].as<T>(), scale = T(1.0 / keep);
  draw_bits(k, keep, [&](int64_t at, int64_t n, const uint8_t* bits) {
    for (int64_t i = 0; i < n; ++i) y[at + i] = x[at + i] * (bits[i] ? scale : T(0));
  });
}

}  // namespace

REGISTER_OP(dropout) = {
    .doc = "x times a mask that is 0 with probability p and 1 / (1 - p) otherwise",
    .operands = {"x", "seed"},
    .infer =
        [](InferCtx& c) {
          c.need_float(0);
          double p = c.attrs.real("p");
          if (!(p >= 0 && p < 1)) c.value_error("p must be in [0, 1), got " + std::to_string(p));
          need_seed(c);
          c.out(c.shape(0), c.dtype(0));
        },
    .cpu = {[](const KernelCall& k) { by_float(k, run_dropout<float>, run_dropout<double>); }, {.in_place = 0}},
    // The same mask, drawn again. Several targets share it.
    .vjp =
        [](SweepCtx& c) {
          if (c.lead()) c.give(0, c.d() * dropout_mask(c.in(1), c.in().shape(), c.d().dtype(), c.attrs));
          else c.give(0, record(op_named("dropout"), {c.d(), c.in(1)}, c.attrs));
        },
    .body = [](std::span<const Var> in, const Attrs& attrs) -> std::vector<Var> {
      return {in[0] * dropout_mask(in[1], in[0].shape(), in[0].dtype(), attrs)};
    },
    .fast_relevance = lrp::identity,  // the mask is no data: the product passes everything to x
    .samples =
        [] {
          auto at = [](double p) { return Attrs{{"p", p}, {"key", 5}}; };
          return std::vector<Sample>{{{{.shape = {3, 4}}, seed_sample()}, at(0.5), "half"},
                                     {{{.shape = {2, 3}}, seed_sample()}, at(0.1), "tenth"},
                                     {{{.shape = {0, 3}}, seed_sample()}, at(0.5), "empty"},
                                     {{{.shape = {4099}}, seed_sample()}, at(0.3), "odd"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2}, f32}, {{}, i64}}, {{"p", 1.0}, {"key", 0}}, "p must be in [0, 1), got 1"},
              {{{{2}, i32}, {{}, i64}}, {{"p", 0.5}, {"key", 0}}, "x must be floating point"}};
        },
    .traits = {.random = true, .batched_sweep = true, .sinks = 2},
};

Var dropout(Arg x, double p, int64_t key) {
  if (p == 0) return x;
  return record(dropout_op, {x, x.var.graph().seed()}, {{"p", p}, {"key", key}});
}

}  // namespace whence
