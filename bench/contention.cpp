// A busy machine: one training alone, then two at the same time on the same cores, and what the second one costs the
// first. Two of PyTorch do the same where `python3 -c "import torch"` works (WHENCE_PYTHON names another interpreter).
//
//   bench_contention [--rounds N] [--seconds S]
//
// Four processes live throughout and wait on a pipe while it is not their turn; the turns of a round follow each other
// closely, and medians over the rounds are compared, so that other load on the machine falls on all of them.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bert_step.h"
#include "peer.h"
#include "whence/tensor/parallel.h"

using namespace bench;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* kSizes = "8 73 128 2";  // batch, tokens, width, layers: small steps, as in pretraining barcodes

// One of the two: reads "train SECONDS SIZES", answers with the steps per second.
int worker() {
  std::unique_ptr<BertStep> step;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb;
    double seconds;
    int64_t batch, tokens, width, layers;
    words >> verb >> seconds >> batch >> tokens >> width >> layers;
    if (!step) step = std::make_unique<BertStep>(batch, tokens, width, layers);
    int64_t steps = 0;
    const auto begin = Clock::now();
    double passed = 0;
    while (passed < seconds) {
      (*step)();
      ++steps;
      passed = std::chrono::duration<double>(Clock::now() - begin).count();
    }
    std::cout << nlohmann::json{{"steps_per_second", double(steps) / passed}} << std::endl;
  }
  return 0;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

struct Contest {
  std::string name;
  std::unique_ptr<Peer> first, second;
  std::vector<double> alone, together;  // steps per second of one process

  void round(const std::string& request) {
    auto rate = [](nlohmann::json answer) { return answer.at("steps_per_second").get<double>(); };
    alone.push_back(rate(first->ask(request)));
    first->send(request);
    second->send(request);
    together.push_back((rate(first->receive()) + rate(second->receive())) / 2);
    alone.push_back(rate(second->ask(request)));
  }
};

}  // namespace

int main(int argc, char** argv) {
  int rounds = 5, seconds = 4;
  for (int i = 1; i < argc; ++i) {
    if (!strcmp(argv[i], "--worker")) return worker();
    if (!strcmp(argv[i], "--rounds") && i + 1 < argc) rounds = std::max(1, atoi(argv[++i]));
    if (!strcmp(argv[i], "--seconds") && i + 1 < argc) seconds = std::max(1, atoi(argv[++i]));
  }
  const std::vector<std::string> ours{"/proc/self/exe", "--worker"};
  std::vector<Contest> contests;
  contests.push_back({"Whence", std::make_unique<Peer>(ours), std::make_unique<Peer>(ours), {}, {}});
  if (auto torch = torch_peer()) {
    std::string name = "PyTorch " + torch->ask("version").at("version").get<std::string>();
    contests.push_back({name, std::move(torch), torch_peer(), {}, {}});
  }
  for (Contest& c : contests)
    for (Peer* p : {c.first.get(), c.second.get()}) p->ask(fmt::format("train 1 {}", kSizes));  // records, compiles
  for (int r = 0; r < rounds; ++r)
    for (Contest& c : contests) c.round(fmt::format("train {} {}", seconds, kSizes));

  fmt::print("BERT-like training step (2x128, 73 tokens, batch 8), {} threads each, {} rounds of {} s\n\n",
             whence::cpu::num_threads(), rounds, seconds);
  fmt::print("{:<28} {:>16} {:>22} {:>14}   {:>8}\n{}\n", "", "alone, steps/s", "two at once, each", "times slower",
             "gate", std::string(94, '-'));
  for (const Contest& c : contests)
    fmt::print("{:<28} {:>16.2f} {:>22.2f} {:>14.2f}   {:>8}\n", c.name, median(c.alone), median(c.together),
               median(c.alone) / median(c.together), &c == contests.data() ? "<= 2.5" : "");
}
