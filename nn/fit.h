// fit: the loop around a TrainStep that programs share: progress, metrics, checkpoints, the best model, early stop,
// resuming, and a Ctrl-C that saves first.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "whence/nn/train.h"

namespace whence::nn {

struct FitOptions {
  int64_t epochs = 1;
  /// Of the run: checkpoints/, metrics.jsonl, loss.svg and, with validate, best.safetensors. A run that finds its own
  /// checkpoint there goes on from it, bitwise as if it had never stopped. Empty: nothing is written.
  std::string folder{};
  std::string label = "train";   ///< of progress and curve
  int64_t checkpoint_every = 0;  ///< batches; 0: at the end of each epoch
  int keep = 2;                  ///< checkpoints
  bool progress = true;          ///< on standard error
  /// After each epoch: figures of the model as it is, by name, for metrics and progress.
  std::function<std::map<std::string, double>()> validate{};
  std::string watch{};            ///< the figure that says what is better; empty: the first one
  bool larger_is_better = false;  ///< accuracies: true
  int64_t patience = 0;           ///< stop when so many epochs in a row were not better; 0: never
  /// Called after each epoch, with its figures: a schedule that follows them, a picture. Their names hold "loss".
  std::function<void(int64_t epoch, const std::map<std::string, double>& figures)> on_epoch{};
  bool catch_interrupt =
      true;  ///< SIGINT and SIGTERM end the run after the batch, with a checkpoint; a second one at once
};

struct FitResult {
  int64_t epochs = 0;       ///< that are done, earlier runs included
  double loss = 0;          ///< mean of the last epoch's batches
  double best = 0;          ///< the figure watched, NaN without
  int64_t best_epoch = -1;  ///< -1 without
  bool interrupted = false, stopped_early = false;
};

/// Trains until `epochs` are done. With `validate`, the model has the weights of its best epoch at the end.
/// \throws ValueError for options that make no sense, and for a figure that `watch` names and validate does not give;
///         IoError; what step and loader throw
FitResult fit(TrainStep& step, DataLoader& loader, const FitOptions& options = {});

}  // namespace whence::nn
