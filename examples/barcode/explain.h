// Explanations of a fine-tuned classifier on test barcodes, as one HTML page.
#pragma once
#include "training.h"

namespace barcode {

struct ExplainOptions {
  DataOptions data;
  std::string model;  ///< classifier.safetensors
  std::string label = "family";
  std::string rules = "attn";  ///< preset of lrp/presets.h
  std::string out = "why.html";
  int64_t count = 10;      ///< barcodes shown
  int64_t evaluate = 200;  ///< barcodes for the deletion curves
  int64_t min_count = 2;
  double test_fraction = 0.2;
  uint64_t seed = 0;
};
struct ExplainResult {
  double area = 0, baseline_area = 0;  ///< between LeRF and MoRF: relevance, gradient x input
  double worst_residual = 0;           ///< of the ledgers, relative to the seed
  double worst_letters = 0;            ///< |sum over the letters - what the ledger books to the input|, likewise
};
ExplainResult explain(const ExplainOptions& options);

}  // namespace barcode
