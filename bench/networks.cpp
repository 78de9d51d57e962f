// Small networks beside PyTorch on the same threads: training steps, one-sample latency, relevance. In turns, the
// median of several.
//   bench_networks [rounds] [part of a name]
#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>

#include "bench/peer.h"
#include "whence/autograd/function.h"
#include "whence/autograd/plan.h"
#include "whence/lrp/presets.h"
#include "whence/models/gpt2.h"
#include "whence/nn/layers.h"
#include "whence/nn/train.h"

using namespace whence;

namespace {

double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v[v.size() / 2];
}

double time_of(const std::function<void()>& f, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  const auto begin = Clock::now();
  while (times.size() < 3 || std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
    const auto t = Clock::now();
    f();
    times.push_back(std::chrono::duration<double>(Clock::now() - t).count());
  }
  return median(times);
}

// conv 32, conv 64, each with batch norm, relu and a pool; Fashion-MNIST's shapes.
struct Cnn : nn::Module {
  nn::Conv2d a{*this, "a", 1, 32, {3}, {.padding = {1}}}, b{*this, "b", 32, 64, {3}, {.padding = {1}}};
  nn::BatchNorm na{*this, "na", 32}, nb{*this, "nb", 64};
  nn::Linear hidden{*this, "hidden", 64 * 7 * 7, 128}, head{*this, "head", 128, 10};
  Var operator()(Arg image) const {
    Var x = max_pool(relu(na(a(image))), {.kernel = {2}});
    x = max_pool(relu(nb(b(x))), {.kernel = {2}});
    return head(relu(hidden(nn::flatten(x))));
  }
};

struct Mlp : nn::Module {
  nn::Linear in{*this, "in", 784, 256}, out{*this, "out", 256, 10};
  Var operator()(Arg x) const { return out(relu(in(x))); }
};

struct Row {
  std::string name, ask;       // of the peer
  std::function<void()> ours;  // one step
  double flops;                // of its products
};

Tensor labels(int64_t n, int64_t classes) { return Tensor::randint(0, classes, {n}, 3, i32); }

Row cnn_step() {
  auto model = std::make_shared<Cnn>();
  auto step =
      std::make_shared<nn::TrainStep>(*model, nn::AdamW{.lr = 1e-3}, [model = model.get()](Graph& g, const Batch& b) {
        return cross_entropy((*model)(g.input("x", b["x"])), g.input("y", b["y"]));
      });
  Batch batch;
  batch.tensors = {{"x", Tensor::randn({64, 1, 28, 28}, 1)}, {"y", labels(64, 10)}};
  const double forward = 64 * 2.0 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 288 + 3136 * 128 + 1280);
  return {"CNN training step (32/64 channels, batch 64)", "cnn_step 64",
          [=] {
            step->operator()(batch).loss();
            (void)model;
          },
          3 * forward};
}

Row cnn_forward(int64_t B) {
  auto model = std::make_shared<Cnn>();
  auto predict = std::make_shared<Function<std::function<Var(Var)>>>(
      std::function<Var(Var)>([model](Var x) { return (*model)(x); }), CompileOptions{});
  Tensor x = Tensor::randn({B, 1, 28, 28}, 1);
  const double forward = double(B) * 2.0 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 288 + 3136 * 128 + 1280);
  return {fmt::format("CNN forward, batch {}", B), fmt::format("cnn_forward {}", B), [=] { (*predict)(x); }, forward};
}

Row mlp_forward() {
  auto model = std::make_shared<Mlp>();
  auto predict = std::make_shared<Function<std::function<Var(Var)>>>(
      std::function<Var(Var)>([model](Var x) { return (*model)(x); }), CompileOptions{});
  Tensor x = Tensor::randn({1, 784}, 1);
  return {"MLP forward, batch 1", "mlp_forward 1", [=] { (*predict)(x); }, 2.0 * (784 * 256 + 2560)};
}

Row gpt_step(const char* name, int64_t layers, int64_t width, int64_t heads, int64_t vocabulary, int64_t B, int64_t T) {
  models::Gpt2Config c;
  c.vocab_size = vocabulary, c.hidden_size = width, c.layers = layers, c.heads = heads, c.max_positions = T,
  c.dropout = 0;
  auto model = std::make_shared<models::Gpt2>(c);
  auto step =
      std::make_shared<nn::TrainStep>(*model, nn::AdamW{.lr = 1e-4}, [=, m = model.get()](Graph& g, const Batch& b) {
        Var logits = (*m)(g.input("x", b["x"]));
        return cross_entropy(reshape(logits, {B * T, vocabulary}), g.input("y", b["y"]));
      });
  Batch batch;
  batch.tensors = {{"x", Tensor::randint(0, vocabulary, {B, T}, 1, i32)}, {"y", labels(B * T, vocabulary)}};
  const double forward = 2.0 * double(B * T) * double(layers * (12 * width * width + T * width) + width * vocabulary);
  return {name, fmt::format("gpt_step {} {} {} {} {} {}", layers, width, heads, vocabulary, B, T),
          [=] {
            step->operator()(batch).loss();
            (void)model;
          },
          3 * forward};
}

// Ours alone: relevance beside the gradient by the pictures.
void relevance_of_cnn(double seconds) {
  Cnn model;
  Graph g;
  Var x = g.input("x", {64, 1, 28, 28}), y = model(x), score = sum(max(y, -1));
  const Feeds feeds{{"x", Tensor::randn({64, 1, 28, 28}, 1)}};
  Plan forward = compile({y}), gradient = compile({y, grad(score, x)}),
       relevance = compile({y, whence::relevance(max(y, -1), x, lrp::preset("epsilon"))});
  std::vector<double> f, d, r;
  for (int i = 0; i < 5; ++i) {
    f.push_back(time_of([&] { forward.run(feeds); }, seconds / 4));
    d.push_back(time_of([&] { gradient.run(feeds); }, seconds / 4));
    r.push_back(time_of([&] { relevance.run(feeds); }, seconds / 4));
  }
  fmt::print(
      "CNN, batch 64: forward {:.3f} ms, gradient by the pictures {:.3f} more, relevance {:.3f} more: {:.2f} of the "
      "gradient\n",
      1e3 * median(f), 1e3 * (median(d) - median(f)), 1e3 * (median(r) - median(f)),
      (median(r) - median(f)) / (median(d) - median(f)));
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 3;
  const std::string part = argc > 2 ? argv[2] : "";
  auto peer = bench::torch_peer();
  double peak = 0;  // of a product that fits the caches
  {
    Graph g;
    Var a = g.input("a", {1024, 1024}), b = g.input("b", {1024, 1024});
    Plan p = compile({matmul(a, b)});
    const Feeds feeds{{"a", Tensor::randn({1024, 1024}, 1)}, {"b", Tensor::randn({1024, 1024}, 2)}};
    peak = 2.0 * 1024 * 1024 * 1024 / time_of([&] { p.run(feeds); }, 1);
  }
  fmt::print("{} threads, products at {:.0f} GFLOP/s{}\n", cpu::num_threads(), 1e-9 * peak,
             peer ? ", PyTorch " + peer->ask("version").at("version").get<std::string>() : "");
  fmt::print("{:<48} {:>10} {:>10} {:>7} {:>9}\n", "", "ours, ms", "PyTorch", "ratio", "of floor");
  for (const auto& make : std::vector<std::function<Row()>>{
           cnn_step, [] { return cnn_forward(64); }, [] { return cnn_forward(1); }, mlp_forward,
           [] { return gpt_step("mini-GPT step (6 x 384, T=256, batch 4)", 6, 384, 6, 256, 4, 256); },
           [] { return gpt_step("GPT-2 124M step (batch 4, T=64)", 12, 768, 12, 50257, 4, 64); }}) {
    const Row row = make();
    if (row.name.find(part) == std::string::npos) continue;
    std::vector<double> ours, theirs;
    for (int i = 0; i < rounds; ++i) {
      ours.push_back(time_of(row.ours, 1));
      if (peer) theirs.push_back(peer->ask(row.ask).at("seconds"));
    }
    const double t = median(ours);
    fmt::print("{:<48} {:>10.3f} {:>10} {:>7} {:>7.0f} %\n", row.name, 1e3 * t,
               theirs.empty() ? "-" : fmt::format("{:.3f}", 1e3 * median(theirs)),
               theirs.empty() ? "-" : fmt::format("{:.2f}x", median(theirs) / t), 100 * row.flops / peak / t);
  }
  relevance_of_cnn(1);
}
