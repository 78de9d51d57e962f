// What is empty, foreign, too large or not there: an error of tensor/error.h, with the user's line where one is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "whence/autograd/checkpoint.h"
#include "whence/autograd/function.h"
#include "whence/lrp/presets.h"
#include "whence/nn/layers.h"
#include "whence/ops/composite.h"
#include "whence/ops/conv.h"
#include "whence/ops/resize.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

// Every f is refused with an E that names this file and the line on which it stands.
template <class E> void refused_here(const std::vector<std::pair<int, std::function<void()>>>& calls) {
  for (const auto& [line, f] : calls)
    EXPECT_THAT(thrown<E>(f), HasSubstr(" at handles_test.cpp:" + std::to_string(line)));
}
#define HERE(...)                  \
  {                                \
    __LINE__, [&] { __VA_ARGS__; } \
  }

}  // namespace

TEST(EmptyVar, IsNoOperand) {
  Graph g;
  Var x = g.input("x", {2, 3}), yes = g.input("yes", {2, 3}, boolean), none;
  refused_here<ValueError>({
      HERE(x - none),
      HERE(2.0 / none),
      HERE(-none),
      HERE(atan2(none, 1.0)),
      HERE(where(none, x, x)),
      HERE(where(yes, 1.0, none)),
      HERE(masked_fill(x, none, 0)),
      HERE(reshape(none, {6})),
      HERE(linear(x, none)),
      HERE(linear(x, x, none)),
      HERE(layer_norm(x, none)),
      HERE(attention(x, x, x, {.mask = none})),
      HERE(attention(x, x, x, {.bias = none})),
      HERE(concat({x, none}, 0)),
      HERE(stack({none, x})),
      HERE(einsum("ij,ij->i", {x, none})),
      HERE(einsum("ij->i", {none})),
      HERE(pack({none})),
      HERE(all_sound({x, none})),
      HERE(topk(none, 1)),
      HERE(conv(none, x)),
      HERE(resize(none, {2})),
      HERE(dropout(none, 0.5, 1)),
      HERE(stop_gradient(none)),
  });
}

TEST(EmptyVar, IsNoOutputWrtOrRoot) {
  Graph g;
  Var x = g.input("x", {2}), y = sum(x * x), none;
  refused_here<ValueError>({
      HERE(compile({none})),
      HERE(compile({y, none})),
      HERE(compile({{y, none}})),
      HERE(compile(std::vector<Var>{none})),
      HERE(evaluate({none})),
      HERE(grad(y, none)),
      HERE(grad(none, x)),
      HERE(relevance(y, none, lrp::attn())),
      HERE(relevance(none, x, lrp::attn())),
      HERE(sweep({}, {}, {}, {})),
  });
  EXPECT_THAT(thrown<ValueError>([&] { none.shape(); }), HasSubstr("undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { none.dtype(); }), HasSubstr("undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { none.graph(); }), HasSubstr("undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { none.value(); }), HasSubstr("undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { g.assign(State("s", Tensor::zeros({})), none); }), HasSubstr("is undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { g.dot(std::vector<Var>{none}); }), HasSubstr("is undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { checkpoint([](Var) { return Var(); }, x); }), HasSubstr("is undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { checkpoint([](Var v) { return v; }, none); }), HasSubstr("undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { function([](Var) { return Var(); })(Tensor::zeros({1})); }),
              HasSubstr("undefined"));
}

TEST(NumbersAlone, AreNoOperands) {
  refused_here<ValueError>({
      HERE(gelu(2.0)),
      HERE(1.0 + Arg(2.0)),
      HERE(logit(0.5)),
      HERE(logaddexp(1.0, 2.0)),
      HERE(reshape(3.0, {1, 1})),
      HERE(transpose(1.0)),
      HERE(squeeze(1.0, 0)),
      HERE(broadcast_to(1.0, {2})),
      HERE(slice(1.0, 0, 0)),
      HERE(select(1.0, 0, 0)),
      HERE(cast(1.0, f64)),
      HERE(sum(1.0)),
      HERE(norm1(1.0)),
      HERE(prod(1.0, 0)),
      HERE(matmul(1.0, 2.0)),
      HERE(linear(1.0, 2.0, 3.0)),
      HERE(softmax(1.0)),
      HERE(mse_loss(1.0, 2.0)),
      HERE(cross_entropy(1.0, 2.0)),
      HERE(chunk(1.0, 1)),
      HERE(split(1.0, {1})),
      HERE(tril(1.0)),
      HERE(unfold(1.0, 0, 1)),
      HERE(segment_mean(1.0, 2.0, 0, 1)),
      HERE(conv(1.0, 2.0)),
      HERE(max_pool(1.0, {.kernel = {1}})),
      HERE(dropout(1.0, 0.5, 1)),
      HERE(zeros_like(1.0)),
  });
}

TEST(EmptyTensor, HasNoElements) {
  Tensor none, one = Tensor::zeros({1});
  for (const std::function<void()>& f : std::vector<std::function<void()>>{[&] { none.shape(); },
                                                                           [&] { none.dtype(); },
                                                                           [&] { none.numel(); },
                                                                           [&] { none.nbytes(); },
                                                                           [&] { none.contiguous(); },
                                                                           [&] { none.item(); },
                                                                           [&] { none.data<float>(); },
                                                                           [&] { none.fill(1); },
                                                                           [&] { none.to(f64); },
                                                                           [&] { none.transposed(); },
                                                                           [&] { none.permuted({}); },
                                                                           [&] { none.slice(0, 0, 0); },
                                                                           [&] { none.reshaped({1}); },
                                                                           [&] { none.reshaped({}); },
                                                                           [&] { none.broadcast_to({2}); },
                                                                           [&] { none.contiguous_copy(); },
                                                                           [&] { none.copy_from(one); },
                                                                           [&] { one.copy_from(none); },
                                                                           [&] { none.to_vector<float>(); },
                                                                           [&] { bitwise_equal(none, none); },
                                                                           [&] { max_abs_diff(none, one); },
                                                                           [&] { Tensor::wrap(nullptr, 0, {}, f32); }})
    EXPECT_THROW(f(), ValueError);
  EXPECT_EQ(none.str(), "undefined");
  EXPECT_EQ(none.raw(), nullptr);
  Graph g;
  refused_here<ValueError>({
      HERE(g.input("x", none)),
      HERE(g.parameter("w", none)),
      HERE(g.constant(none)),
      HERE(g.state(State())),
  });
}

TEST(EmptyPlan, DoesNothing) {
  Plan p;
  Results into;
  for (const std::function<void()>& f : std::vector<std::function<void()>>{
           [&] { p.run(); }, [&] { p.run({}, {}, into); }, [&] { p.report(); }, [&] { p.stats(); }, [&] { p.hash(); },
           [&] { p.trace("nowhere.json"); }, [&] { p.diagnose(); }, [&] { p.reference(); }, [&] { p.extend({}); }})
    EXPECT_THAT(thrown<ValueError>(f), HasSubstr("the plan is undefined"));
  EXPECT_THAT(thrown<ValueError>([&] { into[0]; }), HasSubstr("result 0 of 0"));
  EXPECT_THROW(into[Var()], ValueError);
  EXPECT_THROW(nn::Parameter().tensor(), ValueError);
  Graph g;
  Results one = evaluate({g.constant(1, f32)});
  EXPECT_THAT(thrown<ValueError>([&] { one[7]; }), HasSubstr("result 7 of 1"));
}

TEST(ForeignVar, IsRefused) {
  Graph g, h;
  Var x = g.input("x", {2}), y = x * 3.0, foreign = h.input("x", {2});
  refused_here<ValueError>({
      HERE(x + foreign),
      HERE(concat({x, foreign}, 0)),
      HERE(compile({y, foreign})),
      HERE(grad(y, x, foreign)),
      HERE(grad(y, foreign, x)),
      HERE(relevance(y, x, lrp::epsilon(), foreign)),
      HERE(relevance(y, foreign, lrp::epsilon())),
      HERE(sweep(std::vector{y, foreign}, std::vector{x, x}, std::vector{x}, {})),
  });
  EXPECT_THAT(thrown<ValueError>([&] { g.assign(State("s", Tensor::zeros({2})), foreign); }),
              HasSubstr("belongs to another graph"));
  EXPECT_THAT(thrown<ValueError>([&] { g.dot(std::vector<Var>{foreign}); }), HasSubstr("belongs to another graph"));
  EXPECT_THAT(thrown<ValueError>([&] { checkpoint([&](Var) { return foreign; }, x); }),
              HasSubstr("belongs to another graph"));
}

TEST(Seed, FitsItsRoot) {
  Graph g;
  Var x = g.input("x", {2, 3}), y = x * 3.0, z = linear(x, g.parameter("w", Tensor::zeros({4, 3})));
  for (Var root : {y, z}) {
    Var wide = g.constant(Tensor::zeros(root.shape(), f64)), number = g.constant(Tensor::zeros(root.shape(), i32)),
        flat = g.constant(Tensor::zeros({root.numel()}));
    refused_here<DTypeError>({
        HERE(grad(root, x, wide)),
        HERE(grad(root, x, number)),
        HERE(relevance(root, x, lrp::attn(), wide)),
        HERE(relevance(root, x, lrp::attn(), number)),
    });
    refused_here<ShapeError>({
        HERE(grad(root, x, flat)),
        HERE(relevance(root, x, lrp::attn(), flat)),
    });
    EXPECT_THAT(thrown<DTypeError>([&] { grad(root, x, wide); }), HasSubstr("the seed is f64, the root f32"));
  }
  Var half = cast(x, bf16);
  grad(half, x, half);
  grad(half, x, x);  // cotangents of halves are f32
}

TEST(Sizes, ThatOverflowAreShapeErrors) {
  const int64_t big = int64_t(1) << 32, most = INT64_MAX;
  const Shape wrong[] = {{big, big}, {most, 2}, {0, big, big}, {big, big, 0}, {-1},
                         {-5, 0},    {0, -1},   {INT64_MIN},   {most}};
  Tensor none = Tensor::zeros({0}), one = Tensor::zeros({1});
  for (const Shape& s : wrong)
    for (const std::function<void()>& f : std::vector<std::function<void()>>{
             [&] { Tensor::empty(s, u8); }, [&] { Tensor::full(s, 1, f64); }, [&] { Tensor::from<float>({}, s); },
             [&] { Tensor::wrap(one.buffer(), 0, s, u8); }, [&] { one.broadcast_to(s); }})
      EXPECT_THROW(f(), ShapeError) << s.str();
  EXPECT_THROW(none.reshaped({0, big, big}), ShapeError);
  EXPECT_THROW(one.reshaped({-1, most, most}), ShapeError);
  EXPECT_EQ(Tensor::from<float>({1, 2, 3}).slice(0, 1, 3, most).to_vector<float>(), std::vector<float>{2});
  EXPECT_EQ(Tensor::from<float>({1, 2, 3}).slice(0, 0, 3, 2).to_vector<float>(), (std::vector<float>{1, 3}));
}

TEST(Sizes, OfNodesAreShapeErrorsAtTheLine) {
  const int64_t big = int64_t(1) << 32, most = INT64_MAX;
  Graph g;
  Var x = g.input("x", {2, 3}), ids = g.input("ids", {4}, i64), wide = broadcast_to(x, {1 << 30, 2, 3});
  refused_here<ShapeError>({
      HERE(g.input("a", {big, big})),
      HERE(g.input("b", {3, -2})),
      HERE(g.input("c", {most}, boolean)),
      HERE(broadcast_to(x, {big, big, 2, 3})),
      HERE(broadcast_to(g.constant(1, f32), {-4})),
      HERE(repeat(x, {big, big})),
      HERE(repeat_interleave(x, most, 0)),
      HERE(pad(x, {most, most, 0, 0})),
      HERE(pad(x, {0, 0, 1, most})),
      HERE(one_hot(ids, most)),
      HERE(arange(g, most)),
      HERE(uniform(g, {big, big}, 1)),
      HERE(normal(g, {2, -1}, 1)),
      HERE(matmul(reshape(wide, {int64_t(6) << 30, 1}), reshape(wide, {1, int64_t(6) << 30}))),
      HERE(einsum("abc,def->abcdef", {wide, wide})),
      HERE(segment_sum(x, ids, 0, most)),
      HERE(full(g, {most, most}, 1)),
      HERE(reshape(x, {most, most, -1})),
      HERE(unsqueeze(wide, 0) * reshape(wide, {1 << 30, 1, 2, 3})),
      HERE(slice_at(x, g.constant(0, i64), most, 0)),
  });
  EXPECT_EQ(slice(x, 1, 1, 3, most).shape(), (Shape{2, 1}));
}

TEST(Memory, ThatIsNotToBeHadIsToldByShapeAndBytes) {
  const int64_t n = int64_t(1) << 46;
  std::string text = thrown<OutOfMemory>([&] { Tensor::empty({2, n}); });
  EXPECT_THAT(text, HasSubstr("[2, 70368744177664]"));
  EXPECT_THAT(text, HasSubstr("562949953421312 bytes"));
  EXPECT_THROW(Tensor::full({1}, 1).broadcast_to({n}).contiguous_copy(), OutOfMemory);
  EXPECT_THROW(Tensor::full({1}, 1).broadcast_to({n}).to_vector<double>(), OutOfMemory);
  Graph g;
  Var a = arange(g, n);
  EXPECT_THROW(evaluate({a}), OutOfMemory);
  EXPECT_THROW(evaluate({argsort(a)}), OutOfMemory);
  Graph now(Graph::Mode::immediate);
  refused_here<OutOfMemory>({HERE(arange(now, n))});
  EXPECT_EQ(arange(now, 3).value().to_vector<int64_t>(), (std::vector<int64_t>{0, 1, 2}));
}

TEST(Exceptions, OfTheLibraryAreItsOwn) {
  Graph g;
  Var x = g.input("x", {2});
  EXPECT_THROW(checkpoint(std::function<Var(Var)>(), x), ValueError);
  EXPECT_THROW(TraceCache().run(std::vector{Tensor::zeros({1})}, {}), ValueError);
  EXPECT_THROW(function([&](Var) { return x; })(Tensor::zeros({2})), ValueError);
  Attrs attrs{{"n", 1}};
  EXPECT_THROW(attrs.ints("n"), ValueError);
  EXPECT_THROW(attrs.text("m"), ValueError);
}

// What a composed function finds wrong before it records anything.
TEST(ErrorsOfComposedFunctions, NameTheLine) {
  Graph g;
  Var x = g.input("x", {2, 3}), y = g.input("y", {4});
  refused_here<ShapeError>({
      HERE(logaddexp(x, y)),
      HERE(split(x, {1, 1})),
      HERE(l2_normalize(x, 5)),
      HERE(prod(x, -3)),
      HERE(sum_to(x, {4})),
      HERE(stack({x, x}, 4)),
      HERE(geglu(x)),
      HERE(im2col(x, {.kernel = {1, 1}})),
  });
  EXPECT_THAT(thrown<ShapeError>([] { Tensor::zeros({2}).reshaped({3}); }), testing::Not(HasSubstr("recorded")));
}

TEST(OneMemory, TakesOneValue) {
  Tensor place = Tensor::zeros({2}), whole = Tensor::zeros({3});
  State a("a", place), b("b", place), left("left", whole.slice(0, 0, 2)), right("right", whole.slice(0, 1, 3));
  Graph g;
  Var x = g.input("x", {2});
  g.assign(a, x * 2.0);
  g.assign(a, x * 3.0);
  EXPECT_THAT(thrown<ValueError>([&] { g.assign(b, x * 5.0); }), HasSubstr("'a' and 'b' are one memory"));
  // Fed memory that the run writes is read as it was when the run began.
  compile({x}).run({{"x", place}});
  place.fill(1);
  for (double want : {3., 9., 27.}) {
    compile({x * 1.0}).run({{"x", place}});
    EXPECT_EQ(place.item(), want);
    EXPECT_EQ(place.item(1), want);
  }
  Graph h;
  Var y = h.input("y", {2});
  h.assign(left, y * 2.0);
  h.assign(right, y * 5.0);
  EXPECT_THROW(compile({y}), ValueError);
}

// What calls of a function leave behind, counted in bytes of results that are still there.
TEST(Function, KeepsLittleOfManySignatures) {
  std::vector<std::weak_ptr<Buffer>> results;
  auto f = function([](Var x) { return exp(x); });
  auto alive = [&] {
    size_t bytes = 0;
    for (auto& r : results)
      if (auto b = r.lock()) bytes += b->bytes();
    return bytes;
  };
  for (int64_t n = 1; n <= 150; ++n) {
    Tensor y = f(Tensor::zeros({n, 30'000}));
    results.push_back(y.buffer());
  }
  EXPECT_LE(alive(), size_t(560) << 20);  // of 1,359 MB: 256 that plans keep, 256 in the cache, the last two
  EXPECT_EQ(f.signatures(), 64u);
  f(Tensor::zeros({140, 30'000}));  // used last, so the 63 others go before it
  for (int64_t n = 1; n <= 63; ++n) f(Tensor::zeros({n, 1}));
  const size_t hits = plan_cache_stats().hits + plan_cache_stats().misses;
  f(Tensor::zeros({140, 30'000}));
  EXPECT_EQ(plan_cache_stats().hits + plan_cache_stats().misses, hits);
}
