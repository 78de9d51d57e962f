// A GPT on any text: train it, let it write, and see what a prediction rests on.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>

#include "training.h"
#include "whence/lrp/explain.h"
#include "whence/models/generate.h"

using namespace whence;

namespace {

struct GenerateOptions {
  std::string model, prompt = "\n";
  int64_t tokens = 300;
  models::GenerateOptions sampling{.temperature = 0.8, .top_k = 50};
};

// What a reader can see of the tokens so far: not the first bytes of a character that is not whole yet.
std::string readable(const gpt::Vocabulary& vocabulary, const std::vector<int32_t>& ids) {
  std::string text = vocabulary.decode(ids);
  while (text.ends_with("\xef\xbf\xbd")) text.resize(text.size() - 3);
  return text;
}

void generate(const GenerateOptions& o) {
  gpt::Language language = gpt::load(o.model);
  std::vector<int32_t> prompt = language.vocabulary.encode(o.prompt), written;
  if (prompt.empty()) throw ValueError("--prompt is empty");
  models::Tokens tokens(prompt.begin(), prompt.end());
  fmt::print("{}", o.prompt);
  size_t printed = 0;
  models::GenerateOptions sampling = o.sampling;
  sampling.on_token = [&](size_t, int64_t token) {
    written.push_back(int32_t(token));
    std::string text = readable(language.vocabulary, written);
    if (text.size() > printed) fmt::print("{}", text.substr(printed));
    printed = std::max(printed, text.size());
    std::fflush(stdout);
  };
  const int64_t context = language.model->config.max_positions;
  models::Decoder decoder(*language.model);
  // A text longer than the context goes on from its last half.
  while (int64_t(written.size()) < o.tokens) {
    if (int64_t(tokens.size()) >= context)
      tokens.erase(tokens.begin(), tokens.end() - std::max<int64_t>(context / 2, 1));
    sampling.max_new_tokens = std::min(o.tokens - int64_t(written.size()), context - int64_t(tokens.size()));
    std::vector<models::Tokens> more = decoder.generate(std::vector<models::Tokens>{tokens}, sampling);
    tokens.insert(tokens.end(), more[0].begin(), more[0].end());
    ++sampling.seed;
  }
  fmt::print("\n");
}

struct ExplainOptions {
  std::string model, prompt, target, rules = "attn", out = "why.html";
};

void explain(const ExplainOptions& o) {
  gpt::Language language = gpt::load(o.model);
  const gpt::Vocabulary& vocabulary = language.vocabulary;
  std::vector<int32_t> ids = vocabulary.encode(o.prompt);
  if (ids.empty()) throw ValueError("--prompt is empty");
  const size_t context = size_t(language.model->config.max_positions);
  if (ids.size() > context) ids.erase(ids.begin(), ids.end() - ptrdiff_t(context));

  lrp::ExplainOptions options{.rules = lrp::preset(o.rules), .title = "Why this next token?"};
  options.subtitle = o.model;
  for (int32_t id : ids) options.tokens.push_back(vocabulary.shown(id));
  for (int32_t id = 0; id < vocabulary.size(); ++id) options.classes.push_back(vocabulary.shown(id));
  if (!o.target.empty()) options.target = vocabulary.encode(o.target).at(0);
  options.removed_token = vocabulary.blank();  // of the curves
  auto next = [&](Var batch) { return language.model->logits(select(language.model->hidden(batch), 1, -1)); };
  lrp::Explanation why = lrp::explain(next, Tensor::from(ids), options);
  why.write_html(o.out);
  fmt::print("explain: '{}' with probability {:.3f} after {} tokens; {}\n", options.classes[size_t(why.target)],
             why.probabilities[size_t(why.target)], ids.size(), o.out);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Train a GPT on any text, let it write, and see which tokens a prediction rests on."};
  app.require_subcommand(1);

  bool done = true;
  gpt::TrainOptions t;
  auto* train = app.add_subcommand("train", "learn to predict the next token; a run that was stopped goes on");
  train->add_option("--text", t.text, "any text in UTF-8, plain or gzip")->required()->check(CLI::ExistingFile);
  train->add_option("--tokens", t.tokens, "bpe: pieces of words, learnt from the text; char: characters")
      ->capture_default_str()
      ->check(CLI::IsMember({"bpe", "char"}));
  train->add_option("--vocabulary", t.vocabulary, "number of pieces (bpe)")
      ->capture_default_str()
      ->check(CLI::Range(256, 65536));
  train->add_option("--context", t.context, "tokens that the model sees")
      ->capture_default_str()
      ->check(CLI::Range(2, 4096));
  train->add_option("--hidden", t.hidden, "width of the model")->capture_default_str()->check(CLI::PositiveNumber);
  train->add_option("--layers", t.layers, "transformer blocks")->capture_default_str()->check(CLI::PositiveNumber);
  train->add_option("--heads", t.heads, "attention heads; divide the width")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  train->add_option("--steps", t.steps, "updates, rounded up to whole --evaluate-every")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  train->add_option("--batch", t.batch, "windows per step")->capture_default_str()->check(CLI::PositiveNumber);
  train->add_option("--lr", t.lr, "peak learning rate (AdamW, warm-up and cosine)")->capture_default_str();
  train->add_option("--weight-decay", t.weight_decay, "decoupled weight decay, matrices only")->capture_default_str();
  train->add_option("--validation", t.validation, "share of the text, from its end, kept for validation")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 0.9));
  train->add_option("--evaluate-every", t.evaluate_every, "steps between validations and checkpoints")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  train->add_option("--seed", t.seed, "initial weights and order of the windows")->capture_default_str();
  train->add_option("--out", t.out, "folder for model.safetensors, checkpoints, metrics.jsonl and loss.svg")
      ->capture_default_str();
  train->callback([&] { done = gpt::train(t); });

  GenerateOptions g;
  auto* write = app.add_subcommand("generate", "write a text, token by token");
  write->add_option("--model", g.model, "model.safetensors of train")->required()->check(CLI::ExistingFile);
  write->add_option("--prompt", g.prompt, "how the text begins");
  write->add_option("--length", g.tokens, "tokens to write")->capture_default_str()->check(CLI::NonNegativeNumber);
  write->add_option("--temperature", g.sampling.temperature, "0: always the most probable token")
      ->capture_default_str();
  write->add_option("--top-k", g.sampling.top_k, "draw from so many most probable tokens; 0: from all")
      ->capture_default_str();
  write->add_option("--top-p", g.sampling.top_p, "draw from the fewest tokens that have this probability together")
      ->capture_default_str();
  write->add_option("--seed", g.sampling.seed, "equal seeds, equal texts")->capture_default_str();
  write->callback([&] { generate(g); });

  ExplainOptions x;
  auto* why = app.add_subcommand("explain", "one HTML page: which tokens the prediction of the next one rests on");
  why->add_option("--model", x.model, "model.safetensors of train")->required()->check(CLI::ExistingFile);
  why->add_option("--prompt", x.prompt, "the text before the token")->required();
  why->add_option("--target", x.target, "a text whose first token is explained; else the most probable token");
  why->add_option("--rules", x.rules, "attn, cp, dynamic or epsilon")->capture_default_str();
  why->add_option("--out", x.out, "the page")->capture_default_str();
  why->callback([&] { explain(x); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return done ? 0 : 130;  // as a shell has it for what Ctrl-C ended
}
