#include "barcodes.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "whence/nn/data/csv.h"
#include "whence/nn/data/fasta.h"
#include "whence/nn/data/taxonomy.h"
#include "whence/tensor/error.h"

namespace barcode {

using namespace whence;

namespace {

bool is_table(std::string path) {
  if (path.ends_with(".gz")) path.resize(path.size() - 3);
  return path.ends_with(".csv") || path.ends_with(".tsv") || path.ends_with(".tab");
}

// The place after the best match of the primer; npos when more than a fifth of its letters are off.
size_t after_primer(const std::string& s, const std::string& primer) {
  static const std::map<char, std::string_view> iupac{{'R', "AG"},  {'Y', "CT"},  {'M', "AC"},  {'K', "GT"},
                                                      {'S', "CG"},  {'W', "AT"},  {'B', "CGT"}, {'D', "AGT"},
                                                      {'H', "ACT"}, {'V', "ACG"}, {'N', "ACGT"}};
  auto fits = [&](char letter, char code) {
    auto it = iupac.find(code);
    return it == iupac.end() ? letter == code : it->second.find(letter) != it->second.npos;
  };
  size_t found = s.npos, fewest = primer.size() / 5 + 1;
  for (size_t at = 0; at + primer.size() <= s.size(); ++at) {
    size_t off = 0;
    for (size_t i = 0; i < primer.size() && off < fewest; ++i) off += !fits(s[at + i], primer[i]);
    if (off < fewest) fewest = off, found = at + primer.size();
  }
  return found;
}

// Cuts to the wanted window; false when too little is left.
bool cut(std::string& s, const DataOptions& o) {
  for (char& c : s) c = char(std::toupper(static_cast<unsigned char>(c)));
  std::replace(s.begin(), s.end(), 'U', 'T');
  size_t start = o.primer.empty() ? 0 : after_primer(s, o.primer);
  if (start == s.npos || int64_t(s.size() - start) < o.begin + o.min_length) return false;
  s = s.substr(start + size_t(o.begin), size_t(o.length));
  return true;
}

void add_header_columns(Barcodes& b, const FastaRecord& r) {
  static const char* ranks[] = {"domain", "phylum", "class", "order", "family", "genus"};
  if (r.header.find('\t') != std::string::npos) {
    Lineage l = parse_lineage_header(r.header);
    for (int i = 0; i < 6; ++i) b.columns[ranks[i]].push_back(l.ranks[size_t(i)]);
    b.columns["species"].push_back(l.species);
    return;
  }
  std::string_view rest = r.header;
  for (int field = 1;; ++field) {
    size_t bar = rest.find('|');
    auto& column = b.columns["field" + std::to_string(field)];
    column.resize(b.id.size() - 1);
    column.emplace_back(rest.substr(0, bar));
    if (bar == rest.npos) break;
    rest.remove_prefix(bar + 1);
  }
}

}  // namespace

const std::vector<std::string>& Barcodes::column(const std::string& name) const {
  auto it = columns.find(name);
  if (it != columns.end()) return it->second;
  std::string have;
  for (auto& [key, values] : columns) have += (have.empty() ? "" : ", ") + key;
  throw ValueError(fmt::format("there is no label column '{}'; there are: {}", name, have));
}

Barcodes load(const DataOptions& o) {
  Barcodes b;
  if (!is_table(o.path)) {
    FastaReader reader(o.path);
    FastaRecord r;
    while (reader.next(r)) {
      if (!cut(r.sequence, o)) continue;
      b.id.emplace_back(r.id());
      b.sequence.push_back(r.sequence);
      add_header_columns(b, r);
    }
    for (auto& [name, values] : b.columns) values.resize(b.id.size());
  } else {
    CsvTable table = read_csv(o.path);
    std::string column = o.sequence_column;
    for (const char* guess : {"nucleotides", "sequence", "seq", "dna"})
      if (column.empty() && table.has(guess)) column = guess;
    if (column.empty()) throw ValueError(o.path + ": name the sequence column with --sequence-column");
    size_t at = table.column(column);
    for (int64_t i = 0; i < table.rows(); ++i) {
      std::string s = table.at(i, at);
      if (!cut(s, o)) continue;
      b.sequence.push_back(std::move(s));
      for (size_t c = 0; c < table.columns().size(); ++c)
        if (c != at) b.columns[table.columns()[c]].push_back(table.at(i, c));
      b.id.push_back(table.has("id") ? table.at(i, "id") : std::to_string(i));
    }
  }
  if (b.sequence.empty())
    throw IoError(fmt::format("{}: no sequence has {} letters after position {}", o.path, o.min_length, o.begin));
  return b;
}

Labelled with_label(const Barcodes& b, const std::string& column, int64_t min_count) {
  const auto& texts = b.column(column);
  std::map<std::string, std::set<std::string>> distinct;
  for (int64_t i = 0; i < b.size(); ++i) distinct[texts[size_t(i)]].insert(b.sequence[size_t(i)]);
  Labelled l;
  std::map<std::string, int64_t> number;
  for (auto& [name, sequences] : distinct)  // classes in the order of their names
    if (!name.empty() && int64_t(sequences.size()) >= min_count) {
      number[name] = int64_t(l.names.size());
      l.names.push_back(name);
    }
  for (int64_t i = 0; i < b.size(); ++i)
    if (auto it = number.find(texts[size_t(i)]); it != number.end()) {
      l.sample.push_back(i);
      l.label.push_back(it->second);
    }
  return l;
}

Split split(const Barcodes& b, const Labelled& l, double test_fraction, uint64_t seed, bool validation) {
  std::vector<std::string> sequences;
  for (int64_t i : l.sample) sequences.push_back(b.sequence[size_t(i)]);
  const std::vector<int64_t> same = number_values(sequences);
  Split sides = split_stratified(l.label, same, {.test_fraction = test_fraction, .seed = seed});
  if (!validation) return sides;
  std::vector<int64_t> label, group;
  for (int64_t i : sides.train) label.push_back(l.label[size_t(i)]), group.push_back(same[size_t(i)]);
  Split inner = split_stratified(label, group, {.test_fraction = test_fraction, .seed = seed + 1});
  for (auto* side : {&inner.train, &inner.test})
    for (int64_t& i : *side) i = sides.train[size_t(i)];
  return inner;
}

}  // namespace barcode
