// Training steps of an LSTM: one layer over [B, T, hidden], a square loss on every step's result, SGD.
//
//   bench_lstm_step [--seconds S] [--hidden H] [--steps T] [B ...]
//
// Prints the median in ms per batch size, beside the time of the forward pass alone.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "whence/nn.h"

using namespace whence;

namespace {

struct Net : nn::Module {
  nn::LSTM lstm;
  explicit Net(int64_t hidden) : lstm(*this, "lstm", hidden, hidden) {}
};

template <class F> double median_ms(double seconds, F&& f) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> ms;
  f();
  f();
  for (const auto begin = Clock::now(); std::chrono::duration<double>(Clock::now() - begin).count() < seconds;) {
    const auto start = Clock::now();
    f();
    ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::nth_element(ms.begin(), ms.begin() + std::ssize(ms) / 2, ms.end());
  return ms[ms.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 3;
  int64_t hidden = 256, T = 128;
  std::vector<int64_t> batches;
  for (int i = 1; i < argc; ++i) {
    auto option = [&](const char* name) { return std::strcmp(argv[i], name) == 0 && i + 1 < argc; };
    if (option("--seconds")) seconds = std::atof(argv[++i]);
    else if (option("--hidden")) hidden = std::atoll(argv[++i]);
    else if (option("--steps")) T = std::atoll(argv[++i]);
    else batches.push_back(std::atoll(argv[i]));
  }
  if (batches.empty()) batches = {16, 32};
  for (int64_t B : batches) {
    Net net(hidden);
    Batch batch;
    batch.tensors["x"] = Tensor::full({B, T, hidden}, 0.1);
    nn::TrainStep step(net, nn::SGD{.lr = 1e-3}, [&](Graph& g, const Batch& b) {
      return mean(square(net.lstm(g.input("x", b["x"])).out - 0.5));
    });
    Graph g;
    Plan forward = compile({net.lstm(g.input("x", {B, T, hidden})).out});
    Results out;
    const Feeds feeds{{"x", batch.tensors["x"]}};
    fmt::print("LSTM hidden {}, T {}, B {}: {:.2f} ms per training step, {:.2f} forward\n", hidden, T, B,
               median_ms(seconds, [&] { step(batch); }), median_ms(seconds, [&] { forward.run(feeds, {}, out); }));
  }
}
