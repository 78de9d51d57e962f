#include "nn/io/safetensors.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// What is accepted can be written and read again, and every tensor stays inside the data.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    auto file = Safetensors::parse(bytes);
    TensorMap tensors;
    for (const auto& e : file.entries()) {
      fuzz::require(e.begin <= e.end && e.end <= file.data().size(), "an entry lies inside the data section");
      try {
        tensors.emplace(e.name, file.tensor(e.name));
      } catch (const Error&) {  // U64, F8, BOOL that is neither 0 nor 1
      }
    }
    auto again_bytes = safetensors_bytes(tensors, file.metadata());
    auto again = Safetensors::parse(std::span<const std::byte>(again_bytes));
    fuzz::require(again.metadata() == file.metadata(), "metadata survive");
    fuzz::require(again.entries().size() == tensors.size(), "all tensors survive");
    for (const auto& [name, t] : tensors)
      fuzz::require(bitwise_equal(t, again.tensor(name)), "tensors survive bit for bit");
  } catch (const Error&) {}
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  auto text = [](const std::vector<std::byte>& b) {
    return std::string(reinterpret_cast<const char*>(b.data()), b.size());
  };
  auto pack = [](const std::string& header, const std::string& data) {
    uint64_t n = header.size();
    return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
  };
  return {
      text(safetensors_bytes({})),
      text(safetensors_bytes(
          {{"a", Tensor::zeros({2, 3})}, {"b", Tensor::full({4}, 1, i64)}, {"m", Tensor::full({3}, 1, boolean)}},
          {{"k", "v"}})),
      text(safetensors_bytes({{"h", Tensor::zeros({2}, bf16)},
                              {"g", Tensor::zeros({1, 0, 3}, f16)},
                              {"s", Tensor::scalar(1, f64)},
                              {"u", Tensor::zeros({5}, u8)}})),
      pack(R"({"x":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},)"
           R"("y":{"dtype":"I16","shape":[1],"data_offsets":[2,4]},)"
           R"("z":{"dtype":"U32","shape":[1],"data_offsets":[4,8]}})",
           "12345678"),
      pack(R"({"__metadata__":{"format":"pt"},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )", "1234"),
  };
}
