// ScalarRow: the function of an elementwise op as data. A device compiles it its own way: the CPU from the library's
// table (ops/scalar_table.h) or from the loops that a row brings (ops/scalar_row.h), a GPU from the text.
#pragma once
#include <cstdint>

namespace whence {

class Attrs;

/// y[i] = f(x[i]); no threads, x may be y. `params`: values of ScalarRow::params.
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const double* params);
/// y[i] = f(a[i * sa], b[i * sb]), sa and sb being 0 (one scalar for all) or 1. Functions of whole rows
/// (ScalarRow::whole_rows) take one parameter more, the length of a row, of which n is a multiple.
using BinaryLoop = void (*)(const void* a, int sa, const void* b, int sb, void* y, int64_t n, const double* params);

struct ScalarRow {
  static constexpr int kMaxOperands = 3, kMaxParams = 4;
  /// The operands' dtypes, and what comes out.
  enum Domain : uint8_t {
    real,        ///< f32, f64 -> the same
    number,      ///< and i32, i64 -> the same
    comparison,  ///< any that agree -> bool
    logical,     ///< bool -> bool
    any,         ///< moves and casts: the result is converted to the dtype that inference names
  };

  const char* name = nullptr;  ///< nullptr: no row, the op is not elementwise
  Domain domain = real;
  const char* operands[kMaxOperands]{};                   ///< names in `text`
  const char* params[kMaxParams]{};                       ///< names in `text`, and of the op's real attributes
  const char* text = nullptr;                             ///< an expression in the language of ops/scalar.h
  UnaryLoop unary_f32 = nullptr, unary_f64 = nullptr;     ///< compiled where the row was written; of the library's
  BinaryLoop binary_f32 = nullptr, binary_f64 = nullptr;  ///< own rows the CPU has better ones
  /// Two operands, a result of the first one's shape, and the function also depends on its row of the last axis. True:
  /// with these attributes it needs no more, and a fused group may run it on whole rows. nullptr: elementwise.
  bool (*whole_rows)(const Attrs&) = nullptr;

  constexpr explicit operator bool() const { return name != nullptr; }
  constexpr int arity() const { return count(operands, kMaxOperands); }
  constexpr int n_params() const { return count(params, kMaxParams); }

 private:
  static constexpr int count(const char* const* names, int most) {
    int n = 0;
    while (n < most && names[n]) ++n;
    return n;
  }
};

}  // namespace whence
