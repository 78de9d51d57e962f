#include "whence/nn/io/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/nn/io_test_util.h"
#include "tests/thrown.h"
#include "tests/nn/png_test_util.h"

namespace whence {
namespace {

using ::testing::HasSubstr;
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
  EXPECT_THROW(save_png(tmp / "x.png", Tensor::zeros({5, 7, 5}, u8)), ShapeError);
  EXPECT_THROW(save_png(tmp / "x.png", Tensor::zeros({0, 7}, u8)), ShapeError);
}

#ifdef WHENCE_HAVE_PNG
// A PNG file of one IDAT chunk; `rows` begin with their filter byte.
std::string png(uint32_t width, uint32_t height, int bits, int colour, const std::string& rows,
                const std::string& more = "", bool interlaced = false) {
  auto be = [](uint32_t n) { return std::string{char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; };
  std::string header = be(width) + be(height) + char(bits) + char(colour) + std::string(2, '\0') + char(interlaced);
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + more + png_chunk("IDAT", zlib_packed(rows)) +
         png_chunk("IEND", "");
}
Tensor parsed(const std::string& bytes) { return parse_png(bytes_of(bytes), "x.png"); }

TEST(Png, RoundTrip) {
  TempFolder tmp;
  for (int64_t channels : {0, 1, 2, 3, 4}) {
    Shape shape = channels ? Shape{5, 7, channels} : Shape{5, 7};
    std::vector<uint8_t> values(size_t(shape.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = uint8_t(i * 37);
    Tensor image = Tensor::from(values, shape);
    save_png(tmp / "t.png", image);
    Tensor back = load_png(tmp / "t.png");
    EXPECT_TRUE(bitwise_equal(back, channels == 1 ? image.reshaped({5, 7}) : image)) << shape.str();
  }
}

TEST(Png, ByHand) {
  using Values = std::vector<int>;
  // 16 bits are big-endian in the file
  Tensor wide = parsed(png(2, 1, 16, 0, std::string("\0\x12\x34\xff\xfe", 5)));
  EXPECT_EQ(wide.dtype(), i32);
  EXPECT_EQ(wide.to_vector<int>(), (Values{0x1234, 0xfffe}));
  Tensor colours = parsed(png(1, 2, 16, 6, std::string("\0\0\1\0\2\0\3\0\4\0\1\0\2\0\3\0\4\0", 18)));
  EXPECT_EQ(colours.shape(), (Shape{2, 1, 4}));
  EXPECT_EQ(colours.to_vector<int>(), (Values{1, 2, 3, 4, 256, 512, 768, 1024}));
  // one bit: 1 0 1 1
  EXPECT_EQ(parsed(png(4, 1, 1, 0, std::string("\0\xb0", 2))).to_vector<int>(), (Values{255, 0, 255, 255}));
  const std::string palette = png_chunk("PLTE", "\1\2\3\4\5\6");
  Tensor indexed = parsed(png(2, 1, 8, 3, std::string("\0\1\0", 3), palette));
  EXPECT_EQ(indexed.shape(), (Shape{1, 2, 3}));
  EXPECT_EQ(indexed.to_vector<int>(), (Values{4, 5, 6, 1, 2, 3}));
  Tensor clear = parsed(png(2, 1, 8, 3, std::string("\0\1\0", 3), palette + png_chunk("tRNS", "\x80")));
  EXPECT_EQ(clear.to_vector<int>(), (Values{4, 5, 6, 255, 1, 2, 3, 128}));
  EXPECT_EQ(parsed(png(1, 1, 8, 4, std::string("\0\7\x09", 3))).to_vector<int>(), (Values{7, 9}));
  // Adam7: the first pass has one pixel, the sixth the other
  EXPECT_EQ(parsed(png(2, 1, 8, 0, std::string("\0\5\0\6", 4), "", true)).to_vector<int>(), (Values{5, 6}));
}

TEST(Png, RefusesWithTheReason) {
  const std::string good = png(2, 1, 8, 0, std::string("\0\1\2", 3));
  auto said = [](const std::string& bytes) { return thrown<IoError>([&] { parsed(bytes); }); };
  EXPECT_THAT(said(""), HasSubstr("x.png: not a valid PNG file: the file is cut off"));
  EXPECT_THAT(said("GIF89a, at any rate no PNG"), HasSubstr("x.png: not a valid PNG file"));
  EXPECT_THAT(said(good.substr(0, good.size() - 20)), HasSubstr("cut off"));
  std::string damaged = good;
  damaged[damaged.find("IDAT") + 6] ^= 1;
  EXPECT_THAT(said(damaged), HasSubstr("IDAT"));
  EXPECT_THAT(said(png(2, 2, 8, 0, std::string("\0\1\2", 3))), HasSubstr("Not enough image data"));
  EXPECT_THAT(said(png(100000, 100000, 8, 0, "")), HasSubstr("cannot be packed in"));
  EXPECT_THAT(said(png(0, 1, 8, 0, "")), HasSubstr("IHDR"));
}
#endif

}  // namespace
}  // namespace whence
