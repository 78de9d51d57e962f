#include "whence/nn/data/kmer_knn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "whence/tensor/parallel.h"

namespace whence {
namespace {

constexpr int64_t kPanel =
    64;  // references side by side in the inner loop, so that it runs over columns, not over a sum
constexpr int64_t kDepth = 256;  // features per pass: a packed panel of 64 KiB stays in the second-level cache
constexpr int64_t kRows = 4;

void check_rows(const Tensor& t, const char* what) {
  if (t.dtype() != f32)
    throw DTypeError(std::string("nearest_neighbours: ") + what + " must be f32, got " +
                     std::string(name_of(t.dtype())));
  if (t.rank() != 2)
    throw ShapeError(std::string("nearest_neighbours: ") + what + " must be [rows, features], got " + t.shape().str());
}

// scores[r][c] += q[r][k] * panel[k][c], for kRows rows.
void block(const float* q, int64_t stride, int64_t depth, const float* panel, float (*scores)[kPanel]) {
  float acc[kRows][kPanel];
  std::memcpy(acc, scores, sizeof acc);
  for (int64_t k = 0; k < depth; ++k) {
    const float* row = panel + k * kPanel;
    for (int64_t r = 0; r < kRows; ++r) {
      float x = q[r * stride + k];
      for (int64_t c = 0; c < kPanel; ++c) acc[r][c] += x * row[c];
    }
  }
  std::memcpy(scores, acc, sizeof acc);
}

void check_k(const char* what, int k) {
  if (k < 1 || k > 8) throw ValueError(std::string(what) + ": k must lie in 1..8, got " + std::to_string(k));
}

// Calls f(word, place of its first letter) for every word over ACGT, overlapping ones included.
template <class F> void each_word(std::string_view sequence, int k, F&& f) {
  int64_t word = 0, length = 0, mask = (int64_t(1) << 2 * k) - 1;
  for (size_t i = 0; i < sequence.size(); ++i) {
    const char c = sequence[i];
    const int64_t b = c == 'A' ? 0 : c == 'C' ? 1 : c == 'G' ? 2 : c == 'T' ? 3 : -1;
    length = b < 0 ? 0 : length + 1;
    word = ((word << 2) | (b & 3)) & mask;
    if (length >= k) f(word, int64_t(i) + 1 - k);
  }
}

// Counts of all words, each put through `value`, rows scaled to length one.
template <class F> Tensor word_rows(std::span<const std::string> sequences, int k, F&& value) {
  const int64_t n = int64_t(sequences.size()), words = int64_t(1) << 2 * k;
  Tensor out = Tensor::zeros({n, words});
  cpu::parallel_chunks(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = out.data<float>() + i * words;
      each_word(sequences[size_t(i)], k, [&](int64_t word, int64_t) { row[word] += 1; });
      double square = 0;
      for (int64_t w = 0; w < words; ++w) row[w] = value(row[w]), square += double(row[w]) * double(row[w]);
      if (square == 0) continue;
      float scale = float(1 / std::sqrt(square));
      for (int64_t w = 0; w < words; ++w) row[w] *= scale;
    }
  });
  return out;
}

}  // namespace

Tensor kmer_profiles(std::span<const std::string> sequences, int k) {
  check_k("kmer_profiles", k);
  return word_rows(sequences, k, [](float count) { return count; });
}

Tensor kmer_spectra(std::span<const std::string> sequences, int k) {
  check_k("kmer_spectra", k);
  return word_rows(sequences, k, [](float count) { return std::sqrt(count); });
}

std::vector<double> spread_words(std::string_view sequence, std::span<const float> per_word, int k) {
  check_k("spread_words", k);
  if (int64_t(per_word.size()) != int64_t(1) << 2 * k)
    throw ShapeError("spread_words: " + std::to_string(per_word.size()) + " scores for words of " + std::to_string(k) +
                     " letters");
  std::vector<int64_t> count(per_word.size());
  each_word(sequence, k, [&](int64_t word, int64_t) { ++count[size_t(word)]; });
  std::vector<double> out(sequence.size());
  each_word(sequence, k, [&](int64_t word, int64_t at) {
    const double share = double(per_word[size_t(word)]) / double(k * count[size_t(word)]);
    for (int64_t i = at; i < at + k; ++i) out[size_t(i)] += share;
  });
  return out;
}

std::vector<Neighbour> nearest_neighbours(const Tensor& queries, const Tensor& references,
                                          std::span<const int64_t> query_groups,
                                          std::span<const int64_t> reference_groups) {
  check_rows(queries, "queries");
  check_rows(references, "references");
  if (queries.size(1) != references.size(1))
    throw ShapeError("nearest_neighbours: queries " + queries.shape().str() + " and references " +
                     references.shape().str() + " differ in features");
  int64_t n = queries.size(0), m = references.size(0), d = queries.size(1);
  bool grouped = !query_groups.empty() || !reference_groups.empty();
  if (grouped && (int64_t(query_groups.size()) != n || int64_t(reference_groups.size()) != m))
    throw ValueError("nearest_neighbours: " + std::to_string(query_groups.size()) + " and " +
                     std::to_string(reference_groups.size()) + " groups for " + std::to_string(n) + " queries and " +
                     std::to_string(m) + " references");
  Tensor q = queries.contiguous_tensor(), r = references.contiguous_tensor();
  std::vector<Neighbour> best(size_t(n), Neighbour{-1, 0});

  // References transposed into panels [feature][kPanel], zero beyond the last; shared by all threads.
  int64_t panels = (m + kPanel - 1) / kPanel;
  Tensor packed = Tensor::zeros({panels, d, kPanel});
  const float* rp = r.data<float>();
  float* pp = packed.data<float>();
  cpu::parallel_chunks(panels, 1, [&](int64_t p, int64_t) {
    for (int64_t c = 0; c < std::min(kPanel, m - p * kPanel); ++c)
      for (int64_t k = 0; k < d; ++k) pp[(p * d + k) * kPanel + c] = rp[(p * kPanel + c) * d + k];
  });

  constexpr int64_t kStripe = 32;  // queries that share a panel while it is in the cache
  const float* qp = q.data<float>();
  cpu::parallel_chunks(n, kStripe, [&](int64_t s, int64_t stop) {
    int64_t rows = stop - s;
    float edge[kRows * kDepth] = {};  // the last rows, padded to a full block
    float scores[kStripe * kPanel];
    for (int64_t p = 0; p < panels; ++p) {
      std::memset(scores, 0, sizeof scores);
      for (int64_t k = 0; k < d; k += kDepth) {
        int64_t depth = std::min(kDepth, d - k);
        for (int64_t i = 0; i < rows; i += kRows) {
          const float* from = qp + (s + i) * d + k;
          if (i + kRows > rows) {
            for (int64_t e = 0; e < rows - i; ++e)
              std::memcpy(edge + e * depth, from + e * d, size_t(depth) * sizeof(float));
            block(edge, depth, depth, pp + (p * d + k) * kPanel,
                  reinterpret_cast<float(*)[kPanel]>(scores + i * kPanel));
          } else {
            block(from, d, depth, pp + (p * d + k) * kPanel, reinterpret_cast<float(*)[kPanel]>(scores + i * kPanel));
          }
        }
      }
      for (int64_t i = 0; i < rows; ++i) {
        Neighbour& b = best[size_t(s + i)];
        int64_t own = grouped ? query_groups[size_t(s + i)] : -1;
        for (int64_t c = 0; c < std::min(kPanel, m - p * kPanel); ++c) {
          int64_t at = p * kPanel + c;
          if (own >= 0 && reference_groups[size_t(at)] == own) continue;
          float x = scores[i * kPanel + c];
          if (x > b.similarity || (b.index < 0 && !std::isnan(x))) b = {at, x};
        }
      }
    }
  });
  return best;
}

std::vector<Neighbour> nearest_other(const Tensor& rows, std::span<const int64_t> groups) {
  std::vector<int64_t> own;
  if (groups.empty() && rows.rank() == 2) {
    for (int64_t i = 0; i < rows.size(0); ++i) own.push_back(i);
    groups = own;
  }
  return nearest_neighbours(rows, rows, groups, groups);
}

Accuracy neighbour_accuracy(std::span<const Neighbour> neighbours, std::span<const int64_t> query_labels,
                            std::span<const int64_t> reference_labels, std::span<const int64_t> query_groups,
                            std::span<const int64_t> reference_groups) {
  bool grouped = !query_groups.empty() || !reference_groups.empty();
  if (neighbours.size() != query_labels.size() ||
      (grouped && (query_groups.size() != query_labels.size() || reference_groups.size() != reference_labels.size())))
    throw ValueError("neighbour_accuracy: lists of different length");
  std::map<int64_t, int64_t> with_label;
  std::map<std::pair<int64_t, int64_t>, int64_t> with_label_in_group;
  for (size_t i = 0; i < reference_labels.size(); ++i) {
    ++with_label[reference_labels[i]];
    if (grouped) ++with_label_in_group[{reference_labels[i], reference_groups[i]}];
  }
  auto count = [](const auto& map, const auto& key) {
    auto it = map.find(key);
    return it == map.end() ? int64_t(0) : it->second;
  };
  Accuracy a;
  for (size_t i = 0; i < neighbours.size(); ++i) {
    int64_t label = query_labels[i];
    if (neighbours[i].index >= int64_t(reference_labels.size()))
      throw ValueError("neighbour_accuracy: neighbour " + std::to_string(neighbours[i].index) + " of " +
                       std::to_string(reference_labels.size()) + " references");
    if (label < 0) continue;
    int64_t usable = count(with_label, label);
    if (grouped && query_groups[i] >= 0) usable -= count(with_label_in_group, std::pair(label, query_groups[i]));
    if (usable <= 0) continue;
    ++a.counted;
    a.right += neighbours[i].index >= 0 && reference_labels[size_t(neighbours[i].index)] == label;
  }
  return a;
}

}  // namespace whence
