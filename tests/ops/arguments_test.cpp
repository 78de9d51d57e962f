// What makes no sense is refused by the call, with the user's line; composed functions as much as single ops.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "whence/ops/conv.h"
#include "whence/ops/ctc.h"
#include "whence/ops/resize.h"
#include "whence/whence.h"
#include "tests/thrown.h"

using namespace whence;
using testing::HasSubstr;

namespace {

TEST(Arguments, RefusedAtTheUsersLine) {
  Graph g;
  Var v = g.input("v", {3}, f32), m = g.input("m", {2, 3}, f32), image = g.input("image", {1, 2, 4, 4}, f32),
      line = g.input("line", {1, 1, 5}, f32), five = g.input("five", {5}, f32), none = g.input("none", {0}, f32),
      labels = g.input("labels", {2}, i64), deep = g.input("deep", {1, 1, 1, 1, 1, 1, 1, 1}, f32);
  const std::pair<const char*, std::function<void()>> cases[] = {
      {"index -4 is outside axis 0 of extent 3", [&] { select(v, 0, -4); }},
      {"index -5 is outside axis 0 of extent 3", [&] { select(v, 0, -5); }},
      {"index 3 is outside axis 0 of extent 3", [&] { select(v, 0, 3); }},
      {"axis 1 is outside", [&] { select(v, 1, 0); }},
      {"negative extent in [-2]", [&] { full(g, {-2}, 1); }},
      {"negative extent in [2, -1]",
       [&] {
         broadcast_to(v, {2, -1});
       }},
      {"3 values for 2 axes",
       [&] {
         max_pool(image, {.kernel = {2, 2}, .stride = {1, 1, 1}});
       }},
      {"values for 2 axes",
       [&] {
         avg_pool(image, {.kernel = {2, 2, 2}});
       }},
      {"values for 2 axes",
       [&] {
         lp_pool(image, 2, {.kernel = {2}, .padding = {1, 1, 1}});
       }},
      {"needs a kernel", [&] { max_pool(image, {}); }},
      {"more than half a window", [&] { avg_pool(line, {.kernel = {3}, .padding = {2}}); }},
      {"negative extent -1",
       [&] {
         adaptive_avg_pool(image, {2, -1});
       }},
      {"negative extent -1", [&] { adaptive_max_pool(line, {-1}); }},
      {"is not below high", [&] { clamp(v, 1, 0); }},
      {"is not below high", [&] { clamp(v, NAN, 0); }},
      {"lambda must not be negative", [&] { softshrink(v, -.5); }},
      {"5 elements do not divide by 2",
       [&] {
         reshape(five, {-1, 2});
       }},
      {"5 elements do not divide by 0",
       [&] {
         reshape(five, {-1, 0});
       }},
      {"2 open extents in [-1, -1]",
       [&] {
         reshape(five, {-1, -1});
       }},
      {"negative extent in [-5, -1]",
       [&] {
         reshape(five, {-5, -1});
       }},
      {"log_softmax", [&] { cross_entropy(g.input("p", Shape{}), g.input("q", Shape{}), {.label_smoothing = .1}); }},
      {"within [0, 1]", [&] { cross_entropy(m, m, {.label_smoothing = 1.5}); }},
      {"within [0, 1]", [&] { cross_entropy(m, labels, {.label_smoothing = -.1}); }},
      {"soft targets must have the logits' shape", [&] { cross_entropy(m, v); }},
      {"shapes differ", [&] { mse_loss(v, unsqueeze(v, 1)); }},
      {"shapes differ", [&] { bce_with_logits(m, v); }},
      {"does not divide into 2", [&] { chunk(v, 2); }},
      {"add up to 2",
       [&] {
         split(v, {1, 1});
       }},
      {"not of extent one", [&] { squeeze(v, 0); }},
      {"axis 7 is outside", [&] { unsqueeze(v, 7); }},
      {"at most 8 dimensions", [&] { unsqueeze(deep, 0); }},
      {"has no two halves", [&] { glu(v); }},
      {"has no two halves", [&] { swiglu(v); }},
      {"axis 5 is outside", [&] { stack({v}, 5); }},
      {"shapes differ",
       [&] {
         stack({v, five});
       }},
      {"spans 5 elements", [&] { unfold(v, 0, 5); }},
      {"does not reduce to", [&] { sum_to(m, {4}); }},
      {"cannot broadcast", [&] { atan2(v, five); }},
      {"cannot broadcast", [&] { logaddexp(v, five); }},
      {"needs two axes", [&] { tril(v); }},
      {"two different axes", [&] { diagonal(m, 0, 1, 1); }},
      {"axis 2 is outside", [&] { standard_deviation(m, {2}); }},
      {"axis 2 is outside", [&] { norm2(m, {2}); }},
      {"axis 2 is outside", [&] { prod(m, 2); }},
      {"axis 2 is outside", [&] { diff(m, 2); }},
      {"axis -3 is outside", [&] { l2_normalize(m, -3); }},
      {"axis 2 is outside", [&] { glu(m, 2); }},
      {"axis 4 is outside", [&] { mean(m, {4}); }},
      {"sizes must be positive", [&] { resize(line, {0}); }},
      {"one value per axis of space",
       [&] {
         resize(line, {2, 2});
       }},
      {"one value per axis of space",
       [&] {
         resize_by(line, {2, 2});
       }},
      {"grid must be", [&] { grid_sample(image, m); }},
      {"needs an index of rank 1",
       [&] {
         pick(m, g.input("two", {2, 3}, i64));
       }},
      {"dtypes differ", [&] { atan2(v, cast(v, f16)); }},
      {"dtypes differ",
       [&] {
         grid_sample(image, g.input("grid", {1, 1, 1, 2}, f64));
       }},
      {"is outside axis 0", [&] { slice(v, 0, 2, 1); }},
      {"is outside axis 0", [&] { slice(none, 0, 0, 1); }},
      {"needs one position for each value of [1, 2, ",
       [&] {
         max_unpool(image, g.input("places", {}, i64), {4, 4});
       }},
      {"are no multiple of 9", [&] { pixel_shuffle(image, 3); }},
      {"must be [T, B, classes]", [&] { ctc_loss(m, labels, labels, labels); }},
  };
  for (auto& [text, f] : cases) {
    std::string e = thrown(f);
    EXPECT_THAT(e, HasSubstr(text));
    EXPECT_THAT(e, HasSubstr("recorded at arguments_test.cpp:")) << text;
  }
}

TEST(Arguments, WhatIsNothingIsTaken) {
  Graph g(Graph::Mode::immediate);
  Var none = g.input("none", Tensor::empty({2, 0}, f32)), x = g.input("x", Tensor::from<double>({1, 2, 3}, {3}));
  EXPECT_EQ(diff(none).shape(), (Shape{2, 0}));
  EXPECT_EQ(slice(none, 1, 0, -1).shape(), (Shape{2, 0}));
  EXPECT_EQ(slice(none, 1, 0).shape(), (Shape{2, 0}));
  EXPECT_EQ(adaptive_avg_pool(g.input("p", Tensor::empty({1, 1, 4}, f32)), {0}).shape(), (Shape{1, 1, 0}));
  Var far = slice(x, 0, 0, 3, INT64_MAX);
  EXPECT_EQ(far.value().to_vector<double>(), (std::vector<double>{1}));
  EXPECT_EQ(grad(sum(far), x).value().to_vector<double>(), (std::vector<double>{1, 0, 0}));
  EXPECT_EQ(select(x, 0, -3).value().item(), 1);
  EXPECT_EQ(clamp(x, 2, 2).value().to_vector<double>(), (std::vector<double>{2, 2, 2}));
  EXPECT_EQ(softshrink(x, 0).value().to_vector<double>(), (std::vector<double>{1, 2, 3}));
}

TEST(Arguments, LengthsOfCtcAreNamed) {
  auto ask = [](int64_t rows, int64_t labels, DType t) {
    return thrown([&] {
      Graph g;
      Var x = g.input("x", {3, 2, 4}, f32);
      auto k = [&](std::vector<int64_t> v, Shape s) { return g.constant(Tensor::from(v, s).to(t).contiguous_copy()); };
      evaluate({ctc_loss(x, k({1, 2, 3, 1}, {2, 2}), k({3, rows}, {2}), k({1, labels}, {2}))},
               {{"x", Tensor::zeros({3, 2, 4}, f32)}});
    });
  };
  for (DType t : {i32, i64}) {
    EXPECT_EQ(ask(1, 0, t), "nothing was thrown");
    EXPECT_EQ(ask(3, 2, t), "nothing was thrown");
    EXPECT_THAT(ask(0, 1, t), HasSubstr("input_lengths 0 at position 1 is outside [1, 4)"));
    EXPECT_THAT(ask(4, 1, t), HasSubstr("input_lengths 4 at position 1 is outside [1, 4)"));
    EXPECT_THAT(ask(-1, 1, t), HasSubstr("input_lengths -1"));
    EXPECT_THAT(ask(3, 3, t), HasSubstr("target_lengths 3 at position 1 is outside [0, 3)"));
    EXPECT_THAT(ask(3, -1, t), HasSubstr("target_lengths -1"));
    EXPECT_THAT(ask(3, -1, t), HasSubstr("recorded at arguments_test.cpp:"));
  }
}

}  // namespace
