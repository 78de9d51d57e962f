// The whole job in one go, and its table.
#pragma once
#include "explain.h"
#include "probe.h"

namespace barcode {

struct DemoOptions {
  DataOptions data;
  std::string label = "family", hold_out = "genus", out = "out/demo";
  whence::models::BarcodeConfig model;
  int64_t pretrain_epochs = 5, finetune_epochs = 4;
  uint64_t seed = 0;
  std::string precision = "f32";  ///< of both trainings
};
/// Pretrain, fine-tune, probe, explain; prints one table and where the page is.
void demo(const DemoOptions& options);

}  // namespace barcode
