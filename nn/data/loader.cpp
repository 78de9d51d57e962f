#include "whence/nn/data/loader.h"

#include <fmt/format.h>

#include <charconv>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

namespace whence {

std::vector<int64_t> epoch_order(int64_t n, uint64_t seed, int64_t epoch) {
  if (n < 0) throw ValueError(fmt::format("an epoch of {} samples has no order", n));
  auto order = or_out_of_memory("the order of an epoch", [&] { return std::vector<int64_t>(size_t(n)); });
  std::iota(order.begin(), order.end(), int64_t(0));
  RandomStream(seed, epoch, 0x6f72646572).shuffle(std::span(order));  // "order": apart from the streams of the samples
  return order;
}

std::string LoaderState::str() const {
  return fmt::format("epoch {} position {} seed {} samples {} batch {} {}", epoch, position, seed, samples, batch_size,
                     shuffled ? "shuffled" : "in order");
}

LoaderState LoaderState::parse(std::string_view text) {
  LoaderState s;
  std::string_view rest = text;
  auto field = [&](std::string_view name, auto& value) {
    bool ok = rest.starts_with(name) && rest.size() > name.size() && rest[name.size()] == ' ';
    if (ok) {
      rest.remove_prefix(name.size() + 1);
      auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
      ok = error == std::errc() && end != rest.data() + rest.size() && *end == ' ';
      if (ok) rest.remove_prefix(size_t(end - rest.data()) + 1);
    }
    return ok;
  };
  const bool whole = field("epoch", s.epoch) && field("position", s.position) && field("seed", s.seed) &&
                     field("samples", s.samples) && field("batch", s.batch_size) &&
                     (rest == "shuffled" || rest == "in order");
  s.shuffled = rest == "shuffled";
  if (!whole || s.str() != text) throw ValueError("'" + std::string(text) + "' is no position of a loader");
  return s;
}

const Tensor& Batch::operator[](const std::string& name) const {
  auto it = tensors.find(name);
  if (it != tensors.end()) return it->second;
  std::string known;
  for (const auto& [k, t] : tensors) known += (known.empty() ? "" : ", ") + k;
  throw ValueError("the batch holds no tensor '" + name + "'; there are: " + known);
}

// Batches are numbered through all epochs ("ticket" = epoch * batches + index). Workers take the tickets in
// order, at most `prefetch` ahead of the consumer, and leave results in a map; the consumer waits for its
// ticket there. `generation` changes on restore, and results of an older one are dropped.
struct DataLoader::Impl {
  struct Result {
    Batch batch;
    std::exception_ptr error;
  };

  Dataset dataset;
  LoaderOptions options;
  int64_t batches = 0;

  mutable std::mutex mutex;
  std::condition_variable work, done;
  uint64_t seed = 0, generation = 0;
  int64_t taken = 0;    // ticket that next() gives out next
  int64_t claimed = 0;  // ticket that a worker takes next
  bool stopping = false;
  std::map<int64_t, Result> results;
  std::map<int64_t, std::shared_ptr<const std::vector<int64_t>>> orders;  // by epoch, of this generation
  std::vector<std::thread> threads;

  // Samples that all shards take together; one shard more than there are samples takes them all.
  int64_t per_step() const {
    int64_t n = 0;
    return __builtin_mul_overflow(options.batch_size, options.shards, &n) ? INT64_MAX : n;
  }

  // Under the lock. Made once per epoch; epochs that are behind are forgotten.
  std::shared_ptr<const std::vector<int64_t>> order(int64_t epoch) {
    if (!options.shuffle) return nullptr;
    orders.erase(orders.begin(), orders.lower_bound(taken / batches));
    auto& o = orders[epoch];
    if (!o) o = std::make_shared<const std::vector<int64_t>>(epoch_order(dataset.size, seed, epoch));
    return o;
  }

  Batch make(int64_t ticket, uint64_t with_seed, const std::vector<int64_t>* order) const {
    Batch b;
    b.epoch = ticket / batches;
    b.index = ticket % batches;
    b.last = b.index + 1 == batches;
    int64_t begin = (b.index * options.shards + options.shard) * options.batch_size;
    int64_t end = begin + std::min(options.batch_size, dataset.size - begin);
    std::vector<RandomStream> random;
    for (int64_t i = begin; i < end; ++i) {
      b.samples.push_back(order ? (*order)[size_t(i)] : i);
      random.emplace_back(with_seed, b.epoch, b.samples.back());
    }
    b.tensors = dataset.fill(b.samples, random);
    return b;
  }

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [&] { return stopping || claimed - taken < options.prefetch; });
      if (stopping) return;
      int64_t ticket = claimed++;
      uint64_t mine = generation, with_seed = seed;
      Result r;
      try {
        auto o = order(ticket / batches);
        lock.unlock();
        r.batch = make(ticket, with_seed, o.get());
      } catch (...) {
        r.error = std::current_exception();
      }
      if (!lock) lock.lock();
      if (mine == generation && ticket >= taken) results.emplace(ticket, std::move(r));
      done.notify_all();
    }
  }
};

DataLoader::DataLoader(Dataset dataset, LoaderOptions options) : impl_(std::make_unique<Impl>()) {
  auto& o = options;
  if (!dataset.fill) throw ValueError("DataLoader: the dataset has no fill function");
  if (o.batch_size < 1 || o.workers < 0 || o.prefetch < 1 || o.shards < 1 || o.shard < 0 || o.shard >= o.shards)
    throw ValueError(
        "DataLoader: batch_size, prefetch and shards must be positive, workers not negative, and shard below "
        "shards");
  if (dataset.size < 0) throw ValueError(fmt::format("DataLoader: a dataset of {} samples", dataset.size));
  int64_t all = dataset.size / o.batch_size;
  if (!o.drop_last && dataset.size % o.batch_size) ++all;
  impl_->batches = all / o.shards;
  if (impl_->batches < 1)
    throw ValueError("DataLoader: an epoch of " + std::to_string(dataset.size) + " samples holds no batch of " +
                     std::to_string(o.batch_size) +
                     (o.shards > 1 ? " for each of " + std::to_string(o.shards) + " shards" : ""));
  impl_->dataset = std::move(dataset);
  impl_->options = o;
  impl_->seed = o.seed;
  try {
    for (int i = 0; i < o.workers; ++i) impl_->threads.emplace_back([impl = impl_.get()] { impl->run(); });
  } catch (const std::exception& e) {  // no thread to be had: those that run must be stopped before the members go
    const size_t started = impl_->threads.size();
    {
      std::lock_guard lock(impl_->mutex);
      impl_->stopping = true;
    }
    impl_->work.notify_all();
    for (auto& t : impl_->threads) t.join();
    throw OutOfMemory(
        fmt::format("DataLoader: worker {} of {} cannot be started: {}", started + 1, o.workers, e.what()));
  }
}

DataLoader::~DataLoader() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->work.notify_all();
  for (auto& t : impl_->threads) t.join();
}

int64_t DataLoader::batches() const { return impl_->batches; }

Batch DataLoader::next() {
  Impl& m = *impl_;
  std::unique_lock lock(m.mutex);
  if (m.threads.empty()) {
    auto order = m.order(m.taken / m.batches);
    Batch batch = m.make(m.taken, m.seed, order.get());
    ++m.taken;
    return batch;
  }
  m.done.wait(lock, [&] { return m.results.count(m.taken) != 0; });
  auto it = m.results.find(m.taken);
  if (it->second.error) std::rethrow_exception(it->second.error);
  Batch batch = std::move(it->second.batch);
  m.results.erase(it);
  ++m.taken;
  lock.unlock();
  m.work.notify_all();
  return batch;
}

void DataLoader::skip() {
  Impl& m = *impl_;
  {
    std::lock_guard lock(m.mutex);
    m.results.erase(m.taken);
    ++m.taken;
    m.claimed = std::max(m.claimed, m.taken);
  }
  m.work.notify_all();
}

LoaderState DataLoader::state() const {
  const Impl& m = *impl_;
  std::lock_guard lock(m.mutex);
  return {.epoch = m.taken / m.batches,
          .position = m.taken % m.batches,
          .seed = m.seed,
          .samples = m.dataset.size,
          .batch_size = m.per_step(),
          .shuffled = m.options.shuffle};
}

void DataLoader::restore(const LoaderState& s) {
  Impl& m = *impl_;
  auto refuse = [&](const std::string& why) {
    throw ValueError(fmt::format("DataLoader: cannot continue at epoch {}, batch {}: {}", s.epoch, s.position, why));
  };
  if (s.position < 0 || s.samples < 0 || s.batch_size < 0) refuse("a negative count");
  const int64_t theirs = s.batch_size ? s.batch_size : m.per_step();
  int64_t position = s.position;
  if (position > 0) {
    if (s.samples && s.samples != m.dataset.size)
      refuse(fmt::format("that was within {} samples, the dataset has {}", s.samples, m.dataset.size));
    if (s.samples && s.shuffled != m.options.shuffle)
      refuse(s.shuffled ? "that was in shuffled order, which this loader does not use"
                        : "that was in the order of the dataset, and this loader shuffles");
    int64_t taken = 0;  // samples of the epoch; a last batch may not be full
    if (__builtin_mul_overflow(position, theirs, &taken)) refuse("an epoch has not as many samples");
    if (theirs == m.per_step()) {
    } else if (taken >= m.dataset.size) {
      position = m.batches;
    } else if (taken % m.per_step()) {
      refuse(fmt::format("{} samples of the epoch are taken, which are no whole batches of {}", taken, m.per_step()));
    } else {
      position = std::min(taken / m.per_step(), m.batches);
    }
  }
  // position == batches is the end of an epoch, which is the start of the next.
  if (s.epoch < 0 || s.epoch >= INT64_MAX / m.batches - 1 || position > m.batches)
    refuse(fmt::format("an epoch has {} batches", m.batches));
  {
    std::lock_guard lock(m.mutex);
    ++m.generation;
    m.seed = s.seed;
    m.taken = m.claimed = s.epoch * m.batches + position;
    m.results.clear();
    m.orders.clear();
  }
  m.work.notify_all();
}

DataLoader::Epoch DataLoader::epoch() { return Epoch(this); }

DataLoader::Epoch::Iterator DataLoader::Epoch::begin() {
  Iterator it;
  it.batch_ = loader_->next();
  it.loader_ = loader_;
  return it;
}

DataLoader::Epoch::Iterator& DataLoader::Epoch::Iterator::operator++() {
  if (batch_.last) loader_ = nullptr;
  else batch_ = loader_->next();
  return *this;
}

}  // namespace whence
