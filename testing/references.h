// The table of relevance references and of mutants that no test can catch. Private to testing/.
#pragma once
#include "testing/op_suite.h"

namespace whence::suite {

struct ReferenceEntry {
  RelevanceReference compute;
  std::vector<std::string> variants;
};
/// nullptr when the op has none.
const ReferenceEntry* find_reference(std::string_view op);
/// The reason why this mutant equals the original; empty when no such claim was made.
std::string equivalence_claim(std::string_view op, std::string_view mutant);

}  // namespace whence::suite
