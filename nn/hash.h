// A hash of names that is the same on every platform, which std::hash is not.
#pragma once
#include <cstdint>
#include <string_view>

namespace whence {

/// FNV-1a, 64 bits (Fowler, Noll and Vo).
constexpr uint64_t fnv1a(std::string_view text) {
  uint64_t h = 1469598103934665603ull;
  for (char c : text) h = (h ^ uint8_t(c)) * 1099511628211ull;
  return h;
}

}  // namespace whence
