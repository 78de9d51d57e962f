#include <set>

#include "whence/nn/io/safetensors.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

// What is accepted keeps the rules of the format, can be written and read again, and every tensor stays inside the
// data.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    auto file = Safetensors::parse(bytes);
    const std::string header(reinterpret_cast<const char*>(data) + 8, size - 8 - file.data().size());
    fuzz::require(header.find('\0') == header.npos, "no NUL in the header");
    fuzz::require(header.starts_with('{') && header.find_last_not_of(" \t\r\n") == header.rfind('}'),
                  "the header is one object");
    size_t at = 0;
    std::set<std::string> names;
    for (const auto& e : file.entries()) {
      fuzz::require(e.begin == at && e.end >= e.begin, "the data lie side by side");
      fuzz::require(names.insert(e.name).second, "names are there once");
      at = e.end;
    }
    fuzz::require(at == file.data().size(), "and fill the file");
    TensorMap tensors;
    size_t strange = 0;
    for (const auto& e : file.entries()) {
      try {
        tensors.emplace(e.name, file.tensor(e.name));
      } catch (const DTypeError&) {
        ++strange;
      } catch (const IoError&) {  // BOOL that is neither 0 nor 1
      }
    }
    fuzz::require(file.left_out().size() == strange, "what has no equal here is named");
    if (tensors.size() + strange == file.entries().size())
      fuzz::require(file.tensors().size() == tensors.size(), "the rest is loaded");
    auto again_bytes = safetensors_bytes(tensors, file.metadata());
    auto again = Safetensors::parse(std::span<const std::byte>(again_bytes));
    fuzz::require(again.metadata() == file.metadata(), "metadata survive");
    fuzz::require(again.entries().size() == tensors.size(), "all tensors survive");
    for (const auto& [name, t] : tensors)
      fuzz::require(bitwise_equal(t, again.tensor(name)), "tensors survive bit for bit");
    fuzz::require(safetensors_bytes(again.tensors(), again.metadata()) == again_bytes,
                  "the bytes depend on nothing else");
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
      pack(R"({"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},)"
           R"("b":{"dtype":"F4","shape":[4],"data_offsets":[2,4]},)"
           R"("c":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}})",
           "12345678"),
      pack(std::string("{}\0hidden", 9), ""),
      pack(R"({"__metadata__":null,"\u0061\u0000":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})",
           std::string("\0\1", 2)),
  };
}
