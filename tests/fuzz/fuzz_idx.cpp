#include "nn/data/idx.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// What is accepted has as many values as its extents say.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    Tensor t = parse_idx({reinterpret_cast<const std::byte*>(data), size});
    fuzz::require(t.rank() >= 1 && t.buffer()->bytes() >= t.nbytes(), "the tensor owns its values");
    if (t.numel() > 0) (void)t.item(t.numel() - 1);
  } catch (const Error&) {}
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
      fuzz::gzipped(images),
  };
}
