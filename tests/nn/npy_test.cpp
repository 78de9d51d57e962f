#include "whence/nn/io/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "tests/nn/io_test_util.h"
#include "tests/thrown.h"
#include "whence/nn/io/zip.h"

namespace whence {
namespace {

using ::testing::HasSubstr;
using namespace whence::testing;

std::string file(const std::string& dict, const std::string& values, int version = 1) {
  std::string length{char(dict.size() & 0xff), char(dict.size() >> 8)};
  if (version > 1) length += std::string(2, '\0');
  return std::string("\x93NUMPY") + char(version) + '\0' + length + dict + values;
}
std::string dict(const std::string& descr, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape +
         ", }\n";
}
template <class T> std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}
Tensor parsed(const std::string& bytes) { return parse_npy(bytes_of(bytes), "x.npy"); }

std::vector<Tensor> tensors_of_every_dtype() {
  std::vector<Tensor> out;
  for (DType t : {f32, f64, f16, i32, i64, u8, boolean}) {
    out.push_back(Tensor::from(std::vector<double>{0, 1, 1, 0, 1, 1}, {2, 3}).to(t));
    out.push_back(Tensor::scalar(1, t));
    out.push_back(Tensor::zeros({0, 3}, t));
  }
  out.push_back(Tensor::from(std::vector<float>{NAN, -0.f, INFINITY, 1e-45f}));
  out.push_back(Tensor::from(std::vector<int64_t>{INT64_MIN, INT64_MAX}));
  out.push_back(Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3}).transposed());
  return out;
}

TEST(Npy, RoundTripOfEveryDtype) {
  TempFolder tmp;
  for (const Tensor& t : tensors_of_every_dtype()) {
    save_npy(tmp / "t.npy", t);
    Tensor back = load_npy(tmp / "t.npy");
    EXPECT_TRUE(bitwise_equal(back, t.contiguous_tensor())) << t.str();
    EXPECT_EQ(back.shape(), t.shape());
    auto bytes = npy_bytes(t);
    EXPECT_EQ(bytes.size(), slurp(tmp / "t.npy").size());
    EXPECT_EQ((bytes.size() - t.nbytes()) % 64, 0u);
  }
  save_npy(tmp / "t.npy", Tensor::full({2}, 1.5, bf16));
  EXPECT_EQ(load_npy(tmp / "t.npy").dtype(), f32);
  EXPECT_EQ(load_npy(tmp / "t.npy").item(1), 1.5);
}

TEST(Npy, ByHand) {
  EXPECT_EQ(parsed(file(dict("<i2", "(3,)"), raw<int16_t>({-1, 2, 300}))).to_vector<int>(),
            (std::vector<int>{-1, 2, 300}));
  EXPECT_EQ(parsed(file(dict(">u4", "(2,)"), std::string("\xff\0\0\1\0\0\0\2", 8))).to_vector<int64_t>(),
            (std::vector<int64_t>{0xff000001, 2}));
  EXPECT_EQ(parsed(file(dict(">f8", "()"), std::string("\x3f\xf8\0\0\0\0\0\0", 8))).item(), 1.5);
  EXPECT_EQ(parsed(file(dict("|b1", "(2L,)"), std::string("\1\0", 2))).dtype(), boolean);
  // Column by column: [[1, 2, 3], [4, 5, 6]]
  Tensor f = parsed(file(dict("|u1", "(2, 3)", true), "\1\4\2\5\3\6"));
  EXPECT_EQ(f.shape(), (Shape{2, 3}));
  EXPECT_EQ(f.to_vector<int>(), (std::vector<int>{1, 2, 3, 4, 5, 6}));
  for (int version : {2, 3}) EXPECT_EQ(parsed(file(dict("|i1", "(1,)"), "\xff", version)).item(), -1);
}

TEST(Npy, RefusesWithTheReason) {
  auto said = [](const std::string& bytes) { return thrown<Error>([&] { parsed(bytes); }); };
  EXPECT_THAT(said("NUMPY"), HasSubstr("x.npy: not a valid npy file: it does not begin with"));
  EXPECT_THAT(said(file(dict("<f4", "(2,)"), "1234567")), HasSubstr("takes 8 bytes, 7 are there"));
  EXPECT_THAT(said(file(dict("<f4", "(1,)"), "12345")), HasSubstr("takes 4 bytes, 5 are there"));
  EXPECT_THAT(said(file(dict("<f4", "(1,)"), "1234", 4)), HasSubstr("version 4"));
  EXPECT_THAT(said(file(dict("<c8", "(1,)"), "12345678")), HasSubstr("the dtype '<c8' has no equal here"));
  EXPECT_THAT(said(file(dict("|O", "(1,)"), "x")), HasSubstr("'|O'"));
  EXPECT_THAT(said(file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234")),
              HasSubstr("records"));
  EXPECT_THAT(said(file(dict("<f4", "(-1,)"), "")), HasSubstr("not negative"));
  EXPECT_THAT(said(file(dict("<f4", "(99999999999999999999,)"), "")), HasSubstr("too large"));
  EXPECT_THAT(said(file(dict("<f4", "(4294967296, 4294967296)"), "")), HasSubstr("x.npy"));
  EXPECT_THAT(said(file(dict("<f4", "(4294967296, 4294967296, 0)"), "")), HasSubstr("x.npy"));
  EXPECT_THAT(said(file("{'descr': '<f4', 'shape': (1,)}", "1234")), HasSubstr("not all there"));
  EXPECT_THAT(said(file(dict("|b1", "(1,)"), "\2")), HasSubstr("bools is 2"));
  EXPECT_THAT(thrown<ValueError>([] { npy_bytes(Tensor()); }), HasSubstr("undefined"));
}

TensorMap two() { return {{"a", Tensor::zeros({300, 4})}, {"layer/b", Tensor::from(std::vector<int32_t>{1, 2, 3})}}; }

void expect_two(const TensorMap& got) {
  ASSERT_EQ(got.size(), 2u);
  for (const auto& [name, tensor] : two()) EXPECT_TRUE(bitwise_equal(got.at(name), tensor)) << name;
}

TEST(Npz, RoundTripStoredAndDeflated) {
  TempFolder tmp;
  for (bool compress : {false, true}) {
    save_npz(tmp / "t.npz", two(), compress);
    expect_two(load_npz(tmp / "t.npz"));
    EXPECT_EQ(slurp(tmp / "t.npz").size() < 2000, compress);
  }
  EXPECT_TRUE(parse_npz(npz_bytes({})).empty());
}

// With a limit of 64 everything takes the fields that files beyond 4 GiB take.
TEST(Npz, Zip64) {
  for (bool deflate : {false, true}) {
    std::string archive;
    ZipWriter zip([&](const void* data, size_t n) { archive.append(static_cast<const char*>(data), n); }, 64);
    for (const auto& [name, tensor] : two()) {
      auto bytes = npy_bytes(tensor);
      std::span<const std::byte> parts[] = {bytes};
      zip.add(name + ".npy", parts, deflate);
    }
    zip.finish();
    EXPECT_THAT(archive, HasSubstr("PK\6\6"));
    expect_two(parse_npz(bytes_of(archive)));
  }
}

TEST(Npz, RefusesWithTheReason) {
  auto bytes = npz_bytes(two(), true);
  std::string good(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto said = [](const std::string& b) { return thrown<IoError>([&] { parse_npz(bytes_of(b), "x.npz"); }); };
  EXPECT_THAT(said(""), HasSubstr("x.npz: not a valid zip archive: it has 0 bytes"));
  EXPECT_THAT(said(good.substr(0, good.size() - 1)), HasSubstr("no end record"));
  EXPECT_THAT(said(good.substr(10)), HasSubstr("x.npz"));
  std::string damaged = good;
  damaged[60] ^= 1;
  EXPECT_THAT(said(damaged), HasSubstr("member 'a.npy'"));
  std::string encrypted = good;
  encrypted[good.find("PK\1\2") + 8] |= 1;
  EXPECT_THAT(said(encrypted), HasSubstr("'a.npy' is encrypted"));
  std::string other = good;
  other[good.find("PK\1\2") + 10] = 14;
  EXPECT_THAT(said(other), HasSubstr("packed by method 14"));
  std::string bomb = good;  // a size of 4 GiB in the directory
  bomb.replace(good.find("PK\1\2") + 24, 4, "\xfe\xff\xff\xff");
  EXPECT_THAT(said(bomb), HasSubstr("cannot be that large"));
}

// ---- beside NumPy ---------------------------------------------------------------------------------------------------

std::string python_with_numpy() {
  for (std::string python : {"python3", "/usr/bin/python3"})
    if (std::system((python + " -c 'import numpy' >/dev/null 2>&1").c_str()) == 0) return python;
  return "";
}

TEST(Npy, NumpyReadsAndWritesTheSame) {
  std::string python = python_with_numpy();
  if (python.empty()) GTEST_SKIP() << "no python3 with numpy: the files are compared with our own reader only";
  TempFolder tmp;
  save_npy(tmp / "grid.npy", Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3}));
  save_npz(tmp / "ours.npz", two(), true);
  put(tmp / "check.py", R"(import sys, numpy as np
folder = sys.argv[1] + "/"
grid = np.load(folder + "grid.npy")
assert grid.dtype == np.float64 and grid.tolist() == [[1, 2, 3], [4, 5, 6]], grid
ours = np.load(folder + "ours.npz")
assert sorted(ours.files) == ["a", "layer/b"] and ours["a"].shape == (300, 4) and ours["layer/b"].tolist() == [1, 2, 3]
arrays = {}
for code in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "b1"]:
    for order in "<>":
        arrays[code + ("big" if order == ">" else "")] = np.array([[0, 1, 2], [3, 4, 100]]).astype(order + code)
arrays["fortran"] = np.asfortranarray(arrays["f4"])
arrays["scalar"] = np.array(7.0)
np.savez(folder + "stored.npz", **arrays)
np.savez_compressed(folder + "packed.npz", **arrays)
np.lib.format.write_array(open(folder + "v3.npy", "wb"), arrays["fortran"], version=(3, 0))
)");
  ASSERT_EQ(std::system((python + " " + tmp / "check.py" + " " + tmp.path).c_str()), 0);
  for (const char* name : {"stored.npz", "packed.npz"}) {
    TensorMap got = load_npz(tmp / name);
    EXPECT_EQ(got.size(), 24u);
    for (const auto& [key, tensor] : got) {
      if (key == "scalar") EXPECT_EQ(tensor.item(), 7);
      else if (key.starts_with("b1")) EXPECT_EQ(tensor.to_vector<int>(), (std::vector<int>{0, 1, 1, 1, 1, 1})) << key;
      else EXPECT_EQ(tensor.to_vector<int>(), (std::vector<int>{0, 1, 2, 3, 4, 100})) << key;
    }
  }
  EXPECT_EQ(load_npy(tmp / "v3.npy").to_vector<int>(), (std::vector<int>{0, 1, 2, 3, 4, 100}));
}

}  // namespace
}  // namespace whence
