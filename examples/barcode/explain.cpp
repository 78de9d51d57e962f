#include "explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "whence/lrp/evaluation.h"
#include "whence/lrp/explain.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/report.h"
#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/io/atomic_file.h"
#include "whence/nn/progress.h"

namespace barcode {

using namespace whence;

namespace {

constexpr int64_t kPoints = 11;  // of a deletion curve, nothing and everything removed included

// The classifier with its word vectors in the open: relevance and gradient x input meet there and at the spectrum.
struct Traced {
  Var words, spectrum, logits;  // (B, T, C) or (B, T, k, C); (B, 4^spectrum) or undefined; (B, classes)
  Traced(const models::BarcodeClassifier& m, Graph& g, const Batch& batch) {
    Fed in(g, batch);
    words = m.words(in.ids);
    spectrum = in.spectrum;
    logits = m.classify(m.embed(words, in.mask), spectrum);
  }
  std::vector<Var> leaves() const { return spectrum.defined() ? std::vector{words, spectrum} : std::vector{words}; }
};

// From what came to the words in tokens (T or T k numbers) and to the words of the spectrum (4^spectrum or none) to
// what comes to each letter: the sum stays.
std::vector<double> per_letter(const std::string& sequence, const models::BarcodeConfig& c,
                               std::span<const float> words, std::span<const float> spectrum) {
  const KmerTokenizer tokenizer = tokenizer_of(c);
  const int64_t n = int64_t(sequence.size());
  std::vector<double> out;
  if (c.overlapping) out = tokenizer.spread_overlapping(words, n);
  else
    for (float r : tokenizer.spread(words, n)) out.push_back(r);
  if (!spectrum.empty()) {
    const std::vector<double> more = spread_words(sequence, spectrum, int(c.spectrum));
    for (size_t i = 0; i < out.size(); ++i) out[i] += more[i];
  }
  return out;
}

std::span<const float> row(const Tensor& t, int64_t i) {
  const int64_t size = t.numel() / t.size(0);
  return {t.data<float>() + i * size, size_t(size)};
}

std::span<const float> all_of(const Tensor& t) { return {t.data<float>(), size_t(t.numel())}; }

// Relevance and gradient x input of each letter, for the predicted class of each sequence.
struct Attributions {
  std::vector<std::vector<double>> relevance, product;
};
Attributions attributions(models::BarcodeClassifier& model, const std::vector<std::string>& sequences,
                          const lrp::RuleSet& rules) {
  nn::EvalStep sweeps(model, [&](Graph& g, const Batch& batch) -> nn::EvalStep::Named {
    const Traced t(model, g, batch);
    Var score = pick(t.logits, argmax(t.logits));
    const std::vector<Var> leaves = t.leaves(), r = relevance(score, leaves, rules), d = grad(sum(score), leaves);
    nn::EvalStep::Named out{{"words", sum(r[0], {-1})}, {"words, product", sum(leaves[0] * d[0], {-1})}};
    if (leaves.size() == 2) out.insert(out.end(), {{"spectrum", r[1]}, {"spectrum, product", leaves[1] * d[1]}});
    return out;
  });
  DataLoader all = nn::in_order(inputs_of(sequences, model.config), 32);
  const nn::EvalStep::Results out = sweeps.over(all);
  Attributions a;
  for (auto [to, suffix] : {std::pair(&a.relevance, ""), std::pair(&a.product, ", product")})
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto spectrum = out.find(std::string("spectrum") + suffix);
      to->push_back(per_letter(sequences[i], model.config, row(out.at(std::string("words") + suffix), int64_t(i)),
                               spectrum == out.end() ? std::span<const float>() : row(spectrum->second, int64_t(i))));
    }
  return a;
}

// Mean deletion curves over the sequences: letters become N, in the order of `each`.
lrp::ReportCurves deletion_curves(models::BarcodeClassifier& model, const std::vector<std::string>& sequences,
                                  const std::vector<int64_t>& target, const std::vector<std::vector<double>>& each,
                                  const std::string& name, uint64_t seed, Progress& bar) {
  nn::EvalStep eval(model, [&](Graph& g, const Batch& batch) -> nn::EvalStep::Named {
    return {
        {"p", pick(softmax(Traced(model, g, batch).logits), g.input("target", batch["target"], {.carries = false}))}};
  });
  std::vector<lrp::Curve> morf, lerf, random;
  for (size_t i = 0; i < sequences.size(); ++i) {
    auto score = [&](const Tensor& keep) {
      std::vector<std::string> some(size_t(keep.size(0)), sequences[i]);
      for (size_t s = 0; s < some.size(); ++s)
        for (size_t at = 0; at < some[s].size(); ++at)
          if (!keep.data<uint8_t>()[s * some[s].size() + at]) some[s][at] = 'N';
      Batch batch{.tensors = inputs(some, model.config), .samples = {}};
      batch.tensors["target"] = Tensor::full({keep.size(0)}, double(target[i]), i32);
      return eval(batch).at("p").to_vector<double>();
    };
    const lrp::CurveOptions steps{.steps = kPoints - 1, .batch = kPoints};
    std::vector<int64_t> order = lrp::by_relevance(each[i]);
    morf.push_back(lrp::deletion_curve(order, score, steps));
    std::reverse(order.begin(), order.end());
    lerf.push_back(lrp::deletion_curve(order, score, steps));
    RandomStream(seed, i).shuffle(std::span<int64_t>(order));
    random.push_back(lrp::deletion_curve(order, score, steps));
    bar.advance(1, name);
  }
  return {name, lrp::mean_curve(morf), lrp::mean_curve(lerf), lrp::mean_curve(random)};
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

// The leading classes.
std::vector<lrp::Bar> leading(const std::vector<double>& p, const std::vector<std::string>& classes) {
  std::vector<size_t> best(p.size());
  std::iota(best.begin(), best.end(), 0);
  const size_t most = std::min<size_t>(4, p.size());
  std::partial_sort(best.begin(), best.begin() + int64_t(most), best.end(),
                    [&](size_t a, size_t c) { return p[a] > p[c]; });
  std::vector<lrp::Bar> bars;
  for (size_t k = 0; k < most; ++k) bars.push_back({classes[best[k]], p[best[k]]});
  return bars;
}

// Test samples in a fixed random order, and what the model says of them.
struct Chosen {
  std::vector<int64_t> sample, truth, predicted;
  std::vector<std::string> sequence;
};
Chosen choose(const Barcodes& b, const Labelled& l, models::BarcodeClassifier& model, const ExplainOptions& o) {
  const std::vector<int64_t> test = split(b, l, o.test_fraction, o.seed, o.data.validation).test;
  if (test.empty()) throw ValueError("the split leaves no test sequences");
  std::vector<int64_t> order = epoch_order(int64_t(test.size()), o.seed, 0);
  order.resize(size_t(std::min<int64_t>(int64_t(test.size()), std::max(o.count, o.evaluate))));
  Chosen c;
  for (int64_t i : order) {
    const size_t at = size_t(test[size_t(i)]);
    c.sample.push_back(l.sample[at]);
    c.truth.push_back(l.label[at]);
    c.sequence.push_back(b.sequence[size_t(l.sample[at])]);
  }
  nn::EvalStep eval(model, [&](Graph& g, const Batch& batch) -> nn::EvalStep::Named {
    return {{"predicted", argmax(Traced(model, g, batch).logits)}};
  });
  DataLoader all = nn::in_order(inputs_of(c.sequence, model.config));
  c.predicted = eval.over(all).at("predicted").to_vector<int64_t>();
  return c;
}

}  // namespace

ExplainResult explain(const ExplainOptions& o) {
  const Saved saved = load_model(o.model);
  const Barcodes b = load(o.data);
  const Labelled l = with_label(b, o.label, o.min_count);
  if (l.names != saved.classes)
    throw ValueError("the classes of '" + o.label + "' differ from those of " + o.model +
                     ": use the data, --label and --min-count of finetune");
  models::BarcodeClassifier model(saved.config, int64_t(saved.classes.size()));
  model.load_state_dict(saved.tensors);
  const lrp::RuleSet rules = lrp::preset(o.rules);
  const Chosen chosen = choose(b, l, model, o);
  const int64_t n = int64_t(chosen.sample.size());
  int64_t right = 0;
  for (size_t i = 0; i < size_t(n); ++i) right += chosen.predicted[i] == chosen.truth[i];

  lrp::Report page;
  page.title = fmt::format("Why this {}?", o.label);
  page.subtitle = fmt::format("{} · {} test barcodes that the classifier never saw in training",
                              o.model.substr(o.model.rfind('/') + 1), n);
  page.method = fmt::format(
      "Rules: {}. The seed is the score of the predicted class. What reaches a word of the input is shared among its "
      "letters; each letter is coloured by the sum of its shares.",
      rules.name());
  page.layers_caption = "Relevance through each block (the rest skips it)";
  page.ops_caption = "Absorbed, by operation";
  ExplainResult result;

  if (o.evaluate > 0) {
    const size_t count = size_t(std::min(n, o.evaluate));
    const std::vector<std::string> some(chosen.sequence.begin(), chosen.sequence.begin() + int64_t(count));
    const Attributions a = attributions(model, some, rules);
    Progress bar(2 * int64_t(count), "deletion curves");
    page.curves.push_back(deletion_curves(model, some, chosen.predicted, a.relevance, rules.name(), o.seed, bar));
    page.curves.push_back(deletion_curves(model, some, chosen.predicted, a.product, "gradient x input", o.seed, bar));
    bar.finish();
    result.area = page.curves[0].area();
    result.baseline_area = page.curves[1].area();
    page.curve_note = fmt::format(
        "Mean probability of the predicted class over {} test barcodes while single letters are replaced by N in the "
        "order of their relevance. "
        "A good explanation drops fast when the most relevant go first and holds when the least relevant go first: the "
        "shaded area is large.",
        count);
  }

  // ---- single predictions, each with its ledger
  const int64_t shown = std::min(n, o.count);
  for (int64_t i = 0; i < shown; ++i) {
    const size_t at = size_t(chosen.sample[size_t(i)]);
    const std::string& sequence = b.sequence[at];
    std::map<std::string, Tensor> x;
    for (auto& [name, t] : inputs(std::span(&sequence, 1), model.config)) x[name] = t[0];
    const Tensor ids = x.at("ids");
    x.erase("ids");
    const lrp::Explanation e = lrp::explain(
        [&](Var v) {
          Fed in(v, model.config);
          return model(in.ids, in.mask, in.spectrum);
        },
        ids, {.rules = rules, .inputs = x});
    lrp::ReportSample s;
    s.title = b.id[at];
    if (b.columns.contains("species") && !b.columns.at("species")[at].empty())
      s.title += " · " + b.columns.at("species")[at];
    s.truth = saved.classes[size_t(chosen.truth[size_t(i)])];
    s.predicted = saved.classes[size_t(e.predicted)];
    s.probabilities = leading(e.probabilities, saved.classes);
    const std::vector<float> words(e.relevance.relevance.begin(), e.relevance.relevance.end());
    const auto spectrum = e.others.find("spectrum");
    const std::vector<double> letters =
        per_letter(sequence, model.config, words,
                   spectrum == e.others.end() ? std::span<const float>() : all_of(spectrum->second));
    for (size_t k = 0; k < letters.size(); ++k)
      s.pieces.push_back({sequence.substr(k, 1), letters[k],
                          fmt::format("{} at {}: {:+.4f}", sequence[k], o.data.begin + int64_t(k) + 1, letters[k])});
    s.layers = through_blocks(e.ledger);
    s.ops = lrp::absorbed_by_op(e.ledger, 8);
    lrp::book(e.ledger, s);
    const double scale = std::max(1e-6, std::fabs(s.seed)), sum = std::accumulate(letters.begin(), letters.end(), 0.0);
    result.worst_residual = std::max(result.worst_residual, std::fabs(s.residual) / scale);
    result.worst_letters = std::max(result.worst_letters, std::fabs(sum - s.inputs) / scale);
    page.samples.push_back(std::move(s));
  }
  page.facts = {{fmt::format("of {} test barcodes correct", n), double(right)}};
  if (o.evaluate > 0) {
    page.facts.push_back({"area, " + rules.name(), result.area});
    page.facts.push_back({"area, gradient x input", result.baseline_area});
  }
  page.facts.push_back({"largest unexplained share", result.worst_residual});
  page.facts.push_back({"largest share that reaches no letter", result.worst_letters});
  write_file_atomically(o.out, lrp::html(page));
  fmt::print("explain: {} barcodes in {}", shown, o.out);
  if (o.evaluate > 0)
    fmt::print("; area between deletion curves {:.3f}, gradient x input {:.3f}", result.area, result.baseline_area);
  fmt::print("\n");
  return result;
}

}  // namespace barcode
