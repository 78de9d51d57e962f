// The baseline of barcode work: k-mer counts and the nearest neighbour by cosine.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {

/// Counts of all overlapping k-mers over ACGT (k 1 to 8), scaled to length one: f32 [n, 4^k], words in
/// dictionary order. k-mers with any other letter are left out; a sequence without one counted k-mer is a row
/// of zeros. \throws ValueError for k outside 1..8.
Tensor kmer_profiles(std::span<const std::string> sequences, int k);
/// The square roots of the words' frequencies, which have length one too: their dot product is the Bhattacharyya
/// coefficient of two sequences, and a word that repeats does not drown the others. Otherwise as kmer_profiles.
Tensor kmer_spectra(std::span<const std::string> sequences, int k);
/// Spreads one score per word (relevance, for example) over the letters of a sequence: evenly over the places where the
/// word stands, and there over its k letters. The sum is kept but for words that do not occur. per_word: 4^k values.
/// Returns sequence.size() values. \throws ValueError for k outside 1..8, ShapeError for another number of values.
std::vector<double> spread_words(std::string_view sequence, std::span<const float> per_word, int k);

struct Neighbour {
  int64_t index = -1;  ///< row of the references; -1 where every reference is excluded, or no product is a number
  float similarity = 0;
};

/// For each row of `queries` [n, d] f32 the row of `references` [m, d] f32 with the largest dot product (the
/// cosine, for rows of length one); the lowest index among equals, and never one whose product is NaN. Where both group
/// lists are given, references of the query's own group are left out: group by sample for leave-one-out, by species or
/// genus for what training never saw. Groups below zero exclude nothing. \throws ShapeError, DTypeError, or ValueError
/// when a group list has the wrong length.
std::vector<Neighbour> nearest_neighbours(const Tensor& queries, const Tensor& references,
                                          std::span<const int64_t> query_groups = {},
                                          std::span<const int64_t> reference_groups = {});
/// Each row against all others; with groups (one per row), against all rows of other groups.
std::vector<Neighbour> nearest_other(const Tensor& rows, std::span<const int64_t> groups = {});

struct Accuracy {
  int64_t right = 0, counted = 0;
  double fraction() const { return counted ? double(right) / double(counted) : 0; }
};
/// How often the neighbour has the query's label. Queries whose label occurs nowhere among the references
/// they may use cannot be right and are not counted; neither are negative labels. \throws ValueError for lists of
/// different length, or a neighbour beyond the references
Accuracy neighbour_accuracy(std::span<const Neighbour> neighbours, std::span<const int64_t> query_labels,
                            std::span<const int64_t> reference_labels, std::span<const int64_t> query_groups = {},
                            std::span<const int64_t> reference_groups = {});

}  // namespace whence
