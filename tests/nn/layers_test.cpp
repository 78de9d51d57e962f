// What layers refuse when they are made, and what they give at the edges.
#include "whence/nn/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "whence/autograd/plan.h"
#include "tests/nn/io_test_util.h"

using namespace whence;
using namespace whence::nn;
using ::testing::AllOf;
using ::testing::HasSubstr;
using whence::testing::message_of;

namespace {

// The message of the error of type E in making one layer named "layer".
template <class E, class Layer, class... Args> std::string refused(Args... args) {
  struct Root : Module {
  } root;
  return message_of<E>([&] { Layer(root, "layer", args...); });
}

TEST(Layers, ExtentsBelowOneAreRefusedWithNameAndLine) {
  for (int64_t bad : {int64_t(0), int64_t(-1), INT64_MIN}) {
    const std::string got = ", got " + std::to_string(bad);
    auto says = [&](const char* what) {
      return AllOf(HasSubstr(what), HasSubstr("made at layers_test.cpp:"), HasSubstr(got));
    };
    EXPECT_THAT((refused<ShapeError, Linear>(3, bad)), says("Linear 'layer'"));
    EXPECT_THAT((refused<ShapeError, Embedding>(bad, 2)), says("Embedding 'layer'"));
    EXPECT_THAT((refused<ShapeError, Embedding>(2, bad)), says("features must be at least 1"));
    EXPECT_THAT((refused<ShapeError, LayerNorm>(bad)), says("LayerNorm 'layer'"));
    EXPECT_THAT((refused<ShapeError, RMSNorm>(bad)), says("RMSNorm 'layer'"));
    EXPECT_THAT((refused<ShapeError, BatchNorm>(bad)), says("BatchNorm 'layer'"));
    EXPECT_THAT((refused<ShapeError, CausalConv1d>(bad, 3)), says("CausalConv1d 'layer'"));
    EXPECT_THAT((refused<ShapeError, CausalConv1d>(3, bad)), says("width must be at least 1"));
    EXPECT_THAT((refused<ShapeError, FeedForward>(3, bad)), says("Linear 'layer.up'"));
    EXPECT_THAT((refused<ShapeError, FeedForward>(bad, 3)), says("'layer."));
  }
  EXPECT_THAT((refused<ShapeError, Linear>(-1, 2)), HasSubstr("inputs must be at least 0, got -1"));
}

TEST(Layers, HeadsThatDoNotDivideAreRefused) {
  for (auto [features, heads, kv] : std::vector<std::array<int64_t, 3>>{{4, 0, 0},
                                                                        {4, -2, 0},
                                                                        {0, 1, 0},
                                                                        {-4, 2, 0},
                                                                        {6, 4, 0},
                                                                        {8, 4, 3},
                                                                        {8, 4, -4},
                                                                        {8, 2, 4},
                                                                        {8, INT64_MIN, 0}})
    EXPECT_THAT((refused<ShapeError, MultiHeadAttention>(features, heads, kv)),
                AllOf(HasSubstr("MultiHeadAttention 'layer' made at layers_test.cpp:"), HasSubstr("heads")))
        << features << " " << heads << " " << kv;
  EXPECT_EQ((refused<ShapeError, MultiHeadAttention>(8, 4, 2)), "no exception");
  Graph g;
  EXPECT_THROW(split_heads(g.input("x", {1, 2, 4}), 0), ShapeError);
  EXPECT_THROW(split_heads(g.input("x", {1, 2, 4}), 3), ShapeError);
  EXPECT_THROW(split_heads(g.input("y", {2, 4}), 2), ShapeError);
  EXPECT_THROW(merge_heads(g.input("y", {2, 4})), ShapeError);
}

TEST(Layers, NumbersOutOfRangeAreRefused) {
  for (double bad : {-1e-5, std::nan(""), HUGE_VAL}) {
    EXPECT_THAT((refused<ValueError, LayerNorm>(2, bad)), HasSubstr("eps must be"));
    EXPECT_THAT((refused<ValueError, RMSNorm>(2, bad)), HasSubstr("eps must be"));
    EXPECT_THAT((refused<ValueError, BatchNorm>(2, bad)), HasSubstr("eps must be"));
  }
  for (double bad : {-0.1, 1.5, std::nan("")})
    EXPECT_THAT((refused<ValueError, BatchNorm>(2, 1e-5, bad)), HasSubstr("momentum must be in [0, 1]"));
  EXPECT_THAT((refused<ValueError, Embedding>(3, 2, Init::normal(1), 3)),
              HasSubstr("padding_idx 3 lies beyond its 3 rows"));
  EXPECT_THAT((refused<ValueError, FeedForward>(3, 2, FeedForward::Activation(nullptr))), HasSubstr("no activation"));
  for (double bad : {-0.1, 1.0, 2.0, std::nan("")})
    EXPECT_THAT((refused<ValueError, Dropout>(bad)), HasSubstr("p must be in [0, 1)")) << bad;
  Module root;
  Graph evaluation, training({.training = true});
  Var x = evaluation.input("x", {2}), y = training.input("y", {2});
  EXPECT_TRUE(Dropout(root, "a", 0.5)(x).same(x));
  EXPECT_TRUE(Dropout(root, "b", 0)(y).same(y));
  EXPECT_FALSE(Dropout(root, "c", 0.5)(y).same(y));
}

TEST(Layers, WhatTheyAreAppliedToIsRefusedAtTheUsersLine) {
  struct Net : Module {
    Linear linear{*this, "linear", 4, 4};
    Embedding table{*this, "table", 5, 4};
    LayerNorm layer{*this, "layer", 4};
    RMSNorm rms{*this, "rms", 4};
    BatchNorm batch{*this, "batch", 4};
    MultiHeadAttention attention{*this, "attention", 4, 2};
    FeedForward feed{*this, "feed", 4, 8};
    CausalConv1d conv{*this, "conv", 4, 3};
    Conv2d image{*this, "image", 4, 2, {3}};
  } m;
  Graph g({.training = true});
  Var x = g.input("x", {2, 3, 5}), rank1 = g.input("rank1", {5}), whole = g.input("whole", {4, 4}, i64);
  const std::vector<std::function<void(Var)>> layers{[&](Var v) { m.linear(v); },       [&](Var v) { m.layer(v); },
                                                     [&](Var v) { m.rms(v); },          [&](Var v) { m.batch(v); },
                                                     [&](Var v) { m.image(v); },        [&](Var v) { m.attention(v); },
                                                     [&](Var v) { m.feed(v); },         [&](Var v) { m.conv(v); },
                                                     [&](Var v) { split_heads(v, 2); }, [&](Var v) { merge_heads(v); }};
  for (size_t i = 0; i < layers.size(); ++i)
    for (Var v : {x, rank1})
      EXPECT_THAT(message_of<Error>([&] { layers[i](v); }), HasSubstr("at layers_test.cpp:")) << i;
  for (size_t i = 0; i < 8; ++i)
    EXPECT_THAT(message_of<Error>([&] { layers[i](whole); }), HasSubstr("at layers_test.cpp:")) << i;
  EXPECT_THAT(message_of<DTypeError>([&] { m.table(x); }), HasSubstr("recorded at layers_test.cpp:"));
  for (size_t i = 0; i < layers.size(); ++i)
    EXPECT_THAT(message_of<ValueError>([&] { layers[i](Var()); }), HasSubstr("layers_test.cpp:")) << i;
  EXPECT_THROW(nn::grad(Var(), m), ValueError);
}

TEST(Layers, ALinearOfNothingIsItsBias) {
  struct Net : Module {
    Linear l{*this, "l", 0, 3}, plain{*this, "plain", 0, 2, false};
  } m;
  m.init(5);
  for (double v : m.flat().to_vector<double>()) EXPECT_EQ(v, 0);
  m.l.bias->tensor().copy_from(Tensor::from<float>({1, -2, 3}));
  Graph g;
  Var x = g.input("x", {2, 0});
  Results y = evaluate({m.l(x), m.plain(x)}, {{"x", Tensor::zeros({2, 0})}});
  EXPECT_EQ(y[0].to_vector<double>(), (std::vector<double>{1, -2, 3, 1, -2, 3}));
  EXPECT_EQ(y[1].to_vector<double>(), (std::vector<double>(4)));
}

TEST(Init, RefusesWhatIsNoDistribution) {
  const double nan = std::nan(""), inf = HUGE_VAL;
  for (auto [low, high] :
       std::vector<std::pair<double, double>>{{1, 0}, {nan, 1}, {0, nan}, {-inf, inf}, {-1e308, 1e308}})
    EXPECT_THROW(Init::uniform(low, high), ValueError) << low << " " << high;
  for (double bad : {-1.0, nan, inf}) {
    EXPECT_THROW(Init::normal(bad), ValueError) << bad;
    EXPECT_THROW(Init::truncated_normal(bad), ValueError) << bad;
  }
  EXPECT_THROW(Init::normal(1, nan), ValueError);
  EXPECT_THROW(Init::kaiming_uniform(-1), ValueError);
  EXPECT_THROW(Init::xavier_normal(3, -4), ValueError);
  EXPECT_EQ(Init::kaiming_uniform(0).b, 0);
  EXPECT_EQ(Init::xavier_normal(0, 0).b, 0);
}

// A layer that is made again in its place, before the model is allocated, leaves no trace.
TEST(Module, ALayerThatGoesLeavesItsParent) {
  struct Net : Module {
    Linear body{*this, "body", 2, 3};
    std::optional<Linear> head;
  } m;
  m.head.emplace(m, "head", 3, 10);
  m.head.emplace(m, "head", 3, 2);
  EXPECT_EQ(m.parameter_count(), 6 + 3 + 6 + 2);
  m.init(1);
  EXPECT_EQ(m.state_dict().at("head.weight").shape(), (Shape{2, 3}));
}

TEST(Module, ParametersAreFloatingPoint) {
  struct Net : Module {
    Linear l{*this, "l", 2, 2};
  } m;
  for (DType t : {i64, i32, u8, boolean}) EXPECT_THROW(m.init(0, t), DTypeError);
  m.init(0, bf16);
}

TEST(Module, NegativeExtentsAreRefusedByName) {
  struct Net : Module {
    explicit Net(int64_t n) { parameter("table", {4, n}, Init::zeros()); }
  };
  EXPECT_THAT(message_of<ShapeError>([] { Net(-2); }), HasSubstr("'table' has a negative extent: [4, -2]"));
  EXPECT_THAT(message_of<ShapeError>([] { Net(INT64_MAX); }), HasSubstr("'table'"));
  EXPECT_EQ(Net(0).parameter_count(), 0);
}

}  // namespace
