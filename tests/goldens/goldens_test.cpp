// Reads every golden file below WHENCE_GOLDENS (default: shared/goldens beside the source folder) and prints one line
// per file. Fails when a file fails; counts, but forgives, files that need operations the library has not.
// WHENCE_GOLDENS_FILTER=text runs only files whose path contains it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "tests/goldens/runner.h"

namespace fs = std::filesystem;
using namespace whence;
using namespace whence::goldens;

namespace {

fs::path root() {
  if (const char* p = std::getenv("WHENCE_GOLDENS")) return p;
  const char* source = std::getenv("WHENCE_SOURCE_DIR");
  return fs::path(source ? source : ".") / ".." / "shared" / "goldens";
}

using Runner = void (*)(const File&, DType, Check&);

// By metadata, not by place: other collections of the same kinds work too.
Runner runner_of(const File& f) {
  if (f.meta("format").starts_with("lrp-golden")) return run_lrp;
  const std::string& name = f.meta("case");
  if (name.starts_with("op/")) return run_operator;
  if (name.starts_with("optim/")) return run_optimiser;
  if (name.starts_with("train/")) return run_trajectory;
  if (name.starts_with("ref/") && !f.has("input.input_ids")) return run_operator;
  return run_model_file;
}

std::string family(const File& f, const fs::path& path) {
  std::string place = path.parent_path().filename().string();
  auto parts = f.name.find("__");  // GROUP__FAMILY__CASE, or family_case
  if (parts == f.name.npos) return place + "/" + f.name.substr(0, f.name.find('_'));
  auto second = f.name.find("__", parts + 2);
  return place + "/" + f.name.substr(0, second == f.name.npos ? parts : second);
}

struct Totals {
  int pass = 0, fail = 0, missing = 0;
};

void run_folder(const fs::path& folder) {
  fs::path start = root() / folder;
  if (!fs::is_directory(start))
    GTEST_SKIP() << "no golden files at " << start << " (set WHENCE_GOLDENS to the folder that holds lrp/ and hf/)";
  std::vector<fs::path> paths;
  for (const auto& e : fs::recursive_directory_iterator(start))
    if (e.path().extension() == ".safetensors") paths.push_back(e.path());
  std::sort(paths.begin(), paths.end());
  const char* filter = std::getenv("WHENCE_GOLDENS_FILTER");
  std::map<std::string, Totals> families;
  Totals all;
  std::string failures;
  for (const fs::path& p : paths) {
    if (filter && p.string().find(filter) == std::string::npos) continue;
    std::optional<File> file;
    try {
      file.emplace(p.string());
    } catch (const std::exception& e) {
      ADD_FAILURE() << p << ": " << e.what();
      continue;
    }
    Runner run = runner_of(*file);
    for (DType t : {f64, f32}) {
      Report r = run_case(*file, t, [&](Check& c) { run(*file, t, c); });
      std::cout << r.line << "\n" << std::flush;
      for (Totals* n : {&families[family(*file, p)], &all})
        ++(r.outcome == Outcome::pass ? n->pass : r.outcome == Outcome::fail ? n->fail : n->missing);
      if (r.outcome == Outcome::fail) failures += "\n  " + r.line;
    }
  }
  std::cout << "\n";
  for (const auto& [name, n] : families)
    std::printf("%-28s pass %4d   FAIL %4d   ops missing %4d\n", name.c_str(), n.pass, n.fail, n.missing);
  std::printf("%-28s pass %4d   FAIL %4d   ops missing %4d   (files x {f64, f32})\n", folder.c_str(), all.pass,
              all.fail, all.missing);
  std::fflush(stdout);
  EXPECT_EQ(all.fail, 0) << failures;
}

TEST(Goldens, Relevance) { run_folder("lrp"); }
TEST(Goldens, RelevanceOfModels) { run_folder("autolrp"); }
TEST(Goldens, OperatorsScansOptimisers) { run_folder("hf/core"); }
TEST(Goldens, DecoderModels) { run_folder("hf/hf_decoder"); }
TEST(Goldens, EncoderModels) { run_folder("hf/hf_encoder"); }

}  // namespace
