// What TrainStep reads more than once: who is trained, what was assigned before in the same recording, a saved state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "whence/nn/layers.h"
#include "whence/nn/train.h"
#include "tests/nn/io_test_util.h"

using namespace whence;
using namespace whence::nn;
using ::testing::HasSubstr;
using whence::testing::message_of;

namespace {

using Saved = std::map<std::string, Tensor>;
Saved copy(const Saved& s) {
  Saved out;
  for (auto& [name, t] : s) out[name] = t.contiguous_copy();
  return out;
}
std::vector<double> values(const Tensor& t) { return t.to_vector<double>(); }

// loss = sum over the parts of sum(part) x: each gradient is x.
struct Parts : Module {
  Parameter &a = parameter("a", {2}, Init::zeros()), &b = parameter("b", {3}, Init::zeros()),
            &c = parameter("c", {1}, Init::zeros());
  Parts() { init(0, f64); }
  TrainStep::Loss loss() {
    return [this](Graph& g, const Batch& batch) {
      Var x = reshape(g.input("x", batch["x"]), {});
      return sum(a.in(g)) * x + sum(b.in(g)) * x + sum(c.in(g)) * x;
    };
  }
};
Batch one(double x) {
  Batch b;
  b.tensors["x"] = Tensor::from<double>({x});
  return b;
}

TEST(Freezing, IsHonouredFromTheNextBatchOn) {
  Parts m;
  m.b.set_trainable(false);
  TrainStep step(m, SGD{.lr = 1}, m.loss());
  step(one(1));
  EXPECT_EQ(values(m.flat()), (std::vector<double>{-1, -1, 0, 0, 0, -1}));
  m.a.set_trainable(false);
  m.b.set_trainable(true);
  EXPECT_EQ(values(step.gradient(m.a)), (std::vector<double>{1, 1}));  // of the last batch, as it was
  EXPECT_THROW(step.gradient(m.b), ValueError);
  step(one(2));
  EXPECT_EQ(values(m.flat()), (std::vector<double>{-1, -1, -2, -2, -2, -3}));
  EXPECT_EQ(values(step.gradient(m.b)), (std::vector<double>{2, 2, 2}));
  EXPECT_EQ(values(step.gradient(m.c)), (std::vector<double>{2}));
  EXPECT_THROW(step.gradient(m.a), ValueError);
  m.set_trainable(false);
  EXPECT_THAT(message_of<ValueError>([&] { step(one(1)); }), HasSubstr("no parameter of the model is trainable"));
  m.set_trainable(true);
  step(one(4));
  EXPECT_EQ(values(m.flat()), (std::vector<double>{-5, -5, -6, -6, -6, -7}));
  EXPECT_EQ(step.steps(), 3);
}

TEST(Freezing, DropsThePlansOfTheOldSet) {
  Parts m;
  TrainStep step(m, SGD{.lr = 1}, m.loss());
  step(one(1));
  for (int i = 0; i < 6; ++i) {
    m.c.set_trainable(i % 2);
    step(one(1));
    EXPECT_EQ(step.signatures(), 1u);
  }
  EXPECT_EQ(m.c.tensor().item(), -4);
}

TEST(Freezing, InTheMiddleOfAnUpdateKeepsWhatTheOthersHaveGathered) {
  Parts m;
  TrainStep step(m, SGD{.lr = 1}, m.loss(), {.accumulate = 4});
  step(one(4));
  m.a.set_trainable(false);
  step(one(8));
  m.a.set_trainable(true);
  m.c.set_trainable(false);
  step(one(16));
  step(one(32));
  // b saw all four, a lost what it had gathered when it was frozen, c does not move.
  EXPECT_EQ(values(m.flat()), (std::vector<double>{-12, -12, -15, -15, -15, 0}));
  EXPECT_EQ(step.steps(), 1);
}

TEST(Freezing, TheMovingAverageGoesOnTowardsWhatStandsStill) {
  Parts m;
  TrainStep step(m, SGD{.lr = 1}, m.loss(), {.ema_decay = 0.5});
  step(one(8));
  m.a.set_trainable(false);
  for (int i = 0; i < 3; ++i) step(one(0));
  EXPECT_EQ(values(step.ema()->shadow()), (std::vector<double>{-7.5, -7.5, -7.5, -7.5, -7.5, -7.5}));
  for (int i = 0; i < 80; ++i) step(one(0));
  EXPECT_EQ(values(step.ema()->shadow()), (std::vector<double>(6, -8)));
}

// A run that freezes and frees, and one that is saved and loaded between any two batches: the same bits.
TEST(Freezing, ResumesBitwise) {
  auto net = [] {
    struct Net : Module {
      Linear a{*this, "a", 3, 4}, b{*this, "b", 4, 2};
      BatchNorm norm{*this, "norm", 4};
    };
    auto m = std::make_unique<Net>();
    m->init(7);
    return m;
  };
  auto training = [](auto& m) {
    return std::make_unique<TrainStep>(
        m, AdamW{.lr = 0.05},
        [&m](Graph& g, const Batch& b) {
          return mean(square(m.b(dropout(tanh(m.norm(m.a(g.input("x", b["x"])))), 0.2, 3))));
        },
        TrainOptions{.clip_norm = 1, .accumulate = 2, .seed = 3, .ema_decay = 0.8});
  };
  auto freeze = [](auto& m, int i) {
    m.a.weight.set_trainable(i % 4 < 2);
    m.b.set_trainable(i % 5 != 0);
  };
  auto batch = [](int i) {
    Batch b;
    Tensor x = Tensor::empty({5, 3});
    for (int64_t k = 0; k < 15; ++k) x.data<float>()[k] = float(std::sin(double(k * 3 + i)));
    b.tensors["x"] = x;
    return b;
  };
  auto whole = net(), broken = net();
  auto step = training(*whole), other = training(*broken);
  for (int i = 0; i < 14; ++i) {
    freeze(*whole, i);
    freeze(*broken, i);
    Saved saved = copy(other->state());
    broken = net();
    freeze(*broken, i);
    other = training(*broken);
    other->load_state(saved);
    float((*step)(batch(i)));
    float((*other)(batch(i)));
    Saved want = step->state(), got = other->state();
    ASSERT_EQ(want.size(), got.size());
    for (auto& [name, t] : want) ASSERT_TRUE(bitwise_equal(t, got.at(name))) << name << " after batch " << i;
  }
  EXPECT_EQ(step->steps(), 7);
}

TEST(Freezing, BuffersAreNeverTrained) {
  struct Net : Module {
    BatchNorm norm{*this, "norm", 2};
    Linear head{*this, "head", 2, 1};
  } m;
  EXPECT_THAT(message_of<ValueError>([&] { m.norm.running_var.set_trainable(true); }),
              HasSubstr("'norm.running_var' is moved by its module"));
  m.set_trainable(false);
  EXPECT_FALSE(m.head.weight.trainable());
  m.set_trainable(true);
  EXPECT_TRUE(m.norm.weight.trainable());
  EXPECT_FALSE(m.norm.running_mean.trainable());
  m.norm.set_trainable(false);
  EXPECT_FALSE(m.norm.bias.trainable());
  EXPECT_TRUE(m.head.weight.trainable());
}

// ---- one layer at several places ------------------------------------------------------------------------------------

struct Norm : Module {
  BatchNorm norm{*this, "norm", 1, 1e-5, 0.25};
};
Batch columns(std::vector<double> x, std::vector<double> y) {
  Batch b;
  b.tensors["x"] = Tensor::from(x, {int64_t(x.size()), 1});
  b.tensors["y"] = Tensor::from(y, {int64_t(y.size()), 1});
  return b;
}

TEST(BatchNormTwice, BothBatchesCountInTheirOrder) {
  // Means 2 and 10, unbiased variances 2 and 50/3.
  Batch b = columns({1, 3}, {5, 10, 10, 15});
  auto after = [](double first, double second, double start) {
    return (start * 0.75 + first * 0.25) * 0.75 + second * 0.25;
  };
  for (bool swapped : {false, true})
    for (int64_t accumulate : {1, 2})
      for (double ema : {0.0, 0.5}) {
        Norm m;
        m.init(0, f64);
        TrainStep step(m, SGD{.lr = 0},
                       [&](Graph& g, const Batch& batch) {
                         Var x = g.input(swapped ? "y" : "x", batch[swapped ? "y" : "x"]);
                         Var y = g.input(swapped ? "x" : "y", batch[swapped ? "x" : "y"]);
                         Var first = sum(square(m.norm(x)));
                         return first + sum(square(m.norm(y)));
                       },
                       {.accumulate = accumulate, .ema_decay = ema});
        step(b);
        double mean = swapped ? after(10, 2, 0) : after(2, 10, 0),
               var = swapped ? after(50.0 / 3, 2, 1) : after(2, 50.0 / 3, 1);
        EXPECT_NEAR(m.norm.running_mean.tensor().item(), mean, 1e-12);
        EXPECT_NEAR(m.norm.running_var.tensor().item(), var, 1e-12);
        if (ema > 0 && accumulate == 1) {
          EXPECT_NEAR(step.ema()->shadow().item(2), mean / 2, 1e-12);
        }
        step(b);
        EXPECT_NEAR(m.norm.running_mean.tensor().item(), swapped ? after(10, 2, mean) : after(2, 10, mean), 1e-12);
      }
}

TEST(BatchNormTwice, AnInnerLayerInALoop) {
  Norm m;
  m.init(0, f64);
  TrainStep step(m, SGD{.lr = 0}, [&](Graph& g, const Batch& batch) {
    Var x = g.input("x", batch["x"]), loss = sum(x) * 0.0 + sum(m.norm.bias.in(g));
    for (int i = 1; i <= 5; ++i) loss = loss + sum(m.norm(x * double(i)));
    return loss;
  });
  step(columns({1, 3}, {0}));
  double want = 0;
  for (int i = 1; i <= 5; ++i) want = 0.75 * want + 0.25 * 2 * i;
  EXPECT_NEAR(m.norm.running_mean.tensor().item(), want, 1e-12);
}

// A buffer that leaves its range, while loss and gradients are finite: nothing moves.
TEST(BatchNormTwice, AStatisticThatIsNotFiniteChangesNothing) {
  struct Net : Module {
    BatchNorm norm{*this, "norm", 1};
    Parameter& w = parameter("w", {1}, Init::ones());
  } m;
  TrainStep step(m, SGD{.lr = 0.1, .momentum = 0.9},
                 [&](Graph& g, const Batch& b) { return sum(m.norm(g.input("x", b["x"]))) + sum(m.w.in(g)); });
  auto batch = [](float x) {
    Batch b;
    b.tensors["x"] = Tensor::from<float>({x, -x}, {2, 1});
    return b;
  };
  step(batch(1));
  Saved before = copy(step.state());
  EXPECT_THAT(message_of<NumericError>([&] { step(batch(3e20f)); }), HasSubstr("buffer is not finite"));
  for (auto& [name, t] : step.state()) EXPECT_TRUE(bitwise_equal(before.at(name), t)) << name;
  step(batch(1));
  EXPECT_EQ(step.batches(), 2);
}

// ---- saved states ---------------------------------------------------------------------------------------------------

struct Full {
  struct Net : Module {
    Linear a{*this, "a", 2, 3};
    BatchNorm norm{*this, "norm", 3};
  } m;
  std::unique_ptr<TrainStep> step;
  explicit Full(uint64_t seed, int64_t accumulate = 3) {
    m.init(seed);
    m.a.bias->set_trainable(false);
    step = std::make_unique<TrainStep>(
        m, SGD{.lr = 0.1, .momentum = 0.9},
        [this](Graph& g, const Batch& b) { return mean(square(m.norm(m.a(g.input("x", b["x"]))) + 1.0)); },
        TrainOptions{.accumulate = accumulate, .ema_decay = 0.9});
  }
  void run(int batches) {
    for (int i = 0; i < batches; ++i) {
      Batch b;
      b.tensors["x"] = Tensor::from<float>({1, 2, 3, float(i), 5, 7}, {3, 2});
      (*step)(b);
    }
  }
};

TEST(LoadState, EveryDamageIsRefusedAndChangesNothing) {
  Full from(1);
  from.run(5);
  const Saved good = copy(from.step->state());
  ASSERT_TRUE(good.contains("optimizer.updates") && good.contains("pending") && good.contains("ema"));
  std::vector<std::pair<std::string, Saved>> damaged;
  auto with = [&](const std::string& name, const Tensor& t) {
    Saved s = good;
    s[name] = t;
    damaged.emplace_back(name + " " + (t.defined() ? t.str() : "undefined"), s);
  };
  for (auto& [name, t] : good) {
    with(name, Tensor());
    with(name, Tensor::zeros({7, 7}, t.dtype()));
    with(name, Tensor::zeros({}, t.dtype()));
    if (name == "optimizer.updates" || name == "pending") continue;  // 0.1.0 wrote none
    Saved s = good;
    s.erase(name);
    damaged.emplace_back("without " + name, s);
  }
  for (const char* count : {"batches", "optimizer.steps", "pending", "optimizer.updates"})
    for (double bad : {-1.0, 0.5, std::nan(""), HUGE_VAL, 1e300})
      with(count, Tensor::full(good.at(count).shape(), bad, f64));
  with("optimizer.updates", Tensor::full(good.at("optimizer.updates").shape(), 2, i64));  // in one step
  with("pending", Tensor::from<int64_t>({2, 2}));
  with("pending", Tensor::from<int64_t>({2, 4}));
  with("optimizer.momentum_buffer", Tensor::full(good.at("optimizer.momentum_buffer").shape(), std::nan("")));
  with("another", Tensor::scalar(1));
  with("model.another", Tensor::scalar(1));
  with("optimizer.another", Tensor::scalar(1));
  Full into(2);
  into.run(4);
  const Saved before = copy(into.step->state());
  for (auto& [what, state] : damaged) {
    EXPECT_THROW(into.step->load_state(state), ValueError) << what;
    for (auto& [name, t] : into.step->state()) ASSERT_TRUE(bitwise_equal(before.at(name), t)) << name << ": " << what;
    EXPECT_EQ(into.step->batches(), 4);
  }
  into.step->load_state(good);
  for (auto& [name, t] : into.step->state()) EXPECT_TRUE(bitwise_equal(good.at(name), t)) << name;
  Saved narrow = good;  // counts of another type are counts
  for (const char* count : {"batches", "optimizer.steps", "pending", "optimizer.updates"})
    narrow[count] = good.at(count).to(i32);
  into.step->load_state(narrow);
  EXPECT_EQ(into.step->batches(), 5);
}

TEST(LoadState, AnotherAccumulationContinuesBetweenUpdatesOnly) {
  Full from(1, 3), into(2, 2);
  from.run(6);
  into.step->load_state(copy(from.step->state()));
  into.run(1);
  EXPECT_EQ(into.step->steps(), 2);
  into.run(1);
  EXPECT_EQ(into.step->steps(), 3);  // two batches later
  from.run(1);
  EXPECT_THAT(message_of<ValueError>([&] { into.step->load_state(from.step->state()); }),
              HasSubstr("saved after 1 of 3 batches of an update, here an update takes 2"));
}

TEST(LoadState, ModelsAndOptimisersToo) {
  Full a(1), b(2);
  Saved good = copy(a.m.state_dict());
  const Tensor before = b.m.flat().contiguous_copy();
  for (auto& [name, t] : good)
    for (const Tensor& bad : {Tensor(), Tensor::zeros({9})}) {
      Saved s = good;
      s[name] = bad;
      EXPECT_THROW(b.m.load_state_dict(s), ValueError) << name;
      EXPECT_THROW(b.m.load_state_dict(s, false), ValueError) << name;
      EXPECT_TRUE(bitwise_equal(before, b.m.flat()));
    }
}

// ---- what a step refuses --------------------------------------------------------------------------------------------

TEST(TrainStep, RefusesOptionsThatMakeNoSense) {
  Parts m;
  const double nan = std::nan("");
  auto make = [&](TrainOptions o) { TrainStep(m, SGD{}, m.loss(), o); };
  for (int64_t n : {0, -1}) EXPECT_THROW(make({.accumulate = n}), ValueError);
  for (double c : {-1.0, nan, -HUGE_VAL}) EXPECT_THROW(make({.clip_norm = c}), ValueError) << c;
  for (double d : {-0.1, 1.0, 1.5, nan}) EXPECT_THROW(make({.ema_decay = d}), ValueError) << d;
  EXPECT_THROW(make({.schedule = Schedule()}), ValueError);
  EXPECT_THROW(TrainStep(m, SGD{}, TrainStep::Loss()), ValueError);
  for (double d : {-0.1, 1.0, nan}) EXPECT_THROW(Ema(m, d), ValueError) << d;
  EXPECT_NO_THROW(make({.clip_norm = HUGE_VAL}));  // to read the norm alone
}

TEST(TrainStep, AScheduleThatLosesItsWayChangesNothing) {
  for (double bad : {std::nan(""), -1.0, HUGE_VAL}) {
    Parts m;
    TrainStep step(m, AdamW{}, m.loss(), {.schedule = [bad](int64_t s) { return s < 2 ? 1 : bad; }});
    step(one(1));
    step(one(1));
    Saved before = copy(step.state());
    EXPECT_THAT(message_of<ValueError>([&] { step(one(1)); }), HasSubstr("check the schedule"));
    for (auto& [name, t] : step.state()) EXPECT_TRUE(bitwise_equal(before.at(name), t)) << name;
  }
}

TEST(TrainStep, ANumberOfARuleThatIsNoneChangesNothing) {
  struct Lost {
    double lr = 1, weight_decay = 0;
    Var update(Update& u) const {
      return u.p - u.number("gain", [](double lr, int64_t t) { return t < 2 ? lr : std::nan(""); }) * u.g;
    }
  };
  Parts m;
  TrainStep step(m, Lost{}, m.loss());
  step(one(1));
  EXPECT_THAT(message_of<ValueError>([&] { step(one(1)); }), HasSubstr("optimizer.gain is nan at step 1"));
  EXPECT_EQ(values(m.flat()), std::vector<double>(6, -1));
}

TEST(TrainStep, RefusesALossThatCannotBeTrained) {
  Parts m;
  Graph other;
  Var stranger = other.constant(1.0, f64);
  auto text = [&](TrainStep::Loss loss) {
    TrainStep step(m, SGD{}, std::move(loss));
    return message_of<Error>([&] { step(one(1)); });
  };
  EXPECT_THAT(text([&](Graph&, const Batch&) { return Var(); }), HasSubstr("undefined"));
  EXPECT_THAT(text([&](Graph&, const Batch&) { return stranger; }), HasSubstr("another graph"));
  EXPECT_THAT(text([&](Graph& g, const Batch&) { return m.b.in(g)*2.0; }), HasSubstr("must be a scalar, got [3]"));
  EXPECT_THAT(text([&](Graph& g, const Batch&) { return cast(sum(m.b.in(g)), i64); }),
              HasSubstr("must be floating point"));
  EXPECT_THAT(text([&](Graph& g, const Batch& b) { return sum(g.input("x", b["x"])); }),
              HasSubstr("depends on no trainable parameter"));
  EXPECT_THAT(text([&](Graph& g, const Batch&) { return stop_gradient(sum(m.b.in(g))); }),
              HasSubstr("depends on no trainable parameter"));
  EXPECT_THAT(text([&](Graph& g, const Batch&) { return cast(argmax(m.b.in(g), 0), f64); }),
              HasSubstr("depends on no trainable parameter"));
  m.b.set_trainable(false);
  EXPECT_THAT(text([&](Graph& g, const Batch&) { return sum(m.b.in(g)); }),
              HasSubstr("depends on no trainable parameter"));
  TrainStep step(m, SGD{}, m.loss());
  Batch empty = one(1);
  empty.tensors["y"] = Tensor();
  EXPECT_THAT(message_of<ValueError>([&] { step(empty); }), HasSubstr("the batch's tensor 'y' is undefined"));
}

}  // namespace
