#include "whence/nn/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>

#include "whence/nn/checkpoint.h"
#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::HasSubstr;
using namespace whence::testing;

std::string container(const std::string& header, const std::string& data) {
  uint64_t n = header.size();
  return std::string(reinterpret_cast<char*>(&n), 8) + header + data;
}
std::string reason(const std::string& file) {
  return message_of<IoError>([&] { Safetensors::parse(bytes_of(file), "x.safetensors"); });
}
std::string zeros(size_t n) { return std::string(n, '\0'); }

TEST(Safetensors, EveryDtypeComesBackBitForBit) {
  TensorMap in;
  for (DType t : {f32, f64, bf16, f16, i32, i64, u8, boolean}) {
    Tensor x = Tensor::from(std::vector<float>{0, 1, 0, 1, 1, 0}, {2, 3}).to(t);
    if (t != boolean) x = Tensor::from(std::vector<float>{0, 1, 2, 3, 100, 200}, {2, 3}).to(t);
    in[std::string(name_of(t))] = x;
  }
  in["scalar"] = Tensor::scalar(2.5);
  in["nothing"] = Tensor::empty({0, 7});
  TempFolder tmp;
  save_safetensors(tmp / "a.safetensors", in, {{"step", "12"}, {"why", "\"quotes\" \n and \xc3\xa9"}});
  auto file = Safetensors::open(tmp / "a.safetensors");
  EXPECT_EQ(file.metadata().at("step"), "12");
  EXPECT_EQ(file.metadata().at("why"), "\"quotes\" \n and \xc3\xa9");
  auto out = file.tensors();
  ASSERT_EQ(out.size(), in.size());
  for (auto& [name, t] : in) EXPECT_TRUE(bitwise_equal(t, out.at(name))) << name;
}

TEST(Safetensors, BytesAreThoseOfThePythonPackageUpToHeaderPadding) {
  // As safetensors.numpy.save writes {"b": int32 [2], "a": float32 [1]}: data ordered by element size, then
  // name.
  auto bytes = safetensors_bytes(
      {{"b", Tensor::from(std::vector<int32_t>{1, 2})}, {"a", Tensor::from(std::vector<float>{1.f})}}, {{"k", "v"}});
  uint64_t n;
  std::memcpy(&n, bytes.data(), 8);
  std::string header(reinterpret_cast<char*>(bytes.data()) + 8, n);
  EXPECT_EQ((8 + n) % 64, 0u);
  header.erase(header.find_last_not_of(' ') + 1);
  EXPECT_EQ(header, R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},)"
                    R"("b":{"data_offsets":[4,12],"dtype":"I32","shape":[2]}})");
  EXPECT_EQ(bytes.size(), 8 + n + 12);
}

TEST(Safetensors, TensorsAreViewsOfTheMappingAndOutliveIt) {
  TempFolder tmp;
  save_safetensors(tmp / "a", {{"x", Tensor::full({1000}, 3)}});
  Tensor x, again;
  {
    auto file = Safetensors::open(tmp / "a");
    x = file.tensor("x");
    again = file.tensor("x");
    EXPECT_EQ(static_cast<const void*>(file.data().data()), x.raw());  // no copy was made
  }
  EXPECT_EQ(x.raw(), again.raw());
  x.fill(4);  // reaches memory only
  EXPECT_EQ(again.item(999), 4);
  EXPECT_EQ(Safetensors::open(tmp / "a").tensor("x").item(999), 3);
}

TEST(Safetensors, WhatIsLoadedDoesNotDependOnTheFileAnyMore) {
  TempFolder tmp;
  save_checkpoint(tmp / "a", {{"x", Tensor::full({100'000}, 3)}, {"n", Tensor::full({3}, 7, i64)}});
  TensorMap loaded = load_safetensors(tmp / "a"), checked = load_checkpoint(tmp / "a").tensors;
  put(tmp / "a", "short");  // in place
  for (const TensorMap& all : {loaded, checked}) {
    EXPECT_EQ(all.at("x").item(99'999), 3);
    EXPECT_EQ(all.at("n").item(2), 7);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(all.at("n").raw()) % 64, 0u);  // no second copy was made
  }
}

TEST(Safetensors, MisalignedDataAreCopied) {
  float v[2] = {1.5f, -2.f};
  std::string data = "\x07" + std::string(reinterpret_cast<char*>(v), 8);
  TempFolder tmp;
  put(tmp / "a", container(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                           R"("x":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
                           data));
  auto file = Safetensors::open(tmp / "a");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("x").raw()) % 4, 0u);
  EXPECT_EQ(file.tensor("x").to_vector<float>(), (std::vector<float>{1.5f, -2.f}));
  EXPECT_EQ(file.tensor("a").item(), 7);
}

TEST(Safetensors, StridedTensorsAreStoredRowMajor) {
  Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  auto bytes =
      safetensors_bytes({{"t", x.transposed()}, {"s", x.slice(1, 1, 3)}, {"b", x.slice(0, 0, 1).broadcast_to({2, 3})}});
  auto file = Safetensors::parse(std::span<const std::byte>(bytes));
  EXPECT_EQ(file.tensor("t").to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(file.tensor("s").to_vector<float>(), (std::vector<float>{2, 3, 5, 6}));
  EXPECT_EQ(file.tensor("b").to_vector<float>(), (std::vector<float>{1, 2, 3, 1, 2, 3}));
}

TEST(Safetensors, NarrowIntegersAreWidenedAndStrangeFloatsRefusedByName) {
  std::string data = "\xff\x01" + std::string("\xfe\xff", 2) + std::string("\xff\xff\xff\xff", 4) + zeros(8) + zeros(1);
  auto file =
      Safetensors::parse(bytes_of(data = container(R"({"c":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},)"
                                                   R"("s":{"dtype":"I16","shape":[1],"data_offsets":[2,4]},)"
                                                   R"("u":{"dtype":"U32","shape":[1],"data_offsets":[4,8]},)"
                                                   R"("w":{"dtype":"U64","shape":[1],"data_offsets":[8,16]},)"
                                                   R"("f":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[16,17]}})",
                                                   data)));
  EXPECT_EQ(file.tensor("c").to_vector<int32_t>(), (std::vector<int32_t>{-1, 1}));
  EXPECT_EQ(file.tensor("s").to_vector<int32_t>(), (std::vector<int32_t>{-2}));
  EXPECT_EQ(file.tensor("u").to_vector<int64_t>(), (std::vector<int64_t>{4294967295}));
  EXPECT_THAT(message_of<DTypeError>([&] { file.tensor("w"); }), HasSubstr("'w' is stored as U64"));
  EXPECT_THAT(message_of<DTypeError>([&] { file.tensor("f"); }), HasSubstr("F8_E4M3"));
}

TEST(Safetensors, MalformedFilesAreRefusedWithTheReason) {
  auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  struct Case {
    std::string file, why;
  };
  const std::vector<Case> cases = {
      {"", "it has 0 bytes"},
      {"1234567", "it has 7 bytes"},
      {std::string("\x10\0\0\0\0\0\0\0{}", 10), "cut off: 16 bytes announced, 2 follow"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "more than 100000000 are not read"},
      {std::string("\0\0\0\0\0\0\0\0", 8), "begin with '{'"},
      {container(" {}", ""), "begin with '{'"},
      {container("[1]", ""), "begin with '{'"},
      {container("{\"t\":", ""), "no JSON"},
      {container("{}}", ""), "no JSON"},
      {container("{\"\xff\":1}", ""), "no JSON"},
      {container("{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}", ""), "nested too deeply"},
      {container(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                 R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                 zeros(1)),
       "'t' occurs twice"},
      {container(R"({"t":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", zeros(1)),
       "'dtype' occurs twice"},
      {container(R"({"__metadata__":{"a":"1","a":"2"}})", ""), "'a' occurs twice"},
      {container(R"({"__metadata__":[]})", ""), "__metadata__ is no object"},
      {container(R"({"__metadata__":{"a":1}})", ""), "__metadata__ 'a' is no string"},
      {container(R"({"t":5})", ""), "tensor 't': no object"},
      {container(R"({"t":{"shape":[1],"data_offsets":[0,1]}})", zeros(1)), "dtype is absent"},
      {container(R"({"t":{"dtype":"U8","data_offsets":[0,1]}})", zeros(1)), "shape is absent"},
      {container(R"({"t":{"dtype":"U8","shape":[1]}})", zeros(1)), "data_offsets must be"},
      {container(one("F31", "[1]", "[0,4]"), zeros(4)), "unknown dtype 'F31'"},
      {container(one("F32", "[-1]", "[0,4]"), zeros(4)), "extent '-1'"},
      {container(one("F32", "[1.0]", "[0,4]"), zeros(4)), "extent '1.0'"},
      {container(one("F32", "[\"1\"]", "[0,4]"), zeros(4)), "no whole number"},
      {container(one("F32", "[4294967296,4294967296]", "[0,4]"), zeros(4)), "overflow"},
      {container(one("F32", "[0,4294967296,4294967296]", "[0,0]"), ""), "overflow"},
      {container(one("F32", "[18446744073709551615]", "[0,4]"), zeros(4)), "overflow"},
      {container(one("U8", "[0,4294967296,1048576]", "[0,0]"), ""), "more bytes than an address space"},
      {container(one("F32", "[99999999999999999999]", "[0,4]"), zeros(4)), "no whole number"},
      {container(one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), zeros(4)), "9 dimensions"},
      {container(one("F32", "[2]", "[0,4]"), zeros(4)), "takes 8 bytes, data_offsets give 4"},
      {container(one("F32", "[1]", "[4,0]"), zeros(4)), "end at 0 before they begin at 4"},
      {container(one("F32", "[1]", "[0,-4]"), zeros(4)), "data_offsets must be"},
      {container(one("F32", "[1]", "[0]"), zeros(4)), "data_offsets must be"},
      {container(one("F32", "[1]", "[0,4]"), zeros(3)), "end at byte 4 of the data section, which has 3"},
      {container(one("F32", "[1]", "[0,4]"), zeros(6)), "last 2 bytes belong to no tensor"},
      {container(one("F32", "[1]", "[2,6]"), zeros(6)), "bytes 0 to 2 of the data section belong to no tensor"},
      {container(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                 R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
                 zeros(5)),
       "'a' and 'b' overlap at byte 2"},
      {container("{}", "x"), "last 1 bytes"},
      {container(std::string("{}\0", 3), ""), "byte 10 is a NUL"},
      {container(std::string("{\"a\0\":1}", 8), ""), "byte 11 is a NUL"},
      {container(std::string("{}  \0  {\"hidden\":1}", 20), ""), "is a NUL"},
      {container("{} x", ""), "no JSON"},
      {container("{}{}", ""), "no JSON"},
      {container(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                 R"("\u0074":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                 zeros(2)),
       "'t' occurs twice"},
      {container(one("F4", "[3]", "[0,2]"), zeros(2)), "F4[3] ends inside a byte"},
      {container(one("F6_E2M3", "[4]", "[0,4]"), zeros(4)), "takes 3 bytes"},
      {container(one("U64", "[1]", "[0,4]"), zeros(4)), "takes 8 bytes"},
      {container(one("", "[1]", "[0,1]"), zeros(1)), "unknown dtype ''"},
  };
  for (const auto& c : cases) {
    std::string got = reason(c.file);
    EXPECT_THAT(got, HasSubstr(c.why)) << c.file;
    EXPECT_THAT(got, HasSubstr("x.safetensors: not a valid safetensors file")) << c.file;
  }
  EXPECT_EQ(reason(container("{}   ", "")), "no exception");  // an empty container is a container
  EXPECT_EQ(reason(container(R"({"__metadata__":null})", "")), "no exception");
  EXPECT_EQ(reason(container(R"({"a\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x")), "no exception");
}

TEST(Safetensors, TensorsOfADtypeWeHaveNotAreNamedAndTheRestIsLoaded) {
  const std::string file = container(R"({"a":{"dtype":"F8_E5M2FNUZ","shape":[3],"data_offsets":[0,3]},)"
                                     R"("b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]},)"
                                     R"("c":{"dtype":"F4","shape":[2,3],"data_offsets":[4,7]},)"
                                     R"("d":{"dtype":"I8","shape":[1],"data_offsets":[7,8]},)"
                                     R"("e":{"dtype":"C64","shape":[1],"data_offsets":[8,16]},)"
                                     R"("f":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},)"
                                     R"("g":{"dtype":"F6_E3M2","shape":[0,5],"data_offsets":[20,20]}})",
                                     "abc\x07xyz\xff" + zeros(10) + std::string("\x80\x3f", 2));
  TempFolder tmp;
  put(tmp / "a", file);
  std::vector<std::string> left_out;
  TensorMap rest = load_safetensors(tmp / "a", &left_out);
  EXPECT_THAT(left_out, ::testing::ElementsAre("a", "c", "e", "g"));
  ASSERT_EQ(rest.size(), 3u);
  EXPECT_EQ(rest.at("b").item(), 7);
  EXPECT_EQ(rest.at("d").item(), -1);
  EXPECT_EQ(rest.at("f").item(), 1);
  EXPECT_EQ(load_safetensors(tmp / "a").size(), 3u);
  EXPECT_EQ(load_checkpoint(tmp / "a").left_out, left_out);
  for (const std::string& name : left_out)
    EXPECT_THAT(message_of<DTypeError>([&] { Safetensors::open(tmp / "a").tensor(name); }), HasSubstr("no equal here"));
}

TEST(Safetensors, EveryTruncationOfAGoodFileIsRefused) {
  auto bytes = safetensors_bytes({{"a", Tensor::full({3}, 1)}, {"b", Tensor::full({2, 2}, 1, i64)}}, {{"k", "v"}});
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_THROW(Safetensors::parse(std::span<const std::byte>(bytes.data(), n)), IoError) << n;
}

TEST(Safetensors, ABooleanOtherThanZeroOrOneIsRefused) {
  std::string file = container(R"({"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", std::string("\0\1\2", 3));
  EXPECT_THAT(message_of<IoError>([&] { Safetensors::parse(bytes_of(file)).tensor("m"); }), HasSubstr("byte 2 is 2"));
}

TEST(Safetensors, AnAbsentTensorNamesSimilarOnes) {
  auto bytes = safetensors_bytes({{"encoder.weight", Tensor::scalar(1)}});
  auto file = Safetensors::parse(std::span<const std::byte>(bytes), "m.safetensors");
  EXPECT_THAT(message_of<IoError>([&] { file.tensor("decoder.weight"); }),
              ::testing::AllOf(HasSubstr("m.safetensors"), HasSubstr("'encoder.weight'")));
}

TEST(Safetensors, AFailedSaveLeavesTheOldFile) {
  TempFolder tmp;
  save_safetensors(tmp / "a", {{"x", Tensor::scalar(1)}});
  std::string before = slurp(tmp / "a");
  EXPECT_THROW(save_safetensors(tmp / "a", {{"x", Tensor()}}), ValueError);
  EXPECT_THROW(save_safetensors(tmp / "a", {{"__metadata__", Tensor::scalar(1)}}), ValueError);
  EXPECT_THROW(save_safetensors(tmp / "a", {{"\xff", Tensor::scalar(1)}}), ValueError);
  EXPECT_EQ(slurp(tmp / "a"), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(tmp.path), {}), 1);
}

// Files written by the Python packages, beside the repository where there are any.
TEST(Safetensors, ReadsTheGoldenFiles) {
  std::string root = in_repository("../shared/goldens");
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "no golden files at " << root;
  int files = 0, tensors = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(root)) {
    if (item.path().extension() != ".safetensors") continue;
    auto file = Safetensors::open(item.path().string());
    TensorMap all = file.tensors();
    auto again_bytes = safetensors_bytes(all, file.metadata());
    auto again = Safetensors::parse(std::span<const std::byte>(again_bytes));
    ASSERT_EQ(again.metadata(), file.metadata()) << item.path();
    ASSERT_EQ(again.entries().size(), all.size());
    for (auto& [name, t] : all) ASSERT_TRUE(bitwise_equal(t, again.tensor(name))) << item.path() << " " << name;
    ++files;
    tensors += int(all.size());
  }
  EXPECT_GT(files, 100);
  EXPECT_GT(tensors, 1000);
}

}  // namespace
}  // namespace whence
