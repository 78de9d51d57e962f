#include "whence/nn/io/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using namespace whence::testing;

TEST(Png, WritesGreyAndColour) {
  TempFolder tmp;
#ifdef WHENCE_HAVE_PNG
  save_png(tmp / "c.png", Tensor::full({5, 7, 3}, 200, u8));
  save_png(tmp / "g.png", Tensor::full({7, 5}, 10, u8).transposed());
  std::string c = slurp(tmp / "c.png"), g = slurp(tmp / "g.png");
  EXPECT_EQ(c.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(c.substr(16, 10), std::string("\0\0\0\7\0\0\0\5\x08\x02", 10));  // width, height, 8 bits, RGB
  EXPECT_EQ(g.substr(16, 10), std::string("\0\0\0\7\0\0\0\5\x08\x00", 10));
#else
  EXPECT_THROW(save_png(tmp / "c.png", Tensor::full({5, 7, 3}, 200, u8)), IoError);
#endif
  EXPECT_THROW(save_png(tmp / "x.png", Tensor::zeros({5, 7, 3})), DTypeError);
  EXPECT_THROW(save_png(tmp / "x.png", Tensor::zeros({5, 7, 2}, u8)), ShapeError);
  EXPECT_THROW(save_png(tmp / "x.png", Tensor::zeros({0, 7}, u8)), ShapeError);
}

}  // namespace
}  // namespace whence
