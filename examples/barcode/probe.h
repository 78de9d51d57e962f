// Nearest-neighbour probes: is the label of the most similar other sequence the right one?
#pragma once
#include "training.h"

namespace barcode {

struct ProbeOptions {
  DataOptions data;
  std::string encoder;  ///< file of pretrain; empty: only the k-mer baseline and a random encoder
  std::string label = "family";
  std::string hold_out = "genus";  ///< neighbours of the query's own group do not count; empty: leave one out only
  whence::models::BarcodeConfig model;
  int k = 5;              ///< of the k-mer baseline
  int64_t min_count = 2;  ///< with test_fraction and seed: of the split of fine-tuning, for data.validation
  double test_fraction = 0.2;
  uint64_t seed = 0;
};
struct ProbeRow {
  std::string name;
  double leave_one_out = 0, held_out = 0;
};
/// One row per representation: k-mer counts, random encoder, the given encoder.
std::vector<ProbeRow> probe(const ProbeOptions& options);
void print(const std::vector<ProbeRow>& rows, const ProbeOptions& options);

}  // namespace barcode
