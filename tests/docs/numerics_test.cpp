// docs/numerics.md names a test for what it promises; each of them is there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

std::set<std::string> all_matches(const std::string& text, const char* pattern) {
  std::set<std::string> found;
  const std::regex what(pattern);
  for (std::sregex_iterator at(text.begin(), text.end(), what), end; at != end; ++at)
    found.insert((*at)[1].str() + "." + (*at)[2].str());
  return found;
}

TEST(Docs, TestsThatTheNumericsPageNamesExist) {
  const char* root = std::getenv("WHENCE_SOURCE_DIR");
  const std::filesystem::path source = root ? root : ".";
  std::set<std::string> tests;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source / "tests"))
    if (entry.path().extension() == ".cpp")
      tests.merge(all_matches(text_of(entry.path()), R"(TEST\(\s*(\w+),\s*(\w+)\))"));
  std::set<std::string> named =
      all_matches(text_of(source / "docs/numerics.md"), R"(\b([A-Z][A-Za-z]+)\.([A-Z][A-Za-z0-9]+)\b)");
  EXPECT_GT(named.size(), 25u);
  for (const std::string& name : named) EXPECT_TRUE(tests.contains(name)) << "no test is named " << name;
}

}  // namespace
