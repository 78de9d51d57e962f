// A model as a table.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "whence/nn/module.h"

namespace whence::nn {

namespace {

struct Cost {
  int64_t operations = 0;
  double bytes = 0, flops = 0;
  std::string shape;  // of the last value
};

// Two per multiplication and addition; of what is no product: none.
double flops_of(const Graph& g, const Node& n) {
  auto shape = [&](int i) -> const Shape& { return g.type(g.inputs(n)[size_t(i)]).shape; };
  const Shape& out = g.type(n.out_begin).shape;
  const std::string& op = n.op->name;
  const double results = double(out.numel());
  if (op == "matmul" || op == "linear") return 2 * results * double(shape(0)[-1]);
  if (op == "conv") return 2 * results * double(shape(1).numel()) / double(std::max<int64_t>(1, shape(1)[0]));
  if (op == "conv_transpose")
    return 2 * double(shape(0).numel()) * double(shape(1).numel()) / double(std::max<int64_t>(1, shape(1)[0]));
  if (op == "causal_conv1d") return 2 * results * double(shape(1)[-1]);
  if (op == "attention")
    return 2 * double(shape(0).numel()) * double(shape(1)[-2]) + 2 * results * double(shape(2)[-2]);
  return 0;
}

// By full name of the module, costs of what is recorded in its scope, its parts included; "" is everything.
std::map<std::string, Cost> costs_of(std::span<const Var> outputs) {
  std::map<std::string, Cost> costs;
  if (outputs.empty()) return costs;
  const Graph& g = outputs[0].graph();
  std::vector<char> live(g.node_count());
  for (const Var& v : outputs) {
    g.check_own(v, "an output of summary");
    live[g.producer_id(v.id())] = 1;
  }
  for (NodeId id = NodeId(g.node_count()); id-- > 0;)
    if (live[id])
      for (ValueId v : g.inputs(g.node(id))) live[g.producer_id(v)] = 1;
  for (NodeId id = 0; id < g.node_count(); ++id) {
    const Node& n = g.node(id);
    if (!live[id] || n.op->traits.leaf) continue;
    const TensorType& type = g.type(n.out_begin);
    std::string name = g.scope_name(n);
    std::replace(name.begin(), name.end(), '/', '.');
    for (;;) {
      Cost& c = costs[name];
      ++c.operations;
      if (!n.op->view) c.bytes += double(type.shape.numel()) * double(size_of(type.dtype));
      c.flops += flops_of(g, n);
      c.shape = type.shape.str();
      if (name.empty()) break;
      const size_t dot = name.rfind('.');
      name = dot == std::string::npos ? "" : name.substr(0, dot);
    }
  }
  return costs;
}

// "950", "12.3k", "4.56M"
std::string count(double value) {
  for (const char* unit : {"", "k", "M", "G", "T"}) {
    if (value < 1000) return *unit ? fmt::format("{:.3g}{}", value, unit) : fmt::format("{:.0f}", value);
    value /= 1000;
  }
  return fmt::format("{:.3g}P", value);
}

}  // namespace

std::string summary(const Module& model, std::span<const Var> outputs) {
  struct Line {
    std::string name;
    const Module* module;
  };
  std::vector<Line> lines;
  auto walk = [&](auto&& self, const Module& m, const std::string& indent, const std::string& name) -> void {
    lines.push_back({indent + (name.empty() ? "model" : name), &m});
    for (const Module* child : m.children())
      self(self, *child, indent + "  ", m.name().empty() ? child->name() : child->name().substr(m.name().size() + 1));
  };
  walk(walk, model, "", model.name());

  const std::map<std::string, Cost> costs = costs_of(outputs);
  size_t wide = 4, shape = 6;
  for (const Line& l : lines) {
    wide = std::max(wide, l.name.size());
    if (auto c = costs.find(l.module->name()); c != costs.end()) shape = std::max(shape, c->second.shape.size());
  }
  const bool recorded = !outputs.empty();
  std::string s = fmt::format("{:<{}}", "name", wide);
  if (recorded) s += fmt::format("  {:<{}}", "output", shape);
  s += fmt::format("  {:>10}  {:>10}", "parameters", "trained");
  if (recorded) s += fmt::format("  {:>10}  {:>8}  {:>8}", "operations", "bytes", "FLOPs");
  s += "\n";
  for (const Line& l : lines) {
    int64_t trained = 0;
    for (const Parameter* p : l.module->parameters()) trained += p->trainable() ? p->shape().numel() : 0;
    s += fmt::format("{:<{}}", l.name, wide);
    auto c = costs.find(l.module->name());
    const Cost cost = c == costs.end() ? Cost{} : c->second;
    if (recorded) s += fmt::format("  {:<{}}", cost.shape, shape);
    s += fmt::format("  {:>10}  {:>10}", l.module->parameter_count(), trained);
    if (recorded) s += fmt::format("  {:>10}  {:>8}  {:>8}", cost.operations, count(cost.bytes), count(cost.flops));
    s += "\n";
  }
  int64_t buffers = 0;
  for (const Parameter* p : model.buffers()) buffers += p->shape().numel();
  if (buffers) s += fmt::format("buffers: {} elements\n", buffers);
  return s;
}

}  // namespace whence::nn
