#include "whence/nn/data/split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "whence/nn/data/random_stream.h"
#include "whence/tensor/error.h"

namespace whence {
namespace {

void check(const SplitOptions& o) {
  if (!(o.test_fraction >= 0 && o.test_fraction <= 1))
    throw ValueError("the test fraction must lie in [0, 1], got " + std::to_string(o.test_fraction));
}

Split by_test(size_t n, const std::vector<bool>& test) {
  Split s;
  for (size_t i = 0; i < n; ++i) (test[i] ? s.test : s.train).push_back(int64_t(i));
  return s;
}

// Marks whole groups until `want` samples are marked; a group that would overshoot by more than it helps is
// passed over.
void mark_groups(const std::vector<std::vector<int64_t>>& groups, double want, RandomStream random,
                 std::vector<bool>& test) {
  std::vector<size_t> order(groups.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  random.shuffle(std::span(order));
  double have = 0;
  for (size_t g : order) {
    double with = have + double(groups[g].size());
    if (std::fabs(with - want) >= std::fabs(have - want)) continue;
    for (int64_t i : groups[g]) test[size_t(i)] = true;
    have = with;
  }
}

// Members by group, groups in order of first occurrence.
template <class Keep> std::vector<std::vector<int64_t>> members(std::span<const int64_t> groups, Keep&& keep) {
  std::unordered_map<int64_t, size_t> at;
  std::vector<std::vector<int64_t>> out;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!keep(i)) continue;
    auto [it, fresh] = at.emplace(groups[i], out.size());
    if (fresh) out.emplace_back();
    out[it->second].push_back(int64_t(i));
  }
  return out;
}

}  // namespace

std::vector<int64_t> number_values(std::span<const std::string> values) {
  std::unordered_map<std::string, int64_t> seen;
  std::vector<int64_t> out;
  out.reserve(values.size());
  for (const auto& v : values) out.push_back(seen.emplace(v, int64_t(seen.size())).first->second);
  return out;
}

std::vector<std::string> distinct_values(std::span<const std::string> values) {
  std::set<std::string> seen;
  std::vector<std::string> out;
  for (const auto& v : values)
    if (seen.insert(v).second) out.push_back(v);
  return out;
}

Split split_groups(std::span<const int64_t> groups, SplitOptions options) {
  check(options);
  std::vector<bool> test(groups.size());
  mark_groups(members(groups, [](size_t) { return true; }), options.test_fraction * double(groups.size()),
              RandomStream(options.seed, 1), test);
  return by_test(groups.size(), test);
}

Split split_stratified(std::span<const int64_t> labels, std::span<const int64_t> groups, SplitOptions options) {
  check(options);
  if (labels.size() != groups.size())
    throw ValueError("split_stratified: " + std::to_string(labels.size()) + " labels for " +
                     std::to_string(groups.size()) + " groups");
  std::map<int64_t, std::vector<std::vector<int64_t>>> by_label;
  for (auto& g : members(groups, [](size_t) { return true; })) by_label[labels[size_t(g[0])]].push_back(std::move(g));
  std::vector<bool> test(labels.size());
  for (const auto& [label, own] : by_label) {
    double n = 0;
    for (const auto& g : own) n += double(g.size());
    if (own.size() > 1) mark_groups(own, options.test_fraction * n, RandomStream(options.seed, 2, label), test);
  }
  return by_test(labels.size(), test);
}

Split hold_out(std::span<const int64_t> family, std::span<const int64_t> held) {
  std::set<int64_t> out(held.begin(), held.end());
  std::vector<bool> test(family.size());
  for (size_t i = 0; i < family.size(); ++i) test[i] = out.count(family[i]) != 0;
  return by_test(family.size(), test);
}

Split hold_out_random(std::span<const int64_t> family, SplitOptions options) {
  check(options);
  std::set<int64_t> distinct(family.begin(), family.end());
  std::vector<int64_t> order(distinct.begin(), distinct.end());
  RandomStream(options.seed, 3).shuffle(std::span(order));
  if (!order.empty())
    order.resize(std::max<size_t>(1, size_t(std::llround(options.test_fraction * double(order.size())))));
  return hold_out(family, order);
}

}  // namespace whence
