// PNG files by hand, for tests.
#pragma once
#include <zlib.h>

#include <string>
#include <string_view>

namespace whence::testing {

inline std::string png_chunk(std::string_view type, std::string_view data) {
  auto be = [](uLong n) { return std::string{char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; };
  std::string body = std::string(type) + std::string(data);
  return be(data.size()) + body + be(crc32_z(0, reinterpret_cast<const Bytef*>(body.data()), body.size()));
}

inline std::string zlib_packed(std::string_view bytes) {
  uLongf n = compressBound(uLong(bytes.size()));
  std::string out(n, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &n, reinterpret_cast<const Bytef*>(bytes.data()), uLong(bytes.size()));
  out.resize(n);
  return out;
}

}  // namespace whence::testing
