// What a model is put together from: names, parts that move, lists, freezing, scopes, streams of random numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/thrown.h"
#include "whence/autograd/function.h"
#include "whence/lrp/ledger.h"
#include "whence/nn/layers.h"
#include "whence/nn/train.h"

namespace whence::nn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const std::vector<Parameter*>& list) {
  std::vector<std::string> out;
  for (const Parameter* p : list) out.push_back(p->name());
  return out;
}

struct Block : Module {
  Block(Module& parent, const std::string& name, int64_t features)
      : Module(parent, name), up(*this, "up", features, 2 * features), down(*this, "down", 2 * features, features) {}
  Var operator()(Arg x) const {
    ModuleScope here(*this, x);
    return x + down(drop(relu(up(x))));
  }
  Linear up, down;
  Dropout drop{*this, "drop", 0.5};
};

struct Net : Module {
  ModuleList<Block> blocks{*this, "h", 3, int64_t(4)};
  BatchNorm norm{*this, "norm", 4};
  Linear head{*this, "head", 4, 2, false};
  Var operator()(Arg x) const {
    ModuleScope here(*this, x);
    Var y = x;
    for (const Block& b : blocks) y = b(y);
    return head(norm(y));
  }
};

TEST(Containers, PartsAreNamedByTheirPlaceAndParametersAreNotBuffers) {
  Net net;
  EXPECT_THAT(names(net.blocks[1].parameters()),
              ElementsAre("h.1.up.weight", "h.1.up.bias", "h.1.down.weight", "h.1.down.bias"));
  EXPECT_THAT(names(net.buffers()), ElementsAre("norm.running_mean", "norm.running_var"));
  EXPECT_THAT(names(net.norm.parameters()), ElementsAre("norm.weight", "norm.bias"));
  EXPECT_EQ(net.parameter_count(), 3 * (4 * 8 + 8 + 8 * 4 + 4) + 8 + 8);
  EXPECT_EQ(net.flat().numel(), net.parameter_count() + 8);
  EXPECT_EQ(net.children().size(), 3u);
  EXPECT_EQ(net.blocks.children().size(), 3u);
  EXPECT_EQ(net.blocks[2].named_parameters()[0].first, "up.weight");
}

TEST(Containers, AVectorOfBlocksGrowsAndKeepsItsPlaceInTheModel) {
  struct Root : Module {
    std::vector<Block> blocks;
    Root() {
      for (int i = 0; i < 5; ++i) blocks.emplace_back(*this, "b" + std::to_string(i), 2);
    }
  } root;
  EXPECT_EQ(root.children().size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(root.children()[i], &root.blocks[i]);
    EXPECT_EQ(root.blocks[i].children()[0], &root.blocks[i].up);
    EXPECT_EQ(root.blocks[i].up.weight.tensor().raw(),
              root.state_dict().at("b" + std::to_string(i) + ".up.weight").raw());
  }
  root.blocks.pop_back();
  EXPECT_EQ(root.children().size(), 4u);
}

TEST(Containers, PartsOfAModelHaveTheirWindowAndCanBeTrainedAlone) {
  Net net;
  net.init(3);
  EXPECT_EQ(net.head.flat().raw(), net.head.weight.tensor().raw());
  EXPECT_EQ(net.blocks.flat().numel(), net.blocks.parameter_count());
  const Tensor before = net.flat().contiguous_copy();
  TrainStep step(net.head, SGD{.lr = 0.1},
                 [&](Graph& g, const Batch& b) { return sum(square(net(g.input("x", b["x"])))); });
  Batch batch;
  batch.tensors["x"] = Tensor::randn({6, 4}, 1);
  step(batch);
  EXPECT_FALSE(bitwise_equal(net.head.flat(), before.slice(0, net.offset(net.head.weight), INT64_MAX)));
  EXPECT_TRUE(bitwise_equal(net.blocks.flat(), before.slice(0, 0, net.blocks.parameter_count())));
}

TEST(Containers, FreezesByPatternAndSaysWhenNothingFits) {
  Net net;
  net.freeze("h.*.up.*");
  for (auto& [name, p] : net.named_parameters())
    EXPECT_EQ(p->trainable(), name.find(".up.") == std::string::npos) << name;
  net.blocks[0].set_trainable(true, "up.weight");
  EXPECT_TRUE(net.blocks[0].up.weight.trainable());
  EXPECT_THAT(thrown<ValueError>([&] { net.freeze("encoder.*"); }),
              HasSubstr("no parameter of the model fits 'encoder.*'"));
}

TEST(Containers, SequentialNumbersItsStepsAsPyTorchDoes) {
  Sequential net;
  net.add<Conv2d>(1, 2, Ints{3}).add(relu).add(max_pool_layer({.kernel = {2}})).add(flatten).add<Linear>(18, 3);
  EXPECT_THAT(names(net.parameters()), ElementsAre("0.weight", "0.bias", "4.weight", "4.bias"));
  Graph g;
  EXPECT_EQ(net(g.input("x", {5, 1, 8, 8})).shape(), (Shape{5, 3}));
  EXPECT_THAT(thrown<ShapeError>([&] {
                net(g.input("one", {1, 8, 8}));
              }),
              testing::AllOf(HasSubstr("Conv2d '0' takes [batch, 1, height, width], got [1, 8, 8]"),
                             HasSubstr("containers_test.cpp:"), HasSubstr("one sample has no batch axis")));
  EXPECT_THAT(thrown<ValueError>([&] { net.add(std::function<Var(Arg)>()); }),
              HasSubstr("step 5 is an empty function"));
}

TEST(Scopes, AreTheNamesOfTheParts) {
  Net net;
  Graph g;
  Var y = net(g.input("x", {3, 4}));
  std::set<std::string> scopes;
  for (NodeId n = 0; n < g.node_count(); ++n)
    if (!g.node(n).op->traits.leaf) scopes.insert(g.scope_name(g.node(n)));
  for (const char* want : {"h.0/up", "h.0/down", "h.0", "h.2/up", "norm", "head"})
    EXPECT_TRUE(scopes.contains(want)) << want;
  {
    Scope outer(g, "teacher");
    Var again = net.blocks[0](g.input("x", {3, 4}));
    EXPECT_EQ(g.scope_name(g.producer(again.id())), "teacher/h.0");
  }
  EXPECT_EQ(g.current_scope(), "");
  // A rule by a part's name decides there only.
  lrp::Ledger ledger(lrp::RuleSet().set("linear", "h.1/*", {.variant = "detach"}));
  ledger.relevance(sum(y), g.input("x", {3, 4}));
  Results r = evaluate({ledger.outputs()}, {{"x", Tensor::randn({3, 4}, 5)}});
  EXPECT_TRUE(ledger.read(r).unmatched.empty());
}

TEST(Scopes, ErrorsNameTheLayerAndTheUsersLine) {
  Net net;
  Graph g;
  const std::string text = thrown<ShapeError>([&] { net(g.input("x", {3, 5})); });
  EXPECT_THAT(text, HasSubstr("containers_test.cpp:"));
  EXPECT_THAT(text, HasSubstr("in h.0/up"));
}

TEST(DropoutStreams, TwoDropoutsNeverShareAMask) {
  struct Two : Module {
    Dropout a{*this, "a", 0.5}, b{*this, "b", 0.5};
  } m, twin;
  Graph g({.training = true});
  Var x = g.constant(Tensor::full({1000}, 1));
  Results r = evaluate({m.a(x), m.b(x), twin.a(x)}, {});
  EXPECT_FALSE(bitwise_equal(r[0], r[1]));
  EXPECT_TRUE(bitwise_equal(r[0], r[2]));  // the name is the stream
  int64_t equal = 0;
  for (int64_t i = 0; i < 1000; ++i) equal += r[0].item(i) == r[1].item(i);
  EXPECT_NEAR(double(equal), 500, 60);
}

TEST(Training, IsAPropertyOfTheRecording) {
  Net net;
  Graph evaluation, training({.training = true});
  EXPECT_FALSE(evaluation.training());
  auto ops = [&](Graph& g) {
    net(g.input("x", {3, 4}));
    std::set<std::string> seen;
    for (NodeId n = 0; n < g.node_count(); ++n) seen.insert(g.node(n).op->name);
    return seen;
  };
  EXPECT_FALSE(ops(evaluation).contains("dropout"));
  EXPECT_TRUE(ops(training).contains("dropout"));
  EXPECT_EQ(evaluation.assigns().size(), 0u);
  EXPECT_EQ(training.assigns().size(), 2u);  // running mean and variance
  auto predict = function([&](Var x) { return net(x); });
  Tensor x = Tensor::randn({3, 4}, 2);
  EXPECT_TRUE(bitwise_equal(predict(x), predict.run({.seed = 9}, x)));
  auto noisy = function([](Var v) { return dropout(v, 0.5, 1); });
  EXPECT_FALSE(bitwise_equal(noisy(x), noisy.run({.seed = 9}, x)));
  EXPECT_TRUE(bitwise_equal(noisy(x), noisy(x)));
}

TEST(StepOutputs, ComeByNameBesideTheLoss) {
  Net net;
  TrainStep step(net, SGD{.lr = 0.01}, [&](Graph& g, const Batch& b) -> StepOutputs {
    Var y = net(g.input("x", b["x"]));
    return {mean(square(y)), {{"largest", max(y)}, {"rows", sum(y, 1)}}};
  });
  Batch batch;
  batch.tensors["x"] = Tensor::randn({6, 4}, 1);
  StepResult r = step(batch);
  EXPECT_EQ(r["rows"].shape(), (Shape{6}));
  EXPECT_EQ(r["largest"].shape(), (Shape{}));
  EXPECT_LT(r.loss(), 1e3);
  EXPECT_THAT(thrown<ValueError>([&] { r["accuracy"]; }), HasSubstr("no output 'accuracy' (largest, rows)"));
}

TEST(Plateau, ReducesAfterPatienceAndResumes) {
  ReduceOnPlateau plateau({.factor = 0.5, .patience = 1, .floor = 0.2});
  Schedule s = plateau.schedule(linear_warmup(2));
  std::vector<double> scales;
  for (double figure : {1.0, 0.9, 0.95, 0.91, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6}) {
    plateau.observe(figure);
    scales.push_back(plateau.scale());
  }
  EXPECT_THAT(scales, ElementsAre(1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2));
  EXPECT_EQ(s(0), 0.5 * 0.2);
  ReduceOnPlateau other({.factor = 0.5, .patience = 1, .floor = 0.2});
  other.load_state(plateau.state());
  EXPECT_EQ(other.scale(), plateau.scale());
  EXPECT_THROW(ReduceOnPlateau({.factor = 1}), ValueError);
  EXPECT_THROW(other.load_state({1}), ValueError);
}

TEST(Summary, CountsParametersAndOfARecordingShapesAndOperations) {
  Net net;
  net.freeze("h.0.*");
  const std::string plain = summary(net);
  EXPECT_THAT(plain, HasSubstr("\n  h                228         152\n    0               76           0\n"));
  EXPECT_THAT(plain, HasSubstr("buffers: 8 elements"));
  Graph g;
  const std::string full = summary(net, net(g.input("x", {3, 4})));
  EXPECT_THAT(full, HasSubstr("[3, 8]"));
  EXPECT_THAT(full, HasSubstr("FLOPs"));
  // two products of 3 x 4 x 8 in each block, one of 3 x 4 x 2, twice per multiplication and addition
  EXPECT_THAT(full, HasSubstr("1.2k"));
}

TEST(Layers, NormsOverGroupsAndInstancesAgreeWithTheirDefinition) {
  struct Root : Module {
    GroupNorm group{*this, "group", 2, 4};
    InstanceNorm instance{*this, "instance", 4, 1e-5, true};
  } m;
  m.init(0, f64);
  Graph g(Graph::Mode::immediate);
  Var x = g.constant(Tensor::randn({2, 4, 3, 5}, 3, f64));
  Var pairs = reshape(x, {2, 2, 2 * 3 * 5}), mu = mean(pairs, -1, true);
  Var want = reshape((pairs - mu) / sqrt(variance(pairs, -1, true) + 1e-5), {2, 4, 3, 5});
  EXPECT_LT(max_abs_diff(m.group(x).value(), want.value()), 1e-12);
  Var each = reshape(x, {2, 4, 15});
  Var alone = reshape((each - mean(each, -1, true)) / sqrt(variance(each, -1, true) + 1e-5), {2, 4, 3, 5});
  EXPECT_LT(max_abs_diff(m.instance(x).value(), alone.value()), 1e-12);
  Module fresh;
  EXPECT_THAT(thrown<ShapeError>([&] { GroupNorm(fresh, "bad", 3, 4); }),
              HasSubstr("4 channels do not divide into 3 groups"));
}

TEST(Layers, ConvolutionsAndTheirTransposesFit) {
  struct Root : Module {
    Conv1d line{*this, "line", 2, 3, {5}, {.padding = {2}}};
    Conv3d space{*this, "space", 2, 4, {1, 2, 3}, {.groups = 2}};
    ConvTranspose2d up{*this, "up", 3, 2, {2}, {.stride = {2}}};
    PatchEmbedding patches{*this, "patches", 3, 8, 4};
  } m;
  Module fresh;
  Graph g;
  EXPECT_EQ(m.line(g.input("a", {1, 2, 9})).shape(), (Shape{1, 3, 9}));
  EXPECT_EQ(m.space(g.input("b", {1, 2, 3, 4, 5})).shape(), (Shape{1, 4, 3, 3, 3}));
  EXPECT_EQ(m.up(g.input("c", {1, 3, 4, 4})).shape(), (Shape{1, 2, 8, 8}));
  EXPECT_EQ(m.patches(g.input("d", {2, 3, 8, 12})).shape(), (Shape{2, 6, 8}));
  EXPECT_THAT(thrown<ShapeError>([&] { Conv2d(fresh, "bad", 3, 4, {3}, {.groups = 2}); }), HasSubstr("in 2 groups"));
  EXPECT_THAT(thrown<ValueError>([&] {
                Conv2d(fresh, "bad", 3, 4, {3, 3, 3});
              }),
              HasSubstr("a kernel has 2 extents, got 3"));
}

}  // namespace
}  // namespace whence::nn
