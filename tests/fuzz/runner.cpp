// Runs a fuzz target without libFuzzer: its seeds, then mutations of them, the same ones on every machine.
// usage: fuzz_X [--runs N] [--seed N] [--only N] [files...]
// Another seed gives other mutations; --only repeats one run, as named in a failure.
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>

#include "whence/nn/data/random_stream.h"
#include "tests/fuzz/fuzz.h"

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace {

long current = 0, seed = 0;

void say_where() {
  char text[128];
  int n = std::snprintf(text, sizeof text, "\nfailed in run %ld; repeat with --seed %ld --only %ld\n", current, seed,
                        current);
  (void)!::write(2, text, size_t(n));
}
void on_signal(int) {
  say_where();
  ::_exit(1);
}

std::string mutate(const std::vector<std::string>& seeds, whence::RandomStream r) {
  std::string s = seeds[size_t(r.below(int64_t(seeds.size())))];
  auto place = [&](size_t n) { return size_t(r.below(int64_t(n) + 1)); };
  for (int64_t edits = 1 + r.below(6); edits > 0; --edits) {
    size_t at = place(s.size()), length = size_t(1) << r.below(8);
    switch (r.below(9)) {
      case 0:
        if (at < s.size()) s[at] = char(s[at] ^ (1 << r.below(8)));
        break;
      case 1:
        if (at < s.size()) s[at] = char(r.below(256));
        break;
      case 2: s.erase(at, length); break;
      case 3: s.insert(at, std::string(length, char(r.below(256)))); break;
      case 4: s.resize(at); break;
      case 5: s.insert(at, s.substr(place(s.size()), length)); break;
      case 6: {  // bytes that mean something in one of the formats
        constexpr const char* words[] = {"\"",
                                         "\n",
                                         "\r\n",
                                         ">",
                                         ",",
                                         "\t",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         ":",
                                         "-1",
                                         "0",
                                         "99999999999999999999",
                                         "4294967296",
                                         "\xff\xff\xff\xff",
                                         "\x1f\x8b",
                                         "\xef\xbb\xbf",
                                         "dtype",
                                         "null",
                                         "1e9",
                                         "__metadata__",
                                         "\r",
                                         "\r\r\n",
                                         "+-",
                                         "inf",
                                         "nan",
                                         "e-400",
                                         "e999",
                                         "\xff\xfe",
                                         "\xef\xbb",
                                         "F8_E5M2",
                                         "data_offsets",
                                         "\"\""};
        s.insert(at, words[r.below(int64_t(std::size(words)))]);
        break;
      }
      case 7: {  // overwrite a number
        size_t digit = s.find_first_of("0123456789", at);
        if (digit != std::string::npos)
          s.replace(digit, 1, std::to_string(r.below(2) ? r.below(300) : int64_t(r.bits() >> 1)));
        break;
      }
      case 8: {  // the head of one seed, the tail of another
        const std::string& other = seeds[size_t(r.below(int64_t(seeds.size())))];
        s = s.substr(0, at) + other.substr(place(other.size()));
        break;
      }
    }
    if (s.size() > 20'000) s.resize(20'000);
  }
  return s;
}

void run(const std::string& input) {
  // An exact copy on the heap: reading one byte too far is seen by the address sanitizer.
  std::vector<uint8_t> copy(input.begin(), input.end());
  copy.shrink_to_fit();
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  long runs = 4000, only = -1;
  std::vector<std::string> seeds = fuzz_seeds();
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--runs") && i + 1 < argc) runs = std::atol(argv[++i]);
    else if (!std::strcmp(argv[i], "--seed") && i + 1 < argc) seed = std::atol(argv[++i]);
    else if (!std::strcmp(argv[i], "--only") && i + 1 < argc) only = std::atol(argv[++i]);
    else {
      std::ifstream in(argv[i], std::ios::binary);
      if (!in) {
        std::fprintf(stderr, "cannot read %s\n", argv[i]);
        return 2;
      }
      std::stringstream all;
      all << in.rdbuf();
      seeds.push_back(all.str());
    }
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(say_where);
  else
    for (int s : {SIGSEGV, SIGBUS, SIGFPE}) std::signal(s, on_signal);
  std::signal(SIGABRT, on_signal);
  long seeded = long(seeds.size());
  try {
    for (current = only >= 0 ? only : 0; current < (only >= 0 ? only + 1 : seeded + runs); ++current)
      run(current < seeded ? seeds[size_t(current)] : mutate(seeds, whence::RandomStream(seed, current)));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "an exception escaped: %s", e.what());
    say_where();
    return 1;
  }
  std::printf("%ld seeds, %ld mutations: nothing found\n", seeded, runs);
  return 0;
}
