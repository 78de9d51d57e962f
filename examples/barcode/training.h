// The two trainings of the barcode example.
#pragma once
#include <string>

#include "barcodes.h"
#include "whence/models/barcode.h"
#include "whence/nn/evaluate.h"

namespace barcode {

struct PretrainOptions {
  DataOptions data;
  whence::models::BarcodeConfig model;
  std::string objective = "mae";  ///< "mae" (packed encoder) or "mlm" (BarcodeBERT)
  std::string out = "barcode-pretrain";
  std::string label = "";                         ///< when set, only the training side of that label's split is seen
  int64_t epochs = 6, batch = 32, min_count = 2;  ///< min_count: as for fine-tuning, whose split it is
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
  bool memory = false;  ///< with a spectrum: remember the training sequences' and add the nearest of each class
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

/// What a model reads, one row a sequence: ids i32 [n, T], or [n, T, k] with overlapping words, mask u8 [n, T], and
/// spectrum f32 [n, 4^spectrum] where the model knows one. offsets: letters dropped in front of the tokens.
std::map<std::string, whence::Tensor> inputs(std::span<const std::string> sequences,
                                             const whence::models::BarcodeConfig& config,
                                             std::span<const int> offsets = {});
/// The same as batches of a dataset.
whence::Dataset inputs_of(std::vector<std::string> sequences, const whence::models::BarcodeConfig& config);
whence::KmerTokenizer tokenizer_of(const whence::models::BarcodeConfig& config);

/// The inputs of a model in a graph; spectrum is undefined where the model knows none.
struct Fed {
  Fed(whence::Graph& g, const whence::Batch& batch);
  Fed(whence::Var ids, const whence::models::BarcodeConfig& config);  ///< the others of the same batch size, by name
  whence::Var ids, mask, spectrum;
};

}  // namespace barcode
