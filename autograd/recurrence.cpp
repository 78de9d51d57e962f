#include "whence/autograd/recurrence.h"

#include <algorithm>

namespace whence {

Recurrences::Recurrences(const Graph& g, NodeId end, const std::vector<char>& carries,
                         std::span<const std::pair<Var, Var>> carried)
    : g_(g),
      end_(end),
      carried_(carried),
      carries_(carries),
      state_(g.value_count()),
      summed_(size_t(Shape::kMaxRank) + 1) {
  find_states();
  if (std::none_of(state_.begin(), state_.end(), [](char s) { return s; })) return;
  find_readouts();
  for (auto [product, decay] : feeds_) choose(product, decay, true);
}

int Recurrences::data_factor(NodeId product) const {
  auto it = factor_.find(product);
  return it == factor_.end() ? -1 : it->second;
}

// ---- forms --------------------------------------------------------------------------------------------------------

static bool moves(const OpDef& op) { return (op.view || op.name == "cast") && !op.traits.blocks_relevance; }

// What v shows, through ops that move elements.
ValueId Recurrences::source(ValueId v) const {
  while (moves(*g_.producer(v).op)) v = g_.inputs(g_.producer(v))[0];
  return v;
}

Recurrences::Operands Recurrences::operands(ValueId v) const {
  auto in = g_.inputs(g_.producer(v));
  return {in[0], in[1]};
}

bool Recurrences::is_sum(ValueId v) const {
  const std::string& op = g_.producer(v).op->name;
  return op == "add" || op == "sub";
}

bool Recurrences::is_mul(ValueId v) const {
  const std::string& op = g_.producer(v).op->name;
  return op == "mul" || op == "matmul";
}

// Of two factors with data.
bool Recurrences::is_product(ValueId v) const {
  return is_mul(v) && carries_[operands(v)[0]] && carries_[operands(v)[1]];
}

// Has the form of a step: a sum with a product in it.
bool Recurrences::is_step(ValueId v) const {
  return is_sum(v) && carries_[v] && (is_mul(source(operands(v)[0])) || is_mul(source(operands(v)[1])));
}

bool Recurrences::alike(ValueId v, ValueId w) const {
  std::vector<ValueId> of_v, of_w;
  leaves(v, of_v);
  leaves(w, of_w);
  return of_v.size() > 1 && of_v.size() == of_w.size();
}

// What the last step of a scan left, when that has the form of a step.
bool Recurrences::is_carried(ValueId v) const {
  return std::any_of(carried_.begin(), carried_.end(),
                     [&](auto& c) { return c.first.id() == v && is_step(source(c.second.id())); });
}

// The factors of a product of products.
void Recurrences::leaves(ValueId v, std::vector<ValueId>& list) const {
  v = source(v);
  if (!is_product(v) || state_[v]) return list.push_back(v);
  for (ValueId f : operands(v)) leaves(f, list);
}

// ---- states -------------------------------------------------------------------------------------------------------

// A step is h' = a h + r where h is a step itself; or, where the first state is r alone, a product as r is.
void Recurrences::find_states() {
  struct Place {
    size_t term, factor;
    ValueId decay;
  };
  std::map<ValueId, Place> first;  // steps without a step before them, until one is found
  auto feed = [&](ValueId v, ValueId decay) {
    if (is_product(source(v))) feeds_.emplace_back(source(v), decay);
  };
  for (NodeId id = 0; id < end_; ++id) {
    const Node& n = g_.node(id);
    const ValueId sum = n.out_begin;
    if (n.op->name == "linear_scan") {
      auto [a, b] = operands(sum);
      state_[sum] = 1;
      feed(b, a);
    }
    if (n.out_count != 1 || !is_sum(sum)) continue;
    bool linked = false;
    for (size_t place = 0; place < 8 && !linked; ++place) {
      const bool start = place >= 4;
      const size_t term = place / 2 % 2, factor = place % 2;
      ValueId product = source(operands(sum)[term]), rest = operands(sum)[1 - term];
      if (!is_mul(product)) continue;
      ValueId before = source(operands(product)[factor]), decay = operands(product)[1 - factor];
      linked = start ? alike(before, rest) : is_step(before) || is_carried(before);
      if (!linked) continue;
      factor_[g_.producer_id(product)] = int(factor);
      feed(rest, decay);
      if (start) feed(before, decay);
      else if (!state_[before] && is_step(before)) first[before] = {term, factor, decay};
      state_[sum] = state_[before] = 1;
    }
  }
  // The first step starts from zeros, or from data that stand where the next step has its state.
  for (auto& [sum, at] : first) {
    ValueId product = source(operands(sum)[at.term]), other = source(operands(sum)[1 - at.term]);
    bool from_data = is_product(product) && is_product(other);
    if (from_data) factor_[g_.producer_id(product)] = int(at.factor);
    feed(from_data || is_product(other) ? other : product, from_data ? operands(product)[1 - at.factor] : at.decay);
  }
}

// c h: a product of a state, which may have been moved or stacked.
void Recurrences::find_readouts() {
  for (NodeId id = 0; id < end_; ++id) {
    const Node& n = g_.node(id);
    auto in = g_.inputs(n);
    const ValueId out = n.out_begin;
    if (moves(*n.op) || n.op->name == "concat")
      state_[out] |= std::any_of(in.begin(), in.end(), [&](ValueId v) { return bool(state_[v]); });
    if (n.op->name == "sum" && data_factor(g_.producer_id(in[0])) >= 0 && !state_[in[0]])
      for (int64_t a : g_.attrs(n).ints("axes")) {
        int rank = g_.type(in[0]).shape.rank();
        summed_[size_t(rank - normalize_axis(a, rank))] = 1;
      }
    if (n.out_count != 1 || !is_product(out) || factor_.count(id) || state_[in[0]] == state_[in[1]]) continue;
    factor_[id] = state_[in[1]];
    if (n.op->name == "matmul") summed_[state_[in[1]] ? 2 : 1] = 1;
  }
}

// ---- data ---------------------------------------------------------------------------------------------------------

bool Recurrences::descends(ValueId v, ValueId from) const {
  std::vector<char> seen(size_t(v) + 1);
  std::vector<ValueId> open{v};
  while (!open.empty()) {
    ValueId at = open.back();
    open.pop_back();
    if (at == from) return true;
    for (ValueId i : g_.inputs(g_.producer(at)))
      if (i >= from && !std::exchange(seen[i], 1)) open.push_back(i);
  }
  return false;
}

int Recurrences::summed_axes(const Shape& s) const {
  int n = 0;
  for (int a = 1; a <= s.rank(); ++a) n += summed_[size_t(a)] && s[-a] != 1;
  return n;
}

void Recurrences::choose(ValueId product, ValueId decay, bool state_shaped) {
  if (factor_.count(g_.producer_id(product))) return;
  Operands in = operands(product);
  std::array<std::vector<ValueId>, 2> of;
  for (size_t k : {0, 1}) leaves(in[k], of[k]);
  // The factors that all others are computed from, and that a is not.
  auto origin = [&](size_t k) {
    return std::any_of(of[k].begin(), of[k].end(), [&](ValueId v) {
      auto from_v = [&](ValueId other) { return descends(other, v); };
      return std::all_of(of[0].begin(), of[0].end(), from_v) && std::all_of(of[1].begin(), of[1].end(), from_v);
    });
  };
  auto apart = [&](size_t k) {
    return std::any_of(of[k].begin(), of[k].end(), [&](ValueId v) { return !descends(decay, v); });
  };
  int sums[2] = {0, 0};
  if (state_shaped)
    for (size_t k : {0, 1}) sums[k] = summed_axes(g_.type(in[k]).shape);
  size_t k = 1;
  if (origin(0) != origin(1)) k = origin(1);
  else if (sums[0] != sums[1]) k = sums[1] < sums[0];
  else if (apart(0) != apart(1)) k = apart(1);
  factor_[g_.producer_id(product)] = int(k);
  if (ValueId next = source(in[k]); is_product(next)) choose(next, decay, false);
}

}  // namespace whence
