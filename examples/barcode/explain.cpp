#include "explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "whence/lrp/evaluation.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/report.h"
#include "whence/nn/io/atomic_file.h"
#include "whence/nn/progress.h"

namespace barcode {

using namespace whence;

namespace {

constexpr InputOptions kSide{.carries = false};
constexpr int64_t kBatch = 32;
constexpr int64_t kPoints = 11;  // of a deletion curve, nothing and everything removed included

// The classifier with its word vectors in the open: relevance and gradient x input meet there.
struct Traced {
  Graph graph;
  Var words, logits, score;  // (B, T, C), (B, classes), (B)
  Traced(const models::BarcodeClassifier& m, int64_t B, int64_t T) {
    Var ids = graph.input("ids", {B, T}, i32), mask = graph.input("mask", {B, T}, u8, kSide),
        target = graph.input("target", {B}, i32, kSide);
    const models::BertModel& encoder = m.encoder;
    words = encoder.embeddings.word(ids);
    models::BertInputs in{.positions = {}, .token_types = {}, .mask = mask};
    Var pooled = models::masked_mean(encoder.encode(encoder.embeddings.embed(words, in), in).back(), mask);
    logits = m.classify(pooled);
    score = pick(logits, target);
  }
};

Tensor rows(const Tensor& t, int64_t begin, int64_t end) { return t.slice(0, begin, end).contiguous_tensor(); }

std::vector<double> softmax_row(const Tensor& logits, int64_t row) {
  int64_t C = logits.size(1);
  const float* x = logits.data<float>() + row * C;
  double top = *std::max_element(x, x + C), sum = 0;
  std::vector<double> p;
  for (int64_t c = 0; c < C; ++c) sum += p.emplace_back(std::exp(x[c] - top));
  for (double& v : p) v /= sum;
  return p;
}

// Where relevance leaves the skip path: what enters the heart of each block.
std::vector<lrp::Bar> through_blocks(const lrp::LedgerReport& ledger) {
  std::vector<lrp::Bar> bars;
  for (const lrp::LedgerFlow& f : ledger.flows) {  // from the last layer to the first
    if ((f.to.op != "attention" && f.to.op != "gelu") || f.from == f.to) continue;
    auto bar = std::find_if(bars.begin(), bars.end(), [&](const lrp::Bar& b) { return b.name == f.to.scope; });
    if (bar == bars.end()) bar = bars.insert(bars.begin(), {f.to.scope, 0});
    bar->value += f.amount;
  }
  return bars;
}

}  // namespace

ExplainResult explain(const ExplainOptions& o) {
  Saved saved = load_model(o.model);
  Barcodes b = load(o.data);
  Labelled l = with_label(b, o.label, o.min_count);
  if (l.names != saved.classes)
    throw ValueError("the classes of '" + o.label + "' differ from those of " + o.model +
                     ": use the data, --label and --min-count of finetune");
  models::BarcodeClassifier model(saved.config, int64_t(saved.classes.size()));
  model.load_state_dict(saved.tensors);
  lrp::RuleSet rules = lrp::preset(o.rules);

  std::vector<int64_t> test = split(b, l, o.test_fraction, o.seed).test;
  if (test.empty()) throw ValueError("the split leaves no test sequences");
  std::vector<int64_t> order = epoch_order(int64_t(test.size()), o.seed, 0);  // a fixed random choice
  std::vector<int64_t> samples, truth;
  int64_t wanted = std::min<int64_t>(int64_t(test.size()), std::max(o.count, o.evaluate));
  for (int64_t i = 0; i < wanted; ++i) {
    int64_t at = test[size_t(order[size_t(i)])];
    samples.push_back(l.sample[size_t(at)]);
    truth.push_back(l.label[size_t(at)]);
  }
  KmerTokenizer tokenizer = tokenizer_of(saved.config);
  auto [ids, mask] = tokens(b, samples, tokenizer);
  int64_t n = int64_t(samples.size()), T = tokenizer.length();
  Tensor logits = in_batches(ids, mask, [&](Var x, Var m) { return model(x, m); });
  Tensor target = Tensor::empty({n}, i32);
  int64_t right = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float* row = logits.data<float>() + i * logits.size(1);
    target.data<int32_t>()[i] = int32_t(std::max_element(row, row + logits.size(1)) - row);
    right += target.data<int32_t>()[i] == truth[size_t(i)];
  }

  lrp::Report page;
  page.title = fmt::format("Why this {}?", o.label);
  page.subtitle = fmt::format("{} · {} test barcodes that the classifier never saw in training",
                              o.model.substr(o.model.rfind('/') + 1), n);
  page.method = fmt::format(
      "Rules: {}. The seed is the score of the predicted class; each {}-mer is coloured by the relevance that reaches "
      "it.",
      rules.name(), saved.config.k);
  page.layers_caption = "Relevance through each block (the rest skips it)";
  page.ops_caption = "Absorbed, by operation";
  ExplainResult result;

  // ---- deletion curves: relevance against gradient x input
  if (o.evaluate > 0) {
    std::vector<std::vector<double>> relevances, baseline;  // of the tokens that are not padding
    std::map<int64_t, std::tuple<std::unique_ptr<Traced>, Plan>> plans;
    int64_t count = std::min(n, o.evaluate);
    for (int64_t at = 0; at < count; at += kBatch) {
      int64_t end = std::min(at + kBatch, count), B = end - at;
      auto& [traced, plan] = plans[B];
      if (!traced) {
        traced = std::make_unique<Traced>(model, B, T);
        Var r = sum(relevance(traced->score, traced->words, rules), {-1});
        Var g = sum(traced->words * grad(sum(traced->score), traced->words), {-1});
        plan = compile({r, g});
      }
      Results out =
          plan.run({{"ids", rows(ids, at, end)}, {"mask", rows(mask, at, end)}, {"target", rows(target, at, end)}});
      for (auto [from, to] : {std::pair(out[0], &relevances), std::pair(out[1], &baseline)})
        for (int64_t i = 0; i < B; ++i) {
          std::vector<double> r;
          for (int64_t t = 0; t < T; ++t)
            if (mask.data<uint8_t>()[(at + i) * T + t]) r.push_back(from.data<float>()[i * T + t]);
          to->push_back(std::move(r));
        }
    }
    Graph graph;
    Var probability =
        softmax(model(graph.input("ids", {kPoints, T}, i32), graph.input("mask", {kPoints, T}, u8, kSide)));
    Plan score_plan = compile({pick(probability, graph.input("target", {kPoints}, i32, kSide))});
    // One sample with some of its tokens removed, in a batch of fixed size: one plan for all.
    auto scores_of = [&](int64_t sample) {
      return [&, sample](const Tensor& keep) {
        Tensor x = Tensor::full({kPoints, T}, KmerTokenizer::kUnknown, i32), m = Tensor::full({kPoints, T}, 1, u8),
               y = Tensor::full({kPoints}, target.item(sample), i32);
        for (int64_t i = 0; i < keep.size(0); ++i)
          for (int64_t t = 0, unit = 0; t < T; ++t) {
            bool live = mask.data<uint8_t>()[sample * T + t];
            m.data<uint8_t>()[i * T + t] = live;
            if (live && keep.data<uint8_t>()[i * keep.size(1) + unit++])
              x.data<int32_t>()[i * T + t] = ids.data<int32_t>()[sample * T + t];
          }
        Results out = score_plan.run({{"ids", x}, {"mask", m}, {"target", y}});
        std::vector<double> p = out[0].to_vector<double>();
        p.resize(size_t(keep.size(0)));
        return p;
      };
    };
    Progress bar(2 * count, "deletion curves");
    for (auto [name, all] :
         {std::pair(rules.name(), &relevances), std::pair(std::string("gradient x input"), &baseline)}) {
      std::vector<lrp::Curve> morf, lerf, random;
      for (int64_t i = 0; i < count; ++i) {
        lrp::CurveOptions steps{.steps = kPoints - 1, .batch = kPoints};
        std::vector<int64_t> order = lrp::by_relevance((*all)[size_t(i)]);
        morf.push_back(lrp::deletion_curve(order, scores_of(i), steps));
        std::reverse(order.begin(), order.end());
        lerf.push_back(lrp::deletion_curve(order, scores_of(i), steps));
        RandomStream(o.seed, i).shuffle(std::span<int64_t>(order));
        random.push_back(lrp::deletion_curve(order, scores_of(i), steps));
        bar.advance(1, name);
      }
      page.curves.push_back({name, lrp::mean_curve(morf), lrp::mean_curve(lerf), lrp::mean_curve(random)});
    }
    bar.finish();
    result.area = page.curves[0].area();
    result.baseline_area = page.curves[1].area();
    page.curve_note = fmt::format(
        "Mean probability of the predicted class over {} test barcodes while {}-mers are replaced by [UNK] in the "
        "order of their relevance. "
        "A good explanation drops fast when the most relevant go first and holds when the least relevant go first: the "
        "shaded area is large.",
        count, saved.config.k);
  }

  // ---- single predictions, each with its ledger
  Traced traced(model, 1, T);
  lrp::Ledger ledger(rules);
  Var relevance = sum(ledger.relevance(traced.score, traced.words), {-1});
  Plan plan = compile({relevance, traced.score, ledger.outputs()});
  int64_t shown = std::min(n, o.count);
  for (int64_t i = 0; i < shown; ++i) {
    Results out =
        plan.run({{"ids", rows(ids, i, i + 1)}, {"mask", rows(mask, i, i + 1)}, {"target", rows(target, i, i + 1)}});
    lrp::LedgerReport report = ledger.read(out);
    const std::string& sequence = b.sequence[size_t(samples[size_t(i)])];
    lrp::ReportSample s;
    s.title = b.id[size_t(samples[size_t(i)])];
    if (b.columns.contains("species") && !b.columns.at("species")[size_t(samples[size_t(i)])].empty())
      s.title += " · " + b.columns.at("species")[size_t(samples[size_t(i)])];
    s.truth = saved.classes[size_t(truth[size_t(i)])];
    s.predicted = saved.classes[size_t(target.data<int32_t>()[i])];
    std::vector<double> p = softmax_row(logits, i);
    std::vector<size_t> best(p.size());
    std::iota(best.begin(), best.end(), 0);
    std::partial_sort(best.begin(), best.begin() + std::min<int64_t>(4, int64_t(p.size())), best.end(),
                      [&](size_t a, size_t c) { return p[a] > p[c]; });
    for (size_t k = 0; k < std::min<size_t>(4, p.size()); ++k)
      s.probabilities.push_back({saved.classes[best[k]], p[best[k]]});
    for (int64_t t = 0; t < T; ++t) {
      auto [from, to] = tokenizer.nucleotides(t, int64_t(sequence.size()));
      if (from >= to) continue;
      double r = out[0].item(t);
      std::string word = sequence.substr(size_t(from), size_t(to - from));
      s.pieces.push_back(
          {word, r, fmt::format("{} at {}-{}: {:+.4f}", word, o.data.begin + from + 1, o.data.begin + to, r)});
    }
    s.layers = through_blocks(report);
    s.ops = lrp::absorbed_by_op(report, 8);
    lrp::book(report, s);
    result.worst_residual = std::max(result.worst_residual, std::fabs(s.residual) / std::max(1e-6, std::fabs(s.seed)));
    page.samples.push_back(std::move(s));
  }
  page.facts = {{fmt::format("of {} test barcodes correct", n), double(right)}};
  if (o.evaluate > 0) {
    page.facts.push_back({"area, " + rules.name(), result.area});
    page.facts.push_back({"area, gradient x input", result.baseline_area});
  }
  page.facts.push_back({"largest unexplained share", result.worst_residual});
  write_file_atomically(o.out, lrp::html(page));
  fmt::print("explain: {} barcodes in {}", shown, o.out);
  if (o.evaluate > 0)
    fmt::print("; area between deletion curves {:.3f}, gradient x input {:.3f}", result.area, result.baseline_area);
  fmt::print("\n");
  return result;
}

}  // namespace barcode
