// The table of relevance references and of mutants that no test can catch. Private to testing/.
#pragma once
#include <map>
#include <string>

#include "whence/testing/op_suite.h"

namespace whence::suite {

/// nullptr when the op has none.
const RelevanceReference* find_reference(std::string_view op);
/// The reason why this mutant equals the original; empty when no such claim was made.
std::string equivalence_claim(std::string_view op, std::string_view mutant);

/// Of the ops in ops/linalg.h.
std::map<std::string, RelevanceReference, std::less<>> linalg_references();

/// Elements of an operand that get no gradient by definition; empty when there are none.
std::vector<char> held_elements_of(std::string_view op, const Attrs& attrs, size_t operand, const Shape& shape);

}  // namespace whence::suite
