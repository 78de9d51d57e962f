// Next-token training on one text.
#pragma once
#include <string>

#include "language.h"

namespace gpt {

struct TrainOptions {
  std::string text;            ///< a file of any text in UTF-8, plain or gzip
  std::string tokens = "bpe";  ///< or "char"
  int64_t vocabulary = 1024;   ///< of bpe
  int64_t context = 128;       ///< tokens that the model sees
  int64_t hidden = 128, layers = 4, heads = 4;
  int64_t steps = 2000, batch = 16;
  double lr = 2e-3, weight_decay = 0.1;
  double validation = 0.05;      ///< the end of the text, kept apart
  int64_t evaluate_every = 100;  ///< steps between looks at the validation part, and checkpoints
  uint64_t seed = 0;
  std::string out = "out/gpt";  ///< folder: model, checkpoints, metrics.jsonl, loss.svg; a run found there goes on
};

/// Writes out/model.safetensors: the weights with the lowest validation loss. SIGINT and SIGTERM save first and end the
/// run (false); the same command then goes on as if it had never been interrupted, bitwise.
/// \throws ValueError for a text that is too short or no UTF-8, and for a folder that holds a run of other options
bool train(const TrainOptions& options);

}  // namespace gpt
