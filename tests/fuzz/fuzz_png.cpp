#include <tuple>

#include "tests/fuzz/fuzz.h"
#include "tests/nn/png_test_util.h"
#include "whence/nn/io/png.h"
#include "whence/tensor/error.h"

using namespace whence;
using namespace whence::testing;

// What is accepted is a picture of one to four channels whose every value is there.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    Tensor t = parse_png({reinterpret_cast<const std::byte*>(data), size});
    fuzz::require(t.rank() == 2 || (t.rank() == 3 && t.size(2) >= 2 && t.size(2) <= 4), "height, width, channels");
    fuzz::require(t.dtype() == u8 || t.dtype() == i32, "8 or 16 bits");
    for (int v : t.to_vector<int>()) fuzz::require(v >= 0 && v <= (t.dtype() == u8 ? 255 : 65535), "values in range");
  } catch (const IoError&) {}
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> out;
  for (auto [bits, colour, row] :
       {std::tuple{8, 0, 3}, {16, 0, 5}, {1, 0, 2}, {8, 2, 7}, {16, 6, 17}, {8, 4, 5}, {4, 3, 2}}) {
    std::string header("\0\0\0\2\0\0\0\3", 8), rows;
    header += char(bits);
    header += char(colour);
    header += std::string(3, '\0');
    for (int y = 0; y < 3; ++y) rows += char(y) + std::string(size_t(row) - 1, char(17 * y));
    out.push_back("\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + (colour == 3 ? png_chunk("PLTE", "abcdef") : "") +
                  png_chunk("IDAT", zlib_packed(rows)) + png_chunk("IEND", ""));
  }
  return out;
}
