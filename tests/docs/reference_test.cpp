// docs/api/*.md, the reference, is written from the public headers and, for operations, from the registry. This test
// writes it again and compares; `make docs` keeps the new text.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "whence/autograd/graph.h"

using namespace whence;
namespace fs = std::filesystem;

namespace {

struct Group {
  const char *name, *title, *include;
  std::vector<const char*> folders;    // all headers directly in them
  std::vector<const char*> without{};  // of these
};

const std::vector<Group> kGroups{
    {"tensor", "Tensors", "whence/whence.h", {"tensor"}, {"philox.h", "run.h"}},
    {"graph",
     "Graphs, plans and sweeps",
     "whence/whence.h",
     {"autograd"},
     {"body.h", "recurrence.h", "run_op.h", "signature_cache.h"}},
    {"ops",
     "Operations",
     "whence/whence.h",
     {"ops"},
     {"attrs.h", "axes.h", "checks.h", "floats.h", "fused.h", "index.h", "loop.h", "pool_windows.h", "scalar.h",
      "scalar_table.h", "scan_sums.h", "shifted.h"}},
    {"nn", "Layers, optimisers, training", "whence/nn.h", {"nn"}, {"layer_checks.h", "batch_signature.h"}},
    {"data", "Data and files", "whence/data.h", {"nn/data", "nn/io"}, {}},
    {"models", "Models", "whence/models.h", {"models"}, {}},
    {"lrp", "Relevance", "whence/lrp.h", {"lrp"}, {}},
};

std::string trimmed(const std::string& s) {
  const size_t a = s.find_first_not_of(' '), b = s.find_last_not_of(' ');
  return a == std::string::npos ? "" : s.substr(a, b - a + 1);
}

// What a person reads of a header: its head comment, and each documented declaration with its text.
class Header {
 public:
  explicit Header(const fs::path& path) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) read(line);
    flush();
  }
  std::string head;
  struct Entry {
    std::string code, text;
  };
  std::vector<Entry> entries;

 private:
  void read(const std::string& line) {
    const std::string t = trimmed(line);
    if (t == "#pragma once") begun_ = true;
    if (!begun_) {
      if (t.starts_with("//")) head += (t.size() > 3 ? t.substr(3) : "") + "\n";
      return;
    }
    if (t == "private:" || t == " private:") private_ = true;
    if (line.starts_with("};") || t == "public:" || t == "protected:") private_ = false;
    if (private_) return;
    if ((line.starts_with("struct ") || line.starts_with("class ")) && line.ends_with("{")) {
      const size_t begin = line.find(' ') + 1;
      entries.push_back({"", "### " + line.substr(begin, line.find_first_of(" :{", begin) - begin) + "\n"});
    }
    if (t.starts_with("///<") && !entries.empty() && code_.empty()) {  // the text behind a declaration goes on
      entries.back().text += " " + trimmed(t.substr(4));
      return;
    }
    if (t.starts_with("///")) {
      if (!code_.empty()) flush();
      text_ += (t.size() > 4 ? t.substr(4) : "") + "\n";
      return;
    }
    const size_t behind = line.find("///<");
    if (text_.empty() && behind == std::string::npos && code_.empty()) return;  // not documented
    if (t.empty() || t.starts_with("// ")) return flush();
    std::string code = behind == std::string::npos ? line : line.substr(0, behind);
    if (behind != std::string::npos) text_ += trimmed(line.substr(behind + 4)) + "\n";
    code_ += code.substr(0, code.find_last_not_of(' ') + 1) + "\n";
    const std::string c = trimmed(code);
    if (c.ends_with(";") || c.ends_with("{") || c.ends_with("}") || c.ends_with(",") || behind != std::string::npos) {
      if (c.ends_with(",") && open(code_)) return;
      flush();
    }
  }
  static bool open(const std::string& code) {
    return std::count(code.begin(), code.end(), '(') > std::count(code.begin(), code.end(), ')');
  }
  void flush() {
    if (!trimmed(code_).empty() && !text_.empty()) {
      std::string code = code_;
      const size_t brace = code.rfind('{');
      if (brace != std::string::npos && code.find('}', brace) == std::string::npos && code.ends_with("{\n"))
        code = code.substr(0, brace) + "{ .. };\n";  // a type: its members follow
      entries.push_back({code, text_});
    }
    code_.clear();
    text_.clear();
  }
  bool begun_ = false, private_ = false;
  std::string code_, text_;
};

// "gradient: vjp; relevance: own rule, variants abs, pass; example: a f64 [3, 4], b f64 [4] -> f64 [3, 4]"
std::string facts_of(const std::string& code) {
  const size_t paren = code.find('(');
  if (paren == std::string::npos) return "";
  const size_t start = code.find_last_of(" &*", paren) + 1;
  const OpDef* op = find_op(code.substr(start, paren - start));
  if (!op || op->traits.leaf) return "";
  const bool stops = op->traits.nondifferentiable;
  std::string s = fmt::format("*Operation* `{}`: gradient {}; relevance {}", op->name,
                              stops || op->traits.blocks_gradient ? "ends here"
                              : op->vjp                           ? "by its vjp"
                                                                  : "through its body",
                              stops || op->traits.blocks_relevance ? "ends here"
                              : op->body                           ? "through its body"
                              : op->relevance == lrp::identity     ? "passes as it is"
                              : op->relevance == lrp::reindex      ? "follows the elements"
                                                                   : "by a rule of its own");
  for (size_t i = 0; i < op->variants.size(); ++i) s += (i ? ", " : "; variants ") + op->variants[i];
  if (op->elementwise()) s += "; fuses";
  if (!op->samples) return s + ".\n";
  for (const Sample& sample : op->samples()) {
    Graph g;
    std::vector<Var> in;
    std::string operands;
    for (size_t i = 0; i < sample.in.size(); ++i) {
      const DType t = sample.in[i].dtype == f64 ? f32 : sample.in[i].dtype;
      in.push_back(g.input("x" + std::to_string(i), sample.in[i].shape, t));
      operands += (i ? ", " : "") + op->operand_name(int(i)) + " " + in.back().shape().str() +
                  (t == f32 ? "" : " " + std::string(name_of(t)));
    }
    if (in.empty()) break;
    try {
      Var y = g.record(*op, in, sample.attrs);
      return s + fmt::format(". Example: {}{}{} gives {}.\n", operands, sample.attrs.list().empty() ? "" : " ",
                             sample.attrs.list().empty() ? "" : "`" + sample.attrs.str() + "`", y.shape().str());
    } catch (const Error&) {  // a sample for f64 alone
    }
  }
  return s + ".\n";
}

std::string page(const fs::path& root, const Group& group) {
  std::string s = fmt::format(
      "# {}\n\nWritten from the headers by `make docs`; a test fails when this page is stale. `#include <{}>` brings "
      "all "
      "of it.\n",
      group.title, group.include);
  for (const char* folder : group.folders) {
    std::vector<fs::path> headers;
    for (const auto& entry : fs::directory_iterator(root / folder))
      if (entry.path().extension() == ".h" &&
          std::ranges::find(group.without, entry.path().filename().string()) == group.without.end())
        headers.push_back(entry.path());
    std::ranges::sort(headers);
    for (const fs::path& path : headers) {
      const Header h(path);
      s += fmt::format("\n## {}/{}\n\n", folder, path.filename().string());
      // The head comment as prose; an indented program in it as code.
      bool code = false;
      std::stringstream lines(h.head);
      for (std::string line; std::getline(lines, line);) {
        const bool indented = line.starts_with("  ");
        if (indented != code && !trimmed(line).empty()) s += (code = indented) ? "```cpp\n" : "```\n\n";
        s += (code && line.starts_with("  ") ? line.substr(2) : line) + "\n";
      }
      if (code) s += "```\n";
      for (const auto& [declaration, text] : h.entries) {
        s += declaration.empty() ? "\n" : "\n```cpp\n" + declaration + "```\n\n";
        bool example = false;
        std::stringstream docs(text);
        for (std::string line; std::getline(docs, line);) {
          if (trimmed(line) == "\\code" || trimmed(line) == "\\endcode") {
            example = !example;
            s += example ? "\n```cpp\n" : "```\n";
            continue;
          }
          for (auto& [from, to] : {std::pair<const char*, const char*>{"\\throws", "*Throws*"},
                                   {"\\returns", "*Returns*"},
                                   {"\\param", "*Parameter*"},
                                   {"\\p ", ""}})
            for (size_t at; (at = line.find(from)) != std::string::npos;)
              line.replace(at, std::string(from).size(), to);
          s += line + "\n";
        }
        if (group.name == std::string("ops"))
          if (const std::string facts = facts_of(declaration); !facts.empty()) s += "\n" + facts;
      }
    }
  }
  return s;
}

}  // namespace

TEST(Docs, TheReferenceIsUpToDate) {
  const char* source = std::getenv("WHENCE_SOURCE_DIR");
  const fs::path root = source ? source : ".", folder = root / "docs" / "api";
  const bool update = std::getenv("WHENCE_UPDATE_DOCS");
  if (update) fs::create_directories(folder);
  for (const Group& group : kGroups) {
    const std::string text = page(root, group);
    EXPECT_GT(text.size(), 2000u) << group.name;
    const fs::path path = folder / (std::string(group.name) + ".md");
    if (update) {
      std::ofstream(path) << text;
      continue;
    }
    std::ifstream in(path);
    std::stringstream have;
    have << in.rdbuf();
    EXPECT_TRUE(have.str() == text) << path << " is stale: run `make docs`";
  }
}

// Every function of the ops headers is there, with its text.
TEST(Docs, TheReferenceHasEveryOperation) {
  const char* source = std::getenv("WHENCE_SOURCE_DIR");
  const Header h(fs::path(source ? source : ".") / "ops" / "ops.h");
  auto text_of = [&](const std::string& start) {
    for (const auto& e : h.entries)
      if (e.code.starts_with(start)) return e.text;
    return std::string();
  };
  EXPECT_NE(text_of("Var softmax(").find("AttnLRP"), std::string::npos);
  EXPECT_NE(text_of("Var neg(").find("-x; number"), std::string::npos);
  EXPECT_NE(text_of("Var attention(").find("arXiv 2205.14135"), std::string::npos);
  EXPECT_GT(h.entries.size(), 120u);
}
