// Recording: where errors point, which leaves are one, what a graph says about itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;
using testing::Not;

namespace {

std::string here(int line) { return "graph_test.cpp:" + std::to_string(line); }

}  // namespace

TEST(GraphErrors, NameTheLineOfAFunctionCall) {
  Graph g;
  Var a = g.input("a", {32, 768}), b = g.input("b", {512, 64});
  int line = 0;
  std::string text = thrown<ShapeError>([&] {
    line = __LINE__ + 1;
    matmul(a, b);
  });
  EXPECT_THAT(text, HasSubstr("[matmul] inner dimensions differ: 768 vs 512"));
  EXPECT_THAT(text, HasSubstr("operands: a [32, 768] f32, b [512, 64] f32"));
  EXPECT_THAT(text, HasSubstr("recorded at " + here(line)));
}

TEST(GraphErrors, NameTheLineOfAnOperator) {
  Graph g;
  Var a = g.input("a", {2, 3}), b = g.input("b", {4});
  int line = 0;
  std::string text = thrown<ShapeError>([&] {
    line = __LINE__ + 1;
    a* b;
  });
  EXPECT_THAT(text, HasSubstr("[mul] cannot broadcast [2, 3] with [4]"));
  EXPECT_THAT(text, HasSubstr("recorded at " + here(line)));
  text = thrown<ShapeError>([&] {
    line = __LINE__ + 1;
    exp(a) + 2.0 * b;
  });
  EXPECT_THAT(text, HasSubstr("recorded at " + here(line)));
}

TEST(GraphErrors, NameTheLineOfAComposedOp) {
  Graph g;
  Var a = g.input("a", {2, 3}), c = g.input("c", {2, 3}, boolean);
  int line = 0;
  std::string text = thrown<ShapeError>([&] {
    line = __LINE__ + 1;
    mean(a, {7});
  });
  EXPECT_THAT(text, HasSubstr("recorded at " + here(line)));
  text = thrown<ShapeError>([&] {
    line = __LINE__ + 1;
    where(c, a, g.input("d", {5}));
  });
  EXPECT_THAT(text, HasSubstr("recorded at " + here(line)));
}

TEST(GraphErrors, NameTheScope) {
  Graph g;
  Var a = g.input("a", {2, 3}), b = g.input("b", {4});
  std::string text = thrown<ShapeError>([&] {
    Scope outer(g, "block3");
    Scope inner(g, "attn");
    add(a, b);
  });
  EXPECT_THAT(text, HasSubstr(" in block3/attn"));
  EXPECT_EQ(g.current_scope(), "");
  EXPECT_THAT(thrown<ShapeError>([&] { add(a, b); }), Not(HasSubstr("block3")));
}

TEST(GraphErrors, LeaveTheGraphAsItWas) {
  Graph g;
  Var a = g.input("a", {2, 3}), b = g.input("b", {4});
  size_t nodes = g.node_count(), values = g.value_count();
  EXPECT_THROW(add(a, b), ShapeError);
  EXPECT_EQ(g.node_count(), nodes);
  EXPECT_EQ(g.value_count(), values);
  EXPECT_EQ(add(a, a).shape(), (Shape{2, 3}));
}

TEST(GraphErrors, OtherGraphsAndUndefinedValuesAreRefused) {
  Graph g, other;
  Var a = g.input("a", {2}), b = other.input("b", {2});
  EXPECT_THAT(thrown<ValueError>([&] { add(a, b); }), HasSubstr("[add] b belongs to another graph"));
  EXPECT_THAT(thrown<ValueError>([&] { sweep(std::vector{a}, std::vector{a}, std::vector{b}, {}); }),
              HasSubstr("of the root's graph"));
  EXPECT_THAT(thrown<ValueError>([&] {
                g.record(op_named("add"), std::vector{a, Var()});
              }),
              HasSubstr("[add] b is undefined"));
}

TEST(GraphErrors, NodesOfASweepNameTheNodeTheyServe) {
  Graph g;
  Scope scope(g, "head");
  Var a = g.input("a", {2, 3}), w = g.input("w", {3, 4});
  int line = __LINE__ + 1;
  Var y = matmul(a, w);
  Var d = grad(sum(y), a);
  std::string text = g.describe(g.producer_id(d.id()));
  EXPECT_THAT(text, HasSubstr("while differentiating matmul recorded at " + here(line) + " in head"));
  Var R = relevance(y, a, lrp::RuleSet());
  EXPECT_THAT(g.describe(g.producer_id(R.id())),
              HasSubstr("while tracing the relevance of matmul recorded at " + here(line)));
}

// An op whose vjp records something impossible: the error must name the node it was differentiating.
REGISTER_OP(test_bad_vjp) = {
    .doc = "x; its vjp adds shapes that do not fit",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .view =
        [](const View& in, const Attrs&, View& out) {
          out = in;
          return true;
        },
    .vjp = [](SweepCtx& c) { c.give(0, c.d() + c.graph.constant(Tensor::zeros({7}, f32))); },
    .relevance = lrp::identity,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3}}}, {}, "x"}};
        },
};
// And one that gives a gradient of the wrong shape.
REGISTER_OP(test_bad_shape) = {
    .doc = "x; its vjp gives a scalar",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .view =
        [](const View& in, const Attrs&, View& out) {
          out = in;
          return true;
        },
    .vjp = [](SweepCtx& c) { c.give(0, c.graph.constant(0.0, f32)); },
    .relevance = lrp::identity,
    .samples =
        [] {
          return std::vector<Sample>{{{{.shape = {3}}}, {}, "x"}};
        },
};

TEST(GraphErrors, InsideASweepNameTheUsersLine) {
  Graph g;
  Var x = g.input("x", {3});
  int line = __LINE__ + 1;
  Var y = record(test_bad_vjp_op, {x});
  std::string text = thrown<ShapeError>([&] { grad(sum(y), x); });
  EXPECT_THAT(text, HasSubstr("[add] cannot broadcast"));
  EXPECT_THAT(text, HasSubstr("test_bad_vjp recorded at " + here(line)));
  text = thrown<ShapeError>([&] { grad(sum(record(test_bad_shape_op, {x})), x); });
  EXPECT_THAT(text, HasSubstr("[test_bad_shape] gradient of x has shape [], the operand [3]"));
}

TEST(GraphErrors, HintsComeLast) {
  Graph g;
  Var a = g.input("a", {2, 3}, i32);
  std::string text = thrown<DTypeError>([&] { exp(a); });
  EXPECT_THAT(text, HasSubstr("x must be floating point, got i32"));
  EXPECT_LT(text.find("recorded at"), text.find("hint: cast it first"));
}

TEST(GraphLeaves, AnInputIsOnePerName) {
  Graph g;
  Var a = g.input("image", {64, 784}), b = g.input("image", {64, 784});
  EXPECT_TRUE(a.same(b));
  EXPECT_EQ(g.node_count(), 1u);
  EXPECT_THAT(thrown<ValueError>([&] {
                g.input("image", {64, 785});
              }),
              HasSubstr("input 'image' is already [64, 784] f32, asked for [64, 785] f32"));
  EXPECT_THROW(g.input("image", {64, 784}, f64), ValueError);
}

TEST(GraphLeaves, AParameterIsOnePerMemory) {
  Graph g;
  Tensor w = Tensor::zeros({4, 3}), v = Tensor::zeros({4, 3});
  EXPECT_TRUE(g.parameter("w", w).same(g.parameter("w again", w)));
  EXPECT_FALSE(g.parameter("w", w).same(g.parameter("v", v)));
  EXPECT_FALSE(g.parameter("w", w).same(g.parameter("part", w.slice(0, 0, 2))));
  EXPECT_FALSE(g.parameter("w", w).same(g.parameter("flipped", w.transposed())));
}

TEST(GraphLeaves, AnImmediateInputNeedsItsValue) {
  Graph g(Graph::Mode::immediate);
  EXPECT_THAT(thrown<ValueError>([&] { g.input("x", {2}, f32); }), HasSubstr("give input 'x' its value"));
  Var x = g.input("x", Tensor::from<float>({1, 2}));
  EXPECT_EQ((x + x).value().to_vector<float>(), (std::vector<float>{2, 4}));
  Graph recorded;
  EXPECT_THAT(thrown<ValueError>([&] { (void)recorded.input("x", {2}).value(); }), HasSubstr("holds no values"));
}

TEST(GraphLeaves,
     AnImmediateValueStaysWhereItIs) {  // max_abs_diff(a.value(), f(b).value()) may record after it has read a
  Graph g(Graph::Mode::immediate);
  Var x = g.input("x", Tensor::from<double>({1, 2})), y = x + x;
  const Tensor& before = y.value();
  for (int i = 0; i < 1000; ++i) x = x * 1.0;
  EXPECT_EQ(&y.value(), &before);
}

TEST(GraphScopes, NestAndNameNodes) {
  Graph g;
  Var x = g.input("x", {2}), inner, outer, none;
  {
    Scope a(g, "encoder");
    {
      Scope b(g, "block3");
      inner = exp(x);
    }
    outer = exp(x);
  }
  none = exp(x);
  EXPECT_EQ(g.scope_name(g.producer(inner.id())), "encoder/block3");
  EXPECT_EQ(g.scope_name(g.producer(outer.id())), "encoder");
  EXPECT_EQ(g.scope_name(g.producer(none.id())), "");
}

TEST(GraphDot, ShowsWhatTheRootsNeed) {
  Graph g;
  Var x = g.input("image", {2, 3}), y = tanh(x), unused = exp(x);
  Var d = grad(sum(y), x);
  std::string all = g.dot(), part = g.dot(std::vector{y});
  EXPECT_THAT(all, HasSubstr("digraph whence {"));
  EXPECT_THAT(all, HasSubstr("input image\\n[2, 3] f32"));
  EXPECT_THAT(all, HasSubstr("label=\"exp"));
  EXPECT_THAT(all, HasSubstr("label=\"d_tanh"));
  EXPECT_THAT(part, HasSubstr("label=\"tanh"));
  EXPECT_THAT(part, Not(HasSubstr("label=\"exp")));
  EXPECT_THAT(part, Not(HasSubstr("d_tanh")));
  (void)unused;
  (void)d;
}
