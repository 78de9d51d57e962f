#include <cstring>

#include "whence/nn/data/idx.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// What is accepted has as many values as its extents say, and they are the file's bytes: written again they are the
// same file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    Tensor t = parse_idx({reinterpret_cast<const std::byte*>(data), size});
    fuzz::require(t.rank() >= 1 && t.buffer()->bytes() >= t.nbytes(), "the tensor owns its values");
    if (t.numel() > 0) (void)t.item(t.numel() - 1);
    if (size >= 2 && data[0] == 0x1f && data[1] == 0x8b) return 0;
    std::string out(reinterpret_cast<const char*>(data), 3);  // 0, 0, the type
    out += char(t.rank());
    auto big_endian = [&](uint64_t v, int bytes) {
      for (int b = bytes - 1; b >= 0; --b) out += char(v >> (8 * b));
    };
    for (int64_t extent : t.shape()) big_endian(uint64_t(extent), 4);
    const int width = data[2] <= 0x09 ? 1 : data[2] == 0x0b ? 2 : data[2] == 0x0e ? 8 : 4;
    for (int64_t i = 0; i < t.numel(); ++i) {
      uint64_t v = 0;
      std::memcpy(&v, static_cast<const char*>(t.raw()) + size_t(i) * size_of(t.dtype()), size_of(t.dtype()));
      big_endian(v, width);
    }
    fuzz::require(out.size() == size && std::memcmp(out.data(), data, size) == 0, "written again it is the same file");
  } catch (const IoError&) {}
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  auto be = [](uint32_t n) { return std::string{char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; };
  std::string images = be(0x803) + be(2) + be(2) + be(2) + "12345678";
  return {
      images,
      be(0x801) + be(5) + "12345",
      be(0x901) + be(2) + "12",
      be(0xb01) + be(2) + "1234",
      be(0xc02) + be(1) + be(2) + "12345678",
      be(0xd01) + be(2) + "12345678",
      be(0xe01) + be(1) + "12345678",
      be(0x802) + be(0) + be(7),
      whence::gzipped(images),
  };
}
