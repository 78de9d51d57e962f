#include "training.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "whence/nn/checkpoint.h"
#include "whence/nn/data/loader.h"
#include "whence/nn/data/unicode.h"
#include "whence/nn/io/file.h"
#include "whence/nn/metrics.h"
#include "whence/nn/progress.h"
#include "whence/nn/train.h"

namespace gpt {

using namespace whence;

namespace {

constexpr int64_t kValidationBatches = 16;  // at most

volatile std::sig_atomic_t stop_asked = 0;
void ask_to_stop(int signal) {
  stop_asked = 1;
  std::signal(signal, SIG_DFL);  // a second one ends the program at once
}

struct Corpus {
  Vocabulary vocabulary;
  std::vector<int32_t> train, validation;
  double bytes_per_token;
};

Corpus corpus_of(const TrainOptions& o) {
  std::string text = read_text(o.text);
  if (size_t valid = unicode::valid_until(text); valid < text.size())
    throw ValueError(o.text + ": the text is no UTF-8 at byte " + std::to_string(valid));
  size_t cut = size_t(double(text.size()) * (1 - o.validation));
  while (cut > 0 && cut < text.size() && (uint8_t(text[cut]) & 0xc0) == 0x80) --cut;  // a character stays whole
  std::string first = text.substr(0, cut), last = text.substr(cut);
  Corpus c{o.tokens == "char" ? Vocabulary::characters(text) : Vocabulary::pairs(first, o.vocabulary), {}, {}, 0};
  c.train = c.vocabulary.encode(first);
  c.validation = c.vocabulary.encode(last);
  for (auto [name, part] : {std::pair("training", &c.train), std::pair("validation", &c.validation)})
    if (int64_t(part->size()) <= o.context)
      throw ValueError(
          fmt::format("{}: the {} part has {} tokens, a context of {} needs more (--context, --validation)", o.text,
                      name, part->size(), o.context));
  c.bytes_per_token = double(last.size()) / double(c.validation.size());
  return c;
}

void copy_window(const std::vector<int32_t>& tokens, int64_t begin, int64_t length, int32_t* to) {
  std::copy_n(tokens.begin() + begin, length, to);
}

// Windows side by side, each moved by a random distance of its own.
Dataset windows(const std::vector<int32_t>& tokens, int64_t T) {
  const int64_t n = int64_t(tokens.size());
  return {n / T, [&tokens, n, T](std::span<const int64_t> picked, std::span<RandomStream> random) {
            Tensor ids = Tensor::empty({int64_t(picked.size()), T}, i32);
            for (size_t i = 0; i < picked.size(); ++i) {
              int64_t begin = std::min(picked[i] * T + random[i].below(T), n - T);
              copy_window(tokens, begin, T, ids.data<int32_t>() + int64_t(i) * T);
            }
            return std::map<std::string, Tensor>{{"ids", ids}};
          }};
}

// Mean loss over windows that are spread over the validation part.
class Validation {
 public:
  Validation(const models::Gpt2& model, const std::vector<int32_t>& tokens, int64_t T, int64_t batch) {
    const int64_t fit = int64_t(tokens.size()) / T, rows = std::min(batch, fit);
    const int64_t batches = std::min(kValidationBatches, fit / rows), all = batches * rows;
    for (int64_t b = 0; b < batches; ++b) {
      Tensor& ids = batches_.emplace_back(Tensor::empty({rows, T}, i32));
      for (int64_t i = 0; i < rows; ++i)
        copy_window(tokens, (b * rows + i) * (int64_t(tokens.size()) - T) / std::max<int64_t>(all - 1, 1), T,
                    ids.data<int32_t>() + i * T);
    }
    Var ids = graph_.input("ids", {rows, T}, i32);
    plan_ = compile({models::next_token_loss(model(ids), ids)});
  }
  double loss() {
    double sum = 0;
    for (const Tensor& ids : batches_) sum += plan_.run({{"ids", ids}})[0].item();
    return sum / double(batches_.size());
  }

 private:
  Graph graph_;
  Plan plan_;
  std::vector<Tensor> batches_;
};

// What a run depends on: another text or other options are another run.
std::string settings_of(const TrainOptions& o, const Corpus& c) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a of the tokens
  for (const auto* part : {&c.train, &c.validation})
    for (int32_t id : *part) hash = (hash ^ uint64_t(uint32_t(id))) * 0x100000001b3u;
  return fmt::format(
      "tokens {} ({} of them, {:016x}), context {}, hidden {}, layers {}, heads {}, steps {}, batch {}, lr "
      "{}, weight decay {}, evaluate every {}, seed {}",
      o.tokens, c.vocabulary.size(), hash, o.context, o.hidden, o.layers, o.heads, o.steps, o.batch, o.lr,
      o.weight_decay, o.evaluate_every, o.seed);
}

}  // namespace

void train(const TrainOptions& o) {
  Corpus corpus = corpus_of(o);
  const std::string settings = settings_of(o, corpus), metrics_path = o.out + "/metrics.jsonl";
  Language language{corpus.vocabulary,
                    std::make_unique<models::Gpt2>(models::Gpt2Config{.vocab_size = corpus.vocabulary.size(),
                                                                      .max_positions = o.context,
                                                                      .hidden_size = o.hidden,
                                                                      .layers = o.layers,
                                                                      .heads = o.heads,
                                                                      .dropout = 0})};
  models::Gpt2& model = *language.model;
  model.init(o.seed);
  fmt::print("train: {} {} ({} different ones), {} for validation; {} parameters\n", corpus.train.size(),
             corpus.vocabulary.kind(), corpus.vocabulary.size(), corpus.validation.size(), model.parameter_count());

  Dataset data = windows(corpus.train, o.context);
  DataLoader loader(data, {.batch_size = std::min(o.batch, data.size), .drop_last = true, .seed = o.seed});
  nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .beta2 = 0.95, .weight_decay = o.weight_decay},
                     [&](Graph& g, const Batch& batch) {
                       Var ids = g.input("ids", batch["ids"]);
                       return models::next_token_loss(model(ids), ids);
                     },
                     {.clip_norm = 1,
                      .schedule = nn::cosine_schedule(o.steps, std::min<int64_t>(o.steps / 10 + 1, 200), 0.1),
                      .groups = nn::no_decay_on_vectors(model),
                      .seed = o.seed});

  std::filesystem::create_directories(o.out);
  CheckpointFolder folder(o.out + "/checkpoints", 2);
  double best = std::numeric_limits<double>::infinity();
  if (auto found = folder.latest()) {
    Checkpoint saved = load_checkpoint(found->path);
    if (saved.metadata["settings"] != settings)
      throw ValueError(fmt::format("{} holds a run of other options; choose another --out.\n  there: {}\n  now:   {}",
                                   o.out, saved.metadata["settings"], settings));
    step.load_state(saved.tensors);
    loader.restore(LoaderState::parse(saved.metadata.at("loader")));
    best = std::stod(saved.metadata.at("best"));
    fmt::print("train: goes on at step {}\n", step.steps());
  }
  rewind_metrics(metrics_path, "step", double(step.steps()));
  MetricsWriter metrics(metrics_path);
  auto save_state = [&] {
    folder.save(step.steps(), step.state(),
                {{"settings", settings}, {"loader", loader.state().str()}, {"best", fmt::format("{}", best)}});
  };

  Validation validation(model, corpus.validation, o.context, o.batch);
  stop_asked = 0;
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, ask_to_stop);
  Progress bar(o.steps, "train");
  bar.update(step.steps());
  double smooth = 0;
  while (step.steps() < o.steps && !stop_asked) {
    double loss = step(loader.next());
    smooth = smooth == 0 ? loss : 0.95 * smooth + 0.05 * loss;
    metrics.write({{"step", step.steps()}, {"loss", loss}, {"lr", step.learning_rate()}});
    bar.advance(1, fmt::format("loss {:.3f}", smooth));
    if (step.steps() % o.evaluate_every && step.steps() < o.steps) continue;
    double held_out = validation.loss();
    metrics.write({{"step", step.steps()}, {"validation", held_out}});
    bar.message(fmt::format("step {}: validation loss {:.4f}, {:.3f} bits per byte", step.steps(), held_out,
                            held_out / std::log(2) / corpus.bytes_per_token));
    if (held_out < best) {
      best = held_out;
      save(o.out + "/model.safetensors", language);
    }
    save_state();
  }
  bar.finish();
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  if (step.steps() < o.steps) save_state();

  auto lines = read_metrics(metrics_path);
  auto [x, y] = metric_series(lines, "step", "loss");
  auto [vx, vy] = metric_series(lines, "step", "validation");
  save_curves(o.out + "/loss.svg", {{"training", x, y}, {"validation", vx, vy}},
              {.title = "loss", .y_label = "nats per token"});
  if (step.steps() < o.steps)
    fmt::print("train: stopped at step {} of {}; the same command goes on from here\n", step.steps(), o.steps);
  else
    fmt::print("train: lowest validation loss {:.4f}, {:.3f} bits per byte; {}/model.safetensors\n", best,
               best / std::log(2) / corpus.bytes_per_token, o.out);
}

}  // namespace gpt
