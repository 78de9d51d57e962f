#include "whence/nn/data/taxonomy.h"

#include <algorithm>

#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"

namespace whence {
namespace {

// "Genus epithet" of a name that may go on with strain or subspecies, may begin with "Candidatus", or may
// have no epithet.
std::string binomial(std::string_view name) {
  std::vector<std::string> words;
  for (auto& w : split_text(name, ' '))
    if (!w.empty()) words.push_back(w);
  if (!words.empty() && (words[0] == "Candidatus" || words[0] == "'Candidatus")) words.erase(words.begin());
  if (words.size() < 2) return {};
  while (!words[1].empty() && (words[1].back() == ',' || words[1].back() == ';')) words[1].pop_back();
  std::string_view epithet = words[1];
  if (epithet.size() < 2 || epithet == "sp." || epithet == "sp" || epithet == "bacterium") return {};
  for (char c : epithet)
    if (!(c >= 'a' && c <= 'z') && c != '-') return {};  // a strain name, "cf.", ...
  return words[0] + " " + words[1];
}

}  // namespace

Lineage parse_lineage_header(std::string_view header) {
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));  // "> id", as some write
  auto fields = split_text(header, '\t');
  auto ranks = split_text(fields.back(), ';');
  if (fields.size() < 2 || ranks.size() != 6)
    throw ValueError("no lineage of six ranks after a tab (" + std::to_string(fields.size() < 2 ? 0 : ranks.size()) +
                     " ranks): '" + std::string(header.substr(0, 120)) + "'");
  Lineage out;
  for (size_t i = 0; i < 6; ++i) out.ranks[i] = trimmed(ranks[i]);
  size_t blank = fields[0].find(' ');
  out.id = fields[0].substr(0, blank);
  std::string_view name = fields.size() > 2            ? fields[1]
                          : blank == std::string::npos ? std::string_view()
                                                       : std::string_view(fields[0]).substr(blank);
  out.species = binomial(name.substr(0, name.find(';')));
  return out;
}

}  // namespace whence
