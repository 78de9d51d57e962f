// TrainStep: learning, accumulation, resuming bitwise after a kill at a random moment.
#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "whence/nn/checkpoint.h"
#include "whence/nn/data/random_stream.h"
#include "whence/nn/layers.h"
#include "whence/nn/train.h"

using namespace whence;
using namespace whence::nn;

namespace {

struct Net : Module {
  Linear a{*this, "a", 8, 16}, b{*this, "b", 16, 4};
  Dropout drop{*this, "drop", 0.1};
  Var operator()(Var x) const { return b(drop(tanh(a(x)))); }
};

Dataset blobs() {
  return {96, [](std::span<const int64_t> samples, std::span<RandomStream> random) {
            int64_t n = int64_t(samples.size());
            Tensor x = Tensor::empty({n, 8}), y = Tensor::empty({n}, i32);
            for (int64_t i = 0; i < n; ++i) {
              int label = int(samples[size_t(i)] % 4);
              y.data<int32_t>()[i] = label;
              for (int k = 0; k < 8; ++k)
                x.data<float>()[i * 8 + k] = float(random[size_t(i)].uniform(-0.5, 0.5) + (k % 4 == label));
            }
            return std::map<std::string, Tensor>{{"x", x}, {"y", y}};
          }};
}

struct Training {
  Net net;
  DataLoader loader{blobs(), {.batch_size = 16, .seed = 5}};
  std::unique_ptr<TrainStep> step;
  explicit Training(TrainOptions o = {}) {
    net.init(2);
    o.clip_norm = 1;
    o.schedule = cosine_schedule(60, 5);
    o.ema_decay = 0.9;
    o.seed = 9;
    step = std::make_unique<TrainStep>(
        net, AdamW{.lr = 0.02},
        [this](Graph& g, const Batch& b) { return cross_entropy(net(g.input("x", b["x"])), g.input("y", b["y"])); }, o);
  }
};

TEST(TrainStep, Learns) {
  Training r;
  float first = (*r.step)(r.loader.next()), last = 0;
  for (int i = 1; i < 60; ++i) last = (*r.step)(r.loader.next());
  EXPECT_NEAR(first, std::log(4.0), 0.6);
  EXPECT_LT(last, 0.5 * first);
}

TEST(TrainStep, TwoHalfBatchesEqualOneBatch) {
  // Without dropout the mean gradient of two halves is the gradient of the whole.
  struct Plain : Module {
    Linear a{*this, "a", 8, 4};
  } one, two;
  one.init(1, f64);
  two.init(1, f64);
  auto loss = [](Plain& m) {
    return [&m](Graph& g, const Batch& b) { return mean(square(m.a(g.input("x", b["x"])))); };
  };
  TrainStep whole(one, SGD{.lr = 0.1}, loss(one)), halves(two, SGD{.lr = 0.1}, loss(two), {.accumulate = 2});
  Tensor x = Tensor::empty({6, 8}, f64);
  for (int64_t i = 0; i < 48; ++i) x.data<double>()[i] = std::sin(double(i));
  Batch all, first, second;
  all.tensors["x"] = x;
  first.tensors["x"] = x.slice(0, 0, 3).contiguous_copy();
  second.tensors["x"] = x.slice(0, 3, 6).contiguous_copy();
  whole(all);
  halves(first);
  EXPECT_EQ(halves.steps(), 0);
  halves(second);
  EXPECT_EQ(halves.steps(), 1);
  EXPECT_LT(max_abs_diff(one.flat(), two.flat()), 1e-15);
}

TEST(TrainStep, NamesTheOpThatMadeTheLossInfinite) {
  struct Bad : Module {
    Parameter& w = parameter("w", {2}, Init::zeros());
  } m;
  TrainStep step(m, SGD{}, [&](Graph& g, const Batch&) { return sum(log(m.w.in(g))); });
  Tensor before = m.flat().contiguous_copy();
  try {
    step(Batch{});
    FAIL() << "accepted";
  } catch (const NumericError& e) {
    EXPECT_NE(std::string(e.what()).find("log recorded at train_test.cpp"), std::string::npos) << e.what();
  }
  EXPECT_TRUE(bitwise_equal(before, m.flat()));
}

struct Normed : Module {
  BatchNorm norm{*this, "norm", 2};
};

// tests/data/checkpoint-0.1.0.safetensors was written by version 0.1.0 after five batches of this training; the losses
// are those that 0.1.0 had in the next four.
TEST(TrainStep, GoesOnFromACheckpointOf010) {
  struct Old : Module {
    Linear a{*this, "a", 8, 16}, b{*this, "b", 16, 4};
    Var operator()(Var x) const { return b(tanh(a(x))); }
  } net;
  TrainStep step(
      net, AdamW{.lr = 0.02},
      [&](Graph& g, const Batch& b) { return cross_entropy(net(g.input("x", b["x"])), g.input("y", b["y"])); },
      {.clip_norm = 1, .schedule = cosine_schedule(60, 5), .seed = 9, .ema_decay = 0.9});
  step.load_state(load_checkpoint("tests/data/checkpoint-0.1.0.safetensors").tensors);
  EXPECT_EQ(step.steps(), 5);
  const double want[] = {1.36120784, 1.3981272, 1.49878931, 1.42361629};
  for (int64_t t = 5; t < 9; ++t) {
    Batch b;
    Tensor x = Tensor::empty({6, 8}), y = Tensor::empty({6}, i32);
    for (int64_t i = 0; i < 48; ++i) x.data<float>()[i] = float((i * 7 + t * 5) % 11) / 5 - 1;
    for (int64_t i = 0; i < 6; ++i) y.data<int32_t>()[i] = int32_t((i + t) % 4);
    b.tensors = {{"x", x}, {"y", y}};
    EXPECT_NEAR(step(b).loss(), want[t - 5], 2e-6) << t;
  }
}

// A finite loss may have a gradient that is not: sqrt at zero. It names the op and changes nothing, clipped or not.
TEST(TrainStep, NamesTheOpThatMadeTheGradientInfiniteAndUpdatesNothing) {
  for (double clip : {0.0, 1.0})
    for (double ema : {0.0, 0.9}) {
      struct Bad : Module {
        Parameter& w = parameter("w", {2}, Init::zeros());
        Parameter& v = parameter("v", {3}, Init::ones());
      } m;
      TrainStep step(m, AdamW{},
                     [&](Graph& g, const Batch& b) {
                       Var x = g.input("x", b["x"]);
                       return sum(sqrt(m.w.in(g)*x)) + sum(m.v.in(g));
                     },
                     {.clip_norm = clip, .ema_decay = ema});
      Batch good, bad;
      good.tensors["x"] = Tensor::zeros({2});
      bad.tensors["x"] = Tensor::full({2}, 1);
      std::map<std::string, Tensor> before;
      for (auto& [name, t] : step.state()) before[name] = t.contiguous_copy();
      try {
        float(step(bad));
        FAIL() << "accepted";
      } catch (const NumericError& e) {
        std::string text = e.what();
        EXPECT_NE(text.find("norm of the gradient is"), std::string::npos) << text;
        EXPECT_NE(text.find("while differentiating sqrt recorded at train_test.cpp"), std::string::npos) << text;
      }
      for (auto& [name, t] : step.state()) EXPECT_TRUE(bitwise_equal(before.at(name), t)) << name;
      EXPECT_EQ(step.steps(), 0);
      EXPECT_EQ(step.batches(), 0);
    }
}

TEST(TrainStep, ABatchThatAKernelRefusesChangesNothing) {
  struct Table : Module {
    Embedding words{*this, "words", 5, 3};
    Parameter& other = parameter("other", {2}, Init::ones());
  } m;
  m.init(1);
  TrainStep step(m, SGD{.lr = 0.1}, [&](Graph& g, const Batch& b) {
    return sum(square(m.words(g.input("ids", b["ids"], {.carries = false})))) + sum(square(m.other.in(g)));
  });
  Batch good, bad;
  good.tensors["ids"] = Tensor::from<int32_t>({1, 4});
  bad.tensors["ids"] = Tensor::from<int32_t>({1, 5});
  float(step(good));
  Tensor before = m.flat().contiguous_copy();
  EXPECT_THROW(step(bad), ValueError);
  EXPECT_TRUE(bitwise_equal(before, m.flat()));
  EXPECT_EQ(step.steps(), 1);
  float(step(good));
  EXPECT_FALSE(bitwise_equal(before, m.flat()));
}

TEST(TrainStep, KeepsABoundedNumberOfSignatures) {
  struct Plain : Module {
    Linear a{*this, "a", 4, 1};
  } m;
  TrainStep step(m, SGD{}, [&](Graph& g, const Batch& b) { return mean(square(m.a(g.input("x", b["x"])))); });
  for (int round = 0; round < 2; ++round)
    for (int64_t n = 1; n < 80; ++n) {
      Batch b;
      b.tensors["x"] = Tensor::full({n, 4}, 1);
      float(step(b));
    }
  EXPECT_EQ(step.steps(), 158);
  EXPECT_LE(step.signatures(), TrainStep::kMaxSignatures);
}

// 127 lengths of a batch: what a dropped plan held is given back, and the plans that are kept share the gradients.
TEST(TrainStep, ManySignaturesTakeLittleMemory) {
  // A sanitizer has an allocator of its own and says 0 here.
  auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  struct Wide : Module {
    Linear a{*this, "a", 1024, 1024};  // 4 MiB
  } m;
  auto batch = [](int64_t n) {
    Batch b;
    b.tensors["x"] = Tensor::full({n, 1024}, 0.5);
    return b;
  };
  for (int64_t accumulate : {1, 2}) {
    TrainStep step(m, AdamW{}, [&](Graph& g, const Batch& b) { return mean(square(m.a(g.input("x", b["x"])))); },
                   {.accumulate = accumulate});
    for (int i = 0; i < accumulate; ++i) step(batch(127));
    const size_t before = in_use();
    for (int64_t n = 1; n < 127; ++n) step(batch(n));
    EXPECT_LT(in_use(), before + (size_t(8) << 20)) << "two more models at most, where each plan once kept one";
  }
}

// An optimiser of one's own: a struct with lr, weight_decay and update().
struct SignDescent {
  double lr = 0.1, weight_decay = 0;
  Var update(Update& u) const {
    Var seen = u.remembered("seen") + abs(u.g);
    u.remember("seen", seen);
    return u.p - u.lr() * sign(u.g);
  }
};
TEST(TrainStep, TakesAnOptimiserOfTheUsersOwn) {
  struct One : Module {
    Parameter& w = parameter("w", {3}, Init::ones());
  } m;
  TrainStep step(m, SignDescent{}, [&](Graph& g, const Batch&) { return sum(square(m.w.in(g))); });
  for (int i = 0; i < 3; ++i) float(step(Batch{}));
  EXPECT_NEAR(m.flat().item(), 0.7, 1e-6);
  EXPECT_NEAR(step.state().at("optimizer.seen").item(), 2 + 1.8 + 1.6, 1e-5);
}

TEST(BatchNorm, TrainingMovesTheRunningStatisticsAndEvaluationUsesThem) {
  Normed m;
  m.init(0, f64);
  Batch batch;
  batch.tensors["x"] =
      Tensor::from<double>({1, 2, 3, 6, 0, 0, 4, 4}, {2, 2, 2});  // channel 0: 1 2 0 0, channel 1: 3 6 4 4
  TrainStep step(m, SGD{.lr = 0},
                 [&](Graph& g, const Batch& b) { return sum(square(m.norm(g.input("x", b["x"])) + 1.0)); },
                 {.accumulate = 2});
  double mean[] = {0.75, 4.25}, biased[] = {0.6875, 1.1875};
  EXPECT_NEAR(step(batch), 8 + 4 * (0.6875 / 0.68751 + 1.1875 / 1.18751), 1e-4);  // sum of y^2 and of ones
  step(batch);  // every batch counts, whatever is accumulated
  for (int64_t c : {0, 1}) {
    EXPECT_NEAR(m.norm.running_mean.tensor().item(c), 0.19 * mean[c], 1e-12);
    EXPECT_NEAR(m.norm.running_var.tensor().item(c), 0.81 + 0.19 * biased[c] * 4 / 3, 1e-12);
    EXPECT_EQ(m.norm.weight.tensor().item(c), 1);
  }
  Graph g(Graph::Mode::immediate);
  Tensor y = m.norm(g.input("x", batch["x"])).value();
  EXPECT_NEAR(y.item(3), (6 - 0.19 * 4.25) / std::sqrt(0.81 + 0.19 * 1.1875 * 4 / 3 + 1e-5), 1e-12);
  Graph training(Graph::Mode::immediate, {.training = true});
  EXPECT_THROW(m.norm(training.input("one", Tensor::zeros({1, 2}, f64))), ShapeError);
}

TEST(BatchNorm, ABatchThatFailsMovesNothing) {
  Normed m;
  m.init(0, f64);
  Batch batch;
  batch.tensors["x"] = Tensor::zeros({3, 2}, f64);
  TrainStep step(m, SGD{}, [&](Graph& g, const Batch& b) { return sum(log(m.norm(g.input("x", b["x"])))); });
  Tensor before = m.flat().contiguous_copy();
  EXPECT_THROW(step(batch), NumericError);
  EXPECT_TRUE(bitwise_equal(before, m.flat()));
}

// Trains `steps` batches in all, saving after each; goes on from what is in the folder.
void train(const std::string& folder, int64_t steps) {
  Training r({.accumulate = 2});
  CheckpointFolder saved(folder, 2);
  if (auto found = saved.latest()) {
    Checkpoint c = load_checkpoint(found->path);
    r.step->load_state(c.tensors);
    r.loader.restore(
        {.epoch = std::stoll(c.metadata.at("epoch")), .position = std::stoll(c.metadata.at("position")), .seed = 5});
  }
  while (r.step->batches() < steps) {
    (*r.step)(r.loader.next());
    LoaderState s = r.loader.state();
    saved.save(r.step->batches(), r.step->state(),
               {{"epoch", std::to_string(s.epoch)}, {"position", std::to_string(s.position)}});
  }
}

TEST(TrainStep, KilledAtRandomMomentsItResumesBitwise) {
  namespace fs = std::filesystem;
  fs::path base = fs::temp_directory_path() / ("whence_resume_" + std::to_string(getpid()));
  std::string whole = base / "whole", broken = base / "broken";
  constexpr int64_t kSteps = 41;
  auto child = [&](const std::string& folder) {
    pid_t pid = fork();
    if (pid == 0) {
      try {
        train(folder, kSteps);
        _exit(0);
      } catch (const std::exception& e) {
        fprintf(stderr, "%s\n", e.what());
        _exit(1);
      }
    }
    return pid;
  };
  int status = 0;
  auto start = std::chrono::steady_clock::now();
  waitpid(child(whole), &status, 0);
  ASSERT_EQ(status, 0);
  int64_t microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
  RandomStream random{uint64_t(getpid())};
  int kills = 0;
  for (int attempt = 0; attempt < 200; ++attempt) {
    pid_t pid = child(broken);
    // At first well inside a run, then ever longer, until one comes through.
    usleep(useconds_t(random.below(attempt < 12 ? microseconds / 2 : microseconds * (attempt - 10))));
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (WIFEXITED(status)) break;
    ++kills;
  }
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0);
  EXPECT_GT(kills, 0);
  Checkpoint a = load_checkpoint(CheckpointFolder(whole).path_of(kSteps)),
             b = load_checkpoint(CheckpointFolder(broken).path_of(kSteps));
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (auto& [name, t] : a.tensors) EXPECT_TRUE(bitwise_equal(t, b.tensors.at(name))) << name;
  fs::remove_all(base);
}

}  // namespace
