// Every optimiser: its rule written out per element, groups, gradient scale, frozen parameters, and going on from a
// checkpoint bit by bit. Then schedules.
#include "nn/optim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "nn/checkpoint.h"
#include "nn/layers.h"
#include "nn/schedule.h"
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
