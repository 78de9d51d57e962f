// Reads every file of PyTorch's operator samples below WHENCE_OPINFO (folders, separated by ':'; default:
// shared/goldens/opinfo and, where it is there, shared/goldens/opinfo_held beside the source folder), and counts. A
// sample passes, shows a convention or an option that is missing (runner.cpp lists both), or the test fails.
// WHENCE_OPINFO_FILTER=text runs only operators whose name contains it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/opinfo/runner.h"

namespace fs = std::filesystem;
using namespace whence;
using namespace whence::opinfo;

namespace {

std::vector<fs::path> files() {
  std::vector<fs::path> folders, found;
  if (const char* given = std::getenv("WHENCE_OPINFO")) {
    std::istringstream in(given);
    for (std::string folder; std::getline(in, folder, ':');) folders.push_back(folder);
  } else {
    const char* source = std::getenv("WHENCE_SOURCE_DIR");
    fs::path goldens = fs::path(source ? source : ".") / ".." / "shared" / "goldens";
    folders = {goldens / "opinfo", goldens / "opinfo_held"};
  }
  for (const fs::path& folder : folders)
    if (fs::is_directory(folder))
      for (const auto& e : fs::recursive_directory_iterator(folder))
        if (e.path().extension() == ".safetensors") found.push_back(e.path());
  std::sort(found.begin(), found.end());
  return found;
}

double tolerance(const Metadata& meta, const char* key, double otherwise) {
  auto it = meta.find(key);
  return it == meta.end() ? otherwise : std::stod(it->second);
}

TEST(OpInfo, EverySampleIsAccountedFor) {
  std::vector<fs::path> paths = files();
  if (paths.empty()) GTEST_SKIP() << "no operator samples (set WHENCE_OPINFO to the folder that holds them)";
  const char* filter = std::getenv("WHENCE_OPINFO_FILTER");
  std::map<std::string, Builder> table = operators();
  std::map<Outcome, int> samples, refused;
  std::map<std::string, int> reasons;
  std::string failures;
  for (const fs::path& path : paths) {
    Safetensors file = Safetensors::open(path.string());
    const Metadata& meta = file.metadata();
    const std::string& name = meta.at("op");
    if (filter && name.find(filter) == name.npos) continue;
    auto row = table.find(name);
    ASSERT_NE(row, table.end()) << name << " has no row";
    double rtol = tolerance(meta, "rtol", 1e-9);
    Operator op{file, name, rtol, tolerance(meta, "rtol_grad", rtol), meta.at("scale") == "element", row->second};
    auto count = [&](const Json& sample, const Verdict& v, std::map<Outcome, int>& into) {
      ++into[v.outcome];
      std::string text = name + " " + sample.at("id").get<std::string>() + ": " + v.text;
      if (v.outcome == Outcome::fail) failures += "\n  " + text;
      if (v.outcome == Outcome::missing) ++reasons["missing: " + name + ": " + v.text];
      if (v.outcome == Outcome::convention) ++reasons["convention: " + v.text];
    };
    for (const Json& s : Json::parse(meta.at("samples"))) count(s, run_sample(op, s), samples);
    for (const Json& s : Json::parse(meta.at("refused"))) count(s, run_refused(op, s), refused);
  }
  for (const auto& [reason, n] : reasons) std::cout << n << " " << reason << "\n";
  auto line = [](const char* what, std::map<Outcome, int>& n) {
    std::cout << what << ": pass " << n[Outcome::pass] << ", chosen convention " << n[Outcome::convention]
              << ", missing option " << n[Outcome::missing] << ", FAIL " << n[Outcome::fail] << "\n";
  };
  line("samples", samples);
  line("calls to refuse", refused);
  EXPECT_EQ(samples[Outcome::fail] + refused[Outcome::fail], 0) << failures;
}

}  // namespace
