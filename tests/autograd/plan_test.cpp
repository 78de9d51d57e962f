// Planned execution equals node-by-node execution bit for bit; what the planner promises about values and memory holds.
#include "whence/autograd/plan/run.h"
#include "whence/ops/cpu/tile.h"
#include "planner_test_ops.h"

using namespace whence;
using namespace planner_test;
using ::testing::Test;

namespace {

std::string message_of(auto&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Plan, RandomGraphsEqualPlainExecution) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph r(seed, 10 + int(seed % 60), seed % 3 == 0 ? 3 : seed % 3 == 1 ? 17 : 40);
    Plan p = compile(r.outputs);
    Results want = p.reference(r.feeds(), {.seed = 5});
    expect_same_bits(p.run(r.feeds(), {.seed = 5}), want);
    expect_same_bits(p.run(r.feeds(), {.seed = 5}), want);
    for (int mask = 0; mask < 8; ++mask) {
      CompileOptions o{.fuse = bool(mask & 1), .merge = bool(mask & 2), .reuse_memory = bool(mask & 4)};
      expect_same_bits(compile(r.outputs, o).run(r.feeds(), {.seed = 5}), want);
    }
    if (HasFailure()) break;
  }
}

TEST(Plan, LargeTilesAndThreads) {
  RandomGraph r(4711, 60, 300);  // 90000 elements: several tiles and threads
  Plan p = compile(r.outputs);
  expect_same_bits(p.run(r.feeds()), p.reference(r.feeds()));
}

TEST(Plan, NoTwoLiveBuffersOverlap) {
  std::mt19937_64 r(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<planner::Block> blocks;
    size_t n = 1 + r() % 60;
    for (size_t i = 0; i < n; ++i) {
      auto first = uint32_t(r() % 40), last = uint32_t(first + r() % 20);
      blocks.push_back({.bytes = size_t(r() % 5 ? r() % 5000 : 0), .first = first, .last = last});
    }
    size_t top = planner::place_blocks(blocks);
    EXPECT_EQ(planner::find_overlap(blocks), "");
    for (auto& b : blocks) {
      EXPECT_EQ(b.offset % planner::kAlign, 0u);
      EXPECT_LE(b.offset + b.bytes, top);
    }
  }
  std::vector<planner::Block> bad{{.bytes = 100, .first = 0, .last = 3, .offset = 0},
                                  {.bytes = 100, .first = 3, .last = 4, .offset = 64}};
  EXPECT_NE(planner::find_overlap(bad), "");
}

TEST(Plan, ChainIsOneStep) {
  Graph g;
  Var x = g.input("x", {64});
  Var y = tanh(x * 2.0 + 1.0) * x;
  Plan p = compile({y});
  EXPECT_EQ(p.stats().steps, 1u);
  EXPECT_EQ(p.stats().fused_nodes, 4u);
  EXPECT_EQ(p.stats().arena_bytes, 0u);
}

// share R / (z + sigma(z) eps max(1, rms of z's row)): a row must not be cut by a tile, whatever its length.
TEST(Plan, RowLoopsSeeWholeRows) {
  auto divide = [](Var r, Var z) {
    return r.graph().record(op_named("stabilised_div"), std::vector{r, z},
                            {{"share", 0.5}, {"eps", 0.3}, {"stab", int64_t(lrp::Stab::relative)}});
  };
  for (int64_t row : {1, 3, 64, 257, 2000, 2049}) {
    SCOPED_TRACE(row);
    Graph g;
    Var r = g.input("r", {11, row}), z = g.input("z", {11, row});
    Var y = divide(r * 2.0, tanh(z) * 9.0) + 1.0;
    Plan p = compile({y});
    Feeds feeds{{"r", random_tensor({11, row}, 1)}, {"z", random_tensor({11, row}, 2)}};
    expect_same_bits(p.run(feeds), p.reference(feeds));
    EXPECT_EQ(p.stats().steps, row > cpu::kMaxTile ? 4u : 1u);
  }
  // Two lengths in one group, and R with an axis of targets before z's.
  Graph g;
  Var r = g.input("r", {60, 42}), z = g.input("z", {60, 42}), t = g.input("t", {3, 60, 42});
  Var wide = reshape(divide(r + 1.0, z), {28, 90});
  Plan p = compile({divide(wide, reshape(z, {28, 90})), divide(t * 2.0, z)});
  Feeds feeds{
      {"r", random_tensor({60, 42}, 1)}, {"z", random_tensor({60, 42}, 2)}, {"t", random_tensor({3, 60, 42}, 3)}};
  expect_same_bits(p.run(feeds), p.reference(feeds));
  EXPECT_EQ(p.stats().steps, 2u);
}

TEST(Plan, SeveralOutputsOfOneGroup) {
  Graph g;
  Var x = g.input("x", {1000});
  Var a = x * 2.0, b = tanh(a), c = b + a;
  Plan p = compile({a, b, c});
  EXPECT_EQ(p.stats().steps, 1u);
  Tensor xs = random_tensor({1000}, 1);
  expect_same_bits(p.run({{"x", xs}}), p.reference({{"x", xs}}));
}

TEST(Plan, AGroupNeverClosesACycle) {
  Graph g;
  Var x = g.input("x", {8, 8});
  Var a = x * 2.0;
  Var c = a + spread(row_sum(a), {8, 8});  // a, sum, c: a and c may not be one group
  Var d = c + rows(spread(rows(c, 0, 1), {8, 8}), 0, 8);
  Plan p = compile({d});
  Tensor xs = random_tensor({8, 8}, 1);
  expect_same_bits(p.run({{"x", xs}}), p.reference({{"x", xs}}));
  EXPECT_EQ(p.stats().steps, 4u);
}

TEST(Plan, EqualNodesAreMerged) {
  Graph g;
  Var x = g.input("x", {4});
  Var a = tanh(x * 2.0), b = tanh(x * 2.0);
  Plan p = compile({a + b});
  EXPECT_EQ(p.stats().merged, 3u);  // the constant, the product, tanh
  Var n1 = noise(g, {4}, 1), n2 = noise(g, {4}, 1), n3 = noise(g, {4}, 2);
  EXPECT_EQ(compile({n1 + n2 + n3}).stats().merged, 1u);
}

TEST(Plan, ResultsStayValidAfterTheNextRun) {
  Graph g;
  Var x = g.input("x", {100});
  Plan p = compile({x + 1.0});
  Tensor one = Tensor::full({100}, 1), two = Tensor::full({100}, 2);
  Results a = p.run({{"x", one}});
  const void* first = a[0].raw();
  Results b = p.run({{"x", two}});
  EXPECT_NE(first, b[0].raw());
  EXPECT_EQ(a[0].item(), 2);
  EXPECT_EQ(b[0].item(), 3);
  a = {};
  Results c = p.run({{"x", one}});  // the buffer given up is used again
  EXPECT_EQ(c[0].raw(), first);
}

TEST(Plan, ResultsAreValuesAndNotViewsOfOthers) {
  Graph g;
  Var x = g.input("x", {4, 4});
  Tensor w = random_tensor({4, 4}, 3);
  Var p = g.parameter("w", w), y = x * p, c = g.constant(Tensor::full({4, 4}, 2));
  Plan plan = compile({x, p, c, y, y, swap_axes(y), flatten(y)});
  Tensor xs = random_tensor({4, 4}, 4);
  Results r = plan.run({{"x", xs}});
  expect_same_bits(r, plan.reference({{"x", xs}}));
  std::set<const void*> places{xs.raw(), w.raw()};
  for (const Tensor& t : r) {
    EXPECT_TRUE(t.contiguous());
    EXPECT_TRUE(places.insert(t.raw()).second);
  }
}

TEST(Plan, AStateTakesItsNextValueWhereItLies) {
  Graph g;
  Var x = g.input("x", {8});
  Var y = tanh(x), z = y * 2.0;
  Tensor flat = Tensor::zeros({16});
  State half("half", flat.slice(0, 8, 16));
  g.assign(half, z);
  Plan p = compile({y});
  Tensor xs = random_tensor({8}, 1);
  EXPECT_EQ(p.run({{"x", xs}}).size(), 1u);
  EXPECT_TRUE(bitwise_equal(half.tensor(), evaluate({z}, {{"x", xs}})[0]));
  EXPECT_EQ(flat.item(0), 0);
  EXPECT_THROW(g.assign(State("all", flat), z), ShapeError);
  EXPECT_THROW(g.assign(State("double", Tensor::zeros({8}, f64)), z), DTypeError);
  EXPECT_THROW(g.assign(half, Var()), ValueError);
  EXPECT_THROW(g.assign(State("strided", Tensor::zeros({8, 2}).slice(1, 0, 1).reshaped({8})), z), ValueError);
}

TEST(Plan, PackedValuesAreComputedInPlace) {
  Graph g;
  Var x = g.input("x", {3, 4}), w = g.parameter("w", random_tensor({4}, 9));
  Var a = tanh(x), b = mm(x, swap_axes(x)), c = a * 2.0;
  Var packed = pack({a, w, b, x, c, c});
  Plan p = compile({packed * 1.0, packed, b});
  Feeds f{{"x", random_tensor({3, 4}, 1)}};
  expect_same_bits(p.run(f), p.reference(f));
  expect_same_bits(p.run(f), p.reference(f));
  Plan one = compile({sum(pack({a, b}))});
  expect_same_bits(one.run(f), one.reference(f));
}

TEST(Plan, FeedsAreChecked) {
  Graph g;
  Var x = g.input("x", {2, 3}), unused = g.input("label", {2}, i32);
  (void)unused;
  Plan p = compile({x * 2.0});
  Tensor ok = Tensor::zeros({2, 3});
  EXPECT_THAT(message_of([&] { p.run(); }), ::testing::HasSubstr("'x' [2, 3] f32 was not fed"));
  EXPECT_THAT(message_of([&] { p.run({{"y", ok}}); }), ::testing::HasSubstr("'y' was fed"));
  EXPECT_THAT(message_of([&] { p.run({{"x", ok.transposed()}}); }), ::testing::HasSubstr("fed [3, 2]"));
  EXPECT_THROW(p.run({{"x", Tensor::zeros({2, 3}, f64)}}), DTypeError);
  EXPECT_THROW(p.run({{"x", Tensor()}}), ValueError);
  EXPECT_NO_THROW(p.run({{"x", ok}, {"label", Tensor::zeros({2}, i32)}}));  // known to the graph, not needed here
  Tensor strided = random_tensor({3, 2}, 1).transposed();
  EXPECT_TRUE(bitwise_equal(p.run({{"x", strided}})[0], p.run({{"x", strided.contiguous_copy()}})[0]));
}

TEST(Plan, SizeZeroAndScalars) {
  Graph g;
  Var x = g.input("x", {0, 4}), s = g.input("s", Shape{});
  Plan p = compile({x * 2.0 + s, s + 1.0, spread(s, {3, 3})});
  Feeds f{{"x", Tensor::zeros({0, 4})}, {"s", Tensor::scalar(3)}};
  expect_same_bits(p.run(f), p.reference(f));
}

TEST(Plan, DiagnoseNamesTheFirstBadValue) {
  Graph g;
  Var x = g.input("x", {3});
  Scope s(g, "head");
  Var y = log(x), z = y * 2.0;
  Plan p = compile({z});
  EXPECT_EQ(p.diagnose({{"x", Tensor::full({3}, 1)}}), "");
  std::string bad = p.diagnose({{"x", Tensor::full({3}, -1)}});
  EXPECT_THAT(bad, ::testing::HasSubstr("NaN"));
  EXPECT_THAT(bad, ::testing::HasSubstr("log recorded at plan_test.cpp"));
  EXPECT_THAT(bad, ::testing::HasSubstr("in head"));
}

}  // namespace
