// Rewrites: where a rule fires and where it must not, and that the bits stay what they were.
#include "whence/autograd/plan/rewrite.h"

#include "whence/autograd/checkpoint.h"
#include "whence/autograd/plan/run.h"
#include "whence/autograd/sweep.h"
#include "planner_test_ops.h"

using namespace whence;
using namespace planner_test;

namespace {

struct Rewrite : testing::Test {
  Graph g;
  std::vector<std::pair<std::string, Tensor>> fed;
  Var input(const Shape& shape, DType dtype = f32) {
    fed.emplace_back("x" + std::to_string(fed.size()), random_tensor(shape, fed.size() + 1, dtype));
    return g.input(fed.back().first, shape, dtype);
  }
  // Compiles, checks the count of rewrites, and the bits of two runs.
  Plan expect(size_t rewrites, const std::vector<Var>& outputs, const CompileOptions& o = {}) {
    Plan p = compile(outputs, o);
    EXPECT_EQ(p.stats().rewrites, rewrites) << p.report();
    Feeds feeds(fed.begin(), fed.end());
    Results want = p.reference(feeds);
    expect_same_bits(p.run(feeds), want);
    expect_same_bits(p.run(feeds), want);
    return p;
  }
};

TEST_F(Rewrite, ASumOfProductsAccumulates) {
  Var first = matmul(input({6, 8}), input({8, 5})), second = matmul(input({6, 8}), input({8, 5}));
  Var third = linear(input({6, 3}), input({5, 3}), input({5})), sum = first + second + third;
  Plan p = expect(2, {tanh(sum)});
  EXPECT_EQ(p.stats().steps, 4u);  // three products, tanh
  EXPECT_GE(p.stats().in_place, 2u);
  expect(2, {sum});
}

// A checkpoint's inputs are kept: a product before it that went into a sum inside would be computed twice.
TEST_F(Rewrite, AProductStaysBeforeTheCheckpointThatReadsIt) {
  Var x = input({6, 8}), w = input({8, 5});
  auto outputs = [&](bool marked) {
    Var first = softmax(input({6, 5})), product = matmul(x, w);
    auto block = [&](Var y) { return exp(tanh(first + y)); };
    Var y = marked ? checkpoint(block, product) : block(product);
    return std::vector<Var>{y, grad(sum(y), w)};
  };
  expect(1, outputs(false));
  Plan p = expect(0, outputs(true));
  EXPECT_GT(p.stats().recomputed, 0u);
}

TEST_F(Rewrite, TheBitsDoNotDependOnTheShape) {
  for (int64_t m : {1, 3, 40, 200})
    for (int64_t n : {1, 7, 16, 33, 100})
      for (int64_t k : {0, 1, 5, 60, 384, 385, 900}) {
        SCOPED_TRACE((Shape{m, n, k}.str()));
        Graph h;
        auto in = [&](const char* name, Shape s) { return h.input(name, s); };
        Var t = matmul(in("a", {m, 4}), in("b", {4, n})), x = in("x", {m, k});
        Var product = matmul(x, in("w", {k, n})), turned = matmul(transpose(in("xt", {k, m})), in("w2", {k, n}));
        Var biased = linear(x, in("wt", {n, k}), in("bias", {n})), last = t + product + turned + biased;
        Feeds feeds{{"a", random_tensor({m, 4}, 1)},  {"b", random_tensor({4, n}, 2)},
                    {"x", random_tensor({m, k}, 3)},  {"w", random_tensor({k, n}, 4)},
                    {"xt", random_tensor({k, m}, 5)}, {"w2", random_tensor({k, n}, 6)},
                    {"wt", random_tensor({n, k}, 7)}, {"bias", random_tensor({n}, 8)}};
        for (const Var& out : {tanh(last), last}) {
          Plan p = compile({out});
          EXPECT_EQ(p.stats().rewrites, 3u);
          expect_same_bits(p.run(feeds), p.reference(feeds));
        }
        if (HasFailure()) return;
      }
}

TEST_F(Rewrite, AccumulatesWhereTheProductIsReadOnceAndTheOtherDies) {
  Var a = input({6, 6}), b = input({6, 6}), c = input({6, 6}), first = matmul(a, b), second = matmul(b, c);
  expect(1, {tanh(first + second)});
  expect(0, {tanh(first + second), second * 2.0, first * 3.0});  // both are read elsewhere
  expect(0, {first + second, first});                            // t is a result
  expect(0, {first + second, second});                           // the product is a result
  expect(0, {tanh(a + matmul(b, c))});                           // t is fed
  expect(0, {tanh(tanh(a) + matmul(b, c))});                     // t would stay inside a fused group
  expect(0, {tanh(first + transpose(second))});                  // not the product itself
  expect(0, {tanh(first + matmul(a, input({6, 1})))});           // shapes differ: broadcast
  Var batch = input({2, 6, 6}), batched = matmul(batch, batch), rows = matmul(softmax(batch), a);
  expect(1, {batched + rows});  // rows of all matrices are one matrix
  Var again = matmul(batch, batch), turned = matmul(transpose(softmax(batch)), a);
  expect(0, {rows + again});    // a product in batches
  expect(0, {again + turned});  // rows that do not lie one behind the other
}

TEST_F(Rewrite, AProductIsNotHeldBackForALaterSum) {
  Var a = input({6, 6}), product = matmul(a, a), late = softmax(tanh(product * 0.5) + a);
  expect(0, {late + matmul(a, transpose(a)) * 1.0, late});
  Var early = matmul(a, transpose(a)), t = softmax(a);
  expect(0, {tanh(early + t)});  // t is made after the product: its operands would wait for it
}

TEST_F(Rewrite, AForwardProductIsNotMadeByASweep) {
  Var a = input({6, 6}), t = softmax(a), product = matmul(a, a), sum;
  {
    OriginGuard sweep(g, g.producer_id(product.id()), 1);
    sum = t + product;
  }
  expect(0, {sum});  // a budget must still be able to tell what belongs to the sweep
}

TEST_F(Rewrite, HalvesRoundTheProductFirst) {
  Var a = input({6, 6}, bf16), b = input({6, 6}, bf16);
  expect(0, {matmul(a, b) + matmul(b, a)});
  expect(1, {tanh(matmul(a, b, f32) + matmul(b, a, f32))});
  Var c = input({6, 6}, f64);
  expect(1, {tanh(matmul(c, c) + matmul(c, transpose(c)))});
}

TEST_F(Rewrite, AStateAccumulatesInItsOwnMemory) {
  for (int64_t k : {7, 500}) {
    Graph h;
    State total("total", random_tensor({6, 5}, 9));
    Var t = h.state(total), a = h.input("a", {6, k}), b = h.input("b", {k, 5}), next = t + matmul(a, b);
    h.assign(total, next);
    Plan p = compile({sum(a)});
    EXPECT_EQ(p.stats().rewrites, 1u);
    Feeds feeds{{"a", random_tensor({6, k}, 1)}, {"b", random_tensor({k, 5}, 2)}};
    Tensor before = total.tensor().contiguous_copy();
    p.run(feeds);
    Graph plain;
    Var x = plain.input("t", {6, 5}), y = x + matmul(plain.input("a", {6, k}), plain.input("b", {k, 5}));
    feeds.emplace_back("t", before);
    EXPECT_TRUE(bitwise_equal(total.tensor(), compile({y}).reference(feeds)[0]));
  }
  State s("s", random_tensor({6, 6}, 9));
  Var a = input({6, 6});
  expect(0, {tanh(g.state(s) + matmul(a, a))});  // a state that stays as it is
}

TEST_F(Rewrite, GradientsOfOneWeightAccumulate) {
  Var x = input({40, 6}), w = input({6, 6}), h = x;
  for (int i = 0; i < 4; ++i) h = tanh(matmul(h, w));
  Plan p = expect(3, {grad(sum(h), w)});
  expect(3, {grad(sum(h), w)}, {.fuse = false});
}

// ---- parts of one axis --------------------------------------------------------------------------------------------

TEST_F(Rewrite, GradientsOfChunksMeetInOneBuffer) {
  Var x = input({6, 4, 2});
  for (int axis : {0, 1, -1}) {
    auto parts = split(x * 2.0, axis == 0 ? Ints{1, 2, 3} : axis == 1 ? Ints{1, 3} : Ints{1, 1}, axis);
    Var y = sum(exp(parts[0]));
    for (size_t i = 1; i < parts.size(); ++i) y = y + sum(square(parts[i]) * double(i));
    expect(1, {grad(y, x)});
    expect(1, {tanh(grad(y, x))}, {.fuse = false});
  }
}

TEST_F(Rewrite, PartsAlongTheFirstAxisAreComputedInPlace) {
  Var x = input({64, 64});
  auto parts = chunk(softmax(x), 2, 0);
  Var d = grad(sum(square(parts[0])) + sum(exp(parts[1])), x);
  Plan p = expect(1, {d});
  EXPECT_LE(p.stats().arena_bytes, size_t(3 * 64 * 64 * 4)) << p.report();
}

TEST_F(Rewrite, GapsAreZeroAndNegativeZeroIsNot) {
  Var x = input({9, 3}), h = x * 1.0;
  Var y = sum(slice(h, 0, 1, 3) * -0.0) + sum(slice(h, 0, 4, 8) * 3.0);
  expect(1, {grad(y, x)});
  Var z = sum(slice(h, 1, 0, 1) * -0.0) + sum(slice(h, 1, 2, 3) * 3.0);
  expect(1, {grad(z, x)});
  expect(1, {grad(z + sum(h * h), x)});  // one more term
}

TEST_F(Rewrite, PartsThatOverlapOrDifferAreAdded) {
  Var x = input({9, 9}), h = x * 1.0;
  expect(0, {grad(sum(exp(slice(h, 0, 0, 5))) + sum(exp(slice(h, 0, 4, 9))), x)});
  expect(0, {grad(sum(exp(slice(h, 0, 0, 5))) + sum(exp(slice(h, 1, 5, 9))), x)});
  expect(0, {grad(sum(exp(slice(h, 0, 0, 9, 2))) + sum(exp(slice(h, 0, 1, 9, 2))), x)});
  expect(0, {grad(sum(exp(slice(h, 0, 0, 5))) + sum(exp(h)), x)});
}

// ---- together with the other passes -------------------------------------------------------------------------------

// Products, chunks and sums of both.
struct Net {
  Graph g;
  std::vector<std::pair<std::string, Tensor>> fed;
  std::vector<Var> outputs;
  Feeds feeds() const { return {fed.begin(), fed.end()}; }
  explicit Net(uint64_t seed, bool marked = false) {
    std::mt19937_64 r(seed);
    auto below = [&](size_t k) { return size_t(r() % k); };
    const int64_t n = int64_t(8 + 4 * below(5));
    std::vector<Var> v;
    for (int i = 0; i < 3; ++i) {
      fed.emplace_back("x" + std::to_string(i), random_tensor({n, n}, seed * 3 + uint64_t(i)));
      v.push_back(g.input(fed.back().first, {n, n}));
    }
    auto pick = [&] { return v[below(2) ? v.size() - 1 : below(v.size())]; };
    auto step = [&](Var x) {
      const double s = 1.0 / double(n);
      switch (below(7)) {
        case 0: return matmul(x, pick()) * s + x;
        case 1: return softmax(x) + matmul(pick(), x);
        case 2: return tanh(matmul(x, pick()) + matmul(pick(), x) + linear(x, pick()));
        case 3: return concat(chunk(tanh(x), 2, 1), 1) * s;
        case 4: {
          auto c = chunk(x, 4, int64_t(below(2)));
          int64_t axis = c[0].shape()[0] == n ? 1 : 0;
          return concat({c[3], tanh(c[1]), c[2] * 2.0, exp(c[0] * s)}, axis);
        }
        case 5: return linear(tanh(x), pick()) * s;
        default: return sigmoid(x) + transpose(pick());
      }
    };
    for (int i = 0; i < 12; ++i) {
      Var x = pick();
      v.push_back(marked && below(2) ? checkpoint([&](Var y) { return step(y); }, x) : step(x));
    }
    outputs = grad(sum(tanh(v.back())) + sum(tanh(pick())), std::vector{v[0], v[1], v[2]});
    if (below(2)) outputs.push_back(v.back());
    if (below(2)) outputs.push_back(pick());
  }
};

TEST(RewriteRandom, GraphsKeepTheBits) {
  size_t rewrites = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    Net net(seed, seed % 3 == 0);
    Plan p = compile(net.outputs);
    rewrites += p.stats().rewrites;
    Results want = p.reference(net.feeds());
    expect_same_bits(p.run(net.feeds()), want);
    expect_same_bits(compile(net.outputs, {.fuse = false, .merge = false, .reuse_memory = false}).run(net.feeds()),
                     want);
    try {
      CompileOptions tight{.memory_budget = p.stats().arena_bytes * 8 / 10};
      expect_same_bits(compile(net.outputs, tight).run(net.feeds()), want);
    } catch (const Error&) {  // not feasible: fine
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(rewrites, 300u);
}

TEST(RewriteRandom, ExtensionsFindWhatIsKept) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Net net(seed);
    Plan p = compile(net.outputs, {.keep_for_extend = seed % 2 == 0});
    p.run(net.feeds());
    std::vector<Var> more;
    const NodeId nodes = NodeId(net.g.node_count());
    {
      OriginGuard sweep(net.g, nodes - 1, 2);
      for (NodeId i = 0; i < nodes; i += 3)
        if (const Node n = net.g.node(i); n.out_count && net.g.type(n.out_begin).shape.rank() == 2)
          more.push_back(tanh(net.g.var(n.out_begin)) * 2.0);
    }
    expect_same_bits(p.extend({more}).run(net.feeds()), compile(more).reference(net.feeds()));
    if (testing::Test::HasFailure()) break;
  }
}

TEST(RewriteRules, ForwardValuesStayWhereTheyAreKept) {
  Graph g;
  Var a = g.input("a", {6, 6}), p = matmul(a, a), y = softmax(a) + p;
  EXPECT_EQ(compile({y}).stats().rewrites, 0u);  // softmax comes after the product
  Var z = softmax(a * 2.0), q = matmul(a, a + a), s = tanh(z + q);
  EXPECT_EQ(compile({s}).stats().rewrites, 1u);
  Plan kept = compile({s}, {.keep_for_extend = true});
  EXPECT_EQ(kept.stats().rewrites, 0u);
  Feeds feeds{{"a", random_tensor({6, 6}, 1)}};
  kept.run(feeds);
  Plan more = kept.extend({q * 2.0});
  EXPECT_EQ(more.stats().promises, 0u);
  expect_same_bits(more.run(), compile({q * 2.0}).reference(feeds));
}

// The plan's key, compiled once more with these rules.
Tensor run_with(const Plan& plan, std::span<const planner::Rule> rules, const Feeds& feeds) {
  using namespace planner;
  auto p = std::make_shared<Program>(*plan.state()->program);
  p->stats = {};
  std::vector<Id> value;
  Ir ir = merge(*p, true, &value);
  ir = rewrite(*p, ir, rules, &value);
  EXPECT_EQ(p->stats.rewrites, 1u);
  fit_budget(*p, ir, value);
  Instance x(p);
  std::vector<Tensor> out;
  execute(*p, x, feeds, {}, {}, false, out);
  return out[0];
}

TEST(RewriteRules, ARuleThatIsWrongIsSeen) {
  Graph g;
  Var a = g.input("a", {6, 6}), b = g.input("b", {6, 6}), t = softmax(a), y = t + matmul(a, b);
  Plan p = compile({y});
  Feeds feeds{{"a", random_tensor({6, 6}, 1)}, {"b", random_tensor({6, 6}, 2)}};
  Tensor want = p.reference(feeds)[0];
  EXPECT_TRUE(bitwise_equal(run_with(p, planner::neutral_rules().first(1), feeds), want));
  const planner::Rule wrong{"add", "matmul", "matmul_add",
                            [](planner::Rewriter& r, const planner::Rule& rule, planner::Id root) {
                              const planner::INode& add = r.ir.nodes[root];
                              const planner::Id t = r.ir.in(add)[0], product = r.ir.in(add)[1];
                              auto in = r.ir.in(r.made_by(product));
                              r.replace(add.out, root, {r.ir.producer[product], root},
                                        {{&op_named(rule.becomes), {}, {t, in[1], in[0]}, r.ir.types[t]}});
                            }};
  EXPECT_FALSE(bitwise_equal(run_with(p, {&wrong, 1}, feeds), want));
}

}  // namespace
