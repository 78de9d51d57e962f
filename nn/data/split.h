// Training and test sets that do not leak into each other. Every split depends on its arguments and the seed
// only.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace whence {

/// Indices, ascending.
struct Split {
  std::vector<int64_t> train, test;
};

/// One number per value, equal for equal values, in order of first occurrence from 0: names to labels,
/// sequences to groups.
std::vector<int64_t> number_values(std::span<const std::string> values);
/// The distinct values in the same order, so that distinct_values(v)[number_values(v)[i]] == v[i].
std::vector<std::string> distinct_values(std::span<const std::string> values);

struct SplitOptions {
  double test_fraction = 0.2;  ///< of the samples
  uint64_t seed = 0;
};

/// Splits so that samples of one group (exact duplicates, for example: number_values(sequences)) stay
/// together. Groups are taken in a random order until the test set holds the fraction, as near as whole
/// groups allow. \throws ValueError for a fraction outside [0, 1].
Split split_groups(std::span<const int64_t> groups, SplitOptions options = {});

/// The same within each label, so that every label has its fraction in the test set, as near as whole groups
/// allow. A label with a single group stays in training. A group whose samples have several labels counts for
/// its first sample's. \throws ValueError when labels and groups differ in length.
Split split_stratified(std::span<const int64_t> labels, std::span<const int64_t> groups, SplitOptions options = {});

/// All samples of a random choice of whole families (or genera, ...) become the test set: `fraction` of the
/// distinct values of `family`, at least one. For probes on what training never saw.
Split hold_out_random(std::span<const int64_t> family, SplitOptions options = {});
/// The same for given values.
Split hold_out(std::span<const int64_t> family, std::span<const int64_t> held);

}  // namespace whence
