#include "tests/fuzz/fuzz.h"
#include "whence/nn/io/npy.h"
#include "whence/tensor/error.h"

using namespace whence;

// What is accepted is read back bit for bit from what is written of it, as NPY and as NPZ.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  auto check = [](const TensorMap& tensors) {
    for (const auto& [name, t] : tensors) fuzz::require(bitwise_equal(parse_npy(npy_bytes(t)), t), "an array survives");
    for (bool compress : {false, true}) {
      TensorMap again = parse_npz(npz_bytes(tensors, compress));
      fuzz::require(again.size() == tensors.size(), "as many arrays");
      for (const auto& [name, t] : tensors) fuzz::require(bitwise_equal(again.at(name), t), "an archive survives");
    }
  };
  auto read = [&](bool archive) -> TensorMap {
    try {
      return archive ? parse_npz(bytes) : TensorMap{{"x", parse_npy(bytes)}};
    } catch (const IoError&) {
    } catch (const DTypeError&) {}
    return {};
  };
  for (bool archive : {false, true}) check(read(archive));
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  auto text = [](const std::vector<std::byte>& b) {
    return std::string(reinterpret_cast<const char*>(b.data()), b.size());
  };
  Tensor grid = Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3}), flags = Tensor::zeros({3}, boolean);
  std::string fortran = text(npy_bytes(grid));
  fortran.replace(fortran.find("False"), 5, "True ");
  std::string big = text(npy_bytes(grid.to(i32)));
  big[big.find('<')] = '>';
  std::vector<std::string> out{fortran, big, text(npz_bytes({{"g", grid}, {"f", flags}}, true)),
                               text(npz_bytes({{"f", flags}}))};
  for (DType t : {f32, f16, i64, u8, boolean}) out.push_back(text(npy_bytes(Tensor::zeros({2, 2}, t))));
  return out;
}
