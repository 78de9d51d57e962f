#include "whence/nn/data/select.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace whence {
namespace {

TEST(Select, UniqueValuesPlacesAndCounts) {
  Unique u = unique(Tensor::from(std::vector<int32_t>{7, -1, 7, 0, -1, 7}, {2, 3}));
  EXPECT_EQ(u.values.dtype(), i32);
  EXPECT_EQ(u.values.to_vector<int>(), (std::vector<int>{-1, 0, 7}));
  EXPECT_EQ(u.inverse.shape(), (Shape{2, 3}));
  EXPECT_EQ(u.inverse.to_vector<int>(), (std::vector<int>{2, 0, 2, 1, 0, 2}));
  EXPECT_EQ(u.counts.to_vector<int>(), (std::vector<int>{2, 1, 3}));
}

TEST(Select, UniqueOfEveryDtype) {
  for (DType t : {f32, f64, bf16, f16, i32, i64, u8, boolean}) {
    Unique u = unique(Tensor::from(std::vector<double>{1, 0, 1}).to(t));
    EXPECT_EQ(u.values.dtype(), t);
    EXPECT_EQ(u.values.to_vector<int>(), (std::vector<int>{0, 1}));
  }
  Unique nan = unique(Tensor::from(std::vector<float>{NAN, 1, -0.f, NAN, 0}));
  EXPECT_EQ(nan.counts.to_vector<int>(), (std::vector<int>{2, 1, 2}));
  EXPECT_TRUE(std::isnan(nan.values.item(2)));
  EXPECT_EQ(unique(Tensor::from(std::vector<int64_t>{INT64_MAX, INT64_MAX - 1})).values.numel(), 2);
  EXPECT_EQ(unique(Tensor::zeros({0, 3})).values.shape(), (Shape{0}));
  EXPECT_EQ(unique(Tensor::from(std::vector<double>{1, 2, 3, 1}, {2, 2}).transposed()).inverse.to_vector<int>(),
            (std::vector<int>{0, 2, 1, 0}));
}

TEST(Select, NonzeroIndices) {
  Tensor t = nonzero(Tensor::from(std::vector<float>{0, 2, 0, 0, -0.f, NAN}, {2, 3}));
  EXPECT_EQ(t.shape(), (Shape{2, 2}));
  EXPECT_EQ(t.to_vector<int>(), (std::vector<int>{0, 1, 1, 2}));
  EXPECT_EQ(nonzero(Tensor::scalar(3)).shape(), (Shape{1, 0}));
  EXPECT_EQ(nonzero(Tensor::zeros({4}, boolean)).shape(), (Shape{0, 1}));
}

}  // namespace
}  // namespace whence
