// The sequences of the barcode example and what is known of each.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "whence/nn/data/split.h"
#include "whence/nn/data/tokenizer.h"

namespace barcode {

/// Which file, and which part of each sequence.
struct DataOptions {
  std::string path;
  std::string sequence_column;  ///< tables: empty looks for nucleotides, sequence, seq or dna
  std::string primer;           ///< sequences start after its best match, as after PCR; IUPAC letters; empty: no primer
  int64_t begin = 0;            ///< letters before it are cut off
  int64_t length = 660;         ///< at most so many letters after it
  int64_t min_length = 200;     ///< shorter sequences (after cutting) are left out
  bool validation = false;      ///< for choosing options: the test side is left out, a part of the training side tests
};

struct Barcodes {
  std::vector<std::string> id, sequence;
  /// Labels by column: the columns of a table; for FASTA the six ranks and the species of a lineage in the header, or
  /// the fields of the header split at '|' as field1, field2, ...
  std::map<std::string, std::vector<std::string>> columns;
  int64_t size() const { return int64_t(sequence.size()); }
  /// \throws ValueError listing the columns there are.
  const std::vector<std::string>& column(const std::string& name) const;
};

/// FASTA (.fa .fasta .fna, also .gz) or a table. \throws IoError naming the file.
Barcodes load(const DataOptions& options);

/// The samples of `b` that have a label, as class numbers.
struct Labelled {
  std::vector<int64_t> sample;     ///< index into Barcodes
  std::vector<int64_t> label;      ///< class of each
  std::vector<std::string> names;  ///< of the classes
};
/// Classes with fewer than `min_count` distinct sequences are left out.
Labelled with_label(const Barcodes& b, const std::string& column, int64_t min_count = 1);

/// Training and test samples (indices into `l.sample`): no exact duplicate on both sides, stratified by class. With
/// `validation` the training side is split once more in the same way, and the test side is in neither.
whence::Split split(const Barcodes& b, const Labelled& l, double test_fraction, uint64_t seed, bool validation);

}  // namespace barcode
