// The two trainings of the barcode example, and the loop they share.
#pragma once
#include <functional>
#include <string>

#include "barcodes.h"
#include "whence/models/barcode.h"
#include "whence/nn/train.h"

namespace barcode {

struct LoopOptions {
  std::string out;              ///< folder: checkpoints, metrics.jsonl, loss.svg
  std::string label = "train";  ///< of the progress bar
  int64_t epochs = 4;
  int64_t checkpoint_every = 100;  ///< steps
};

/// Runs until `epochs` are done. Continues from the newest valid checkpoint in the folder: bitwise the same as a run
/// that was never interrupted. Returns the mean loss of the last epoch.
double run(whence::nn::TrainStep& step, whence::DataLoader& loader, const LoopOptions& options);

struct PretrainOptions {
  DataOptions data;
  whence::models::BarcodeConfig model;
  std::string objective = "mae";  ///< "mae" (packed encoder) or "mlm" (BarcodeBERT)
  std::string out = "barcode-pretrain";
  std::string label = "";  ///< when set, only the training side of that label's split is seen
  int64_t epochs = 6, batch = 32;
  double lr = 1e-3, weight_decay = 0.01, mask = 0.5, test_fraction = 0.2;
  bool predict_seen = false;  ///< mae: the loss counts visible tokens too
  bool shift = false;         ///< begin each sequence at a random letter of the first k (BarcodeBERT's augmentation)
  uint64_t seed = 0;
  std::string precision = "f32";  ///< or "bf16": products in bf16, the rest and the parameters in f32
};
/// Writes out/encoder.safetensors.
void pretrain(const PretrainOptions& options);

struct FinetuneOptions {
  DataOptions data;
  whence::models::BarcodeConfig model;  ///< replaced by the encoder's own when one is given
  std::string encoder;                  ///< file of pretrain; empty starts at random
  std::string label = "family";
  std::string out = "barcode-finetune";
  int64_t epochs = 6, batch = 32, min_count = 2;
  double lr = 1e-3, weight_decay = 0.01, label_smoothing = 0.05, test_fraction = 0.2;
  bool shift = false;
  uint64_t seed = 0;
  std::string precision = "f32";  ///< as for pretraining
};
struct FinetuneResult {
  double accuracy = 0;  ///< on the test side
  double baseline = 0;  ///< k-mer 1-NN, same sides
  int64_t train = 0, test = 0, classes = 0;
};
/// Writes out/classifier.safetensors.
FinetuneResult finetune(const FinetuneOptions& options);

/// Model shape and class names travel in the file's metadata.
void save_model(const std::string& path, whence::nn::Module& model, const whence::models::BarcodeConfig& config,
                const std::vector<std::string>& classes);
struct Saved {
  whence::models::BarcodeConfig config;
  std::vector<std::string> classes;
  std::map<std::string, whence::Tensor> tensors;
};
/// \throws IoError, or ValueError when the file is not one of this program's.
Saved load_model(const std::string& path);

/// Tokens of the given samples: ids i32 [n, T], mask u8 [n, T].
std::pair<whence::Tensor, whence::Tensor> tokens(const Barcodes& b, std::span<const int64_t> samples,
                                                 const whence::KmerTokenizer& tokenizer);
whence::KmerTokenizer tokenizer_of(const whence::models::BarcodeConfig& config);

/// Runs f over ids and mask in batches and concatenates the rows: f(ids, mask) -> [b, C].
whence::Tensor in_batches(const whence::Tensor& ids, const whence::Tensor& mask,
                          const std::function<whence::Var(whence::Var, whence::Var)>& f, int64_t batch = 64);

}  // namespace barcode
