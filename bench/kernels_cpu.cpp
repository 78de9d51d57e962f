// CPU kernels against their floors. GF/s and GB/s are per second of wall time; `floor_%` compares with the fused
// multiply-add peak or the streaming bandwidth that this program measures at its start.
//
//   bench_kernels_cpu [--benchmark_filter=gemm]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <time.h>

#include "whence/ops/cpu/attention.h"
#include "whence/ops/cpu/gemm.h"
#include "whence/ops/cpu/norm.h"
#include "whence/tensor/parallel.h"
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/cpu/unary_binary.h"

#ifdef WHENCE_CBLAS
#include <cblas.h>
constexpr int64_t kPeer = 1;
#else
constexpr int64_t kPeer = 0;
#endif

namespace {

using namespace whence::cpu;
using benchmark::Counter;
using benchmark::State;

double copy_bandwidth = 1;  // bytes per second over all threads, read + write
double fma_peak = 1;        // floating-point operations per second over all threads, f32

/// On one thread its CPU time, which the neighbours on a shared machine do not enter; else wall time.
double now() {
  timespec t;
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double seconds_of(auto&& f) {
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    double t = now();
    f();
    best = std::min(best, now() - t);
  }
  return best;
}

void measure_floors() {
  std::vector<float> a(1 << 25, 1.0f), b(1 << 25);
  copy_bandwidth = 2.0 * 4 * double(a.size()) / seconds_of([&] {
                     parallel_for(int64_t(a.size()), 1, [&](int64_t lo, int64_t hi) {
                       std::memcpy(b.data() + lo, a.data() + lo, size_t(hi - lo) * 4);
                     });
                   });
  const int64_t rounds = 1 << 20;
  fma_peak = double(rounds) * 16 * 16 * 2 * num_threads() / seconds_of([&] {
               parallel_for(num_threads(), 1, [&](int64_t, int64_t) {
                 using V [[gnu::vector_size(64)]] =
                     float;  // sixteen independent chains hide the latency; unrolled, or they live in memory
                 V c[16], m = V{} + 0.999f;
#pragma GCC unroll 16
                 for (int i = 0; i < 16; ++i) c[i] = V{} + float(i);
                 for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
                   for (int i = 0; i < 16; ++i) c[i] = c[i] * m + m;
                 }
                 for (V& v : c) benchmark::DoNotOptimize(v);
               });
             });
  std::printf("threads %d   copy %.1f GB/s   fused multiply-add %.0f GF/s\n", num_threads(), copy_bandwidth * 1e-9,
              fma_peak * 1e-9);
}

std::vector<float> randoms(int64_t n) {
  std::mt19937 rng(1);
  std::normal_distribution<float> u;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = u(rng);
  return v;
}

// Times every iteration and reports the best: on a shared machine the mean measures the neighbours. `per_call` is the
// number of calls of f in one timed interval (small kernels need many).
template <class F> void timed(State& s, double elements, double bytes, double flops, int per_call, F&& f) {
  double best = 1e9;
  for (auto _ : s) {
    double t = now();
    for (int i = 0; i < per_call; ++i) {
      f();
      benchmark::ClobberMemory();
    }
    double d = (now() - t) / per_call;
    best = std::min(best, d);
    s.SetIterationTime(d);
  }
  s.counters["best_us"] = best * 1e6;
  if (elements > 0) s.counters["ns/elem"] = best / elements * 1e9;
  if (bytes > 0) s.counters["GB/s"] = bytes / best * 1e-9;
  if (flops > 0) s.counters["GF/s"] = flops / best * 1e-9;
  if (flops > 0) s.counters["floor_%"] = flops / best / fma_peak * 100;
  else if (bytes > 0) s.counters["floor_%"] = bytes / best / copy_bandwidth * 100;
}

// One L1 tile, as the fused interpreter calls the loops.
void unary(State& s, std::string name) {
  auto loop = find_unary(name, whence::f32);
  auto x = randoms(2048), y = x;
  for (float& v : x) v = std::abs(v) + 0.01f;
  double params[] = {1.5, 2.5};
  timed(s, 2048, 0, 0, 20, [&] { loop(x.data(), y.data(), 2048, params); });
}
void binary(State& s, std::string name) {
  auto loop = find_binary(name, whence::f32);
  auto x = randoms(2048), z = x, y = x;
  for (float& v : x) v = std::abs(v) + 0.01f;
  double params[] = {1.5, 2.5};
  timed(s, 2048, 0, 0, 20, [&] { loop(x.data(), 1, z.data(), 1, y.data(), 2048, params); });
}
void tiny_add(State& s) {
  auto loop = find_binary("add", whence::f32);
  float x[64] = {1}, y[64] = {2};
  timed(s, double(s.range(0)), 0, 0, 1000, [&] { loop(x, 1, y, 1, y, s.range(0), nullptr); });
}

void softmax_rows(State& s) {
  int64_t rows = s.range(0), n = s.range(1);
  auto x = randoms(rows * n), y = x;
  timed(s, double(rows * n), 8.0 * double(rows * n), 0, 1, [&] { softmax(x.data(), y.data(), rows, n, 1); });
}
void sum_rows(State& s) {
  int64_t o = s.range(0), n = s.range(1), in = s.range(2);
  auto x = randoms(o * n * in);
  std::vector<float> y(size_t(o * in));
  timed(s, double(o * n * in), 4.0 * double(o * n * in), 0, 1, [&] { reduce_sum(x.data(), y.data(), o, n, in); });
}

// The peer, where there is one: a CBLAS, with as many threads as ours.
void peer_gemm([[maybe_unused]] bool ta, [[maybe_unused]] bool tb, [[maybe_unused]] int m, [[maybe_unused]] int n,
               [[maybe_unused]] int k, [[maybe_unused]] const float* a, [[maybe_unused]] const float* b,
               [[maybe_unused]] float* c) {
#ifdef WHENCE_CBLAS
  auto turned = [](bool yes) { return yes ? CblasTrans : CblasNoTrans; };
  cblas_sgemm(CblasRowMajor, turned(ta), turned(tb), m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, c, n);
#endif
}

// Sizes m, n, k, then ta, tb and 1 for the BLAS library.
void gemm_case(State& s) {
  int64_t m = s.range(0), n = s.range(1), k = s.range(2);
  bool ta = s.range(3) & 2, tb = s.range(3) & 1;
  auto a = randoms(m * k), b = randoms(n * k), c = randoms(m * n);
  double flops = 2.0 * double(m) * double(n) * double(k);
  timed(s, 0, 0, flops, flops < 1e7 ? 20 : 1, [&] {
    if (s.range(4)) peer_gemm(ta, tb, int(m), int(n), int(k), a.data(), b.data(), c.data());
    else gemm<float>(ta, tb, m, n, k, 1, a.data(), ta ? m : k, b.data(), tb ? k : n, 0, c.data(), n);
  });
}

void norm_rows(State& s, bool backward) {
  int64_t rows = s.range(0), n = s.range(1);
  auto x = randoms(rows * n), y = x, dy = x, w = randoms(n), b = w, dw = w;
  std::vector<float> mean(static_cast<size_t>(rows)), rstd(mean);
  layer_norm(x.data(), w.data(), b.data(), y.data(), mean.data(), rstd.data(), rows, n, 1e-5);
  timed(s, double(rows * n), (backward ? 12.0 : 8.0) * double(rows * n), 0, 1, [&] {
    if (backward)
      layer_norm_backward(x.data(), mean.data(), rstd.data(), w.data(), dy.data(), y.data(), dw.data(), b.data(), rows,
                          n, false);
    else layer_norm(x.data(), w.data(), b.data(), y.data(), mean.data(), rstd.data(), rows, n, 1e-5);
  });
}

// B, H, T, D, causal; tiled, its backward, and the same through matrix products and a stored softmax.
enum class Way { tiled, backward, unfused };
void attention_case(State& s, Way way) {
  const int64_t B = s.range(0), H = s.range(1), T = s.range(2), D = s.range(3);
  AttentionDims d{B, H, H, T, T, D, D, 0.125, s.range(4) != 0};
  HeadStrides st{H * T * D, T * D, D};
  auto q = randoms(B * H * T * D), k = q, v = q, o = q, dq = q, dk = q, dv = q;
  std::vector<float> lse(size_t(B * H * T)), p(way == Way::unfused ? size_t(B * H * T * T) : 0);
  const AttentionInputs<float> in{.dims = d, .q = {q.data(), st}, .k = {k.data(), st}, .v = {v.data(), st}};
  attention<float>(in, {o.data(), st}, lse.data());
  const double flops = (way == Way::backward ? 10.0 : 4.0) * double(B * H * T * T * D) / (d.causal ? 2 : 1);
  timed(s, double(B * H * T * T), 0, flops, 1, [&] {
    if (way == Way::tiled) {
      attention<float>(in, {o.data(), st}, lse.data());
    } else if (way == Way::backward) {
      attention_backward<float>(in, {o.data(), st}, lse.data(), {o.data(), st},
                                {.q = {dq.data(), st}, .k = {dk.data(), st}, .v = {dv.data(), st}});
    } else {
      gemm_batched<float>(B * H, false, true, T, T, D, 0.125f, q.data(), D, {T * D}, k.data(), D, {T * D}, 0, p.data(),
                          T, {T * T});
      softmax(p.data(), p.data(), B * H * T, T, 1);
      gemm_batched<float>(B * H, false, false, T, D, T, 1, p.data(), T, {T * T}, v.data(), D, {T * D}, 0, o.data(), D,
                          {T * D});
    }
  });
}

template <class... A> auto* add(const std::string& name, A&&... a) {
  return benchmark::RegisterBenchmark(name.c_str(), std::forward<A>(a)...)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}
}  // namespace

int main(int argc, char** argv) {
  measure_floors();
  for (const char* n : {"exp", "log", "log1p", "tanh", "erf", "sigmoid", "gelu", "gelu_tanh", "silu", "softplus",
                        "relu", "sqrt", "square", "sin"})
    add(std::string("unary/") + n, unary, std::string(n));
  for (const char* n : {"add", "mul", "div", "maximum", "pow", "d_gelu", "d_gelu_tanh", "d_silu", "d_tanh", "less"})
    add(std::string("binary/") + n, binary, std::string(n));
  add("tiny/add", tiny_add)->Arg(1)->Arg(16)->Arg(64);
  add("softmax", softmax_rows)->Args({21120, 165})->Args({256, 4096})->Args({64, 50304});
  add("sum", sum_rows)->Args({5280, 256, 1})->Args({1, 5280, 256})->Args({1, 1 << 24, 1});
  add("layer_norm", norm_rows, false)->Args({5280, 256})->Args({4096, 768});
  add("layer_norm_backward", norm_rows, true)->Args({5280, 256})->Args({4096, 768});
  for (auto [way, name] :
       {std::pair{Way::tiled, "attention"}, {Way::backward, "attention_backward"}, {Way::unfused, "attention_unfused"}})
    add(name, attention_case, way)
        ->Args({32, 4, 165, 64, 0})
        ->Args({32, 4, 165, 64, 1})
        ->Args({1, 12, 1024, 64, 0})
        ->Args({1, 12, 1024, 64, 1})
        ->Args({1, 1, 165, 64, 0})
        ->Args({4, 4, 32, 32, 0});
  // nn, nt (linear forward), tn (weight gradient): 0, 1, 2. The library second, so that the two stand side by side.
  auto* g = add("gemm", gemm_case);
  for (int64_t blas = 0; blas <= kPeer; ++blas)
    for (int64_t t : {0, 1, 2})
      for (auto [m, n, k] : {std::array<int64_t, 3>{64, 64, 64},
                             {256, 256, 256},
                             {1024, 1024, 1024},
                             {256, 2304, 768},
                             {2048, 768, 768},
                             {2048, 3072, 768},
                             {5280, 256, 256},
                             {5280, 768, 256},
                             {5280, 1024, 256},
                             {5280, 256, 1024},
                             {256, 256, 5280},
                             {1024, 256, 5280},
                             {1, 32, 784},
                             {1, 768, 768},
                             {8, 768, 768},
                             {16, 768, 768},
                             {165, 64, 165},
                             {165, 165, 64}})
        g->Args({m, n, k, t, blas});
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
