// What a fuzz target shares with the runner. Under libFuzzer only LLVMFuzzerTestOneInput is used.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "tests/gzipped.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
/// Good inputs to begin with.
std::vector<std::string> fuzz_seeds();

namespace fuzz {

/// A broken promise of a reader: stops the program, under every driver.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

inline std::span<const std::byte> bytes_of(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

}  // namespace fuzz
