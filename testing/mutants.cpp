// Broken copies of an op, each of which the other checks must catch; and the checks on a literal as a whole.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "whence/testing/references.h"
#include "whence/testing/run.h"

namespace whence::suite {
namespace {

enum class Change { scaled, swapped, dropped, rolled };

struct Mutant {
  const OpDef* original = nullptr;
  const OpDef* broken = nullptr;
  Change change = Change::scaled;
  int operand = 0;        // dropped
  bool applied = false;   // a rule ran that this mutant has something to change in
  bool differed = false;  // and the change showed
};
thread_local Mutant* mutant = nullptr;

Tensor rolled(const Tensor& t) {
  std::vector<double> v = t.to_vector<double>();
  if (!v.empty()) std::rotate(v.begin(), v.end() - 1, v.end());
  return Tensor::from(v, t.shape()).to(t.dtype()).contiguous_copy();
}
Tensor scaled(const Tensor& t) {
  std::vector<double> v = t.to_vector<double>();
  for (double& x : v) x *= 1.001;
  return Tensor::from(v, t.shape()).to(t.dtype()).contiguous_copy();
}

// Runs the original rule, then hands on broken contributions. Immediate graphs only.
void break_rule(SweepCtx& c, SweepFn rule) {
  Mutant& m = *mutant;
  SweepCtx inner = c;
  rule(inner);
  std::vector<Var> given;
  for (int i = 0; i < c.n_in(); ++i) given.push_back(inner.given(i));
  std::vector<Var> before = given;
  auto change = [&](int i, const Tensor& t) { given[size_t(i)] = c.graph.constant(t); };
  switch (m.change) {
    case Change::scaled:
      for (int i = 0; i < c.n_in(); ++i)
        if (given[size_t(i)].defined()) change(i, scaled(before[size_t(i)].value()));
      break;
    case Change::rolled:
      for (int i = 0; i < c.n_in(); ++i)
        if (given[size_t(i)].defined() && given[size_t(i)].numel() > 1) change(i, rolled(before[size_t(i)].value()));
      break;
    case Change::dropped:
      if (m.operand < c.n_in() && given[size_t(m.operand)].defined() && given[size_t(m.operand)].numel() > 0)
        change(m.operand, Tensor::zeros(before[size_t(m.operand)].shape(), before[size_t(m.operand)].dtype()));
      break;
    case Change::swapped:
      for (int i = 0; i < c.n_in(); ++i)
        for (int j = i + 1; j < c.n_in(); ++j) {
          Var &a = given[size_t(i)], &b = given[size_t(j)];
          if (!a.defined() || !b.defined() || !(a.shape() == b.shape()) || a.numel() == 0) continue;
          std::swap(a, b);
          i = j = c.n_in();
        }
      break;
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].defined() && !given[i].same(before[i])) {
      m.applied = true;
      m.differed |=
          !differ(given[i].value(), before[i].value(), 1e-6, std::max(1e-6, max_abs(before[i].value()))).empty();
    }
    if (given[i].defined()) c.give(int(i), given[i]);
  }
}
void broken_vjp(SweepCtx& c) { break_rule(c, mutant->original->vjp); }
void broken_relevance(SweepCtx& c) { break_rule(c, mutant->original->relevance); }
void broken_fast_relevance(SweepCtx& c) { break_rule(c, mutant->original->fast_relevance); }

}  // namespace

const OpDef& original(const OpDef& op) { return mutant && mutant->broken == &op ? *mutant->original : op; }

Failures check_mutants(const OpDef& op) {
  Failures failures;
  if (!op.samples) return failures;
  std::vector<Sample> samples = op.samples();
  int operands = 0;
  for (const Sample& s : samples) operands = std::max(operands, int(s.in.size()));

  struct Field {
    const char* name;
    bool present;
    void (*install)(OpDef&);
    Failures (*caught_by)(const OpDef&, const Sample&);
    Failures (*or_by)(const OpDef&, const Sample&);
  };
  const Field fields[] = {
      {"vjp", op.vjp && has_gradient(op), [](OpDef& d) { d.vjp = broken_vjp; }, check_gradient, nullptr},
      {"relevance", op.relevance && has_relevance(op), [](OpDef& d) { d.relevance = broken_relevance; }, check_ledger,
       check_oracle},
      {"fast_relevance", op.fast_relevance && has_relevance(op),
       [](OpDef& d) { d.fast_relevance = broken_fast_relevance; }, check_fused, nullptr},
  };
  for (const Field& field : fields) {
    if (!field.present) continue;
    std::vector<std::pair<Change, int>> changes{{Change::scaled, 0}, {Change::swapped, 0}, {Change::rolled, 0}};
    for (int i = 0; i < operands; ++i) changes.emplace_back(Change::dropped, i);
    for (auto [change, operand] : changes) {
      static const char* verbs[] = {"x 1.001", "swapped", "dropped", "rolled"};
      std::string name = fmt::format("{} {}", field.name, verbs[int(change)]);
      if (change == Change::dropped) name += " " + op.operand_name(operand);
      OpDef broken = op;
      field.install(broken);
      Mutant m{&op, &broken, change, operand};
      mutant = &m;
      bool caught = false;
      try {
        for (const Sample& s : samples) {
          caught = !field.caught_by(broken, s).empty() || (field.or_by && !field.or_by(broken, s).empty());
          if (caught) break;
        }
      } catch (...) {
        mutant = nullptr;
        throw;
      }
      mutant = nullptr;
      count_comparison();
      std::string claim = equivalence_claim(op.name, name);
      if (caught && !claim.empty())
        failures.push_back(fmt::format("[{}] the mutant '{}' is said to equal the original ({}), but it was caught",
                                       op.name, name, claim));
      if (caught || !m.applied || !claim.empty()) continue;
      failures.push_back(
          fmt::format("[{}] the mutant '{}' was not caught: {}", op.name, name,
                      m.differed ? "its numbers differ, the checks are too loose"
                                 : "it changes nothing on any sample; add one, or state why with equivalent_mutant"));
    }
  }
  return failures;
}

// ---- the literal --------------------------------------------------------------------------------------------------

Failures check_errors(const OpDef& op) {
  Failures failures;
  if (!op.errors) return failures;
  std::string here = __FILE__;
  here = here.substr(here.rfind('/') + 1) + ":";  // the line that records must be named
  int number = 0;
  for (const ErrorSample& e : op.errors()) {
    std::string what = fmt::format("[{}] error sample {}", op.name, number++);
    Graph g;
    ScopeGuard scope(g, "suite");
    std::vector<Var> in;
    for (size_t i = 0; i < e.in.size(); ++i)
      in.push_back(g.input("x" + std::to_string(i), e.in[i].shape, e.in[i].dtype));
    size_t nodes = g.node_count(), values = g.value_count();
    try {
      g.record(op, in, e.attrs);
      failures.push_back(fmt::format("{}: nothing was thrown; expected \"{}\"", what, e.message));
    } catch (const Error& error) {
      std::string text = error.what();
      count_comparison();
      for (const std::string& part : {e.message, "[" + op.name + "]", here, std::string("in suite")})
        if (text.find(part) == text.npos)
          failures.push_back(fmt::format("{}: \"{}\" is missing from the text:\n{}", what, part, text));
    }
    if (g.node_count() != nodes || g.value_count() != values)
      failures.push_back(what + ": the refused node stays in the graph");
  }
  return failures;
}

Failures check_literal(const OpDef& op) {
  Failures failures;
  auto add = [&](const std::string& what) { failures.push_back(fmt::format("[{}] {}: {}", op.name, op.file, what)); };
  if (op.traits.leaf) return failures;
  if (!op.samples) return {fmt::format("[{}] {}: no samples", op.name, op.file)};
  std::vector<Sample> samples = op.samples();
  if (samples.empty()) add("the list of samples is empty");
  if (!op.errors) add("no error samples; return an empty list when nothing can be wrong");
  bool differentiable_sample = false;
  for (const Sample& s : samples) {
    bool nonempty = std::all_of(s.in.begin(), s.in.end(), [](const SampleInput& i) { return i.shape.numel() > 0; });
    differentiable_sample |= nonempty && !differentiable(op, s).empty();
    if (!op.operands.empty() && !op.operands.back().ends_with("...") && s.in.size() > op.operands.size())
      add(fmt::format("sample '{}' has {} inputs, {} operands are named", s.name, s.in.size(), op.operands.size()));
  }
  if (has_gradient(op) && !differentiable_sample && !op.traits.random) add("no sample with a differentiable operand");
  if (needs_reference(op) && !find_reference(op.name))
    add("the rule is no combinator and has no reference; write one with whence::suite::relevance_reference");
  return failures;
}

// ---- the list -----------------------------------------------------------------------------------------------------

std::vector<OpCheck> op_checks(std::string_view pattern) {
  auto word = [](std::string_view text) {
    std::string s;
    for (char c : text) s += std::isalnum(uint8_t(c)) ? c : '_';
    return s;
  };
  auto guarded = [](std::string what, std::function<Failures()> f) {
    return [what = std::move(what), f = std::move(f)]() -> Failures {
      try {
        return f();
      } catch (const std::exception& e) {
        return {what + " threw: " + e.what()};
      }
    };
  };
  struct PerSample {
    const char* name;
    Failures (*run)(const OpDef&, const Sample&);
    bool (*applies)(const OpDef&);
  };
  static const PerSample per_sample[] = {
      {"forward", check_forward, [](const OpDef&) { return true; }},
      {"gradient", check_gradient, [](const OpDef&) { return true; }},
      {"second_order", check_second_order, has_gradient},
      {"ledger", check_ledger, has_relevance},
      {"oracle", check_oracle,
       [](const OpDef& op) { return (has_relevance(op) && !op.fused()) || op.traits.blocks_relevance; }},
      {"fused", check_fused, [](const OpDef& op) { return op.fused(); }},
      {"kernel", check_kernel, [](const OpDef& op) { return kernel_of(op, Device::Kind::cpu) != nullptr; }},
      {"precision", check_precision, [](const OpDef& op) { return !op.traits.random; }},
      {"executors", check_executors, [](const OpDef&) { return true; }},
      {"devices", check_devices, [](const OpDef& op) { return !op.traits.leaf && !devices().empty(); }},
      {"targets", check_targets, [](const OpDef& op) { return has_gradient(op) || has_relevance(op); }},
      {"batch", check_batch, has_relevance},
  };
  struct PerOp {
    const char* name;
    Failures (*run)(const OpDef&);
  };
  static const PerOp per_op[] = {{"literal", check_literal}, {"errors", check_errors}, {"mutants", check_mutants}};

  std::vector<OpCheck> checks;
  for (const OpDef* op : all_ops()) {
    if (op->traits.leaf || !lrp::glob(pattern, op->name)) continue;
    for (const PerOp& c : per_op)
      checks.push_back({word(op->name) + "_" + c.name,
                        guarded(fmt::format("[{}] {}", op->name, c.name), [op, run = c.run] { return run(*op); })});
    if (!op->samples) continue;
    size_t n = op->samples().size();
    std::vector<std::string> names;
    for (size_t s = 0; s < n; ++s) {
      Sample sample = op->samples()[s];
      std::string name = word(sample.name.empty() ? std::to_string(s) : sample.name);
      if (std::count(names.begin(), names.end(), name)) name += "_" + std::to_string(s);
      names.push_back(name);
      for (const PerSample& c : per_sample)
        if (c.applies(*op))
          checks.push_back(
              {word(op->name) + "_" + name + "_" + c.name,
               guarded(title(*op, sample) + " " + c.name, [op, sample, run = c.run] { return run(*op, sample); })});
    }
  }
  if (checks.empty())
    checks.push_back({"nothing", [pattern = std::string(pattern)]() -> Failures {
                        return {"no op is named like '" + pattern + "'"};
                      }});
  return checks;
}

}  // namespace whence::suite
