#include "whence/autograd/sweep.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "whence/autograd/body.h"
#include "whence/autograd/recurrence.h"

namespace whence {

namespace {

// Ops the sweep itself needs. They live in ops/, above this room, so they are reached through the registry.
Var call(const char* name, std::initializer_list<Var> in, Attrs attrs = {}) {
  return in.begin()->graph().record(op_named(name), {in.begin(), in.size()}, std::move(attrs));
}

// f32 for halves.
Var widened(Var v) {
  DType t = accumulate_dtype(v.dtype());
  return t == v.dtype() ? v : call("cast", {v}, {{"dtype", t}});
}

bool sink(const OpDef& op, int i) { return i < 32 && (op.traits.sinks >> i & 1); }

// Does the mask pass from operands to results of this node?
template <class Mask> bool any_input(const Graph& g, const Node& n, const Mask& mask) {
  auto in = g.inputs(n);
  for (size_t i = 0; i < in.size(); ++i)
    if (mask[in[i]] && !sink(*n.op, int(i))) return true;
  return false;
}

}  // namespace

// ---- SweepCtx -------------------------------------------------------------------------------------------------

SweepCtx::SweepCtx(Graph& g, NodeId id, PassKind kind)
    : graph(g), op(*g.node(id).op), attrs(g.attrs(g.node(id))), node_id(id), kind_(kind) {
  Node n = g.node(id);
  for (ValueId v : g.inputs(n)) in_.push_back(g.var(v));
  for (uint32_t k = 0; k < n.out_count; ++k) out_.push_back(g.var(n.out_begin + k));
  d_.resize(out_.size());
  give_.resize(in_.size());
  needs_.resize(in_.size());
  carries_.resize(in_.size());
}

Var SweepCtx::in(int i) const {
  Var& v = in_[size_t(i)];
  return v = widened(v);
}

std::span<const Var> SweepCtx::all_in() const {
  for (int i = 0; i < n_in(); ++i) in(i);
  return in_;
}

Var SweepCtx::out(int k) const {
  bool again = is_relevance() && !op.traits.random && !op.traits.effect;
  if (Var v = out_[size_t(k)]; again && accumulate_dtype(v.dtype()) != v.dtype()) {
    Var first = apply(all_in());
    for (int j = 0; j < n_out(); ++j) out_[size_t(j)] = graph.var(first.id() + ValueId(j));
  }
  Var& v = out_[size_t(k)];
  return v = widened(v);
}

Var SweepCtx::narrow_d() const {
  DType t = recorded(0).dtype();
  return d().dtype() == t ? d() : call("cast", {d()}, {{"dtype", t}});
}

Var SweepCtx::d(int k) const {
  if (has(k)) return d_[size_t(k)];
  DType t = graph.type(out_id(k)).dtype;
  t = is_float(t) ? accumulate_dtype(t) : f32;
  return call("broadcast_to", {graph.constant(0.0, t)}, {{"shape", out_shape(k)}});
}

Shape SweepCtx::shape_of(int i) const {
  Shape s = graph.type(in_id(i)).shape;
  if (targets_) s.insert(0, targets_);
  return s;
}
Shape SweepCtx::out_shape(int k) const {
  Shape s = graph.type(out_id(k)).shape;
  if (targets_) s.insert(0, targets_);
  return s;
}

void SweepCtx::give(int i, Var c) {
  if (!needs(i)) return;
  if (!(c.shape() == shape_of(i)))
    throw ShapeError("[" + op.name + "] " + (is_relevance() ? "relevance" : "gradient") + " of " + op.operand_name(i) +
                     " has shape " + c.shape().str() + ", the operand " + shape_of(i).str());
  c = widened(c);
  Var& have = give_[size_t(i)];
  have = have.defined() ? call("add", {have, c}) : c;
}

Var SweepCtx::reduce_to(Var v, int i) const {
  Shape want = shape_of(i);
  if (v.shape() == want) return v;
  int extra = v.rank() - want.rank(), lead = this->lead();
  Ints axes;
  for (int a = lead; a < v.rank(); ++a)
    if (a < lead + extra || (want[a - extra] == 1 && v.shape()[a] != 1)) axes.push_back(a);
  if (!axes.empty()) v = call("sum", {v}, {{"axes", axes}, {"keepdim", false}});
  return v.shape() == want ? v : call("reshape", {v}, {{"shape", want}});
}

int SweepCtx::carriers() const { return int(std::count(carries_.begin(), carries_.end(), char(1))); }

Var SweepCtx::apply(std::span<const Var> operands) const { return graph.record(op, operands, attrs); }

std::vector<Var> SweepCtx::frozen_vjp_at(std::span<const Var> operands, Var t) const {
  bool same = std::equal(operands.begin(), operands.end(), in_.begin(), in_.end(),
                         [](const Var& a, const Var& b) { return a.same(b); });
  SweepCtx inner(graph, same ? node_id : graph.producer_id(apply(operands).id()), kind_);
  if (same) {
    inner.in_ = in_;
    inner.out_ = out_;
  }
  inner.d_[0] = t;
  inner.needs_ = needs_;
  inner.carries_ = carries_;
  inner.rule_ = rule_;
  inner.pass_ = pass_;
  inner.targets_ = targets_;
  inner.frozen_ = true;
  op.vjp(inner);
  return inner.give_;
}

Var SweepCtx::stabilised_share(Var r, Var y, double share) const {
  return call("stabilised_div", {r, y}, {{"share", share}, {"eps", rule().eps}, {"stab", int64_t(rule().stab)}});
}

// ---- masks ----------------------------------------------------------------------------------------------------

static bool starts_relevance(const Graph& g, const Node& n) {
  return n.op->name == "input" && g.attrs(n).flag("carries");
}

std::vector<char> carries_relevance(const Graph& g, std::span<const Var> extra) {
  std::vector<char> carry(g.value_count());
  for (const Var& v : extra) {
    g.check_own(v, "a value that carries relevance");
    if (g.producer(v.id()).op->name != "parameter") carry[v.id()] = 1;
  }
  for (size_t i = 0; i < g.node_count(); ++i) {
    const Node& n = g.node(NodeId(i));
    bool c = starts_relevance(g, n) ||
             (!n.op->traits.blocks_relevance && !n.op->traits.nondifferentiable && any_input(g, n, carry));
    for (uint32_t k = 0; k < n.out_count; ++k) carry[n.out_begin + k] |= c;
  }
  return carry;
}

// ---- the traversal --------------------------------------------------------------------------------------------

class Sweeper {
 public:
  Sweeper(Graph& g, std::span<const Var> wrt, const Pass& pass)
      : g_(g), pass_(pass), relevance_(pass.kind == PassKind::relevance), wrt_(wrt), recorded_(NodeId(g.node_count())) {
    if (relevance_) decided_.resize(pass.rules->size());
    pass_.decided = &decided_;
    needs_.resize(g.value_count());
    carry_.resize(g.value_count());
    for (const Var& v : wrt) {
      needs_[v.id()] = 1;
      if (g.producer(v.id()).op->name != "parameter") carry_[v.id()] = 1;
    }
    extend_masks(0, NodeId(g.node_count()));
  }

  // A root that carries nothing keeps what it is given.
  void seed(ValueId v, Var r) {
    r = widened(r);
    accumulate(v, r);
    if (!pass_.observe || carry_[v]) return;
    SweepCtx c(g_, g_.producer_id(v), pass_.kind);
    c.pass_ = &pass_;
    c.targets_ = pass_.targets;
    c.d_[v - g_.producer(v).out_begin] = r;
    c.absorb("detached", r);
    pass_.observe(c);
  }

  void reverse(NodeId begin, NodeId end) {
    for (NodeId id = end; id-- > begin;) visit(id);
  }

  /// Throws when there is nothing to sweep (integers), when an op between the roots and wrt has neither rule nor body,
  /// and when a rule asks for an op that nobody registered or for a variant that its op has not.
  void check_rules(std::span<const Var> roots) const {
    check_types(roots);
    Defects found;
    if (relevance_)
      for (const std::string& op : pass_.rules->unknown_ops())
        found.variants.push_back("a rule for '" + op + "': no operation has this name");
    for (size_t e = 0; relevance_ && e <= pass_.rules->size(); ++e)  // the last is the fallback
      if (const lrp::Rule& r = pass_.rules->rule(e); !(r.eps >= 0 && std::isfinite(r.eps)))
        found.variants.push_back(r.describe() + ": eps must be finite and not negative");
    look_for_defects(roots, "", found);
    auto lines = [](std::string text, const std::vector<std::string>& list) {
      for (const std::string& s : list) text += "\n  " + s;
      return text;
    };
    if (!found.missing.empty()) {
      std::string text = relevance_ ? "no relevance rule for " : "no vjp for ";
      text += std::to_string(found.refused) + " of " + std::to_string(found.nodes) + " nodes:";
      throw MissingRule(lines(text, found.missing) + "\n  hint: " + hint(found.missing_ops.front()));
    }
    if (!found.variants.empty())
      throw ValueError(lines("rule set '" + pass_.rules->name() + "' does not fit:", found.variants));
  }

  /// In a body: tells the sweep outside which entries of the rule set decided here.
  void tell(std::vector<char>* decided) const {
    for (size_t i = 0; decided && i < decided_.size(); ++i) (*decided)[i] |= decided_[i];
  }

  const std::vector<char>& carry() const { return carry_; }
  /// What has arrived at v so far; undefined when nothing has.
  Var arrived(ValueId v) const { return v < cot_.size() && cot_[v] != kNone ? g_.var(cot_[v]) : Var(); }

  /// After the sweep.
  std::vector<std::string> unmatched() const { return pass_.rules->unmatched(decided_); }

  Var result(Var w) {
    if (Var r = arrived(w.id()); r.defined()) return r;
    Shape s = w.shape();
    if (pass_.targets) s.insert(0, pass_.targets);
    DType t = is_float(w.dtype()) ? accumulate_dtype(w.dtype()) : f32;
    return call("broadcast_to", {g_.constant(0.0, t)}, {{"shape", s}});
  }

 private:
  struct Defects {
    std::vector<std::string> missing_ops;  // one line of `missing` each
    std::vector<std::string> missing, variants;
    size_t nodes = 0, refused = 0;
  };

  std::string hint(const std::string& op) const {
    if (!relevance_) return "give the op a .vjp, or a .body in other ops: docs/adding-an-op.md";
    return "give the op a .relevance (lrp::identity for a function of one operand, lrp::reindex for data movement, "
           "lrp::linear_in_carriers for a linear map, or your own) or a .body in other ops (docs/adding-an-op.md), or "
           "name a rule for it: rules.set(\"" +
           op + "\", {.variant = \"identity\"})";
  }

  // An integer has no gradient, and relevance only as token ids: what selects rows of a table.
  void check_types(std::span<const Var> roots) const {
    const std::string what = relevance_ ? "relevance" : "gradient";
    auto refuse = [&](ValueId v, const std::string& hint) {
      throw DTypeError("[" + what + "] " + g_.describe(g_.producer_id(v)) + " is " +
                       std::string(name_of(g_.type(v).dtype)) +
                       ": there is nothing to explain in an integer or a boolean\n  hint: " + hint);
    };
    for (const Var& root : roots) {
      ValueId v = root.id();
      for (const OpDef* op = g_.producer(v).op; op->name == "cast" || op->view; op = g_.producer(v).op)
        v = g_.inputs(g_.producer(v))[0];
      if (!is_float(g_.type(root.id()).dtype)) v = root.id();
      else if (relevance_ && carry_[v]) continue;  // ids as numbers
      if (!is_float(g_.type(v).dtype)) refuse(v, "ask for the scores that it was made from");
    }
    std::vector<char> reached;
    for (const Var& w : wrt_) {
      if (is_float(w.dtype())) continue;
      if (!relevance_) refuse(w.id(), "ask for the gradient of what the integers select, embedded rows, say");
      if (reached.empty()) reached = reached_from(roots);
      if (!reached[w.id()]) refuse(w.id(), "ask for data that the result was computed from");
    }
  }

  // The values that something can arrive at.
  std::vector<char> reached_from(std::span<const Var> roots) const {
    std::vector<char> live(g_.value_count());
    for (const Var& r : roots) live[r.id()] = 1;
    for (size_t i = g_.node_count(); i-- > 0;) {
      const Node& n = g_.node(NodeId(i));
      auto results = std::span(live).subspan(n.out_begin, n.out_count);
      if (std::none_of(results.begin(), results.end(), [](char c) { return c; }) || n.op->traits.leaf || !wanted(n))
        continue;
      auto in = g_.inputs(n);
      for (size_t k = 0; k < in.size(); ++k) live[in[k]] |= char(needs_[in[k]] && !sink(*n.op, int(k)));
    }
    return live;
  }

  void look_for_defects(std::span<const Var> roots, const std::string& within, Defects& found) const {
    std::vector<char> live = reached_from(roots);
    for (size_t i = g_.node_count(); i-- > 0;) {
      const Node& n = g_.node(NodeId(i));
      auto results = std::span(live).subspan(n.out_begin, n.out_count);
      if (std::none_of(results.begin(), results.end(), [](char c) { return c; }) || n.op->traits.leaf || !wanted(n))
        continue;
      std::string where = within.empty() ? g_.describe(NodeId(i)) : n.op->name + within;
      found.nodes += within.empty();
      bool over = relevance_ && overridden(n), has = (relevance_ ? n.op->relevance : n.op->vjp) || n.op->body || over;
      if (!has) {
        ++found.refused;
        auto& ops = found.missing_ops;
        if (std::find(ops.begin(), ops.end(), n.op->name) != ops.end()) continue;
        ops.push_back(n.op->name);
        found.missing.push_back(where);
        continue;
      }
      bool names = relevance_ && pass_.rules->names_variants();
      std::string bad = names ? misfit(n) : "";
      if (!bad.empty()) bad = where + ": " + bad;
      if (!bad.empty() && std::find(found.variants.begin(), found.variants.end(), bad) == found.variants.end())
        found.variants.push_back(bad);
      bool fast = relevance_ ? n.op->fast_relevance && !names : bool(n.op->vjp);
      if (bad.empty() && !over && g_.attrs(n).has("body"))
        look_into_loop(n, results, within.empty() ? " in the body of " + where : within, found);
      if (bad.empty() && n.op->body && !over && !fast)
        look_into_body(n, results, within.empty() ? " in the body of " + where : within, found);
    }
  }

  // The rules that match the ops of a fused node's body, which is recorded on a graph of its own.
  void look_into_body(const Node& n, std::span<const char> live, const std::string& within, Defects& found) const {
    Graph body;
    ScopeGuard scope(body, g_.scope_name(n));
    std::vector<Var> in, carriers;
    for (ValueId v : g_.inputs(n)) {
      bool carries = (relevance_ ? carry_ : needs_)[v] && !sink(*n.op, int(in.size()));
      in.push_back(body.input(std::to_string(in.size()), g_.type(v).shape, g_.type(v).dtype, {.carries = carries}));
      if (carries) carriers.push_back(in.back());
    }
    std::vector<Var> out = n.op->body(in, g_.attrs(n)), roots;
    for (size_t k = 0; k < out.size(); ++k)
      if (live[k]) roots.push_back(out[k]);
    Sweeper(body, carriers, pass_).look_for_defects(roots, within, found);
  }

  // The same for a body that runs once per step: operands are its inputs, and what a step leaves begins the next one.
  void look_into_loop(const Node& n, std::span<const char> live, const std::string& within, Defects& found) const {
    const Body& body = *g_.attrs(n).body("body");
    std::vector<char> mask;
    for (ValueId v : g_.inputs(n)) mask.push_back((relevance_ ? carry_ : needs_)[v]);
    for (const Var& v : body.carries()) mask[size_t(&v - body.carries().data())] |= char(is_float(v.dtype()));
    std::vector<Var> carriers, roots;
    for (size_t i = 0; i < mask.size(); ++i)
      if (mask[i]) carriers.push_back(body.inputs()[i]);
    for (size_t k = 0; k < body.results().size(); ++k)
      if (live[k]) roots.push_back(body.results()[k]);
    if (carriers.empty() || roots.empty()) return;
    Sweeper(body.graph(), carriers, pass_).look_for_defects(roots, within, found);
  }

  // What is wrong with the variant that the rule for this node asks for; empty when nothing is.
  std::string misfit(const Node& n) const {
    const std::string& v = pass_.rules->match(n.op->name, g_.scope_name(n)).variant;
    const std::vector<std::string>& has = n.op->variants;
    auto knows = [&](std::string_view name) { return std::find(has.begin(), has.end(), name) != has.end(); };
    if (v.empty() || v == "detach" || knows(v) || (v == "recurrent" && knows("second"))) return "";
    if (v != "identity") {
      std::string known;
      for (const std::string& name : has) known += name + ", ";
      return "[" + n.op->name + "] has no relevance variant '" + v + "', it knows " + known + "identity, detach";
    }
    auto in = g_.inputs(n);
    for (size_t i = 0; i < in.size(); ++i)
      if (carry_[in[i]] && !sink(*n.op, int(i))) {
        const Shape &x = g_.type(in[i]).shape, &y = g_.type(n.out_begin).shape;
        return broadcastable_to(x, y) ? ""
                                      : "variant identity passes " + y.str() + " to " + n.op->operand_name(int(i)) +
                                            " " + x.str() + ", which is of another shape";
      }
    return "";
  }

  bool blocks(const OpDef& op) const {
    return op.traits.nondifferentiable || (relevance_ ? op.traits.blocks_relevance : op.traits.blocks_gradient);
  }

  bool wanted(const Node& n) const {
    for (uint32_t k = 0; k < n.out_count; ++k)
      if (needs_[n.out_begin + k] && any_input(g_, n, needs_)) return !blocks(*n.op);
    return false;
  }

  bool overridden(const Node& n) const {
    const std::string& v = pass_.rules->match(n.op->name, g_.scope_name(n)).variant;
    return v == "identity" || v == "detach";
  }

  // Under the rule "detach" a result is a constant, as under stop_relevance. Asked of every node, so the entries that
  // decide somewhere are noted here.
  bool detached(const Node& n) {
    if (!relevance_ || n.op->traits.leaf || !pass_.rules->has_overrides()) return false;
    size_t entry = pass_.rules->find(n.op->name, g_.scope_name(n));
    if (entry < decided_.size() && any_input(g_, n, carry_)) decided_[entry] = 1;
    return pass_.rules->rule(entry).variant == "detach";
  }

  void extend_masks(NodeId begin, NodeId end) {
    needs_.resize(g_.value_count());
    carry_.resize(g_.value_count());
    for (NodeId i = begin; i < end; ++i) {
      const Node& n = g_.node(i);
      bool passes = !blocks(*n.op) && !detached(n);
      bool need = passes && any_input(g_, n, needs_);
      bool carry = relevance_ && (starts_relevance(g_, n) || (passes && any_input(g_, n, carry_)));
      if (pass_.observe) need = need || carry;  // a ledger follows every carrier, also to inputs nobody asked for
      for (uint32_t k = 0; k < n.out_count; ++k) {
        ValueId v = n.out_begin + k;
        bool can = is_float(g_.type(v).dtype) || (relevance_ && carry);  // token ids carry relevance, not gradient
        needs_[v] |= char(need && can);
        carry_[v] |= char(carry);
      }
    }
  }

  void accumulate(ValueId v, Var r) {
    if (v >= cot_.size()) cot_.resize(g_.value_count(), kNone);
    Var have = arrived(v);
    cot_[v] = have.defined() ? call("add", {have, r}).id() : r.id();
  }

  void visit(NodeId id) {
    Node n = g_.node(id);
    if (n.op->traits.leaf || !wanted(n)) return;
    SweepCtx c(g_, id, pass_.kind);
    bool any = false;
    for (uint32_t k = 0; k < n.out_count; ++k) {
      c.d_[k] = arrived(n.out_begin + k);
      any |= c.has(int(k));
    }
    if (!any) return;
    c.pass_ = &pass_;
    c.targets_ = pass_.targets;
    for (int i = 0; i < c.n_in(); ++i) {
      c.needs_[size_t(i)] = needs_[c.in_id(i)] && !sink(*n.op, i);
      c.carries_[size_t(i)] = carry_[c.in_id(i)] && !sink(*n.op, i);
    }
    OriginGuard origin(g_, id, uint8_t(pass_.kind));
    if (relevance_) c.rule_ = &rule_for(id);
    SweepFn rule = choose(c);
    if (!rule) through_body(c);
    else if (pass_.targets && !n.op->traits.batched_sweep && rule != &lrp::identity && rule != &to_first)
      per_target(c, rule);
    else rule(c);
    if (pass_.observe) pass_.observe(c);
    for (int i = 0; i < c.n_in(); ++i)
      if (c.given(i).defined()) accumulate(c.in_id(i), c.given(i));
  }

  // "recurrent" stands for "first" or "second" in a recurrence of the graph that was recorded, else for the default.
  const lrp::Rule& rule_for(NodeId id) {
    const lrp::Rule& rule = pass_.rules->match(g_.node(id).op->name, g_.scope_name(g_.node(id)));
    if (rule.variant != "recurrent") return rule;
    if (!recurrences_) recurrences_.emplace(g_, recorded_, carry_, pass_.carried);
    int factor = recurrences_->data_factor(id);
    auto [it, fresh] = recurrent_.try_emplace({&rule, factor}, rule);
    if (fresh) it->second.variant = std::array{"", "first", "second"}[size_t(factor + 1)];
    return it->second;
  }

  // nullptr: sweep through the body.
  SweepFn choose(const SweepCtx& c) {
    const OpDef& op = c.op;
    if (!relevance_) return op.vjp && !(pass_.inline_fused && op.body) ? op.vjp : nullptr;
    if (c.rule().variant == "identity") return &to_first;
    if (c.rule().variant == "detach") return &nothing;
    if (op.relevance) return op.relevance;
    // A fast path speaks for result 0; relevance at saved statistics goes through the body.
    bool others = false;
    for (int k = 1; k < c.n_out(); ++k) others |= c.has(k);
    if (op.fast_relevance && !pass_.inline_fused && !others && plain(c)) return op.fast_relevance;
    if (!op.body) throw MissingRule("no relevance rule for " + g_.describe(c.node_id) + "\n  hint: " + hint(op.name));
    return nullptr;
  }

  // A fused fast path speaks only for the default rules: no op of its body may be overridden. A rule set for the fused
  // op by its name governs the fast path as a whole.
  bool plain(const SweepCtx& c) {
    if (!pass_.rules->has_overrides()) return true;
    const std::string& scope = g_.scope_name(g_.node(c.node_id));
    Graph scratch;
    std::vector<Var> in;
    for (int i = 0; i < c.n_in(); ++i)
      in.push_back(scratch.input(std::to_string(i), g_.type(c.in_id(i)).shape, g_.type(c.in_id(i)).dtype));
    std::set<std::string> names;  // they depend on attributes and on operands that are left out
    collect(c.op, in, c.attrs, names);
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      return pass_.rules->plain(name, scope) || pass_.rules->match(name, scope).variant == "recurrent";
    });
  }
  static void collect(const OpDef& op, std::span<const Var> in, const Attrs& attrs, std::set<std::string>& names) {
    Graph& g = in[0].graph();
    NodeId begin = NodeId(g.node_count());
    op.body(in, attrs);
    NodeId end = NodeId(g.node_count());
    for (NodeId i = begin; i < end; ++i) {
      Node n = g.node(i);
      names.insert(n.op->name);
      if (!n.op->body) continue;
      std::vector<Var> inner;
      for (ValueId v : g.inputs(n)) inner.push_back(g.var(v));
      collect(*n.op, inner, Attrs(g.attrs(n)), names);
    }
  }

  static void to_first(SweepCtx& c) {
    for (int i = 0; i < c.n_in(); ++i)
      if (c.carries(i)) return c.give(i, c.reduce_to(c.d(), i));
  }
  static void nothing(SweepCtx&) {}

  void through_body(SweepCtx& c) {
    NodeId begin = NodeId(g_.node_count());  // the casts of halves are swept with the body
    std::vector<Var> outs = c.op.body(c.all_in(), c.attrs);
    NodeId end = NodeId(g_.node_count());
    extend_masks(begin, end);
    c.rule_ = nullptr;
    for (int k = 0; k < c.n_out(); ++k) {
      if (!c.has(k)) continue;
      Var inner = outs[size_t(k)];
      auto operand = std::ranges::find_if(c.in_, [&](const Var& v) { return v.same(inner); });
      if (carry_[c.out_id(k)] && !carry_[inner.id()]) c.absorb("detached", c.d(k));  // the body cuts it off
      if (operand != c.in_.end()) {
        c.give(int(operand - c.in_.begin()), c.d(k));
      } else {
        accumulate(inner.id(), c.d(k));
        if (!relevance_ || carry_[inner.id()]) c.d_[size_t(k)] = Var();  // the body's nodes tell the observer
      }
    }
    reverse(begin, end);
  }

  // Ops whose rules know nothing of a target axis run once per target; results are stacked again.
  void per_target(SweepCtx& c, SweepFn rule) {
    std::vector<std::vector<Var>> parts(size_t(c.n_in()));
    for (int64_t t = 0; t < pass_.targets; ++t) {
      SweepCtx one = c;
      one.targets_ = 0;
      for (int k = 0; k < c.n_out(); ++k) {
        if (!c.has(k)) continue;
        Var row = call("slice", {c.d_[size_t(k)]},
                       {{"axis", int64_t(0)}, {"begin", t}, {"end", t + 1}, {"step", int64_t(1)}});
        one.d_[size_t(k)] = call("reshape", {row}, {{"shape", g_.type(c.out_id(k)).shape}});
      }
      rule(one);
      for (int i = 0; i < c.n_in(); ++i)
        if (Var r = one.given(i); r.defined()) {
          Shape row = r.shape();
          row.insert(0, 1);
          parts[size_t(i)].push_back(call("reshape", {r}, {{"shape", row}}));
        }
    }
    for (int i = 0; i < c.n_in(); ++i)
      if (!parts[size_t(i)].empty()) c.give(i, g_.record(op_named("concat"), parts[size_t(i)], {{"axis", int64_t(0)}}));
  }

  Graph& g_;
  Pass pass_;
  bool relevance_;
  std::span<const Var> wrt_;
  const NodeId recorded_;  // before the sweep
  std::vector<char> needs_, carry_;
  std::vector<char> decided_;  // by entry of the rule set
  std::vector<ValueId> cot_;   // what has arrived at each value so far
  std::optional<Recurrences> recurrences_;
  std::map<std::pair<const lrp::Rule*, int>, lrp::Rule> recurrent_;
};

namespace {

// Roots, seeds and wrt are values of one graph, and seeds fit their roots.
void check_operands(std::span<const Var> roots, std::span<const Var> seeds, std::span<const Var> wrt, const Pass& pass,
                    std::source_location where) {
  const std::string at = "\n  asked for" + at_line(where);
  if (roots.empty()) throw ValueError("a sweep needs at least one root" + at);
  if (seeds.size() != roots.size()) throw ValueError("a sweep needs one seed per root" + at);
  auto check = [&](const Var& v, const char* what) {
    if (!v.defined()) throw ValueError(std::string(what) + " is undefined" + at);
    if (&v.graph() != &roots[0].graph()) throw ValueError(std::string(what) + " is no value of the root's graph" + at);
  };
  for (const Var& r : roots) check(r, "a root");
  for (const Var& w : wrt) check(w, "a wrt");
  for (size_t i = 0; i < roots.size(); ++i) {
    const Var &seed = seeds[i], &root = roots[i];
    check(seed, "the seed");
    Shape want = root.shape();
    if (pass.targets) want.insert(0, pass.targets);
    if (!(seed.shape() == want))
      throw ShapeError("the seed has shape " + seed.shape().str() + ", the root needs " + want.str() + at);
    if (seed.dtype() != root.dtype() && seed.dtype() != accumulate_dtype(root.dtype()))
      throw DTypeError("the seed is " + std::string(name_of(seed.dtype())) + ", the root " +
                       std::string(name_of(root.dtype())) + at + "\n  hint: cast the seed");
  }
}

}  // namespace

std::vector<Var> sweep(std::span<const Var> roots, std::span<const Var> seeds, std::span<const Var> wrt,
                       const Pass& pass, std::source_location where) {
  check_operands(roots, seeds, wrt, pass, where);
  return or_out_of_memory("a sweep", [&] {
    Graph& g = roots[0].graph();
    LocationGuard at(g, where);
    NodeId end = NodeId(g.node_count());
    Sweeper s(g, wrt, pass);
    s.check_rules(roots);
    for (size_t i = 0; i < roots.size(); ++i) s.seed(roots[i].id(), seeds[i]);
    s.reverse(0, end);
    std::vector<Var> out;
    for (const Var& w : wrt) out.push_back(s.result(w));
    if (pass.unmatched) *pass.unmatched = s.unmatched();
    return out;
  });
}

std::vector<Var> sweep_body(std::span<const Var> roots, std::span<const Var> seeds, std::span<const Var> wrt,
                            const Pass& pass) {
  if (wrt.empty()) return {};
  Graph& g = wrt[0].graph();
  NodeId end = NodeId(g.node_count());
  Sweeper s(g, wrt, pass);
  for (size_t i = 0; i < roots.size(); ++i) s.seed(roots[i].id(), seeds[i]);
  s.reverse(0, end);
  s.tell(pass.decided);
  std::vector<Var> out;
  for (const Var& w : wrt) out.push_back(s.arrived(w.id()));
  return out;
}

std::vector<char> carried_from(std::span<const Var> wrt, const Pass& pass) {
  return Sweeper(wrt[0].graph(), wrt, pass).carry();
}

// ---- the two passes -------------------------------------------------------------------------------------------

std::vector<Var> grad(Var loss, std::span<const Var> wrt, Var seed, std::source_location where) {
  if (!loss.defined()) throw ValueError("the loss is undefined\n  asked for" + at_line(where));
  if (!seed.defined()) {
    if (loss.numel() != 1)
      throw ShapeError("grad needs a scalar, got " + loss.shape().str() +
                       "; reduce it, or give a seed of that shape\n  asked for" + at_line(where));
    seed = call("broadcast_to", {loss.graph().constant(1.0, loss.dtype())}, {{"shape", loss.shape()}});
  }
  return sweep({&loss, 1}, {&seed, 1}, wrt, {.kind = PassKind::gradient}, where);
}

Var grad(Var loss, Var wrt, Var seed, std::source_location where) {
  return grad(loss, std::span<const Var>(&wrt, 1), seed, where)[0];
}

std::vector<Var> relevance(Var y, std::span<const Var> wrt, const lrp::RuleSet& rules, Var seed,
                           const RelevanceOptions& o, std::source_location where) {
  if (!seed.defined()) {
    seed = y;
    if (o.targets)
      throw ValueError("several targets need a seed with a leading target axis\n  asked for" + at_line(where));
  }
  return sweep({&y, 1}, {&seed, 1}, wrt,
               {.kind = PassKind::relevance,
                .rules = &rules,
                .targets = o.targets,
                .inline_fused = o.inline_fused,
                .observe = o.observe,
                .unmatched = o.unmatched},
               where);
}

Var relevance(Var y, Var wrt, const lrp::RuleSet& rules, Var seed, const RelevanceOptions& o,
              std::source_location where) {
  return relevance(y, std::span<const Var>(&wrt, 1), rules, seed, o, where)[0];
}

}  // namespace whence
