#include "training.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "whence/nn/checkpoint.h"
#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/metrics.h"
#include "whence/nn/progress.h"

namespace barcode {

using namespace whence;
using nlohmann::json;

// ---- the loop -----------------------------------------------------------------------------------------------------

double run(nn::TrainStep& step, DataLoader& loader, const LoopOptions& o) {
  std::filesystem::create_directories(o.out);
  CheckpointFolder folder(o.out + "/checkpoints", 2);
  std::string metrics_path = o.out + "/metrics.jsonl";
  if (auto found = folder.latest()) {
    Checkpoint c = load_checkpoint(found->path);
    step.load_state(c.tensors);
    loader.restore(LoaderState::parse(c.metadata.at("loader")));
    rewind_metrics(metrics_path, "step", double(step.steps()));
  }
  auto save = [&] { folder.save(step.steps(), step.state(), {{"loader", loader.state().str()}}); };
  MetricsWriter metrics(metrics_path);
  int64_t total = o.epochs * loader.batches();
  Progress bar(total, o.label);
  bar.update(step.batches());
  double smooth = 0;
  while (step.batches() < total) {
    Batch batch = loader.next();
    double loss = step(batch);
    smooth = smooth == 0 ? loss : 0.95 * smooth + 0.05 * loss;
    metrics.write({{"step", step.steps()},
                   {"epoch", batch.epoch},
                   {"loss", loss},
                   {"lr", step.learning_rate()},
                   {"grad_norm", step.gradient_norm()}});
    bar.advance(1, fmt::format("epoch {}/{}  loss {:.4f}", batch.epoch + 1, o.epochs, smooth));
    if (step.batches() % o.checkpoint_every == 0 || step.batches() == total) save();
  }
  bar.finish();
  auto lines = read_metrics(metrics_path);
  auto [x, y] = metric_series(lines, "step", "loss");
  save_curves(o.out + "/loss.svg", {{"loss", x, y}}, {.title = o.label, .y_label = "loss", .smoothing = 0.9});
  int64_t tail = std::min<int64_t>(loader.batches(), int64_t(y.size()));
  return tail ? std::accumulate(y.end() - tail, y.end(), 0.0) / double(tail) : 0;
}

// ---- files --------------------------------------------------------------------------------------------------------

void save_model(const std::string& path, nn::Module& model, const models::BarcodeConfig& c,
                const std::vector<std::string>& classes) {
  json config{{"k", c.k}, {"max_tokens", c.max_tokens}, {"hidden", c.hidden}, {"layers", c.layers}, {"heads", c.heads}};
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
  s.classes = json::parse(c.metadata.at("classes")).get<std::vector<std::string>>();
  s.tensors.insert(c.tensors.begin(), c.tensors.end());
  return s;
}

KmerTokenizer tokenizer_of(const models::BarcodeConfig& c) {
  return KmerTokenizer({.k = int(c.k), .max_len = c.k * c.max_tokens});
}

std::pair<Tensor, Tensor> tokens(const Barcodes& b, std::span<const int64_t> samples, const KmerTokenizer& t) {
  int64_t n = int64_t(samples.size()), T = t.length();
  Tensor ids = Tensor::empty({n, T}, i32), mask = Tensor::empty({n, T}, u8);
  for (int64_t i = 0; i < n; ++i)
    t.encode_into(b.sequence[size_t(samples[size_t(i)])], 0, ids.data<int32_t>() + i * T, mask.data<uint8_t>() + i * T);
  return {ids, mask};
}

Tensor in_batches(const Tensor& ids, const Tensor& mask, const std::function<Var(Var, Var)>& f, int64_t batch) {
  std::vector<Tensor> parts;
  std::map<int64_t, std::pair<std::unique_ptr<Graph>, Plan>> plans;  // by batch size
  int64_t n = ids.size(0), columns = 0;
  DType dtype = f32;
  for (int64_t at = 0; at < n; at += batch) {
    Tensor x = ids.slice(0, at, at + batch).contiguous_tensor(), m = mask.slice(0, at, at + batch).contiguous_tensor();
    auto& [graph, plan] = plans[x.size(0)];
    if (!graph) {
      graph = std::make_unique<Graph>();
      plan = compile({f(graph->input("ids", x), graph->input("mask", m, {.carries = false}))});
    }
    parts.push_back(plan.run({{"ids", x}, {"mask", m}})[0]);
    columns = parts.back().size(1);
    dtype = parts.back().dtype();
  }
  Tensor all = Tensor::empty({n, columns}, dtype);
  for (int64_t at = 0; const Tensor& p : parts) {
    all.slice(0, at, at + p.size(0)).copy_from(p);
    at += p.size(0);
  }
  return all;
}

// ---- pretraining --------------------------------------------------------------------------------------------------

void pretrain(const PretrainOptions& o) {
  if (o.objective != "mae" && o.objective != "mlm")
    throw ValueError("--objective is mae or mlm, not '" + o.objective + "'");
  Barcodes b = load(o.data);
  std::vector<int64_t> samples(size_t(b.size()));
  std::iota(samples.begin(), samples.end(), 0);
  if (!o.label.empty()) {
    Labelled l = with_label(b, o.label);
    samples.clear();
    for (int64_t i : split(b, l, o.test_fraction, o.seed).train) samples.push_back(l.sample[size_t(i)]);
  }
  KmerTokenizer tokenizer = tokenizer_of(o.model);
  int64_t T = tokenizer.length();
  bool mae = o.objective == "mae";
  int64_t width = T - int64_t(double(T) * o.mask);  // equal widths share one plan
  fmt::print("pretrain: {} sequences, {} tokens each, {} objective\n", samples.size(), T,
             mae ? "masked autoencoder" : "masked language model");

  Dataset data{int64_t(samples.size()), [&](std::span<const int64_t> picked, std::span<RandomStream> random) {
                 int64_t n = int64_t(picked.size());
                 Tensor ids = Tensor::empty({n, T}, i32), mask = Tensor::empty({n, T}, u8);
                 std::vector<uint8_t> hidden(size_t(n * T));
                 for (int64_t i = 0; i < n; ++i) {
                   int offset = o.shift ? int(random[size_t(i)].below(tokenizer.k())) : 0;
                   int32_t* row = ids.data<int32_t>() + i * T;
                   uint8_t* live = mask.data<uint8_t>() + i * T;
                   tokenizer.encode_into(b.sequence[size_t(samples[size_t(picked[size_t(i)])])], offset, row, live);
                   std::vector<int64_t> places;
                   for (int64_t t = 0; t < T; ++t)
                     if (live[t]) places.push_back(t);
                   random[size_t(i)].shuffle(std::span<int64_t>(places));
                   int64_t keep =
                       std::min<int64_t>(width, int64_t(places.size()) - int64_t(double(places.size()) * o.mask));
                   for (size_t p = size_t(keep); p < places.size(); ++p) hidden[size_t(i * T + places[p])] = 1;
                 }
                 if (mae) {
                   models::PackedTokens p = models::pack(ids, mask, hidden, width, o.predict_seen);
                   return std::map<std::string, Tensor>{{"ids", p.ids},       {"positions", p.positions},
                                                        {"mask", p.mask},     {"restore", p.restore},
                                                        {"labels", p.labels}, {"decoder_mask", mask}};
                 }
                 Tensor labels = Tensor::full({n, T}, -100, i32);
                 for (int64_t i = 0; i < n * T; ++i) {
                   int32_t& id = ids.data<int32_t>()[i];
                   if (mask.data<uint8_t>()[i] && id >= KmerTokenizer::kFirstWord)
                     labels.data<int32_t>()[i] = id - KmerTokenizer::kFirstWord;
                   if (hidden[size_t(i)]) id = KmerTokenizer::kMask;
                 }
                 return std::map<std::string, Tensor>{{"ids", ids}, {"mask", mask}, {"labels", labels}};
               }};
  DataLoader loader(data, {.batch_size = o.batch, .drop_last = true, .seed = o.seed});
  int64_t total = o.epochs * loader.batches();

  auto train = [&](auto& model, nn::TrainStep::Loss loss) {
    model.init(o.seed);
    nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .weight_decay = o.weight_decay}, loss,
                       {.clip_norm = 1,
                        .schedule = nn::one_cycle(total),
                        .groups = nn::no_decay_on_vectors(model),
                        .seed = o.seed,
                        .graph = {.precision = mixed(dtype_from(o.precision))}});
    double last = run(step, loader, {.out = o.out, .label = "pretrain", .epochs = o.epochs});
    save_model(o.out + "/encoder.safetensors", model, o.model, {});
    fmt::print("pretrain: mean loss of the last epoch {:.4f} (chance {:.4f}); {}/encoder.safetensors\n", last,
               std::log(double(o.model.classes())), o.out);
  };
  InputOptions side{.carries = false};
  if (mae) {
    models::BarcodeMae model(o.model);
    train(model, [&](Graph& g, const Batch& x) {
      return model.loss(g.input("ids", x["ids"]), g.input("positions", x["positions"], side),
                        g.input("mask", x["mask"], side), g.input("restore", x["restore"], side),
                        g.input("labels", x["labels"], side), g.input("decoder_mask", x["decoder_mask"], side));
    });
  } else {
    models::BarcodeBert model(o.model);
    train(model, [&](Graph& g, const Batch& x) {
      return model.loss(
          g.input("ids", x["ids"]), g.input("labels", x["labels"], side),
          {.positions = {}, .token_types = {}, .mask = g.input("mask", x["mask"], side)});
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
  Split sides = split(b, l, o.test_fraction, o.seed);
  models::BarcodeConfig config = o.model;
  std::map<std::string, Tensor> pretrained;
  if (!o.encoder.empty()) {
    Saved s = load_model(o.encoder);
    double dropout = config.dropout;
    config = s.config;
    config.dropout = dropout;
    pretrained = std::move(s.tensors);
  }
  KmerTokenizer tokenizer = tokenizer_of(config);
  int64_t T = tokenizer.length();
  fmt::print("finetune: {} training and {} test sequences, {} classes of {}\n", sides.train.size(), sides.test.size(),
             l.names.size(), o.label);

  Dataset data{
      int64_t(sides.train.size()), [&](std::span<const int64_t> picked, std::span<RandomStream> random) {
        int64_t n = int64_t(picked.size());
        Tensor ids = Tensor::empty({n, T}, i32), mask = Tensor::empty({n, T}, u8), label = Tensor::empty({n}, i32);
        for (int64_t i = 0; i < n; ++i) {
          int64_t at = sides.train[size_t(picked[size_t(i)])];
          tokenizer.encode_into(b.sequence[size_t(l.sample[size_t(at)])],
                                o.shift ? int(random[size_t(i)].below(tokenizer.k())) : 0, ids.data<int32_t>() + i * T,
                                mask.data<uint8_t>() + i * T);
          label.data<int32_t>()[i] = int32_t(l.label[size_t(at)]);
        }
        return std::map<std::string, Tensor>{{"ids", ids}, {"mask", mask}, {"label", label}};
      }};
  DataLoader loader(data, {.batch_size = o.batch, .drop_last = int64_t(sides.train.size()) >= o.batch, .seed = o.seed});
  models::BarcodeClassifier model(config, int64_t(l.names.size()));
  model.init(o.seed);
  if (!pretrained.empty()) models::load_encoder(model, pretrained);
  InputOptions side{.carries = false};
  nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .weight_decay = o.weight_decay},
                     [&](Graph& g, const Batch& x) {
                       Var logits = model(g.input("ids", x["ids"]), g.input("mask", x["mask"], side));
                       return cross_entropy(logits, g.input("label", x["label"], side),
                                            {.label_smoothing = o.label_smoothing});
                     },
                     {.clip_norm = 1,
                      .schedule = nn::one_cycle(o.epochs * loader.batches()),
                      .groups = nn::no_decay_on_vectors(model),
                      .seed = o.seed,
                      .graph = {.precision = mixed(dtype_from(o.precision))}});
  run(step, loader, {.out = o.out, .label = "finetune", .epochs = o.epochs});
  save_model(o.out + "/classifier.safetensors", model, config, l.names);

  auto pick = [&](const std::vector<int64_t>& from, auto&& value) {
    std::vector<std::decay_t<decltype(value(0))>> out;
    for (int64_t i : from) out.push_back(value(size_t(i)));
    return out;
  };
  auto sample = [&](size_t i) { return l.sample[i]; };
  auto label = [&](size_t i) { return l.label[i]; };
  auto sequence = [&](size_t i) { return b.sequence[size_t(l.sample[i])]; };
  auto test = pick(sides.test, sample);
  auto truth = pick(sides.test, label);
  FinetuneResult r{
      .train = int64_t(sides.train.size()), .test = int64_t(test.size()), .classes = int64_t(l.names.size())};
  if (test.empty()) return r;
  auto [ids, mask] = tokens(b, test, tokenizer);
  Tensor logits = in_batches(ids, mask, [&](Var x, Var m) { return model(x, m); });
  int64_t right = 0, C = logits.size(1);
  for (size_t i = 0; i < test.size(); ++i) {
    const float* row = logits.data<float>() + int64_t(i) * C;
    right += std::max_element(row, row + C) - row == truth[i];
  }
  r.accuracy = double(right) / double(test.size());
  Tensor queries = kmer_profiles(pick(sides.test, sequence), 5),
         references = kmer_profiles(pick(sides.train, sequence), 5);
  r.baseline = neighbour_accuracy(nearest_neighbours(queries, references), truth, pick(sides.train, label)).fraction();
  fmt::print("finetune: test accuracy {:.1f} % (5-mer 1-NN on the same sides {:.1f} %); {}/classifier.safetensors\n",
             100 * r.accuracy, 100 * r.baseline, o.out);
  return r;
}

}  // namespace barcode
