#include <sys/mman.h>
#include <unistd.h>

#include <cmath>

#include "whence/nn/metrics.h"
#include "whence/tensor/error.h"
#include "tests/fuzz/fuzz.h"

using namespace whence;

namespace {

// A file in memory, with a path.
struct MemoryFile {
  int fd = ::memfd_create("metrics", 0);
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  explicit MemoryFile(std::string_view text) {
    fuzz::require(fd >= 0 && ::write(fd, text.data(), text.size()) == ssize_t(text.size()), "a file in memory");
  }
  ~MemoryFile() { ::close(fd); }
};

bool same(const std::vector<Metrics>& a, const std::vector<Metrics>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return false;
    for (auto& [key, x] : a[i]) {
      auto at = b[i].find(key);
      if (at == b[i].end()) return false;
      const double *p = std::get_if<double>(&x), *q = std::get_if<double>(&at->second);
      if (!(x == at->second) && !(p && q && std::isnan(*p) && std::isnan(*q))) return false;
    }
  }
  return true;
}

}  // namespace

// What is read can be written and read again; a run that goes on with a file adds to what is there, and loses at most
// the end of a line that was cut off.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size >= 2 && data[0] == 0x1f && data[1] == 0x8b) return 0;  // gzip is read, but nobody adds to it
  MemoryFile file({reinterpret_cast<const char*>(data), size}), copy("");
  std::vector<Metrics> lines;
  bool good = true;
  try {
    lines = read_metrics(file.path);
    MetricsWriter writer(copy.path);
    for (const Metrics& m : lines) writer.write(m);
    fuzz::require(same(lines, read_metrics(copy.path)), "lines survive");
  } catch (const IoError&) {
    good = false;
  }
  MetricsWriter(file.path).write({{"step", int64_t(7)}});
  try {
    auto after = read_metrics(file.path);
    fuzz::require(good, "adding a line mends nothing before it");
    fuzz::require(after.size() == lines.size() + 1 || after.size() == lines.size() + 2,
                  "one line, and perhaps the rest");
    fuzz::require(same(lines, {after.begin(), after.begin() + int64_t(lines.size())}), "what was there is still there");
    fuzz::require(std::get<int64_t>(after.back().at("step")) == 7, "the new line is the last");
  } catch (const IoError&) {
    fuzz::require(!good, "adding a line breaks nothing");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":null}\n",
      "{\"step\":1,\"text\":\"a \\\"b\\\" \\u00e9\",\"done\":true}\n{\"step\":2",
      "{\"big\":9223372036854775807,\"more\":18446744073709551615,\"list\":[1,2,{}]}\n{}",
      "{\"step\":1}\n\n",
      "",
  };
}
