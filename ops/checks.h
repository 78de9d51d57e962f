// What composite functions ask of their operands before they record anything. A LocationGuard adds the user's line.
#pragma once
#include <string>

#include "whence/autograd/graph.h"

namespace whence {

/// For functions whose value is no integer in general. \throws DTypeError for integers and booleans
inline void need_float(const Arg& x, const char* op, const char* operand = "x") {
  if (!is_float(x.dtype()))
    throw DTypeError(std::string("[") + op + "] " + operand + " must be floating point, got " +
                     std::string(name_of(x.dtype())) + "\n  hint: cast it first");
}

/// For functions that compute in f32 whatever half they get. \throws DTypeError
inline void need_same_dtype(const Arg& a, const Arg& b, const char* op) {
  if (a.dtype() != b.dtype())
    throw DTypeError(std::string("[") + op + "] dtypes differ: " + std::string(name_of(a.dtype())) + " vs " +
                     std::string(name_of(b.dtype())) + "\n  hint: cast one of them");
}

}  // namespace whence
