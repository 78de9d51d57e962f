// What the planner costs and what it gains: tiny graphs (overhead per op), re-recording through the cache, fused chains
// (bandwidth). Floor of a tiny op: the scalar loop itself; of a fused chain: one read and one write of memory.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "whence/autograd/plan.h"
#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"

using namespace whence;

namespace {

Var chain(Var x, int64_t ops) {
  Var y = x;
  for (int64_t i = 0; i < ops; ++i) y = i % 3 == 0 ? y + x : i % 3 == 1 ? y * x : tanh(y);
  return y;
}

void per_op(benchmark::State& state, double ops) {
  state.counters["s/op"] =
      benchmark::Counter(ops, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

// range 0: ops, range 1: elements
void tiny_forward(benchmark::State& state) {
  Graph g;
  Var x = g.input("x", {state.range(1)});
  Plan p = compile({chain(x, state.range(0))});
  Feeds feeds{{"x", Tensor::full({state.range(1)}, 0.5)}};
  for (auto _ : state) benchmark::DoNotOptimize(p.run(feeds));
  per_op(state, double(state.range(0)));
}
BENCHMARK(tiny_forward)->Args({3, 1})->Args({3, 64})->Args({30, 1})->Args({30, 64});

void tiny_forward_backward(benchmark::State& state) {
  Graph g;
  Var x = g.input("x", {state.range(1)});
  Var y = chain(x, state.range(0));
  Plan p = compile({y, grad(y, x, g.constant(Tensor::full({state.range(1)}, 1)))});
  Feeds feeds{{"x", Tensor::full({state.range(1)}, 0.5)}};
  for (auto _ : state) benchmark::DoNotOptimize(p.run(feeds));
  per_op(state, double(state.range(0)));
}
BENCHMARK(tiny_forward_backward)->Args({3, 1})->Args({3, 64})->Args({30, 1})->Args({30, 64});

void record(benchmark::State& state) {
  for (auto _ : state) {
    Graph g;
    benchmark::DoNotOptimize(chain(g.input("x", {64}), state.range(0)));
  }
  per_op(state, double(state.range(0)));
}
BENCHMARK(record)->Arg(30)->Arg(3000);

void record_and_compile_cached(benchmark::State& state) {
  for (auto _ : state) {
    Graph g;
    benchmark::DoNotOptimize(compile({chain(g.input("x", {64}), state.range(0))}));
  }
  per_op(state, double(state.range(0)));
}
BENCHMARK(record_and_compile_cached)->Arg(30)->Arg(3000);

void record_and_compile_anew(benchmark::State& state) {
  for (auto _ : state) {
    clear_plan_cache();
    Graph g;
    benchmark::DoNotOptimize(compile({chain(g.input("x", {64}), state.range(0))}));
  }
  per_op(state, double(state.range(0)));
}
BENCHMARK(record_and_compile_anew)->Arg(30)->Arg(3000)->Arg(300000)->Unit(benchmark::kMicrosecond);

// y = gelu(x * a + b) + x over 16M elements (or rows with a bias): bytes are those of x and y.
void fused_chain(benchmark::State& state) {
  const int64_t rows = 1 << 14, cols = 1 << 10;
  Graph g;
  Var x = g.input("x", {rows, cols}), b = g.input("b", {cols});
  Var y = state.range(0) ? relu(x + b) * 0.5 + x : relu(x * 2.0 + 1.0) * 0.5 + x;
  Plan p = compile({y}, {.fuse = state.range(1) != 0});
  Tensor xs = Tensor::full({rows, cols}, 0.5), bs = Tensor::full({cols}, 0.25);
  Feeds feeds{{"x", xs}};
  if (state.range(0)) feeds.emplace_back("b", bs);
  for (auto _ : state) benchmark::DoNotOptimize(p.run(feeds));
  state.SetBytesProcessed(state.iterations() * rows * cols * 8);
}
BENCHMARK(fused_chain)
    ->ArgNames({"bias", "fuse"})
    ->Args({0, 1})
    ->Args({1, 1})
    ->Args({0, 0})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// Forward, gradient and relevance of a multilayer perceptron in one plan; the two sweeps on one or two threads.
void two_sweeps(benchmark::State& state) {
  const int64_t batch = state.range(0), width = state.range(1), depth = state.range(2);
  Graph g;
  Var x = g.input("x", {batch, width}), h = x;
  std::vector<Tensor> weights;
  std::vector<Var> parameters;
  for (int64_t i = 0; i < depth; ++i) {
    weights.push_back(Tensor::full({width, width}, 0.01));
    parameters.push_back(g.parameter("w" + std::to_string(i), weights.back()));
    h = gelu(matmul(h, parameters.back()) + x);
  }
  lrp::RuleSet rules("plain");
  Var r = relevance(h, x, rules);
  Plan p = compile({grad(sum(h), parameters), r}, {.concurrent = state.range(3) != 0});
  Feeds feeds{{"x", Tensor::full({batch, width}, 0.5)}};
  state.SetLabel(p.report().find(" lanes of ") != std::string::npos ? "two lanes" : "one after the other");
  for (auto _ : state) benchmark::DoNotOptimize(p.run(feeds));
}
BENCHMARK(two_sweeps)
    ->ArgNames({"batch", "width", "depth", "fork"})
    ->ArgsProduct({{8}, {64, 128}, {8, 64}, {0, 1}})
    ->ArgsProduct({{64}, {256, 512}, {8}, {0, 1}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime()
    ->ComputeStatistics("min", [](const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); });

}  // namespace

BENCHMARK_MAIN();
