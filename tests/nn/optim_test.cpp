// Every optimiser: its rule written out per element, groups, gradient scale, frozen parameters, and going on from a
// checkpoint bit by bit. Then schedules.
#include "whence/nn/optim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "whence/nn/checkpoint.h"
#include "whence/nn/layers.h"
#include "whence/nn/schedule.h"
#include "whence/nn/train.h"
#include "whence/ops/ops.h"
#include "tests/nn/io_test_util.h"

using namespace whence;
using namespace whence::nn;
using whence::testing::TempFolder;

namespace {

struct Mlp : Module {
  Linear in{*this, "in", 5, 7}, out{*this, "out", 7, 3, false};
};
constexpr int64_t kBias = 35, kOut = 42;  // where in.bias and out.weight begin

Tensor gradient(int64_t n, int64_t step, DType dtype) {
  Tensor g = Tensor::empty({n}, f64);
  for (int64_t i = 0; i < n; ++i) g.data<double>()[i] = std::sin(double(i * 7 + step * 13)) * (1 + 0.3 * double(step));
  return g.to(dtype);
}

// One element: parameter, three memories that begin at zero (or where `begin` puts them), step from 1.
struct Element {
  double p = 0, s[3] = {};
};
struct Method {
  std::string name;
  OptimizerConfig config;
  std::vector<std::string> state;
  bool decoupled;
  std::function<void(Element&, double g, double lr, int t)> rule;
  double begin = 0;
};

double seen(double beta, int t) { return 1 - std::pow(beta, t); }
void means(Element& e, double g, double b1, double b2) {
  e.s[0] = b1 * e.s[0] + (1 - b1) * g;
  e.s[1] = b2 * e.s[1] + (1 - b2) * g * g;
}
void adam(Element& e, double g, double lr, int t) {
  means(e, g, 0.9, 0.99);
  e.p -= lr * e.s[0] / seen(0.9, t) / (std::sqrt(e.s[1] / seen(0.99, t)) + 1e-6);
}
void amsgrad(Element& e, double g, double lr, int t) {
  means(e, g, 0.9, 0.6);
  e.s[2] = std::max(e.s[2], e.s[1]);
  e.p -= lr * e.s[0] / seen(0.9, t) / (std::sqrt(e.s[2] / seen(0.6, t)) + 1e-6);
}
void nadam(Element& e, double g, double lr, int t) {
  auto mu = [](int k) { return 0.9 * (1 - 0.5 * std::pow(0.96, k * 0.1)); };
  double product = 1;
  for (int k = 1; k <= t; ++k) product *= mu(k);
  means(e, g, 0.9, 0.99);
  double root = std::sqrt(e.s[1] / seen(0.99, t)) + 1e-6;
  e.p -= lr * (1 - mu(t)) / (1 - product) * g / root + lr * mu(t + 1) / (1 - product * mu(t + 1)) * e.s[0] / root;
}
void radam(Element& e, double g, double lr, int t) {
  means(e, g, 0.9, 0.8);
  double longest = 2 / (1 - 0.8) - 1, length = longest - 2 * t * std::pow(0.8, t) / seen(0.8, t),
         step = e.s[0] / seen(0.9, t);
  if (length > 5)
    step *= std::sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) *
            std::sqrt(seen(0.8, t)) / (std::sqrt(e.s[1]) + 1e-6);
  e.p -= lr * step;
}
void adamax(Element& e, double g, double lr, int t) {
  e.s[0] = 0.9 * e.s[0] + 0.1 * g;
  e.s[1] = std::max(0.99 * e.s[1], std::fabs(g) + 1e-6);
  e.p -= lr / seen(0.9, t) * e.s[0] / e.s[1];
}
void adagrad(Element& e, double g, double lr, int t) {
  e.s[0] += g * g;
  e.p -= lr / (1 + (t - 1) * 0.1) * g / (std::sqrt(e.s[0]) + 1e-6);
}
void adadelta(Element& e, double g, double lr, int) {
  e.s[0] = 0.9 * e.s[0] + 0.1 * g * g;
  double c = std::sqrt(e.s[1] + 1e-4) / std::sqrt(e.s[0] + 1e-4) * g;
  e.s[1] = 0.9 * e.s[1] + 0.1 * c * c;
  e.p -= lr * c;
}
void rmsprop(Element& e, double g, double lr, int) {
  e.s[0] = 0.9 * e.s[0] + 0.1 * g * g;
  e.p -= lr * g / (std::sqrt(e.s[0]) + 1e-6);
}
void rmsprop_centered(Element& e, double g, double lr, int) {
  e.s[0] = 0.9 * e.s[0] + 0.1 * g * g;
  e.s[1] = 0.9 * e.s[1] + 0.1 * g;
  e.s[2] = 0.5 * e.s[2] + g / (std::sqrt(e.s[0] - e.s[1] * e.s[1]) + 1e-6);
  e.p -= lr * e.s[2];
}
void sgd(Element& e, double g, double lr, int) { e.p -= lr * g; }
void sgd_momentum(Element& e, double g, double lr, int t) {
  e.s[0] = t == 1 ? g : 0.9 * e.s[0] + 0.7 * g;
  e.p -= lr * (g + 0.9 * e.s[0]);
}
void lion(Element& e, double g, double lr, int) {
  double u = 0.9 * e.s[0] + 0.1 * g;
  e.s[0] = 0.99 * e.s[0] + 0.01 * g;
  e.p -= lr * ((u > 0) - (u < 0));
}

const std::vector<Method>& methods() {
  const std::string m = "exp_avg", v = "exp_avg_sq", top = "max_exp_avg_sq", b = "momentum_buffer";
  static const std::vector<Method> all{
      {"AdamW", AdamW{0.1, 0.9, 0.99, 1e-6, 0.05}, {m, v}, true, adam},
      {"AdamWamsgrad", AdamW{0.1, 0.9, 0.6, 1e-6, 0.05, true}, {m, v, top}, true, amsgrad},
      {"Adam", Adam{0.1, 0.9, 0.99, 1e-6, 0.05}, {m, v}, false, adam},
      {"Adamamsgrad", Adam{0.1, 0.9, 0.6, 1e-6, 0.05, true}, {m, v, top}, false, amsgrad},
      {"NAdam", NAdam{0.1, 0.9, 0.99, 1e-6, 0.05, 0.1}, {m, v}, false, nadam},
      {"RAdam", RAdam{0.1, 0.9, 0.8, 1e-6, 0.05}, {m, v}, false, radam},
      {"Adamax", Adamax{0.1, 0.9, 0.99, 1e-6, 0.05}, {m, "exp_inf"}, false, adamax},
      {"Adagrad", Adagrad{0.1, 0.1, 1e-6, 0.05, 0.2}, {"sum"}, false, adagrad, 0.2},
      {"Adadelta", Adadelta{0.1, 0.9, 1e-4, 0.05}, {"square_avg", "acc_delta"}, false, adadelta},
      {"RMSprop", RMSprop{0.1, 0.9, 1e-6, 0.05}, {"square_avg"}, false, rmsprop},
      {"RMSpropCentered",
       RMSprop{0.1, 0.9, 1e-6, 0.05, 0.5, true},
       {"square_avg", "grad_avg", b},
       false,
       rmsprop_centered},
      {"SGD", SGD{0.1, 0, 0, 0.05}, {}, false, sgd},
      {"SGDnesterov", SGD{0.1, 0.9, 0.3, 0.05, true}, {b}, false, sgd_momentum},
      {"Lion", Lion{0.1, 0.9, 0.99, 0.05}, {m}, true, lion}};
  return all;
}

class EveryOptimizer : public ::testing::TestWithParam<size_t> {
 protected:
  const Method& method = methods()[GetParam()];
};
INSTANTIATE_TEST_SUITE_P(, EveryOptimizer, ::testing::Range(size_t(0), methods().size()),
                         [](const auto& i) { return methods()[i.param].name; });

TEST_P(EveryOptimizer, FollowsItsRule) {
  Mlp m;
  m.init(1, f64);
  m.out.weight.set_trainable(false);
  Tensor before = m.flat().contiguous_copy();
  Optimizer o(m, method.config, {{.pattern = "*.bias", .lr_scale = 0.5, .weight_decay = 0}});
  std::vector<Element> want(kOut);
  for (int64_t i = 0; i < kOut; ++i) want[size_t(i)] = {.p = before.item(i), .s = {method.begin}};
  for (int t = 1; t <= 12; ++t) {
    Tensor g = gradient(m.flat().numel(), t, f64);
    double factor = t % 2 ? 1 : 0.3, scale = t % 3 ? 1 : 0.25;
    o.step(g.slice(0, 0, kOut), factor, scale);  // of what is trained
    for (int64_t i = 0; i < kOut; ++i) {
      Element& e = want[size_t(i)];
      double lr = 0.1 * factor * (i < kBias ? 1 : 0.5), decay = i < kBias ? 0.05 : 0, d = scale * g.item(i);
      if (method.decoupled) e.p *= 1 - lr * decay;
      else d += decay * e.p;
      method.rule(e, d, lr, t);
      // PyTorch's NAdam holds a product of momenta in single precision, and so does ours.
      ASSERT_NEAR(m.flat().item(i), e.p, method.name == "NAdam" ? 1e-6 : 1e-12) << "element " << i << ", step " << t;
    }
  }
  for (int64_t i = kOut; i < m.flat().numel(); ++i) EXPECT_EQ(m.flat().item(i), before.item(i));  // frozen
}

TEST_P(EveryOptimizer, GoesOnFromACheckpointBitByBit) {
  TempFolder tmp;
  for (DType dtype : {f32, f64}) {
    auto run = [&](Mlp& m, Optimizer& o, int from, int until) {
      for (int t = from; t < until; ++t) o.step(gradient(m.flat().numel(), t, dtype), 1.0 / (1 + t), 0.5);
    };
    Mlp whole, first, second;
    for (Mlp* m : {&whole, &first, &second}) m->init(3, dtype);
    Optimizer a(whole, method.config), b(first, method.config), c(second, method.config);
    run(whole, a, 0, 9);
    run(first, b, 0, 4);
    TensorMap saved = b.state();
    std::vector<std::string> names{"steps"};
    names.insert(names.end(), method.state.begin(), method.state.end());
    EXPECT_THAT(saved, ::testing::SizeIs(names.size()));
    for (const std::string& name : names) EXPECT_TRUE(saved.contains(name)) << name;
    saved["flat"] = first.flat();
    save_checkpoint(tmp / "c", saved);
    Checkpoint found = load_checkpoint(tmp / "c");
    second.flat().copy_from(found.tensors.at("flat"));
    found.tensors.erase("flat");
    c.load_state(found.tensors);
    EXPECT_EQ(c.steps(), 4);
    run(second, c, 4, 9);
    EXPECT_TRUE(bitwise_equal(whole.flat(), second.flat()));
    for (auto& [name, t] : a.state()) EXPECT_TRUE(bitwise_equal(t, c.state().at(name))) << name;
  }
}

// A parameter counts its own updates: frozen for a while, it goes on where it was.
TEST_P(EveryOptimizer, FreezingAndFreeingKeepEachParametersOwnCount) {
  Mlp m;
  m.init(2, f64);
  m.out.weight.set_trainable(false);
  Tensor before = m.flat().contiguous_copy();
  Optimizer o(m, method.config);
  std::vector<Element> want(size_t(m.flat().numel()));
  std::vector<int> t(want.size());
  for (size_t i = 0; i < want.size(); ++i) want[i] = {.p = before.item(int64_t(i)), .s = {method.begin}};
  struct {
    bool weight, bias, out;
  } trained[] = {{true, true, false}, {true, false, false}, {true, false, true},  {false, true, true},
                 {true, true, true},  {true, true, true},   {false, false, true}, {true, true, true}};
  for (int step = 1; step <= 8; ++step) {
    auto now = trained[step - 1];
    m.in.weight.set_trainable(now.weight);
    m.in.bias->set_trainable(now.bias);
    m.out.weight.set_trainable(now.out);
    Tensor all = gradient(m.flat().numel(), step, f64);
    std::vector<double> packed;
    for (int64_t i = 0; i < m.flat().numel(); ++i) {
      if (!(i < kBias ? now.weight : i < kOut ? now.bias : now.out)) continue;
      packed.push_back(all.item(i));
      Element& e = want[size_t(i)];
      double d = all.item(i);
      if (method.decoupled) e.p *= 1 - 0.1 * 0.05;
      else d += 0.05 * e.p;
      method.rule(e, d, 0.1, ++t[size_t(i)]);
    }
    if (step == 4) {  // and a checkpoint in between changes nothing
      TensorMap saved;
      for (auto& [name, x] : o.state()) saved[name] = x.contiguous_copy();
      EXPECT_EQ(saved.at("updates").to_vector<int64_t>(), (std::vector<int64_t>{3, 1, 1}));
      Optimizer fresh(m, method.config);
      fresh.load_state(saved);
      for (auto& [name, x] : fresh.state()) EXPECT_TRUE(bitwise_equal(x, saved.at(name))) << name;
      o.load_state(saved);
    }
    o.step(Tensor::from(packed));
    for (int64_t i = 0; i < m.flat().numel(); ++i)
      ASSERT_NEAR(m.flat().item(i), want[size_t(i)].p, method.name == "NAdam" ? 1e-6 : 1e-12)
          << "element " << i << ", step " << step;
  }
}

TEST_P(EveryOptimizer, AGradientThatIsNotFiniteChangesNothing) {
  for (double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    Mlp m;
    m.init(4);
    Optimizer o(m, method.config);
    o.step(gradient(m.flat().numel(), 1, f32));
    TensorMap before = o.state();
    for (auto& [name, t] : before) t = t.contiguous_copy();
    Tensor weights = m.flat().contiguous_copy(), g = gradient(m.flat().numel(), 2, f32);
    g.slice(0, 17, 18).fill(bad);
    EXPECT_THROW(o.step(g), NumericError);
    EXPECT_THROW(o.step(gradient(m.flat().numel(), 2, f32), 1, bad), NumericError);
    EXPECT_THROW(o.step(gradient(m.flat().numel(), 2, f32), bad), ValueError);
    EXPECT_TRUE(bitwise_equal(m.flat(), weights));
    for (auto& [name, t] : o.state()) EXPECT_TRUE(bitwise_equal(t, before.at(name))) << name;
  }
}

// In a whole step, with everything that a step moves: a finite loss, and the gradient of one parameter is NaN or
// infinite.
TEST_P(EveryOptimizer, AFiniteLossWithABadGradientChangesNothing) {
  struct Net : Module {
    BatchNorm norm{*this, "norm", 2};
    Parameter &a = parameter("a", {3}, Init::ones()), &b = parameter("b", {2}, Init::ones());
  };
  for (double clip : {0.0, 0.5})
    for (int64_t accumulate : {1, 3})
      for (bool nan : {true, false}) {
        Net m;
        TrainOptions options{.clip_norm = clip, .accumulate = accumulate, .ema_decay = 0.5};
        options.schedule = [](int64_t) { return 0.01; };  // a stays positive
        TrainStep step(
            m, method.config,
            [&](Graph& g, const Batch& batch) {
              Var x = g.input("x", batch["x"]), z = g.input("z", batch["z"]), k = g.input("k", batch["k"]);
              Var b = m.b.in(g), nothing = (b - stop_gradient(b)) * k * k;
              return sum(square(m.norm(x))) + sum(sqrt(m.a.in(g)*z)) + sum(nothing) + sum(b);
            },
            options);
        auto batch = [](double z, double k) {
          Batch b;
          b.tensors = {{"x", Tensor::from<float>({1, 2, 3, 5, 8, 9}, {3, 2})},
                       {"z", Tensor::from<float>({1, float(z), 1})},
                       {"k", Tensor::from<float>({1, float(k)})}};
          return b;
        };
        for (int i = 0; i < 7; ++i) {
          TensorMap before = step.state();
          for (auto& [name, t] : before) t = t.contiguous_copy();
          std::string text =
              whence::testing::message_of<NumericError>([&] { step(nan ? batch(0, 1) : batch(1, 1e30)); });
          EXPECT_THAT(text, ::testing::HasSubstr("norm of the gradient is"));
          EXPECT_THAT(text, ::testing::HasSubstr(nan ? "differentiating sqrt recorded at optim_test.cpp" : "mul"));
          for (auto& [name, t] : step.state())
            ASSERT_TRUE(bitwise_equal(before.at(name), t)) << name << " after batch " << i;
          EXPECT_TRUE(std::isfinite(float(step(batch(1, 1)))));  // and it goes on
          EXPECT_EQ(step.batches(), i + 1);
          EXPECT_EQ(step.steps(), (i + 1) / accumulate);
        }
      }
}

struct Range {
  std::string what;
  std::vector<OptimizerConfig> right, wrong;
};
TEST(Optimizer, RefusesHyperparametersOutOfRange) {
  const double nan = std::nan(""), inf = HUGE_VAL;
  auto all = [](auto make, std::vector<double> values) {
    std::vector<OptimizerConfig> out;
    for (double v : values) out.push_back(make(v));
    return out;
  };
  std::vector<Range> ranges;
  auto add = [&](const char* what, auto make, std::vector<double> right, std::vector<double> wrong) {
    wrong.insert(wrong.end(), {nan, inf, -inf});
    ranges.push_back({what, all(make, right), all(make, wrong)});
  };
#define FIELD(Rule, field) \
#Rule "." #field, [](double v) {       \
    Rule r;                              \
    r.field = v;                         \
    return OptimizerConfig(r);           \
  }
#define EVERY(Rule)                                \
  add(FIELD(Rule, lr), {0, 1e-9, 2}, {-1e-9, -3}); \
  add(FIELD(Rule, weight_decay), {0, 0.3, 1.5}, {-0.25})
#define BETAS(Rule)                                       \
  add(FIELD(Rule, beta1), {0, 0.5, 0.999}, {-0.1, 1, 2}); \
  add(FIELD(Rule, beta2), {0, 0.5, 0.999}, {-0.1, 1, 7})
#define EPS(Rule) add(FIELD(Rule, eps), {1e-12, 1}, {0, -1e-8})
  EVERY(AdamW);
  EVERY(Adam);
  EVERY(NAdam);
  EVERY(RAdam);
  EVERY(Adamax);
  EVERY(Adagrad);
  EVERY(Adadelta);
  EVERY(RMSprop);
  EVERY(SGD);
  EVERY(Lion);
  BETAS(AdamW);
  BETAS(Adam);
  BETAS(NAdam);
  BETAS(RAdam);
  BETAS(Adamax);
  BETAS(Lion);
  EPS(AdamW);
  EPS(Adam);
  EPS(NAdam);
  EPS(RAdam);
  EPS(Adamax);
  EPS(Adagrad);
  EPS(Adadelta);
  EPS(RMSprop);
  add(FIELD(NAdam, momentum_decay), {0, 0.01}, {-0.01});
  add(FIELD(Adagrad, lr_decay), {0, 0.5}, {-0.5});
  add(FIELD(Adagrad, initial_accumulator_value), {0, 0.5}, {-0.5});
  add(FIELD(Adadelta, rho), {0, 0.7, 1}, {-0.5, 1.25});
  add(FIELD(RMSprop, alpha), {0, 0.7}, {-0.5, 1, 3});
  add(FIELD(RMSprop, momentum), {0, 0.7, 1}, {-0.5, 1.5});
  add(FIELD(SGD, momentum), {0, 0.7, 1}, {-0.5, 1.5});
  add(FIELD(SGD, dampening), {0, 0.7, 1}, {-0.5, 1.5});
  ranges.push_back({"SGD.nesterov", {SGD{.momentum = 0.5, .nesterov = true}}, {SGD{.nesterov = true}}});
#undef FIELD
#undef EVERY
#undef BETAS
#undef EPS
  for (const Range& r : ranges) {
    Mlp m;
    for (const OptimizerConfig& c : r.right) EXPECT_NO_THROW(Optimizer(m, c)) << r.what;
    for (size_t i = 0; i < r.wrong.size(); ++i)
      EXPECT_THROW(Optimizer(m, r.wrong[i]), ValueError) << r.what << " wrong value " << i;
  }
  EXPECT_EQ(whence::testing::message_of<ValueError>([] {
              Mlp m;
              Optimizer(m, RMSprop{.alpha = 1.5});
            }),
            "RMSprop: alpha must be in [0, 1), got 1.5");
}

TEST(Optimizer, RefusesGroupsThatMakeNoSense) {
  Mlp m;
  EXPECT_EQ(whence::testing::message_of<ValueError>([&] { Optimizer(m, SGD{}, {{.pattern = "inn.*"}}); }),
            "ParameterGroup 'inn.*' matches no parameter of the model");
  for (double bad : {std::nan(""), HUGE_VAL, -1.0})
    EXPECT_THROW(Optimizer(m, SGD{}, {{.pattern = "*", .lr_scale = bad}}), ValueError) << bad;
  EXPECT_THROW(Optimizer(m, SGD{}, {{.pattern = "*", .weight_decay = std::nan("")}}), ValueError);
  EXPECT_NO_THROW(Optimizer(m, SGD{}, {{.pattern = "*", .weight_decay = -1}}));
}

TEST(Optimizer, ARuleMayRememberWhatItNeverReads) {
  struct Keeps {
    double lr = 1, weight_decay = 0;
    Var update(Update& u) const {
      u.remember("last", u.g);
      return u.p - u.lr() * u.g;
    }
  };
  Mlp m;
  Optimizer o(m, Keeps{});
  Tensor g = gradient(m.flat().numel(), 3, f32);
  o.step(g);
  EXPECT_TRUE(bitwise_equal(o.state().at("last"), g));
}

TEST(Optimizer, AnUpdateRecordedBeforeAFreezeIsNotMadeAfterIt) {
  Mlp m;
  m.init(1);
  Optimizer o(m, SGD{.lr = 0.1});
  Graph g;
  o.record(g, g.input("gradients", {m.flat().numel()}));
  RunOptions numbers;
  o.numbers(1, numbers);
  m.out.weight.set_trainable(false);
  EXPECT_THAT(whence::testing::message_of<ValueError>([&] { o.numbers(1, numbers); }),
              ::testing::HasSubstr("'out.weight' is frozen now, but was not when the update was recorded"));
}

TEST(Optimizer, RefusesAStrangersStateAndChangesNothing) {
  Mlp m;
  m.init(1);
  Optimizer adam(m, Adam{}), amsgrad(m, Adam{.amsgrad = true}), sgd(m, SGD{.momentum = 0.9});
  amsgrad.step(gradient(m.flat().numel(), 1, f32));
  EXPECT_THROW(adam.load_state(amsgrad.state()), ValueError);
  EXPECT_THROW(amsgrad.load_state(adam.state()), ValueError);
  EXPECT_THROW(sgd.load_state(adam.state()), ValueError);
  EXPECT_EQ(amsgrad.steps(), 1);
  EXPECT_EQ(adam.steps(), 0);
}

TEST(Optimizer, ReadsTheBufferOfSgdUnderItsOldName) {
  Mlp m;
  m.init(1);
  Optimizer o(m, SGD{.momentum = 0.9});
  Tensor buffer = gradient(m.flat().numel(), 1, f32);
  o.load_state({{"steps", Tensor::from<int64_t>({5})}, {"exp_avg", buffer}});
  EXPECT_EQ(o.steps(), 5);
  EXPECT_TRUE(bitwise_equal(o.state().at("momentum_buffer"), buffer));
}

TEST(Optimizer, MatchesPatternsOfGroups) {
  Mlp m;
  m.init(0, f64);
  Tensor before = m.flat().contiguous_copy(), zero = Tensor::zeros(m.flat().shape(), f64);
  Optimizer o(m, AdamW{.lr = 0.1, .weight_decay = 0.5},
              {{.pattern = "*.bias", .weight_decay = 0}, {.pattern = "out.*", .lr_scale = 0.1}});
  o.step(zero);
  for (int64_t i = 0; i < m.flat().numel(); ++i) {
    double keep = i < kBias ? 1 - 0.1 * 0.5 : i < kOut ? 1 : 1 - 0.01 * 0.5;
    EXPECT_NEAR(m.flat().item(i), before.item(i) * keep, 1e-15);
  }
}

TEST(Clip, ScalesToTheNorm) {
  EXPECT_DOUBLE_EQ(gradient_norm(Tensor::from<double>({3, 4})), 5);
  EXPECT_DOUBLE_EQ(clip_factor(5, 10), 1);
  EXPECT_DOUBLE_EQ(clip_factor(5, 1), 1 / (5 + 1e-6));
  EXPECT_DOUBLE_EQ(clip_factor(5, 0), 1);
  EXPECT_THROW(clip_factor(5, -1), ValueError);
  EXPECT_THROW(clip_factor(5, std::nan("")), ValueError);
}

TEST(Schedules, StartPeakAndEnd) {
  Schedule one = one_cycle(100, 0.3, 25, 1e4);
  EXPECT_NEAR(one(0), 1 / 25.0, 1e-12);
  EXPECT_NEAR(one(29), 1, 1e-12);
  EXPECT_NEAR(one(99), 1 / 25e4, 1e-12);
  Schedule cosine = cosine_schedule(20, 5, 0.1);
  EXPECT_DOUBLE_EQ(cosine(0), 0.2);
  EXPECT_DOUBLE_EQ(cosine(5), 1);
  EXPECT_NEAR(cosine(20), 0.1, 1e-12);
}

TEST(Schedules, RefuseNumbersThatMakeNoSense) {
  const double nan = std::nan(""), inf = HUGE_VAL;
  EXPECT_THROW(linear_warmup(-1), ValueError);
  EXPECT_THROW(cosine_schedule(-5), ValueError);
  EXPECT_THROW(cosine_schedule(5, -1), ValueError);
  for (double floor : {-0.1, 1.1, nan}) EXPECT_THROW(cosine_schedule(5, 1, floor), ValueError) << floor;
  EXPECT_THROW(one_cycle(-1), ValueError);
  for (double p : {-0.1, 1.1, nan}) EXPECT_THROW(one_cycle(5, p), ValueError) << p;
  for (double d : {0.0, -2.0, nan, inf}) {
    EXPECT_THROW(one_cycle(5, 0.3, d), ValueError) << d;
    EXPECT_THROW(one_cycle(5, 0.3, 25, d), ValueError) << d;
  }
  for (double gamma : {-0.5, nan, inf}) {
    EXPECT_THROW(exponential_schedule(gamma), ValueError) << gamma;
    EXPECT_THROW(step_schedule(3, gamma), ValueError) << gamma;
    EXPECT_THROW(multistep_schedule({3}, gamma), ValueError) << gamma;
    EXPECT_THROW(polynomial_schedule(3, gamma), ValueError) << gamma;
  }
  EXPECT_THROW(step_schedule(0), ValueError);
  EXPECT_THROW(step_schedule(-4), ValueError);
  EXPECT_THROW(multistep_schedule({3, -1}), ValueError);
  EXPECT_THROW(polynomial_schedule(-1), ValueError);
}

TEST(Schedules, Decays) {
  auto first = [](Schedule s, int n) {
    std::vector<double> v;
    for (int i = 0; i < n; ++i) v.push_back(s(i));
    return v;
  };
  using V = std::vector<double>;
  EXPECT_EQ(first(exponential_schedule(0.5), 4), (V{1, 0.5, 0.25, 0.125}));
  EXPECT_EQ(first(step_schedule(2, 0.5), 6), (V{1, 1, 0.5, 0.5, 0.25, 0.25}));
  EXPECT_EQ(first(multistep_schedule({4, 1}, 0.5), 6), (V{1, 0.5, 0.5, 0.5, 0.25, 0.25}));
  EXPECT_EQ(first(polynomial_schedule(4, 2), 6), (V{1, 0.5625, 0.25, 0.0625, 0, 0}));
}

}  // namespace
