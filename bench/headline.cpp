// The table of release claims: ours, peer, ratio, percent of the floor. PyTorch runs beside us when `python3 -c "import
// torch"` works (WHENCE_PYTHON names another interpreter); without it the peer column stays empty.
//
//   bench_headline [--json FILE] [--rounds N] [NAME ...]
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bert_step.h"
#include "whence/lrp/presets.h"
#include "peer.h"
#include "whence/tensor/parallel.h"
#include "whence/whence.h"

using namespace whence;
using namespace bench;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_of(const std::function<void()>& f) {
  auto t = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - t).count();
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}
double time_of(const std::function<void()>& f, double seconds, int least) {
  f();
  std::vector<double> times;
  auto begin = Clock::now();
  while (int(times.size()) < least || std::chrono::duration<double>(Clock::now() - begin).count() < seconds)
    times.push_back(seconds_of(f));
  return median(times);
}

// ---- floors -------------------------------------------------------------------------------------------------------

// Multiply-adds on registers only, all threads: FLOP/s that no matrix product can exceed.
double fma_peak() {
  typedef float V __attribute__((vector_size(64)));
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    constexpr int kLanes = 16, kChains = 12, kSteps = 2000000;
    std::atomic<float> sink = 0;
    double s = seconds_of([&] {
      cpu::parallel_for(cpu::num_threads(), 1, [&](int64_t, int64_t) {
        V acc[kChains], a, b;
        for (int l = 0; l < kLanes; ++l) a[l] = 1.0f + 1e-7f * float(l), b[l] = 1e-9f;
        for (auto& v : acc) v = a;
        for (int i = 0; i < kSteps; ++i)
          for (auto& v : acc) v = v * a + b;
        for (auto& v : acc) sink += v[0];
      });
    });
    if (std::isnan(sink)) fmt::print(" ");
    best = std::max(best, 2.0 * kLanes * kChains * kSteps * cpu::num_threads() / s);
  }
  return best;
}

// ---- workloads ----------------------------------------------------------------------------------------------------

Tensor noise(const Shape& s, float scale = 1) {
  Tensor t = Tensor::empty(s);
  uint64_t state = 7;
  for (int64_t i = 0; i < t.numel(); ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    t.data<float>()[i] = scale * (float(state >> 40) / float(1 << 23) - 1);
  }
  return t;
}
struct Tiny {
  Graph g;
  Plan plan;
  Feeds feeds;
  Tiny(int64_t elements, int64_t ops) {
    Var x = g.input("x", {elements}), y = x;
    for (int64_t i = 0; i < ops; ++i) y = i % 3 == 0 ? y + x : i % 3 == 1 ? y * x : tanh(y);
    plan = compile({y, grad(y, x, g.constant(Tensor::full({elements}, 1)))});
    feeds = {{"x", Tensor::full({elements}, 0.5)}};
  }
  void operator()() { plan.run(feeds); }
};

struct LinearGelu {
  Graph g;
  Plan plan;
  Feeds feeds;
  LinearGelu(int64_t rows, int64_t out, int64_t in) {
    Var x = g.input("x", {rows, in}), d = g.input("d", {rows, out});
    // Weights as after initialisation: with unit weights a fifth of GELU's derivatives are subnormal, and those are
    // timed then.
    Var w = g.parameter("w", noise({out, in}, 1 / std::sqrt(float(in)))), b = g.parameter("b", noise({out}));
    Var y = gelu(linear(x, w, b));
    plan = compile({y, grad(y, std::vector<Var>{x, w, b}, d)});
    feeds = {{"x", noise({rows, in})}, {"d", noise({rows, out})}};
  }
  void operator()() { plan.run(feeds); }
};

// Forward alone, with the gradient of the data, with relevance of the data.
struct Sweeps {
  Bert model;
  Graph g;
  Plan forward, gradient, relevance;
  Feeds feeds;
  Sweeps(int64_t B, int64_t T, int64_t width, int64_t layers) : model(T, width, layers) {
    Var ids = g.input("ids", {B, T}, i32), words = model.encoder.embeddings.word(ids);
    Var score = sum(model.head(model.encoder.encode(model.encoder.embeddings.embed(words), {}).back()));
    forward = compile({score});
    gradient = compile({score, grad(score, words)});
    relevance = compile({score, whence::relevance(score, words, lrp::attn())});
    feeds = {{"ids", ints({B, T}, 2, 258)}};
  }
};

// ---- the table ----------------------------------------------------------------------------------------------------

struct Row {
  std::string name, unit;
  double ours = 0;
  std::optional<double> peer;
  double floor = 0;  // same unit; 0: none stated
  std::string gate, goal;
};

std::string bytes_peak_child(const char* self, const std::string& args) {
  std::string command = fmt::format("{} --memory {}", self, args), line;
  FILE* f = popen(command.c_str(), "r");
  for (int c; f && (c = fgetc(f)) != EOF;) line += char(c);
  if (f) pclose(f);
  return line;
}

int64_t resident() {
  std::ifstream f("/proc/self/statm");
  int64_t total = 0, here = 0;
  f >> total >> here;
  return here * sysconf(_SC_PAGESIZE);
}

}  // namespace

int main(int argc, char** argv) {
  std::string json_path;
  int rounds = 3;
  std::vector<std::string> only;
  for (int i = 1; i < argc; ++i) {
    if (!strcmp(argv[i], "--memory")) {  // a fresh process: growth over what is there before the model
      int64_t before = resident();
      BertStep step(atoi(argv[i + 1]), atoi(argv[i + 2]), atoi(argv[i + 3]), atoi(argv[i + 4]),
                    size_t(atoll(argv[i + 5])));
      for (int k = 0; k < 3; ++k) step();
      rusage use;
      getrusage(RUSAGE_SELF, &use);
      fmt::print("{}\n", use.ru_maxrss * 1024 - before);
      return 0;
    }
    if (!strcmp(argv[i], "--json") && i + 1 < argc) json_path = argv[++i];
    else if (!strcmp(argv[i], "--rounds") && i + 1 < argc) rounds = std::max(1, atoi(argv[++i]));
    else only.emplace_back(argv[i]);
  }
  auto wanted = [&](const std::string& name) {
    return only.empty() || std::any_of(only.begin(), only.end(), [&](auto& o) { return name.find(o) != name.npos; });
  };
  std::unique_ptr<Peer> peer = torch_peer();
  const std::string version = peer ? peer->ask("version").at("version") : "";
  double peak = fma_peak();
  fmt::print("threads {}, multiply-add peak {:.0f} GFLOP/s, peer {}\n\n", cpu::num_threads(), peak * 1e-9,
             peer ? "PyTorch " + version : "none");

  std::vector<Row> rows;
  // Ours and the peer take turns; the median of the rounds counts.
  auto measure = [&](Row row, const std::function<double()>& ours, const std::string& request, double scale) {
    std::vector<double> mine, theirs;
    for (int r = 0; r < rounds; ++r) {
      mine.push_back(ours() * scale);
      if (peer) theirs.push_back(peer->ask(request).at("seconds").get<double>() * scale);
    }
    row.ours = median(mine);
    if (!theirs.empty()) row.peer = median(theirs);
    rows.push_back(row);
    fmt::print("  {:<44} {:>10.3f} {}\n", row.name, row.ours, row.unit);
    fflush(stdout);
  };

  constexpr int64_t kOps = 30;
  for (int64_t n : {1, 8, 64}) {
    std::string name = fmt::format("tiny ops, {} element(s), per op and way", n);
    if (!wanted(name)) continue;
    auto w = std::make_shared<Tiny>(n, kOps);
    measure(
        {name, "ns", 0, {}, 0, "5x", "15x"},
        [w] {
          return time_of(
                     [&] {
                       for (int i = 0; i < 100; ++i) (*w)();
                     },
                     0.3, 20) /
                 100;
        },
        fmt::format("tiny {} {}", n, kOps), 1e9 / double(2 * kOps));
  }
  for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{256, 2304, 768},
                         {2048, 768, 768},
                         {2048, 3072, 768},
                         {5280, 1024, 256}}) {
    std::string name = fmt::format("linear+bias+gelu fwd+bwd {}x{}x{}", m, n, k);
    if (!wanted(name)) continue;
    auto w = std::make_shared<LinearGelu>(m, n, k);
    double flops = 6.0 * double(m) * double(n) * double(k);
    measure(
        {name, "ms", 0, {}, flops / peak * 1e3, "1.0x", "1.25x"}, [w] { return time_of([&] { (*w)(); }, 1, 3); },
        fmt::format("linear_gelu {} {} {}", m, n, k), 1e3);
  }
  constexpr int64_t B = 32, T = 165, W = 256, L = 4;
  std::string args = fmt::format("{} {} {} {}", B, T, W, L);
  double matrix = 12.0 * W * W * L + 256.0 * W, attention = 2.0 * T * W * L;  // multiply-adds per token, forward
  constexpr size_t kBudget = 270 << 20;  // for intermediate values: values are recomputed to stay below
  for (size_t budget : {size_t(0), kBudget}) {
    std::string name = budget ? "the same, memory_budget 270 MiB" : "BERT-like training step (4x256, 165, 32)";
    if (!wanted("BERT-like training step")) continue;
    auto w = std::make_shared<BertStep>(B, T, W, L, budget);
    measure(
        {name, "ms", 0, {}, 6.0 * double(B * T) * (matrix + attention) / peak * 1e3, "1.0x", "1.3x"},
        [w] { return time_of([&] { (*w)(); }, 2, 3); }, "bert_step " + args, 1e3);
  }
  if (wanted("relevance sweep")) {
    Sweeps s(B, T, W, L);
    std::vector<double> g, r;
    for (int i = 0; i < std::max(rounds, 3); ++i) {  // differences of the three, taken in turns
      double f = time_of([&] { s.forward.run(s.feeds); }, 1, 3);
      g.push_back(time_of([&] { s.gradient.run(s.feeds); }, 1, 3) - f);
      r.push_back(time_of([&] { s.relevance.run(s.feeds); }, 1, 3) - f);
    }
    double floor = 2.0 * double(B * T) * (matrix + 2 * attention) / peak * 1e3;
    rows.push_back(
        {"relevance sweep (peer: our data gradient)", "ms", median(r) * 1e3, median(g) * 1e3, floor, "0.77x", "0.91x"});
    fmt::print("  {:<44} {:>10.3f} ms\n", rows.back().name, rows.back().ours);
  }
  if (wanted("peak memory")) {
    std::optional<double> theirs;
    if (peer) theirs = torch_peer()->ask("bert_memory " + args).at("bytes").get<double>() / 1048576;
    for (size_t budget : {size_t(0), kBudget}) {
      double mine = std::atof(bytes_peak_child(argv[0], fmt::format("{} {}", args, budget)).c_str());
      rows.push_back({budget ? "the same, memory_budget 270 MiB" : "peak memory of the training step", "MiB",
                      mine / 1048576, theirs, 0, "1.0x", "2x"});
    }
  }

  fmt::print("\n{:<44} {:>10} {:>10}      {:>7} {:>9}  {:>6} {:>6}\n{}\n", "", "ours", "peer", "ratio", "of floor",
             "gate", "goal", std::string(106, '-'));
  nlohmann::json out{{"threads", cpu::num_threads()},
                     {"peak_gflops", peak * 1e-9},
                     {"peer", version},
                     {"rows", nlohmann::json::array()}};
  for (const Row& r : rows) {
    fmt::print("{:<44} {:>10.3f} {:>10} {:<4} {:>7} {:>9}  {:>6} {:>6}\n", r.name, r.ours,
               r.peer ? fmt::format("{:.3f}", *r.peer) : "-", r.unit,
               r.peer ? fmt::format("{:.2f}x", *r.peer / r.ours) : "-",
               r.floor > 0 ? fmt::format("{:.0f} %", 100 * r.floor / r.ours) : "-", r.gate, r.goal);
    out["rows"].push_back({{"name", r.name},
                           {"unit", r.unit},
                           {"ours", r.ours},
                           {"peer", r.peer ? nlohmann::json(*r.peer) : nlohmann::json()},
                           {"floor", r.floor}});
  }
  if (!json_path.empty()) std::ofstream(json_path) << out.dump(2) << "\n";
}
