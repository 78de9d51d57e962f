#include "whence/nn/data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace whence::testing;

// "x" [b] i64: the sample; "r" [b, 2] f64: two of its random numbers.
Dataset numbers(int64_t n, int microseconds = 0) {
  return {n, [=](std::span<const int64_t> samples, std::span<RandomStream> random) {
            if (microseconds) std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
            int64_t b = int64_t(samples.size());
            Tensor x = Tensor::empty({b}, i64), r = Tensor::empty({b, 2}, f64);
            for (int64_t i = 0; i < b; ++i) {
              x.data<int64_t>()[i] = samples[size_t(i)];
              for (int k = 0; k < 2; ++k) r.data<double>()[i * 2 + k] = random[size_t(i)].uniform();
            }
            return std::map<std::string, Tensor>{{"x", x}, {"r", r}};
          }};
}

struct Seen {
  int64_t epoch, index;
  bool last;
  std::vector<int64_t> x;
  std::vector<double> r;
  bool operator==(const Seen&) const = default;
};
Seen see(const Batch& b) { return {b.epoch, b.index, b.last, b["x"].to_vector<int64_t>(), b["r"].to_vector<double>()}; }
std::vector<Seen> take(DataLoader& loader, int n) {
  std::vector<Seen> out;
  for (int i = 0; i < n; ++i) out.push_back(see(loader.next()));
  return out;
}

// ---- random numbers ---------------------------------------------------------------------------------------------

TEST(RandomStream, TheSameEverywhereForEver) {
  // Pinned: a change here changes every training run that is resumed.
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15ull), 0xe220a8397b1dcdafull);  // splitmix64 of seed 0, as published
  RandomStream r(1, 2, 3);
  EXPECT_EQ(r.bits(), 8137338547440760092ull);
  EXPECT_EQ(r.bits(), 7288117142663666633ull);
  EXPECT_THAT(epoch_order(10, 42, 0), ElementsAre(1, 2, 6, 0, 9, 4, 5, 7, 3, 8));
  EXPECT_THAT(epoch_order(10, 42, 1), ElementsAre(3, 6, 2, 8, 0, 9, 4, 1, 7, 5));
}

TEST(RandomStream, NamesMatterAndCountsAreEven) {
  std::set<uint64_t> firsts;
  for (int seed = 0; seed < 20; ++seed)
    for (int epoch = 0; epoch < 20; ++epoch)
      for (int sample = 0; sample < 20; ++sample) firsts.insert(RandomStream(seed, epoch, sample).bits());
  EXPECT_EQ(firsts.size(), 8000u);
  RandomStream r(5);
  std::vector<int> counts(7);
  double sum = 0, square = 0;
  for (int i = 0; i < 70'000; ++i) {
    ++counts[size_t(r.below(7))];
    double u = r.uniform();
    sum += u;
    square += u * u;
  }
  for (int c : counts) EXPECT_NEAR(c, 10'000, 500);  // 5 sigma is 463
  EXPECT_NEAR(sum / 70'000, 0.5, 0.006);
  EXPECT_NEAR(square / 70'000, 1.0 / 3, 0.006);
}

TEST(RandomStream, ShuffleReachesEveryOrderEvenly) {
  std::map<std::vector<int>, int> orders;
  for (int seed = 0; seed < 24'000; ++seed) {
    std::vector<int> v = {0, 1, 2, 3};
    RandomStream(seed).shuffle(std::span(v));
    ++orders[v];
  }
  EXPECT_EQ(orders.size(), 24u);
  for (auto& [v, n] : orders) EXPECT_NEAR(n, 1000, 160);
}

// ---- order ------------------------------------------------------------------------------------------------------

TEST(DataLoader, AnEpochHoldsEverySampleOnce) {
  for (int workers : {0, 1, 3}) {
    DataLoader loader(numbers(103), {.batch_size = 10, .seed = 3, .workers = workers});
    EXPECT_EQ(loader.batches(), 11);
    std::vector<std::vector<int64_t>> epochs;
    for (int e = 0; e < 3; ++e) {
      std::vector<int64_t> all;
      for (Batch& b : loader.epoch()) {
        EXPECT_EQ(b.epoch, e);
        EXPECT_EQ(b["x"].numel(), b.last ? 3 : 10);
        for (int64_t x : b["x"].to_vector<int64_t>()) all.push_back(x);
      }
      epochs.push_back(all);
      std::sort(all.begin(), all.end());
      for (int64_t i = 0; i < 103; ++i) ASSERT_EQ(all[size_t(i)], i);
    }
    EXPECT_NE(epochs[0], epochs[1]);
    EXPECT_NE(epochs[1], epochs[2]);
  }
}

TEST(DataLoader, DropLastAndNoShuffle) {
  DataLoader loader(numbers(7), {.batch_size = 3, .shuffle = false, .drop_last = true});
  EXPECT_EQ(loader.batches(), 2);
  EXPECT_THAT(loader.next()["x"].to_vector<int64_t>(), ElementsAre(0, 1, 2));
  Batch b = loader.next();
  EXPECT_THAT(b["x"].to_vector<int64_t>(), ElementsAre(3, 4, 5));
  EXPECT_TRUE(b.last);
  EXPECT_THAT(loader.next()["x"].to_vector<int64_t>(), ElementsAre(0, 1, 2));
}

TEST(DataLoader, BatchesDoNotDependOnWorkers) {
  DataLoader plain(numbers(50), {.batch_size = 8, .seed = 9, .workers = 0});
  auto want = take(plain, 30);
  for (int workers : {1, 2, 4})
    for (int prefetch : {1, 2, 16}) {
      DataLoader loader(numbers(50, 50), {.batch_size = 8, .seed = 9, .workers = workers, .prefetch = prefetch});
      EXPECT_EQ(take(loader, 30), want) << workers << " workers, prefetch " << prefetch;
    }
}

TEST(DataLoader, RandomnessBelongsToSampleAndEpochNotToItsPlace) {
  auto per_sample = [](int64_t batch_size, bool shuffle) {
    DataLoader loader(numbers(20), {.batch_size = batch_size, .shuffle = shuffle, .seed = 4});
    std::map<std::pair<int64_t, int64_t>, double> out;
    for (int e = 0; e < 2; ++e)
      for (Batch& b : loader.epoch())
        for (int64_t i = 0; i < b["x"].numel(); ++i) out[{b.epoch, b.samples[size_t(i)]}] = b["r"].item(i * 2);
    return out;
  };
  auto a = per_sample(3, true);
  EXPECT_EQ(a, per_sample(7, true));
  EXPECT_EQ(a, per_sample(7, false));
  std::set<double> distinct;
  for (auto& [k, v] : a) distinct.insert(v);
  EXPECT_EQ(distinct.size(), 40u);
}

// ---- resume -----------------------------------------------------------------------------------------------------

TEST(DataLoader, ResumingContinuesExactly) {
  LoaderOptions options{.batch_size = 4, .seed = 11, .workers = 2, .prefetch = 5};
  DataLoader whole(numbers(30, 20), options);
  auto want = take(whole, 40);
  for (int stop : {0, 1, 7, 8, 9, 16, 23}) {  // 8 batches per epoch
    DataLoader first(numbers(30, 20), options);
    take(first, stop);
    LoaderState state = first.state();
    EXPECT_EQ(state, (LoaderState{stop / 8, stop % 8, 11, 30, 4, true}));
    options.seed = 999;  // the state's seed counts
    DataLoader second(numbers(30, 20), options);
    options.seed = 11;
    second.restore(state);
    EXPECT_EQ(second.state(), state);
    EXPECT_EQ(take(second, 40 - stop), std::vector<Seen>(want.begin() + stop, want.end())) << stop;
    first.restore({});  // in the middle of prefetching, back to the start under another seed
    EXPECT_EQ(first.state().seed, 0u);
  }
  DataLoader again(numbers(30), options);
  again.restore({1, 8, 11});  // the end of an epoch is the start of the next
  EXPECT_EQ(again.state(), (LoaderState{2, 0, 11, 30, 4, true}));
  EXPECT_THROW(again.restore({0, 9, 11}), ValueError);
  EXPECT_THROW(again.restore({-1, 0, 11}), ValueError);
  EXPECT_THROW(again.restore({INT64_MAX, 0, 11}), ValueError);
}

TEST(DataLoader, RestoringWhileWorkersAreBusyDropsTheirBatches) {
  DataLoader plain(numbers(40), {.batch_size = 4, .seed = 2, .workers = 0});
  plain.next();
  auto want = take(plain, 12);
  for (int round = 0; round < 5; ++round) {
    DataLoader loader(numbers(40, 2000), {.batch_size = 4, .seed = 1, .workers = 3, .prefetch = 6});
    loader.next();  // the workers now make batches 1 to 3 of the other seed
    loader.restore({0, 1, 2});
    ASSERT_EQ(take(loader, 12), want);
  }
}

TEST(DataLoader, ShardsSplitAnEpoch) {
  std::vector<int64_t> all;
  for (int shard = 0; shard < 3; ++shard) {
    DataLoader loader(numbers(100), {.batch_size = 8, .drop_last = true, .seed = 5, .shard = shard, .shards = 3});
    EXPECT_EQ(loader.batches(), 4);
    for (Batch& b : loader.epoch())
      for (int64_t x : b["x"].to_vector<int64_t>()) all.push_back(x);
  }
  EXPECT_EQ(all.size(), 96u);
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 96u);
}

// Some options, a position, other options: the rest of the epoch is what was missing, or there is a reason.
TEST(DataLoader, OtherOptionsLoseNoSampleOrAreRefused) {
  RandomStream random(95);
  int continued = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    const int64_t n = 1 + random.below(30);
    auto options = [&] {
      return LoaderOptions{.batch_size = 1 + random.below(6),
                           .shuffle = true,
                           .seed = uint64_t(random.below(3)),
                           .workers = int(random.below(3)),
                           .prefetch = int(1 + random.below(3))};
    };
    DataLoader first(numbers(n), options());
    std::set<int64_t> seen;
    for (int64_t k = random.below(first.batches()); k > 0; --k)
      for (int64_t s : first.next().samples) seen.insert(s);
    LoaderState state = LoaderState::parse(first.state().str());
    EXPECT_EQ(state, first.state());
    const size_t taken = seen.size();
    LoaderOptions other = options();
    DataLoader second(numbers(n), other);
    second.next();
    LoaderState before = second.state();
    try {
      second.restore(state);
    } catch (const ValueError& e) {
      EXPECT_THAT(e.what(), HasSubstr("no whole batches of"));
      EXPECT_NE(int64_t(taken) % other.batch_size, 0);
      EXPECT_EQ(second.state(), before);
      ++refused;
      continue;
    }
    ++continued;
    size_t rest = 0;
    for (Batch& b : second.epoch()) {
      rest += b.samples.size();
      seen.insert(b.samples.begin(), b.samples.end());
    }
    ASSERT_EQ(rest, size_t(n) - taken);
    ASSERT_EQ(seen.size(), size_t(n));
  }
  EXPECT_GT(continued, 50);
  EXPECT_GT(refused, 50);
}

TEST(DataLoader, OtherShardsContinueTheSameEpoch) {
  auto shards = [](int count, int64_t batch) {
    std::vector<std::unique_ptr<DataLoader>> all;
    for (int s = 0; s < count; ++s)
      all.push_back(std::make_unique<DataLoader>(
          numbers(48), LoaderOptions{.batch_size = batch, .seed = 4, .workers = 0, .shard = s, .shards = count}));
    return all;
  };
  std::multiset<int64_t> seen;
  auto two = shards(2, 3), four = shards(4, 3), three = shards(3, 4);
  for (int k = 0; k < 2; ++k)
    for (auto& l : two)
      for (int64_t s : l->next().samples) seen.insert(s);
  for (auto& l : four) {
    l->restore(two[0]->state());
    for (Batch& b : l->epoch())
      for (int64_t s : b.samples) seen.insert(s);
  }
  EXPECT_EQ(seen.size(), 48u);
  EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 48u);
  two[0]->next();  // 18 samples are taken
  for (auto& l : three)
    EXPECT_THAT(message_of<ValueError>([&] { l->restore(two[0]->state()); }),
                HasSubstr("18 samples of the epoch are taken, which are no whole batches of 12"));
}

TEST(DataLoader, AnotherDatasetOrOrderIsRefusedInsideAnEpochOnly) {
  DataLoader first(numbers(20), {.batch_size = 4, .seed = 1, .workers = 0});
  DataLoader other(numbers(21), {.batch_size = 4, .workers = 0});
  DataLoader plain(numbers(20), {.batch_size = 4, .shuffle = false, .workers = 0});
  other.restore(first.state());  // nothing is taken yet
  first.next();
  EXPECT_THAT(message_of<ValueError>([&] { other.restore(first.state()); }),
              HasSubstr("that was within 20 samples, the dataset has 21"));
  EXPECT_THAT(message_of<ValueError>([&] { plain.restore(first.state()); }), HasSubstr("shuffled order"));
  plain.next();
  EXPECT_THAT(message_of<ValueError>([&] { first.restore(plain.state()); }), HasSubstr("this loader shuffles"));
  for (int i = 0; i < 4; ++i) first.next();
  other.restore(first.state());
  EXPECT_EQ(other.state(), (LoaderState{1, 0, 1, 21, 4, true}));
  EXPECT_EQ(other.next().samples.size(), 4u);
}

TEST(LoaderState, ReadsNothingElse) {
  EXPECT_EQ(LoaderState::parse("epoch 3 position 2 seed 18446744073709551615 samples 40 batch 8 in order"),
            (LoaderState{3, 2, ~uint64_t(0), 40, 8, false}));
  for (const char* bad :
       {"", "epoch", "epoch 3", "epoch x position 2 seed 1 samples 40 batch 8 shuffled",
        "epoch 3 position 2 seed 1 samples 40 batch 8 ", "epoch 3 position 2 seed -1 samples 40 batch 8 shuffled",
        "epoch 3 position 2 seed 1 samples 40 batch 8 shuffled ",
        "epoch 03 position 2 seed 1 samples 40 batch 8 shuffled",
        "epoch -0 position 2 seed 1 samples 40 batch 8 shuffled",
        "epoch  3 position 2 seed 1 samples 40 batch 8 shuffled",
        "epoch 99999999999999999999 position 2 seed 1 samples 40 batch 8 shuffled"})
    EXPECT_THROW(LoaderState::parse(bad), ValueError) << bad;
  DataLoader loader(numbers(10), {.batch_size = 2, .workers = 0});
  for (LoaderState bad : {LoaderState{.position = -1}, LoaderState{.samples = -1}, LoaderState{.batch_size = -2},
                          LoaderState{.position = INT64_MAX}, LoaderState{.position = INT64_MAX, .batch_size = 7}})
    EXPECT_THROW(loader.restore(bad), ValueError);
  DataLoader late(numbers(10), {.batch_size = 5, .workers = 1, .prefetch = 4});  // tickets near the end of 64 bits
  late.restore({.epoch = INT64_MAX / 2 - 2, .position = 1});
  EXPECT_TRUE(late.next().last);
}

// ---- trouble ----------------------------------------------------------------------------------------------------

TEST(DataLoader, AWorkersExceptionArrivesAtItsPlaceAndNothingIsLost) {
  for (int workers : {0, 2}) {
    std::atomic<bool> broken{true};
    Dataset data = numbers(20);
    auto good = data.fill;
    data.fill = [&](std::span<const int64_t> s, std::span<RandomStream> r) {
      if (broken && s[0] == 8) throw IoError("sample 8 cannot be read");
      return good(s, r);
    };
    DataLoader loader(data, {.batch_size = 4, .shuffle = false, .workers = workers});
    EXPECT_EQ(loader.next().index, 0);
    EXPECT_EQ(loader.next().index, 1);
    for (int i = 0; i < 2; ++i) EXPECT_EQ(message_of<IoError>([&] { loader.next(); }), "sample 8 cannot be read");
    LoaderState there = loader.state();
    EXPECT_EQ(there.position, 2);
    loader.skip();
    EXPECT_THAT(loader.next()["x"].to_vector<int64_t>(), ElementsAre(12, 13, 14, 15));
    broken = false;
    loader.restore(there);  // mended: the batch is there
    EXPECT_THAT(loader.next()["x"].to_vector<int64_t>(), ElementsAre(8, 9, 10, 11));
  }
}

TEST(DataLoader, ShutsDownAtAnyMoment) {
  for (int i = 0; i < 60; ++i) {
    DataLoader loader(numbers(1000, i * 7 % 300),
                      {.batch_size = 3, .seed = uint64_t(i), .workers = 1 + i % 4, .prefetch = 1 + i % 5});
    take(loader, i % 7);
    if (i % 3 == 0) loader.restore({i, 2, 7});
    if (i % 5 == 0) loader.skip();
  }
}

TEST(DataLoader, StaysWithinItsPrefetch) {
  std::atomic<int64_t> made{0};
  Dataset data = numbers(10'000);
  auto good = data.fill;
  data.fill = [&](std::span<const int64_t> s, std::span<RandomStream> r) {
    ++made;
    return good(s, r);
  };
  DataLoader loader(data, {.batch_size = 2, .workers = 2, .prefetch = 3});
  take(loader, 5);
  for (int i = 0; i < 5000 && made < 8; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // would it go on?
  EXPECT_EQ(made, 8);
}

TEST(DataLoader, RefusesNonsense) {
  EXPECT_THROW(DataLoader(Dataset{5, {}}), ValueError);
  EXPECT_THROW(DataLoader(numbers(5), {.batch_size = 0}), ValueError);
  EXPECT_THROW(DataLoader(numbers(5), {.prefetch = 0}), ValueError);
  EXPECT_THROW(DataLoader(numbers(5), {.shard = 1}), ValueError);
  EXPECT_THAT(message_of<ValueError>([] { DataLoader(numbers(0)); }),
              HasSubstr("an epoch of 0 samples holds no batch"));
  EXPECT_THAT(message_of<ValueError>([] { DataLoader(numbers(5), {.batch_size = 6, .drop_last = true}); }),
              HasSubstr("holds no batch of 6"));
  EXPECT_THROW(DataLoader(numbers(-3)), ValueError);
  EXPECT_THROW(epoch_order(-1, 0, 0), ValueError);
  EXPECT_EQ(DataLoader(numbers(5), {.batch_size = INT64_MAX}).next().samples.size(), 5u);
  EXPECT_THROW(DataLoader(numbers(5), {.batch_size = INT64_MAX, .shard = 1, .shards = 2}), ValueError);
  EXPECT_THAT(message_of<Error>([] { epoch_order(int64_t(1) << 61, 0, 0); }), HasSubstr("memory is not to be had"));
  DataLoader endless(numbers(int64_t(1) << 61), {.batch_size = 4});
  EXPECT_THAT(message_of<Error>([&] { endless.next(); }), HasSubstr("memory is not to be had"));
  DataLoader loader(numbers(5));
  EXPECT_THAT(message_of<ValueError>([&] { loader.next()["y"]; }), HasSubstr("no tensor 'y'; there are: r, x"));
}

}  // namespace
}  // namespace whence
