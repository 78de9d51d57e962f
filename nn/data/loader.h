// Batches in shuffled order, made ahead of time by worker threads, and resumable to the exact batch.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/data/random_stream.h"
#include "whence/tensor/tensor.h"

namespace whence {

/// Where the data stand. `position` counts batches already taken from `epoch`. The rest says what a position means; 0
/// stands for "as the loader that restores it", for states that were put down without.
struct LoaderState {
  int64_t epoch = 0;
  int64_t position = 0;
  uint64_t seed = 0;
  int64_t samples = 0;     ///< of the dataset
  int64_t batch_size = 0;  ///< of all shards together
  bool shuffled = true;
  bool operator==(const LoaderState&) const = default;
  /// One line for the metadata of a checkpoint, and back. \throws ValueError for another text
  std::string str() const;
  static LoaderState parse(std::string_view text);
};

struct Batch {
  std::map<std::string, Tensor> tensors;
  std::vector<int64_t> samples;  ///< indices into the dataset
  int64_t epoch = 0;
  int64_t index = 0;                                        ///< of this batch in its epoch
  bool last = false;                                        ///< of its epoch
  const Tensor& operator[](const std::string& name) const;  ///< \throws ValueError naming what there is
};

/// What a dataset is to the loader: a size and a function that makes the tensors of a batch.
///
/// `fill(samples, random)` gets the dataset indices and, for each, a random stream that depends on (seed,
/// epoch, sample index) only. It runs on worker threads, several at a time: it must not write to shared
/// state. Whatever it throws is thrown by DataLoader::next() in the place of that batch.
struct Dataset {
  int64_t size = 0;
  std::function<std::map<std::string, Tensor>(std::span<const int64_t> samples, std::span<RandomStream> random)> fill;
};

struct LoaderOptions {
  int64_t batch_size = 32;
  bool shuffle = true;
  bool drop_last = false;  ///< leave out a last batch that is not full
  uint64_t seed = 0;
  int workers = 1;   ///< 0: batches are made inside next()
  int prefetch = 4;  ///< batches made ahead, at most
  /// Every `shards`-th batch of the shuffled order, beginning with `shard`: one loader per process of a
  /// data-parallel run. Trailing batches that would not reach every shard are left out.
  int shard = 0, shards = 1;
};

/// An endless sequence of batches, epoch after epoch. The batch at (seed, epoch, index) is a pure function of
/// dataset and options: workers, prefetching, resuming and the platform do not change it.
///
/// \code
///   DataLoader loader({n, fill}, {.batch_size = 64, .seed = 7});
///   for (Batch& b : loader.epoch()) step(b["ids"], b["label"]);   // the rest of the current epoch
///   auto where = loader.state();                                    // goes into the checkpoint
/// \endcode
class DataLoader {
 public:
  /// \throws ValueError for options that make no sense, or when an epoch would hold no batch; Error when the workers
  ///         cannot be started
  DataLoader(Dataset dataset, LoaderOptions options = {});
  /// Stops and joins the workers; waits only for batches that are being made.
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// The next batch; the first of the next epoch after the last of this one. When making it failed, throws
  /// what `fill` threw, and does so again when called again: the position does not move past a lost batch.
  Batch next();
  int64_t batches() const;  ///< per epoch (and shard)
  /// The position after the last batch that next() gave out. Prefetched batches do not count.
  LoaderState state() const;
  /// Continues from `state` as if its epochs had just been run, with its seed. Workers and prefetching may be others.
  /// Inside an epoch so may batch size and shards, when the samples taken so far are whole batches of this loader: no
  /// sample is lost or seen twice; at the start of an epoch everything may.
  /// \throws ValueError outside the epoch, and where the rest of the epoch cannot be told; nothing is changed then
  void restore(const LoaderState& state);
  /// Continues after the current batch as if it had been taken; for skipping one that cannot be made.
  void skip();

  class Epoch;
  /// Range over what is left of the current epoch; all of the next one if nothing is left.
  Epoch epoch();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class DataLoader::Epoch {
 public:
  class Iterator {
   public:
    Batch& operator*() { return batch_; }
    Iterator& operator++();
    bool operator!=(const Iterator& other) const { return loader_ != other.loader_; }

   private:
    friend class Epoch;
    DataLoader* loader_ = nullptr;
    Batch batch_;
  };
  Iterator begin();
  Iterator end() { return {}; }

 private:
  friend class DataLoader;
  explicit Epoch(DataLoader* loader) : loader_(loader) {}
  DataLoader* loader_;
};

/// The order of an epoch: a permutation of 0..n-1 that depends on (n, seed, epoch) only.
std::vector<int64_t> epoch_order(int64_t n, uint64_t seed, int64_t epoch);

}  // namespace whence
