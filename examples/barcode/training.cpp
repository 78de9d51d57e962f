#include "training.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "whence/nn/checkpoint.h"
#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/fit.h"

namespace barcode {

using namespace whence;
using nlohmann::json;

// ---- files --------------------------------------------------------------------------------------------------------

void save_model(const std::string& path, nn::Module& model, const models::BarcodeConfig& c,
                const std::vector<std::string>& classes) {
  json config{{"k", c.k},         {"max_tokens", c.max_tokens},   {"hidden", c.hidden},     {"layers", c.layers},
              {"heads", c.heads}, {"overlapping", c.overlapping}, {"spectrum", c.spectrum}, {"memory", c.memory}};
  save_checkpoint(path, model.state_dict(),
                  {{"format", "whence.barcode"}, {"config", config.dump()}, {"classes", json(classes).dump()}});
}

Saved load_model(const std::string& path) {
  Checkpoint c = load_checkpoint(path);
  if (!c.metadata.contains("config"))
    throw ValueError(path + " was not written by this program: no model configuration inside");
  Saved s;
  json config = json::parse(c.metadata.at("config"));
  s.config.k = config.at("k");
  s.config.max_tokens = config.at("max_tokens");
  s.config.hidden = config.at("hidden");
  s.config.layers = config.at("layers");
  s.config.heads = config.at("heads");
  s.config.overlapping = config.value("overlapping", false);
  s.config.spectrum = config.value("spectrum", 0);
  s.config.memory = config.value("memory", 0);
  s.classes = json::parse(c.metadata.at("classes")).get<std::vector<std::string>>();
  s.tensors.insert(c.tensors.begin(), c.tensors.end());
  return s;
}

KmerTokenizer tokenizer_of(const models::BarcodeConfig& c) {
  return KmerTokenizer({.k = int(c.k), .max_len = c.k * c.max_tokens});
}

std::map<std::string, Tensor> inputs(std::span<const std::string> sequences, const models::BarcodeConfig& c,
                                     std::span<const int> offsets) {
  const KmerTokenizer tokenizer = tokenizer_of(c);
  const int64_t n = int64_t(sequences.size()), T = tokenizer.length(), W = c.overlapping ? c.k : 1;
  Tensor ids = Tensor::empty(c.overlapping ? Shape{n, T, W} : Shape{n, T}, i32), mask = Tensor::empty({n, T}, u8);
  for (int64_t i = 0; i < n; ++i) {
    auto encode = c.overlapping ? &KmerTokenizer::encode_overlapping_into : &KmerTokenizer::encode_into;
    (tokenizer.*encode)(sequences[size_t(i)], offsets.empty() ? 0 : offsets[size_t(i)], ids.data<int32_t>() + i * T * W,
                        mask.data<uint8_t>() + i * T);
  }
  std::map<std::string, Tensor> all{{"ids", ids}, {"mask", mask}};
  if (c.spectrum) all["spectrum"] = kmer_spectra(sequences, int(c.spectrum));
  return all;
}

Dataset inputs_of(std::vector<std::string> sequences, const models::BarcodeConfig& config) {
  const int64_t n = int64_t(sequences.size());
  return {n, [sequences = std::move(sequences), config](std::span<const int64_t> picked, std::span<RandomStream>) {
            std::vector<std::string> some;
            for (int64_t i : picked) some.push_back(sequences[size_t(i)]);
            return inputs(some, config);
          }};
}

Fed::Fed(Graph& g, const Batch& batch) {
  ids = g.input("ids", batch["ids"]);
  mask = g.input("mask", batch["mask"], {.carries = false});
  if (batch.tensors.contains("spectrum")) spectrum = g.input("spectrum", batch["spectrum"]);
}

Fed::Fed(Var tokens, const models::BarcodeConfig& config) : ids(tokens) {
  Graph& g = ids.graph();
  mask = g.input("mask", {ids.size(0), ids.size(1)}, u8, {.carries = false});
  if (config.spectrum) spectrum = g.input("spectrum", {ids.size(0), config.spectrum_words()}, f32);
}

namespace {

std::vector<int> random_offsets(bool shift, int64_t k, std::span<RandomStream> random) {
  std::vector<int> offsets;
  for (RandomStream& r : random) offsets.push_back(shift ? int(r.below(k)) : 0);
  return offsets;
}

template <class Options> nn::TrainOptions train_options(const Options& o, const nn::Module& model, int64_t steps) {
  return {.clip_norm = 1,
          .schedule = nn::one_cycle(steps),
          .groups = nn::no_decay_on_vectors(model),
          .seed = o.seed,
          .graph = {.precision = mixed(dtype_from(o.precision))}};
}

}  // namespace

// ---- pretraining --------------------------------------------------------------------------------------------------

void pretrain(const PretrainOptions& o) {
  if (o.objective != "mae" && o.objective != "mlm")
    throw ValueError("--objective is mae or mlm, not '" + o.objective + "'");
  Barcodes b = load(o.data);
  std::vector<std::string> sequences;
  if (o.label.empty()) {
    sequences = b.sequence;
  } else {
    Labelled l = with_label(b, o.label, o.min_count);
    for (int64_t i : split(b, l, o.test_fraction, o.seed, o.data.validation).train)
      sequences.push_back(b.sequence[size_t(l.sample[size_t(i)])]);
  }
  const int64_t T = tokenizer_of(o.model).length();
  const bool mae = o.objective == "mae";
  if (!mae && (o.model.overlapping || o.model.spectrum))
    throw ValueError("overlapping words and the spectrum belong to --objective mae");
  const int64_t width = T - int64_t(double(T) * o.mask);  // equal widths share one plan
  fmt::print("pretrain: {} sequences, {} tokens each, {} objective\n", sequences.size(), T,
             mae ? "masked autoencoder" : "masked language model");

  Dataset data{int64_t(sequences.size()), [&](std::span<const int64_t> picked, std::span<RandomStream> random) {
                 std::vector<std::string> some;
                 for (int64_t i : picked) some.push_back(sequences[size_t(i)]);
                 auto x = inputs(some, o.model, random_offsets(o.shift, o.model.k, random));
                 const int64_t n = int64_t(picked.size());
                 std::vector<uint8_t> hidden(size_t(n * T));
                 for (int64_t i = 0; i < n; ++i) {
                   const uint8_t* live = x["mask"].data<uint8_t>() + i * T;
                   std::vector<int64_t> places;
                   for (int64_t t = 0; t < T; ++t)
                     if (live[t]) places.push_back(t);
                   random[size_t(i)].shuffle(std::span<int64_t>(places));
                   const int64_t known = int64_t(places.size());
                   for (int64_t p = std::min(width, known - int64_t(double(known) * o.mask)); p < known; ++p)
                     hidden[size_t(i * T + places[size_t(p)])] = 1;
                 }
                 if (mae) {
                   models::PackedTokens p = models::pack(x["ids"], x["mask"], hidden, width, o.predict_seen);
                   x["decoder_mask"] = x["mask"];
                   x["ids"] = p.ids, x["positions"] = p.positions, x["mask"] = p.mask, x["restore"] = p.restore;
                   x["labels"] = p.labels;
                   return x;
                 }
                 Tensor labels = x["labels"] = Tensor::full({n, T}, -100, i32);
                 for (int64_t i = 0; i < n * T; ++i) {
                   int32_t& id = x["ids"].data<int32_t>()[i];
                   if (x["mask"].data<uint8_t>()[i] && id >= KmerTokenizer::kFirstWord)
                     labels.data<int32_t>()[i] = id - KmerTokenizer::kFirstWord;
                   if (hidden[size_t(i)]) id = KmerTokenizer::kMask;
                 }
                 return x;
               }};
  DataLoader loader(data, {.batch_size = o.batch, .drop_last = true, .seed = o.seed});
  auto train = [&](auto& model, nn::TrainStep::Loss loss) {
    model.init(o.seed);
    nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .weight_decay = o.weight_decay}, loss,
                       train_options(o, model, o.epochs * loader.batches()));
    nn::FitResult r = nn::fit(step, loader, {.epochs = o.epochs, .folder = o.out, .label = "pretrain"});
    if (r.interrupted) throw Error("interrupted; the same command goes on from " + o.out);
    save_model(o.out + "/encoder.safetensors", model, o.model, {});
    fmt::print("pretrain: mean loss of the last epoch {:.4f} (chance {:.4f}); {}/encoder.safetensors\n", r.loss,
               std::log(double(o.model.classes())), o.out);
  };
  InputOptions side{.carries = false};
  if (mae) {
    models::BarcodeMae model(o.model);
    train(model, [&](Graph& g, const Batch& x) {
      Fed in(g, x);
      return model.loss(in.ids, g.input("positions", x["positions"], side), in.mask,
                        g.input("restore", x["restore"], side), g.input("labels", x["labels"], side),
                        g.input("decoder_mask", x["decoder_mask"], side), in.spectrum);
    });
  } else {
    models::BarcodeBert model(o.model);
    train(model, [&](Graph& g, const Batch& x) {
      Fed in(g, x);
      return model.loss(in.ids, g.input("labels", x["labels"], side),
                        {.positions = {}, .token_types = {}, .mask = in.mask});
    });
  }
}

// ---- fine-tuning --------------------------------------------------------------------------------------------------

FinetuneResult finetune(const FinetuneOptions& o) {
  Barcodes b = load(o.data);
  Labelled l = with_label(b, o.label, o.min_count);
  if (l.names.size() < 2)
    throw ValueError("column '" + o.label + "' gives fewer than two classes with " + std::to_string(o.min_count) +
                     " sequences");
  Split sides = split(b, l, o.test_fraction, o.seed, o.data.validation);
  models::BarcodeConfig config = o.model;
  std::map<std::string, Tensor> pretrained;
  if (!o.encoder.empty()) {
    Saved s = load_model(o.encoder);
    config = s.config;
    config.dropout = o.model.dropout;
    if (o.model.spectrum) config.spectrum = o.model.spectrum;
    pretrained = std::move(s.tensors);
  }
  fmt::print("finetune: {} training and {} {} sequences, {} classes of {}\n", sides.train.size(), sides.test.size(),
             o.data.validation ? "validation" : "test", l.names.size(), o.label);
  auto pick = [](const std::vector<int64_t>& from, auto&& value) {
    std::vector<std::decay_t<decltype(value(0))>> out;
    for (int64_t i : from) out.push_back(value(size_t(i)));
    return out;
  };
  auto label = [&](size_t i) { return l.label[i]; };
  auto sequence = [&](size_t i) { return b.sequence[size_t(l.sample[i])]; };
  const std::vector<std::string> known = pick(sides.train, sequence), unknown = pick(sides.test, sequence);

  Dataset data{int64_t(known.size()), [&](std::span<const int64_t> picked, std::span<RandomStream> random) {
                 std::vector<std::string> some;
                 Tensor classes = Tensor::empty({int64_t(picked.size())}, i32);
                 for (size_t i = 0; i < picked.size(); ++i) {
                   some.push_back(known[size_t(picked[i])]);
                   classes.data<int32_t>()[i] = int32_t(l.label[size_t(sides.train[size_t(picked[i])])]);
                 }
                 auto x = inputs(some, config, random_offsets(o.shift, config.k, random));
                 x["label"] = classes;
                 return x;
               }};
  config.memory = config.spectrum && o.memory ? int64_t(known.size()) : 0;
  DataLoader loader(data, {.batch_size = o.batch, .drop_last = int64_t(known.size()) >= o.batch, .seed = o.seed});
  models::BarcodeClassifier model(config, int64_t(l.names.size()));
  model.init(o.seed);
  if (!pretrained.empty()) models::load_encoder(model, pretrained);
  if (config.spectrum) model.remember(kmer_spectra(known, int(config.spectrum)), pick(sides.train, label));
  nn::TrainStep step(
      model, nn::AdamW{.lr = o.lr, .weight_decay = o.weight_decay},
      [&](Graph& g, const Batch& x) {
        Fed in(g, x);
        return cross_entropy(model(in.ids, in.mask, in.spectrum), g.input("label", x["label"], {.carries = false}),
                             {.label_smoothing = o.label_smoothing});
      },
      train_options(o, model, o.epochs * loader.batches()));
  if (nn::fit(step, loader, {.epochs = o.epochs, .folder = o.out, .label = "finetune"}).interrupted)
    throw Error("interrupted; the same command goes on from " + o.out);
  save_model(o.out + "/classifier.safetensors", model, config, l.names);

  FinetuneResult r{.train = int64_t(known.size()), .test = int64_t(unknown.size()), .classes = int64_t(l.names.size())};
  if (unknown.empty()) return r;
  const std::vector<int64_t> truth = pick(sides.test, label);
  nn::EvalStep eval(model, [&](Graph& g, const Batch& x) -> nn::EvalStep::Named {
    Fed in(g, x);
    return {{"predicted", argmax(model(in.ids, in.mask, in.spectrum))}};
  });
  DataLoader tests = nn::in_order(inputs_of(unknown, config));
  const std::vector<int64_t> predicted = eval.over(tests).at("predicted").to_vector<int64_t>();
  int64_t right = 0;
  for (size_t i = 0; i < truth.size(); ++i) right += predicted[i] == truth[i];
  r.accuracy = double(right) / double(r.test);
  r.baseline = neighbour_accuracy(nearest_neighbours(kmer_profiles(unknown, 5), kmer_profiles(known, 5)), truth,
                                  pick(sides.train, label))
                   .fraction();
  fmt::print("finetune: {} accuracy {:.1f} % (5-mer 1-NN on the same sides {:.1f} %); {}/classifier.safetensors\n",
             o.data.validation ? "validation" : "test", 100 * r.accuracy, 100 * r.baseline, o.out);
  return r;
}

}  // namespace barcode
