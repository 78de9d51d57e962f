#include "training.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "whence/nn/data/loader.h"
#include "whence/nn/data/text.h"
#include "whence/nn/evaluate.h"
#include "whence/nn/fit.h"
#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"
#include "whence/nn/metrics.h"

namespace gpt {

using namespace whence;

namespace {

constexpr int64_t kValidationWindows = 256;  // at most

struct Corpus {
  Vocabulary vocabulary;
  std::vector<int32_t> train, validation;
  double bytes_per_token;
};

Corpus corpus_of(const TrainOptions& o) {
  std::string text = read_text(o.text);
  try {
    (void)decode_utf8(text);
  } catch (const ValueError& e) {
    throw ValueError(o.text + ": " + e.what());
  }
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

// `count` windows of T tokens; begin(sample, random) says where each begins.
Dataset windows(const std::vector<int32_t>& tokens, int64_t T, int64_t count,
                std::function<int64_t(int64_t sample, RandomStream& random)> begin) {
  return {count, [&tokens, T, begin](std::span<const int64_t> samples, std::span<RandomStream> random) {
            Tensor ids = Tensor::empty({int64_t(samples.size()), T}, i32);
            for (size_t i = 0; i < samples.size(); ++i)
              std::copy_n(tokens.begin() + begin(samples[i], random[i]), T, ids.data<int32_t>() + int64_t(i) * T);
            return std::map<std::string, Tensor>{{"ids", ids}};
          }};
}

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

// Only the run that a folder holds may go on in it.
void begin_run(const std::string& folder, const std::string& settings) {
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/run.txt";
  if (!std::filesystem::exists(path)) write_file_atomically(path, settings);
  if (std::string there = read_text(path); there != settings)
    throw ValueError(fmt::format("{} holds a run of other options; choose another --out.\n  there: {}\n  now:   {}",
                                 folder, there, settings));
}

}  // namespace

bool train(const TrainOptions& o) {
  Corpus corpus = corpus_of(o);
  begin_run(o.out, settings_of(o, corpus));
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

  // An epoch is as many batches of windows from anywhere in the text as lie between two looks at the validation part.
  const int64_t T = o.context, places = int64_t(corpus.train.size()) - T + 1,
                held = int64_t(corpus.validation.size()) - T;
  DataLoader loader(windows(corpus.train, T, o.evaluate_every * o.batch,
                            [&](int64_t, RandomStream& random) { return random.below(places); }),
                    {.batch_size = o.batch, .seed = o.seed});
  const int64_t epochs = (o.steps + o.evaluate_every - 1) / o.evaluate_every, steps = epochs * o.evaluate_every,
                shown = std::min(kValidationWindows, held / T + 1);
  const Dataset validation = windows(corpus.validation, T, shown, [&](int64_t sample, RandomStream&) {
    return sample * held / std::max<int64_t>(shown - 1, 1);
  });

  auto loss = [&](Graph& g, const Batch& batch) {
    Var ids = g.input("ids", batch["ids"]);
    return models::next_token_loss(model(ids), ids);
  };
  nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .beta2 = 0.95, .weight_decay = o.weight_decay}, loss,
                     {.clip_norm = 1,
                      .schedule = nn::cosine_schedule(steps, std::min<int64_t>(steps / 10 + 1, 200), 0.1),
                      .groups = nn::no_decay_on_vectors(model),
                      .seed = o.seed});
  nn::EvalStep eval(model, [&](Graph& g, const Batch& b) -> nn::EvalStep::Named { return {{"loss", loss(g, b)}}; });
  auto validate = [&] {
    DataLoader all = nn::in_order(validation, o.batch);
    const double nats = eval.over(all)["loss"].item();
    return std::map<std::string, double>{{"validation", nats},
                                         {"bits_per_byte", nats / std::log(2) / corpus.bytes_per_token}};
  };
  const nn::FitResult r =
      nn::fit(step, loader, {.epochs = epochs, .folder = o.out, .validate = validate, .watch = "validation"});

  save(o.out + "/model.safetensors", language);
  auto lines = read_metrics(o.out + "/metrics.jsonl");
  auto [x, y] = metric_series(lines, "batch", "loss");
  auto [vx, vy] = metric_series(lines, "batch", "epoch_validation");
  save_curves(o.out + "/loss.svg", {{"training", x, y}, {"validation", vx, vy}},
              {.title = "loss", .y_label = "nats per token", .smoothing = 0.9});
  if (r.interrupted) fmt::print("train: stopped; the same command goes on from here\n");
  else
    fmt::print("train: validation loss {:.4f} nats per token, {:.3f} bits per byte; {}/model.safetensors\n", r.best,
               r.best / std::log(2) / corpus.bytes_per_token, o.out);
  return !r.interrupted;
}

}  // namespace gpt
