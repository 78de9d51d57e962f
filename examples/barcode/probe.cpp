#include "probe.h"

#include <fmt/format.h>

#include <cmath>

#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/progress.h"

namespace barcode {

using namespace whence;

// Rows scaled to length one, after the mean is taken off: mean-pooled embeddings share a large common direction.
static void centre_and_scale(const Tensor& t) {
  int64_t n = t.size(0), d = t.size(1);
  float* x = t.data<float>();
  for (int64_t j = 0; j < d; ++j) {
    double mean = 0;
    for (int64_t i = 0; i < n; ++i) mean += x[i * d + j];
    for (int64_t i = 0; i < n; ++i) x[i * d + j] -= float(mean / double(n));
  }
  for (int64_t i = 0; i < n; ++i) {
    double norm = 0;
    for (int64_t j = 0; j < d; ++j) norm += double(x[i * d + j]) * x[i * d + j];
    for (int64_t j = 0; j < d; ++j) x[i * d + j] /= float(std::sqrt(norm) + 1e-12);
  }
}

std::vector<ProbeRow> probe(const ProbeOptions& o) {
  Barcodes b = load(o.data);
  Labelled l = with_label(b, o.label);
  if (o.data.validation) {  // the split of fine-tuning: its test side is not looked at
    Labelled all = with_label(b, o.label, o.min_count), kept{.sample = {}, .label = {}, .names = all.names};
    Split sides = split(b, all, o.test_fraction, o.seed, true);
    for (auto* side : {&sides.train, &sides.test})
      for (int64_t i : *side) kept.sample.push_back(all.sample[size_t(i)]), kept.label.push_back(all.label[size_t(i)]);
    l = kept;
  }
  std::vector<std::string> sequences, groups;
  for (int64_t i : l.sample) {
    sequences.push_back(b.sequence[size_t(i)]);
    if (!o.hold_out.empty()) groups.push_back(b.column(o.hold_out)[size_t(i)]);
  }
  // Exact duplicates of the query are no neighbours: they would make every probe look perfect.
  std::vector<int64_t> itself = number_values(sequences), group = number_values(groups);
  std::vector<ProbeRow> rows;
  auto measure = [&](const std::string& name, const Tensor& t) {
    ProbeRow r{name};
    r.leave_one_out = neighbour_accuracy(nearest_other(t, itself), l.label, l.label, itself, itself).fraction();
    if (!o.hold_out.empty())
      r.held_out = neighbour_accuracy(nearest_other(t, group), l.label, l.label, group, group).fraction();
    rows.push_back(r);
  };
  measure(fmt::format("{}-mer counts", o.k), kmer_profiles(sequences, o.k));
  auto embed = [&](const std::string& name, const models::BarcodeConfig& config,
                   const std::map<std::string, Tensor>& weights) {
    models::BarcodeClassifier model(config, 2);
    model.init(o.seed);
    if (!weights.empty()) models::load_encoder(model, weights);
    nn::EvalStep eval(model, [&](Graph& g, const Batch& x) -> nn::EvalStep::Named {
      Fed in(g, x);
      return {{"embedded", model.embed(model.words(in.ids), in.mask)}};
    });
    DataLoader all = nn::in_order(inputs_of(sequences, config));
    Tensor e = eval.over(all).at("embedded");
    centre_and_scale(e);
    measure(name, e);
  };
  if (o.encoder.empty()) {
    embed("encoder, random start", o.model, {});
  } else {
    Saved s = load_model(o.encoder);
    embed("encoder, random start", s.config, {});
    embed("encoder, pretrained", s.config, s.tensors);
  }
  return rows;
}

void print(const std::vector<ProbeRow>& rows, const ProbeOptions& o) {
  std::string held = o.hold_out.empty() ? "" : fmt::format("{} held out", o.hold_out);
  fmt::print("\n1-NN (cosine), {}\n  {:<24} {:>16} {:>20}\n", o.label, "", "leave-one-out", held);
  for (const ProbeRow& r : rows) {
    fmt::print("  {:<24} {:>14.1f} %", r.name, 100 * r.leave_one_out);
    if (!held.empty()) fmt::print(" {:>18.1f} %", 100 * r.held_out);
    fmt::print("\n");
  }
}

}  // namespace barcode
