#include "whence/nn/data/idx.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "whence/nn/io/file.h"

namespace whence {
namespace {

template <class T> T big_endian(const std::byte* p) {
  std::byte b[sizeof(T)];
  std::reverse_copy(p, p + sizeof(T), b);
  return std::bit_cast<T>(b);
}

template <class From, class To> Tensor decode(const std::vector<std::byte>& raw, const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  To* out = t.data<To>();
  for (int64_t i = 0, n = shape.numel(); i < n; ++i)
    out[i] = To(big_endian<From>(raw.data() + size_t(i) * sizeof(From)));
  return t;
}

Tensor read(ByteSource source) {
  auto fail = [&](const std::string& why) { throw IoError(source.name() + ": not a valid idx file: " + why); };
  std::byte head[4];
  if (source.read(head) != 4) fail("shorter than its magic number");
  int type = int(head[2]), rank = int(head[3]);
  size_t size = type == 0x08 || type == 0x09   ? 1
                : type == 0x0b                 ? 2
                : type == 0x0c || type == 0x0d ? 4
                : type == 0x0e                 ? 8
                                               : 0;
  if (head[0] != std::byte{0} || head[1] != std::byte{0} || size == 0) {
    char magic[16];
    std::snprintf(magic, sizeof magic, "%02x %02x %02x %02x", int(head[0]), int(head[1]), type, rank);
    fail(std::string("it begins with ") + magic + ", which is no idx magic number");
  }
  if (rank < 1 || rank > Shape::kMaxRank)
    fail(std::to_string(rank) + " dimensions; 1 to " + std::to_string(Shape::kMaxRank) + " are supported");
  Shape shape;
  int64_t need = int64_t(size);
  bool none = false;
  for (int i = 0; i < rank; ++i) {
    std::byte extent[4];
    if (source.read(extent) != 4) fail("cut off within its extents");
    int64_t n = big_endian<uint32_t>(extent);
    if (n && __builtin_mul_overflow(need, n, &need)) fail("the extents overflow");
    none |= n == 0;
    shape.push_back(n);
  }
  if (none) {  // extents beside the 0 may be too large all the same
    need = 0;
    try {
      check_extents(shape, sizeof(double));
    } catch (const ShapeError& e) {
      fail(e.what());
    }
  }
  std::vector<std::byte> raw;  // grows with what is there: the extents of a damaged file are not believed
  while (int64_t(raw.size()) < need) {
    size_t had = raw.size(),
           want = size_t(std::min<int64_t>(need - int64_t(had), int64_t(std::max<size_t>(had, 1 << 20))));
    raw.resize(had + want);
    size_t got = source.read(std::span(raw).subspan(had));
    if (got < want)
      fail("the extents " + shape.str() + " ask for " + std::to_string(need) + " bytes, " + std::to_string(had + got) +
           " are there");
  }
  if (source.get() >= 0)
    fail("there are bytes after the " + std::to_string(need) + " that the extents " + shape.str() + " ask for");
  switch (type) {
    case 0x08: return decode<uint8_t, uint8_t>(raw, shape, u8);
    case 0x09: return decode<int8_t, int32_t>(raw, shape, i32);
    case 0x0b: return decode<int16_t, int32_t>(raw, shape, i32);
    case 0x0c: return decode<int32_t, int32_t>(raw, shape, i32);
    case 0x0d: return decode<float, float>(raw, shape, f32);
    default: return decode<double, double>(raw, shape, f64);
  }
}

}  // namespace

Tensor read_idx(const std::string& path) { return read(ByteSource::file(path)); }
Tensor parse_idx(std::span<const std::byte> bytes, const std::string& name) {
  return read(ByteSource::memory(bytes, name));
}

}  // namespace whence
