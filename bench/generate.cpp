// Tokens per second of greedy decoding: stories260K (its file as the first argument, else random weights of its size),
// a GPT-2 of 25 million parameters, and stories260K eight sequences at once.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "whence/models/generate.h"
#include "whence/models/gpt2.h"
#include "whence/models/llama2c.h"

using namespace whence;
using namespace whence::models;

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class Model> void measure(const char* name, Model& model, size_t batch, int64_t tokens, int repeats) {
  Decoder decoder(model);
  const std::vector<Tokens> prompts(batch, Tokens{1});
  std::vector<double> times;
  for (int i = 0; i <= repeats; ++i) {  // the first run compiles
    const double begin = seconds();
    decoder.generate(prompts, {.max_new_tokens = tokens});
    times.push_back(seconds() - begin);
  }
  std::sort(times.begin() + 1, times.end());
  const double best = times[1], median = times[size_t(1 + repeats / 2)];
  fmt::print("{:<32} {:>3} x {:>3} tokens  {:>9.0f} tokens/s (best {:.0f})  {:>8.1f} us a step  first run {:.1f} ms\n",
             name, batch, tokens, double(batch) * double(tokens) / median, double(batch) * double(tokens) / best,
             1e6 * median / double(tokens), 1e3 * times[0]);
}

LlamaConfig stories260K() {
  LlamaConfig c;
  c.vocab_size = 512, c.hidden_size = 64, c.layers = 5, c.heads = 8, c.kv_heads = 4, c.intermediate_size = 172;
  c.max_positions = 512, c.rms_norm_eps = 1e-5, c.tied = true;
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<Llama> stories = argc > 1 ? load_llama2c(argv[1]) : std::make_unique<Llama>(stories260K());
  measure("stories260K", *stories, 1, 200, 20);
  measure("stories260K", *stories, 1, 500, 10);
  measure("stories260K", *stories, 8, 200, 10);
  Gpt2 gpt({.vocab_size = 16000, .max_positions = 512, .hidden_size = 384, .layers = 10, .heads = 6});
  measure(fmt::format("GPT-2 of {:.1f} M parameters", 1e-6 * double(gpt.parameter_count())).c_str(), gpt, 1, 200, 5);
}
