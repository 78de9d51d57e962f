// The op registry, and the refusal of incomplete literals.
#include <algorithm>
#include <deque>
#include <map>
#include <mutex>

#include "whence/autograd/op.h"

namespace whence {

namespace {
struct Registry {
  std::deque<OpDef> ops;  // stable addresses
  std::map<std::string, OpDef*, std::less<>> by_name;
  struct Waiting {
    Device::Kind kind;
    std::string op;
    Kernel kernel;
  };
  std::vector<Waiting> waiting;  // kernels whose op is not there yet: static initialisers run in any order
  const Kernel* (*scalar_kernel[Device::kKinds])(const ScalarRow&) = {};
  std::vector<std::string> defects;
  size_t validated = 0;
  std::mutex mutex;
};
Registry& registry() {
  static Registry* r = new Registry;  // never destroyed: ops outlive static destructors
  return *r;
}
}  // namespace

std::string OpDef::operand_name(int i) const {
  if (operands.empty()) return "operand " + std::to_string(i);
  if (size_t(i) < operands.size() && !operands[size_t(i)].ends_with("...")) return operands[size_t(i)];
  std::string last = operands.back();
  if (last.ends_with("...")) return last.substr(0, last.size() - 3) + std::to_string(i - int(operands.size()) + 1);
  return "operand " + std::to_string(i);
}

static const Kernel* own_kernel(const OpDef& op, Device::Kind kind) {
  if (kind == Device{}.kind) return op.cpu ? &op.cpu : nullptr;
  for (const auto& [have, kernel] : op.other_kernels)
    if (have == kind) return &kernel;
  return nullptr;
}

const Kernel* kernel_of(const OpDef& op, Device::Kind kind) {
  if (const Kernel* own = own_kernel(op, kind)) return own;
  auto of = registry().scalar_kernel[size_t(kind)];
  return op.elementwise() && of ? of(op.scalar) : nullptr;
}

bool register_scalar_kernel(Device::Kind kind, const Kernel* (*of)(const ScalarRow&)) {
  registry().scalar_kernel[size_t(kind)] = of;
  return true;
}

// Adds a kernel to a literal; true when there is one already.
static bool attach(OpDef& op, Device::Kind kind, const Kernel& kernel) {
  if (own_kernel(op, kind)) return true;
  if (kind == Device{}.kind) op.cpu = kernel;
  else op.other_kernels.emplace_back(kind, kernel);
  return false;
}

const OpDef& register_op(const char* name, const char* file, OpDef def) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  def.name = name;
  std::string_view path = file;
  if (size_t at = path.rfind('/'); at != path.npos)
    if (size_t before = path.rfind('/', at - 1); before != path.npos) path.remove_prefix(before + 1);
  def.file = path;
  if (def.relevance == lrp::linear_rule) def.variants = lrp::linear_variants();
  if (r.by_name.contains(def.name)) r.defects.push_back(def.name + " (" + def.file + ") is registered twice");
  r.ops.push_back(std::move(def));
  OpDef& op = r.ops.back();
  r.by_name[name] = &op;
  std::erase_if(r.waiting, [&](const Registry::Waiting& w) {
    if (w.op != name) return false;
    if (attach(op, w.kind, w.kernel)) r.defects.push_back(op.name + " has two kernels for " + Device{w.kind}.str());
    return true;
  });
  return op;
}

bool register_kernel(Device::Kind kind, const char* op, const Kernel& kernel) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto at = r.by_name.find(op);
  if (at == r.by_name.end()) r.waiting.push_back({kind, op, kernel});
  else if (attach(*at->second, kind, kernel)) r.defects.push_back(op + (" has two kernels for " + Device{kind}.str()));
  return true;
}

std::string Status::message(const OpDef& outer, const Attrs& outer_attrs) const {
  const OpDef& op = inner_op ? *inner_op : outer;
  const Attrs& attrs = inner_op ? *inner_attrs : outer_attrs;
  std::string what = attrs.has("what") ? attrs.text("what") : op.operand_name(operand);
  std::string s = "[" + op.name + "] " + what + " " + std::to_string(value) + " at position " +
                  std::to_string(position) + " is outside [" + std::to_string(attrs.integer("low", 0)) + ", " +
                  std::to_string(limit) + ")";
  if (attrs.has("ignore_index")) s += " and not ignore_index " + std::to_string(attrs.integer("ignore_index"));
  if (inner_op) s += ", in step " + std::to_string(iteration) + " of " + outer.name;
  return s;
}

const OpDef* find_op(std::string_view name) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto it = r.by_name.find(name);
  return it == r.by_name.end() ? nullptr : it->second;
}

const OpDef& op_named(std::string_view name) {
  const OpDef* op = find_op(name);
  if (!op) throw Error("no op is named '" + std::string(name) + "'");
  return *op;
}

std::vector<const OpDef*> all_ops() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  std::vector<const OpDef*> ops;
  for (auto& [name, op] : r.by_name) ops.push_back(op);
  return ops;
}

static void check(const OpDef& op, std::vector<std::string>& defects) {
  auto defect = [&](const std::string& what) { defects.push_back(op.name + " (" + op.file + "): " + what); };
  const Traits& t = op.traits;
  if (op.doc.empty()) defect("no doc line");
  if (!op.infer) defect("no shape inference");
  if (t.leaf) return;
  if (op.operands.empty() && (op.vjp || op.relevance || op.body))
    defect("operands are not named");  // sources (random, arange) have none
  if (!op.cpu && !op.view && !op.body && !op.elementwise()) defect("no cpu kernel, view or body");
  if (op.body && op.relevance) defect("a fused op has a body and no relevance rule of its own");
  if (!op.body && op.fast_relevance) defect("fast_relevance belongs to fused ops");
  if (!op.relevance && !op.variants.empty()) defect("variants belong to a relevance rule");
  bool stops = t.nondifferentiable;
  if (!op.vjp && !op.body && !stops && !t.blocks_gradient)
    defect("no vjp and no body; set nondifferentiable if cotangents stop here by definition");
  if (!op.relevance && !op.body && !stops && !t.backward && !t.blocks_relevance)
    defect("no relevance rule and no body");
  if (!op.samples) defect("no samples");
  if (op.scalar && op.scalar.arity() != int(op.operands.size()))
    defect("its scalar row takes " + std::to_string(op.scalar.arity()) + " operand(s), it takes " +
           std::to_string(op.operands.size()));
}

void report_defect(std::string defect) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  r.defects.push_back(std::move(defect));
}

std::vector<std::string> registry_defects() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  std::vector<std::string> defects = r.defects;
  for (const Registry::Waiting& w : r.waiting)
    defects.push_back("a kernel for " + Device{w.kind}.str() + " names an op that is not there: " + w.op);
  for (auto& [name, op] : r.by_name) check(*op, defects);
  return defects;
}

void validate_registry() {
  Registry& r = registry();
  {
    std::lock_guard lock(r.mutex);
    if (r.validated == r.ops.size()) return;
  }
  std::vector<std::string> defects = registry_defects();
  if (!defects.empty()) {
    std::string text = "the op registry has " + std::to_string(defects.size()) + " defect(s):";
    for (auto& d : defects) text += "\n  " + d;
    throw Error(text);
  }
  std::lock_guard lock(r.mutex);
  r.validated = r.ops.size();
}

}  // namespace whence
