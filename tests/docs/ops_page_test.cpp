// docs/ops.md is written from the registry. This test writes it again and compares; `make docs` keeps the new text.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "whence/autograd/graph.h"
#include "whence/testing/op_suite.h"

using namespace whence;

namespace {

std::string sweep_mark(const OpDef& op) {
  if (op.traits.nondifferentiable || op.traits.blocks_gradient) return "stops";
  return op.vjp ? "vjp" : "by body";
}

std::string relevance_mark(const OpDef& op) {
  if (op.traits.nondifferentiable || op.traits.blocks_relevance) return "stops";
  if (op.body) return op.fast_relevance ? "by body, fast path" : "by body";
  if (op.traits.backward) return "none";
  SweepFn r = op.relevance;
  if (r == lrp::linear_rule) return "linear map";
  std::string variants;
  for (const std::string& v : op.variants) variants += (variants.empty() ? "; " : ", ") + v;
  if (!variants.empty()) return "own rule" + variants;
  return r == lrp::identity             ? "identity"
         : r == lrp::reindex            ? "reindex"
         : r == lrp::sink               ? "sink"
         : r == lrp::linear_in_carriers ? "linear"
         : r == lrp::multilinear        ? "multilinear"
                                        : "own rule";
}

std::string traits_of(const OpDef& op) {
  std::string s;
  auto add = [&](bool has, const char* name) {
    if (has) s += (s.empty() ? "" : ", ") + std::string(name);
  };
  const Traits& t = op.traits;
  add(op.elementwise(), "elementwise");
  add(op.view != nullptr, "view");
  add(t.compute_bound, "compute bound");
  add(t.random, "random");
  const Kernel* cpu = kernel_of(op, Device::Kind::cpu);
  add(cpu && cpu->strided && !op.view, "strided");
  add(cpu && cpu->in_place >= 0, "in place");
  add(t.batched_sweep, "several targets at once");
  return s;
}

// Does the op run with this dtype in place of f64 on its first sample with elements?
std::string supported(const OpDef& op, DType dtype) {
  if (!op.samples) return "";
  for (const Sample& sample : op.samples()) {
    bool has = sample.in.empty(), any = false;
    for (const SampleInput& in : sample.in) {
      has |= in.shape.numel() > 0;
      any |= in.dtype == f64;
    }
    if (!has) continue;
    if (!any) return "";  // its operands have fixed dtypes
    std::vector<Tensor> x = suite::draw(op, sample);
    for (size_t i = 0; i < x.size(); ++i)
      if (sample.in[i].dtype == f64) {
        if (!is_float(dtype))
          for (int64_t j = 0; j < x[i].numel(); ++j) x[i].data<double>()[j] = 1;
        x[i] = x[i].to(dtype).contiguous_copy();
      }
    try {
      Graph g(Graph::Mode::immediate);
      std::vector<Var> in;
      for (size_t i = 0; i < x.size(); ++i) in.push_back(g.input("x" + std::to_string(i), x[i]));
      g.record(op, in, sample.attrs);
      return "yes";
    } catch (const DTypeError&) {
    } catch (const MissingKernel&) {}
    return "";
  }
  return "";
}

std::string escape(std::string s) {
  for (size_t at = 0; (at = s.find('|', at)) != s.npos; at += 2) s.replace(at, 1, "\\|");
  return s;
}

std::string page() {
  std::map<std::string, std::vector<const OpDef*>> by_file;
  size_t count = 0;
  for (const OpDef* op : all_ops())
    if (op->file.starts_with("ops/") || op->file.starts_with("autograd/")) {
      by_file[op->file].push_back(op);
      ++count;
    }
  std::string s = fmt::format(
      "# Operations\n\n"
      "Written from the registry by `make docs`; a test fails when this page is stale. The functions that record "
      "these\n"
      "operations are in `ops/ops.h`; how to add one is in [adding-an-op.md](adding-an-op.md).\n\n"
      "{} operations. *Gradient*: `vjp` is written out; `by body` means that the sweep goes through the op's "
      "definition in\n"
      "other ops; `stops` means that cotangents end here by definition. *Relevance*: the combinator (`identity`: R "
      "itself;\n"
      "`reindex`: the vjp; `linear`: x vjp(R / stab(y)); `multilinear`: the same with 1 / number of carriers as "
      "share), the\n"
      "op's own rule, or its body. Ops marked *backward* are made by sweeps only.\n",
      count);
  for (auto& [file, ops] : by_file) {
    s += fmt::format(
        "\n## {}\n\n| op | operands | what it computes | gradient | relevance | traits |\n|---|---|---|---|---|---|\n",
        file);
    for (const OpDef* op : ops) {
      std::string operands;
      for (const std::string& o : op->operands) operands += (operands.empty() ? "" : ", ") + o;
      s += fmt::format("| `{}`{} | {} | {} | {} | {} | {} |\n", op->name, op->traits.backward ? " (backward)" : "",
                       operands, escape(op->doc), op->traits.leaf ? "" : sweep_mark(*op),
                       op->traits.leaf ? "" : relevance_mark(*op), traits_of(*op));
    }
  }
  s += "\n## Support matrix\n\n"
       "Which dtypes the CPU takes for an op's floating-point operands (found by running its first sample). bf16 and "
       "f16 are\n"
       "storage: kernels compute in f32 and round once. Ops whose operands have fixed dtypes are left out.\n\n"
       "| op | f64 | f32 | bf16 | f16 | i64 | i32 |\n|---|---|---|---|---|---|---|\n";
  for (auto& [file, ops] : by_file)
    for (const OpDef* op : ops) {
      if (op->traits.leaf || supported(*op, f64).empty()) continue;
      s += fmt::format("| `{}` |", op->name);
      for (DType t : {f64, f32, bf16, f16, i64, i32}) s += " " + supported(*op, t) + " |";
      s += "\n";
    }
  return s;
}

}  // namespace

TEST(Docs, TheOpsPageIsUpToDate) {
  const char* root = std::getenv("WHENCE_SOURCE_DIR");
  std::filesystem::path path = std::filesystem::path(root ? root : ".") / "docs" / "ops.md";
  std::string text = page();
  if (std::getenv("WHENCE_UPDATE_DOCS")) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream in(path);
  std::stringstream have;
  have << in.rdbuf();
  EXPECT_TRUE(have.str() == text) << path << " is stale: run `make docs`";
}
