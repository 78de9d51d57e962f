// The loop that programs share, and batched evaluation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "tests/thrown.h"
#include "whence/nn/checkpoint.h"
#include "whence/nn/evaluate.h"
#include "whence/nn/fit.h"
#include "whence/nn/layers.h"
#include "whence/nn/metrics.h"

namespace whence::nn {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Net : Module {
  Linear a{*this, "a", 8, 16}, b{*this, "b", 16, 4};
  Dropout drop{*this, "drop", 0.1};
  Var operator()(Arg x) const { return b(drop(tanh(a(x)))); }
};

// Four clouds; sample i belongs to cloud i % 4.
Dataset clouds(int64_t n = 50) {
  return {n, [](std::span<const int64_t> samples, std::span<RandomStream> random) {
            const int64_t m = int64_t(samples.size());
            Tensor x = Tensor::empty({m, 8}), y = Tensor::empty({m}, i32);
            for (int64_t i = 0; i < m; ++i) {
              const int label = int(samples[size_t(i)] % 4);
              y.data<int32_t>()[i] = label;
              for (int k = 0; k < 8; ++k)
                x.data<float>()[i * 8 + k] = float(random[size_t(i)].uniform(-0.5, 0.5) + (k % 4 == label));
            }
            return std::map<std::string, Tensor>{{"x", x}, {"y", y}};
          }};
}

struct Training {
  Net net;
  TrainStep step{
      net,
      AdamW{.lr = 0.02},
      [this](Graph& g, const Batch& b) { return cross_entropy(net(g.input("x", b["x"])), g.input("y", b["y"])); },
      {.seed = 5}};
  DataLoader loader{clouds(), {.batch_size = 8, .seed = 3}};
  EvalStep eval{
      net, [this](Graph& g, const Batch& b) -> EvalStep::Named {
        Var scores = net(g.input("x", b["x"]));
        return {{"accuracy", mean(cast(argmax(scores) == cast(g.input("y", b["y"]), i64), f32))}, {"scores", scores}};
      }};
  explicit Training(uint64_t seed = 1) { net.init(seed); }
  double accuracy() {
    DataLoader all = in_order(clouds(30), 8);
    return eval.over(all)["accuracy"].item();
  }
};

struct Folder {
  fs::path path = fs::temp_directory_path() / ("whence_fit_" + std::to_string(getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const char* name) const { return (path / name).string(); }
};

TEST(EvalStep, AveragesScalarsBySamplesAndPutsRowsBehindEachOther) {
  Training t;
  DataLoader all = in_order(clouds(30), 8);  // 8, 8, 8, 6
  auto r = t.eval.over(all);
  EXPECT_EQ(r["scores"].shape(), (Shape{30, 4}));
  EXPECT_EQ(t.eval.signatures(), 2u);
  double right = 0;
  for (int64_t i = 0; i < 30; ++i) {
    int64_t best = 0;
    for (int64_t c = 1; c < 4; ++c)
      if (r["scores"].item(4 * i + c) > r["scores"].item(4 * i + best)) best = c;
    right += best == i % 4;
  }
  EXPECT_NEAR(r["accuracy"].item(), right / 30, 1e-6);
  EXPECT_THAT(thrown<ValueError>([&] { EvalStep(t.net, {}); }), HasSubstr("function is empty"));
}

TEST(Fit, TrainsWatchesKeepsTheBestAndStopsEarly) {
  Folder folder;
  Training t;
  std::vector<double> seen;
  FitResult r = fit(t.step, t.loader,
                    {.epochs = 40,
                     .folder = folder / "run",
                     .progress = false,
                     .validate =
                         [&] {
                           seen.push_back(t.accuracy());
                           return std::map<std::string, double>{{"accuracy", seen.back()}};
                         },
                     .larger_is_better = true,
                     .patience = 3});
  EXPECT_TRUE(r.stopped_early);
  EXPECT_EQ(r.best, *std::max_element(seen.begin(), seen.end()));
  EXPECT_EQ(r.best_epoch, std::max_element(seen.begin(), seen.end()) - seen.begin());
  EXPECT_EQ(r.epochs, r.best_epoch + 4);
  EXPECT_EQ(t.accuracy(), r.best);  // the model has the best epoch's weights
  EXPECT_TRUE(
      bitwise_equal(load_checkpoint(folder / "run/best.safetensors").tensors.at("a.weight"), t.net.a.weight.tensor()));
  EXPECT_TRUE(fs::exists(folder / "run/loss.svg"));
  auto [x, y] = metric_series(read_metrics(folder / "run/metrics.jsonl"), "epoch", "epoch_accuracy");
  EXPECT_EQ(y, seen);
}

// Interrupted by a signal in the middle of an epoch, and gone on with by another process: the same bits.
TEST(Fit, AnInterruptedRunGoesOnBitwise) {
  Folder folder;
  Training whole;
  FitOptions options{.epochs = 4, .progress = false, .validate = {}, .on_epoch = {}};
  const FitResult want = fit(whole.step, whole.loader, options);
  EXPECT_FALSE(want.interrupted);
  options.folder = folder / "broken";
  {
    Training first;
    int64_t batches = 0;
    Dataset data = clouds();
    auto fill = data.fill;
    data.fill = [&](auto samples, auto random) {
      if (++batches == 17) raise(SIGINT);  // in the third of four epochs
      return fill(samples, random);
    };
    DataLoader loader(data, {.batch_size = 8, .seed = 3, .workers = 0});
    FitResult r = fit(first.step, loader, options);
    EXPECT_TRUE(r.interrupted);
    EXPECT_EQ(r.epochs, 2);
  }
  Training second(99);  // other weights: the checkpoint has them all
  const FitResult got = fit(second.step, second.loader, options);
  EXPECT_EQ(got.epochs, 4);
  EXPECT_EQ(got.loss, want.loss);
  EXPECT_TRUE(bitwise_equal(second.net.flat(), whole.net.flat()));
  const Tensor before = second.net.flat().contiguous_copy();
  Training third(7);
  fit(third.step, third.loader, options);  // a finished run is not repeated
  EXPECT_TRUE(bitwise_equal(third.net.flat(), before));
}

TEST(Fit, RefusesWhatMakesNoSense) {
  Training t;
  EXPECT_THROW(fit(t.step, t.loader, {.epochs = 0}), ValueError);
  EXPECT_THAT(thrown<ValueError>([&] { fit(t.step, t.loader, {.patience = 2}); }),
              HasSubstr("patience needs validate"));
  EXPECT_THAT(thrown<ValueError>([&] {
                fit(t.step, t.loader,
                    {.progress = false,
                     .validate =
                         [] {
                           return std::map<std::string, double>{{"a", 1}};
                         },
                     .watch = "b"});
              }),
              HasSubstr("no figure 'b'"));
}

}  // namespace
}  // namespace whence::nn
