// Where a sequence belongs in the tree of life, from the headers of ribosomal gene collections.
#pragma once
#include <array>
#include <string>
#include <string_view>

namespace whence {

struct Lineage {
  std::string id;
  std::string species;               ///< "Genus epithet"; empty where the header names none ("sp.", strains only)
  std::array<std::string, 6> ranks;  ///< domain, phylum, class, order, family, genus
  const std::string& order() const { return ranks[3]; }
  const std::string& family() const { return ranks[4]; }
  const std::string& genus() const { return ranks[5]; }
};

/// A FASTA header (without '>') that ends in a tab and six ranks separated by "; ". Before it, two forms:
/// `ID Genus epithet (T); strain; ...` and `ID<TAB>Genus epithet strain ...<TAB>...`.
/// \throws ValueError quoting the header when there are no six ranks.
Lineage parse_lineage_header(std::string_view header);

}  // namespace whence
